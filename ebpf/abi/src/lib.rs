//! Structures that the kernel side and the daemon share: plain, unpadded, without logic.
//!
//! A change of any of them needs a new [`VERSION`], because maps outlive the daemon that made them.
#![no_std]

/// Version of the maps' layouts; part of the folder in which they are pinned.
pub const VERSION: u32 = 4;

/// `AF_INET` (include/linux/socket.h).
pub const AF_INET: u16 = 2;
/// `AF_INET6` (include/linux/socket.h).
pub const AF_INET6: u16 = 10;

/// A process and what runs in it. With the boot's id it is never used again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// `task_struct.start_boottime` of the thread group's leader: nanoseconds since boot. It
    /// survives an exec.
    pub started_ns: u64,
    /// `task_struct.self_exec_id`: counts execs, and goes on from the parent's count. 0 where it is
    /// not known (a process that ran before the programs did).
    pub exec_id: u64,
    /// Thread group id in the initial pid namespace (what user space calls the process id); 0 for
    /// no process.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}

/// The file that a process runs (`mm_struct.exe_file`), as its inode was.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Image {
    /// `inode.i_ino`; 0 where its file system is one that a user made (FUSE, or mounted in a user
    /// namespace), whose word on what follows is the user's.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// Seconds since 1970 of the last change of the content.
    pub mtime_s: u64,
    /// Seconds since 1970 of the last change of content, owner, mode or name. Only the kernel sets
    /// it.
    pub ctime_s: u64,
    /// Nanoseconds within the second.
    pub mtime_ns: u32,
    /// Nanoseconds within the second.
    pub ctime_ns: u32,
    /// `super_block.s_dev`, as the kernel writes it: the minor number in the low 20 bits.
    pub device: u32,
    /// Zero.
    pub reserved: u32,
}

/// A live process of an agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// It.
    pub key: ProcessKey,
    /// The process that forked it, as it was then; all zero for the topmost of an agent.
    pub parent: ProcessKey,
    /// The agent's first process, from which it came; itself for that.
    pub topmost: ProcessKey,
    /// Id of its cgroup v2 at its last fork or exec.
    pub cgroup_id: u64,
    /// Real user id at that moment.
    pub uid: u32,
    /// Real group id at that moment.
    pub gid: u32,
    /// The agent, by the number that the daemon made of its name.
    pub agent: u32,
    /// Zero.
    pub reserved: u32,
}

/// A process of an agent ended, or began to run another program.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `ktime_get_boot_ns`.
    pub at_ns: u64,
    /// The process; for an exec as it is after it.
    pub process: Process,
    /// [`EVENT_EXIT`] or [`EVENT_EXEC`]; an exec is the head of an [`Exec`].
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

/// [`Event::kind`]: the last thread of the process ended.
pub const EVENT_EXIT: u32 = 1;
/// [`Event::kind`]: execve(2).
pub const EVENT_EXEC: u32 = 2;

/// Bytes of a file's name that are kept.
pub const FILENAME: usize = 256;
/// Bytes of arguments that are kept.
pub const ARGUMENTS: usize = 512;

/// What an exec began to run.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Which process.
    pub event: Event,
    /// The program's file; of a script its interpreter's.
    pub image: Image,
    /// Bytes of `arguments` that count.
    pub arguments_len: u32,
    /// Zero.
    pub reserved: u32,
    /// The name that was given to execve(2), of a script its own; ends with NUL.
    pub filename: [u8; FILENAME],
    /// The first bytes of the arguments, each ending with NUL, as they were at the exec.
    pub arguments: [u8; ARGUMENTS],
}

/// A cgroup's path from the root of its tree, ending with NULs.
pub const CGROUP_PATH: usize = 256;
/// A unit's name, ending with NULs.
pub const UNIT_NAME: usize = 128;

