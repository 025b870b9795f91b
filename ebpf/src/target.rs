//! Which addresses are watched, and what an agent may reach beside them.

use aya_ebpf::btf_maps::lpm_trie::Key;
use chaperone_abi::{
    AF_INET, Address, Counter, EGRESS_DENY, NO_TARGET, Reach, Settings, Target4, Target6,
};

use crate::{
    maps::{EGRESS, HOSTS, REACH, TARGETS4, TARGETS6},
    tell::{self, Attempt},
};

/// The word that marks a mapped address.
pub const MAPPED: u32 = 0xffff_u32.to_be();
/// 127.0.0.1.
pub const LOOPBACK4: u32 = 0x7f00_0001_u32.to_be();
/// The first word of 64:ff9b::/96.
const TRANSLATOR: u32 = 0x0064_ff9b_u32.to_be();
/// `::1`, as words in network byte order.
pub const LOOPBACK6: [u32; 4] = [0, 0, 0, 1_u32.to_be()];

/// `::ffff:a.b.c.d`.
#[inline(always)]
pub fn mapped(v4: u32) -> [u32; 4] {
    [0, 0, MAPPED, v4]
}

#[inline(always)]
pub fn is_mapped(words: &[u32; 4]) -> bool {
    words[0] == 0 && words[1] == 0 && words[2] == MAPPED
}

/// The target at an IPv4 address and port.
#[inline(always)]
pub fn target4(address: u32, port: u16) -> Option<u32> {
    let key = Target4 { port: port.to_be_bytes(), reserved: [0; 2], address };
    TARGETS4.get(&Key::new(64, key)).copied()
}

/// The target at an IPv6 address, which is not a mapped one, and port.
#[inline(always)]
pub fn target6(words: [u32; 4], port: u16) -> Option<u32> {
    let key = Target6 { port: port.to_be_bytes(), reserved: [0; 2], address: words };
    match TARGETS6.get(&Key::new(160, key)) {
        Some(target) => Some(*target),
        None if embeds(&words) => target4(words[3], port),
        None => None,
    }
}

/// Whether an IPv6 address stands for the IPv4 address in its last word: that of a translator
/// (64:ff9b::/96, RFC 6052), or a compatible one (`::a.b.c.d`, RFC 4291, 2.5.5.1).
#[inline(always)]
fn embeds(words: &[u32; 4]) -> bool {
    let translated = words[0] == TRANSLATOR;
    let compatible = words[0] == 0 && u32::from_be(words[3]) > 0xffff;
    words[1] == 0 && words[2] == 0 && (translated || compatible)
}

/// The target at an address of either kind and a port.
#[inline(always)]
pub fn target(words: &[u32; 4], port: u16) -> Option<u32> {
    if is_mapped(words) { target4(words[3], port) } else { target6(*words, port) }
}

/// A target that has this address at some port.
#[inline(always)]
pub fn host(words: &[u32; 4]) -> Option<u32> {
    let at = |words| HOSTS.get(&Key::new(128, Address { words })).copied();
    match at(*words) {
        None if embeds(words) => at(mapped(words[3])),
        found => found,
    }
}

/// The zero addresses stand for loopback (net/ipv4/route.c; net/ipv6/tcp_ipv6.c, `tcp_v6_connect`).
/// Answers the address as it is meant, and the target there. `::` may become either loopback
/// address, which hooks cannot tell, so that both are looked at.
#[inline(always)]
pub fn meant(words: [u32; 4], family: u16, port: u16) -> ([u32; 4], Option<u32>) {
    if family == AF_INET || is_mapped(&words) {
        let address = if words[3] == 0 { LOOPBACK4 } else { words[3] };
        return (mapped(address), target4(address, port));
    }
    if words[0] == 0 && words[1] == 0 && words[2] == 0 && words[3] == 0 {
        return match target6(LOOPBACK6, port) {
            Some(target) => (LOOPBACK6, Some(target)),
            None => match target4(LOOPBACK4, port) {
                Some(target) => (mapped(LOOPBACK4), Some(target)),
                None => (LOOPBACK6, None),
            },
        };
    }
    (words, target6(words, port))
}

/// Whether an agent may go to an address that is no target, and told where that is of interest.
#[inline(always)]
pub fn may_go(
    settings: &Settings,
    agent: u32,
    address: &[u32; 4],
    port: u16,
    protocol: u32,
) -> bool {
    let Some(mode) = mode(settings, agent) else { return true };
    if is_listed(agent, address, port) {
        return true;
    }
    let refused = mode == EGRESS_DENY;
    let reason = if refused { Counter::RefusedUnlisted } else { Counter::Unlisted };
    tell::of_process(
        settings,
        agent,
        &Attempt { reason, target: NO_TARGET, address: *address, port, protocol },
    );
    !refused
}

/// What is done where an agent goes to what is not listed; `None` for nothing.
#[inline(always)]
pub fn mode(settings: &Settings, agent: u32) -> Option<u32> {
    if settings.egress == 0 {
        return None;
    }
    // SAFETY: the value is copied at once; entries are replaced whole.
    unsafe { EGRESS.get(&agent) }.copied()
}

/// Whether an agent's configuration lists an address.
#[inline(always)]
pub fn is_listed(agent: u32, address: &[u32; 4], port: u16) -> bool {
    let key = Reach { agent, port: port.to_be_bytes(), reserved: [0; 2], address: *address };
    REACH.get(&Key::new(192, key)).is_some()
}
