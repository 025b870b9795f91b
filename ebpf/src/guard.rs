//! The second net: no packet goes between an agent's socket and a target but by the daemon, whatever
//! made the socket and whenever.
//!
//! A packet is nobody's business unless its socket is an agent's: one that was seen to be made by a
//! process of an agent has an owner, and another counts by its user id and its cgroup.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::{
        bpf_ktime_get_boot_ns, bpf_probe_read_kernel,
        generated::{
            bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id,
        },
    },
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use chaperone_abi::{
    Counter, EGRESS_DENY, NO_TARGET, OWNER_CONNECTS, OWNER_POSTGRES, OWNER_READ, OWNER_SPEAKS,
    OWNER_SSH, Owner, ProcessKey, Settings,
};

use crate::{
    maps::{CGROUPS, OWNERS, SETTINGS, count},
    packet::{self, Packet, Shape},
    scope::{LEVELS, by_uid},
    target::{LOOPBACK4, LOOPBACK6, host, is_listed, mapped, mode, target},
    tell::{self, Attempt},
};

const DROP: i32 = 0;
const PASS: i32 = 1;

/// A socket's packets are told of at most so often; all are counted.
const TELL_EVERY_NS: u64 = 1_000_000_000;

#[cgroup_skb(egress)]
pub fn chaperone_egress(ctx: SkBuffContext) -> i32 {
    guard(&ctx, true)
}

#[cgroup_skb(ingress)]
pub fn chaperone_ingress(ctx: SkBuffContext) -> i32 {
    guard(&ctx, false)
}

#[inline(always)]
fn guard(ctx: &SkBuffContext, leaves: bool) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return PASS };
    // SAFETY: the verifier asks for both checks, and knows the socket held while the program runs.
    let sk = unsafe {
        let sk = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return PASS;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return PASS;
        }
        sk
    };
    let packet = packet::read(ctx, leaves);
    let found = match packet.shape {
        Shape::Port => target(&packet.address, packet.port),
        Shape::NoPort if packet::is_control(packet.protocol) => None,
        Shape::NoPort => host(&packet.address),
        Shape::Odd => None,
    };
    let known = owner(sk, core::ptr::null_mut());
    // Where neither is of interest it is one of the many.
    if known.is_null() && found.is_none() && packet.shape != Shape::Odd {
        return PASS;
    }
    let slot = if known.is_null() {
        let Some(mut unseen) = unseen(ctx, settings, sk) else { return PASS };
        owner(sk, &mut unseen)
    } else {
        known
    };
    // SAFETY: a pointer into the socket's storage, which the socket holds; other CPUs may write the
    // times and flags at the same time, which costs an event at most.
    let Some(owner) = (unsafe { slot.as_mut() }) else {
        count(if leaves { Counter::GuardOut } else { Counter::GuardIn });
        return DROP;
    };
    if let Some(target) = found {
        let reason = if leaves { Counter::GuardOut } else { Counter::GuardIn };
        stop(settings, owner, reason, target, &packet);
        return DROP;
    }
    if packet.shape == Shape::Odd {
        stop(settings, owner, Counter::GuardOdd, NO_TARGET, &packet);
        return DROP;
    }
    if leaves && packet.protocol == packet::TCP && packet.shape == Shape::Port {
        return elsewhere(ctx, settings, owner, &packet);
    }
    PASS
}

/// A TCP packet of an agent's to what is no target.
#[inline(always)]
fn elsewhere(ctx: &SkBuffContext, settings: &Settings, owner: &mut Owner, packet: &Packet) -> i32 {
    let loopback = packet.address == mapped(LOOPBACK4) || packet.address == LOOPBACK6;
    if loopback && u32::from(packet.port) == settings.port {
        return PASS;
    }
    let Ok(head) = ctx.load::<[u8; 2]>(packet.head as usize + 12) else { return PASS };
    let first = head[1] & 0x12 == 0x02;
    if first {
        // connect(2) was asked already; this is for what makes connections without it.
        let refused = mode(settings, owner.agent) == Some(EGRESS_DENY)
            && !is_listed(owner.agent, &packet.address, packet.port);
        if refused {
            stop(settings, owner, Counter::RefusedUnlisted, NO_TARGET, packet);
            return DROP;
        }
    }
    if owner.flags & (OWNER_CONNECTS | OWNER_READ) == OWNER_CONNECTS {
        let at = packet.head + u32::from(head[0] >> 4) * 4;
        if ctx.len() > at {
            owner.flags |= OWNER_READ;
            owner.flags |= match speaks(ctx, at) {
                Some(POSTGRES) => OWNER_POSTGRES,
                Some(_) => OWNER_SSH,
                None => 0,
            };
            if owner.flags & OWNER_SPEAKS != 0 {
                count(Counter::PassedBy);
            }
        }
    }
    // Where there is no room to tell it is told by a later packet.
    if owner.flags & OWNER_SPEAKS != 0 {
        let attempt = Attempt {
            reason: Counter::PassedBy,
            target: NO_TARGET,
            address: packet.address,
            port: packet.port,
            protocol: if owner.flags & OWNER_POSTGRES != 0 { POSTGRES } else { SSH },
        };
        if tell::again(settings, owner, &attempt) {
            owner.flags &= !OWNER_SPEAKS;
        }
    }
    PASS
}

