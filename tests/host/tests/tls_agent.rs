//! TLS from agents: what clients ask for is what they get, with certificates that verify.

use std::{fs, os::unix::fs::PermissionsExt, thread};

use anyhow::{Context, Result};
use chaperone_host_tests::{Certificates, Host, Kind, Scene, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// A client of its own, for what libpq does not do.
const CLIENT: &str = r#"
import os, socket, ssl, struct, sys
def dial(host=None): return socket.create_connection((host or os.environ["PGHOST"], 5432), timeout=20)
def packet(code, body=b""): return struct.pack("!ii", len(body) + 8, code) + body
SSL, CANCEL = 80877103, 80877102
START = packet(196608, b"user\0postgres\0database\0postgres\0\0")
def msg(tag, body=b""): return tag + struct.pack("!i", len(body) + 4) + body
def context(root=None, alpn=None):
    c = ssl.create_default_context(cafile=root)
    if root is None: c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    if alpn: c.set_alpn_protocols([alpn])
    return c
def asked(name=None, root=None, host=None):
    s = dial(host)
    s.sendall(packet(SSL)); assert s.recv(1) == b"S"
    return context(root).wrap_socket(s, server_hostname=name)
def exactly(s, n):
    got = b""
    while len(got) < n:
        more = s.recv(n - len(got))
        if not more: raise EOFError(got)
        got += more
    return got
def message(s):
    tag, length = struct.unpack("!ci", exactly(s, 5))
    return tag, exactly(s, length - 4)
def until(s, *tags):
    while True:
        tag, body = message(s)
        if tag in tags: return tag, body
def everything(s):
    got = b""
    try:
        while more := s.recv(65536): got += more
    except (ConnectionResetError, ssl.SSLError) as e: got += str(e).encode()
    return got.decode(errors="replace").replace("\0", "|")
"#;

fn client(host: &Host, code: &str) -> Result<String> {
    host.python(&format!("{CLIENT}\n{code}"))?.ok()
}

fn details(host: &Host, kind: &str) -> Result<Vec<String>> {
    let events = host.events()?;
    let of_kind = events.iter().filter(|event| event["kind"] == kind);
    Ok(of_kind.filter_map(|event| event["detail"].as_str().map(str::to_owned)).collect())
}

#[test]
fn p4_every_sslmode_of_libpq_does_what_it_says() -> Result<()> {
    let host = Host::start()?;
    let (ip, root) = (host.address(), host.authority().display().to_string());
    let cases = [
        ("sslmode=disable".to_owned(), false),
        ("sslmode=allow".to_owned(), false),
        ("sslmode=prefer".to_owned(), true),
        ("sslmode=require".to_owned(), true),
        (format!("sslmode=verify-ca sslrootcert={root}"), true),
        (format!("sslmode=verify-full sslrootcert={root}"), true),
        (format!("sslmode=verify-full sslrootcert={root} host=db.internal hostaddr={ip}"), true),
        // The oldest protocol that is still taken.
        ("sslmode=require ssl_max_protocol_version=TLSv1.2".to_owned(), true),
    ];
    for (conninfo, encrypted) in &cases {
        let out = host.connect(conninfo, &["\\conninfo", "SELECT 7"])?.ok()?;
        assert!(out.ends_with("\n7"), "{conninfo}: {out}");
        assert_eq!(out.contains("SSL connection (protocol: TLSv1."), *encrypted, "{out}");
    }
    let sessions = host.closed_sessions()?;
    assert_eq!(sessions.len(), cases.len());
    for (session, (conninfo, encrypted)) in sessions.iter().zip(&cases) {
        let tls = session["agent_tls"].as_str();
        assert_eq!(tls.is_some_and(|tls| tls.starts_with("TLSv1.")), *encrypted, "{conninfo}");
        assert_eq!(session["target_tls"], Value::Null, "the server has none");
        assert_eq!(session["closed_by"], "agent", "{conninfo}: {session}");
        assert_eq!(session["detail"], Value::Null, "{conninfo}: {session}");
    }
    assert!(sessions[7]["agent_tls"].as_str().is_some_and(|tls| tls.starts_with("TLSv1.2 ")));
    assert_eq!(host.counter("agent_tls_failed")?, 0);
    Ok(())
}

#[test]
fn p4_a_client_that_does_not_trust_the_authority_goes_and_the_log_says_why() -> Result<()> {
    let host = Host::start()?;
    let stranger = Certificates::new("stranger")?.root().display().to_string();
    // The folder of the authority above is gone by now: a file that is there, of another.
    let kept = Certificates::new("stranger")?;
    let other = kept.root().display().to_string();
    for (mode, root, said, told) in [
        ("verify-ca", &other, "certificate verify failed", "does not trust this host's authority"),
        ("verify-full", &other, "certificate verify failed", "does not trust"),
        ("verify-full", &stranger, "does not exist", "may have no file with this host's authority"),
    ] {
        let conninfo = format!("sslmode={mode} sslrootcert={root}");
        let out = host.connect(&conninfo, &["SELECT 1"])?;
        assert_eq!(out.code, Some(2), "{conninfo}");
        assert!(out.err.contains(said), "{conninfo}: {}", out.err);
        let detail = host.last_session()?["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(told), "{conninfo}: {detail}");
        let events = details(&host, "agent-tls")?;
        assert_eq!(events.last(), Some(&detail));
    }
    assert_eq!(details(&host, "agent-tls")?.len(), 3);
    assert_eq!(host.counter("agent_tls_failed")?, 3);
    assert_eq!(host.statements()?, [""; 0]);
    Ok(())
}

#[test]
fn p4_the_certificate_is_for_the_name_that_was_asked_for_else_for_the_address() -> Result<()> {
    let host = Host::start()?;
    let code = format!(
        r#"
root = {:?}
def names(s): return sorted(v for _, v in s.getpeercert()["subjectAltName"])
def works(s):
    s.sendall(START); until(s, b"Z")
    s.sendall(msg(b"Q", b"SELECT 1\0")); until(s, b"Z"); s.sendall(msg(b"X"))
    assert s.recv(1) == b"", "TLS says good-bye"
ip = os.environ["PGHOST"]
for name in "db.internal", "other.example", ip:
    s = asked(name, root); assert names(s) == sorted({{name, ip}}), names(s); works(s)
unnamed = context(root); unnamed.check_hostname = False
s = dial(); s.sendall(packet(SSL)); s.recv(1)
s = unnamed.wrap_socket(s); assert names(s) == [ip]; works(s)
# TLS without having asked, as PostgreSQL 17's clients do.
for name in "db.internal", ip:
    s = context(root, "postgresql").wrap_socket(dial(), server_hostname=name)
    assert s.selected_alpn_protocol() == "postgresql"
    assert name in names(s); works(s)
# A name that is none is not asked for by any client; the address is what is left.
print("done")
"#,
        host.authority().display().to_string()
    );
    assert_eq!(client(&host, &code)?, "done");
    let sessions = host.closed_sessions()?;
    assert_eq!(sessions.len(), 6);
    assert!(sessions.iter().all(|s| s["agent_tls"].is_string() && s["closed_by"] == "agent"));
    assert_eq!(host.statements()?.len(), 6);
    Ok(())
}

#[test]
fn p8_what_is_no_proper_way_into_tls_is_refused() -> Result<()> {
    let host = Host::start()?;
    for (code, said, counted) in [
        // ALPN keeps clients of other protocols out (protocol-flow, "SSL Session Encryption").
        (
            r"s = context().wrap_socket(dial()); print(everything(s))",
            "must choose the protocol \"postgresql\" by ALPN",
            "agent-tls",
        ),
        (
            r#"
try: context(alpn="http/1.1").wrap_socket(dial())
except ssl.SSLError as e: print(e)"#,
            "tlsv1 alert no application protocol",
            "agent-tls",
        ),
        // What comes before the answer would count as encrypted (CVE-2021-23214).
        (
            r"s = dial(); s.sendall(packet(SSL) + START); print(everything(s))",
            "more was sent before it was answered",
            "violation",
        ),
        (
            r"s = asked(); s.sendall(packet(SSL)); print(everything(s))",
            "TLS was asked for inside TLS",
            "violation",
        ),
        (
            // A handshake inside the encryption.
            r#"
s = asked(); s.sendall(b"\x16\x03\x01\x00\xf4" + b"\0" * 244); print(everything(s))"#,
            "bytes long",
            "violation",
        ),
        (
            r"s = dial(); s.sendall(packet(SSL)); s.recv(1); s.sendall(START); print(everything(s))",
            "",
            "agent-tls",
        ),
    ] {
        let before = details(&host, counted)?.len();
        let out = client(&host, code)?;
        assert!(out.contains(said), "{code}: {out}");
        assert!(!out.contains("|Z"), "{code}: it was let in");
        host.last_session()?;
        assert_eq!(details(&host, counted)?.len(), before + 1, "{code}");
    }
    assert_eq!(host.counter("panics")?, 0);
    host.connect("sslmode=require", &["SELECT 1"])?.ok()?;
    Ok(())
}

#[test]
fn a_target_can_insist_on_encryption_or_do_without() -> Result<()> {
    let host = Scene::default()
        .other_target("strict", "agent_tls = \"require\"")
        .other_target("plain", "agent_tls = \"refuse\"")
        .server("log_connections = on")
        .start()?;
    let strict = format!("host={}", host.address_of("strict"));
    let plain = format!("host={}", host.address_of("plain"));

    let authorized = || host.postgres().log().matches("connection authorized").count();
    let before = authorized();
    let out = host.connect(&format!("{strict} sslmode=disable"), &["SELECT 1"])?;
    let said = "FATAL:  chaperone takes only encrypted connections to target strict";
    assert!(out.err.contains(said), "{}", out.err);
    assert!(out.err.contains("Connect with sslmode=require"), "{}", out.err);
    let session = host.last_session()?;
    assert_eq!(session["closed_by"], "daemon");
    assert!(session["detail"].as_str().is_some_and(|d| d.contains("only encrypted connections")));
    assert_eq!(authorized(), before, "nothing went on");
    // Clients that can, do.
    for mode in ["allow", "prefer", "require"] {
        host.connect(&format!("{strict} sslmode={mode}"), &["SELECT 1"])?.ok()?;
        assert!(host.last_session()?["agent_tls"].is_string(), "{mode}");
    }

    let out = host.connect(&format!("{plain} sslmode=require"), &["SELECT 1"])?;
    assert!(out.err.contains("server does not support SSL, but SSL was required"), "{}", out.err);
    for mode in ["disable", "allow", "prefer"] {
        host.connect(&format!("{plain} sslmode={mode}"), &["SELECT 1"])?.ok()?;
        assert_eq!(host.last_session()?["agent_tls"], Value::Null, "{mode}");
    }
    let code = format!(
        r#"
try: context(alpn="postgresql").wrap_socket(dial({:?})); print("let in")
except (ssl.SSLError, OSError): print("refused")"#,
        host.address_of("plain").to_string()
    );
    assert_eq!(client(&host, &code)?, "refused");
    let told = "the target's agent_tls is \"refuse\"";
    assert!(host.last_session()?["detail"].as_str().is_some_and(|d| d.contains(told)));
    assert!(details(&host, "agent-tls")?.iter().any(|d| d.contains(told)));
    Ok(())
}

#[test]
fn a_cancel_request_under_tls_reaches_its_session_and_no_other() -> Result<()> {
    let authority = Certificates::new("servers")?;
    let owner = nix::unistd::User::from_name("postgres")?.context("postgres")?.uid.as_raw();
    let certificate = authority.issue("server", &["db.test"], Kind::Server, owner)?;
    let host = Scene::default()
        .other_agent("reporter", 64_002)
        .target("tls = \"require\"")
        .server(&format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'",
            certificate.display(),
            certificate.with_extension("key").display()
        ))
        // Nothing reaches it in the clear, cancel requests included or not.
        .hba("host all all samehost trust\n")
        .start()?;

    // Ctrl-C in psql.
    let running =
        host.start_agent("psql", &["-X", "sslmode=require", "-c", "SELECT pg_sleep(60)"])?;
    wait_until("it sleeps", || sleeping(&host, 1))?;
    kill(Pid::from_raw(i32::try_from(running.id())?), Signal::SIGINT)?;
    let out = running.finish()?;
    assert!(out.err.contains("canceling statement due to user request"), "{}", out.err);

    // A driver's own.
    let out = host.python(
        r#"
import psycopg, threading, time
with psycopg.connect("sslmode=require", autocommit=True) as db, psycopg.connect("", autocommit=True) as look:
    assert db.pgconn.ssl_in_use
    def cancel():
        while not look.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone(): pass
        db.cancel()
    t = threading.Thread(target=cancel); t.start()
    try: db.execute("SELECT pg_sleep(60)")
    except psycopg.errors.QueryCanceled: print("cancelled")
    t.join()
"#,
    )?;
    assert_eq!(out.ok()?, "cancelled");

    // Encrypted, as libpq does since PostgreSQL 17. Of two sessions one is meant, and nobody but
    // the agent itself can mean it.
    let shared = host.folder().join("key");
    fs::write(&shared, "")?;
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o666))?;
    let code = format!(
        r#"{CLIENT}
def session():
    s = asked(); s.sendall(START)
    key = until(s, b"K")[1]; until(s, b"Z")
    return s, key
(a, key), (b, last), (look, _) = session(), session(), session()
for s in a, b: s.sendall(msg(b"Q", b"SELECT pg_sleep(60)\0"))
open({shared:?}, "w").write(key.hex())
assert sys.stdin.readline() == "go on\n"
c = asked(); c.sendall(packet(CANCEL, key)); assert c.recv(1) == b""
tag, body = until(a, b"E", b"C"); print(tag, b"57014" in body)
look.sendall(msg(b"Q", b"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'\0"))
print(until(look, b"D")[1][-1:].decode(), "sleeps")
asked().sendall(packet(CANCEL, last)); until(b, b"E")
"#
    );
    let mut running = host.start_agent("/usr/bin/python3", &["-c", &code])?;
    wait_until("both sleep", || sleeping(&host, 2))?;
    wait_until("the key is there", || fs::read_to_string(&shared).is_ok_and(|k| k.len() == 16))?;
    let key = fs::read_to_string(&shared)?;
    // A guessed secret, and the right one in the hands of another agent.
    for (uid, key) in [(host.uid(), format!("{}00000000", &key[..8])), (64_002, key)] {
        let code = format!(
            "{CLIENT}\nc = asked(); c.sendall(packet(CANCEL, bytes.fromhex('{key}'))); print(c.recv(1))"
        );
        assert_eq!(host.other(uid, "/usr/bin/python3", &["-c", &code])?.ok()?, "b''");
    }
    assert_eq!(host.counter("cancels_refused")?, 2);
    assert!(sleeping(&host, 2), "neither reached the server");
    running.say("go on")?;
    assert_eq!(running.finish()?.ok()?, "b'E' True\n1 sleeps");

    let rows = host.commands()?;
    let cancels: Vec<_> = rows.iter().filter(|row| row["kind"] == "cancel").collect();
    let statuses: Vec<_> = cancels.iter().map(|row| row["status"].as_str().unwrap_or("")).collect();
    assert_eq!(statuses, ["ok", "ok", "refused", "refused", "ok", "ok"]);
    Ok(())
}

