//! Which connections are taken, and what the agent sees of it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene};

const PEER: &str = "
import socket, sys
s = socket.create_connection((sys.argv[1], 5432), timeout=10)
print(s.getpeername()[:2])
";

fn peer(host: &Host, address: &str) -> Result<String> {
    host.agent("/usr/bin/python3", &["-c", PEER, address])?.ok()
}

#[test]
fn p4_getpeername_shows_the_server_that_was_asked_for() -> Result<()> {
    let host = Scene::default().address("[\"*:5432\"]").start()?;
    let ip = host.address().to_string();
    assert_eq!(peer(&host, &ip)?, format!("('{ip}', 5432)"));
    let mapped = format!("::ffff:{ip}");
    assert_eq!(peer(&host, &mapped)?, format!("('{mapped}', 5432)"));
    assert_eq!(peer(&host, "::1")?, "('::1', 5432)");
    assert_eq!(host.counter("kernel_redirected")?, 3);
    assert_eq!(host.counter("accepted")?, 3);
    assert_eq!(host.counter("no_note")?, 0);
    Ok(())
}

#[test]
fn ipv4_mapped_addresses_reach_the_server() -> Result<()> {
    let host = Host::start()?;
    let mapped = format!("::ffff:{}", host.address());
    let out = host.agent("psql", &["-X", "-At", "-h", &mapped, "-c", "SELECT 6"])?.ok()?;
    assert_eq!(out, "6");
    assert_eq!(host.statements()?, ["SELECT 6"]);
    Ok(())
}

#[test]
fn ipv6_reaches_the_server() -> Result<()> {
    // The relay's server side speaks to a little server on ::1, which refuses in its own words.
    let host = Scene::default().without_postgres().address("[\"[::1]:5432\"]").start()?;
    let server = TcpListener::bind("[::1]:5432").context("port 5432 of ::1 is taken")?;
    let serve = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = server.accept()?;
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes)?;
        stream.write_all(b"E\0\0\0\x1eSFATAL\0VFATAL\0C28000\0Mno\0\0")?;
        Ok(())
    });
    let out = host.agent("psql", &["-X", "-h", "::1", "-c", "SELECT 1"])?;
    serve.join().expect("no panic")?;
    assert!(out.err.contains("FATAL:  no"), "{}", out.err);
    let sessions = host.closed_sessions()?;
    assert_eq!(sessions[0]["server"], "[::1]:5432");
    assert_eq!(sessions[0]["detail"], "the server said 28000: no");
    Ok(())
}

#[test]
fn targets_are_known_by_prefix_port_and_name() -> Result<()> {
    for (address, via) in [
        ("[\"127.0.0.0/8:5432\"]", None),
        ("[\"*:5432\"]", None),
        ("[\"localhost:5432\", \"{ip}:5432\"]", None),
    ] {
        let host = Scene::default().address(address).start()?;
        let ip = via.unwrap_or(host.address().to_string());
        host.agent("psql", &["-X", "-h", &ip, "-c", "SELECT 1"])?.ok()?;
        assert_eq!(host.statements()?, ["SELECT 1"], "{address}");
    }
    Ok(())
}

#[test]
fn a_host_name_is_watched_by_the_addresses_that_it_has() -> Result<()> {
    let host = Scene::default().without_postgres().address("[\"localhost:5433\"]").start()?;
    // Nothing listens there: that it was taken shows by whose words the refusal is in.
    let out = host.agent("psql", &["-X", "-h", "127.0.0.1", "-p", "5433", "-c", "SELECT 1"])?;
    assert!(
        out.err.contains("chaperone could not connect to target prod at 127.0.0.1:5433"),
        "{}",
        out.err
    );
    Ok(())
}

#[test]
fn zero_addresses_are_loopback() -> Result<()> {
    let host = Scene::default().without_postgres().address("[\"127.0.0.1:5434\"]").start()?;
    for address in ["0.0.0.0", "::ffff:0.0.0.0", "127.0.0.1"] {
        let out = host.agent("psql", &["-X", "-h", address, "-p", "5434", "-c", "SELECT 1"])?;
        assert!(
            out.err.contains("could not connect to target prod at 127.0.0.1:5434"),
            "{address}: {}",
            out.err
        );
    }
    Ok(())
}

#[test]
fn other_users_and_other_ports_are_left_alone() -> Result<()> {
    let host = Host::start()?;
    let ip = host.address().to_string();
    host.other(64_002, "psql", &["-X", "-h", &ip, "-c", "SELECT 'not an agent'"])?.ok()?;
    // A server on another port of the same address.
    let listener = TcpListener::bind((host.address(), 5999))?;
    let serve = thread::spawn(move || listener.accept().map(|(_, peer)| peer));
    let code = format!("import socket; socket.create_connection(('{ip}', 5999), timeout=5)");
    host.python(&code)?.ok()?;
    serve.join().expect("no panic")?;
    assert_eq!(host.counter("accepted")?, 0);
    assert_eq!(host.counter("kernel_redirected")?, 0);
    assert_eq!(host.statements()?, [""; 0]);
    Ok(())
}

