//! Doors for a fuzzer to what reads foreign bytes in here: each takes any, and must neither panic nor break
//! its promise. Nobody else has any use for them.

use std::{fs::File, os::unix::fs::MetadataExt};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::qemu::{
    args::MEMORY,
    pages::Pages,
    stream::{self, PAGE, StreamError},
};

/// Small, so that pages lie outside of it.
const LENGTH: u64 = 16 * PAGE as u64;

/// A machine as QEMU streams it: what is split is a file of its memory's size, and a stream in which that
/// memory has no pages any more.
pub fn saved_machine(data: &[u8]) {
    let (memory, split) = split(data);
    assert_eq!(length(&memory), LENGTH);
    if let Ok(devices) = split {
        let (nothing, again) = self::split(&devices);
        assert_eq!(again.expect("it was split once"), devices);
        assert_eq!(blocks(&nothing), 0);
    }
}

fn split(data: &[u8]) -> (File, Result<Vec<u8>, StreamError>) {
    let file = memfd_create("memory", MemfdFlags::CLOEXEC).expect("there is memory");
    let file = File::from(file);
    let handle = file.try_clone().expect("there are descriptors");
    let mut pages = Pages::over(handle, LENGTH).expect("there is memory");
    let mut devices = Vec::new();
    let split = stream::split(data, MEMORY, &mut pages, &mut devices);
    (file, split.map(|()| devices))
}

fn length(file: &File) -> u64 {
    file.metadata().expect("it is open").len()
}

fn blocks(file: &File) -> u64 {
    file.metadata().expect("it is open").blocks()
}
