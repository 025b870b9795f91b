//! Structures that the kernel side and the daemon share: plain, unpadded, without logic.
//!
//! A change of any of them needs a new [`VERSION`], because maps outlive the daemon that made them.
#![no_std]

/// Version of the maps' layouts; part of the folder in which they are pinned.
pub const VERSION: u32 = 1;

/// `AF_INET` (include/linux/socket.h).
pub const AF_INET: u16 = 2;
/// `AF_INET6` (include/linux/socket.h).
pub const AF_INET6: u16 = 10;

/// What the kernel notes about a connection that it redirects.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The socket's cookie, unique until reboot.
    pub cookie: u64,
    /// `ktime_get_boot_ns` at `connect(2)`: nanoseconds since boot, suspend included.
    pub connected_ns: u64,
    /// The process's `start_boottime`: nanoseconds since boot.
    pub started_ns: u64,
    /// Id of the process's cgroup v2.
    pub cgroup_id: u64,
    /// Thread group id (what user space calls the process id).
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The address that was asked for, IPv4 in its mapped form: words in memory order, so that the
    /// bytes are in network order.
    pub address: [u32; 4],
    /// The agent: an index into the daemon's list.
    pub agent: u32,
    /// The target: an index into the daemon's list.
    pub target: u32,
    /// The port that was asked for, in host byte order.
    pub port: u16,
    /// `AF_INET` or `AF_INET6`: the family of the call.
    pub family: u16,
    /// Configuration generation that `agent` and `target` belong to.
    pub generation: u32,
    /// The thread's name, `TASK_COMM_LEN` bytes, padded with NUL.
    pub comm: [u8; 16],
}

/// The end of a redirected connection, as both the agent's socket and the daemon's see it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// The agent's address, as in [`Note`].
    pub address: [u32; 4],
    /// The agent's port, in host byte order.
    pub port: u32,
    /// Zero.
    pub reserved: u32,
}

/// What the programs need to know and what does not change while the daemon runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Cookie of the network namespace in which the daemon listens.
    pub netns: u64,
    /// Offset of `group_leader` in `struct task_struct`, in bytes.
    pub group_leader: u32,
    /// Offset of `start_boottime` in `struct task_struct`, in bytes.
    pub start_boottime: u32,
    /// The port on which the daemon listens on 127.0.0.1 and `::1`, in host byte order.
    pub port: u32,
    /// Configuration generation.
    pub generation: u32,
}

/// Key of the targets' trie for IPv4: the port (network byte order) first, so that a target on any
/// address is a prefix of 16 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target4 {
    /// Port, network byte order.
    pub port: [u8; 2],
    /// Zero; it takes part in the prefix and keeps values aligned.
    pub reserved: [u8; 2],
    /// Address: a word in memory order, so that the bytes are in network order.
    pub address: u32,
}

/// As [`Target4`], for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target6 {
    /// Port, network byte order.
    pub port: [u8; 2],
    /// Zero.
    pub reserved: [u8; 2],
    /// Address: words in memory order.
    pub address: [u32; 4],
}

/// Bits of a target key before its address.
pub const TARGET_PORT_BITS: u32 = 32;

/// Steps that are counted, each an index into the counters' array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A connection of an agent was redirected.
    Redirected = 0,
    /// Refused: the agent's network namespace is not the daemon's.
    RefusedNamespace = 1,
    /// Refused: no room for the note.
    RefusedNoteFull = 2,
    /// Refused: the daemon's settings are not there.
    RefusedNoSettings = 3,
    /// The note could not be handed over, because the map of flows is full; the daemon resets it.
    FlowFull = 4,
    /// A redirected connection was never established: the daemon is down or does not keep up.
    FlowAbandoned = 5,
    /// Refused: an agent connected to the daemon's own port.
    RefusedOwnPort = 6,
}

/// Number of counters.
pub const COUNTERS: u32 = 7;

/// Maximal numbers of entries.
pub mod limits {
    /// User ids in scope.
    pub const UIDS: usize = 4096;
    /// Cgroups in scope.
    pub const CGROUPS: usize = 16384;
    /// Entries of each targets' trie.
    pub const TARGETS: usize = 16384;
    /// Connections between `connect(2)` and the daemon's accept.
    pub const FLOWS: usize = 65536;
}

const _: () = {
    assert!(size_of::<Note>() == 96);
    assert!(size_of::<FlowKey>() == 32);
    assert!(size_of::<Settings>() == 24);
    assert!(size_of::<Target4>() == 8);
    assert!(size_of::<Target6>() == 20);
};