#[test]
fn an_agent_is_known_by_its_cgroup() -> Result<()> {
    let host = Scene::default().select_by_cgroup().start()?;
    let ip = host.address().to_string();
    // Whatever user id it has, and also from a group below.
    host.other(64_077, "psql", &["-X", "-h", &ip, "-c", "SELECT 'by cgroup'"])?.ok()?;
    let below = host.cgroup().join("below");
    std::fs::create_dir(&below)?;
    let enter = format!(
        "echo $$ > {}/cgroup.procs && exec psql -X -c \"SELECT 'from below'\"",
        below.display()
    );
    host.other(0, "sh", &["-c", &enter])?.ok()?;
    std::fs::remove_dir(&below)?;
    assert_eq!(host.statements()?, ["SELECT 'by cgroup'", "SELECT 'from below'"]);
    Ok(())
}

#[test]
fn p3_the_log_names_the_process_that_connected() -> Result<()> {
    let host = Host::start()?;
    let mut running = host.start_agent("psql", &["-X", "-At", "-c", "SELECT pg_sleep(1)"])?;
    let pid = running.id();
    chaperone_host_tests::wait_until("the session is live", || {
        host.counter("forwarded").is_ok_and(|n| n > 0)
    })?;
    let live = host.chaperone(&["sessions", "--json"])?.ok()?;
    let live: serde_json::Value = serde_json::from_str(live.trim())?;
    assert_eq!(live["pid"], pid);
    assert_eq!(live["uid"], host.uid());
    assert_eq!(live["agent"], "cleaner");
    assert_eq!(live["commands"], 1);
    running.kill();
    let session = host.closed_sessions()?.pop().context("a session")?;
    assert_eq!(session["pid"], pid);
    assert!(session["command_line"].as_str().is_some_and(|c| c.contains("pg_sleep")));
    let place = host.cgroup().file_name().context("a name")?.to_string_lossy().into_owned();
    assert_eq!(session["cgroup"], format!("/{place}"));
    Ok(())
}

#[test]
fn p2_a_connection_that_the_kernel_did_not_send_is_reset_and_counted() -> Result<()> {
    let host = Host::start()?;
    let mut stream = TcpStream::connect(("127.0.0.1", host.port()))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let error = stream.read(&mut [0; 1]).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(host.counter("no_note")?, 1);
    chaperone_host_tests::wait_until("it is recorded", || {
        host.events().is_ok_and(|events| events.iter().any(|e| e["kind"] == "no-note"))
    })?;
    Ok(())
}

#[test]
fn p2_an_agent_cannot_speak_to_the_daemons_port_by_itself() -> Result<()> {
    let host = Host::start()?;
    let code = format!(
        "import socket; socket.create_connection(('127.0.0.1', {}), timeout=5)",
        host.port()
    );
    let out = host.python(&code)?;
    assert!(out.err.contains("Operation not permitted"), "{}", out.err);
    assert_eq!(host.counter("kernel_refused_own_port")?, 1);
    assert_eq!(host.counter("accepted")?, 0);
    Ok(())
}

#[test]
fn p2_another_network_namespace_is_refused() -> Result<()> {
    let host = Scene::default().select_by_cgroup().start()?;
    let ip = host.address().to_string();
    let code = format!("import socket; socket.create_connection(('{ip}', 5432), timeout=5)");
    let inside = format!("ip link set lo up && exec /usr/bin/python3 -c \"{code}\"");
    let out = host.other(0, "unshare", &["--net", "sh", "-c", &inside])?;
    assert!(out.err.contains("Operation not permitted"), "{}", out.err);
    assert_eq!(host.counter("kernel_refused_namespace")?, 1);
    Ok(())
}

#[test]
fn p2_a_socket_that_is_used_again_keeps_no_old_note() -> Result<()> {
    let host = Host::start()?;
    let listener = TcpListener::bind((host.address(), 5998))?;
    let serve = thread::spawn(move || listener.accept().map(|(stream, _)| stream));
    let code = format!(
        "
import socket, ctypes
s = socket.create_connection(('{ip}', 5432), timeout=5)
libc = ctypes.CDLL(None, use_errno=True)
s.settimeout(None)
assert libc.connect(s.fileno(), bytes(16), 16) == 0, ctypes.get_errno()  # AF_UNSPEC: disconnects
s.connect(('{ip}', 5998))
print(s.getpeername())
",
        ip = host.address()
    );
    let out = host.python(&code)?.ok()?;
    serve.join().expect("no panic")?;
    assert_eq!(out, format!("('{}', 5998)", host.address()));
    assert_eq!(host.counter("kernel_redirected")?, 1);
    Ok(())
}
