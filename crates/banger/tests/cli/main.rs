//! The CLI as people and scripts meet it: the real program against a daemon made of paper.
//! Needs no VM, no root and no bangerd.
#![expect(clippy::unwrap_used, reason = "a broken harness is a failed test")]

mod commands;
mod daemon;
mod exec;
mod fake;
mod help;
mod snapshots;
mod terminal;
