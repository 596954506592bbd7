#!/usr/bin/env bash
# Builds a kernel of banger's own from its recipe in kernels/: `generic-6.12`, or with --test the one
# for hosts whose /dev/kvm emulates. The same source, recipe and compiler give the same bytes in any
# directory; the recipe's lock says which bytes, and anything else is a failure.
# docs/kernel-catalog.md explains the recipe and its lock.
set -euo pipefail

readonly USAGE="usage: $0 [--test] [--source TREE|ARCHIVE|PACKAGE] [--out DIR] [--jobs N] [--record]

  --test      build the test kernel instead
  --source    a kernel source tree, an archive of one (.tar.*), or Debian's linux-source package (.deb);
              without it, the package that the lock names is fetched from Debian's archive and verified
  --out       where the results go; default: the target directory's kernel/
  --jobs      compilers at a time; default: one per processor
  --record    write what came out into the lock instead of comparing it"

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly REPOSITORY
readonly ARCH=x86_64
# What the build needs beyond a compiler.
readonly COMMANDS=(ar bc bison flex gcc ld make patch sha256sum strip tar xz zstd)

say() {
    printf 'kernel: %s\n' "$*" >&2
}

fail() {
    say "$@"
    exit 1
}

hash_of() {
    sha256sum "$1" | cut -d ' ' -f 1
}

# The value of a key of the lock; nothing where there is none.
locked() {
    [[ -r $LOCK ]] || return 0
    sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" "$LOCK"
}

parse_arguments() {
    KERNEL=generic-6.12 RECIPE=$REPOSITORY/kernels/generic-6.12
    SOURCE='' RECORD=false JOBS=$(nproc)
    OUT=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-$REPOSITORY/target}")/kernel
    while (($#)); do
        case $1 in
        --test) KERNEL=test-6.12 RECIPE=$REPOSITORY/kernels/test/test-6.12 ;;
        --source | --out | --jobs)
            (($# > 1)) || fail "$1 needs a value"$'\n'"$USAGE"
            case $1 in
            --source) SOURCE=$(realpath "$2") ;;
            --out) OUT=$(realpath --canonicalize-missing "$2") ;;
            --jobs) JOBS=$2 ;;
            esac
            shift
            ;;
        --record) RECORD=true ;;
        --help | -h)
            printf '%s\n' "$USAGE"
            exit 0
            ;;
        *) fail "unknown argument $1"$'\n'"$USAGE" ;;
        esac
        shift
    done
    LOCK=$RECIPE.lock
}

