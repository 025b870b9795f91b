//! `connect(2)` of an agent to a target is sent to the daemon, and what the kernel knows is noted.

use aya_ebpf::{
    EbpfContext,
    btf_maps::lpm_trie::Key,
    cty::c_void,
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
        bpf_get_current_uid_gid, bpf_ktime_get_boot_ns,
        generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_sk_storage_delete},
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use chaperone_abi::{AF_INET, AF_INET6, Counter, Note, Settings, Target4, Target6};

use crate::{
    maps::{NOTES, SETTINGS, TARGETS4, TARGETS6, count},
    scope, task,
};

/// connect(2) fails with EPERM.
const REFUSE: i32 = 0;
/// connect(2) goes on, with whatever address is in the context now.
const PASS: i32 = 1;

const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;

const LOOPBACK4: u32 = 0x7f00_0001_u32.to_be();
/// `::ffff:127.0.0.1` and `::1`, as words in network byte order.
const MAPPED_LOOPBACK: [u32; 4] = [0, 0, MAPPED, LOOPBACK4];
const LOOPBACK6: [u32; 4] = [0, 0, 0, 1_u32.to_be()];

#[cgroup_sock_addr(connect4)]
pub fn chaperone_connect4(ctx: SockAddrContext) -> i32 {
    if !is_tcp(&ctx) {
        return PASS;
    }
    // SAFETY: the verifier bounds reads of the context.
    let (address, port) = unsafe {
        let call = &*ctx.sock_addr;
        (call.user_ip4, port_of(call.user_port))
    };
    // The kernel turns 0.0.0.0 into loopback after this hook (net/ipv4/route.c).
    let address = if address == 0 { LOOPBACK4 } else { address };
    let target = target4(address, port);
    match take(&ctx, target, mapped(address), port, AF_INET, address == LOOPBACK4) {
        Taken::No => PASS,
        Taken::Refused => REFUSE,
        Taken::Yes(own_port) => {
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
    if !is_tcp(&ctx) {
        return PASS;
    }
    // SAFETY: as in connect4; the address is read word by word, as the verifier asks.
    let (words, port) = unsafe {
        let call = &*ctx.sock_addr;
        (
            [call.user_ip6[0], call.user_ip6[1], call.user_ip6[2], call.user_ip6[3]],
            port_of(call.user_port),
        )
    };
    let is_mapped = words[0] == 0 && words[1] == 0 && words[2] == MAPPED;
    let is_any = words[0] == 0 && words[1] == 0 && words[2] == 0 && words[3] == 0;

    let (target, words, loopback) = if is_mapped {
        let v4 = if words[3] == 0 { LOOPBACK4 } else { words[3] };
        (target4(v4, port), mapped(v4), MAPPED_LOOPBACK)
    } else if is_any {
        // `::` becomes `::1`, or `::ffff:127.0.0.1` where the socket is bound to a mapped address
        // (net/ipv6/tcp_ipv6.c, tcp_v6_connect); this hook cannot tell which, so it watches both.
        match target6(LOOPBACK6, port) {
            Some(target) => (Some(target), LOOPBACK6, LOOPBACK6),
            None => (target4(LOOPBACK4, port), MAPPED_LOOPBACK, MAPPED_LOOPBACK),
        }
    } else {
        (target6(words, port), words, LOOPBACK6)
    };
    let to_loopback =
        words[3] == loopback[3] && words[2] == loopback[2] && words[0] == 0 && words[1] == 0;
    match take(&ctx, target, words, port, AF_INET6, to_loopback) {
        Taken::No => PASS,
        Taken::Refused => REFUSE,
        Taken::Yes(own_port) => {
            // SAFETY: as above, word by word.
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
    /// Noted; connect to this port on loopback instead.
    Yes(u16),
}

/// Decides, and notes who asks for what.
#[inline(always)]
fn take(
    ctx: &SockAddrContext,
    target: Option<u32>,
    address: [u32; 4],
    port: u16,
    family: u16,
    to_loopback: bool,
) -> Taken {
    let Some(settings) = SETTINGS.get(0) else {
        count(Counter::RefusedNoSettings);
        return Taken::Refused;
    };
    let own_port = settings.port as u16;
    let Some(target) = target else {
        forget(ctx);
        // Nobody but the kernel sends agents to the daemon.
        if to_loopback && port == own_port && scope::agent(&settings.offsets).is_some() {
            count(Counter::RefusedOwnPort);
            return Taken::Refused;
        }
        return Taken::No;
    };
    let Some(agent) = scope::agent(&settings.offsets) else {
        forget(ctx);
        return Taken::No;
    };
    if own_port == 0 {
        count(Counter::RefusedNoSettings);
        return Taken::Refused;
    }
    // 127.0.0.1 in another network namespace is not where the daemon listens.
    // SAFETY: the helper reads the context only.
    if unsafe { bpf_get_netns_cookie(ctx.as_ptr()) } != settings.netns {
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
    Taken::Yes(own_port)
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

#[inline(always)]
fn is_tcp(ctx: &SockAddrContext) -> bool {
    // SAFETY: the verifier bounds reads of the context.
    let protocol = unsafe { (*ctx.sock_addr).protocol };
    protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP
}

#[inline(always)]
fn target4(address: u32, port: u16) -> Option<u32> {
    let key = Target4 { port: port.to_be_bytes(), reserved: [0; 2], address };
    TARGETS4.get(&Key::new(64, key)).copied()
}

#[inline(always)]
fn target6(words: [u32; 4], port: u16) -> Option<u32> {
    let key = Target6 { port: port.to_be_bytes(), reserved: [0; 2], address: words };
    TARGETS6.get(&Key::new(160, key)).copied()
}

/// `user_port` holds the port in network byte order in the low 16 bits.
#[inline(always)]
fn port_of(user_port: u32) -> u16 {
    u16::from_be(user_port as u16)
}

/// `::ffff:a.b.c.d`.
#[inline(always)]
pub fn mapped(v4: u32) -> [u32; 4] {
    [0, 0, MAPPED, v4]
}

/// The word that marks a mapped address.
pub const MAPPED: u32 = 0xffff_u32.to_be();
