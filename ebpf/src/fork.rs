//! What an agent's process forks is an agent's process.

use aya_ebpf::{
    helpers::{bpf_get_current_cgroup_id, bpf_get_current_uid_gid},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use chaperone_abi::{Counter, Process};

use crate::{
    maps::{PROCESSES, SETTINGS, count},
    scope, task,
};

/// `TP_PROTO(struct task_struct *parent, struct task_struct *child)`, in the parent's context and
/// before the child runs (include/trace/events/sched.h; kernel/fork.c, kernel_clone).
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn chaperone_fork(ctx: RawTracePointContext) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    let offsets = &settings.offsets;
    if offsets.group_leader == 0 {
        return 0;
    }
    let child: *const u8 = ctx.arg(1);
    let pid: u32 = task::field(child, offsets.pid, 0);
    let tgid: u32 = task::field(child, offsets.tgid, 0);
    if pid != tgid {
        // A thread.
        return 0;
    }
    let parent = match scope::known(offsets) {
        Some(process) => {
            // As it is now: it may have run another program, or changed its user, since.
            Process { key: task::current(offsets), ..*process }
        }
        None => {
            let Some(agent) = scope::by_owner() else { return 0 };
            let process = task::topmost(task::current(offsets), agent);
            insert(&process);
            process
        }
    };
    let owner = bpf_get_current_uid_gid();
    insert(&Process {
        key: task::key(offsets, child),
        parent: parent.key,
        // SAFETY: the helper reads the current task only.
        cgroup_id: unsafe { bpf_get_current_cgroup_id() },
        uid: owner as u32,
        gid: (owner >> 32) as u32,
        agent: parent.agent,
        reserved: 0,
    });
    0
}

/// Puts a process into the table.
#[inline(always)]
pub fn insert(process: &Process) {
    if PROCESSES.insert(&process.key.tgid, process, 0).is_err() {
        count(Counter::ProcessesFull);
    }
}
