//! The first process of every guest. Owns the order of things: boot, choose process 1, serve the host.
//!
//! | module | owns |
//! |---|---|
//! | `boot` | the way from the initramfs to the machine's own root |
//! | `init` | who process 1 is, and handing over to it |
//! | `channel`, `server` | sessions with the host, and what answers each request |
//! | `assume` | what a copy of a machine changes in itself |
//! | `exec` | processes that the host asks for |
//! | `journal`, `listeners` | what a host may ask: what the agent did, what listens in the guest |
//! | `reaper` | starting and burying every process |
//! | `shutdown` | the machine's end |
//! | `sys` | every unsafe line |

mod agent;
mod assume;
mod boot;
mod channel;
mod console;
mod exec;
mod init;
mod journal;
mod listeners;
mod proc_files;
mod reaper;
mod serve;
mod server;
mod shutdown;
mod sys;
mod system_journal;
mod version;

use std::convert::Infallible;

/// musl's allocator returns every larger block to the kernel, and the next frame faults it in again, page by page: half
/// of an exec's throughput on an emulated processor.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

use banger_guest_proto::boot::fatal;
use banger_guest_proto::hello::Pid1;

use boot::{Fatal, OrFatal};
use init::{Choice, InitError, Notifications};
use serve::Server;
use sys::Forked;

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the agent's only command line"
)]
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("--version") => {
            println!("banger-agent {}", version::line());
            return;
        }
        // For hosts that want a program to have started once, and nothing to come of it.
        Some("--nothing") => return,
        Some(_) | None => {}
    }
    if std::process::id() != 1 {
        eprintln!(
            "banger-agent: this is the first process of a virtual machine and runs nowhere else"
        );
        std::process::exit(2);
    }
    let Err(Fatal { phrase, cause }) = run();
    console::fatal(phrase, &*cause);
    shutdown::abort();
}

fn run() -> Result<Infallible, Fatal> {
    let booted = boot::boot()?;
    match init::choose(&booted.config.init, "/".as_ref()).or_fatal(fatal::INIT)? {
        Choice::Agent => Server::as_process_1(booted).run(),
        Choice::Program { path, kind } => {
            let notifications = notifications(kind).or_fatal(fatal::INIT)?;
            let forked = sys::fork().map_err(|source| InitError::HandOver {
                step: "fork",
                source,
            });
            match forked.or_fatal(fatal::INIT)? {
                Forked::Child => Server::beside(kind, booted, notifications).run(),
                Forked::Parent { .. } => init::become_init(&path, kind).or_fatal(fatal::INIT),
            }
        }
    }
}

fn notifications(kind: Pid1) -> Result<Option<Notifications>, InitError> {
    match kind {
        Pid1::Systemd => Notifications::bind()
            .map(Some)
            .map_err(|source| InitError::HandOver {
                step: "listen to systemd",
                source,
            }),
        Pid1::Agent | Pid1::Other => Ok(None),
    }
}