/// What the kernel notes about a connection that it redirects.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The socket's cookie, unique until reboot.
    pub cookie: u64,
    /// `ktime_get_boot_ns` at `connect(2)`: nanoseconds since boot, suspend included.
    pub connected_ns: u64,
    /// The process.
    pub process: ProcessKey,
    /// What it runs.
    pub image: Image,
    /// Id of the process's cgroup v2.
    pub cgroup_id: u64,
    /// Thread id.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The address that was asked for, IPv4 in its mapped form: words in memory order, so that the
    /// bytes are in network order.
    pub address: [u32; 4],
    /// The agent, by the number that the daemon made of its name.
    pub agent: u32,
    /// The target: an index into the daemon's list.
    pub target: u32,
    /// The port that was asked for, in host byte order.
    pub port: u16,
    /// `AF_INET` or `AF_INET6`: the family of the call.
    pub family: u16,
    /// Configuration generation that `agent` and `target` belong to.
    pub generation: u32,
    /// Zero.
    pub reserved: u32,
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

/// What is kept with a socket that a process of an agent made, as long as there is the socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The process that made it, or connected it last; all zero where neither was seen.
    pub process: ProcessKey,
    /// Id of that process's cgroup v2, or of the socket's own.
    pub cgroup_id: u64,
    /// `ktime_get_boot_ns` when a packet of it was last told of.
    pub told_ns: u64,
    /// The agent, by the number that the daemon made of its name.
    pub agent: u32,
    /// Real user id of the process, or of the socket.
    pub uid: u32,
    /// [`OWNER_CONNECTS`], [`OWNER_READ`] and [`OWNER_SPEAKS`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// The thread's name, as in [`Note`].
    pub comm: [u8; 16],
}

/// [`Owner::flags`]: this side connected, so that it speaks as a client.
pub const OWNER_CONNECTS: u32 = 1;
/// [`Owner::flags`]: its first bytes were looked at.
pub const OWNER_READ: u32 = 2;

/// [`Owner::flags`]: it began as PostgreSQL's protocol does, which is still to be told.
pub const OWNER_POSTGRES: u32 = 4;
/// [`Owner::flags`]: it began as SSH does, which is still to be told.
pub const OWNER_SSH: u32 = 8;
/// Either of the two.
pub const OWNER_SPEAKS: u32 = OWNER_POSTGRES | OWNER_SSH;

/// Bytes of a Unix socket's name (`sun_path`, unix(7)); an abstract one begins with NUL.
pub const UNIX_NAME: usize = 108;

/// Something that a process of an agent tried was stopped, or was only seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// `ktime_get_boot_ns`.
    pub at_ns: u64,
    /// The process that tried, or made or connected the socket; all zero where it is not known.
    pub process: ProcessKey,
    /// Its cgroup v2, or the socket's.
    pub cgroup_id: u64,
    /// The other end, as in [`Note`]; of a process that was to be traced its id, in the first word.
    pub address: [u32; 4],
    /// Real user id of the process, or of the socket.
    pub uid: u32,
    /// The agent, by the number that the daemon made of its name.
    pub agent: u32,
    /// The target: an index into the daemon's list, or [`NO_TARGET`].
    pub target: u32,
    /// Configuration generation that `agent` and `target` belong to.
    pub generation: u32,
    /// The [`Counter`] that says what it was.
    pub reason: u32,
    /// The protocol by its number (`IPPROTO_TCP`), for a socket that was not made the family in the
    /// high half and the protocol in the low one.
    pub protocol: u32,
    /// The other end's port, in host byte order.
    pub port: u16,
    /// Zero.
    pub reserved: u16,
    /// The thread's name, as in [`Note`].
    pub comm: [u8; 16],
    /// The Unix socket's name, where it is about one.
    pub name: [u8; UNIX_NAME],
}

/// [`Stopped::target`]: none.
pub const NO_TARGET: u32 = u32::MAX;

/// What is done where an agent goes elsewhere than to targets and what it may reach: it is recorded.
pub const EGRESS_RECORD: u32 = 1;
/// As above: what is not listed is refused.
pub const EGRESS_DENY: u32 = 2;

/// Kinds of socket that agents may not make: bits of [`Settings::deny_sockets`].
pub mod kinds {
    /// SCTP.
    pub const SCTP: u32 = 1;
    /// SMC, by its family, its protocol, or TCP made it (`TCP_ULP`).
    pub const SMC: u32 = 2;
    /// Raw IP sockets.
    pub const RAW: u32 = 4;
    /// Packet sockets.
    pub const PACKET: u32 = 8;
    /// Sockets to and from virtual machines.
    pub const VSOCK: u32 = 16;
    /// Multipath TCP.
    pub const MPTCP: u32 = 32;
}

