//! Runs a little 64-bit code in a VM of one processor and tells what became of it. Hangs
//! in no case: a watchdog interrupts it.

use std::{io, sync::mpsc, thread, time::Duration};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use rustix::{
    thread::gettid,
    time::{ClockId, clock_gettime},
};

use super::Observation;
use crate::sys::{self, Page};

/// How long the guest code may run. Making the VM around it takes a few milliseconds more.
const PATIENCE: Duration = Duration::from_millis(35);

const ROUNDS: u32 = 20_000;
pub(super) const INSTRUCTIONS: u32 = 3 * ROUNDS;

/// Where things are in the guest's memory, by page.
const PAGE: u64 = 4096;
const PML4: usize = 1;
const PDPT: usize = 2;
const DIRECTORY: usize = 3;
const CODE: usize = 4;
const DATA: usize = 5;
const PAGES: usize = 6;

/// First the instructions that an emulator of guest code lacks, then a loop to be timed.
const PROGRAM: [u8; 27] = [
    0xf0, 0x48, 0x0f, 0xc7, 0x0f, // lock cmpxchg16b [rdi]
    0xf3, 0x48, 0x0f, 0xb8, 0xc1, // popcnt rax, rcx
    0x0f, 0xae, 0x57, 0x10, //       ldmxcsr [rdi + 16]
    0xb9, 0, 0, 0, 0, //             mov ecx, ROUNDS
    0x48, 0x01, 0xd8, //             again: add rax, rbx
    0xff, 0xc9, //                   dec ecx
    0x75, 0xf9, //                   jnz again
    0xf4, //                         hlt
];
const ROUNDS_AT: usize = 15;
/// The value of MXCSR after a reset: all exceptions masked.
const MXCSR: u32 = 0x1f80;

/// What the probing thread sends: first that it is about to run, then what it saw.
enum Report {
    Ready(rustix::thread::Pid),
    Done(io::Result<Observation>),
}

pub(super) fn run() -> io::Result<Observation> {
    let mut program = PROGRAM;
    program[ROUNDS_AT..ROUNDS_AT + 4].copy_from_slice(&ROUNDS.to_le_bytes());
    run_program(program.to_vec())
}

fn run_program(program: Vec<u8>) -> io::Result<Observation> {
    let (tell, hear) = mpsc::sync_channel(2);
    let prober = thread::Builder::new()
        .name("kvm-probe".into())
        .spawn(move || {
            let done = try_kvm(&program, |thread| drop(tell.send(Report::Ready(thread))));
            drop(tell.send(Report::Done(done)));
        })?;
    let observation = watch(&hear);
    prober
        .join()
        .map_err(|_| io::Error::other("the probing thread panicked"))?;
    observation
}

fn watch(hear: &mpsc::Receiver<Report>) -> io::Result<Observation> {
    let lost = |_| io::Error::other("the probing thread ended early");
    let thread = match hear.recv().map_err(lost)? {
        Report::Ready(thread) => thread,
        Report::Done(done) => return done,
    };
    let report = match hear.recv_timeout(PATIENCE) {
        Ok(report) => report,
        Err(_) => {
            sys::interrupt_thread(thread);
            hear.recv().map_err(lost)?
        }
    };
    match report {
        Report::Done(done) => done,
        Report::Ready(_) => Err(io::Error::other("the probing thread began twice")),
    }
}

fn try_kvm(program: &[u8], ready: impl FnOnce(rustix::thread::Pid)) -> io::Result<Observation> {
    let mut memory = memory(program);
    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;
    sys::lend_memory(&vm, &mut memory)?;
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)?;
    enter_long_mode(&vcpu)?;
    sys::make_interruptible(&vcpu)?;
    ready(gettid());
    let before = processor_time();
    let end = vcpu.run().map(|exit| match exit {
        VcpuExit::Hlt => None,
        VcpuExit::InternalError => Some("it stopped with an internal error".to_owned()),
        other => Some(format!("it stopped with {other:?}")),
    });
    let took = processor_time().saturating_sub(before);
    let end = match end {
        Ok(None) => Ok(Observation::Finished { took }),
        Ok(Some(reason)) => Ok(Observation::Stopped {
            reason: at(&vcpu, reason),
        }),
        Err(error) if error.errno() == libc::EINTR => Ok(Observation::Interrupted { took }),
        Err(error) => Err(error.into()),
    };
    // The VM goes before the memory that it was lent.
    drop((vcpu, vm));
    drop(memory);
    end
}

