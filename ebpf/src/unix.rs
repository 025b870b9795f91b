//! Unix sockets of targets (BPF LSM): refused, with the advice to use TCP.
//!
//! What counts is the name under which the server bound its socket, or the file that it is, and not
//! what the client called it: links and mounts of its own lead an agent nowhere else.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel, macros::lsm, programs::LsmContext};
use chaperone_abi::{Counter, Offsets, SocketFile, UNIX_NAME};

use crate::{
    maps::{SETTINGS, UNIX_FILES, UNIX_NAMES},
    scope,
    task::field,
    tell::{self, Attempt},
};

const EACCES: i32 = 13;
/// Bytes of a `sockaddr_un` before its name.
const FAMILY: u32 = 2;

/// `LSM_HOOK(int, 0, unix_stream_connect, struct sock *sock, struct sock *other, struct sock *newsk)`.
#[lsm(hook = "unix_stream_connect")]
pub fn chaperone_lsm_unix_connect(ctx: LsmContext) -> i32 {
    let before: i32 = ctx.arg(3);
    if before != 0 {
        return before;
    }
    refuse(ctx.arg(1))
}

/// `LSM_HOOK(int, 0, unix_may_send, struct socket *sock, struct socket *other)`.
#[lsm(hook = "unix_may_send")]
pub fn chaperone_lsm_unix_send(ctx: LsmContext) -> i32 {
    let before: i32 = ctx.arg(2);
    if before != 0 {
        return before;
    }
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    refuse(field(ctx.arg(1), settings.offsets.sk, core::ptr::null()))
}

#[inline(always)]
fn refuse(server: *const u8) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    let offsets = &settings.offsets;
    let Some(agent) = scope::agent(offsets) else { return 0 };
    // On the stack: a security module may be held up by another that runs on the same CPU, which
    // would write to the same room.
    let mut name = [0; UNIX_NAME];
    bound(offsets, server, &mut name);
    // SAFETY: the values are copied at once; entries are replaced whole.
    let target = match unsafe { UNIX_NAMES.get(&name) }.copied() {
        Some(target) => Some(target),
        None => {
            let file = file(offsets, server);
            // SAFETY: as above.
            unsafe { UNIX_FILES.get(&file) }.copied()
        }
    };
    let Some(target) = target else { return 0 };
    let attempt =
        Attempt { reason: Counter::RefusedUnix, target, address: [0; 4], port: 0, protocol: 0 };
    tell::with_name(settings, agent, &attempt, Some(&name));
    -EACCES
}

/// Writes the name that a socket is bound to into room that is all NUL.
#[inline(always)]
fn bound(offsets: &Offsets, sock: *const u8, name: &mut [u8; UNIX_NAME]) {
    let address: *const u8 = field(sock, offsets.unix_addr, core::ptr::null());
    if address.is_null() {
        return;
    }
    let length = field::<i32>(address, offsets.address_len, 0) as u32;
    if length <= FAMILY || length > FAMILY + UNIX_NAME as u32 {
        return;
    }
    let from = address.wrapping_add((offsets.address_name + FAMILY) as usize);
    // SAFETY: at most so many bytes are written as there is room; bad addresses are answered with an
    // error.
    unsafe {
        let length = (length - FAMILY) & 0x7f;
        if length <= UNIX_NAME as u32 {
            bpf_probe_read_kernel(name.as_mut_ptr().cast(), length, from.cast());
        }
    }
}

/// The file that a socket is.
#[inline(always)]
fn file(offsets: &Offsets, sock: *const u8) -> SocketFile {
    let null = core::ptr::null::<u8>();
    let entry: *const u8 = field(sock, offsets.unix_dentry, null);
    let inode: *const u8 = field(entry, offsets.d_inode, null);
    let superblock: *const u8 = field(inode, offsets.i_sb, null);
    SocketFile {
        inode: field(inode, offsets.i_ino, 0),
        device: field(superblock, offsets.s_dev, 0),
        reserved: 0,
    }
}
