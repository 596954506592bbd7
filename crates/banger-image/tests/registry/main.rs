//! Registries that behave well, badly and worse, and what a pull makes of them.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should stop"
)]

mod blobs;
mod documents;
mod identity;
mod support;
#[path = "../web/mod.rs"]
mod web;
