//! Puts the version, commit and build time into the binary: from the environment where a release sets them, else from
//! git and the clock.

use std::process::Command;
use std::time::SystemTime;

fn main() {
    let version = env("BANGER_VERSION").unwrap_or_else(|| env!("CARGO_PKG_VERSION").into());
    let commit = env("BANGER_COMMIT")
        .or_else(commit)
        .unwrap_or_else(|| "unknown".into());
    let time = env("BANGER_BUILD_TIME")
        .or_else(now)
        .unwrap_or_else(|| "unknown".into());
    for (name, value) in [
        ("VERSION", version),
        ("COMMIT", commit),
        ("BUILD_TIME", time),
    ] {
        println!("cargo:rustc-env=BANGER_{name}={value}");
        println!("cargo:rerun-if-env-changed=BANGER_{name}");
    }
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=build.rs");
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn commit() -> Option<String> {
    run(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]))
}

/// Formats the clock in RFC 3339, seconds only.
fn now() -> Option<String> {
    let seconds = SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs();
    run(Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]))
}

fn run(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
