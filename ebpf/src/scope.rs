//! Is the calling process an agent's, and which?
//!
//! It is where an agent's process forked it, whatever user or cgroup it moved to since, else by its
//! user id, else by its cgroup or one above it.

use aya_ebpf::{
    btf_maps::lpm_trie::Key,
    helpers::{bpf_get_current_uid_gid, generated::bpf_get_current_ancestor_cgroup_id},
};
use chaperone_abi::{Offsets, Process, Uid};

use crate::{
    fork::insert,
    maps::{CGROUPS, PROCESSES, UIDS},
    task,
};

/// Deepest level of the cgroup tree that is looked at. systemd's own nesting ends at about 8.
pub const LEVELS: i32 = 16;

/// The agent that the calling process is of.
#[inline(always)]
pub fn agent(offsets: &Offsets) -> Option<u32> {
    if let Some(process) = known(offsets) {
        return Some(process.agent);
    }
    let agent = by_owner()?;
    // It came into scope without an exec: from here on it is known.
    insert(&task::topmost(task::current(offsets), agent));
    Some(agent)
}

/// The calling process, where it is in the table.
#[inline(always)]
pub fn known(offsets: &Offsets) -> Option<&'static Process> {
    let tgid = task::current_tgid();
    // SAFETY: the daemon adds entries only where there are none, and the programs replace the entry
    // of a process in its own context only; what is read from it is copied at once.
    let process = unsafe { PROCESSES.get(&tgid) }?;
    task::same(&process.key, &task::current(offsets)).then_some(process)
}

/// The agent whose user id or cgroup the calling process has.
#[inline(always)]
pub fn by_owner() -> Option<u32> {
    if let Some(agent) = by_uid(bpf_get_current_uid_gid() as u32) {
        return Some(agent);
    }
    // From the root down: the outermost selected group names the agent.
    for level in 0..LEVELS {
        // SAFETY: the helper takes any level and answers 0 for one that does not exist.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            break;
        }
        // SAFETY: the value is copied at once; entries are replaced whole.
        if let Some(agent) = unsafe { CGROUPS.get(&id) } {
            return Some(*agent);
        }
    }
    None
}

/// The agent that has a user id.
#[inline(always)]
pub fn by_uid(uid: u32) -> Option<u32> {
    UIDS.get(&Key::new(32, Uid { bytes: uid.to_be_bytes() })).copied()
}
