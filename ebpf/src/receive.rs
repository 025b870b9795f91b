//! Sockets that others connected to a target (BPF LSM): an agent's process neither takes such a
//! descriptor (`SCM_RIGHTS`, pidfd_getfd(2)) nor sends by one that it has otherwise.
//!
//! Sessions by the daemon have its address at their other end, so that they are none of these.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use chaperone_abi::{AF_INET, AF_INET6, Counter, Offsets};

use crate::{
    maps::SETTINGS,
    scope,
    target::{mapped, target},
    task::field,
    tell::{self, Attempt},
};

const EACCES: i32 = 13;

/// `S_IFMT` and `S_IFSOCK` (include/uapi/linux/stat.h).
const KIND: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;
/// `SOCKFS_MAGIC` (include/uapi/linux/magic.h): other files of this kind are names of Unix sockets.
const SOCKFS: u64 = 0x534f_434b;

/// `LSM_HOOK(int, 0, file_receive, struct file *file)`.
#[lsm(hook = "file_receive")]
pub fn chaperone_lsm_receive(ctx: LsmContext) -> i32 {
    let before: i32 = ctx.arg(1);
    if before != 0 {
        return before;
    }
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    let offsets = &settings.offsets;
    let null = core::ptr::null::<u8>();
    let file: *const u8 = ctx.arg(0);
    let inode: *const u8 = field(file, offsets.f_inode, null);
    if field::<u16>(inode, offsets.i_mode, 0) & KIND != SOCKET {
        return 0;
    }
    let superblock: *const u8 = field(inode, offsets.i_sb, null);
    if field::<u64>(superblock, offsets.s_magic, 0) != SOCKFS {
        return 0;
    }
    refuse(field(file, offsets.private_data, null))
}

/// `LSM_HOOK(int, 0, socket_sendmsg, struct socket *sock, struct msghdr *msg, int size)`.
#[lsm(hook = "socket_sendmsg")]
pub fn chaperone_lsm_send(ctx: LsmContext) -> i32 {
    let before: i32 = ctx.arg(3);
    if before != 0 {
        return before;
    }
    refuse(ctx.arg(0))
}

#[inline(always)]
fn refuse(socket: *const u8) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    let offsets = &settings.offsets;
    // The other end first: most sockets of a host lead to no target.
    let Some((address, port)) = peer(offsets, socket) else { return 0 };
    let Some(target) = target(&address, port) else { return 0 };
    let Some(agent) = scope::agent(offsets) else { return 0 };
    let reason = Counter::RefusedPassed;
    tell::of_process(settings, agent, &Attempt { reason, target, address, port, protocol: 6 });
    -EACCES
}

/// The other end of a socket that has one.
#[inline(always)]
fn peer(offsets: &Offsets, socket: *const u8) -> Option<([u32; 4], u16)> {
    let sock: *const u8 = field(socket, offsets.sk, core::ptr::null());
    let family: u16 = field(sock, offsets.skc_family, 0);
    let address = if family == AF_INET {
        mapped(field(sock, offsets.skc_daddr, 0))
    } else if family == AF_INET6 {
        field(sock, offsets.skc_v6_daddr, [0; 4])
    } else {
        return None;
    };
    let port = u16::from_be(field(sock, offsets.skc_dport, 0));
    (port != 0).then_some((address, port))
}
