//! `connect(2)` of an agent to a target is sent to the daemon, and what the kernel knows is noted.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    cty::c_void,
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
        bpf_get_current_uid_gid, bpf_ktime_get_boot_ns,
        generated::{
            bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_sk_storage_delete, bpf_sk_storage_get,
        },
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use chaperone_abi::{AF_INET, AF_INET6, Counter, Note, OWNER_CONNECTS, Owner, Settings};

use crate::{
    maps::{NOTES, OWNERS, SETTINGS, count},
    scope, socket,
    target::{LOOPBACK4, LOOPBACK6, is_mapped, mapped, may_go, meant},
    task,
    tell::{self, Attempt},
};

/// connect(2) fails with EPERM.
const REFUSE: i32 = 0;
/// connect(2) goes on, with whatever address is in the context now.
const PASS: i32 = 1;

const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;

#[cgroup_sock_addr(connect4)]
pub fn chaperone_connect4(ctx: SockAddrContext) -> i32 {
    match take(&ctx, AF_INET) {
        Taken::No => PASS,
        Taken::Refused => REFUSE,
        Taken::Yes(own_port, _) => {
            // SAFETY: both fields are writable in this hook (net/core/filter.c, sock_addr_is_valid_access).
            unsafe {
                (*ctx.sock_addr).user_ip4 = LOOPBACK4;
                (*ctx.sock_addr).user_port = u32::from(own_port.to_be());
            }
            PASS
        }
    }
}

#[cgroup_sock_addr(connect6)]
pub fn chaperone_connect6(ctx: SockAddrContext) -> i32 {
    match take(&ctx, AF_INET6) {
        Taken::No => PASS,
        Taken::Refused => REFUSE,
        Taken::Yes(own_port, loopback) => {
            // SAFETY: as above, word by word, as the verifier asks.
            unsafe {
                (*ctx.sock_addr).user_ip6[0] = loopback[0];
                (*ctx.sock_addr).user_ip6[1] = loopback[1];
                (*ctx.sock_addr).user_ip6[2] = loopback[2];
                (*ctx.sock_addr).user_ip6[3] = loopback[3];
                (*ctx.sock_addr).user_port = u32::from(own_port.to_be());
            }
            PASS
        }
    }
}

enum Taken {
    /// Not ours: neither a target nor an agent.
    No,
    /// Ours, and something is missing: nothing goes round.
    Refused,
    /// Noted; connect to this port on loopback instead, at this address.
    Yes(u16, [u32; 4]),
}

/// Decides, and notes who asks for what.
#[inline(always)]
fn take(ctx: &SockAddrContext, family: u16) -> Taken {
    let Some(settings) = SETTINGS.get(0) else {
        count(Counter::RefusedNoSettings);
        return Taken::Refused;
    };
    // SAFETY: the verifier bounds reads of the context.
    let (port, protocol) =
        unsafe { (port_of((*ctx.sock_addr).user_port), (*ctx.sock_addr).protocol) };
    let (address, target) = meant(called(ctx, family), family, port);
    let own_port = settings.port as u16;
    let loopback = if is_mapped(&address) { mapped(LOOPBACK4) } else { LOOPBACK6 };
    let is_tcp = protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
    let Some(target) = target else {
        forget(ctx);
        // Nobody but the kernel sends connections to the daemon: whoever came by himself might
        // find the note of another's that was never accepted. In another network namespace the port
        // is somebody else's.
        if is_tcp && address == loopback && port == own_port && is_ours(ctx, settings) {
            count(Counter::RefusedOwnPort);
            return Taken::Refused;
        }
        return elsewhere(ctx, settings, &address, port, protocol);
    };
    let Some(agent) = scope::agent(&settings.offsets) else {
        forget(ctx);
        return Taken::No;
    };
    if !is_tcp {
        let reason = Counter::RefusedProtocol;
        tell::of_process(settings, agent, &Attempt { reason, target, address, port, protocol });
        return Taken::Refused;
    }
    if own_port == 0 {
        count(Counter::RefusedNoSettings);
        return Taken::Refused;
    }
    // 127.0.0.1 in another network namespace is not where the daemon listens.
    if !is_ours(ctx, settings) {
        count(Counter::RefusedNamespace);
        return Taken::Refused;
    }
    let mut note = note(ctx, settings, address, port, family);
    note.agent = agent;
    note.target = target;
    // SAFETY: the storage belongs to the socket of this call, which holds a reference.
    let slot = unsafe { NOTES.get_or_insert_ptr_mut(ctx, Some(&mut note)) };
    if slot.is_null() {
        count(Counter::RefusedNoteFull);
        return Taken::Refused;
    }
    // The socket may have been connected before: overwrite, never keep.
    // SAFETY: not null, and sized by the map.
    unsafe { *slot = note };
    count(Counter::Redirected);
    Taken::Yes(own_port, loopback)
}

