//! P1, P2: what is sent ahead of the server's answers is recorded as what it is, and read as the
//! server reads it.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, wait_until};

use crate::protocol::raw;

/// The statements and statuses of all commands, but for those that prepare.
fn runs(host: &Host) -> Result<Vec<(String, String)>> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("(unknown)").to_owned();
    let rows = host.commands()?;
    let runs = rows.iter().filter(|row| row["kind"] != "prepare");
    Ok(runs.map(|row| (text(&row["statement"]), text(&row["status"]))).collect())
}

fn rows_of(host: &Host, table: &str) -> Result<String> {
    host.postgres().sql(&format!("SELECT count(*) FROM {table}"))
}

#[test]
fn p1_a_run_is_recorded_with_what_the_server_ran() -> Result<()> {
    for (prepared, flight) in [
        // The new statement is passed over.
        ("", "D(b'S', b'nope') + P(b'', b'SELECT 1') + S + B(b'', b'') + E() + S"),
        // Its name is taken.
        ("s", "P(b's', b'SELECT 1') + S + B(b'', b's') + E() + S"),
        // The old one is not closed.
        ("s", "D(b'S', b'nope') + C(b'S', b's') + S + B(b'', b's') + E() + S"),
    ] {
        let host = Host::start()?;
        host.postgres().sql("CREATE TABLE t AS SELECT 1 AS a; GRANT ALL ON t TO PUBLIC")?;
        let program = format!(
            r#"
s = connect()
s.sendall(P(b"{prepared}", b"DELETE FROM t") + S); read_to(s, b"Z")
s.sendall({flight})
print(tags(read_to(s, b"Z", 2)).decode())
"#
        );
        assert_eq!(raw(&host, &program)?, "EZ2CZ", "{flight}");
        assert_eq!(rows_of(&host, "t")?, "0", "{flight}");
        assert_eq!(runs(&host)?, [("DELETE FROM t".into(), "ok".into())], "{flight}");
    }
    Ok(())
}

#[test]
fn p1_a_name_that_sql_gives_away_meanwhile_is_not_believed() -> Result<()> {
    let host = Host::start()?;
    host.postgres().sql("CREATE TABLE t AS SELECT 1 AS a; GRANT ALL ON t TO PUBLIC")?;
    let out = raw(
        &host,
        r#"
s = connect()
s.sendall(P(b"s", b"SELECT 1") + S); read_to(s, b"Z")
s.sendall(msg(b"Q", b"DEALLOCATE s\0") + msg(b"Q", b"PREPARE s AS DELETE FROM t\0") + B(b"", b"s") + E() + S)
print(tags(read_to(s, b"Z", 3)).decode())
s.sendall(msg(b"Q", b"BEGIN\0") + P(b"a", b"SELECT 1") + B(b"p", b"a") + S)
s.sendall(msg(b"Q", b"CLOSE p; DECLARE p CURSOR FOR SELECT 2\0") + E(b"p") + S)
seen = read_to(s, b"Z", 4)
print(tags(seen).decode(), b"2" in seen[-3][1][-1:])
"#,
    )?;
    assert_eq!(out, "CZCZ2CZ\nCZ12ZCCZDCZ True");
    assert_eq!(rows_of(&host, "t")?, "0");
    let unknown = ("(unknown)".to_owned(), "ok".to_owned());
    let runs = runs(&host)?;
    assert_eq!((&runs[2], &runs[6]), (&unknown, &unknown), "{runs:?}");
    Ok(())
}

