//! Registries that behave well, badly and worse, and what a pull makes of them.
#![forbid(unsafe_code)]

mod blobs;
mod documents;
mod identity;
mod support;
