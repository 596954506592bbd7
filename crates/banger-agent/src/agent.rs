//! Owns what all sessions share: who process 1 is, how the boot went, and the way down. Knows no wire.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use banger_guest_proto::hello::{AgentHello, BootMarks, Generations, HostHello, Pid1};
use banger_guest_proto::message::{Assumed, Health, InitState, ShutdownRequest};
use tokio::sync::mpsc;

use crate::boot::{Card, clock, tolerate};
use crate::reaper::Reaper;
use crate::{assume, journal, proc_files, version};

/// The agent as its sessions see it.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) reaper: Rc<Reaper>,
    pub(crate) pid1: Pid1,
    pub(crate) marks: Cell<BootMarks>,
    pub(crate) card: Option<Card>,
    init: Cell<Init>,
    shutdowns: mpsc::Sender<ShutdownRequest>,
    boot_id: RefCell<Option<String>>,
}

/// What init has said of itself.
#[derive(Clone, Copy, Debug)]
struct Init {
    state: InitState,
    running_ns: Option<u64>,
}

impl Agent {
    pub(crate) fn new(
        reaper: Rc<Reaper>,
        pid1: Pid1,
        marks: BootMarks,
        card: Option<Card>,
        shutdowns: mpsc::Sender<ShutdownRequest>,
    ) -> Self {
        let (state, running_ns) = match pid1 {
            Pid1::Agent => (InitState::Running, Some(clock::uptime_ns())),
            Pid1::Systemd => (InitState::Starting, None),
            Pid1::Other => (InitState::Unknown, None),
        };
        let init = Cell::new(Init { state, running_ns });
        let marks = Cell::new(marks);
        Self {
            reaper,
            pid1,
            marks,
            card,
            init,
            shutdowns,
            boot_id: RefCell::default(),
        }
    }

    /// Notes what init says of itself.
    pub(crate) fn init_is(&self, state: InitState) {
        let mut init = self.init.get();
        if init.state != state {
            journal::note(format_args!("init is {state:?}"));
        }
        init.state = state;
        if state == InitState::Running {
            init.running_ns.get_or_insert_with(clock::uptime_ns);
        }
        self.init.set(init);
    }

    /// Does what the host's greeting asks for, and answers it.
    pub(crate) fn greeted(&self, host: &HostHello) -> AgentHello {
        journal::note(format_args!("a host has connected"));
        let assumed = match &host.identity {
            Some(identity) => {
                journal::note(format_args!("from now on this is {}", identity.hostname));
                Some(assume::at_once(identity))
            }
            None => {
                tolerate("clock", clock::follow(host.wall_clock_ns));
                tolerate("entropy", clock::add_entropy(&host.entropy));
                None
            }
        };
        AgentHello {
            generations: Generations::OURS,
            generation: Generations::OURS.agree(host.generations),
            version: version::line(),
            boot_id: self
                .boot_id
                .borrow_mut()
                .get_or_insert_with(proc_files::boot_id)
                .clone(),
            pid1: self.pid1,
            uptime_ns: clock::uptime_ns(),
            marks: self.marks.get(),
            // A host that does not get it asks again.
            assumed: assumed.filter(Assumed::fits_a_greeting),
        }
    }

    pub(crate) fn health(&self) -> Health {
        let (memory_total, memory_available) = proc_files::memory();
        let Init { state, running_ns } = self.init.get();
        Health {
            uptime_ns: clock::uptime_ns(),
            load: proc_files::load(),
            memory_total,
            memory_available,
            pid1: self.pid1,
            init_state: state,
            init_running_ns: running_ns,
        }
    }

    /// Passes a shutdown on; one that is under way already needs no second.
    pub(crate) fn shut_down(&self, request: ShutdownRequest) {
        let _ = self.shutdowns.try_send(request);
    }
}
