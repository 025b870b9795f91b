//! What the daemon may do (capabilities(7)): it gives up all that it does not need before it opens or
//! starts anything. Each thread and process that it starts has no more.
//!
//! Does not belong here: what the reader of statements gives up (`chaperone-sql`), which is all.

use anyhow::{Context, Result};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// For serving where another process loaded the programs: to see what agents' processes are
/// (`SYS_PTRACE`) and read their files (`DAC_READ_SEARCH`), to start readers of statements that become
/// nobody (`SETUID`, `SETGID`), and to end them (`KILL`).
const SERVING: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL);

/// Beside these, for loading and attaching: the programs (`BPF`, `PERFMON`, `NET_ADMIN`; `SYS_ADMIN`
/// and `SYS_RESOURCE` on older kernels), ending connections (`NET_ADMIN`), and folders for logs that
/// others own (`DAC_OVERRIDE`).
const LOADING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::DAC_OVERRIDE);

/// Before this release all of bpf(2) asks for the capability where unprivileged programs are off.
const USES_MAPS_FREELY: (u32, u32) = (5, 19);

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Serving,
    Loading,
}

/// Gives up all but what is kept, and the way to get it back. Called before there are other threads,
/// because capabilities are each thread's own.
pub(crate) fn give_up(keep: Keep, release: (u32, u32)) -> Result<()> {
    let kept = match keep {
        Keep::Loading => SERVING | LOADING,
        Keep::Serving if release < USES_MAPS_FREELY => SERVING | CapabilitySet::BPF,
        Keep::Serving => SERVING,
    };
    let failed = "privileges cannot be given up";
    for capability in CapabilitySet::all().iter() {
        // Those that this kernel does not know are an error, and are no privilege.
        let has = capability_is_in_bounding_set(capability).unwrap_or(false);
        if has && !kept.contains(capability) {
            remove_capability_from_bounding_set(capability).context(failed)?;
        }
    }
    let now = capabilities(None).context(failed)?;
    let sets = CapabilitySets {
        effective: now.effective & kept,
        permitted: now.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).context(failed)
}