/// What the programs need to know and what does not change while the daemon runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Cookie of the network namespace in which the daemon listens.
    pub netns: u64,
    /// Where the running kernel keeps what the programs read.
    pub offsets: Offsets,
    /// The port on which the daemon listens on 127.0.0.1 and `::1`, in host byte order.
    pub port: u32,
    /// Configuration generation.
    pub generation: u32,
    /// Kinds of socket that agents may not make: of [`kinds`].
    pub deny_sockets: u32,
    /// 1 where some agent's connections to unlisted places are recorded or refused, else 0.
    pub egress: u32,
}

/// Offsets in bytes of kernel fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.group_leader`.
    pub group_leader: u32,
    /// `task_struct.start_boottime`.
    pub start_boottime: u32,
    /// `task_struct.self_exec_id`.
    pub self_exec_id: u32,
    /// `task_struct.pid`.
    pub pid: u32,
    /// `task_struct.tgid`.
    pub tgid: u32,
    /// `task_struct.signal`.
    pub signal: u32,
    /// `task_struct.mm`.
    pub mm: u32,
    /// `signal_struct.live`.
    pub live: u32,
    /// `mm_struct.exe_file`.
    pub exe_file: u32,
    /// `mm_struct.arg_start`.
    pub arg_start: u32,
    /// `mm_struct.arg_end`.
    pub arg_end: u32,
    /// `file.f_inode`.
    pub f_inode: u32,
    /// `inode.i_ino`.
    pub i_ino: u32,
    /// `inode.i_sb`.
    pub i_sb: u32,
    /// `inode.i_size`.
    pub i_size: u32,
    /// The inode's mtime, seconds.
    pub mtime_s: u32,
    /// The inode's mtime, nanoseconds.
    pub mtime_ns: u32,
    /// The inode's ctime, seconds.
    pub ctime_s: u32,
    /// The inode's ctime, nanoseconds.
    pub ctime_ns: u32,
    /// `super_block.s_dev`.
    pub s_dev: u32,
    /// `super_block.s_magic`.
    pub s_magic: u32,
    /// `super_block.s_user_ns`.
    pub s_user_ns: u32,
    /// `user_namespace.level`.
    pub level: u32,
    /// `linux_binprm.filename`.
    pub filename: u32,
    /// `cgroup.root`.
    pub root: u32,
    /// `cgroup_root.hierarchy_id`.
    pub hierarchy_id: u32,
    /// `cgroup.kn`.
    pub kn: u32,
    /// `kernfs_node.id`.
    pub kn_id: u32,
    /// `kernfs_node.name`.
    pub kn_name: u32,
    /// `cgroup_subsys_state.parent`; a cgroup begins with its own (`cgroup.self`).
    pub css_parent: u32,
    /// `file.private_data`.
    pub private_data: u32,
    /// `inode.i_mode`.
    pub i_mode: u32,
    /// `socket.sk`.
    pub sk: u32,
    /// `sock.sk_uid`.
    pub sk_uid: u32,
    /// `sock_common.skc_family`; a `sock` begins with it.
    pub skc_family: u32,
    /// `sock_common.skc_daddr`.
    pub skc_daddr: u32,
    /// `sock_common.skc_dport`.
    pub skc_dport: u32,
    /// `sock_common.skc_v6_daddr`.
    pub skc_v6_daddr: u32,
    /// `unix_sock.addr`.
    pub unix_addr: u32,
    /// `unix_sock.path.dentry`.
    pub unix_dentry: u32,
    /// `dentry.d_inode`.
    pub d_inode: u32,
    /// `unix_address.len`.
    pub address_len: u32,
    /// `unix_address.name`.
    pub address_name: u32,
    /// Zero.
    pub reserved: u32,
}

/// Key of the trie of user ids.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid {
    /// Big-endian, so that a range is a prefix.
    pub bytes: [u8; 4],
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

/// Key of the trie of targets' addresses at any port, IPv4 in its mapped form.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Words in memory order.
    pub words: [u32; 4],
}

/// Key of the trie of what agents may reach beside the targets. Agent and port come first, so that
/// a port on any address is a prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reach {
    /// The agent's number.
    pub agent: u32,
    /// Port, network byte order.
    pub port: [u8; 2],
    /// Zero.
    pub reserved: [u8; 2],
    /// Address: words in memory order, IPv4 in its mapped form.
    pub address: [u32; 4],
}

