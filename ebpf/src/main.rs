//! chaperone's kernel side: one hook a file.
//!
//! Everything here runs in the context of the process that made the system call, or of the socket
//! that it belongs to. Decisions are made from kernel state alone.
#![no_std]
#![no_main]

mod bind;
mod cgroup;
mod connect;
mod datagram;
mod exec;
mod exit;
mod fork;
mod guard;
mod maps;
mod option;
mod packet;
mod peername;
mod process;
mod receive;
mod scope;
mod socket;
mod sockops;
mod target;
mod task;
mod tell;
mod unix;

/// `bpf_probe_read_kernel` and `bpf_get_current_task` ask for a licence on the kernel's list
/// (include/linux/license.h); this folder is under MIT or GPL-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program that can reach this.
    loop {}
}
