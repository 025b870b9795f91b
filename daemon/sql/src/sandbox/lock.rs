//! How the process that reads gives up what it could do: its files, its user, its capabilities, its
//! limits and at last nearly all system calls. Any step that fails ends it. Does not belong here: what
//! it does then.
//!
//! The order matters. Files are found in `/proc`, which is closed to a process that may not be dumped,
//! as it may not once its user has changed. A change of user also forgets the signal for the parent's
//! death. The thread that works is started before threads are forbidden, and has a stack of its own,
//! because the size of the first thread's is not ours to say.

use std::{collections::BTreeMap, fs, io, thread};

use nix::{
    libc,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{SigSet, Signal},
    },
    unistd::{self, Gid, Uid},
};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::read;

/// The kernel's overflow user and group (`/proc/sys/kernel/overflowuid`): they own nothing, need no
/// entry in any file, and are there on every host.
const NOBODY: u32 = 65534;
/// The grammar allows itself two MiB and half of one beside; what walks its trees is bounded as well.
const STACK: usize = 16 << 20;
/// The longest texts take up to two thirds of it (measured, of names and of statements), and a host
/// can bear it of several.
const MEMORY: u64 = 1 << 30;
/// The grammar's library puts a pipe in place of standard error while it works: six are open then.
const FILES: u64 = 16;
/// Of the protections of memory.
const EXECUTABLE: u64 = libc::PROT_EXEC as u64;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("the reader cannot {step}: {why}")]
pub(super) struct NotLockedIn {
    step: &'static str,
    why: Box<dyn std::error::Error + Send + Sync>,
}

/// Locks this process in, and then works. Returns when that has ended.
pub(super) fn locked_in(work: impl FnOnce() + Send + 'static) -> Result<(), NotLockedIn> {
    // Where memory runs short this is to go before the daemon. It is no lock.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    step("close its files", close_files())?;
    step("forbid itself new privileges", prctl::set_no_new_privs())?;
    step("give up its user and its groups", give_up_user())?;
    step("give up its capabilities", give_up_capabilities())?;
    step("end with the daemon", prctl::set_pdeathsig(Signal::SIGKILL))?;
    step("close itself to others of its user", prctl::set_dumpable(false))?;
    // The service manager's word to stop is for the daemon, which needs readings while it drains.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    step("leave signals to the daemon", signals.thread_block())?;
    let thread = thread::Builder::new().name("reader".into()).stack_size(STACK);
    let thread = step(
        "start a thread",
        thread.spawn(move || {
            // What is set up once is set up while it can be: the library asks for the bounds of the
            // stack, and memory's arena is made.
            let _ = read::read_with_slots("SELECT 1");
            let _ = read::lay_out("SELECT 1");
            step("limit itself", limit())?;
            step("forbid itself system calls", forbid_calls())?;
            work();
            Ok(())
        }),
    )?;
    thread.join().unwrap_or_else(|_| step("go on", Err(io::Error::other("it panicked"))))
}

fn step<T, E>(step: &'static str, done: Result<T, E>) -> Result<T, NotLockedIn>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    done.map_err(|why| NotLockedIn { step, why: why.into() })
}

/// Closes all but the socket and the two that are nothing.
fn close_files() -> io::Result<()> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<i32>().ok());
        open.push(number.ok_or_else(|| io::Error::other("a file has no number"))?);
    }
    for number in open.into_iter().filter(|number| *number > 2) {
        // One of them is the folder's, and is closed already.
        let _ = unistd::close(number);
    }
    Ok(())
}

fn give_up_user() -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let now = unistd::getresuid()?;
    if [now.real, now.effective, now.saved].iter().any(|user| user.is_root()) {
        unistd::setgroups(&[])?;
        unistd::setresgid(group, group, group)?;
        unistd::setresuid(user, user, user)?;
    }
    Ok(())
}

fn give_up_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?;
    Ok(())
}

/// The deadline is what bounds its time: it has one thread, and one task at a time.
fn limit() -> nix::Result<()> {
    let limits = [
        (Resource::RLIMIT_AS, MEMORY),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NOFILE, FILES),
        (Resource::RLIMIT_NPROC, 0),
    ];
    limits.into_iter().try_for_each(|(resource, most)| setrlimit(resource, most, most))
}

/// What it may call from now on: the socket, memory, and the library's pipe. Opening a file fails, as
/// memory's allocator looks for a setting in one and can do without; anything else kills the process.
fn forbid_calls() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let refused = [
        libc::SYS_openat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open,
    ];
    let mut allowed: BTreeMap<_, _> = [
        libc::SYS_read,
        libc::SYS_write,
        // Memory, but for code: below.
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_mremap,
        libc::SYS_munmap,
        // Standard error becomes a pipe and again what it was.
        libc::SYS_close,
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_pipe2,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_dup2,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_pipe,
        // Locks, keys of hash tables, clocks, panics and the end.
        libc::SYS_clock_gettime,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_restart_syscall,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sched_yield,
        libc::SYS_sigaltstack,
    ]
    .into_iter()
    .chain(refused)
    .map(|call| (call, Vec::new()))
    .collect();
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        allowed.insert(call, vec![rule(2, SeccompCmpOp::MaskedEq(EXECUTABLE), 0)?]);
    }
    let control = [libc::F_GETFL, libc::F_SETFL];
    let control = control.map(|word| rule(1, SeccompCmpOp::Eq, u64::from(word.unsigned_abs())));
    allowed.insert(libc::SYS_fcntl, control.into_iter().collect::<Result<_, _>>()?);

    let refused = refused.into_iter().map(|call| (call, Vec::new())).collect();
    let none = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    // Of two filters the stricter holds. The one that kills comes last: it would not let in another.
    filter(refused, SeccompAction::Allow, none)?;
    filter(allowed, SeccompAction::KillProcess, SeccompAction::Allow)
}

fn filter(
    calls: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    action: SeccompAction,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let architecture = std::env::consts::ARCH.try_into()?;
    let program = SeccompFilter::new(calls, others, action, architecture)?;
    let program: seccompiler::BpfProgram = program.try_into()?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

/// A call is allowed where one of its arguments is as told.
fn rule(
    argument: u8,
    is: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, is, value)?;
    SeccompRule::new(vec![condition])
}
