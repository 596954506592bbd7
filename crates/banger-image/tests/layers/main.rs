//! Layers become images: merged as they should be, the same each time, cached, and refused when
//! they are not what was promised.

mod cache;
mod merge;
mod random;
mod scale;
#[path = "../support/mod.rs"]
mod support;
mod umoci;
mod world;
