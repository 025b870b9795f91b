//! Hands a redirected socket's note over under the addresses that the daemon sees at accept.
//!
//! `TCP_CONNECT_CB` runs after the source port is chosen and before the SYN leaves, so the entry is
//! there when the daemon accepts (net/ipv4/tcp_output.c, tcp_connect).

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
        BPF_TCP_CLOSE, BPF_TCP_SYN_SENT,
    },
    helpers::generated::{bpf_get_netns_cookie, bpf_sk_storage_get},
    macros::sock_ops,
    programs::SockOpsContext,
};
use chaperone_abi::{AF_INET, Counter, FlowKey, Note};

use crate::{
    maps::{FLOWS, NOTES, count},
    target::{MAPPED, mapped},
};

#[sock_ops]
pub fn chaperone_sockops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => hand_over(&ctx),
        // Once the connection is established the daemon accepts it and takes the entry, however
        // soon the agent closes; what never was must be cleaned up here.
        BPF_SOCK_OPS_STATE_CB if ctx.arg(0) == BPF_TCP_SYN_SENT && ctx.arg(1) == BPF_TCP_CLOSE => {
            clean_up(&ctx);
        }
        _ => {}
    }
    1
}

#[inline(always)]
fn hand_over(ctx: &SockOpsContext) {
    let Some(note) = noted(ctx) else { return };
    if FLOWS.insert(&flow(ctx), note, 0).is_err() {
        // This hook cannot refuse; the daemon resets a connection without an entry.
        count(Counter::FlowFull);
        return;
    }
    // A failure leaves an entry behind until its port is used again; it cannot be taken by another
    // connection before that, and is then overwritten.
    let _ = ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32 | ctx.cb_flags() as i32);
}

#[inline(always)]
fn clean_up(ctx: &SockOpsContext) {
    let Some(note) = noted(ctx) else { return };
    let key = flow(ctx);
    // The port may have been used again: only this socket's own entry goes.
    // SAFETY: the value is read at once.
    let own = unsafe { FLOWS.get(&key) }.is_some_and(|entry| entry.cookie == note.cookie);
    if own && FLOWS.remove(&key).is_ok() {
        count(Counter::FlowAbandoned);
    }
}

#[inline(always)]
fn flow(ctx: &SockOpsContext) -> FlowKey {
    // An IPv6 socket that connects to a mapped address has no IPv6 source yet at this point
    // (net/ipv6/tcp_ipv6.c, tcp_v6_connect), and the daemon sees an IPv4 connection.
    let ops = ctx.ops;
    // SAFETY: the fields are in the context. Each is read at its own place, before any branch and
    // volatile, because the verifier allows no pointer into the context that was computed.
    let (remote, local4, local6) = unsafe {
        let remote = [
            read_volatile(addr_of!((*ops).remote_ip6[0])),
            read_volatile(addr_of!((*ops).remote_ip6[1])),
            read_volatile(addr_of!((*ops).remote_ip6[2])),
        ];
        let local4 = read_volatile(addr_of!((*ops).local_ip4));
        let local6 = [
            read_volatile(addr_of!((*ops).local_ip6[0])),
            read_volatile(addr_of!((*ops).local_ip6[1])),
            read_volatile(addr_of!((*ops).local_ip6[2])),
            read_volatile(addr_of!((*ops).local_ip6[3])),
        ];
        (remote, local4, local6)
    };
    let is_mapped = remote == [0, 0, MAPPED];
    let is_v4 = ctx.family() == u32::from(AF_INET) || is_mapped;
    let address = if is_v4 { mapped(local4) } else { local6 };
    FlowKey {
        // SAFETY: the helper reads the context only.
        netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
        address,
        port: ctx.local_port(),
        reserved: 0,
    }
}

#[inline(always)]
fn noted(ctx: &SockOpsContext) -> Option<&Note> {
    // SAFETY: the socket is checked for null as the verifier asks, and holds its storage.
    unsafe {
        let sk = (*ctx.ops).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let storage = core::ptr::addr_of!(NOTES).cast_mut().cast();
        bpf_sk_storage_get(storage, sk.cast(), core::ptr::null_mut(), 0).cast::<Note>().as_ref()
    }
}
