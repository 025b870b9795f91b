//! Versions of the protocol: 3.2 with its long cancel keys, negotiation, and TLS without asking.

use std::{fs, process::Command};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Release, Scene};

use crate::drivers::{run, verified};

const LIBPQ: &str = r#"
import sys, threading
import psycopg
db = psycopg.connect(sys.argv[1], autocommit=True)
other = psycopg.connect(sys.argv[1], autocommit=True)
print(db.execute("SELECT 'at work'").fetchone()[0])
undisturbed = []
sleeper = threading.Thread(target=lambda: undisturbed.append(other.execute("SELECT pg_sleep(2), 7").fetchone()[1]))
sleeper.start()
over = threading.Event()
def cancel(how):
    while not over.wait(0.5):
        how()
# The older call asks in the clear, the newer one encrypted as the session is.
for how in (db.cancel, db.cancel_safe):
    over.clear()
    canceller = threading.Thread(target=cancel, args=(how,))
    canceller.start()
    try:
        db.execute("SELECT pg_sleep(60)")
        raise SystemExit("the cancel did not work")
    except psycopg.errors.QueryCanceled:
        pass
    finally:
        over.set()
        canceller.join()
sleeper.join()
print("undisturbed", undisturbed)
"#;

#[test]
fn p4_libpq_18_speaks_version_3_2_and_cancels() -> Result<()> {
    let host = Scene::default().release(Release::Eighteen).start()?;
    libpq(&host, "min_protocol_version=3.2 max_protocol_version=3.2 sslmode=disable")
}

#[test]
fn p4_libpq_18_speaks_version_3_2_and_cancels_over_tls() -> Result<()> {
    let host = Scene::default().release(Release::Eighteen).start()?;
    libpq(&host, "min_protocol_version=3.2 max_protocol_version=3.2")?;
    let in_the_clear = host.closed_sessions()?.iter().filter(|s| s["agent_tls"].is_null()).count();
    // Cancel requests sign on nowhere, encrypted or not.
    let cancels = host.commands()?.iter().filter(|row| row["kind"] == "cancel").count();
    assert_eq!(in_the_clear, cancels);
    Ok(())
}

#[test]
fn p4_libpq_18_begins_with_tls_unasked() -> Result<()> {
    let host = Host::start()?;
    libpq(&host, "sslnegotiation=direct")?;
    let sessions = host.closed_sessions()?;
    let encrypted = sessions.iter().filter(|session| !session["agent_tls"].is_null());
    assert_eq!(encrypted.count(), 2, "{sessions:?}");
    Ok(())
}

fn libpq(host: &Host, options: &str) -> Result<()> {
    let out = verified(host, &host.newer_python()?, &["-c", LIBPQ, options])?.ok()?;
    assert_eq!(out, "at work\nundisturbed [7]");
    let rows = host.commands()?;
    let slept: Vec<_> = rows.iter().filter(|r| r["statement"] == "SELECT pg_sleep(60)").collect();
    assert_eq!(slept.len(), 2);
    assert!(slept.iter().all(|row| row["error_code"] == "57014"), "{slept:?}");
    let cancels: Vec<_> = rows.iter().filter(|r| r["kind"] == "cancel").collect();
    assert!(cancels.len() >= 2 && cancels.iter().all(|r| r["status"] == "ok"), "{cancels:?}");
    Ok(())
}

#[test]
fn p4_version_3_2_works_with_a_credential_of_the_daemon() -> Result<()> {
    let secret = tempfile::NamedTempFile::new()?;
    fs::write(secret.path(), "open sesame\n")?;
    let host = Scene::default()
        .release(Release::Eighteen)
        .hba("host all postgres all trust\nhost all all all scram-sha-256\n")
        .target(&format!(
            "credential = {{ user = \"app\", password = \"file:{}\" }}",
            secret.path().display()
        ))
        .start()?;
    host.postgres().sql("CREATE ROLE app LOGIN PASSWORD 'open sesame'")?;
    libpq(&host, "min_protocol_version=3.2 max_protocol_version=3.2 user=whoever")
}

#[test]
fn libpq_18_is_told_that_an_older_server_speaks_no_3_2() -> Result<()> {
    let host = Host::start()?;
    let python = host.newer_python()?;
    let program = "import psycopg, sys; print(psycopg.connect(sys.argv[1]).execute('SELECT 7').fetchone()[0])";
    let out = run(&host, &python, &["-c", program, "max_protocol_version=3.2 sslmode=disable"])?;
    assert_eq!(out.ok()?, "7");
    let out = run(
        &host,
        &python,
        &["-c", program, "min_protocol_version=3.2 sslmode=disable max_protocol_version=3.2"],
    )?;
    assert!(out.err.contains("protocol version"), "{}", out.err);
    Ok(())
}

/// A client of its own, which keeps what the server says at sign-on.
pub(super) const RAW: &str = r#"
import os, socket, struct, sys, threading
def read(s, count):
    data = b""
    while len(data) < count:
        more = s.recv(count - len(data))
        if not more: raise EOFError(data)
        data += more
    return data
