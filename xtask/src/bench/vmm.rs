//! `bench vmm`: fetches Firecracker and runs the measurement, which is an example of the crate that
//! drives it, because nobody else may know how it is driven.

use std::path::Path;
use std::process::{Command, Stdio};

use super::BenchError;

/// Runs it in front of whoever asked.
pub fn vmm(repository: &Path, pairs: usize) -> Result<(), BenchError> {
    let fetch = repository.join("scripts/fetch-firecracker.sh");
    let directory = output(Command::new(&fetch).stderr(Stdio::inherit()))?;
    let program = Path::new(directory.trim()).join("firecracker");
    let mut bench = Command::new(env!("CARGO"));
    bench
        .current_dir(repository)
        .args(["run", "--quiet", "--release", "--package", "banger-host"])
        .args(["--example", "bench_vmm", "--"])
        .arg(program)
        .arg(pairs.to_string())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit());
    output(&mut bench).map(drop)
}

fn output(command: &mut Command) -> Result<String, BenchError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::null()).output();
    let output = spawned.map_err(|source| BenchError::Spawn {
        program: name.clone(),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(BenchError::Failed {
        command: name,
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
