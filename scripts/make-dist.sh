#!/usr/bin/env bash
# Packs a release: the programs, banger's own kernel, and the licences of all that is inside. Needs
# what `make build` and scripts/make-generic-kernel.sh leave in the target directory.
set -euo pipefail

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-$REPOSITORY/target}")
readonly REPOSITORY TARGET

fail() {
    printf 'dist: %s\n' "$*" >&2
    exit 1
}

version() {
    sed -n '/^\[workspace\.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$REPOSITORY/Cargo.toml"
}

# The time of what is packed, not of its packing.
commit_time() {
    git -C "$REPOSITORY" log -1 --format=%ct 2>/dev/null || stat --format %Y "$REPOSITORY/Cargo.toml"
}

lay_out() {
    local to=$1 doc=$1/share/doc/banger program
    for program in banger bangerd; do
        install -D --mode 755 "$TARGET/release/$program" "$to/bin/$program" ||
            fail "no $program: run \`make build\` first"
    done
    mkdir -p "$to/share/banger" "$doc"
    cp --recursive "$TARGET/kernel/bundles" "$to/share/banger/kernels" ||
        fail "no kernel: run scripts/make-generic-kernel.sh first"
    cp --recursive "$REPOSITORY/README.md" "$REPOSITORY/CHANGELOG.md" "$REPOSITORY/docs" \
        "$REPOSITORY/LICENSE-MIT" "$REPOSITORY/LICENSE-APACHE" "$doc"
    # The kernel is a work of its own, under the GPL; its licence and the way to its source go along.
    cp "$TARGET/kernel/generic-6.12/COPYING" "$doc/LICENSE-kernel"
    cp "$TARGET/kernel/generic-6.12/SOURCE" "$doc/SOURCE-kernel"
    "$to/bin/banger" man "$to/share/man/man1" || fail "no manual pages"
    (cd "$REPOSITORY" && cargo xtask notices) >"$doc/LICENSES-libraries"
}

main() {
    local name work archive
    name=banger-$(version)-x86_64-linux
    archive=$TARGET/dist/$name.tar.zst
    work=$(mktemp --directory)
    # shellcheck disable=SC2064 # the directory of now, not of then
    trap "rm -rf '$work'" EXIT
    lay_out "$work/$name"
    mkdir -p "$TARGET/dist"
    tar --create --directory "$work" --format gnu --sort=name --mtime="@$(commit_time)" \
        --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX "$name" |
        zstd --quiet --force -19 --threads=0 -o "$archive"
    (cd "$TARGET/dist" && sha256sum "$name.tar.zst" >"$name.tar.zst.sha256")
    printf 'dist: %s, %s bytes\n' "$archive" "$(stat --format %s "$archive")" >&2
}

main "$@"
