//! See `banger_host::fuzzing::saved_machine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| banger_host::fuzzing::saved_machine(data));
