# The front door. Each target is one short recipe; what takes thought lives in scripts, xtask or crates.
#
#   make run ARGS="run --rm -- uname -a"    passes ARGS to banger
#   CARGO_TARGET_DIR=DIR make build         builds there instead of in target/

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run build test lint bench kernel test-kernel man dist clean setup setup-test unit fuzz e2e doors

# Tools that `setup` installs, and a Rust installed in this very shell, are found without a new login.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(TARGET)/release
KERNEL := $(TARGET)/kernel
ARGS ?= run --rm -- uname -a

help: ## print this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: setup build ## run a command in a machine of its own; ARGS="run --rm -- ls /" for another one
	$(RELEASE)/banger $(ARGS)

build: setup ## build target/release/banger and bangerd, the agent inside
	cargo build --release --locked --package banger --package bangerd

test: lint unit fuzz e2e doors ## check, then run every test: unit tests, then real machines

lint: setup-test ## formatting, clippy, licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo deny --locked check --hide-inclusion-graph licenses bans sources
	@if timeout 120 cargo deny fetch db 2>/dev/null; then \
	    cargo deny --locked check --hide-inclusion-graph advisories; \
	else \
	    echo "lint: advisories SKIPPED: their database cannot be fetched from here" >&2; \
	fi

bench: build ## measure banger beside QEMU started by hand
	cargo xtask bench run

kernel: build $(KERNEL)/bundles/catalog.json ## build banger's own kernel, check it, and put it into the local store
	$(RELEASE)/banger kernel import generic-6.12 --from $(KERNEL)/generic-6.12 --force

test-kernel: ## build the kernel for hosts whose /dev/kvm emulates; for tests only
	scripts/setup-debian.sh --with-kernel-tools
	scripts/make-generic-kernel.sh --test

man: build ## write manual pages into target/man/man1
	$(RELEASE)/banger man $(TARGET)/man/man1

dist: build $(KERNEL)/bundles/catalog.json ## pack a release, banger's own kernel inside
	scripts/make-dist.sh

$(KERNEL)/bundles/catalog.json: $(wildcard kernels/generic-6.12.*) scripts/make-generic-kernel.sh
	scripts/setup-debian.sh --with-kernel-tools
	scripts/make-generic-kernel.sh

clean: ## remove what was built; machines, images and kernels stay
	cargo clean

setup: ## install what is missing to build and run (Debian; says what to do elsewhere)
	@scripts/setup-debian.sh

# Steps of `test`, to be called alone when one of them is enough.
setup-test:
	@scripts/setup-debian.sh --with-test-tools

unit: setup-test
	cargo nextest run --workspace --locked

# Random inputs for what reads strangers' bytes, and random layers that umoci judges; for a fixed time
# and a fixed number. The same build as `unit`.
fuzz: setup-test
	BANGER_FUZZ_SECONDS=5 BANGER_CASES=100 cargo nextest run --workspace --locked \
	    -E 'binary(fuzz_seeds) | package(banger-image) & test(random_layers)'

# The same build as `unit`, so that nothing is compiled twice; the machines come from the release binaries.
e2e: setup-test build
	BANGER_E2E_BIN_DIR=$(RELEASE) cargo nextest run --workspace --locked --profile e2e

# Stories of daemons that end at chosen moments and believe wrong clocks: only builds for development have
# doors for that. What the other stories fetched and made is of the same sources.
doors: setup-test
	cargo build --locked --package banger --package bangerd
	BANGER_E2E_BIN_DIR=$(TARGET)/debug BANGER_E2E_KEEP_CACHE=1 BANGER_TEST_REQUIRE_DOORS=1 \
	    cargo nextest run --workspace --locked --profile e2e -E 'binary(kills) | binary(clock)'
