//! P2, P8: what is malformed, vanishes, or dies costs one connection and is told.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};

/// Says something as a client that signed on, and prints what comes back.
fn client_says(host: &Host, code: &str) -> Result<String> {
    let program = format!(
        r#"
import socket, struct, os
def msg(tag, body=b""): return tag + struct.pack("!i", len(body) + 4) + body
def dial(): return socket.create_connection((os.environ["PGHOST"], 5432), timeout=20)
def everything(s):
    got = b""
    try:
        while more := s.recv(65536): got += more
    except ConnectionResetError: pass
    return got.decode(errors="replace").replace("\0", "|")
def session():
    s = dial()
    body = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
    s.sendall(struct.pack("!i", len(body) + 4) + body)
    got = b""
    while not got.endswith(b"Z\0\0\0\x05I"): got += s.recv(65536)
    return s
{code}"#
    );
    host.python(&program)?.ok()
}

#[test]
fn p8_a_client_that_breaks_the_protocol_is_told_and_ended() -> Result<()> {
    let host = Host::start()?;
    for (bytes, why) in [
        (r#"b"\x99\0\0\0\x04""#, "a message of type 0x99 is not allowed from a client"),
        // A second start-up: with a length of up to 16 MB its first byte is no message's type.
        (
            r#"struct.pack("!ii", 9, 196608) + b"\0""#,
            "a message of type 0x00 is not allowed from a client",
        ),
        (r#"b"Q\0\0\0\x03""#, "says that it is 3 bytes long, which cannot be"),
        (r#"b"Q\xff\xff\xff\xff""#, "says that it is -1 bytes long, which cannot be"),
        (r#"msg(b"Q", b"SELECT 1")"#, "a message of type 'Q' is malformed: a text does not end"),
        (
            r#"msg(b"Q", b"SELECT 1\0; DROP TABLE t\0")"#,
            "'Q' is malformed: bytes are left over at its end",
        ),
        (r#"msg(b"P", b"a\0SELECT 1\0\x00\x09")"#, "'P' is malformed: it ends too early"),
        (r#"msg(b"B", b"\0\0\0\0\0\x01\0\0\0\x63x\0\0")"#, "'B' is malformed: it ends too early"),
        (
            r#"msg(b"B", b"\0\0\0\0\0\x01\xff\xff\xff\xf0\0\0")"#,
            "'B' is malformed: a value has a negative length",
        ),
        (r#"msg(b"D", b"X\0")"#, "'D' is malformed: it speaks of neither"),
        (r#"msg(b"S", b"x")"#, "'S' says that it is 6 bytes long"),
        (r#"msg(b"p", b"x")"#, "a message of type 'p' is not allowed from a client"),
        (r#"b"H\x7f\xff\xff\xff""#, "'H' says that it is 2147483648 bytes long"),
    ] {
        let code = format!("s = session(); s.sendall({bytes}); print(everything(s))");
        let out = client_says(&host, &code)?;
        assert!(out.contains("VFATAL|C08P01|"), "{bytes}: {out}");
        assert!(out.contains(why), "{bytes}: {out}");
    }
    assert_eq!(host.counter("client_violations")?, 13);
    assert_eq!(host.counter("panics")?, 0);
    // Their ends are recorded behind what ended them.
    let sessions = host.closed_sessions()?;
    let events = host.events()?;
    assert_eq!(events.iter().filter(|e| e["kind"] == "violation").count(), 13);
    assert!(sessions.iter().all(|s| s["closed_by"] == "daemon"));
    // Nothing of it stays.
    host.psql(&["SELECT 1"])?.ok()?;
    Ok(())
}

#[test]
fn p8_start_ups_that_are_malformed_are_told_and_ended() -> Result<()> {
    let host = Host::start()?;
    for (bytes, why) in [
        (r#"b"\0\0\0\x03""#, "it says that it is 3 bytes long"),
        (r#"b"GET / HTTP/1.1\r\n\r\n""#, "bytes long"),
        (r#"struct.pack("!ii", 8, 80877103) + b"more""#, "more was sent before it was answered"),
        (r#"struct.pack("!ii", 9, 196608) + b"x""#, "it does not end with a NUL"),
        (r#"struct.pack("!ii", 9, 131072) + b"\0""#, "does not know protocol version 2.0"),
    ] {
        let out =
            client_says(&host, &format!("s = dial(); s.sendall({bytes}); print(everything(s))"))?;
        assert!(out.contains("VFATAL|"), "{bytes}: {out}");
        assert!(out.contains(why), "{bytes}: {out}");
    }
    Ok(())
}

#[test]
fn p8_invalid_utf8_is_refused_and_the_session_goes_on() -> Result<()> {
    let host = Host::start()?;
    let out = client_says(
        &host,
        r#"s = session(); s.sendall(msg(b"Q", b"SELECT '\xff'\0") + msg(b"Q", b"SELECT 8\0") + msg(b"X")); print(everything(s))"#,
    )?;
    assert!(out.contains("VERROR|C22021|"), "{out}");
    assert!(out.contains("SELECT 1"), "the next statement ran: {out}");
    let rows = host.commands()?;
    assert_eq!(rows[0]["status"], "refused");
    assert_eq!(rows[0]["statement"], "SELECT '\u{fffd}'");
    Ok(())
}

#[test]
fn p8_messages_split_at_every_byte_and_glued_together_are_the_same() -> Result<()> {
    let host = Host::start()?;
    let out = client_says(
        &host,
        r#"
import time
body = struct.pack("!i", 196608) + b"user\0postgres\0\0"
start = struct.pack("!i", len(body) + 4) + body
talk = (msg(b"P", b"\0SELECT 20 + 1\0\0\0") + msg(b"B", b"\0\0\0\0\0\0\0\0") + msg(b"E", b"\0\0\0\0\0")
        + msg(b"S") + msg(b"Q", b"SELECT 22\0") + msg(b"X"))
s = dial(); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for b in start: s.send(bytes([b])); time.sleep(0.0005)
got = b""
while not got.endswith(b"Z\0\0\0\x05I"): got += s.recv(65536)
for b in talk: s.send(bytes([b])); time.sleep(0.0005)
split = everything(s)
s = dial(); s.sendall(start)
got = b""
while not got.endswith(b"Z\0\0\0\x05I"): got += s.recv(65536)
s.sendall(talk)
assert split == everything(s)
assert "21" in split and "22" in split
"#,
    )?;
    assert_eq!(out, "");
    assert_eq!(host.statements()?, ["SELECT 20 + 1", "SELECT 22", "SELECT 20 + 1", "SELECT 22"]);
    Ok(())
}

#[test]
fn a_client_that_vanishes_leaves_an_honest_record() -> Result<()> {
    let host = Host::start()?;
    let mut running = host.start_agent("psql", &["-X", "-c", "SELECT pg_sleep(1), 'slept'"])?;
    wait_until("it sleeps", || host.counter("forwarded").is_ok_and(|n| n > 0))?;
    running.kill();
    // The server finishes what it was sent; so does the record.
    let session = host.closed_sessions()?.pop().context("a session")?;
    assert_eq!(session["closed_by"], "agent");
    assert!(session["detail"].as_str().is_some_and(|d| d.contains("without saying good-bye")));
    let rows = host.commands()?;
    assert_eq!(rows[0]["status"], "ok");
    Ok(())
}

#[test]
fn p4_a_server_stops_for_a_client_that_is_gone_as_it_would_without_us() -> Result<()> {
    let host = Host::start()?;
    // Rows from the first moment on, and some tens of millions of them.
    let text = "SELECT repeat('y', 1000) FROM pg_class a, pg_class b, pg_class c";
    let mut running = host.start_agent("psql", &["-X", "-c", text])?;
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_class c' AND pid <> pg_backend_pid()";
    let is_busy = |count: &str| host.postgres().sql(busy).is_ok_and(|found| found == count);
    wait_until("rows come", || is_busy("1"))?;
    running.kill();
    wait_until("the server has stopped", || is_busy("0"))?;
    let session = host.closed_sessions()?.pop().context("a session")?;
    assert_eq!(session["closed_by"], "agent");
    let rows = host.commands()?;
    assert_eq!(rows[0]["status"], "unknown", "its end was not seen: {rows:?}");
    Ok(())
}

#[test]
fn p2_a_server_that_refuses_is_told_to_the_client() -> Result<()> {
    let host = Scene::default().without_postgres().start()?;
    // With libpq's default it would try again without encryption.
    let out = host.agent("psql", &["sslmode=disable", "-c", "SELECT 1"])?;
    let said = format!(
        "FATAL:  chaperone could not connect to target prod at {}:5432: Connection refused",
        host.address()
    );
    assert!(out.err.contains(&said), "{}", out.err);
    assert_eq!(host.counter("unreachable")?, 1);
    let session = host.closed_sessions()?.pop().context("a session")?;
    assert_eq!(session["closed_by"], "target");
    Ok(())
}

#[test]
fn p2_a_server_that_dies_mid_result_is_told_to_the_client_and_the_log() -> Result<()> {
    let host = Host::start()?;
    let running = host.start_agent("psql", &["-X", "-c", "SELECT pg_sleep(60)"])?;
    wait_until("it sleeps", || host.counter("forwarded").is_ok_and(|n| n > 0))?;
    host.postgres().crash();
    let out = running.finish()?;
    assert_ne!(out.code, Some(0));
    let rows = host.commands()?;
    assert!(["unknown", "error"].iter().any(|s| rows[0]["status"] == *s), "{rows:?}");
    let session = host.closed_sessions()?.pop().context("a session")?;
    assert_eq!(session["closed_by"], "target");
    Ok(())
}

/// A server that signs anybody on and then answers the first message with these bytes.
fn fake_server(host: &Host, answer: Vec<u8>) -> Result<JoinHandle<Result<()>>> {
    let listener = TcpListener::bind((host.address(), 5432))?;
    Ok(thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = [0; 4096];
        let _ = stream.read(&mut bytes)?;
        stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")?;
        let _ = stream.read(&mut bytes)?;
        stream.write_all(&answer)?;
        let _ = stream.read(&mut bytes);
        Ok(())
    }))
}

#[test]
fn p8_a_server_that_breaks_the_protocol_is_told_and_ended() -> Result<()> {
    for (answer, why) in [
        (
            &b"\x01\0\0\0\x04"[..],
            "a message of type 0x01 is not allowed from a server at this point",
        ),
        (b"T\0\0\0\x02", "'T' says that it is 2 bytes long"),
        (b"T\0\0\0\x06\0\x05", "'T' is malformed: a text does not end"),
        (b"Z\0\0\0\x05I", "'Z' is not allowed from a server that owes another answer"),
        (b"1\0\0\0\x04", "'1' is not allowed from a server at this point"),
        (b"T\0\0\0\x06\0\0D\0\0\0\x0a\0\x01\0\0\0\x63", "'D' is malformed: it ends too early"),
        (b"Z\0\0\0\x05?", "the transaction's state is not known"),
    ] {
        let host = Scene::default().without_postgres().start()?;
        let server = fake_server(&host, answer.to_vec())?;
        let out = host.psql(&["SELECT 1"])?;
        server.join().expect("no panic")?;
        assert!(out.err.contains(why), "{answer:?}: {}", out.err);
        assert_eq!(host.counter("server_violations")?, 1, "{answer:?}");
        assert_eq!(host.counter("panics")?, 0);
        let rows = host.commands()?;
        assert_eq!(rows[0]["status"], "unknown", "{answer:?}");
    }
    Ok(())
}

#[test]
fn p2_a_server_that_closes_mid_message_ends_the_session_with_a_record() -> Result<()> {
    let host = Scene::default().without_postgres().start()?;
    // Half a row, then nothing more.
    let server = fake_server(&host, b"T\0\0\0\x06\0\0D\0\0\xff\xff\0\x01".to_vec())?;
    let running = host.start_agent("psql", &["-X", "-c", "SELECT 1"])?;
    wait_until("it was sent", || host.counter("forwarded").is_ok_and(|n| n > 0))?;
    thread::sleep(std::time::Duration::from_millis(300));
    // The fake server reads once more, and goes with the client.
    drop(running);
    server.join().expect("no panic")?;
    let rows = host.commands()?;
    assert_eq!(rows[0]["status"], "unknown");
    Ok(())
}

#[test]
fn what_is_sent_ahead_of_the_sign_on_runs_though_the_client_is_gone_by_then() -> Result<()> {
    let host = Host::start()?;
    host.psql(&["CREATE TABLE t (a int)"])?.ok()?;
    // All in one segment, and the client's side is closed at once.
    let out = client_says(
        &host,
        r#"
s = dial()
body = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
s.sendall(struct.pack("!i", len(body) + 4) + body + msg(b"Q", b"INSERT INTO t VALUES (1)\0") + msg(b"Q", b"SELECT 77\0"))
s.shutdown(socket.SHUT_WR)
print(everything(s))"#,
    )?;
    assert!(out.contains("INSERT 0 1") && out.contains("77"), "{out}");
    let rows = host.commands()?;
    assert!(rows.iter().all(|row| row["status"] == "ok"), "{rows:?}");
    Ok(())
}

#[test]
fn p1_what_comes_behind_the_good_bye_is_not_forwarded() -> Result<()> {
    let host = Scene::default().server("log_statement = 'all'").start()?;
    client_says(
        &host,
        r#"s = session(); s.sendall(msg(b"X") + msg(b"Q", b"SELECT 'smuggled'\0")); everything(s)"#,
    )?;
    assert_eq!(host.closed_sessions()?[0]["closed_by"], "agent");
    assert!(!host.postgres().log().contains("smuggled"));
    assert_eq!(host.statements()?, [""; 0]);
    Ok(())
}