/// Bits of a [`Reach`] before its address.
pub const REACH_BITS: u32 = 64;

/// Which file a Unix socket is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketFile {
    /// `inode.i_ino`.
    pub inode: u64,
    /// `super_block.s_dev`, as in [`Image`].
    pub device: u32,
    /// Zero.
    pub reserved: u32,
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
    /// A process of an agent is not in the table of processes, because that is full: what it forks
    /// is in scope by its user id or cgroup only.
    ProcessesFull = 7,
    /// An exec or exit was not told, because the daemon did not read the earlier ones.
    EventsLost = 8,
    /// A cgroup came into scope as it was made, and could not be put there: no room.
    CgroupsFull = 9,
    /// A packet of an agent's socket to a target was dropped: it did not go by the daemon.
    GuardOut = 10,
    /// A packet from a target to an agent's socket was dropped.
    GuardIn = 11,
    /// A packet of an agent's socket was dropped because it takes a way of its own (source routes)
    /// or cannot be read.
    GuardOdd = 12,
    /// Refused: to send or connect to a target by another protocol than TCP.
    RefusedProtocol = 13,
    /// Refused: to take the daemon's port.
    RefusedBind = 14,
    /// Refused: to make a socket of a kind that agents may not have.
    RefusedSocket = 15,
    /// Refused: to make another protocol of a TCP connection.
    RefusedOption = 16,
    /// Refused: to connect to a target's Unix socket.
    RefusedUnix = 17,
    /// Refused: to take or use a socket that others connected to a target.
    RefusedPassed = 18,
    /// Refused: to look or reach into a process that is not the agent's.
    RefusedTrace = 19,
    /// Refused: to connect or send to what is not listed.
    RefusedUnlisted = 20,
    /// An agent connected or sent to what is not listed.
    Unlisted = 21,
    /// An agent speaks PostgreSQL's protocol or SSH with what is no target.
    PassedBy = 22,
    /// What was stopped was not told, because the daemon did not read the earlier ones.
    StoppedLost = 23,
}

/// Number of counters.
pub const COUNTERS: u32 = 24;

/// Maximal numbers of entries.
pub mod limits {
    /// Prefixes of user ids in scope.
    pub const UIDS: usize = 4096;
    /// Paths of cgroups, and names of units, that come into scope when they are made.
    pub const NAMES: usize = 1024;
    /// Slices of the system's service manager.
    pub const SLICES: usize = 4096;
    /// Live processes of agents.
    pub const PROCESSES: usize = 65536;
    /// Bytes of events that the daemon has not read yet.
    pub const EVENTS: usize = 4 << 20;
    /// Cgroups in scope.
    pub const CGROUPS: usize = 16384;
    /// Entries of each targets' trie.
    pub const TARGETS: usize = 16384;
    /// Connections between `connect(2)` and the daemon's accept.
    pub const FLOWS: usize = 65536;
    /// Bytes of what was stopped that the daemon has not read yet.
    pub const STOPPED: usize = 512 << 10;
    /// Agents whose connections to unlisted places are recorded or refused.
    pub const EGRESS: usize = 1024;
    /// Entries of the trie of what agents may reach.
    pub const REACH: usize = 16384;
    /// Unix sockets of targets.
    pub const UNIX_SOCKETS: usize = 1024;
}

const _: () = {
    assert!(size_of::<ProcessKey>() == 24);
    assert!(size_of::<Image>() == 48);
    assert!(size_of::<Process>() == 96);
    assert!(size_of::<Event>() == 112);
    assert!(size_of::<Exec>() == 168 + FILENAME + ARGUMENTS);
    assert!(size_of::<Note>() == 160);
    assert!(size_of::<FlowKey>() == 32);
    assert!(size_of::<Offsets>() == 176);
    assert!(size_of::<Settings>() == 200);
    assert!(size_of::<Owner>() == 72);
    assert!(size_of::<Stopped>() == 208);
    assert!(size_of::<Address>() == 16);
    assert!(size_of::<Reach>() == 24);
    assert!(size_of::<SocketFile>() == 16);
    assert!(size_of::<Target4>() == 8);
    assert!(size_of::<Target6>() == 20);
};
