//! The maps. The daemon fills `SETTINGS`, `UIDS`, `PATHS`, `UNITS`, `TARGETS4` and `TARGETS6`, and
//! begins `CGROUPS`, `SLICES` and `PROCESSES` with what was there before the programs.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, SkStorage},
    macros::btf_map,
};
use chaperone_abi::{
    CGROUP_PATH, COUNTERS, Counter, Event, FlowKey, Note, Process, Settings, Target4, Target6,
    UNIT_NAME, Uid, limits,
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
