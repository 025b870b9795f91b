//! An agent's process runs another program.

use aya_ebpf::{
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_task, bpf_get_current_uid_gid,
        bpf_ktime_get_boot_ns,
        generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use chaperone_abi::{ARGUMENTS, Counter, EVENT_EXEC, Event, Exec, FILENAME, Offsets, Process};

use crate::{
    exit::wakeup,
    fork::insert,
    maps::{EVENTS, SETTINGS, count},
    scope, task,
};

/// `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`, in the context of
/// the process, which has its new program and has not run an instruction of it (fs/exec.c,
/// exec_binprm).
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn chaperone_exec(ctx: RawTracePointContext) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    let offsets = &settings.offsets;
    if offsets.group_leader == 0 {
        return 0;
    }
    let process = match scope::known(offsets) {
        Some(process) => {
            let owner = bpf_get_current_uid_gid();
            Process {
                key: task::current(offsets),
                // SAFETY: the helper reads the current task only.
                cgroup_id: unsafe { bpf_get_current_cgroup_id() },
                uid: owner as u32,
                gid: (owner >> 32) as u32,
                ..*process
            }
        }
        None => {
            let Some(agent) = scope::by_owner() else { return 0 };
            task::topmost(task::current(offsets), agent)
        }
    };
    insert(&process);
    let program: *const u8 = ctx.arg(2);
    tell(offsets, process, program);
    0
}

#[inline(always)]
fn tell(offsets: &Offsets, process: Process, program: *const u8) {
    let Some(mut entry) = EVENTS.reserve_untyped::<Exec>(0) else {
        count(Counter::EventsLost);
        return;
    };
    let exec = entry.as_mut_ptr();
    let filename: *const u8 = task::field(program, offsets.filename, core::ptr::null());
    // SAFETY: `exec` points to reserved memory of its size; every field is written before it is
    // submitted. The probe reads write at most as many bytes as they are told, and fail with an
    // error on a bad address.
    unsafe {
        (*exec).event =
            Event { at_ns: bpf_ktime_get_boot_ns(), process, kind: EVENT_EXEC, reserved: 0 };
        (*exec).image = task::image(offsets);
        (*exec).reserved = 0;
        let name = core::ptr::addr_of_mut!((*exec).filename);
        if bpf_probe_read_kernel_str(name.cast(), FILENAME as u32, filename.cast()) < 0 {
            (*exec).filename[0] = 0;
        }
        let mm: *const u8 =
            task::field(bpf_get_current_task() as *const u8, offsets.mm, core::ptr::null());
        let start: u64 = task::field(mm, offsets.arg_start, 0);
        let end: u64 = task::field(mm, offsets.arg_end, 0);
        let mut length = end.wrapping_sub(start) as u32;
        if end <= start || end - start > ARGUMENTS as u64 {
            length = ARGUMENTS as u32;
        }
        let arguments = core::ptr::addr_of_mut!((*exec).arguments);
        let read = bpf_probe_read_user(arguments.cast(), length, start as *const _);
        (*exec).arguments_len = if read == 0 { length } else { 0 };
    }
    entry.submit(wakeup());
}