/// The usual ports of protocols.
const POSTGRES: u32 = 5432;
const SSH: u32 = 22;

/// The usual port of the protocol whose first bytes a client sends here.
#[inline(always)]
fn speaks(ctx: &SkBuffContext, at: u32) -> Option<u32> {
    // Requests for TLS and for GSSAPI encryption, and version 3 (PostgreSQL's documentation, "Message
    // Formats"). A start-up message is longer than 10,000 bytes with no server.
    const SSL_REQUEST: u32 = 80_877_103;
    const GSSENC_REQUEST: u32 = 80_877_104;
    const LONGEST: u32 = 10_000;
    let begin = ctx.load::<[u8; 4]>(at as usize).ok()?;
    // RFC 4253, 4.2.
    if begin == *b"SSH-" {
        return Some(SSH);
    }
    let length = u32::from_be_bytes(begin);
    let code = u32::from_be_bytes(ctx.load::<[u8; 4]>(at as usize + 4).ok()?);
    let asks = length == 8 && (code == SSL_REQUEST || code == GSSENC_REQUEST);
    let starts = length >= 9 && length <= LONGEST && code >> 16 == 3;
    (asks || starts).then_some(POSTGRES)
}

#[inline(always)]
fn stop(settings: &Settings, owner: &mut Owner, reason: Counter, target: u32, packet: &Packet) {
    // SAFETY: the helper reads a clock.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if owner.told_ns != 0 && now - owner.told_ns < TELL_EVERY_NS {
        count(reason);
        return;
    }
    let attempt = Attempt {
        reason,
        target,
        address: packet.address,
        port: packet.port,
        protocol: packet.protocol.into(),
    };
    if tell::of_owner(settings, owner, &attempt) {
        owner.told_ns = now;
    }
}

/// The owner of a socket that was not seen to be made, where it is an agent's.
#[inline(always)]
fn unseen(ctx: &SkBuffContext, settings: &Settings, sk: *mut bpf_sock) -> Option<Owner> {
    let skb = ctx.skb.skb;
    let uid = uid(settings, sk)?;
    let mut agent = by_uid(uid);
    if agent.is_none() {
        for level in 0..LEVELS {
            // SAFETY: the helper takes any level and answers 0 for one that does not exist.
            let id = unsafe { bpf_skb_ancestor_cgroup_id(skb, level) };
            if id == 0 {
                break;
            }
            // SAFETY: the value is copied at once; entries are replaced whole.
            agent = unsafe { CGROUPS.get(&id) }.copied();
            if agent.is_some() {
                break;
            }
        }
    }
    Some(Owner {
        process: ProcessKey { started_ns: 0, exec_id: 0, tgid: 0, reserved: 0 },
        // SAFETY: the helper reads the socket of the packet.
        cgroup_id: unsafe { bpf_skb_cgroup_id(skb) },
        told_ns: 0,
        agent: agent?,
        uid,
        flags: 0,
        reserved: 0,
        comm: [0; 16],
    })
}

/// The user id of a socket as the host has it. The helper for this answers it as the user namespace
/// of the socket's network namespace has it (net/core/filter.c, `bpf_get_socket_uid`), where another
/// account's may be an agent's number.
#[inline(always)]
fn uid(settings: &Settings, sk: *mut bpf_sock) -> Option<u32> {
    // The verifier lets nobody compute with a socket's address. Where it lies on the stack it is
    // read as any other number.
    let slot = sk;
    // SAFETY: probe reads fail with an error on a bad address and fault nothing.
    unsafe {
        let sock = bpf_probe_read_kernel(core::ptr::addr_of!(slot).cast::<u64>()).ok()?;
        let field = sock.wrapping_add(settings.offsets.sk_uid.into());
        bpf_probe_read_kernel(field as *const u32).ok()
    }
}

/// The owner that is kept with a socket; with `unseen`, which is kept where there is none.
#[inline(always)]
fn owner(sk: *mut bpf_sock, unseen: *mut Owner) -> *mut Owner {
    let flags = if unseen.is_null() { 0 } else { BPF_SK_STORAGE_GET_F_CREATE };
    // SAFETY: the socket is held while the program runs; the helper copies the value.
    unsafe { bpf_sk_storage_get(OWNERS.as_ptr(), sk.cast(), unseen.cast(), flags.into()) }.cast()
}