/// Whether a socket is in the network namespace in which the daemon listens.
#[inline(always)]
pub fn is_ours(ctx: &SockAddrContext, settings: &Settings) -> bool {
    // SAFETY: the helper reads the context only.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) == settings.netns }
}

/// It goes to what is no target.
#[inline(always)]
fn elsewhere(
    ctx: &SockAddrContext,
    settings: &Settings,
    address: &[u32; 4],
    port: u16,
    protocol: u32,
) -> Taken {
    // SAFETY: the socket is the one of this call, which holds its storage; the helper copies the
    // value.
    let own = |made: *mut Owner, flags: u32| unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        bpf_sk_storage_get(OWNERS.as_ptr(), sk.cast(), made.cast(), flags.into()).cast::<Owner>()
    };
    // SAFETY: not null, and sized by the map.
    let known = unsafe { own(core::ptr::null_mut(), 0).as_mut() };
    let was_known = known.is_some();
    if let Some(owner) = known {
        // It speaks first from here on, and its first bytes tell what.
        owner.flags = OWNER_CONNECTS;
        if settings.egress == 0 {
            return Taken::No;
        }
    }
    let Some(agent) = scope::agent(&settings.offsets) else { return Taken::No };
    if !was_known {
        // It was made before the programs, or by the kernel: Multipath TCP connects by sockets of
        // its own, which `socket(2)` did not show.
        let mut made = socket::owner(settings, agent);
        made.flags = OWNER_CONNECTS;
        if own(core::ptr::from_mut(&mut made), BPF_SK_STORAGE_GET_F_CREATE).is_null() {
            count(Counter::RefusedNoteFull);
            return Taken::Refused;
        }
    }
    if may_go(settings, agent, address, port, protocol) { Taken::No } else { Taken::Refused }
}

#[inline(always)]
fn note(
    ctx: &SockAddrContext,
    settings: &Settings,
    address: [u32; 4],
    port: u16,
    family: u16,
) -> Note {
    let owner = bpf_get_current_uid_gid();
    Note {
        // SAFETY: these helpers read the context or the current task only.
        cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        // SAFETY: as above.
        connected_ns: unsafe { bpf_ktime_get_boot_ns() },
        process: task::current(&settings.offsets),
        image: task::image(&settings.offsets),
        // SAFETY: as above.
        cgroup_id: unsafe { bpf_get_current_cgroup_id() },
        tid: bpf_get_current_pid_tgid() as u32,
        uid: owner as u32,
        gid: (owner >> 32) as u32,
        address,
        agent: 0,
        target: 0,
        port,
        family,
        generation: settings.generation,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    }
}

/// A socket that was redirected before and now goes elsewhere must not keep its old note.
#[inline(always)]
fn forget(ctx: &SockAddrContext) {
    // SAFETY: the socket is the one of this call; deleting what is not there is an error code only.
    unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        bpf_sk_storage_delete(core::ptr::addr_of!(NOTES).cast_mut().cast(), sk.cast::<c_void>());
    }
}

/// The address of the call, as it was given.
#[inline(always)]
pub fn called(ctx: &SockAddrContext, family: u16) -> [u32; 4] {
    // SAFETY: the verifier bounds reads of the context; the address is read word by word, as it asks.
    unsafe {
        let call = &*ctx.sock_addr;
        if family == AF_INET {
            return mapped(call.user_ip4);
        }
        [call.user_ip6[0], call.user_ip6[1], call.user_ip6[2], call.user_ip6[3]]
    }
}

/// `user_port` holds the port in network byte order in the low 16 bits.
#[inline(always)]
pub fn port_of(user_port: u32) -> u16 {
    u16::from_be(user_port as u16)
}
