//! Which addresses a target has: prefixes, any address at a port, and names that are looked up
//! again and again.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    time::{Duration, Instant},
};

use chaperone_kernel::Watch;

/// How often names are looked up.
pub(crate) const LOOK_UP_EVERY: Duration = Duration::from_secs(15);

/// How long an answer that is no longer given is still watched: a client may have looked it up
/// just before it changed.
pub(crate) const KEEP_OLD: Duration = Duration::from_mins(10);

/// An address of a target, as the configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TargetAddress {
    /// `*:5432`, `10.0.0.7:5432`, `10.0.0.0/24:5432`, `[fd00::/64]:5432`.
    Fixed(Watch),
    /// `db.internal:5432`.
    Name(String, u16),
}

impl FromStr for TargetAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("{text:?} has no port: write it as host:port"))?;
        let port = match port.parse() {
            Ok(0) | Err(_) => {
                return Err(format!("{port:?} is no port: it is a number from 1 to 65535"));
            }
            Ok(port) => port,
        };
        if host == "*" {
            return Ok(Self::Fixed(Watch::Any { port }));
        }
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if inner.is_none() && host.contains(':') {
            return Err(format!("{text:?}: an IPv6 address goes in brackets, as in [::1]:{port}"));
        }
        let host = inner.unwrap_or(host);
        let (address, bits) = match host.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (host, None),
        };
        match (address.parse::<IpAddr>(), bits) {
            (Ok(address), bits) => {
                let longest = if address.is_ipv4() { 32 } else { 128 };
                let bits = match bits.map(str::parse) {
                    None => longest,
                    Some(Ok(bits)) if bits <= longest => bits,
                    Some(_) => {
                        return Err(format!("{text:?}: the prefix is at most {longest} bits long"));
                    }
                };
                if masked(address, bits) != address {
                    return Err(format!(
                        "{text:?} has bits set behind its prefix: did you mean {}/{bits}?",
                        masked(address, bits)
                    ));
                }
                Ok(Self::Fixed(Watch::Net { address, bits, port }))
            }
            (Err(_), Some(_)) => Err(format!("{text:?}: a prefix needs an IP address before it")),
            (Err(_), None) if is_name(host) => Ok(Self::Name(host.to_owned(), port)),
            (Err(_), None) => Err(format!("{host:?} is neither an address nor a host name")),
        }
    }
}

