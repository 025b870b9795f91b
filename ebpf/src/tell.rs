//! Counting what was stopped, and telling the daemon who tried.

use core::ptr::addr_of;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_uid_gid,
        bpf_ktime_get_boot_ns, generated::bpf_ringbuf_query,
    },
};
use chaperone_abi::{Counter, Owner, Settings, Stopped, UNIX_NAME, limits};

use crate::{
    maps::{STOPPED, count},
    task,
};

/// What was tried.
pub struct Attempt {
    pub reason: Counter,
    pub target: u32,
    pub address: [u32; 4],
    pub port: u16,
    pub protocol: u32,
}

/// The calling process tried.
#[inline(always)]
pub fn of_process(settings: &Settings, agent: u32, attempt: &Attempt) {
    with_name(settings, agent, attempt, None);
}

/// As above, by a Unix socket's name.
#[inline(always)]
pub fn with_name(
    settings: &Settings,
    agent: u32,
    attempt: &Attempt,
    name: Option<&[u8; UNIX_NAME]>,
) {
    let owner = Owner {
        process: task::current(&settings.offsets),
        // SAFETY: the helper reads the current task only.
        cgroup_id: unsafe { bpf_get_current_cgroup_id() },
        told_ns: 0,
        agent,
        uid: bpf_get_current_uid_gid() as u32,
        flags: 0,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    };
    count(attempt.reason);
    tell(settings, &owner, attempt, name);
}

/// A socket's owner tried. Answers whether there was room to tell.
#[inline(always)]
pub fn of_owner(settings: &Settings, owner: &Owner, attempt: &Attempt) -> bool {
    count(attempt.reason);
    tell(settings, owner, attempt, None)
}

/// As above, of what was counted already.
#[inline(always)]
pub fn again(settings: &Settings, owner: &Owner, attempt: &Attempt) -> bool {
    tell(settings, owner, attempt, None)
}

/// Bytes that are kept free for what matters more than what an agent can try without end at no cost.
const KEPT: u64 = limits::STOPPED as u64 / 2;

/// What tells of a conversation, or of a way to one.
#[inline(always)]
fn matters(reason: Counter) -> bool {
    matches!(
        reason,
        Counter::PassedBy
            | Counter::RefusedPassed
            | Counter::RefusedTrace
            | Counter::RefusedUnix
            | Counter::GuardOut
            | Counter::GuardIn
    )
}

#[inline(always)]
fn tell(
    settings: &Settings,
    owner: &Owner,
    attempt: &Attempt,
    name: Option<&[u8; UNIX_NAME]>,
) -> bool {
    // SAFETY: the helper reads the map's counters.
    let waiting = unsafe {
        bpf_ringbuf_query(addr_of!(STOPPED).cast_mut().cast(), u64::from(BPF_RB_AVAIL_DATA))
    };
    if waiting > KEPT && !matters(attempt.reason) {
        count(Counter::StoppedLost);
        return false;
    }
    let Some(mut entry) = STOPPED.reserve_untyped::<Stopped>(0) else {
        count(Counter::StoppedLost);
        return false;
    };
    let stopped = entry.as_mut_ptr();
    // SAFETY: `stopped` points to reserved memory of its size; every field is written before it is
    // submitted.
    unsafe {
        (*stopped).at_ns = bpf_ktime_get_boot_ns();
        (*stopped).process = owner.process;
        (*stopped).cgroup_id = owner.cgroup_id;
        (*stopped).address = attempt.address;
        (*stopped).uid = owner.uid;
        (*stopped).agent = owner.agent;
        (*stopped).target = attempt.target;
        (*stopped).generation = settings.generation;
        (*stopped).reason = attempt.reason as u32;
        (*stopped).protocol = attempt.protocol;
        (*stopped).port = attempt.port;
        (*stopped).reserved = 0;
        (*stopped).comm = owner.comm;
        (*stopped).name = match name {
            Some(name) => *name,
            None => [0; UNIX_NAME],
        };
    }
    let flag = if waiting > KEPT / 2 { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(flag.into());
    true
}
