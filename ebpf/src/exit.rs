//! An agent's process ends.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_task, bpf_ktime_get_boot_ns, generated::bpf_ringbuf_query},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use chaperone_abi::{Counter, EVENT_EXIT, Event, limits};

use crate::{
    maps::{EVENTS, PROCESSES, SETTINGS, count},
    scope, task,
};

/// `TP_PROTO(struct task_struct *p, …)`, in the context of the thread that ends (kernel/exit.c,
/// do_exit).
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn chaperone_exit(_ctx: RawTracePointContext) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    let offsets = &settings.offsets;
    if offsets.group_leader == 0 {
        return 0;
    }
    let Some(process) = scope::known(offsets) else { return 0 };
    // SAFETY: the helper answers the task that runs this program.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let signal: *const u8 = task::field(task, offsets.signal, core::ptr::null());
    // Counted down before this point; other threads of the process may go on.
    let live: i32 = task::field(signal, offsets.live, 0);
    if live > 0 {
        return 0;
    }
    let process = *process;
    let event = Event {
        // SAFETY: the helper reads a clock.
        at_ns: unsafe { bpf_ktime_get_boot_ns() },
        process,
        kind: EVENT_EXIT,
        reserved: 0,
    };
    if EVENTS.output(&event, wakeup()).is_err() {
        count(Counter::EventsLost);
    }
    // It is there: nobody else removes it.
    let _ = PROCESSES.remove(&process.key.tgid);
    0
}

/// The daemon reads when a connection comes, and now and then; only where much is waiting is it
/// woken.
#[inline(always)]
pub fn wakeup() -> u64 {
    // SAFETY: the helper reads the map's counters.
    let waiting = unsafe {
        bpf_ringbuf_query(
            core::ptr::addr_of!(EVENTS).cast_mut().cast(),
            u64::from(BPF_RB_AVAIL_DATA),
        )
    };
    let flag =
        if waiting > limits::EVENTS as u64 / 4 { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    u64::from(flag)
}
