//! The repository's own chores, as a library so that tests can run them.
//! Knows the repository; knows nothing that the product knows, and depends on none of its crates.
#![forbid(unsafe_code)]

pub mod tidy;
