//! Reading tasks, by offsets that the daemon read from the running kernel's BTF.
//!
//! A field that cannot be read is 0: whoever needs it refuses.

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
    bpf_get_current_uid_gid, bpf_probe_read_kernel,
};
use chaperone_abi::{Image, Offsets, Process, ProcessKey};

/// `USER_HZ` is 100: the daemon sees starts in such ticks (proc(5), `starttime`).
const TICK_NS: u64 = 1_000_000_000 / 100;

/// The calling process.
#[inline(always)]
pub fn current(offsets: &Offsets) -> ProcessKey {
    // SAFETY: the helper answers the task that runs this program.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    ProcessKey { tgid: current_tgid(), ..key(offsets, task) }
}

#[inline(always)]
pub fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The process that a task belongs to.
#[inline(always)]
pub fn key(offsets: &Offsets, task: *const u8) -> ProcessKey {
    let leader: *const u8 = field(task, offsets.group_leader, core::ptr::null());
    ProcessKey {
        started_ns: field(leader, offsets.start_boottime, 0),
        exec_id: field(task, offsets.self_exec_id, 0),
        tgid: field(task, offsets.tgid, 0),
        reserved: 0,
    }
}

/// The calling process as the topmost of an agent.
#[inline(always)]
pub fn topmost(key: ProcessKey, agent: u32) -> Process {
    let owner = bpf_get_current_uid_gid();
    Process {
        key,
        parent: ProcessKey { started_ns: 0, exec_id: 0, tgid: 0, reserved: 0 },
        // SAFETY: the helper reads the current task only.
        cgroup_id: unsafe { bpf_get_current_cgroup_id() },
        uid: owner as u32,
        gid: (owner >> 32) as u32,
        agent,
        reserved: 0,
    }
}

/// Whether two keys are of one process. The daemon knows starts of before the programs in ticks.
#[inline(always)]
pub fn same(a: &ProcessKey, b: &ProcessKey) -> bool {
    a.tgid == b.tgid && a.started_ns / TICK_NS == b.started_ns / TICK_NS
}

/// The file that the calling process runs.
#[inline(always)]
pub fn image(offsets: &Offsets) -> Image {
    let null = core::ptr::null::<u8>();
    // SAFETY: the helper answers the task that runs this program.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let mm: *const u8 = field(task, offsets.mm, null);
    let file: *const u8 = field(mm, offsets.exe_file, null);
    let inode: *const u8 = field(file, offsets.f_inode, null);
    let superblock: *const u8 = field(inode, offsets.i_sb, null);
    Image {
        inode: field(inode, offsets.i_ino, 0),
        size: field(inode, offsets.i_size, 0),
        mtime_s: field(inode, offsets.mtime_s, 0),
        ctime_s: field(inode, offsets.ctime_s, 0),
        mtime_ns: field(inode, offsets.mtime_ns, 0),
        ctime_ns: field(inode, offsets.ctime_ns, 0),
        device: field(superblock, offsets.s_dev, 0),
        reserved: 0,
    }
}

/// A field of a kernel structure.
#[inline(always)]
pub fn field<T: Copy>(structure: *const u8, offset: u32, otherwise: T) -> T {
    if structure.is_null() {
        return otherwise;
    }
    // SAFETY: probe reads fail with an error on a bad address and fault nothing.
    unsafe {
        bpf_probe_read_kernel(structure.wrapping_add(offset as usize).cast::<T>())
            .unwrap_or(otherwise)
    }
}
