//! What others need for the same: the least that anybody must do, and the tools that do the whole.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::super::BenchError;
use super::registry::{Registry, shell};

fn timed(line: &str) -> Result<f64, BenchError> {
    let begin = Instant::now();
    shell(line)?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Inflating and hashing, with the fastest programs for it.
pub(super) fn inflate_and_hash(layer: &Path) -> Result<f64, BenchError> {
    timed(&format!(
        "igzip -dc {} | openssl dgst -sha256 >/dev/null",
        layer.display()
    ))
}

/// From the registry to an ext4 image with three tools.
pub(super) fn in_parts(registry: &Registry) -> Result<f64, BenchError> {
    let work = registry.directory().join("rival");
    fs::create_dir_all(&work).map_err(BenchError::file("make", &work))?;
    let took = timed(&format!(
        "cd {} && skopeo copy --quiet --src-tls-verify=false docker://{} oci:layout:1 && \
         umoci unpack --image layout:1 bundle && \
         mke2fs -q -t ext4 -d bundle/rootfs image.ext4 2G",
        work.display(),
        registry.reference("base"),
    ))?;
    fs::remove_dir_all(&work).map_err(BenchError::file("remove", &work))?;
    Ok(took)
}

/// microsandbox's pull into one flat image, where it is installed.
pub(super) fn microsandbox(registry: &Registry) -> Result<Option<f64>, BenchError> {
    if shell("command -v msb >/dev/null").is_err() {
        return Ok(None);
    }
    let home = registry.directory().join("msb");
    fs::create_dir_all(&home).map_err(BenchError::file("make", &home))?;
    let took = timed(&format!(
        "HOME={} msb pull --insecure --materialize flat {} >/dev/null",
        home.display(),
        registry.reference("base"),
    ))?;
    fs::remove_dir_all(&home).map_err(BenchError::file("remove", &home))?;
    Ok(Some(took))
}
