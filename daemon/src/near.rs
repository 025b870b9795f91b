//! Servers on this host: which addresses are its own, and that a server there has all of them.
//!
//! A server that listens on every address is reached by any spelling of "here". So where one of a
//! target's addresses is loopback or this host's own, the target is watched at all of them. An
//! address that the configuration lists itself wins: derived ones fill what is left.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use chaperone_kernel::Watch;
use nix::ifaddrs::getifaddrs;
use tokio::net::{TcpStream, lookup_host};

use crate::addresses::{TargetAddress, watches};

/// This host's addresses that are not loopback's.
pub(crate) fn own() -> io::Result<BTreeSet<IpAddr>> {
    let address = |found: nix::ifaddrs::InterfaceAddress| {
        let storage = found.address?;
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = || storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
        v4.or_else(v6).filter(|address| !address.is_loopback())
    };
    Ok(getifaddrs()?.filter_map(address).collect())
}

/// Whether an address leads to this host.
fn is_near(address: IpAddr, own: &BTreeSet<IpAddr>) -> bool {
    address.is_loopback() || own.contains(&address)
}

/// Whether some address of this host is watched.
pub(crate) fn covers(watch: &Watch, own: &BTreeSet<IpAddr>) -> bool {
    let Watch::Net { address, port, .. } = *watch else { return true };
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    address.is_loopback()
        || loopback.iter().chain(own).any(|near| watches(watch, SocketAddr::new(*near, port)))
}

/// What else is watched, as these are: a server on this host at its other addresses. Each place is
/// that of the first target that has it.
pub(crate) fn derived(listed: &[(Watch, u32)], own: &BTreeSet<IpAddr>) -> Vec<(Watch, u32)> {
    let mut taken: BTreeSet<Watch> = listed.iter().map(|(watch, _)| *watch).collect();
    let mut found = Vec::new();
    for (watch, target) in listed {
        let Watch::Net { port, .. } = *watch else { continue };
        if !covers(watch, own) {
            continue;
        }
        let whole = |address: IpAddr| (address, if address.is_ipv4() { 32 } else { 128 });
        let loopback = [(Ipv4Addr::new(127, 0, 0, 0).into(), 8), whole(Ipv6Addr::LOCALHOST.into())];
        for (address, bits) in loopback.into_iter().chain(own.iter().copied().map(whole)) {
            let watch = Watch::Net { address, bits, port };
            if taken.insert(watch) {
                found.push((watch, *target));
            }
        }
    }
    found
}

/// The addresses that are listed at a port as such, not as prefixes or names.
fn fixed(port: u16, addresses: &[TargetAddress]) -> Vec<IpAddr> {
    let fixed = addresses.iter().filter(|address| !address.is_wide());
    let at = |address: &TargetAddress| match *address {
        TargetAddress::Fixed(Watch::Net { address, port: at, .. }) if at == port => Some(address),
        _ => None,
    };
    fixed.filter_map(at).collect()
}

/// Where else on this host the server is listed, where an agent asked for an address that is not.
pub(crate) fn listed(to: SocketAddr, addresses: &[TargetAddress]) -> Vec<IpAddr> {
    let own = own().unwrap_or_default();
    let asked = |address: &TargetAddress| match address {
        TargetAddress::Fixed(watch) => watches(watch, to),
        TargetAddress::Name(..) => false,
    };
    if !is_near(to.ip(), &own) || addresses.iter().any(asked) {
        return Vec::new();
    }
    let mut found = fixed(to.port(), addresses);
    found.retain(|address| is_near(*address, &own));
    found
}

/// Connects to where an agent asked to go. A client that asks for a name tries its addresses one
/// after the other until one takes it; here the daemon took the first. So where nothing listens
/// at an address of this host, a target is where else on this host it is listed.
///
/// # Errors
/// What the address that was asked for said.
pub(crate) async fn connect(to: SocketAddr, addresses: &[TargetAddress]) -> io::Result<TcpStream> {
    let refused = match TcpStream::connect(to).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => error,
        done => return done,
    };
    let own = own().unwrap_or_default();
    if !is_near(to.ip(), &own) {
        return Err(refused);
    }
    let mut others = fixed(to.port(), addresses);
    for address in addresses {
        if let TargetAddress::Name(name, port) = address
            && *port == to.port()
            && let Ok(found) = lookup_host((name.as_str(), *port)).await
        {
            others.extend(found.map(|address| address.ip()));
        }
    }
    for other in others.into_iter().filter(|other| *other != to.ip() && is_near(*other, &own)) {
        if let Ok(stream) = TcpStream::connect((other, to.port())).await {
            return Ok(stream);
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(text: &str) -> Watch {
        match text.parse() {
            Ok(TargetAddress::Fixed(watch)) => watch,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn shown(listed: &[(&str, u32)], own: &[&str]) -> Vec<(String, u32)> {
        let listed: Vec<_> = listed.iter().map(|(text, target)| (watch(text), *target)).collect();
        let own = own.iter().map(|text| text.parse().expect(text)).collect();
        let found = derived(&listed, &own).into_iter();
        found.map(|(watch, target)| (TargetAddress::Fixed(watch).to_string(), target)).collect()
    }

    #[test]
    fn p1_a_server_on_this_host_is_watched_at_all_of_its_addresses() {
        let all = ["127.0.0.0/8:5432", "[::1/128]:5432", "10.0.0.7/32:5432", "[fd00::7/128]:5432"];
        let own = ["10.0.0.7", "fd00::7"];
        let listed = ["127.0.0.1:5432", "127.0.1.1:5432", "[::1]:5432", "10.0.0.7:5432"];
        for listed in listed.into_iter().chain(["10.0.0.0/24:5432", "[fd00::/64]:5432"]) {
            let same = |text: &&str| watch(text) != watch(listed);
            let expected = all.iter().filter(|t| same(t)).map(|t| (t.to_string(), 0));
            assert_eq!(shown(&[(listed, 0)], &own), expected.collect::<Vec<_>>(), "{listed}");
        }
        for elsewhere in ["10.0.0.8:5432", "10.0.1.0/24:5432", "[fd00::8]:5432", "*:5432"] {
            assert_eq!(shown(&[(elsewhere, 0)], &own), [], "{elsewhere}");
        }
    }

    #[test]
    fn what_another_target_lists_is_that_targets() {
        let found =
            shown(&[("127.0.0.1:5432", 0), ("[::1]:5432", 1), ("10.0.0.7:5432", 2)], &["10.0.0.7"]);
        assert_eq!(found, [("127.0.0.0/8:5432".to_owned(), 0)]);
    }

    #[tokio::test]
    async fn p4_a_server_that_listens_at_one_address_is_found_by_another() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = server.local_addr().expect("an address").port();
        let listed = [TargetAddress::Fixed(watch(&format!("127.0.0.1:{port}")))];
        for asked in ["127.0.0.1", "127.0.0.77", "::1"] {
            let asked = SocketAddr::new(asked.parse().expect(asked), port);
            let stream = connect(asked, &listed).await.expect("connected");
            assert_eq!(stream.peer_addr().expect("an address").ip(), Ipv4Addr::LOCALHOST);
        }
        let error = connect(SocketAddr::new([127, 0, 0, 77].into(), port), &[]).await;
        assert_eq!(error.expect_err("not listed").kind(), io::ErrorKind::ConnectionRefused);
    }
}
