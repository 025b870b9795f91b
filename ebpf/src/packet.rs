//! Reading the head of a packet: where it goes to or comes from, by which protocol.

use aya_ebpf::programs::SkBuffContext;

use crate::target::mapped;

/// What the guard wants to know of a packet.
pub struct Packet {
    /// The other end, as in a note.
    pub address: [u32; 4],
    /// The other end's port; 0 where there is none to be read.
    pub port: u16,
    pub protocol: u8,
    pub shape: Shape,
    /// Where the protocol's own head begins.
    pub head: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It has a port.
    Port,
    /// It has none: another protocol, or a fragment that is not the first. The first one has the
    /// port, and without it nothing is put together.
    NoPort,
    /// It says itself which way it takes, or cannot be read.
    Odd,
}

pub const TCP: u8 = 6;
const ICMP: u8 = 1;
const IGMP: u8 = 2;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMP6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

// Extension headers (RFC 8200, 4.1; RFC 4302).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
/// More of them than this in a packet are more than anybody needs.
const HEADERS: usize = 6;

// Options of an IPv4 header (RFC 791, 3.1).
const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
/// The verifier follows each of them every way.
const OPTIONS: usize = 4;
const LOOSE_ROUTE: u8 = 131;
const STRICT_ROUTE: u8 = 137;

/// Reads a packet that leaves or arrives. The programs see it from its IP header on.
#[inline(always)]
pub fn read(ctx: &SkBuffContext, leaves: bool) -> Packet {
    let version = ctx.load::<u8>(0).unwrap_or(0) >> 4;
    if version == 4 { read4(ctx, leaves) } else { read6(ctx, leaves) }
}

/// Control messages carry no conversation with a server, and pass.
#[inline(always)]
pub fn is_control(protocol: u8) -> bool {
    matches!(protocol, ICMP | IGMP | ICMP6)
}

#[inline(always)]
fn read4(ctx: &SkBuffContext, leaves: bool) -> Packet {
    let Ok(bytes) = ctx.load::<[u8; 20]>(0) else { return odd() };
    let at = if leaves { 16 } else { 12 };
    let address = u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let head = u32::from(bytes[0] & 0xf) * 4;
    let fragment = u16::from_be_bytes([bytes[6], bytes[7]]) & 0x1fff;
    let mut packet = Packet {
        address: mapped(address),
        port: 0,
        protocol: bytes[9],
        shape: Shape::NoPort,
        head,
    };
    if head < 20 || leaves && head > 20 && is_routed(ctx, head) {
        packet.shape = Shape::Odd;
    } else if fragment == 0 {
        port(ctx, leaves, &mut packet);
    }
    packet
}

/// Whether an IPv4 packet lists the way that it is to take, or has more options than are looked at.
#[inline(always)]
fn is_routed(ctx: &SkBuffContext, head: u32) -> bool {
    let mut at = 20;
    for _ in 0..OPTIONS {
        if at >= head {
            return false;
        }
        let Ok(kind) = ctx.load::<u8>(at as usize) else { return true };
        match kind {
            OPTION_END => return false,
            OPTION_NOTHING => at += 1,
            LOOSE_ROUTE | STRICT_ROUTE => return true,
            _ => {
                let Ok(length) = ctx.load::<u8>(at as usize + 1) else { return true };
                if length < 2 {
                    return true;
                }
                at += u32::from(length);
            }
        }
    }
    at < head
}

#[inline(always)]
fn read6(ctx: &SkBuffContext, leaves: bool) -> Packet {
    let Ok(next) = ctx.load::<u8>(6) else { return odd() };
    let Ok(address) = ctx.load::<[u32; 4]>(if leaves { 24 } else { 8 }) else { return odd() };
    let mut packet = Packet { address, port: 0, protocol: next, shape: Shape::Odd, head: 40 };
    for _ in 0..HEADERS {
        match packet.protocol {
            HOP_BY_HOP | DESTINATION | AUTHENTICATION | FRAGMENT => {}
            ROUTING if !leaves => {}
            ROUTING => return packet,
            _ => {
                packet.shape = Shape::NoPort;
                port(ctx, leaves, &mut packet);
                return packet;
            }
        }
        let Ok(bytes) = ctx.load::<[u8; 4]>(packet.head as usize) else { return packet };
        let length = match packet.protocol {
            FRAGMENT if u16::from_be_bytes([bytes[2], bytes[3]]) & 0xfff8 != 0 => {
                packet.shape = Shape::NoPort;
                packet.protocol = bytes[0];
                return packet;
            }
            FRAGMENT => 8,
            AUTHENTICATION => (u32::from(bytes[1]) + 2) * 4,
            _ => (u32::from(bytes[1]) + 1) * 8,
        };
        packet.protocol = bytes[0];
        packet.head += length;
    }
    packet
}

#[inline(always)]
fn port(ctx: &SkBuffContext, leaves: bool, packet: &mut Packet) {
    if !matches!(packet.protocol, TCP | UDP | DCCP | SCTP | UDPLITE) {
        return;
    }
    let at = packet.head as usize + if leaves { 2 } else { 0 };
    match ctx.load::<[u8; 2]>(at) {
        Ok(bytes) => {
            packet.port = u16::from_be_bytes(bytes);
            packet.shape = Shape::Port;
        }
        Err(_) => packet.shape = Shape::Odd,
    }
}

#[inline(always)]
fn odd() -> Packet {
    Packet { address: [0; 4], port: 0, protocol: 0, shape: Shape::Odd, head: 0 }
}
