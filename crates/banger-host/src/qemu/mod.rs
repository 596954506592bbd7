//! QEMU as a VMM: its command line and its control socket. Starts nothing itself.

mod ahead;
pub(crate) mod args;
pub(crate) mod control;
mod halts;
pub(crate) mod pages;
pub(crate) mod qmp;
pub(crate) mod save;
pub(crate) mod stream;
pub(crate) mod version;

/// The program, and the package that brings it.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";
pub(crate) const PACKAGE: &str = "qemu-system-x86";
