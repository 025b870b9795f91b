//! The maps. The daemon fills `SETTINGS`, `UIDS`, `PATHS`, `UNITS`, `TARGETS4`, `TARGETS6`, `HOSTS`,
//! `EGRESS`, `REACH`, `UNIX_NAMES` and `UNIX_FILES`, and begins `CGROUPS`, `SLICES` and `PROCESSES` with what was there before the programs.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, SkStorage},
    macros::btf_map,
};
use chaperone_abi::{
    Address, CGROUP_PATH, COUNTERS, Counter, Event, FlowKey, Note, Owner, Process, Reach, Settings,
    SocketFile, Stopped, Target4, Target6, UNIT_NAME, UNIX_NAME, Uid, limits,
};

#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();

/// User ids in scope → agent.
#[btf_map]
pub static UIDS: LpmTrie<Uid, u32, { limits::UIDS }> = LpmTrie::new();

/// Cgroups in scope, with all below them → agent.
#[btf_map]
pub static CGROUPS: HashMap<u64, u32, { limits::CGROUPS }> = HashMap::new();

/// Paths of cgroups that come into scope when they are made → agent.
#[btf_map]
pub static PATHS: HashMap<[u8; CGROUP_PATH], u32, { limits::NAMES }> = HashMap::new();

/// Names of units whose cgroups come into scope when they are made → agent.
#[btf_map]
pub static UNITS: HashMap<[u8; UNIT_NAME], u32, { limits::NAMES }> = HashMap::new();

/// Cgroups in which the system's service manager alone makes others: the root, and slices in them.
/// A unit's name counts nowhere else, because users make what they like in what is theirs.
#[btf_map]
pub static SLICES: HashMap<u64, u32, { limits::SLICES }> = HashMap::new();

/// Room for a path, which is too long for the stack.
#[btf_map]
pub static PATH: PerCpuArray<[u8; CGROUP_PATH], 1> = PerCpuArray::new();

/// Live processes of agents, by their process id.
#[btf_map]
pub static PROCESSES: HashMap<u32, Process, { limits::PROCESSES }> = HashMap::new();

/// Execs and exits, for the daemon.
#[btf_map]
pub static EVENTS: RingBuf<Event, { limits::EVENTS }> = RingBuf::new();

/// Watched IPv4 addresses → target.
#[btf_map]
pub static TARGETS4: LpmTrie<Target4, u32, { limits::TARGETS }> = LpmTrie::new();

/// Watched IPv6 addresses → target.
#[btf_map]
pub static TARGETS6: LpmTrie<Target6, u32, { limits::TARGETS }> = LpmTrie::new();

/// Watched addresses, whatever the port → target.
#[btf_map]
pub static HOSTS: LpmTrie<Address, u32, { limits::TARGETS * 2 }> = LpmTrie::new();

/// Agents whose connections to unlisted places are recorded or refused → which of the two.
#[btf_map]
pub static EGRESS: HashMap<u32, u32, { limits::EGRESS }> = HashMap::new();

/// What those agents may reach beside the targets.
#[btf_map]
pub static REACH: LpmTrie<Reach, u32, { limits::REACH }> = LpmTrie::new();

/// Names of targets' Unix sockets, as their servers bound them → target.
#[btf_map]
pub static UNIX_NAMES: HashMap<[u8; UNIX_NAME], u32, { limits::UNIX_SOCKETS }> = HashMap::new();

/// Files of targets' Unix sockets → target.
#[btf_map]
pub static UNIX_FILES: HashMap<SocketFile, u32, { limits::UNIX_SOCKETS }> = HashMap::new();

/// Whose a socket is; it goes with the socket, and sockets that a listening one accepts have it too.
#[btf_map]
pub static OWNERS: Inherited<Owner> = Inherited::new();

/// What was stopped, for the daemon.
#[btf_map]
pub static STOPPED: RingBuf<Stopped, { limits::STOPPED }> = RingBuf::new();

/// A redirected socket's note; it goes with the socket.
#[btf_map]
pub static NOTES: SkStorage<Note> = SkStorage::new();

/// Notes between the SYN and the daemon's accept. A plain hash and no LRU: an agent that floods
/// must not push out others' notes.
#[btf_map]
pub static FLOWS: HashMap<FlowKey, Note, { limits::FLOWS }> = HashMap::new();

#[btf_map]
pub static COUNTS: PerCpuArray<u64, { COUNTERS as usize }> = PerCpuArray::new();

pub fn count(counter: Counter) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the pointer is this CPU's own slot, and programs are not preempted by themselves.
        unsafe { *value += 1 };
    }
}

/// Socket storage that accepted sockets take over from the one that listens, which aya's does not
/// offer. The layout is that of a map's definition (libbpf's documentation, "BTF-defined maps").
#[repr(C)]
pub struct Inherited<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the pointers are the loader's business, and never followed.
unsafe impl<T> Sync for Inherited<T> {}

impl<T> Inherited<T> {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }

    /// The map, as helpers take it.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut c_void {
        core::ptr::from_ref(self).cast_mut().cast()
    }
}
