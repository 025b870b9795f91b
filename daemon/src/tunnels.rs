//! Where a tunnel of an SSH session leads: to a target, elsewhere, or to where it cannot be told.
//!
//! The far end looks the place up, and not this host: a name that the configuration does not know, or an
//! odd spelling of an address, may be any target's there. So such a place is told apart from targets by
//! its port alone, and refused where some target has that port. A pure function: does not belong here
//! what is decided of the tunnel (`ssh`).

use std::net::{IpAddr, SocketAddr};

use chaperone_kernel::Watch;
use chaperone_model::TargetName;

use crate::{
    addresses::{TargetAddress, is_own_address, is_own_name, nearest, watches},
    config::Target,
    naming::UNKNOWN,
};

/// Where a tunnel leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    /// To a target.
    To(To),
    /// To no target.
    Elsewhere,
    /// It cannot be told whether it is one, for this reason.
    Unclear(String),
}

/// The target that a tunnel leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct To {
    /// Its place in the configuration.
    pub(crate) target: usize,
    /// As far as it is known; it may stand for nothing.
    pub(crate) address: SocketAddr,
    /// As the agent's client named it.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The SSH session whose tunnel it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outer<'a> {
    /// The target, and where it is as far as that is known.
    pub(crate) target: &'a TargetName,
    pub(crate) address: SocketAddr,
}

/// What was asked for.
enum Host {
    /// The far end itself.
    Own,
    Address(IpAddr),
    Name(String),
    /// What is neither, or not in the usual way.
    Odd,
}

impl Host {
    fn read(text: &str, outer: IpAddr) -> Self {
        if let Ok(address) = text.parse::<IpAddr>() {
            let address = address.to_canonical();
            let own = is_own_address(address) || address == outer.to_canonical();
            return if own { Self::Own } else { Self::Address(address) };
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if is_own_name(&name) {
            return Self::Own;
        }
        // What begins with a figure may be read as an address (inet_aton(3)).
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_name =
            name.bytes().all(plain) && last.starts_with(|c: char| c.is_ascii_alphabetic());
        if is_name { Self::Name(name) } else { Self::Odd }
    }
}

/// See the module's comment. `watched` is what addresses stand for as this host sees them.
pub(crate) fn leads(
    targets: &[Target],
    watched: &[(Watch, u32)],
    outer: Outer<'_>,
    host: &str,
    port: u32,
) -> Leads {
    // What is longer is cut by some, so that it would be another.
    let Some(port) = u16::try_from(port).ok().filter(|port| *port > 0) else {
        return Leads::Unclear(format!("{port} is no port"));
    };
    let read = Host::read(host, outer.address.ip());
    Place { targets, watched, outer, asked: host, host: &read, port }.leads()
}

struct Place<'a> {
    targets: &'a [Target],
    watched: &'a [(Watch, u32)],
    outer: Outer<'a>,
    asked: &'a str,
    host: &'a Host,
    port: u16,
}

