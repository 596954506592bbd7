//! A log file as a body: what is there, and, for those who follow, what comes.

use std::{io, path::PathBuf, time::Duration};

use axum::body::Body;
use banger_core::{error::Error, record::VmState, vm::VmHandle};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::{fs::File, io::AsyncReadExt};

/// How often a followed file is looked at. Files have no asynchronous readiness, and a
/// follower is a person.
const LOOK: Duration = Duration::from_millis(200);
const CHUNK: usize = 64 << 10;

/// The bytes of a log; with a VM, until that VM has ended. A log that was never begun is an
/// empty one.
pub(crate) async fn log(path: PathBuf, follow: Option<VmHandle>) -> Result<Body, Error> {
    let file = match File::open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Body::empty()),
        Err(source) => {
            return Err(Error::File {
                operation: "open",
                path,
                source,
            });
        }
    };
    Ok(Body::from_stream(stream::unfold(
        (file, follow),
        next_chunk,
    )))
}

type Followed = (File, Option<VmHandle>);

async fn next_chunk((mut file, vm): Followed) -> Option<(io::Result<Bytes>, Followed)> {
    loop {
        // Asked before reading: what was written before the VM's end is then not missed.
        let alive = vm.as_ref().is_some_and(is_alive);
        let mut buffer = BytesMut::with_capacity(CHUNK);
        match file.read_buf(&mut buffer).await {
            Ok(0) if alive => tokio::time::sleep(LOOK).await,
            Ok(0) => return None,
            Ok(_) => return Some((Ok(buffer.freeze()), (file, vm))),
            Err(error) => return Some((Err(error), (file, None))),
        }
    }
}

fn is_alive(vm: &VmHandle) -> bool {
    match vm.view().record.state {
        VmState::Starting | VmState::Running | VmState::Paused | VmState::Stopping => true,
        VmState::Created | VmState::Stopped | VmState::Error | VmState::Deleting => false,
    }
}
