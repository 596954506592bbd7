//! Catalogs and bundles on a web server that is good, down or hostile: what is promised comes out,
//! anything else is refused and leaves nothing.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should stop"
)]

mod bundles;
mod hostile;
#[path = "../web/mod.rs"]
mod web;
mod world;