#[test]
fn p1_a_copy_that_fails_before_it_reads_moves_no_answer() -> Result<()> {
    let host = Host::start()?;
    host.postgres().sql("CREATE TABLE t (a int); CREATE TABLE x (a int); CREATE VIEW v AS SELECT 1 AS a; ALTER TABLE x OWNER TO postgres")?;
    // The server answers the first Sync, passes over the end of the data, and drops the table, if it
    // comes so far before the session is ended.
    raw(
        &host,
        r#"
s = connect()
# What they are is known by then, so that all of it goes at once.
for text in (b"COPY t FROM STDIN (FREEZE)", b"DROP TABLE x", b"SELECT 2"):
    s.sendall(P(b"known", text) + msg(b"C", b"Sknown\0") + S); read_to(s, b"Z")
s.sendall(P(b"", b"COPY t FROM STDIN (FREEZE)") + B(b"", b"") + E() + S + msg(b"c")
          + msg(b"Q", b"DROP TABLE x\0") + S + msg(b"Q", b"SELECT 2\0"))
try:
    while s.recv(65536): pass
except ConnectionResetError: pass
"#,
    )?;
    let first = runs(&host)?;
    let drop = first.iter().find(|(text, _)| text == "DROP TABLE x").context("the DROP")?;
    assert_eq!(drop.1, "unknown", "it is not said that it was skipped");

    // As a driver sends it, with what comes of it in either order.
    let out = raw(
        &host,
        r#"
s = connect()
copy = lambda text: P(b"", text) + B(b"", b"") + E() + S
s.sendall(copy(b"COPY v FROM STDIN"))
print(tags(read_to(s, b"Z")).decode())
s.sendall(msg(b"Q", b"SELECT 3\0")); print(tags(read_to(s, b"Z")).decode())
for text in (b"COPY v FROM STDIN", b"COPY t FROM STDIN"):
    s.sendall(copy(text)); read_to(s, b"G")
    s.sendall(msg(b"d", b"bad\n") + msg(b"c") + S + P(b"", b"SELECT 4") + B(b"", b"") + E() + S)
    print(tags(read_to(s, b"C")).decode(), tags(read_to(s, b"Z")).decode())
# A Sync among the data that is swallowed takes no answer of what comes later.
s.sendall(msg(b"Q", b"COPY t FROM STDIN\0")); read_to(s, b"G")
s.sendall(S + msg(b"d", b"bad\n")); print(tags(read_to(s, b"Z")).decode())
s.sendall(S); print(tags(read_to(s, b"Z")).decode())
s.sendall(msg(b"Q", b"SELECT 5/0\0") + msg(b"Q", b"SELECT 6\0"))
print(tags(read_to(s, b"Z", 2)).decode())
"#,
    )?;
    assert_eq!(out, "12GEZ\nTDCZ\nEZZ12DC Z\nEZ12DC Z\nEZ\nZ\nEZTDCZ");
    let later: Vec<_> = runs(&host)?.split_off(first.len());
    let statuses: Vec<_> = later.iter().map(|(text, status)| format!("{text}: {status}")).collect();
    assert_eq!(
        statuses,
        [
            "COPY v FROM STDIN: error",
            "SELECT 3: ok",
            "COPY v FROM STDIN: error",
            "SELECT 4: ok",
            "COPY t FROM STDIN: error",
            "SELECT 4: ok",
            "COPY t FROM STDIN: error",
            "SELECT 5/0: error",
            "SELECT 6: ok",
        ]
    );
    Ok(())
}

#[test]
fn p2_a_text_is_not_sent_while_it_is_open_how_it_is_read() -> Result<()> {
    let host = Host::start()?;
    host.postgres().sql(
        "CREATE TABLE t (a int); ALTER TABLE t OWNER TO postgres;
         CREATE FUNCTION f() RETURNS text LANGUAGE sql AS
         $$ SELECT set_config('standard_conforming_strings', 'off', false) $$",
    )?;
    let out = raw(
        &host,
        r#"
run = lambda text: P(b"", text) + B(b"", b"") + E()
evil = b"SELECT '\\'; DROP TABLE t; --'"
off = b"SET standard_conforming_strings = off"
s = connect()
s.sendall(msg(b"Q", off + b"\0") + msg(b"Q", evil + b"\0"))
print(tags(read_to(s, b"Z", 2)).decode())
s = connect()
s.sendall(run(off) + H); print(tags(read_to(s, b"C")).decode())
s.sendall(P(b"", evil) + S)
seen = read_to(s, b"Z"); print(tags(seen).decode(), b"Send a Sync" in seen[0][1])
s = connect()
s.sendall(msg(b"Q", "SET client_encoding = 'SJIS'".encode() + b"\0") + msg(b"Q", "SELECT 'é'".encode() + b"\0"))
print(tags(read_to(s, b"Z", 2)).decode())
# A function is found out when the server reports what it did.
s = connect()
s.sendall(run(b"SELECT f()") + P(b"", evil) + S)
seen = read_to(s, b"")
print(tags(seen).decode()[-1], b"send a Sync" in seen[-2][1])
"#,
    )?;
    assert_eq!(out, "CSZEZ\n12C\nEZ True\nCSZEZ\nE True");
    assert_eq!(rows_of(&host, "t")?, "0", "the table is there");
    assert_eq!(host.counter("client_violations")?, 1);
    assert_eq!(host.counter("server_violations")?, 0);
    Ok(())
}

