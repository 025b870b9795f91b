//! `sendmsg(2)` to an address without a connection: not to targets, which speak TCP.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use chaperone_abi::{AF_INET, AF_INET6, Counter};

use crate::{
    connect::{called, port_of},
    maps::SETTINGS,
    scope,
    target::{may_go, meant},
    tell::{self, Attempt},
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;

#[cgroup_sock_addr(sendmsg4)]
pub fn chaperone_sendmsg4(ctx: SockAddrContext) -> i32 {
    send(&ctx, AF_INET)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn chaperone_sendmsg6(ctx: SockAddrContext) -> i32 {
    send(&ctx, AF_INET6)
}

#[inline(always)]
fn send(ctx: &SockAddrContext, family: u16) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return PASS };
    // SAFETY: the verifier bounds reads of the context.
    let (port, protocol) =
        unsafe { (port_of((*ctx.sock_addr).user_port), (*ctx.sock_addr).protocol) };
    let (address, target) = meant(called(ctx, family), family, port);
    // Most datagrams of a host are nobody's business: whose it is, is asked last.
    if target.is_none() && settings.egress == 0 {
        return PASS;
    }
    let Some(agent) = scope::agent(&settings.offsets) else { return PASS };
    match target {
        Some(target) => {
            let reason = Counter::RefusedProtocol;
            tell::of_process(settings, agent, &Attempt { reason, target, address, port, protocol });
            REFUSE
        }
        None if may_go(settings, agent, &address, port, protocol) => PASS,
        None => REFUSE,
    }
}
