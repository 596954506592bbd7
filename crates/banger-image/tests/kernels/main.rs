//! Kernels from a mirror's signature to a bootable archive, against a mirror that the tests run
//! themselves: what must work, and every way in which a mirror can lie. Needs no root and no VM.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should stop"
)]

mod boot_modules;
mod bundle;
mod bzimage;
mod deb;
mod elf;
mod fetch;
mod initramfs;
mod keyring;
mod newc;
mod pull;
mod store;
mod support;
#[path = "../web/mod.rs"]
mod web;
