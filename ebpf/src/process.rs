//! ptrace(2) and what asks as it does, such as pidfd_getfd(2), process_vm_readv(2) and
//! `/proc/PID/mem` (BPF LSM): an agent's process reaches into the agent's own processes only. Others
//! may have what leads to targets.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use chaperone_abi::{Counter, NO_TARGET};

use crate::{
    maps::{PROCESSES, SETTINGS},
    scope,
    task::{self, field},
    tell::{self, Attempt},
};

const EPERM: i32 = 1;
/// `PTRACE_MODE_ATTACH` (include/linux/ptrace.h). Reading what `/proc` shows is left alone.
const ATTACH: u32 = 0x02;

/// `LSM_HOOK(int, 0, ptrace_access_check, struct task_struct *child, unsigned int mode)`.
#[lsm(hook = "ptrace_access_check")]
pub fn chaperone_lsm_trace(ctx: LsmContext) -> i32 {
    let before: i32 = ctx.arg(2);
    if before != 0 {
        return before;
    }
    let mode: u32 = ctx.arg(1);
    if mode & ATTACH == 0 {
        return 0;
    }
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    let offsets = &settings.offsets;
    let Some(agent) = scope::agent(offsets) else { return 0 };
    let other: *const u8 = ctx.arg(0);
    let tgid: u32 = field(other, offsets.tgid, 0);
    // SAFETY: what is read from the entry is copied at once.
    let own = unsafe { PROCESSES.get(&tgid) }.is_some_and(|process| {
        process.agent == agent && task::same(&process.key, &task::key(offsets, other))
    });
    if own {
        return 0;
    }
    let attempt = Attempt {
        reason: Counter::RefusedTrace,
        target: NO_TARGET,
        address: [tgid, 0, 0, 0],
        port: 0,
        protocol: 0,
    };
    tell::of_process(settings, agent, &attempt);
    -EPERM
}
