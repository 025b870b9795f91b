//! `socket(2)`: agents make no sockets of kinds that they have no use for, and those that they make
//! are known for theirs.

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_uid_gid,
        generated::bpf_sk_storage_get,
    },
    macros::{cgroup_sock, lsm},
    programs::{LsmContext, SockContext},
};
use chaperone_abi::{AF_INET, AF_INET6, Counter, EGRESS_DENY, NO_TARGET, Owner, Settings, kinds};

use crate::{
    maps::{OWNERS, SETTINGS, count},
    scope,
    target::mode,
    task,
    tell::{self, Attempt},
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;
const EACCES: i32 = 13;

// Families (include/linux/socket.h).
const AF_PACKET: u32 = 17;
const AF_VSOCK: u32 = 40;
const AF_SMC: u32 = 43;

/// `SOCK_RAW`, and what of a type is not flags (include/linux/net.h).
const SOCK_RAW: u32 = 3;
const SOCK_TYPE_MASK: u32 = 0xf;
/// Obsolete, and the same as `AF_PACKET` (net/socket.c, `__sock_create`).
const SOCK_PACKET: u32 = 10;

const IPPROTO_DCCP: u32 = 33;
const IPPROTO_L2TP: u32 = 115;
const IPPROTO_UDPLITE: u32 = 136;
const IPPROTO_SCTP: u32 = 132;
const IPPROTO_SMC: u32 = 256;
const IPPROTO_MPTCP: u32 = 262;

/// The kernel shows sockets of IPv4 and IPv6 here, and none of its own.
#[cgroup_sock(sock_create)]
pub fn chaperone_socket(ctx: SockContext) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return PASS };
    let Some(agent) = scope::agent(&settings.offsets) else { return PASS };
    // SAFETY: the verifier bounds reads of the context.
    let (family, kind, protocol) =
        unsafe { ((*ctx.sock).family, (*ctx.sock).type_, (*ctx.sock).protocol) };
    // Where an agent goes by these is seen by no hook.
    let unseen = matches!(protocol, IPPROTO_DCCP | IPPROTO_L2TP | IPPROTO_UDPLITE);
    let unlisted = unseen && mode(settings, agent) == Some(EGRESS_DENY);
    if unlisted || is_denied(settings, family, kind, protocol) {
        refuse(settings, agent, family, protocol);
        return REFUSE;
    }
    let mut owner = owner(settings, agent);
    // SAFETY: the context is the socket; the value is copied by the helper.
    let slot = unsafe {
        bpf_sk_storage_get(
            OWNERS.as_ptr(),
            ctx.sock.cast(),
            core::ptr::from_mut(&mut owner).cast(),
            BPF_SK_STORAGE_GET_F_CREATE.into(),
        )
    };
    if slot.is_null() {
        count(Counter::RefusedNoteFull);
        return REFUSE;
    }
    PASS
}

/// `LSM_HOOK(int, 0, socket_create, int family, int type, int protocol, int kern)`: every family.
#[lsm(hook = "socket_create")]
pub fn chaperone_lsm_socket(ctx: LsmContext) -> i32 {
    let before: i32 = ctx.arg(4);
    if before != 0 {
        return before;
    }
    let (family, kind): (u32, u32) = (ctx.arg(0), ctx.arg(1));
    let (protocol, kernel): (u32, u32) = (ctx.arg(2), ctx.arg(3));
    let Some(settings) = SETTINGS.get(0) else { return 0 };
    if kernel != 0 || !is_denied(settings, family, kind, protocol) {
        return 0;
    }
    let Some(agent) = scope::agent(&settings.offsets) else { return 0 };
    refuse(settings, agent, family, protocol);
    -EACCES
}

/// Whose a new socket is.
#[inline(always)]
pub fn owner(settings: &Settings, agent: u32) -> Owner {
    Owner {
        process: task::current(&settings.offsets),
        // SAFETY: the helper reads the current task only.
        cgroup_id: unsafe { bpf_get_current_cgroup_id() },
        told_ns: 0,
        agent,
        uid: bpf_get_current_uid_gid() as u32,
        flags: 0,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    }
}

#[inline(always)]
fn is_denied(settings: &Settings, family: u32, kind: u32, protocol: u32) -> bool {
    let kind = kind & SOCK_TYPE_MASK;
    let denied = match family {
        AF_PACKET => kinds::PACKET,
        AF_VSOCK => kinds::VSOCK,
        AF_SMC => kinds::SMC,
        _ if family == u32::from(AF_INET) || family == u32::from(AF_INET6) => {
            if kind == SOCK_PACKET {
                kinds::PACKET
            } else if kind == SOCK_RAW {
                kinds::RAW
            } else {
                match protocol {
                    IPPROTO_SCTP => kinds::SCTP,
                    IPPROTO_SMC => kinds::SMC,
                    IPPROTO_MPTCP => kinds::MPTCP,
                    _ => 0,
                }
            }
        }
        _ => 0,
    };
    settings.deny_sockets & denied != 0
}

#[inline(always)]
fn refuse(settings: &Settings, agent: u32, family: u32, protocol: u32) {
    let attempt = Attempt {
        reason: Counter::RefusedSocket,
        target: NO_TARGET,
        address: [0; 4],
        port: 0,
        protocol: family << 16 | protocol & 0xffff,
    };
    tell::of_process(settings, agent, &attempt);
}
