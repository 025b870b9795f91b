//! Cgroups come into scope as they are made, before a process can be in them, and go out of it when
//! they are removed: their ids are never used again.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str, macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use chaperone_abi::{CGROUP_PATH, Counter, Offsets, UNIT_NAME};

use crate::{
    maps::{CGROUPS, PATH, PATHS, SETTINGS, SLICES, UNITS, count},
    task::field,
};

const SLICE: &[u8; 6] = b".slice";

/// `TP_PROTO(struct cgroup *cgrp, const char *path)` (include/trace/events/cgroup.h).
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub fn chaperone_mkdir(ctx: RawTracePointContext) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    let offsets = &settings.offsets;
    let cgroup: *const u8 = ctx.arg(0);
    let path: *const u8 = ctx.arg(1);
    let Some(id) = unified(offsets, cgroup) else { return 0 };
    let agent = match by_name(offsets, cgroup, id) {
        Some(agent) => Some(agent),
        None => by_path(path),
    };
    if let Some(agent) = agent
        && CGROUPS.insert(&id, &agent, 0).is_err()
    {
        count(Counter::CgroupsFull);
    }
    0
}

/// As above.
#[raw_tracepoint(tracepoint = "cgroup_rmdir")]
pub fn chaperone_rmdir(ctx: RawTracePointContext) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    let Some(id) = unified(&settings.offsets, ctx.arg(0)) else { return 0 };
    // Most are in neither.
    let _ = CGROUPS.remove(&id);
    let _ = SLICES.remove(&id);
    0
}

/// The id of a cgroup of the unified hierarchy, which is number 0; others are version 1's.
#[inline(always)]
fn unified(offsets: &Offsets, cgroup: *const u8) -> Option<u64> {
    if offsets.kn == 0 {
        return None;
    }
    let root: *const u8 = field(cgroup, offsets.root, core::ptr::null());
    if field::<i32>(root, offsets.hierarchy_id, -1) != 0 {
        return None;
    }
    Some(id(offsets, cgroup)).filter(|id| *id != 0)
}

#[inline(always)]
fn id(offsets: &Offsets, cgroup: *const u8) -> u64 {
    let node: *const u8 = field(cgroup, offsets.kn, core::ptr::null());
    field(node, offsets.kn_id, 0)
}

/// A unit, where the service manager alone makes cgroups.
#[inline(always)]
fn by_name(offsets: &Offsets, cgroup: *const u8, own: u64) -> Option<u32> {
    // A cgroup begins with its own `cgroup_subsys_state`, whose parent is the parent's.
    let parent: *const u8 = field(cgroup, offsets.css_parent, core::ptr::null());
    let parent = id(offsets, parent);
    // SAFETY: nothing is read from the value.
    unsafe { SLICES.get(&parent) }?;
    let node: *const u8 = field(cgroup, offsets.kn, core::ptr::null());
    let text: *const u8 = field(node, offsets.kn_name, core::ptr::null());
    let mut name = [0_u8; UNIT_NAME];
    // SAFETY: at most so many bytes are written, and bad addresses are answered with an error.
    let length = unsafe {
        bpf_probe_read_kernel_str(name.as_mut_ptr().cast(), UNIT_NAME as u32, text.cast())
    };
    // It counts the NUL. A longer name is cut, and no unit's that is looked for.
    let end = length as usize;
    if (SLICE.len() + 1..=UNIT_NAME).contains(&end) {
        let from = end - 1 - SLICE.len();
        let mut is_slice = true;
        for (at, byte) in SLICE.iter().enumerate() {
            // The mask changes nothing, and is what the verifier of older kernels understands.
            is_slice &= name[(from + at) & (UNIT_NAME - 1)] == *byte;
        }
        if is_slice && SLICES.insert(&own, &0, 0).is_err() {
            count(Counter::CgroupsFull);
        }
    }
    // SAFETY: the value is copied at once; entries are replaced whole.
    unsafe { UNITS.get(&name) }.copied()
}

#[inline(always)]
fn by_path(path: *const u8) -> Option<u32> {
    let room = PATH.get_ptr_mut(0)?;
    // SAFETY: the room is this CPU's own, and sized by the map; the rest as above.
    unsafe {
        *room = [0; CGROUP_PATH];
        if bpf_probe_read_kernel_str(room.cast(), CGROUP_PATH as u32, path.cast()) < 0 {
            return None;
        }
        PATHS.get(&*room).copied()
    }
}
