#!/usr/bin/env bash
# Installs what banger needs to be built and run, with `--with-test-tools` also what its tests and
# lints need, with `--with-kernel-tools` also what building a kernel needs. Does nothing, quickly, when all is there. Meant for Debian 12 and newer; on other
# systems it only says what is missing.
set -euo pipefail

readonly MIN_RUST=1.95
readonly MUSL_TARGET=x86_64-unknown-linux-musl

# Pinned, so that a new release of a tool never changes a verdict by itself.
readonly NEXTEST_VERSION=0.9.143
readonly DENY_VERSION=0.20.2

# What banger calls when it runs.
readonly RUN_PACKAGES=(
    ca-certificates # trust for HTTPS mirrors
    mmdebstrap      # makes the default image
    slirp4netns     # the network of machines under Firecracker
    qemu-system-x86 # runs the machines
    uidmap          # lets mmdebstrap work without root
)
# What the build calls.
readonly BUILD_PACKAGES=(
    gcc
    git        # the commit in the version
    libc6-dev
    musl-tools # the static agent
)
# What the tests call.
readonly TEST_PACKAGES=(
    busybox-static  # a guest without a distribution
    docker-registry # a registry on the loopback
    e2fsprogs       # checks the file systems that we write
    fish            # has completion tried in it
    python3-pip     # gets the Firecracker that is tested
    skopeo          # pushes images
    umoci           # makes images
    xfsprogs        # makes a file system whose files share blocks
    xz-utils        # unpacks a kernel for it
    zsh             # has completion tried in it
)
# What building a kernel calls.
readonly KERNEL_PACKAGES=(
    bc
    binutils
    bison
    flex
    libelf-dev # objtool reads the objects with it
    make
    patch
    xz-utils # the source's archive
    zstd     # the bundle
)
readonly RUN_COMMANDS=(mmdebstrap qemu-system-x86_64 newuidmap slirp4netns)
readonly BUILD_COMMANDS=(gcc git musl-gcc)
readonly TEST_COMMANDS=(busybox docker-registry e2fsck fish mkfs.xfs python3 skopeo umoci xz zsh)
readonly KERNEL_COMMANDS=(ar bc bison flex make patch xz zstd)

say() {
    printf 'setup: %s\n' "$*" >&2
}

fail() {
    say "$@"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# The parentheses keep the variables of os-release out of this script.
is_debian_like() (
    have apt-get && have dpkg-query && [[ -r /etc/os-release ]] || return 1
    # shellcheck source=/dev/null
    . /etc/os-release
    [[ " ${ID:-} ${ID_LIKE:-} " == *" debian "* ]]
)

as_root() {
    if ((EUID == 0)); then
        "$@"
    else
        say "needs root: sudo $*"
        sudo "$@"
    fi
}

missing_packages() {
    local package status
    for package in "$@"; do
        status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || status=
        [[ $status == installed ]] || printf '%s\n' "$package"
    done
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >&2
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    if ((EUID != 0)) && ! have sudo; then
        say "this needs root, and there is no sudo; as root, run:"
        fail "apt-get install --no-install-recommends ${missing[*]}"
    fi
    # Lists of packages that are old, or not there at all, lead to files that mirrors no longer have.
    apt_get update || say "cannot refresh the lists of packages; trying with those at hand"
    apt_get install --yes --no-install-recommends "${missing[@]}" ||
        fail "cannot install ${missing[*]}: see apt's messages above"
}

require_commands() {
    local command missing=()
    for command in "$@"; do
        have "$command" || missing+=("$command")
    done
    ((${#missing[@]})) || return 0
    say "this is not Debian, so nothing is installed here by itself"
    fail "install what provides these commands, then try again: ${missing[*]}"
}

# True if version $1 is at least version $2.
at_least() {
    [[ $(printf '%s\n' "$2" "$1" | sort --version-sort | head -n 1) == "$2" ]]
}

require_rust() {
    # Debian 12 has neither rustup nor a Rust of this age; Debian 13 and newer do have rustup.
    if ! have cargo && ! have rustup && have apt-cache &&
        [[ -n $(apt-cache search --names-only '^rustup$') ]]; then
        install_packages rustup
    fi
    local version
    version=$(rustc --version 2>/dev/null | cut -d ' ' -f 2) || version=
    if [[ -n $version ]] && at_least "$version" "$MIN_RUST"; then
        return
    fi
    if have rustup && [[ -z $version ]]; then
        say "installing Rust"
        rustup default stable || fail "cannot install Rust: see rustup's messages above"
        return
    fi
    say "Rust $MIN_RUST or newer is needed; found: ${version:-none}"
    if have rustup; then
        fail "update it: rustup update stable"
    fi
    say "this system's packages have none, so install it as https://rust-lang.org/tools/install says"
    fail "(a minute's work, without root), then try again"
}

# The target's standard library is what counts; who installed it does not matter.
have_musl_target() {
    [[ -d $(rustc --print sysroot)/lib/rustlib/$MUSL_TARGET/lib ]]
}

add_musl_target() {
    have_musl_target && return
    say "adding the target $MUSL_TARGET"
    if have rustup && rustup target add "$MUSL_TARGET"; then
        return
    fi
    say "cannot add $MUSL_TARGET: the agent will be linked statically against glibc, and be larger"
}

add_rust_component() {
    local component=$1 command=$2
    cargo "$command" --version >/dev/null 2>&1 && return
    say "adding the component $component"
    { have rustup && rustup component add "$component"; } ||
        fail "cannot add $component: install what provides cargo $command"
}

# A tool that is there stays as it is. Without optimisation one is built in about a minute on two
# cores, with it in many; neither is ever the slow part of a run.
install_tool() {
    local name=$1 version=$2
    shift 2
    have "$name" && return
    say "building $name $version; this happens once"
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug "$name@$version" "$@" ||
        fail "cannot build $name: see cargo's messages above"
}

# Only where it can be run: the tests are left out, and say so, where /dev/kvm does not open.
fetch_firecracker() {
    [[ -r /dev/kvm && -w /dev/kvm ]] || return 0
    "$(dirname "${BASH_SOURCE[0]}")/fetch-firecracker.sh" >/dev/null ||
        fail "cannot get the Firecracker that is tested"
}

main() {
    local with_test_tools=false with_kernel_tools=false
    case "${1:-}" in
    '') ;;
    --with-test-tools) with_test_tools=true ;;
    --with-kernel-tools) with_kernel_tools=true ;;
    *) fail "unknown argument $1; usage: $0 [--with-test-tools | --with-kernel-tools]" ;;
    esac

    local packages=("${RUN_PACKAGES[@]}" "${BUILD_PACKAGES[@]}")
    local commands=("${RUN_COMMANDS[@]}" "${BUILD_COMMANDS[@]}")
    if $with_test_tools; then
        packages+=("${TEST_PACKAGES[@]}")
        commands+=("${TEST_COMMANDS[@]}")
    fi
    if $with_kernel_tools; then
        packages+=("${KERNEL_PACKAGES[@]}")
        commands+=("${KERNEL_COMMANDS[@]}")
    fi
    if is_debian_like; then
        install_packages "${packages[@]}"
    else
        require_commands "${commands[@]}"
    fi

    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    require_rust
    add_musl_target
    if $with_test_tools; then
        add_rust_component clippy clippy
        add_rust_component rustfmt fmt
        install_tool cargo-nextest "$NEXTEST_VERSION" --no-default-features --features default-no-update
        install_tool cargo-deny "$DENY_VERSION"
        fetch_firecracker
    fi
}

main "$@"
