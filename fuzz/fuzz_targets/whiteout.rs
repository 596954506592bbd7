//! See `targets::whiteout`.
#![no_main]

#[allow(dead_code, reason = "each program fuzzes one target")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::whiteout(data));
