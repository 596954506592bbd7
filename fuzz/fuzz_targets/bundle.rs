//! See `targets::bundle`.
#![no_main]

#[allow(dead_code, reason = "each program fuzzes one target")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::bundle(data));
