//! P1: a server on this host has many addresses, and is one target at all of them.

use std::{net::TcpListener, thread};

use anyhow::Result;
use chaperone_host_tests::{Host, Scene};

/// Sends a mark to an address and port; answers what became of it.
const SAYS: &str = "
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
    s.sendall(sys.argv[3].encode())
    print('sent')
except OSError as e:
    print(type(e).__name__)
";

#[test]
fn p1_a_server_on_this_host_is_a_target_at_all_of_its_addresses() -> Result<()> {
    // On every address of this host, of which the configuration names one.
    let listener = TcpListener::bind("[::]:0")?;
    let port = listener.local_addr()?.port();
    let server = crate::guard::Server::on(listener)?;
    let mut host = Scene::default()
        .without_postgres()
        .address(&format!("[\"127.0.0.1:{port}\"]"))
        .prepare()?;
    let mut ways: Vec<String> =
        ["127.0.0.1", "127.0.0.2", "127.1.2.3", "::1", "::ffff:127.0.0.9", "localhost", "0.0.0.0"]
            .map(Into::into)
            .into();
    ways.extend(own_address());
    let say = |host: &Host, way: &str, when: &str| -> Result<String> {
        let mark = format!("<{way} {when}>");
        host.agent("/usr/bin/python3", &["-c", SAYS, way, &port.to_string(), &mark])?.ok()
    };
    for way in &ways {
        assert_eq!(say(&host, way, "before")?, "sent", "{way}");
        assert!(server.hears(&format!("<{way} before>")), "{way}: nothing without the daemon");
    }
    host.start_daemon()?;
    for way in &ways {
        say(&host, way, "with")?;
    }
    thread::sleep(std::time::Duration::from_millis(500));
    let reached: Vec<_> =
        ways.iter().filter(|way| server.has_heard(&format!("<{way} with>"))).collect();
    assert!(reached.is_empty(), "these lead round the daemon: {reached:?}");
    assert_eq!(host.counter("kernel_redirected")?, ways.len() as u64);
    let sessions = host.closed_sessions()?;
    assert!(sessions.iter().all(|session| session["target"] == "prod"), "{sessions:?}");
    // The log names what was asked for.
    let asked = format!("127.1.2.3:{port}");
    assert!(sessions.iter().any(|session| session["server"] == *asked), "{sessions:?}");
    assert!(host.daemon_output().contains("names none of its Unix sockets"));
    Ok(())
}

#[test]
fn p1_an_ipv6_address_that_is_an_ipv4_address_is_that_target() -> Result<()> {
    let host = Scene::default().without_postgres().address("[\"198.51.100.7:5439\"]").start()?;
    // By a translator (RFC 6052), and in the old compatible form: connect is asked before any way is
    // looked for.
    for (count, address) in (1..).zip(["64:ff9b::198.51.100.7", "::198.51.100.7"]) {
        let code = format!(
            "
import socket
s = socket.socket(socket.AF_INET6)
s.connect(('{address}', 5439))
print(s.getpeername()[:2])
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
try:
    s.sendto(b'x', ('{address}', 5439))
except PermissionError:
    print('refused')
"
        );
        let out = host.python(&code)?.ok()?;
        assert!(out.starts_with("('") && out.ends_with(", 5439)\nrefused"), "{out}");
        assert_eq!(host.counter("kernel_redirected")?, count);
    }
    let other =
        "import socket; socket.socket(socket.AF_INET6).connect(('64:ff9b::198.51.100.8', 5439))";
    assert!(host.python(other)?.err.contains("Error"), "another address is no target");
    assert_eq!(host.counter("kernel_redirected")?, 2);
    Ok(())
}

/// An address of this host that is not loopback's, where it has one.
fn own_address() -> Option<String> {
    // No packet is sent: it only chooses the way.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

#[test]
fn p4_a_client_that_tries_the_addresses_of_a_name_gets_its_session() -> Result<()> {
    // The server listens at one address of this host; clients ask for others.
    let host = Scene::default().start()?;
    for asked in ["::1", "127.0.0.1"] {
        let out = host.agent("psql", &["-X", "-At", "-h", asked, "-c", "SELECT 7"])?.ok()?;
        assert_eq!(out, "7", "{asked}");
    }
    assert_eq!(host.statements()?, ["SELECT 7", "SELECT 7"]);
    let sessions = host.closed_sessions()?;
    let asked: Vec<_> = sessions.iter().map(|session| session["server"].clone()).collect();
    assert_eq!(asked, ["[::1]:5432", "127.0.0.1:5432"]);
    Ok(())
}

#[test]
fn an_address_that_another_target_lists_is_that_targets() -> Result<()> {
    let host = Scene::default().other_target("other", "").start()?;
    let ask = |address: String| {
        host.agent("psql", &["-X", "-At", "-h", &address, "-c", "SELECT 8"])?.ok()
    };
    ask(host.address_of("other").to_string())?;
    ask(host.address_of("prod").to_string())?;
    let sessions = host.closed_sessions()?;
    let targets: Vec<_> = sessions.iter().map(|session| session["target"].clone()).collect();
    assert_eq!(targets, ["other", "prod"]);
    Ok(())
}

#[test]
fn p2_a_name_without_an_address_is_refused_and_not_open() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let server = crate::guard::Server::on(listener)?;
    let say = |host: &Host, mark: &str| {
        let port = port.to_string();
        host.agent("/usr/bin/python3", &["-c", SAYS, "127.0.0.1", &port, mark])?.ok()
    };
    let mut host = Scene::default()
        .without_postgres()
        .address(&format!("[\"db.chaperone.invalid:{port}\"]"))
        .etc("nsswitch.conf", "hosts: files\n")
        .etc("hosts", "127.0.0.2 elsewhere\n")
        .prepare()?;
    say(&host, "<before>")?;
    assert!(server.hears("<before>"), "it leads nowhere without the daemon");
    host.start_daemon()?;
    say(&host, "<unknown>")?;
    let asked = format!("host=127.0.0.1 port={port} connect_timeout=5");
    let args = ["-X", "-c", "SELECT 1", &asked];
    let out = host.agent("psql", &args)?;
    assert!(out.err.contains("where target prod is not known yet"), "{}", out.err);
    assert!(out.err.contains("db.chaperone.invalid"), "{}", out.err);
    assert!(!server.hears("<unknown>"));
    let sessions = host.closed_sessions()?;
    let told =
        |s: &serde_json::Value| s["detail"].as_str().is_some_and(|d| d.contains("not known"));
    assert!(sessions.len() >= 2 && sessions.iter().all(told), "{sessions:?}");
    // By other protocols, too.
    let code = format!("import socket; socket.socket(2, 2).sendto(b'x', ('127.0.0.1', {port}))");
    assert!(host.python(&code)?.err.contains("PermissionError"));
    crate::guard::recorded(&host, "bypass", &["agent cleaner", "UDP to target prod", "not known"])?;
    // Other ports, and others, are left alone.
    let out = host.other(
        64_002,
        "/usr/bin/python3",
        &["-c", SAYS, "127.0.0.1", &port.to_string(), "<other>"],
    )?;
    assert_eq!(out.ok()?, "sent");
    assert!(server.hears("<other>"));

    // Once the name has an address it is the target, and what is elsewhere is left alone.
    std::fs::write(host.folder().join("hosts"), "192.0.2.9 db.chaperone.invalid\n")?;
    chaperone_host_tests::wait_until("the name is found", || {
        say(&host, "<found>").is_ok() && server.has_heard("<found>")
    })
}
