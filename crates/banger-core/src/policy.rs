//! Which verb a VM's state allows: pure, without clock, lock or I/O.

use crate::record::VmState;

/// What a client may ask of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Start,
    Stop,
    Kill,
    Pause,
    Resume,
    /// To give it a name, labels, a time to go: what its VMM knows nothing of.
    Describe,
    /// To change what it is made of, from its next start on.
    Change,
    /// To give it a larger disk.
    Grow,
    Exec,
    /// To write down what it is at this moment.
    Save,
    /// To go on from what was written down.
    Restore,
    /// To become somebody's, for one that waits.
    Take,
    Delete {
        force: bool,
    },
}

/// What follows from asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Do it now.
    Proceed,
    /// It holds already.
    Done,
    /// Another act is in progress; ask again when it has ended.
    Wait,
    /// End the act in progress, then do it.
    Interrupt,
    /// It makes no sense in this state.
    Refuse,
}

/// The whole policy.
#[must_use]
pub fn admit(state: VmState, verb: Verb) -> Admission {
    use Admission::{Done, Interrupt, Proceed, Refuse, Wait};
    match (verb, state) {
        (Verb::Start, VmState::Created | VmState::Stopped | VmState::Error) => Proceed,
        (Verb::Start, VmState::Running) => Done,
        (Verb::Start, VmState::Starting | VmState::Stopping) => Wait,
        (Verb::Start, VmState::Paused) => Refuse,
        (Verb::Pause, VmState::Running) => Proceed,
        (Verb::Resume, VmState::Paused) => Proceed,
        (Verb::Pause, VmState::Paused) | (Verb::Resume, VmState::Running) => Done,
        (Verb::Pause | Verb::Resume, VmState::Starting | VmState::Stopping) => Wait,
        (
            Verb::Pause | Verb::Resume,
            VmState::Created | VmState::Stopped | VmState::Error | VmState::Deleting,
        ) => Refuse,
        (Verb::Stop, VmState::Running | VmState::Paused) => Proceed,
        (Verb::Stop, VmState::Created | VmState::Stopped | VmState::Error) => Done,
        (Verb::Stop, VmState::Starting) => Interrupt,
        (Verb::Stop, VmState::Stopping) => Wait,
        (Verb::Kill, VmState::Running | VmState::Paused) => Proceed,
        (Verb::Kill, VmState::Starting | VmState::Stopping) => Interrupt,
        (Verb::Kill, VmState::Created | VmState::Stopped | VmState::Error) => Done,
        (Verb::Describe, VmState::Deleting) => Refuse,
        (Verb::Describe | Verb::Change | Verb::Grow, VmState::Starting | VmState::Stopping) => Wait,
        (Verb::Grow, VmState::Created | VmState::Stopped | VmState::Error | VmState::Running) => {
            Proceed
        }
        (Verb::Grow, VmState::Paused | VmState::Deleting) => Refuse,
        (
            Verb::Describe,
            VmState::Created
            | VmState::Stopped
            | VmState::Error
            | VmState::Running
            | VmState::Paused,
        ) => Proceed,
        (
            Verb::Change,
            VmState::Created
            | VmState::Stopped
            | VmState::Error
            | VmState::Running
            | VmState::Paused,
        ) => Proceed,
        (Verb::Change, VmState::Deleting) => Refuse,
        (Verb::Exec, VmState::Running) => Proceed,
        (Verb::Exec, VmState::Starting) => Wait,
        (
            Verb::Exec,
            VmState::Created
            | VmState::Stopped
            | VmState::Error
            | VmState::Stopping
            | VmState::Paused,
        ) => Refuse,
        (Verb::Save, VmState::Running | VmState::Paused) => Proceed,
        (Verb::Save | Verb::Restore | Verb::Take, VmState::Starting | VmState::Stopping) => Wait,
        (Verb::Take, VmState::Paused) => Proceed,
        (
            Verb::Take,
            VmState::Created
            | VmState::Stopped
            | VmState::Error
            | VmState::Running
            | VmState::Deleting,
        ) => Refuse,
        (Verb::Save, VmState::Created | VmState::Stopped | VmState::Error | VmState::Deleting) => {
            Refuse
        }
        (
            Verb::Restore,
            VmState::Created
            | VmState::Stopped
            | VmState::Error
            | VmState::Running
            | VmState::Paused,
        ) => Proceed,
        (Verb::Restore, VmState::Deleting) => Refuse,
        (Verb::Delete { .. }, VmState::Created | VmState::Stopped | VmState::Error) => Proceed,
        (Verb::Delete { force: true }, VmState::Running | VmState::Paused) => Proceed,
        (Verb::Delete { force: true }, VmState::Starting | VmState::Stopping) => Interrupt,
        (
            Verb::Delete { force: false },
            VmState::Running | VmState::Paused | VmState::Starting | VmState::Stopping,
        ) => Refuse,
        (Verb::Delete { .. }, VmState::Deleting) => Wait,
        (Verb::Start | Verb::Stop | Verb::Kill | Verb::Exec, VmState::Deleting) => Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_is_idempotent_and_waits_for_acts_in_progress() {
        let cases = [
            (VmState::Created, Admission::Proceed),
            (VmState::Stopped, Admission::Proceed),
            (VmState::Error, Admission::Proceed),
            (VmState::Running, Admission::Done),
            (VmState::Starting, Admission::Wait),
            (VmState::Deleting, Admission::Refuse),
        ];
        check(Verb::Start, &cases);
    }

    #[test]
    fn only_force_deletes_what_runs() {
        check(
            Verb::Delete { force: false },
            &[
                (VmState::Running, Admission::Refuse),
                (VmState::Starting, Admission::Refuse),
                (VmState::Stopped, Admission::Proceed),
            ],
        );
        check(
            Verb::Delete { force: true },
            &[
                (VmState::Running, Admission::Proceed),
                (VmState::Starting, Admission::Interrupt),
                (VmState::Deleting, Admission::Wait),
            ],
        );
    }

    #[test]
    fn only_what_runs_is_paused_and_only_what_is_paused_goes_on() {
        check(
            Verb::Pause,
            &[
                (VmState::Running, Admission::Proceed),
                (VmState::Paused, Admission::Done),
                (VmState::Stopped, Admission::Refuse),
            ],
        );
        check(
            Verb::Resume,
            &[
                (VmState::Paused, Admission::Proceed),
                (VmState::Running, Admission::Done),
                (VmState::Created, Admission::Refuse),
            ],
        );
        check(Verb::Start, &[(VmState::Paused, Admission::Refuse)]);
        check(Verb::Stop, &[(VmState::Paused, Admission::Proceed)]);
    }

    #[test]
    fn a_kill_ends_whatever_is_in_progress() {
        check(
            Verb::Kill,
            &[
                (VmState::Running, Admission::Proceed),
                (VmState::Paused, Admission::Proceed),
                (VmState::Starting, Admission::Interrupt),
                (VmState::Stopping, Admission::Interrupt),
                (VmState::Stopped, Admission::Done),
                (VmState::Deleting, Admission::Refuse),
            ],
        );
    }

    #[test]
    fn only_what_has_a_memory_is_saved_and_whatever_is_kept_goes_back() {
        check(
            Verb::Save,
            &[
                (VmState::Running, Admission::Proceed),
                (VmState::Paused, Admission::Proceed),
                (VmState::Starting, Admission::Wait),
                (VmState::Stopped, Admission::Refuse),
                (VmState::Deleting, Admission::Refuse),
            ],
        );
        check(
            Verb::Restore,
            &[
                (VmState::Created, Admission::Proceed),
                (VmState::Running, Admission::Proceed),
                (VmState::Stopped, Admission::Proceed),
                (VmState::Stopping, Admission::Wait),
                (VmState::Deleting, Admission::Refuse),
            ],
        );
    }

    #[test]
    fn what_stands_still_and_waits_can_be_taken() {
        check(
            Verb::Take,
            &[
                (VmState::Paused, Admission::Proceed),
                (VmState::Running, Admission::Refuse),
                (VmState::Error, Admission::Refuse),
                (VmState::Deleting, Admission::Refuse),
            ],
        );
    }

    #[test]
    fn exec_never_starts_a_vm() {
        check(
            Verb::Exec,
            &[
                (VmState::Created, Admission::Refuse),
                (VmState::Stopped, Admission::Refuse),
                (VmState::Starting, Admission::Wait),
                (VmState::Running, Admission::Proceed),
            ],
        );
    }

    fn check(verb: Verb, cases: &[(VmState, Admission)]) {
        for (state, wanted) in cases {
            assert_eq!(
                admit(*state, verb),
                *wanted,
                "{verb:?} while {}",
                state.as_str()
            );
        }
    }
}