impl Place<'_> {
    fn leads(&self) -> Leads {
        // What lies behind this very session is named as it is seen from there.
        if let Some(target) = self.nearest_of(|target| self.is_behind(target)) {
            let address = match self.host {
                Host::Address(address) => *address,
                Host::Own => self.outer.address.ip(),
                Host::Name(_) | Host::Odd => nowhere(),
            };
            return self.to(target, address);
        }
        let elsewhere = |target: &Target| !target.through.is_empty() && !self.is_behind(target);
        // How another host calls itself is no other's name.
        let other = self.nearest_of(elsewhere).filter(|_| !matches!(self.host, Host::Own));
        let other = other.and_then(|index| self.targets.get(index));
        let at = |address: IpAddr| nearest(self.watched, SocketAddr::new(address, self.port));
        let seen = match self.host {
            Host::Address(address) => at(*address).map(|target| (target, *address)),
            Host::Own if self.outer.address.ip().is_unspecified() => None,
            Host::Own => {
                at(self.outer.address.ip()).map(|target| (target, self.outer.address.ip()))
            }
            Host::Name(_) | Host::Odd => self.named(),
        };
        match (seen, other) {
            (Some((target, address)), None) if target & UNKNOWN == 0 => {
                self.to(target as usize, address)
            }
            (_, Some(other)) => {
                let outers: Vec<_> = other.through.iter().map(ToString::to_string).collect();
                Leads::Unclear(format!(
                    "target {} has such an address, and lies behind {} and not behind {}",
                    other.name,
                    outers.join(", "),
                    self.outer.target
                ))
            }
            (_, None) => match self.may_be() {
                None => Leads::Elsewhere,
                Some(target) => Leads::Unclear(format!(
                    "it may be target {}, which has the same port: ask for the target by a name or an address that its entry lists, or list this one (`through = {:?}` where it is seen from there)",
                    target.name, self.outer.target.0
                )),
            },
        }
    }

    fn to(&self, target: usize, address: IpAddr) -> Leads {
        let (host, port) = (self.asked.to_owned(), self.port);
        Leads::To(To { target, address: SocketAddr::new(address, port), host, port })
    }

    /// Whether a target lies behind this session's.
    fn is_behind(&self, target: &Target) -> bool {
        target.through.contains(self.outer.target)
    }

    /// The one of some targets that lists most narrowly what was asked for.
    fn nearest_of(&self, of: impl Fn(&Target) -> bool) -> Option<usize> {
        let narrow = |target: &Target| {
            let listed = target.addresses.iter().filter(|one| self.is_listed(one));
            listed.map(TargetAddress::narrowness).max()
        };
        let all = (0..).zip(self.targets).filter(|(_, target)| of(target));
        let found = all.filter_map(|(index, target)| Some((narrow(target)?, index)));
        found
            .max_by_key(|(narrow, index)| (*narrow, std::cmp::Reverse(*index)))
            .map(|(_, index)| index)
    }

    /// Whether an address of an entry is the one that was asked for, by its spelling.
    fn is_listed(&self, listed: &TargetAddress) -> bool {
        if listed.port() != self.port {
            return false;
        }
        match (listed, self.host) {
            (TargetAddress::Fixed(Watch::Any { .. }), _) => true,
            (_, Host::Own) => {
                let own = SocketAddr::new(self.outer.address.ip(), self.port);
                let is_outer = |watch: &Watch| watches(watch, own);
                listed.is_loopback()
                    || matches!(listed, TargetAddress::Fixed(watch) if is_outer(watch))
            }
            (TargetAddress::Fixed(watch), Host::Address(address)) => {
                watches(watch, SocketAddr::new(*address, self.port))
            }
            (TargetAddress::Name(listed, _), Host::Name(asked)) => {
                listed.trim_end_matches('.').eq_ignore_ascii_case(asked)
            }
            _ => false,
        }
    }

    /// The target that this host sees under a name that was asked for.
    fn named(&self) -> Option<(u32, IpAddr)> {
        let index = u32::try_from(self.nearest_of(|target| target.through.is_empty())?).ok()?;
        let address = self.watched.iter().find_map(|(watch, of)| match *watch {
            Watch::Net { address, port, .. } if *of == index && port == self.port => Some(address),
            _ => None,
        });
        Some((index, address.unwrap_or_else(nowhere)))
    }

    /// A target that this may be, though nothing says so.
    fn may_be(&self) -> Option<&Target> {
        let may = |target: &&Target| {
            let seen = target.through.is_empty();
            let of_port = |one: &&TargetAddress| one.port() == self.port;
            let mut listed = target.addresses.iter().filter(of_port);
            match self.host {
                // What a name stands for is looked up here, or else is not known.
                Host::Address(_) if seen => {
                    let any = Watch::Any { port: self.port };
                    self.watched.iter().any(|(watch, of)| {
                        *watch == any
                            && of & UNKNOWN != 0
                            && self
                                .targets
                                .get((of & !UNKNOWN) as usize)
                                .is_some_and(|one| one.name == target.name)
                    })
                }
                Host::Address(_) => {
                    self.is_behind(target)
                        && listed.any(|one| one.name().is_some() || one.is_loopback())
                }
                Host::Own | Host::Name(_) | Host::Odd => {
                    (seen || self.is_behind(target)) && listed.next().is_some()
                }
            }
        };
        self.targets.iter().find(may)
    }
}