/// Adds the instruction at which the code stopped, if it is one of the first ones.
fn at(vcpu: &VcpuFd, reason: String) -> String {
    let offset = vcpu
        .get_regs()
        .map(|regs| regs.rip.wrapping_sub(CODE as u64 * PAGE));
    let name = match offset {
        Ok(0) => "cmpxchg16b",
        Ok(5) => "popcnt",
        Ok(10) => "ldmxcsr",
        Ok(_) | Err(_) => return reason,
    };
    format!("{reason} at {name}")
}

/// Page tables that map the first 2 MiB to themselves, the code and its data.
fn memory(program: &[u8]) -> Vec<Page> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let mut pages = vec![Page([0; PAGE as usize]); PAGES];
    let mut put = |page: usize, bytes: &[u8]| pages[page].0[..bytes.len()].copy_from_slice(bytes);
    put(PML4, &(PDPT as u64 * PAGE + PRESENT_WRITABLE).to_le_bytes());
    put(
        PDPT,
        &(DIRECTORY as u64 * PAGE + PRESENT_WRITABLE).to_le_bytes(),
    );
    put(DIRECTORY, &(LARGE | PRESENT_WRITABLE).to_le_bytes());
    put(CODE, program);
    let mut data = [0; 20];
    data[16..].copy_from_slice(&MXCSR.to_le_bytes());
    put(DATA, &data);
    pages
}

fn enter_long_mode(vcpu: &VcpuFd) -> io::Result<()> {
    let mut sregs = vcpu.get_sregs()?;
    set_long_mode(&mut sregs);
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs {
        rip: CODE as u64 * PAGE,
        rdi: DATA as u64 * PAGE,
        rbx: 1,
        rflags: 2,
        ..kvm_regs::default()
    })?;
    Ok(())
}

fn set_long_mode(sregs: &mut kvm_sregs) {
    const CR0_PE_MP_NE_PG: u64 = 1 | 1 << 1 | 1 << 5 | 1 << 31;
    const CR4_PAE_OSFXSR: u64 = 1 << 5 | 1 << 9;
    const EFER_LME_LMA: u64 = 1 << 8 | 1 << 10;
    let segment = |selector, type_, l, db| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        l,
        db,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = segment(8, 0b1011, 1, 0);
    let data = segment(16, 0b0011, 0, 1);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cr3 = PML4 as u64 * PAGE;
    sregs.cr4 = CR4_PAE_OSFXSR;
    sregs.cr0 = CR0_PE_MP_NE_PG;
    sregs.efer = EFER_LME_LMA;
}

/// What this thread has used of the processor: other than the clock's time it does not
/// grow while the host is busy with others.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a device there is nothing to be tried; the decision is tested elsewhere.
    fn observe(program: &[u8]) -> Option<Observation> {
        let open = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(super::super::DEVICE);
        open.ok().map(|_| run_program(program.to_vec()).unwrap())
    }

    #[test]
    fn endless_code_is_interrupted() {
        let start = std::time::Instant::now();
        let observation = observe(&[0xeb, 0xfe]); // jmp to itself
        assert!(matches!(
            observation,
            None | Some(Observation::Interrupted { .. })
        ));
        assert!(start.elapsed() < 4 * PATIENCE, "{:?}", start.elapsed());
    }

    #[test]
    fn plain_code_ends_on_every_kind_of_kvm() {
        let observation = observe(&[0x48, 0x01, 0xd8, 0xf4]); // add rax, rbx; hlt
        assert!(matches!(
            observation,
            None | Some(Observation::Finished { .. })
        ));
    }
}
