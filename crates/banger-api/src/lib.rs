//! What the daemon and its clients say to each other, and the client that says it.
//! Knows HTTP and JSON; knows no VMM, no store and no terminal.
#![forbid(unsafe_code)]

pub mod build;
pub mod cache;
pub mod catalog;
pub mod client;
pub mod config;
pub mod daemon;
pub mod df;
pub mod doctor;
pub mod error;
pub mod event;
pub mod exec;
pub mod image;
pub mod journal;
pub mod kernel;
pub mod operation;
pub mod places;
pub mod pool;
pub mod progress;
pub mod recover;
pub mod size;
pub mod snapshot;
pub mod usage;
pub mod vm;
