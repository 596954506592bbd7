//! The target of `fuzz/` that reads QEMU's stream, run on its seeds and on mutations of these.
#![allow(clippy::print_stderr, reason = "a long run says what it does")]

#[path = "../../../fuzz/mutations.rs"]
mod mutations;

#[test]
fn saved_machines_are_taken_or_refused() {
    mutations::check("stream", banger_host::fuzzing::saved_machine);
}