/// The address of what has none that is known.
fn nowhere() -> IpAddr {
    std::net::Ipv4Addr::UNSPECIFIED.into()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::config::tests::parse;

    /// Targets with these names, protocols, addresses, and what they lie behind.
    fn targets(all: &[(&str, &str, &[&str], &[&str])]) -> Vec<Target> {
        let mut text = "[[agent]]\nname = \"a\"\nselect = { user = 64001 }\n".to_owned();
        for (name, protocol, addresses, through) in all {
            let _ = write!(
                text,
                "[[target]]\nname = {name:?}\nprotocol = {protocol:?}\naddress = {addresses:?}\n"
            );
            if *protocol == "postgres" {
                text += "tls = \"disable\"\n";
            }
            if !through.is_empty() {
                let _ = writeln!(text, "through = {through:?}");
            }
        }
        parse(&text).expect("good").targets
    }

    /// Where `host:port` leads in a session to target web, at 10.0.0.1.
    fn found(host: &str, port: u32) -> String {
        let targets = targets(&[
            ("web", "ssh", &["10.0.0.1:22"], &[]),
            ("db", "postgres", &["db.internal:5432", "10.0.0.5:5432"], &[]),
            ("net", "postgres", &["10.9.0.0/24:5433"], &[]),
            ("own", "postgres", &["localhost:5434"], &["web"]),
            ("far", "postgres", &["far.internal:5435", "192.168.0.7:5436"], &["web"]),
            ("other", "postgres", &["10.7.0.1:5437", "localhost:5438"], &["web2"]),
            ("web2", "ssh", &["10.0.0.2:22"], &[]),
            ("here", "postgres", &["10.0.0.1:5439"], &[]),
            ("lost", "postgres", &["lost.internal:5440"], &[]),
        ]);
        let watch = |text: &str| match text.parse() {
            Ok(TargetAddress::Fixed(watch)) => watch,
            other => panic!("{text}: {other:?}"),
        };
        let watched = [
            (watch("10.0.0.1:22"), 0),
            (watch("10.0.0.5:5432"), 1),
            (watch("10.0.0.6:5432"), 1),
            (watch("10.9.0.0/24:5433"), 2),
            (watch("10.0.0.2:22"), 6),
            (watch("10.0.0.1:5439"), 7),
            (watch("*:5440"), 8 | UNKNOWN),
        ];
        let name = TargetName("web".into());
        let outer = Outer { target: &name, address: ([10, 0, 0, 1], 22).into() };
        match leads(&targets, &watched, outer, host, port) {
            Leads::To(to) => format!("{} {}", targets[to.target].name, to.address),
            Leads::Elsewhere => "elsewhere".into(),
            Leads::Unclear(why) => why.chars().take(90).collect(),
        }
    }

    #[test]
    fn p1_a_tunnel_leads_to_the_target_whose_place_it_names() {
        for (host, port, leads) in [
            ("10.0.0.5", 5432, "db 10.0.0.5:5432"),
            ("::ffff:10.0.0.5", 5432, "db 10.0.0.5:5432"),
            ("::ffff:a00:5", 5432, "db 10.0.0.5:5432"),
            ("db.internal", 5432, "db 10.0.0.5:5432"),
            ("DB.Internal.", 5432, "db 10.0.0.5:5432"),
            // What the name stands for, as this host sees it.
            ("10.0.0.6", 5432, "db 10.0.0.6:5432"),
            ("10.9.0.77", 5433, "net 10.9.0.77:5433"),
            ("10.0.0.2", 22, "web2 10.0.0.2:22"),
            // The far end itself.
            ("localhost", 22, "web 10.0.0.1:22"),
            ("127.0.0.1", 5439, "here 10.0.0.1:5439"),
            ("127.9.9.9", 5439, "here 10.0.0.1:5439"),
            ("::1", 5439, "here 10.0.0.1:5439"),
            ("0.0.0.0", 5439, "here 10.0.0.1:5439"),
            ("::", 5439, "here 10.0.0.1:5439"),
            ("::ffff:127.0.0.1", 5439, "here 10.0.0.1:5439"),
            ("a.localhost", 5439, "here 10.0.0.1:5439"),
            ("10.0.0.1", 5439, "here 10.0.0.1:5439"),
            // Behind it.
            ("localhost", 5434, "own 10.0.0.1:5434"),
            ("::1", 5434, "own 10.0.0.1:5434"),
            ("10.0.0.1", 5434, "own 10.0.0.1:5434"),
            ("far.internal", 5435, "far 0.0.0.0:5435"),
            ("192.168.0.7", 5436, "far 192.168.0.7:5436"),
            // No target's.
            ("10.0.0.7", 5432, "elsewhere"),
            ("10.0.0.5", 5431, "elsewhere"),
            ("www.internal", 80, "elsewhere"),
            ("2130706433", 80, "elsewhere"),
            ("localhost", 5438, "elsewhere"),
        ] {
            assert_eq!(found(host, port), leads, "{host}:{port}");
        }
    }

    #[test]
    fn p2_what_may_be_a_target_by_another_spelling_is_not_let_through() {
        for (host, port) in [
            ("2130706433", 5432),
            ("0x7f000001", 5432),
            ("0x7f.1", 5432),
            ("167772165", 5432),
            // What another address of web reaches is not known where its own is listed.
            ("172.17.0.1", 5434),
            ("10.5", 5432),
            ("010.0.0.5", 5432),
            ("10.0.0.005", 5432),
            ("[10.0.0.5]", 5432),
            ("fe80::1%eth0", 5432),
            ("db", 5432),
            ("db.internal.example.org", 5432),
            ("database.internal", 5432),
            ("localhost", 5432),
            ("127.1", 5432),
            ("127.0.0.1", 5432),
            ("", 5432),
            ("*", 5432),
            ("db.internal\0", 5432),
            ("db.internal ", 5432),
            ("dB.ïnternal", 5432),
            ("another", 22),
            // Behind it, of a name that only the far end knows.
            ("192.168.0.9", 5435),
            ("alias", 5435),
            // Of a name that nobody could look up yet.
            ("10.3.3.3", 5440),
        ] {
            assert!(
                found(host, port).starts_with("it may be target "),
                "{host:?}:{port}: {}",
                found(host, port)
            );
        }
        assert!(found("10.7.0.1", 5437).contains("behind web2 and not behind web"));
        // Some take the rest of it: 65536 + 5432.
        for port in [0, 70968, u32::MAX] {
            assert!(found("10.0.0.5", port).ends_with("no port"));
        }
    }
}
