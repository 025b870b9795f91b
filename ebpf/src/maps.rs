//! The maps. The daemon fills `SETTINGS`, `UIDS`, `CGROUPS`, `TARGETS4` and `TARGETS6`.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, SkStorage},
    macros::btf_map,
};
use chaperone_abi::{COUNTERS, Counter, FlowKey, Note, Settings, Target4, Target6, limits};

#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();

/// User ids in scope → agent.
#[btf_map]
pub static UIDS: HashMap<u32, u32, { limits::UIDS }> = HashMap::new();

/// Cgroups in scope, with all below them → agent.
#[btf_map]
pub static CGROUPS: HashMap<u64, u32, { limits::CGROUPS }> = HashMap::new();

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