#[test]
fn p2_a_cancel_request_in_the_clear_is_refused_where_encryption_is_required() -> Result<()> {
    let host = Scene::default().target("agent_tls = \"require\"").start()?;
    let out = client(
        &host,
        r#"
s = asked(); s.sendall(START)
key = until(s, b"K")[1]; until(s, b"Z")
s.sendall(msg(b"Q", b"SELECT pg_sleep(1), 'undisturbed'\0"))
for _ in range(3):
    c = dial(); c.sendall(packet(CANCEL, key)); assert c.recv(1) == b""
print(b"undisturbed" in until(s, b"D", b"E")[1]); until(s, b"Z")
s.sendall(msg(b"Q", b"SELECT pg_sleep(60)\0"))
import threading
over = threading.Event()
def cancel():
    while not over.wait(0.2):
        c = asked(); c.sendall(packet(CANCEL, key)); c.recv(1)
t = threading.Thread(target=cancel); t.start()
print(b"57014" in until(s, b"E")[1]); over.set(); t.join()
"#,
    )?;
    assert_eq!(out, "True\nTrue");
    let rows = host.commands()?;
    let refused: Vec<_> =
        rows.iter().filter(|r| r["kind"] == "cancel" && r["status"] == "refused").collect();
    assert_eq!(refused.len(), 3, "{rows:?}");
    for row in refused {
        assert_eq!(row["rule"], "the target takes only encrypted connections");
        let said = row["statement"].as_str().unwrap_or_default();
        assert!(said.starts_with("cancel the running command of session"), "{said}");
    }
    assert_eq!(host.counter("cancels_refused")?, 3);
    Ok(())
}

