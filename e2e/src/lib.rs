//! What the stories in `tests/` are told with: a world of its own for each, the command line as
//! people use it, and words for what is expected of it.
//!
//! Knows banger by its programs and the documents that they print; depends on nothing inside it.
//! A [`World`] is a private home with a daemon of its own. When it ends, it holds the product to
//! leaving nothing behind: no process, no directory.
#![forbid(unsafe_code)]

mod capture;
mod census;
mod command;
mod doors;
mod firecracker;
mod home;
mod images;
mod loop_disk;
mod names;
mod nobody;
mod outcome;
mod outside;
mod registry;
mod running;
mod shared;
mod stumbler;
mod terminal;
mod tidy;
mod token_server;
mod wait;
mod web;
mod workbench;
mod world;

pub use command::Call;
pub use doors::no_door;
pub use firecracker::{
    EMULATION_PROOF, firecracker_for_all, firecracker_program, firecracker_world, leave_out,
};
pub use images::{busybox_tar, busybox_tar_with, one_binary_tar};
pub use loop_disk::{LoopDisk, has_programs};
pub use names::serve_names;
pub use nobody::{Devices, is_root};
pub use outcome::Outcome;
pub use outside::{own_address, serve_words};
pub use registry::Registry;
pub use running::Running;
pub use stumbler::{Mood, Stumbler};
pub use terminal::Terminal;
pub use wait::{eventually, wait_for_end};
pub use web::StaticServer;
pub use workbench::{KernelUnderTest, WORKBENCH};
pub use world::{BUSYBOX, DEBIAN, KERNEL, ONE_BINARY, World};
