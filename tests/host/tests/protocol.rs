//! What passes through a session, and what the log says of it.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

#[test]
fn sign_on_passes_through_by_every_method() -> Result<()> {
    for method in ["trust", "password", "md5", "scram-sha-256"] {
        let host = Scene::default()
            .hba(&format!("host all postgres all trust\nhost all all all {method}\n"))
            .server(if method == "md5" { "password_encryption = 'md5'" } else { "" })
            .start()?;
        host.postgres().sql("CREATE ROLE app LOGIN PASSWORD 'open sesame'")?;
        let connect = |password: &str| {
            // By the environment: a command line is recorded, whatever stands in it.
            let run = "read -r PGPASSWORD && export PGPASSWORD && \
                       exec psql -X -At -U app -c 'SELECT current_user'";
            host.agent_with("bash", &["-c", run], &format!("{password}\n"))
        };
        assert_eq!(connect("open sesame")?.ok()?, "app", "{method}");
        if method != "trust" {
            let out = connect("wrong")?;
            assert!(out.err.contains("password authentication failed"), "{method}: {}", out.err);
            let session = host.closed_sessions()?.pop().context("a session")?;
            let detail = session["detail"].as_str().unwrap_or_default();
            assert!(detail.contains("28P01"), "{method}: {detail}");
        }
        for file in host.log_files()? {
            let file = fs::read(file)?;
            assert!(
                !file.windows(11).any(|w| w == b"open sesame"),
                "{method}: the password is in the log"
            );
        }
    }
    Ok(())
}

#[test]
fn a_text_of_several_statements_has_an_outcome_for_each() -> Result<()> {
    let host = Host::start()?;
    let text =
        "SELECT 1; CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2); SELECT nothing; SELECT 2";
    let out = host.psql(&[text])?;
    assert!(out.err.contains("nothing"), "{}", out.err);
    // Each part is recorded when it is over.
    wait_until("the last part to be recorded", || {
        host.commands().is_ok_and(|rows| rows.len() == 4)
    })?;
    let rows = host.commands()?;
    let got: Vec<_> = rows
        .iter()
        .map(|r| (r["part"].as_u64(), r["status"].as_str(), r["tag"].as_str()))
        .collect();
    assert_eq!(
        got,
        [
            (Some(0), Some("ok"), Some("SELECT 1")),
            (Some(1), Some("ok"), Some("CREATE TABLE")),
            (Some(2), Some("ok"), Some("INSERT 0 2")),
            (Some(3), Some("error"), None),
        ]
    );
    assert!(rows.iter().all(|row| row["statement"] == text));
    assert_eq!(rows[3]["error_code"], "42703");
    assert_eq!(rows[3]["transaction_state"], "idle");
    Ok(())
}