require_commands() {
    local command missing=()
    for command in "${COMMANDS[@]}"; do
        command -v "$command" >/dev/null || missing+=("$command")
    done
    [[ -r /usr/include/gelf.h || -r /usr/local/include/gelf.h ]] || missing+=(gelf.h)
    ((${#missing[@]} == 0)) ||
        fail "missing: ${missing[*]}; on Debian: scripts/setup-debian.sh --with-kernel-tools"
}

# Fetches the package that the lock names through banger's own chain of trust: the archive's
# signature, its index, the package's hash.
fetch_package() {
    local package version suite
    package=$(locked package) version=$(locked version) suite=$(locked suite)
    [[ -n $package ]] || fail "$LOCK names no package: give --source and --record"
    SOURCE=$OUT/${package}_$version.deb
    if [[ -r $SOURCE && $(hash_of "$SOURCE") == "$(locked package_sha256)" ]]; then
        return
    fi
    say "fetching $package $version from $suite"
    (cd "$REPOSITORY" && cargo run --quiet --release --locked --package banger-image \
        --example fetch_package -- "$suite" "$package" "$version" "$SOURCE") ||
        fail "cannot fetch $package $version; docs/kernel-catalog.md says what to do where the archive has moved on"
}

# Makes TREE the source tree, whatever was given.
unpack_source() {
    PACKAGE_SHA256=
    if [[ -d $SOURCE && ! -r $RECIPE.patch ]]; then
        TREE=$SOURCE
        return
    fi
    TREE=$WORK/source
    mkdir "$TREE"
    say "unpacking $SOURCE"
    case $SOURCE in
    *.deb)
        PACKAGE_SHA256=$(hash_of "$SOURCE")
        if ! $RECORD && [[ $PACKAGE_SHA256 != "$(locked package_sha256)" ]]; then
            fail "$SOURCE is not the package that $LOCK names: its SHA-256 is $PACKAGE_SHA256"
        fi
        unpack_package
        ;;
    *)
        if [[ -d $SOURCE ]]; then
            cp --archive --reflink=auto "$SOURCE/." "$TREE"
        else
            tar --extract --file "$SOURCE" --directory "$TREE" --strip-components 1
        fi
        ;;
    esac
    if [[ -r $RECIPE.patch ]]; then
        patch --quiet --directory "$TREE" --strip 1 <"$RECIPE.patch"
    fi
    [[ -r $TREE/Kconfig ]] || fail "$SOURCE holds no kernel source"
}

# A .deb is an ar archive; the source's archive is the one large member of its data.
unpack_package() {
    local data member
    data=$(ar t "$SOURCE" | grep '^data\.tar')
    ar p "$SOURCE" "$data" >"$WORK/$data"
    member=$(tar --list --file "$WORK/$data" | grep '/linux-source-.*\.tar\.xz$')
    tar --extract --to-stdout --file "$WORK/$data" "$member" |
        tar --extract --xz --directory "$TREE" --strip-components 1
    rm "$WORK/$data"
}

# The time stamp in the kernel is the lock's, or that of the package's newest file.
choose_timestamp() {
    TIMESTAMP=$(locked timestamp)
    if $RECORD || [[ -z $TIMESTAMP ]]; then
        TIMESTAMP=$(date --utc --date "@$(stat --format %Y "$TREE/Makefile")" '+%Y-%m-%d %H:%M:%S UTC')
    fi
}

# The environment says nothing: neither who builds, nor where, nor when, nor in which language.
kbuild() {
    env --ignore-environment PATH="$PATH" LC_ALL=C TZ=UTC \
        KBUILD_BUILD_TIMESTAMP="$TIMESTAMP" KBUILD_BUILD_USER=banger KBUILD_BUILD_HOST=banger \
        KBUILD_BUILD_VERSION=1 SOURCE_DATE_EPOCH="$(date --utc --date "$TIMESTAMP" +%s)" \
        make --directory "$TREE" ARCH=$ARCH O="$BUILD" KCFLAGS="-ffile-prefix-map=$TREE=." "$@"
}

# Answers "no" to all that the recipe does not name, and insists on all that it does.
configure() {
    kbuild --silent KCONFIG_ALLCONFIG="$RECIPE.config" allnoconfig 2>"$WORK/kconfig.log" ||
        { cat "$WORK/kconfig.log" >&2 && fail "Kconfig refuses $RECIPE.config"; }
    local lost
    lost=$(grep --extended-regexp '^(CONFIG_|# CONFIG_.* is not set$)' "$RECIPE.config" |
        grep --line-regexp --fixed-strings --invert-match --file "$BUILD/.config") || true
    [[ -z $lost ]] || fail "these options of $RECIPE.config did not survive:"$'\n'"$lost"
}

compile() {
    local begun=$SECONDS
    say "building $KERNEL with $JOBS jobs; the log is $WORK/build.log"
    kbuild --jobs="$JOBS" vmlinux >"$WORK/build.log" 2>&1 ||
        { tail -n 30 "$WORK/build.log" >&2 && fail "the build failed; all of its log: $WORK/build.log"; }
    strip --strip-all -o "$WORK/vmlinux" "$BUILD/vmlinux"
    say "built in $((SECONDS - begun)) s"
}

compiler() {
    gcc --version | head -n 1
}

linker() {
    ld --version | head -n 1
}

# Compares what came out with the lock; a difference that has a visible cause is told with it.
check_result() {
    local sha256=$1 causes=()
    [[ $sha256 == "$(locked vmlinux_sha256)" ]] && return
    [[ $(hash_of "$RECIPE.config") == "$(locked config_sha256)" ]] || causes+=("the recipe's configuration has changed")
    [[ $(compiler) == "$(locked compiler)" ]] || causes+=("the compiler is $(compiler), not $(locked compiler)")
    [[ $(linker) == "$(locked linker)" ]] || causes+=("the linker is $(linker), not $(locked linker)")
    [[ -n $PACKAGE_SHA256 ]] || causes+=("the source is not the package that the lock names")
    ((${#causes[@]})) || causes+=("nothing that would explain it has changed")
    say "the result is not the one that $LOCK records: its SHA-256 is $sha256"
    printf 'kernel:   %s\n' "${causes[@]}" >&2
    fail "it is left in $WORK/vmlinux; with --record it becomes the recorded one"
}

# Who records, records the package, too: only it can be fetched again.
record() {
    local sha256=$1 name package='' version=''
    [[ -n $PACKAGE_SHA256 ]] || fail "--record needs Debian's package as --source"
    name=$(basename "$SOURCE")
    package=${name%%_*} version=${name#*_}
    version=${version%_all.deb} version=${version%.deb}
    cat >"$LOCK" <<LOCK
# What $KERNEL is made from, and what comes out. Written by scripts/make-generic-kernel.sh --record.
package = "$package"
version = "${version//%3a/:}"
suite = "$(locked suite | grep . || printf bookworm)"
package_sha256 = "$PACKAGE_SHA256"
config_sha256 = "$(hash_of "$RECIPE.config")"
timestamp = "$TIMESTAMP"
compiler = "$(compiler)"
linker = "$(linker)"
vmlinux_sha256 = "$sha256"
vmlinux_bytes = "$(stat --format %s "$WORK/vmlinux")"
LOCK
    say "recorded in $LOCK"
}

# The kernel as `banger kernel import --from` takes it, with what its licence asks for.
lay_out() {
    local to=$OUT/$KERNEL
    rm -rf "$to"
    mkdir -p "$to"
    cp "$WORK/vmlinux" "$to/vmlinux"
    cp "$BUILD/.config" "$to/config"
    cp "$TREE/LICENSES/preferred/GPL-2.0" "$to/COPYING"
    cat >"$to/SOURCE" <<SOURCE
This is Linux $(kbuild --silent kernelrelease), licensed under the GNU General Public License, version 2 (COPYING).

Its complete source is Debian's package $(locked package) $(locked version)
(SHA-256 $(locked package_sha256)), from any mirror of
Debian's archive, built with the configuration in the file \`config\` by
scripts/make-generic-kernel.sh of banger.
SOURCE
}

# One content-addressed file, and the catalog that names it: what a release carries, and what any
# web server can serve.
bundle() {
    local into=$OUT/bundles sha256=$1 file size version
    version=$(kbuild --silent kernelrelease)
    rm -rf "$into"
    mkdir -p "$into"
    tar --create --format gnu --sort=name --mtime="$TIMESTAMP" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
        --directory "$OUT/$KERNEL" COPYING SOURCE config vmlinux |
        zstd --quiet -19 --threads=1 -o "$into/bundle.tar.zst"
    sha256=$(hash_of "$into/bundle.tar.zst") size=$(stat --format %s "$into/bundle.tar.zst")
    file=$KERNEL-$ARCH-${sha256:0:16}.tar.zst
    mv "$into/bundle.tar.zst" "$into/$file"
    cat >"$into/catalog.json" <<CATALOG
{
  "format": 1,
  "kernels": [
    {
      "name": "$KERNEL",
      "description": "banger's own kernel, Linux $version: all that machines and docker need is built in",
      "arch": "$ARCH",
      "source": { "kind": "bundle", "file": "$file", "sha256": "$sha256", "bytes": $size }
    }
  ]
}
CATALOG
    say "$into/$file: $size bytes"
}

main() {
    parse_arguments "$@"
    require_commands
    mkdir -p "$OUT"
    WORK=$OUT/work-$KERNEL
    BUILD=$WORK/build
    rm -rf "$WORK"
    mkdir -p "$BUILD"

    [[ -n $SOURCE ]] || fetch_package
    unpack_source
    choose_timestamp
    configure
    compile

    local sha256
    sha256=$(hash_of "$WORK/vmlinux")
    if $RECORD; then
        record "$sha256"
    else
        check_result "$sha256"
    fi
    lay_out
    case $KERNEL in
    test-*) xz --threads=1 --keep "$OUT/$KERNEL/vmlinux" ;;
    *) bundle "$sha256" ;;
    esac
    rm -rf "$WORK"
    say "$OUT/$KERNEL holds $KERNEL, SHA-256 $sha256"
}

main "$@"
