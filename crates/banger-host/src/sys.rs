//! Owns every line of this crate that the compiler cannot check. Knows system calls and
//! instructions, not what they are for.
#![allow(unsafe_code)]

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::Arc,
};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{VcpuFd, VmFd};
use rustix::{
    fs::{FlockOperation, Mode},
    io::FdFlags,
    process::{Resource, Rlimit},
};
use tokio::io::{Interest, unix::AsyncFd};

/// A page of guest memory, aligned as KVM wants it.
#[derive(Clone)]
#[repr(C, align(4096))]
pub(crate) struct Page(pub(crate) [u8; 4096]);

/// Prepares `command` to outlive this process: a session of its own, no descriptor of ours
/// but the standard three and `lock`, which the new process locks for as long as it lives.
///
/// `file_limit` is the size that no file written by the process can exceed.
pub(crate) fn detach(command: &mut Command, lock: OwnedFd, file_limit: u64) {
    let in_child = move || {
        rustix::process::setsid()?;
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        close_on_exec_from(3);
        rustix::io::fcntl_setfd(&lock, FdFlags::empty())?;
        rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        // SAFETY: `signal` with SIG_IGN installs no handler, so no code of ours can run in
        // signal context. A write beyond the limit then fails instead of ending the VMM.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let hard = rustix::process::getrlimit(Resource::Fsize).maximum;
        let soft = hard.map_or(file_limit, |hard| hard.min(file_limit));
        let files = Rlimit {
            current: Some(soft),
            maximum: hard,
        };
        rustix::process::setrlimit(Resource::Fsize, files)?;
        // A core dump would write the guest's memory to the host's disk.
        let cores = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        rustix::process::setrlimit(Resource::Core, cores)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only: it neither
    // allocates nor takes a lock that another thread of the parent could hold.
    unsafe { command.pre_exec(in_child) };
}

/// Kernels before 5.11 lack this call. What Rust opens is close-on-exec anyway; the call
/// covers descriptors that this process has itself inherited.
fn close_on_exec_from(first: libc::c_uint) {
    // SAFETY: the call changes flags of descriptors and touches no memory.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

/// Lets a task wait until a descriptor is readable.
pub(crate) fn readiness(descriptor: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an `OwnedFd` behind an `Arc` gives the same open descriptor for as long as the
    // registration owns its part of the `Arc`.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// Gives freed memory back to the kernel, where the C library keeps it.
pub(crate) fn trim_heap() {
    // SAFETY: `malloc_trim` takes the allocator's own locks and touches no memory in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The processor's time stamp counter.
pub(crate) fn time_stamp_counter() -> u64 {
    // SAFETY: the instruction exists on every x86-64 processor and touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Gives `pages` to `vm` as its physical memory from address zero.
///
/// The VM must not run any more once `pages` is gone; the caller keeps both in one scope.
pub(crate) fn lend_memory(vm: &VmFd, pages: &mut [Page]) -> io::Result<()> {
    let region = kvm_userspace_memory_region {
        slot: 0,
        guest_phys_addr: 0,
        memory_size: size_of_val(pages) as u64,
        userspace_addr: pages.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: the region is exactly the slice, which is page-aligned by its type and
    // borrowed exclusively here; the only caller drops the VM before the slice.
    unsafe { vm.set_user_memory_region(region) }.map_err(io::Error::from)
}

/// The signal that interrupts a probe. It is never delivered: it is blocked in the thread
/// and let through only while the thread is inside KVM, which then returns.
fn interrupt() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Makes [`interrupt_thread`] end a run of `vcpu`, when called by the thread that runs it.
pub(crate) fn make_interruptible(vcpu: &VcpuFd) -> io::Result<()> {
    // SAFETY: a zeroed `sigset_t` is a valid empty set, and both pointers are to live locals.
    let failed = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut set, interrupt());
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    /// `struct kvm_signal_mask` with the kernel's eight bytes of signals.
    #[repr(C, packed)]
    struct SignalMask {
        len: u32,
        signals: u64,
    }
    const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;
    let mask = SignalMask {
        len: 8,
        signals: !(1 << (interrupt() - 1)),
    };
    // SAFETY: the descriptor is a vCPU's, and the kernel reads the 12 bytes of `mask` only.
    let result =
        unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK as _, &raw const mask) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Interrupts the KVM run of one thread of this process, if it is still there.
pub(crate) fn interrupt_thread(thread: rustix::thread::Pid) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: the call touches no memory; a thread that has ended gives ESRCH, and the
    // signal cannot reach another process because the process id is our own.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, interrupt()) };
}
