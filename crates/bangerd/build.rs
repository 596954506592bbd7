//! Builds the guest's agent as one static file, so that the daemon can carry it.
//!
//! Its digest is taken here, too: the daemon would read all of it at each start otherwise, and keep it
//! resident. `BANGER_AGENT` names an agent that was built elsewhere. Without it the agent is built here:
//! for musl where that target is installed, else for glibc, linked statically.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

const MUSL: &str = "x86_64-unknown-linux-musl";
const GLIBC: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo::rerun-if-env-changed=BANGER_AGENT");
    let agent = match env::var_os("BANGER_AGENT") {
        Some(path) => PathBuf::from(path),
        None => build(),
    };
    println!("cargo::rerun-if-changed={}", agent.display());
    println!("cargo::rustc-env=BANGER_AGENT_FILE={}", agent.display());
    let bytes = fs::read(&agent).expect("the agent was built");
    let digest = hex::encode(Sha256::digest(&bytes));
    println!("cargo::rustc-env=BANGER_AGENT_SHA256={digest}");
}

fn build() -> PathBuf {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = manifest
        .join("../..")
        .canonicalize()
        .expect("the crate is in its workspace");
    for input in [
        "crates/banger-agent",
        "crates/banger-guest-proto",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let target_dir = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |directory| root.join(directory))
        .join("agent");
    let target = if has_target(MUSL) { MUSL } else { GLIBC };
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo
        .args([
            "build",
            "--package",
            "banger-agent",
            "--profile",
            "agent",
            "--locked",
        ])
        .args(["--target", target])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(&root);
    // What the outer build or clippy wrap around rustc is not meant for the agent.
    for name in [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
    ] {
        cargo.env_remove(name);
    }
    if target == GLIBC {
        cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    }
    let status = cargo.status().expect("cargo can be started");
    assert!(
        status.success(),
        "the agent does not build for {target}: {status}"
    );
    target_dir.join(target).join("agent/banger-agent")
}

/// Whether the toolchain has the target's standard library.
fn has_target(target: &str) -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output();
    output.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout);
        Path::new(sysroot.trim())
            .join("lib/rustlib")
            .join(target)
            .join("lib")
            .is_dir()
    })
}
