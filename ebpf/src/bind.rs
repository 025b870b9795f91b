//! `bind(2)`: no process of an agent takes the daemon's port, also while the daemon is down.
//!
//! A port that the kernel chooses is not seen here: the daemon's is to lie outside of
//! `net.ipv4.ip_local_port_range`, which `chaperone doctor` looks at.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use chaperone_abi::{AF_INET, AF_INET6, Counter, NO_TARGET};

use crate::{
    connect::{called, is_ours, port_of},
    maps::SETTINGS,
    scope,
    tell::{self, Attempt},
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;

#[cgroup_sock_addr(bind4)]
pub fn chaperone_bind4(ctx: SockAddrContext) -> i32 {
    bind(&ctx, AF_INET)
}

#[cgroup_sock_addr(bind6)]
pub fn chaperone_bind6(ctx: SockAddrContext) -> i32 {
    bind(&ctx, AF_INET6)
}

#[inline(always)]
fn bind(ctx: &SockAddrContext, family: u16) -> i32 {
    let Some(settings) = SETTINGS.get(0) else { return PASS };
    // SAFETY: the verifier bounds reads of the context.
    let (port, protocol) =
        unsafe { (port_of((*ctx.sock_addr).user_port), (*ctx.sock_addr).protocol) };
    if port == 0 || u32::from(port) != settings.port || !is_ours(ctx, settings) {
        return PASS;
    }
    let Some(agent) = scope::agent(&settings.offsets) else { return PASS };
    let address = called(ctx, family);
    let reason = Counter::RefusedBind;
    tell::of_process(
        settings,
        agent,
        &Attempt { reason, target: NO_TARGET, address, port, protocol },
    );
    REFUSE
}
