//! What a fake host was asked to do, and how it is to behave. Knows no VM.

/// Something that the engine asked of the host, a machine or a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    ChooseVmm,
    Admit,
    Launch,
    Adopt,
    Sweep,
    DebianRoot,
    Connect,
    Pause,
    Resume,
    Save,
    Fetch,
    Copy,
    Assume,
    TellTime,
    GrowDisk,
    GrowFileSystem,
    Kill,
    Exec,
    Shutdown,
}

/// How one of the host's steps goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Works,
    Fails,
    /// Until the script says otherwise.
    Hangs,
}

/// How the agent meets a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connect {
    Answers,
    Breaks,
    /// Of the next machine only.
    BreaksOnce,
    /// Until the script says otherwise.
    Hangs,
}

/// What a guest does when it is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    Ends,
    Refuses,
    /// It says that it will, and does not.
    NeverEnds,
    /// The connection breaks before the question arrives.
    BreaksOnce,
    /// The VMM crashes on the way.
    Crashes,
}

/// How a host and its machines behave. A machine has a copy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) choose: Step,
    pub(crate) admit: Step,
    pub(crate) launch: Step,
    pub(crate) adopt: Step,
    pub(crate) resume: Step,
    pub(crate) save: Step,
    /// Whether the connection to the agent breaks with a save.
    pub(crate) save_hangs_up: bool,
    pub(crate) fetch: Step,
    /// What a saved machine takes.
    pub(crate) saved_bytes: u64,
    pub(crate) copy: Step,
    /// What the host has for machines.
    pub(crate) memory: u64,
    pub(crate) vmm_version: &'static str,
    pub(crate) kill: Step,
    pub(crate) connect: Connect,
    pub(crate) shutdown: Shutdown,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            choose: Step::Works,
            admit: Step::Works,
            launch: Step::Works,
            adopt: Step::Works,
            resume: Step::Works,
            save: Step::Works,
            save_hangs_up: false,
            fetch: Step::Works,
            saved_bytes: 0,
            copy: Step::Works,
            memory: u64::MAX,
            vmm_version: "1.0",
            kill: Step::Works,
            connect: Connect::Answers,
            shutdown: Shutdown::Ends,
        }
    }
}
