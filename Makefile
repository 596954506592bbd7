# The front door. Each target is one short recipe; what takes thought lives in scripts, xtask or crates.
#
#   make run ARGS="run --rm -- uname -a"    passes ARGS to banger
#   CARGO_TARGET_DIR=DIR make build         builds there instead of in target/

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run build test lint bench clean setup setup-test unit e2e

# Tools that `setup` installs, and a Rust installed in this very shell, are found without a new login.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

RELEASE := $(abspath $(or $(CARGO_TARGET_DIR),target))/release
ARGS ?= run --rm -- uname -a

help: ## print this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: setup build ## run a command in a machine of its own; ARGS="run --rm -- ls /" for another one
	$(RELEASE)/banger $(ARGS)

build: setup ## build target/release/banger and bangerd, the agent inside
	cargo build --release --locked --package banger --package bangerd

test: lint unit e2e ## check, then run every test: unit tests, then real machines

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

clean: ## remove what was built; machines, images and kernels stay
	cargo clean

setup: ## install what is missing to build and run (Debian; says what to do elsewhere)
	@scripts/setup-debian.sh

# Steps of `test`, to be called alone when one of them is enough.
setup-test:
	@scripts/setup-debian.sh --with-test-tools

unit: setup-test
	cargo nextest run --workspace --locked

# The same build as `unit`, so that nothing is compiled twice; the machines come from the release binaries.
e2e: setup-test build
	BANGER_E2E_BIN_DIR=$(RELEASE) cargo nextest run --workspace --locked --profile e2e
