//! The two sides of the transport with each other. With others: the tests of the host.

use std::sync::Arc;

use bytes::BytesMut;

use super::*;
use crate::ssh::Certify;

fn key() -> Arc<SecretKey> {
    Arc::new(SecretKey::generate().expect("a key").0)
}

fn pair(certified: bool) -> (Transport, Transport, Arc<SecretKey>) {
    let (host, authority) = (key(), key());
    let certificate = certified.then(|| {
        Certify {
            key: host.public(),
            is_host: true,
            key_id: "a host",
            principals: &["web".into()],
            valid_after: 0,
            valid_before: u64::MAX,
            extensions: &[],
        }
        .by(&authority)
        .expect("certified")
    });
    let by = authority.public().clone();
    let known = host.public().clone();
    let believes: Believes = Box::new(move |shown| match &shown.certificate {
        Some(certificate) if certificate.authority == by => Ok(()),
        None if shown.key == known => Ok(()),
        _ => Err("nobody vouches for this host".into()),
    });
    let algorithms = vec!["ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519"];
    (
        Transport::server(host, certificate).expect("a server"),
        Transport::client(algorithms, believes).expect("a client"),
        authority,
    )
}

type Payloads = Vec<Vec<u8>>;

/// Carries bytes to and fro until nothing moves; what came to (server, client).
fn carry(a: &mut Transport, b: &mut Transport) -> Result<(Payloads, Payloads), Violation> {
    let (mut to_a, mut to_b) = (BytesMut::new(), BytesMut::new());
    let mut found = (Vec::new(), Vec::new());
    loop {
        to_b.unsplit(a.out().split());
        to_a.unsplit(b.out().split());
        let before = (to_a.len(), to_b.len(), found.0.len(), found.1.len());
        while let Taken::Payload(payload) = a.take(&mut to_a)? {
            found.0.push(payload.to_vec());
        }
        while let Taken::Payload(payload) = b.take(&mut to_b)? {
            found.1.push(payload.to_vec());
        }
        let quiet = a.out().is_empty() && b.out().is_empty();
        if quiet && before == (to_a.len(), to_b.len(), found.0.len(), found.1.len()) {
            return Ok(found);
        }
    }
}

#[test]
fn both_sides_agree_and_messages_pass_over_new_keys() {
    for certified in [false, true] {
        let (mut server, mut client, _) = pair(certified);
        carry(&mut server, &mut client).expect("keys");
        assert!(server.is_open() && server.strict && client.strict);
        assert_eq!(server.session(), client.session());
        assert!(client.server_signatures().is_some_and(|all| all.contains("rsa-sha2-512")));
        let shown = client.host_key().expect("shown");
        assert_eq!(shown.certificate.is_some(), certified);
        let first = server.session().to_vec();
        for round in 0..3_u8 {
            client.send(&[&[90, round]]).expect("sent");
            if round == 1 {
                server.rekey().expect("offered");
            }
            // What is sent while keys are exchanged comes behind them.
            client.send(&[&[91], &[round]]).expect("sent");
            server.send(&[&[92, round]]).expect("sent");
            let (to_server, to_client) = carry(&mut server, &mut client).expect("carried");
            assert_eq!(to_server, [vec![90, round], vec![91, round]]);
            assert_eq!(to_client, [vec![92, round]]);
        }
        assert_eq!(server.session(), first);
    }
}

#[test]
fn a_host_that_nobody_vouches_for_is_not_believed() {
    let (mut server, _, _) = pair(true);
    let (_, mut client, _) = pair(true);
    let told = carry(&mut server, &mut client).expect_err("not believed");
    assert_eq!(told, Violation::HostKey("nobody vouches for this host".into()));
}

#[test]
fn p8_what_is_no_ssh_is_told_soon() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], &[b'a'; 300], b"SSH-1.5-old\r\n"] {
        let (mut server, ..) = pair(false);
        assert!(server.take(&mut BytesMut::from(bytes)).is_err());
    }
    // A server may say something first, and not for ever.
    let (_, mut client, _) = pair(false);
    let mut input = BytesMut::from(&b"hello\r\n"[..]);
    assert!(matches!(client.take(&mut input), Ok(Taken::Need)));
    let mut input = BytesMut::from(&b"again and again\r\n".repeat(1000)[..]);
    assert!(client.take(&mut input).is_err());
}

#[test]
fn p8_nothing_passes_before_keys_are_exchanged() {
    for message in [&[94, 0, 0, 0, 0][..], &[5, 0], &[2, 0, 0, 0, 0]] {
        let (mut server, mut client, _) = pair(false);
        let mut input = client.out().split();
        // Between the offer and the exchange.
        client.sealer.seal(&[message], &mut input).expect("sealed");
        let told = server.take(&mut input).expect_err("misplaced");
        assert!(matches!(told, Violation::Misplaced { .. }), "{told:?}");
    }
}

#[test]
fn p8_nothing_passes_between_the_servers_half_and_its_new_keys() {
    let info = [&[7, 0, 0, 0, 1, 0, 0, 0, 15][..], b"server-sig-algs", &[0, 0, 0, 7], b"ssh-rsa"];
    for message in [info.concat(), vec![2, 0, 0, 0, 0], vec![90]] {
        let (mut server, mut client, _) = pair(false);
        let (mut to_server, mut to_client) = (client.out().split(), server.out().split());
        client.take(&mut to_client).expect("an offer");
        to_server.unsplit(client.out().split());
        // The server's half and that it uses new keys, apart.
        server.take(&mut to_server).expect("the client's half");
        let mut said = server.out().split();
        let length = u32::from_be_bytes(said[..4].try_into().expect("four"));
        let mut half = said.split_to(4 + usize::try_from(length).expect("short"));
        client.take(&mut half).expect("the server's half");
        let mut stranger = Sealer::clear();
        stranger.seal(&[&message], &mut half).expect("sealed");
        let told = client.take(&mut half).expect_err("misplaced");
        assert!(matches!(told, Violation::Misplaced { .. }), "{told:?}");
        assert_eq!(client.server_signatures(), None);
    }
}

#[test]
fn a_host_that_was_believed_is_for_all_of_the_session() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let asked = Arc::new(AtomicU32::new(0));
    let (count, host) = (asked.clone(), key());
    let believes: Believes = Box::new(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Ok(()),
        _ => Err("its certificate has ended".into()),
    });
    let mut server = Transport::server(host, None).expect("a server");
    let mut client = Transport::client(vec!["ssh-ed25519"], believes).expect("a client");
    carry(&mut server, &mut client).expect("keys");
    client.rekey().expect("offered");
    carry(&mut server, &mut client).expect("new keys");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn p8_what_waits_for_new_keys_is_counted_with_what_it_costs() {
    let (mut server, mut client, _) = pair(false);
    carry(&mut server, &mut client).expect("keys");
    server.rekey().expect("offered");
    let refused = (0..WAITING / KEPT).find(|_| server.send(&[&[82]]).is_err());
    assert!(refused.is_some(), "single bytes wait without end");
}

#[test]
fn a_reason_comes_with_the_end() {
    let (mut server, mut client, _) = pair(false);
    // Before keys, as a client is told that is not let in at all.
    server.disconnect(2, "chaperone says why");
    let mut input = server.out().split();
    match client.take(&mut input).expect("read") {
        Taken::Disconnect { code: 2, text } => assert_eq!(text, "chaperone says why"),
        other => panic!("{other:?}"),
    }
}