def message(s):
    tag, length = struct.unpack("!ci", read(s, 5))
    return tag, read(s, length - 4)
def connect():
    return socket.create_connection((os.environ["PGHOST"], 5432), timeout=30)
def start(version, *options):
    s = connect()
    body = struct.pack("!HH", *version)
    for name, value in (("user", "postgres"), ("database", "postgres"), *options):
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    s.sendall(struct.pack("!i", len(body) + 4) + body)
    seen = []
    while not seen or seen[-1][0] not in b"ZE":
        seen.append(message(s))
    return s, seen
def everything(s):
    seen = []
    try:
        while True: seen.append(message(s))
    except EOFError: return seen
def key(seen):
    return next(body for tag, body in seen if tag == b"K")
"#;

const NEGOTIATE: &str = r#"
for version in ((3, 0), (3, 1), (3, 2), (3, 3), (3, 9999)):
    for options in ((), (("_pq_.unheard_of", "x"), ("_pq_.other", ""))):
        s, seen = start(version, *options)
        tags = b"".join(tag for tag, _ in seen if tag != b"S").decode()
        print(version, tags, len(key(seen)) if seen[-1][0] == b"Z" else seen[-1][1])
        print(*[body for tag, body in seen if tag == b"v"])
        s.close()
"#;

#[test]
fn p4_versions_and_options_are_negotiated_with_the_server_as_without_the_daemon() -> Result<()> {
    let program = format!("{RAW}\n{NEGOTIATE}");
    for (release, long) in [(Release::Debian, false), (Release::Eighteen, true)] {
        let host = Scene::default()
            .release(release)
            .other_target("held", "credential = { user = \"postgres\" }")
            .start()?;
        // Not as an agent: straight to the server.
        let straight = Command::new("/usr/bin/python3")
            .args(["-c", &program])
            .env("PGHOST", host.address().to_string())
            .output()?;
        let straight = String::from_utf8(straight.stdout)?;
        assert!(straight.contains("(3, 0) RKZ 8\n"), "{straight}");
        assert_eq!(straight.contains("(3, 2) RKZ 36\n"), long, "{straight}");
        assert_eq!(straight.contains("(3, 2) vRKZ 8\n"), !long, "{straight}");
        let newest = if long { r"\x02" } else { r"\x00" };
        let told =
            format!(r"b'\x00\x03\x00{newest}\x00\x00\x00\x02_pq_.unheard_of\x00_pq_.other\x00'");
        assert!(straight.contains(&told), "{straight}");
        for target in ["prod", "held"] {
            let at = format!("PGHOST={}", host.address_of(target));
            let through = host.agent("env", &[&at, "/usr/bin/python3", "-c", &program])?.ok()?;
            assert_eq!(through, straight.trim_end(), "{release:?} {target}");
        }
    }
    Ok(())
}

const LONG_KEYS: &str = r#"
(a, of_a), (b, of_b) = start((3, 2)), start((3, 2))
keys = key(of_a), key(of_b)
assert all(len(k) > 8 for k in keys), keys
def ask(k):
    s = connect()
    s.sendall(struct.pack("!ii", len(k) + 8, 80877102) + k)
    assert s.recv(1) == b""
def query(s, text):
    body = text.encode() + b"\0"
    s.sendall(b"Q" + struct.pack("!i", len(body) + 4) + body)
def answer(s):
    seen = [message(s)]
    while seen[-1][0] != b"Z": seen.append(message(s))
    return seen
# The first four bytes of a secret, one that is wrong in its last byte, another session's process:
# none of them is a key.
query(b, "SELECT pg_sleep(2)")
for wrong in (keys[1][:8], keys[1][:-1] + bytes([keys[1][-1] ^ 1]), keys[1] + b"x", keys[0][:4] + keys[1][4:]):
    ask(wrong)
assert answer(b)[-2][0] == b"C", "a wrong key cancelled it"
query(a, "SELECT pg_sleep(60)")
over = threading.Event()
def cancel():
    while not over.wait(0.5): ask(keys[0])
canceller = threading.Thread(target=cancel); canceller.start()
errors = [body for tag, body in answer(a) if tag == b"E"]
over.set(); canceller.join()
assert b"57014" in errors[0], errors
print("done", len(keys[0]) - 4)
"#;

#[test]
fn p3_long_cancel_keys_are_told_apart_to_the_last_byte() -> Result<()> {
    let host = Scene::default().release(Release::Eighteen).start()?;
    let out = run(&host, "/usr/bin/python3", &["-c", &format!("{RAW}\n{LONG_KEYS}")])?.ok()?;
    let length: usize = out.strip_prefix("done ").context(out.clone())?.parse()?;
    assert!(length > 4, "{length} bytes are no long key");
    assert_eq!(host.counter("cancels_refused")?, 4);
    let rows = host.commands()?;
    let refused = rows.iter().filter(|r| r["kind"] == "cancel" && r["status"] == "refused");
    assert_eq!(refused.count(), 4);
    // A secret is none that an auditor may use.
    assert!(rows.iter().all(|row| row["parameters"].is_null()), "{rows:?}");
    Ok(())
}