impl TargetAddress {
    /// The host name, where it is one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Fixed(_) => None,
            Self::Name(name, _) => Some(name),
        }
    }

    /// Whether it is a host's own name for itself, whichever host that is.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name, _) => is_own_name(name),
            Self::Fixed(Watch::Net { address, .. }) => is_own_address(*address),
            Self::Fixed(Watch::Any { .. }) => false,
        }
    }

    /// How few places it stands for: more is fewer.
    pub(crate) fn narrowness(&self) -> u8 {
        match self {
            Self::Fixed(Watch::Any { .. }) => 0,
            Self::Fixed(Watch::Net { address: IpAddr::V4(_), bits, .. }) => bits + 96,
            Self::Fixed(Watch::Net { bits, .. }) => *bits,
            Self::Name(..) => 129,
        }
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Fixed(Watch::Any { port } | Watch::Net { port, .. }) | Self::Name(_, port) => {
                *port
            }
        }
    }

    /// How a line of `known_hosts` names the host (sshd(8)), where it is one.
    pub(crate) fn known_as(&self) -> Option<String> {
        let (host, port) = match self {
            Self::Name(name, port) => (name.to_lowercase(), *port),
            Self::Fixed(Watch::Net { address, port, .. }) if !self.is_wide() => {
                (address.to_string(), *port)
            }
            Self::Fixed(_) => return None,
        };
        Some(if port == 22 { host } else { format!("[{host}]:{port}") })
    }

    /// Whether another address is one of those that this stands for.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        let Self::Fixed(wide) = self else { return false };
        match (*wide, other) {
            (
                Watch::Any { port },
                Self::Name(_, other)
                | Self::Fixed(Watch::Any { port: other } | Watch::Net { port: other, .. }),
            ) => port == *other,
            (
                Watch::Net { address: net, bits, port },
                Self::Fixed(Watch::Net { address, bits: longer, port: other }),
            ) => port == *other && bits <= *longer && in_net(net, bits, *address),
            (Watch::Net { .. }, _) => false,
        }
    }

    /// Whether it stands for more than one server, so that who connects chooses.
    pub(crate) fn is_wide(&self) -> bool {
        match self {
            Self::Fixed(Watch::Any { .. }) => true,
            Self::Fixed(Watch::Net { address, bits, .. }) => {
                *bits < if address.is_ipv4() { 32 } else { 128 }
            }
            Self::Name(..) => false,
        }
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(Watch::Any { port }) => write!(f, "*:{port}"),
            Self::Fixed(Watch::Net { address: IpAddr::V4(a), bits, port }) => {
                write!(f, "{a}/{bits}:{port}")
            }
            Self::Fixed(Watch::Net { address: IpAddr::V6(a), bits, port }) => {
                write!(f, "[{a}/{bits}]:{port}")
            }
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

fn in_net(net: IpAddr, bits: u8, address: IpAddr) -> bool {
    let same = |a: u128, b: u128, length: u32| {
        let rest = length.saturating_sub(bits.into());
        a.checked_shr(rest).unwrap_or(0) == b.checked_shr(rest).unwrap_or(0)
    };
    match (net, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

/// A name that every host gives itself (RFC 6761, section 6.3).
pub(crate) fn is_own_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    ["localhost", "ip6-localhost", "ip6-loopback"].contains(&name.as_str())
        || name.ends_with(".localhost")
}

/// An address by which a host connects to itself: Linux takes the one that stands for none for it.
pub(crate) fn is_own_address(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Whether an address is watched by this.
pub(crate) fn watches(watch: &Watch, address: std::net::SocketAddr) -> bool {
    match *watch {
        Watch::Any { port } => address.port() == port,
        Watch::Net { address: net, bits, port } => {
            address.port() == port && in_net(net, bits, address.ip().to_canonical())
        }
    }
}

/// The target whose prefix fits an address best.
pub(crate) fn nearest(watched: &[(Watch, u32)], address: std::net::SocketAddr) -> Option<u32> {
    let bits = |watch: &Watch| match *watch {
        Watch::Any { .. } => 0,
        Watch::Net { bits, .. } => bits,
    };
    let fitting = watched.iter().filter(|(watch, _)| watches(watch, address));
    fitting.max_by_key(|(watch, _)| bits(watch)).map(|(_, target)| *target)
}

/// What names were found to mean, with the old answers that still count.
#[derive(Debug, Default)]
pub(crate) struct Answers(HashMap<String, HashMap<IpAddr, Instant>>);

impl Answers {
    /// Takes a look-up's answer. A failed look-up changes nothing: what was known stays watched.
    pub(crate) fn learn(&mut self, name: &str, found: &[IpAddr], now: Instant) {
        let known = self.0.entry(name.to_owned()).or_default();
        for address in found {
            known.insert(address.to_canonical(), now);
        }
        if !found.is_empty() {
            known.retain(|_, seen| now.duration_since(*seen) < KEEP_OLD);
        }
    }

    /// Whether nothing is known of a name.
    pub(crate) fn is_unknown(&self, name: &str) -> bool {
        self.0.get(name).is_none_or(HashMap::is_empty)
    }

    /// All that a target's address stands for now.
    pub(crate) fn watches(&self, address: &TargetAddress) -> Vec<Watch> {
        match address {
            TargetAddress::Fixed(watch) => vec![*watch],
            TargetAddress::Name(name, port) => self
                .0
                .get(name)
                .into_iter()
                .flat_map(HashMap::keys)
                .map(|address| Watch::Net {
                    address: *address,
                    bits: if address.is_ipv4() { 32 } else { 128 },
                    port: *port,
                })
                .collect(),
        }
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(a.to_bits() & mask).into()
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(a.to_bits() & mask).into()
        }
    }
}

/// RFC 1123, 2.1; underscores are in use, too.
fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_address_is_read() {
        for (text, shown) in [
            ("*:5432", "*:5432"),
            ("10.0.0.7:5432", "10.0.0.7/32:5432"),
            ("10.0.0.0/24:5432", "10.0.0.0/24:5432"),
            ("[::1]:5432", "[::1/128]:5432"),
            ("[fd00::/64]:5432", "[fd00::/64]:5432"),
            ("db.internal:5432", "db.internal:5432"),
        ] {
            let address: TargetAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), shown);
        }
    }

    #[test]
    fn a_host_has_a_name_in_known_hosts_where_it_is_one() {
        for (text, name) in [
            ("Web.internal:22", Some("web.internal")),
            ("web.internal:2222", Some("[web.internal]:2222")),
            ("10.0.0.7:22", Some("10.0.0.7")),
            ("[::1]:2222", Some("[::1]:2222")),
            ("10.0.0.0/24:22", None),
            ("*:22", None),
        ] {
            let address: TargetAddress = text.parse().expect(text);
            assert_eq!(address.known_as().as_deref(), name, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        for (text, why) in [
            ("db", "no port"),
            ("db:0", "no port"),
            ("db:x", "no port"),
            ("::1:5432", "brackets"),
            ("10.0.0.0/33:1", "at most 32"),
            ("10.0.0.7/24:1", "10.0.0.0/24"),
            ("db/24:1", "needs an IP address"),
            ("d b:1", "neither"),
            (":1", "neither"),
        ] {
            let error = text.parse::<TargetAddress>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_longest_prefix_names_the_target() {
        let watch = |text: &str| match text.parse() {
            Ok(TargetAddress::Fixed(watch)) => watch,
            other => panic!("{other:?}"),
        };
        let watched = [
            (watch("10.0.0.0/24:5432"), 0),
            (watch("10.0.0.7:5432"), 1),
            (watch("*:5432"), 2),
            (watch("[fd00::/64]:5432"), 3),
        ];
        for (address, target) in [
            ("10.0.0.7:5432", Some(1)),
            ("[::ffff:10.0.0.7]:5432", Some(1)),
            ("10.0.0.8:5432", Some(0)),
            ("10.0.1.8:5432", Some(2)),
            ("[fd00::1]:5432", Some(3)),
            ("10.0.0.7:5433", None),
        ] {
            assert_eq!(nearest(&watched, address.parse().expect(address)), target, "{address}");
        }
    }

    #[test]
    fn old_answers_are_kept_for_a_while_and_failures_forget_nothing() {
        let name: TargetAddress = "db:1".parse().expect("a name");
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let start = Instant::now();
        let mut answers = Answers::default();
        assert!(answers.is_unknown("db"));
        answers.learn("db", &[a], start);
        answers.learn("db", &[b], start + KEEP_OLD / 2);
        assert_eq!(answers.watches(&name).len(), 2);
        answers.learn("db", &[], start + KEEP_OLD * 2);
        assert_eq!(answers.watches(&name).len(), 2, "a failed look-up forgets nothing");
        answers.learn("db", &[b], start + KEEP_OLD);
        assert_eq!(answers.watches(&name), [Watch::Net { address: b, bits: 32, port: 1 }]);
    }
}
