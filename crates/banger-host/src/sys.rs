//! Owns every line of this crate that the compiler cannot check. Knows system calls and
//! instructions, not what they are for.
#![allow(unsafe_code)]

mod fiemap;
mod landlock;
mod surroundings;
mod tap;

use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::Arc,
};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{VcpuFd, VmFd};
use rustix::{
    fs::Mode,
    io::FdFlags,
    process::{Pid, Resource, Rlimit},
};
use surroundings::Tell;
use tokio::io::{Interest, unix::AsyncFd};

pub(crate) use fiemap::shared_blocks;
pub(crate) use landlock::{Fence, Use, version as landlock_version};
pub(crate) use surroundings::{
    Bind, IdMaps, InMemory, Join, Mounts, NUMBER, PidSpace, Privileges, Step, Surroundings,
};
pub(crate) use tap::{GUEST_TAP, Taps, UPLINK_TAP};

/// A page of guest memory, aligned as KVM wants it.
#[derive(Clone)]
#[repr(C, align(4096))]
pub(crate) struct Page(pub(crate) [u8; 4096]);

/// What makes a program one that outlives this process.
#[derive(Debug)]
pub(crate) struct Detachment {
    /// Becomes its standard input, and is locked for as long as it lives.
    pub(crate) lock: OwnedFd,
    /// The size that no file written by it can exceed.
    pub(crate) file_limit: u64,
    pub(crate) surroundings: Surroundings,
    /// Descriptors of this process that it keeps, under the same numbers.
    pub(crate) kept: Vec<OwnedFd>,
    /// Where the child tells its steps.
    pub(crate) tell: OwnedFd,
}

/// Prepares `command` to outlive this process: a session of its own, no descriptor of ours
/// but the standard three and what is kept for it.
pub(crate) fn detach(command: &mut Command, detachment: Detachment) {
    let Detachment {
        lock,
        file_limit,
        surroundings,
        kept,
        tell,
    } = detachment;
    command.stdin(lock);
    let tell = Tell(tell);
    let in_child = move || {
        surroundings.enter(&tell)?;
        surroundings.fork(&tell)?;
        tell.step(Step::Detach);
        rustix::process::setsid()?;
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        close_on_exec_from(3);
        for descriptor in &kept {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        // SAFETY: the standard input is open: it was made a moment ago.
        let lock = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
        lock_for_life(lock)?;
        bound_files(file_limit)?;
        surroundings.give_up(&tell)?;
        tell.step(Step::Exec);
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only: it neither
    // allocates nor takes a lock that another thread of the parent could hold.
    unsafe { command.pre_exec(in_child) };
}

/// A lock of the open file, not of the process: it holds until the last descriptor is closed
/// that any process has of this opening. A lock of the process would go with the first one,
/// and Firecracker closes a copy of its standard input as it begins.
pub(crate) fn lock_for_life(file: BorrowedFd<'_>) -> io::Result<()> {
    let whole = whole_file();
    // SAFETY: the kernel reads the structure, which lives through the call.
    let locked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole) };
    if locked < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Who keeps others from locking a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Nobody,
    /// A process of this number; 0 when it is outside of our PID namespace.
    Process(i32),
    /// Whoever has the file open.
    Opener,
}

pub(crate) fn lock_holder(file: BorrowedFd<'_>) -> io::Result<Holder> {
    let mut found = whole_file();
    // SAFETY: the kernel reads and writes the structure, which lives through the call.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut found) };
    if asked < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(match (i32::from(found.l_type), found.l_pid) {
        (libc::F_UNLCK, _) => Holder::Nobody,
        (_, -1) => Holder::Opener,
        (_, number) => Holder::Process(number),
    })
}

fn whole_file() -> libc::flock {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Lets a VMM that was bounded so make files of so many bytes. Its hard limit is ours: it stays.
pub(crate) fn allow_files(pid: u32, bytes: u64) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    let wanted = Rlimit {
        current: Some(bytes),
        maximum: rustix::process::getrlimit(Resource::Fsize).maximum,
    };
    let before = rustix::process::prlimit(Some(pid), Resource::Fsize, wanted)?;
    if before.current.is_none_or(|before| before > bytes) {
        // It may do more already.
        rustix::process::prlimit(Some(pid), Resource::Fsize, before)?;
    }
    Ok(())
}

fn bound_files(limit: u64) -> io::Result<()> {
    // SAFETY: `signal` with SIG_IGN installs no handler, so no code of ours can run in
    // signal context. A write beyond the limit then fails instead of ending the VMM.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let hard = rustix::process::getrlimit(Resource::Fsize).maximum;
    let soft = hard.map_or(limit, |hard| hard.min(limit));
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
    Ok(rustix::process::setrlimit(Resource::Core, cores)?)
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

/// Makes the C library return large and trailing free blocks at once. Unless it is told, it raises
/// both limits (`mallopt`(3)) to the size of whatever large block was freed last.
pub(crate) fn fix_heap_limits() {
    // SAFETY: `mallopt` sets a number under the allocator's own lock.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, HEAP_LIMIT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, HEAP_LIMIT);
    }
}

/// Bytes: the C library's first choice for both.
#[cfg(target_env = "gnu")]
const HEAP_LIMIT: i32 = 128 << 10;

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
pub(crate) fn interrupt_thread(thread: Pid) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: the call touches no memory; a thread that has ended gives ESRCH, and the
    // signal cannot reach another process because the process id is our own.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, interrupt()) };
}