fn sleeping(host: &Host, count: usize) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    host.postgres().sql(sql).is_ok_and(|found| found == count.to_string())
}

#[test]
fn p4_much_goes_both_ways_under_tls() -> Result<()> {
    let host = Host::start()?;
    host.postgres().sql("CREATE TABLE t (a text)")?;
    let out = thread::scope(|scope| {
        let both: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    host.python(
                        r#"
import psycopg
row = "x" * 999
with psycopg.connect("sslmode=require") as db:
    cur = db.cursor()
    with cur.copy("COPY t FROM STDIN") as copy:
        for _ in range(6000): copy.write_row((row,))
    with cur.copy("COPY (SELECT repeat('y', 999) FROM generate_series(1, 6000)) TO STDOUT") as copy:
        print(sum(len(bytes(data)) for data in copy))
    # Requests and answers at once: neither side may wait for the other for ever.
    with db.pipeline():
        for n in range(2000): cur.execute("SELECT %s, repeat('z', 2000)", ("w" * 2000,))
"#,
                    )
                })
            })
            .collect();
        both.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    for out in out {
        assert_eq!(out?.ok()?, "6000000");
    }
    assert_eq!(host.postgres().sql("SELECT count(*) FROM t")?, "12000");
    assert!(host.closed_sessions()?.iter().all(|s| s["agent_tls"].is_string()));
    Ok(())
}
