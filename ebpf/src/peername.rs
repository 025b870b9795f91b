//! `getpeername(2)` shows the server that was asked for.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use chaperone_abi::Note;

use crate::maps::NOTES;

const PASS: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub fn chaperone_getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(note) = noted(&ctx) {
        let a = note.address;
        // SAFETY: both fields are writable in this hook.
        unsafe {
            (*ctx.sock_addr).user_ip4 = a[3];
            (*ctx.sock_addr).user_port = u32::from(note.port.to_be());
        }
    }
    PASS
}

#[cgroup_sock_addr(getpeername6)]
pub fn chaperone_getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(note) = noted(&ctx) {
        let a = note.address;
        // SAFETY: the fields are writable in this hook, word by word.
        unsafe {
            (*ctx.sock_addr).user_ip6[0] = a[0];
            (*ctx.sock_addr).user_ip6[1] = a[1];
            (*ctx.sock_addr).user_ip6[2] = a[2];
            (*ctx.sock_addr).user_ip6[3] = a[3];
            (*ctx.sock_addr).user_port = u32::from(note.port.to_be());
        }
    }
    PASS
}

#[inline(always)]
fn noted(ctx: &SockAddrContext) -> Option<Note> {
    // SAFETY: the storage lives as long as the socket, which this call holds; the value is copied.
    unsafe { NOTES.get_ptr_mut(ctx).as_ref() }.copied()
}
