//! Addresses: inet, cidr, macaddr.

use std::net::{IpAddr, Ipv6Addr};

/// `PGSQL_AF_INET`; the other family is one more.
const FOUR: u8 = 2;
const SIX: u8 = 3;

/// An address and how much of it is the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) address: IpAddr,
    bits: u8,
}

impl Network {
    /// One host.
    pub(super) fn host(address: IpAddr) -> Self {
        Self { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }

    pub(super) fn from_text(text: &str, cidr: bool) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let host = Self::host(address.parse().ok()?);
        Self { bits: bits.unwrap_or(host.bits), ..host }.checked(cidr)
    }

    pub(super) fn from_binary(value: &[u8], cidr: bool) -> Option<Self> {
        let (&[family, bits, is_cidr, length], address) = value.split_first_chunk()?;
        let address: IpAddr = match (family, length) {
            (FOUR, 4) => <[u8; 4]>::try_from(address).ok()?.into(),
            (SIX, 16) => <[u8; 16]>::try_from(address).ok()?.into(),
            _ => return None,
        };
        if is_cidr > 1 {
            return None;
        }
        Self { address, bits }.checked(cidr)
    }

    pub(super) fn to_text(self, cidr: bool) -> String {
        let Self { address, bits } = self;
        if !cidr && self == Self::host(address) {
            return address.to_string();
        }
        format!("{address}/{bits}")
    }

    pub(super) fn to_binary(self, cidr: bool, out: &mut Vec<u8>) {
        match self.address {
            IpAddr::V4(address) => {
                out.extend([FOUR, self.bits, cidr.into(), 4]);
                out.extend(address.octets());
            }
            IpAddr::V6(address) => {
                out.extend([SIX, self.bits, cidr.into(), 16]);
                out.extend(address.octets());
            }
        }
    }

    /// Equal networks have equal ones.
    pub(super) fn canonical(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20);
        self.to_binary(false, &mut out);
        out
    }

    /// Not more bits than there are, and in cidr none beyond the network's.
    fn checked(self, cidr: bool) -> Option<Self> {
        let beyond = match self.address {
            IpAddr::V4(address) if self.bits <= 32 => {
                address.to_bits().checked_shl(self.bits.into()).unwrap_or(0) != 0
            }
            IpAddr::V6(address) if self.bits <= 128 => {
                address.to_bits().checked_shl(self.bits.into()).unwrap_or(0) != 0
            }
            _ => return None,
        };
        (!cidr || !beyond).then_some(self)
    }
}

impl From<[u8; 16]> for Network {
    fn from(octets: [u8; 16]) -> Self {
        Self::host(Ipv6Addr::from(octets).into())
    }
}

/// Six pairs of hexadecimal digits with colons.
pub(super) fn mac(text: &str) -> Option<[u8; 6]> {
    let mut out = [0; 6];
    let mut parts = text.split(':');
    for place in &mut out {
        let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'))?;
        *place = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(out)
}
