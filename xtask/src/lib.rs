//! The repository's own chores, as a library so that tests can run them.
//! Knows the repository, and the product as its users do; depends on none of its crates.
#![forbid(unsafe_code)]

pub mod bench;
pub mod notices;
pub mod tidy;