const PIPELINE: &str = r#"
import psycopg
with psycopg.connect("") as c:
    cur = c.cursor()
    cur.execute("CREATE TEMP TABLE t (a int, b text)")
    c.commit()
    with c.pipeline():
        for n in range(20):
            cur.execute("INSERT INTO t VALUES (%s, 'é')", (n,))
            cur.execute("SELECT E'\\d', 'ü' WHERE %s > 0", (n,))
        cur.executemany("INSERT INTO t VALUES (%s, %s)", [(n, "ö") for n in range(2000)])
    c.commit()
    assert cur.execute("SELECT count(*) FROM t").fetchone() == (2020,)
    # An error early in a long pipeline.
    try:
        with c.pipeline():
            cur.execute("SELECT 1/0")
            cur.executemany("INSERT INTO t VALUES (%s, %s)", [(n, "é") for n in range(6000)])
        raise SystemExit("it should have failed")
    except psycopg.errors.DivisionByZero:
        c.rollback()
    assert cur.execute("SELECT count(*) FROM t").fetchone() == (2020,)
print("done")
"#;

#[test]
fn p4_pipelines_of_any_text_and_length_work() -> Result<()> {
    let host = Host::start()?;
    assert_eq!(host.python(PIPELINE)?.ok()?, "done");
    let rows = host.commands()?;
    assert!(rows.iter().all(|row| row["status"] != "refused"), "nothing is refused");
    assert!(rows.iter().all(|row| !row["statement"].is_null()), "every text is known");
    assert!(rows.iter().all(|row| row["status"] != "unknown"), "and every outcome");
    Ok(())
}

/// Processor time that the daemon has used, in clock ticks (proc(5), `/proc/pid/stat`).
fn ticks(host: &Host) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", host.daemon_id()))?;
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

#[test]
fn p8_a_server_that_is_gone_is_not_written_to_again_and_again() -> Result<()> {
    let host = Host::start()?;
    // Rows that nobody reads fill all buffers; then the server goes, and more is to be sent to it.
    let agent = host.start_agent(
        "/usr/bin/python3",
        &[
            "-c",
            r#"
import os, socket, struct, time
msg = lambda tag, body=b"": tag + struct.pack("!i", len(body) + 4) + body
s = socket.create_connection((os.environ["PGHOST"], 5432), timeout=20)
body = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
s.sendall(struct.pack("!i", len(body) + 4) + body)
got = b""
while not got.endswith(b"Z\0\0\0\x05I"): got += s.recv(65536)
s.sendall(msg(b"Q", b"SELECT repeat('x', 10000) FROM generate_series(1, 100000)\0"))
time.sleep(1)
s.settimeout(None)
while True: s.sendall(msg(b"H") * 10000)
"#,
        ],
    )?;
    wait_until("it runs", || host.counter("forwarded").is_ok_and(|n| n > 0))?;
    thread::sleep(Duration::from_secs(3));
    let ended = host.postgres().sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'SELECT repeat%'",
    )?;
    assert_eq!(ended, "1");
    thread::sleep(Duration::from_secs(1));
    let before = ticks(&host)?;
    thread::sleep(Duration::from_secs(3));
    let used = ticks(&host)? - before;
    drop(agent);
    assert!(used < 50, "the daemon used {used} ticks to wait for three seconds");
    Ok(())
}