#[test]
fn transactions_notices_and_empty_statements_are_told() -> Result<()> {
    let host = Host::start()?;
    host.psql(&[
        "BEGIN",
        "DO $$ BEGIN RAISE NOTICE 'mind the gap'; END $$",
        "",
        "SELECT 1/0",
        "SELECT 'not run'",
        "ROLLBACK",
    ])?;
    let rows = host.commands()?;
    let states: Vec<_> =
        rows.iter().map(|r| r["transaction_state"].as_str().unwrap_or("")).collect();
    assert_eq!(states, ["open", "open", "open", "failed", "failed", "idle"]);
    let statuses: Vec<_> = rows.iter().map(|r| r["status"].as_str().unwrap_or("")).collect();
    assert_eq!(statuses, ["ok", "ok", "ok", "error", "error", "ok"]);
    let notice = host.command(&rows[1]["id"])?;
    assert_eq!(notice["parts"][0]["notices"], r#"["mind the gap"]"#);
    Ok(())
}

#[test]
fn copy_goes_both_ways() -> Result<()> {
    let host = Host::start()?;
    let input = "CREATE TABLE t (a int, b text);\nCOPY t FROM STDIN;\n1\tone\n2\ttwo\n\\.\nCOPY t TO STDOUT;\n";
    let out = host.agent_with("psql", &["-X", "-q"], input)?.ok()?;
    assert_eq!(out, "1\tone\n2\ttwo");
    // Data that does not fit fails on the way.
    let bad =
        host.agent_with("psql", &["-X", "-q"], "COPY t FROM STDIN;\nx\ty\n\\.\nSELECT 5;\n")?;
    assert!(bad.err.contains("invalid input syntax"), "{}", bad.err);
    assert!(bad.out.contains('5'), "the session goes on: {}", bad.out);
    let rows = host.commands()?;
    assert_eq!(rows[1]["tag"], "COPY 2");
    // Some versions of psql send the line that ends the data along.
    assert!([12, 15].iter().any(|n| rows[1]["bytes_in"] == *n), "{}", rows[1]["bytes_in"]);
    assert_eq!(rows[2]["tag"], "COPY 2");
    assert_eq!(rows[3]["error_code"], "22P02");
    assert_eq!(rows[4]["status"], "ok");
    Ok(())
}

const PIPELINES: &str = r#"
import socket, struct, os
def msg(tag, body=b""): return tag + struct.pack("!i", len(body) + 4) + body
def connect():
    s = socket.create_connection((os.environ["PGHOST"], 5432), timeout=20)
    body = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
    s.sendall(struct.pack("!i", len(body) + 4) + body)
    read_to(s, b"Z")
    return s
def read_msg(s):
    head = b""
    while len(head) < 5:
        more = s.recv(5 - len(head))
        if not more: return None
        head += more
    n = struct.unpack("!i", head[1:])[0] - 4
    body = b""
    while len(body) < n:
        more = s.recv(n - len(body))
        if not more: raise EOFError("in the middle of a message")
        body += more
    return head[:1], body
def read_to(s, tag, count=1):
    seen = []
    while count:
        m = read_msg(s)
        if m is None: seen.append((b"", b"")); break
        seen.append(m)
        if m[0] == tag: count -= 1
    return seen
def tags(seen): return b"".join(t for t, _ in seen)
P = lambda name, text: msg(b"P", name + b"\0" + text + b"\0\0\0")
B = lambda portal, name: msg(b"B", portal + b"\0" + name + b"\0" + b"\0\0\0\0\0\0")
E = lambda portal=b"", rows=0: msg(b"E", portal + b"\0" + struct.pack("!i", rows))
D = lambda kind, name: msg(b"D", kind + name + b"\0")
C = lambda kind, name: msg(b"C", kind + name + b"\0")
S, H = msg(b"S"), msg(b"H")
"#;

/// Runs code of an agent that speaks the protocol itself, with what is defined above.
pub(crate) fn raw(host: &Host, code: &str) -> Result<String> {
    host.python(&format!("{PIPELINES}\n{code}"))?.ok()
}

#[test]
fn p1_pipelines_with_errors_in_the_middle_keep_step() -> Result<()> {
    let host = Host::start()?;
    let out = raw(
        &host,
        r#"
s = connect()
s.sendall(P(b"", b"SELECT 1") + B(b"", b"") + E() + P(b"", b"SELECT 1/0") + B(b"", b"") + E()
          + P(b"x", b"SELECT 2") + B(b"", b"x") + E() + S + P(b"x", b"SELECT 3") + B(b"", b"x") + E() + S)
print(tags(read_to(s, b"Z", 2)).decode())
s.sendall(msg(b"Q", b"SELECT 4\0") + msg(b"Q", b"SELECT 5\0"))
print(tags(read_to(s, b"Z", 2)).decode())
"#,
    )?;
    assert_eq!(out, "12DC1EZ12DCZ\nTDCZTDCZ");
    let rows = host.commands()?;
    let got: Vec<_> = rows
        .iter()
        .map(|r| (r["statement"].as_str().unwrap_or(""), r["status"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(
        got,
        [
            ("SELECT 1", "ok"),
            ("SELECT 1/0", "error"),
            ("SELECT 2", "skipped"),
            ("SELECT 3", "ok"),
            ("SELECT 4", "ok"),
            ("SELECT 5", "ok"),
        ]
    );
    Ok(())
}

#[test]
fn p1_a_statement_that_is_prepared_is_recorded_with_its_text_each_time() -> Result<()> {
    let host = Host::start()?;
    let out = raw(
        &host,
        r#"
s = connect()
s.sendall(P(b"a", b"SELECT 'first'") + D(b"S", b"a") + H)
print(tags(read_to(s, b"T")).decode())
for _ in range(3):
    s.sendall(B(b"", b"a") + E() + S); read_to(s, b"Z")
s.sendall(C(b"S", b"a") + P(b"a", b"SELECT generate_series(1, 5)") + B(b"p", b"a") + E(b"p", 2) + E(b"p", 2) + E(b"p", 2) + S)
print(tags(read_to(s, b"Z")).decode())
s.sendall(P(b"bad", b"SELEC 1") + S)
print(tags(read_to(s, b"Z")).decode())
s.sendall(P(b"e", b"") + B(b"", b"e") + D(b"P", b"") + E() + S)
print(tags(read_to(s, b"Z")).decode())
"#,
    )?;
    assert_eq!(out, "1tT\n312DDsDDsDCZ\nEZ\n12nIZ");
    let rows = host.commands()?;
    let got: Vec<_> = rows
        .iter()
        .map(|r| {
            [&r["kind"], &r["statement"], &r["status"]].map(|v| v.as_str().unwrap_or("").to_owned())
        })
        .collect();
    let series = "SELECT generate_series(1, 5)";
    let want = [
        ["execute", "SELECT 'first'", "ok"],
        ["execute", "SELECT 'first'", "ok"],
        ["execute", "SELECT 'first'", "ok"],
        ["execute", series, "suspended"],
        ["fetch", series, "suspended"],
        ["fetch", series, "ok"],
        ["prepare", "SELEC 1", "error"],
        ["execute", "", "ok"],
    ];
    assert_eq!(got, want.map(|row| row.map(str::to_owned)));
    Ok(())
}

#[test]
fn p1_a_statement_that_sql_prepared_is_not_taken_for_another() -> Result<()> {
    let host = Host::start()?;
    raw(
        &host,
        r#"
s = connect()
s.sendall(P(b"a", b"SELECT 'harmless'") + S); read_to(s, b"Z")
s.sendall(msg(b"Q", b"DEALLOCATE a\0")); read_to(s, b"Z")
s.sendall(msg(b"Q", b"PREPARE a AS SELECT 'harmful'\0")); read_to(s, b"Z")
s.sendall(B(b"", b"a") + E() + S)
assert b"harmful" in read_to(s, b"Z")[1][1]
"#,
    )?;
    let rows = host.commands()?;
    let last = rows.last().context("a command")?;
    assert_eq!(last["statement"], Value::Null, "what it was prepared from is not known");
    assert_eq!(last["status"], "ok");
    Ok(())
}

#[test]
fn copy_in_a_pipeline_keeps_step() -> Result<()> {
    let host = Host::start()?;
    host.psql(&["CREATE TABLE t (a int)"])?.ok()?;
    let out = raw(
        &host,
        r#"
s = connect()
d = lambda data: msg(b"d", data)
# A Sync before the data, as tokio-postgres sends it; the server passes over it.
s.sendall(P(b"", b"COPY t FROM STDIN") + B(b"", b"") + E() + S)
print(tags(read_to(s, b"G")).decode())
s.sendall(d(b"1\n") + d(b"2\n") + msg(b"c") + S)
print(tags(read_to(s, b"Z")).decode())
# All at once.
s.sendall(P(b"", b"COPY t FROM STDIN") + B(b"", b"") + E() + d(b"3\n") + msg(b"c") + S + msg(b"Q", b"SELECT 7\0"))
print(tags(read_to(s, b"Z", 2)).decode())
# Data that is wrong, with a Sync before and after.
s.sendall(P(b"", b"COPY t FROM STDIN") + B(b"", b"") + E() + S)
read_to(s, b"G")
s.sendall(d(b"x\n") + msg(b"c") + S)
print(tags(read_to(s, b"Z")).decode())
s.sendall(msg(b"Q", b"COPY t FROM STDIN\0")); read_to(s, b"G")
s.sendall(msg(b"f", b"never mind\0"))
print(tags(read_to(s, b"Z")).decode())
s.sendall(msg(b"Q", b"SELECT count(*) FROM t\0"))
print(read_to(s, b"Z")[1][1][-1:].decode())
"#,
    )?;
    assert_eq!(out, "12G\nCZ\n12GCZTDCZ\nEZ\nEZ\n3");
    let rows = host.commands()?;
    let statuses: Vec<_> =
        rows.iter().skip(1).map(|r| r["status"].as_str().unwrap_or("")).collect();
    assert_eq!(statuses, ["ok", "ok", "ok", "error", "error", "ok"]);
    Ok(())
}

#[test]
fn a_cancel_request_reaches_its_session_and_no_other() -> Result<()> {
    let host = Host::start()?;
    let running = host.start_agent("psql", &["-X", "-c", "SELECT pg_sleep(60)"])?;
    let other = host.start_agent(
        "psql",
        &["-X", "-At", "-c", "SELECT pg_sleep(3)", "-c", "SELECT 'undisturbed'"],
    )?;
    wait_until("both sleep", || host.counter("forwarded").is_ok_and(|n| n >= 2))?;
    thread::sleep(Duration::from_millis(300));
    // Ctrl-C: psql opens another connection and asks there.
    kill(nix::unistd::Pid::from_raw(i32::try_from(running.id())?), Signal::SIGINT)?;
    let out = running.finish()?;
    assert!(out.err.contains("canceling statement due to user request"), "{}", out.err);
    let out = other.finish()?;
    assert!(out.out.contains("undisturbed"), "{out:?}");
    let rows = host.commands()?;
    let cancel = rows.iter().find(|r| r["kind"] == "cancel").context("the cancel request")?;
    let slept =
        rows.iter().find(|r| r["statement"] == "SELECT pg_sleep(60)").context("the command")?;
    assert_eq!(slept["error_code"], "57014");
    assert_eq!(
        cancel["statement"],
        format!("cancel the running command of session {}", slept["session"])
    );
    Ok(())
}

#[test]
fn a_cancel_request_with_a_guessed_key_is_refused() -> Result<()> {
    let host = Host::start()?;
    raw(
        &host,
        r#"
s = socket.create_connection((os.environ["PGHOST"], 5432), timeout=20)
s.sendall(struct.pack("!iiii", 16, 80877102, 1234, 5678))
assert s.recv(1) == b""
"#,
    )?;
    let rows = host.commands()?;
    assert_eq!(rows[0]["kind"], "cancel");
    assert_eq!(rows[0]["status"], "refused");
    assert_eq!(host.counter("cancels_refused")?, 1);
    Ok(())
}

#[test]
fn p1_what_is_denied_never_reaches_the_server_and_the_session_goes_on() -> Result<()> {
    let host =
        Scene::default().target("default = \"deny\"").server("log_statement = 'all'").start()?;
    let out = host.psql(&["CREATE TABLE t (a int)", "SELECT 2"])?;
    assert!(out.err.contains("chaperone does not allow this statement"), "{}", out.err);
    assert!(out.err.contains("Rule: default of target prod."), "{}", out.err);
    let out = raw(
        &host,
        r#"
s = connect()
s.sendall(P(b"", b"CREATE TABLE u (a int)") + B(b"", b"") + E() + S)
seen = read_to(s, b"Z"); print(tags(seen).decode(), b"42501" in seen[0][1])
s.sendall(msg(b"Q", b"SELECT 1\0") + msg(b"Q", b"SELECT 1\0"))
print(tags(read_to(s, b"Z", 2)).decode())
s.sendall(msg(b"F", struct.pack("!ihhh", 89, 0, 0, 0)))
seen = read_to(s, b"Z"); print(tags(seen).decode(), b"function call" in seen[0][1])
"#,
    )?;
    assert_eq!(out, "EZ True\nEZEZ\nEZ True");
    let server = host.postgres().log();
    for text in ["CREATE TABLE", "SELECT 2", "SELECT 1"] {
        assert!(!server.contains(text), "{text} reached the server");
    }
    let rows = host.commands()?;
    assert!(
        rows.iter().filter(|r| r["kind"] != "execute").all(|r| r["status"] == "refused"),
        "{rows:?}"
    );
    assert!(rows.iter().all(|r| r["verdict"] == "deny"));
    assert_eq!(rows[0]["statement"], "CREATE TABLE t (a int)");
    Ok(())
}

#[test]
fn a_refusal_inside_a_transaction_fails_it_as_an_error_would() -> Result<()> {
    let host = Scene::default().daemon("max_message = \"64 KiB\"").start()?;
    let long = format!("SELECT '{}'", "x".repeat(70_000));
    let file = host.folder().join("long.sql");
    fs::write(&file, format!("BEGIN;\n{long};\nSELECT 'skipped';\nROLLBACK;\nSELECT 'after';\n"))?;
    let out = host.agent("psql", &["-X", "-At", "-f", &file.display().to_string()])?;
    assert!(out.err.contains("chaperone takes at most 65536"), "{}", out.err);
    assert!(out.err.contains("current transaction is aborted"), "{}", out.err);
    assert!(out.out.contains("after"), "{}", out.out);
    let rows = host.commands()?;
    let statuses: Vec<_> = rows.iter().map(|r| r["status"].as_str().unwrap_or("")).collect();
    assert_eq!(statuses, ["ok", "refused", "error", "ok", "ok"]);
    assert_eq!(rows[1]["transaction_state"], "failed");
    Ok(())
}

#[test]
fn encryption_requests_are_answered_and_replication_is_refused() -> Result<()> {
    let host = Host::start()?;
    let out = raw(
        &host,
        r#"
s = socket.create_connection((os.environ["PGHOST"], 5432), timeout=20)
s.sendall(struct.pack("!ii", 8, 80877104)); print(s.recv(1).decode())
body = struct.pack("!i", 196608) + b"user\0postgres\0\0"
s.sendall(struct.pack("!i", len(body) + 4) + body)
print(tags(read_to(s, b"Z"))[-1:].decode())
"#,
    )?;
    assert_eq!(out, "N\nZ");
    let out = host
        .agent("psql", &["-X", "dbname=postgres replication=database", "-c", "IDENTIFY_SYSTEM"])?;
    assert!(out.err.contains("does not let replication connections through"), "{}", out.err);
    Ok(())
}
