//! P1, P2: what is destructive waits for a person, and goes on by nobody else's word.

use std::fs;

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};
use serde_json::Value;

use crate::protocol::raw;

/// A scene in which what is destructive waits for root, with these further lines in the rule.
pub(super) fn held(lines: &str) -> Scene {
    Scene::default().more(&format!(
        "[[rule]]\nname = \"ask\"\nwhen = {{ class = \"destructive\" }}\nthen = \"hold\"\n\
         approvers = [\"user:root\", \"user:daemon\"]\n{lines}"
    ))
}

/// With a table `t` of three rows.
pub(super) fn with_rows(scene: &Scene) -> Result<Host> {
    let host = scene.start()?;
    host.postgres().sql("CREATE TABLE t AS SELECT generate_series(1, 3) AS a")?;
    Ok(host)
}

/// How many rows `t` has.
pub(super) fn rows(host: &Host) -> Result<String> {
    host.postgres().sql("SELECT count(*) FROM t")
}

pub(super) fn waiting(host: &Host) -> Result<Vec<Value>> {
    let out = host.chaperone(&["holds", "--json"])?.ok()?;
    out.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The ids of what waits, once there are so many.
pub(super) fn ids(host: &Host, count: usize) -> Result<Vec<String>> {
    let mut found = Vec::new();
    wait_until("so many to wait", || {
        found = waiting(host).unwrap_or_default();
        found.len() == count
    })?;
    Ok(found.iter().map(|hold| hold["id"].to_string()).collect())
}

pub(super) fn past(host: &Host) -> Result<Vec<Value>> {
    let out = host.chaperone(&["holds", "--all", "--json"])?.ok()?;
    out.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The state and the detail of the only hold, once it is over.
pub(super) fn ended(host: &Host) -> Result<(String, String)> {
    let mut last = Vec::new();
    wait_until("the hold to be over", || {
        last = past(host).unwrap_or_default();
        last.last().is_some_and(|hold| hold["state"] != "open")
    })?;
    let hold = last.last().context("a hold")?;
    let text = |name: &str| hold[name].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("detail")))
}

#[test]
fn p1_a_held_statement_goes_on_once_it_is_approved() -> Result<()> {
    let host = with_rows(&held(""))?;
    let psql = host.start_agent("psql", &["-X", "-At", "-c", "DELETE FROM t", "-c", "SELECT 7"])?;
    let id = ids(&host, 1)?.remove(0);
    assert_eq!(rows(&host)?, "3", "nothing has happened yet");
    let shown = host.chaperone(&["holds", &id])?.ok()?;
    for part in ["cleaner", "prod", "DELETE FROM t", "ask", "psql", "user:root", "it is in none"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let said = host.chaperone(&["approve", &id, "--reason", "ticket 12"])?.ok()?;
    assert!(said.contains("goes on"), "{said}");
    let out = psql.finish()?;
    assert!(
        out.err.contains(&format!(
            "NOTICE:  chaperone holds this statement until a person approves it (id {id})"
        )),
        "{}",
        out.err
    );
    assert_eq!(out.ok()?, "DELETE 3\n7");
    assert_eq!(rows(&host)?, "0");
    let commands = host.commands()?;
    let delete = commands.iter().find(|c| c["statement"] == "DELETE FROM t").context("it")?;
    assert_eq!(
        (&delete["id"].to_string(), &delete["verdict"], &delete["status"], &delete["rule"]),
        (&id, &"hold".into(), &"ok".into(), &"ask".into())
    );
    let hold = past(&host)?.remove(0);
    assert_eq!((&hold["state"], &hold["class"]), (&"approved".into(), &"destructive".into()));
    let words: Value = serde_json::from_str(hold["words"].as_str().context("words")?)?;
    assert_eq!(
        (&words[0]["person"], &words[0]["approves"], &words[0]["reason"]),
        (&"root".into(), &true.into(), &"ticket 12".into())
    );
    Ok(())
}

#[test]
fn p2_a_denied_statement_does_not_go_on_and_its_session_does() -> Result<()> {
    let host = with_rows(&held(""))?;
    let psql = host.start_agent(
        "psql",
        &["-X", "-At", "-v", "VERBOSITY=verbose", "-c", "DELETE FROM t", "-c", "SELECT 7"],
    )?;
    let id = ids(&host, 1)?.remove(0);
    host.chaperone(&["deny", &id, "--reason", "not on a Friday"])?.ok()?;
    let out = psql.finish()?;
    assert!(out.err.contains("42501: root denied this statement: not on a Friday"), "{}", out.err);
    assert!(out.err.contains("Rule: ask."), "{}", out.err);
    assert_eq!(out.out.trim(), "7");
    assert_eq!(rows(&host)?, "3");
    assert_eq!(ended(&host)?, ("denied".into(), "root: not on a Friday".into()));
    // Inside a transaction it fails it, as an error would.
    let text = "BEGIN; DELETE FROM t; SELECT 1; ROLLBACK; SELECT 8;";
    let mut args = vec!["-X", "-At"];
    let statements: Vec<&str> = text.split_inclusive(';').map(str::trim).collect();
    args.extend(statements.iter().flat_map(|statement| ["-c", statement]));
    let psql = host.start_agent("psql", &args)?;
    let id = ids(&host, 1)?.remove(0);
    let hold = waiting(&host)?.remove(0);
    assert_eq!(hold["in_transaction"], true);
    host.chaperone(&["deny", &id])?.ok()?;
    let out = psql.finish()?;
    assert!(out.err.contains("current transaction is aborted"), "{}", out.err);
    assert_eq!(out.out.trim(), "BEGIN\nROLLBACK\n8");
    Ok(())
}

#[test]
fn p2_what_nobody_decides_in_time_is_refused() -> Result<()> {
    let host = with_rows(&held("deadline = \"1s\""))?;
    let out = host.agent(
        "psql",
        &["-X", "-At", "-v", "VERBOSITY=verbose", "-c", "DELETE FROM t", "-c", "SELECT 7"],
    )?;
    assert!(out.err.contains("YH002: nobody approved this statement in time"), "{}", out.err);
    assert_eq!(out.out.trim(), "7");
    assert_eq!(rows(&host)?, "3");
    assert_eq!(ended(&host)?.0, "expired");
    Ok(())
}

#[test]
fn p1_a_cancel_or_a_client_that_leaves_withdraws_what_waits() -> Result<()> {
    let host = with_rows(&held(""))?;
    let program = r#"
import psycopg, threading, time
c = psycopg.connect("", autocommit=True)
threading.Timer(1.5, c.cancel).start()
try:
    c.execute("DELETE FROM t")
except psycopg.Error as e:
    print(e.sqlstate)
print(c.execute("SELECT 7").fetchone()[0])
"#;
    assert_eq!(host.python(program)?.ok()?, "57014\n7");
    let (state, detail) = ended(&host)?;
    assert_eq!((state.as_str(), detail.as_str()), ("withdrawn", "the client cancelled it"));
    assert_eq!(rows(&host)?, "3");

    let psql = host.start_agent("psql", &["-X", "-c", "DELETE FROM t"])?;
    let id = ids(&host, 1)?.remove(0);
    drop(psql);
    wait_until("nothing to wait", || waiting(&host).is_ok_and(|holds| holds.is_empty()))?;
    assert_eq!(ended(&host)?, ("withdrawn".into(), "the client left".into()));
    let late = host.chaperone(&["approve", &id])?;
    assert!(late.err.contains("nothing waits under"), "{}", late.err);
    assert_eq!(rows(&host)?, "3");
    let command = host.command(&id.parse::<u64>()?.into())?;
    assert_eq!(command["parts"][0]["status"], "refused", "{command}");
    Ok(())
}

#[test]
fn p1_a_retried_statement_passes_once_and_only_as_it_was_approved() -> Result<()> {
    let host = with_rows(&held("wait = \"retry\"\nbind = \"version\"").version("\"1.4.2\""))?;
    // A version, so that another process of the same agent is the same one that asks.
    let run =
        |text: &str| host.agent("psql", &["-X", "-At", "-v", "VERBOSITY=verbose", "-c", text]);
    let out = run("DELETE FROM t WHERE a = 1 OR true")?;
    let id = ids(&host, 1)?.remove(0);
    let told = format!("YH001: this statement needs a person's approval (id {id})");
    assert!(out.err.contains(&told), "{}", out.err);
    // Asking again asks nobody twice.
    assert!(run("DELETE FROM t WHERE a = 1 OR true")?.err.contains(&told));
    assert_eq!(ids(&host, 1)?, [id.as_str()]);
    let said = host.chaperone(&["approve", &id])?.ok()?;
    assert!(said.contains("next try"), "{said}");
    let other = run("DELETE FROM t WHERE a = 2 OR true")?;
    assert!(other.err.contains("YH001"), "another text: {}", other.err);
    assert_eq!(rows(&host)?, "3");
    assert_eq!(run("DELETE FROM t WHERE a = 1 OR true")?.ok()?, "DELETE 3");
    assert!(run("DELETE FROM t WHERE a = 1 OR true")?.err.contains("YH001"), "it is used up");
    let used = host.commands()?;
    let used = used.iter().find(|c| c["status"] == "ok").context("the one that ran")?;
    assert_eq!((used["approval"].to_string(), &used["verdict"]), (id, &"allow".into()));
    Ok(())
}

#[test]
fn p1_a_prepared_statement_waits_with_its_parameters() -> Result<()> {
    let host = with_rows(&held("").server("log_statement = 'all'"))?;
    let mut agent = host.start_agent(
        "/usr/bin/python3",
        &[
            "-c",
            r#"
import psycopg, sys
c = psycopg.connect("", autocommit=True)
for value in (1, 2):
    try:
        print(c.execute("DELETE FROM t WHERE a <> %s OR true", (value,)).statusmessage, flush=True)
    except psycopg.Error as e:
        print(e.sqlstate, flush=True)
print(c.execute("SELECT 7").fetchone()[0])
"#,
        ],
    )?;
    let id = ids(&host, 1)?.remove(0);
    let hold = waiting(&host)?.remove(0);
    assert_eq!(hold["statement"], "DELETE FROM t WHERE a <> $1 OR true");
    assert_eq!(hold["parameters"], "[\"1\"]");
    host.chaperone(&["approve", &id])?.ok()?;
    assert_eq!(agent.hear()?, "DELETE 3");
    let second = ids(&host, 1)?.remove(0);
    assert_eq!(waiting(&host)?[0]["parameters"], "[\"2\"]");
    host.chaperone(&["deny", &second])?.ok()?;
    let out = agent.finish()?;
    assert_eq!(out.out.trim(), "42501\n7", "{}", out.err);
    Ok(())
}

#[test]
fn p1_a_pipeline_waits_at_what_is_held_and_keeps_step() -> Result<()> {
    let host = with_rows(&held("deadline = \"2s\""))?;
    let out = raw(
        &host,
        r#"
s = connect()
s.sendall(P(b"", b"SELECT 1") + B(b"", b"") + E() + P(b"d", b"DELETE FROM t") + B(b"", b"d") + E() + S
          + msg(b"Q", b"SELECT 2\0"))
seen = read_to(s, b"Z", 2)
print(tags(seen).decode().replace("N", ""), [m[1] for m in seen if m[0] == b"E"][0].split(b"\0")[2])
# What lies behind Flush alone is answered, and not waited for in vain.
s.sendall(P(b"e", b"SELECT 3") + B(b"", b"e") + E() + S)
print(tags(read_to(s, b"Z")).decode())
"#,
    )?;
    assert_eq!(out, "12DC1EZTDCZ b'CYH002'\n12DCZ");
    assert_eq!(rows(&host)?, "3");
    Ok(())
}

/// What is known to be harmless goes on at once, and what is held behind it keeps its place.
#[test]
fn p1_what_comes_before_a_held_statement_goes_first() -> Result<()> {
    for wait in ["stay", "retry"] {
        let host = with_rows(&held(&format!("deadline = \"1s\"\nwait = \"{wait}\"")))?;
        let out = raw(
            &host,
            r#"
s = connect()
for text in (b"SELECT 1", b"TRUNCATE t"):
    s.sendall(P(b"known", text) + msg(b"C", b"Sknown\0") + S); read_to(s, b"Z")
s.sendall(msg(b"Q", b"SELECT 1\0") + msg(b"Q", b"TRUNCATE t\0") + msg(b"Q", b"SELECT 1\0"))
print(tags(read_to(s, b"Z", 3)).decode().replace("N", ""))
"#,
        )?;
        assert_eq!(out, "TDCZEZTDCZ", "{wait}");
        assert_eq!(rows(&host)?, "3");
        let commands = host.commands()?;
        let statuses: Vec<_> = commands.iter().map(|c| c["status"].as_str()).collect();
        assert_eq!(statuses, [Some("ok"), Some("refused"), Some("ok")], "{wait}");
    }
    Ok(())
}

/// Protocol and SQL share names of statements, and of portals and cursors.
#[test]
fn p1_a_name_is_no_way_round_a_person() -> Result<()> {
    let host = with_rows(&held("deadline = \"1s\""))?;
    let out = raw(
        &host,
        r#"
s = connect()
def q(text):
    s.sendall(msg(b"Q", text + b"\0"))
    return b"E" in tags(read_to(s, b"Z"))
def x(flight):
    s.sendall(flight + S)
    return b"E" in tags(read_to(s, b"Z"))
# A name of SQL's that the protocol takes next.
print(q(b"PREPARE s AS SELECT 1"), q(b"DEALLOCATE s"), x(P(b"s", b"DELETE FROM t")), q(b"EXECUTE s"),
      q(b"EXPLAIN ANALYZE EXECUTE s"))
# A statement that is no longer known here, under the name of a cursor.
print(x(P(b"r", b"DELETE FROM t RETURNING 1")), q(b"PREPARE x AS SELECT 1"), q(b"DEALLOCATE x"),
      q(b"PREPARE x AS SELECT 1"), q(b"BEGIN"), q(b"DECLARE c CURSOR FOR SELECT 1"), q(b"CLOSE c"))
print(x(B(b"c", b"r")), q(b"FETCH ALL FROM c"), q(b"ROLLBACK"))
print(q(b"BEGIN"), q(b"DECLARE c CURSOR FOR SELECT 1"), q(b"CLOSE c"), x(P(b"y", b"SELECT 1") + B(b"c", b"y")),
      q(b"FETCH ALL FROM c"))
"#,
    )?;
    assert_eq!(
        out,
        "False False False True True\nFalse False False False False False False\nTrue True False\n\
         False False False False True"
    );
    assert_eq!(rows(&host)?, "3");
    Ok(())
}

/// What stands in front of a text does not choose who is asked about the rest.
#[test]
fn p1_all_whom_rules_ask_about_a_text_must_be_for_it() -> Result<()> {
    let host = with_rows(&held("").more(
        "[[rule]]\nname = \"u\"\nwhen = { relation = \"u\" }\nthen = \"hold\"\n\
         approvers = [\"user:bin\"]",
    ))?;
    host.postgres().sql("CREATE TABLE u AS SELECT 1 AS a")?;
    let psql =
        host.start_agent("psql", &["-X", "-c", "UPDATE u SET a = 1 WHERE a = 1; DELETE FROM t"])?;
    let id = ids(&host, 1)?.remove(0);
    let hold = waiting(&host)?.remove(0);
    assert_eq!((&hold["rule"], &hold["quorum"]), (&"ask; u".into(), &2.into()));
    assert!(host.chaperone(&["approve", &id])?.ok()?.contains("waits for 1 more"));
    assert_eq!(rows(&host)?, "3");
    host.chaperone(&["deny", &id])?.ok()?;
    assert!(psql.finish()?.err.contains("denied this statement"));
    Ok(())
}

#[test]
fn p1_four_eyes_and_a_quorum_of_different_people() -> Result<()> {
    let host = with_rows(&held("quorum = 2"))?;
    let socket = host.folder().join("run/control.sock");
    let socket = socket.to_str().context("UTF-8")?.to_owned();
    let binary = std::env::var("CHAPERONE_BIN").unwrap_or_else(|_| "chaperone".into());
    // Where every account can run it.
    let program = host.folder().join("chaperone");
    fs::copy(&binary, &program)?;
    let program = program.to_str().context("UTF-8")?.to_owned();
    let psql = host.start_agent("psql", &["-X", "-At", "-c", "DELETE FROM t"])?;
    let id = ids(&host, 1)?.remove(0);
    let approve = |uid: u32| {
        let uid = uid.to_string();
        let args =
            ["--reuid", &uid, "--clear-groups", &program, "--socket", &socket, "approve", &id];
        host.outside("setpriv", &args)
    };
    // The agent's own account, and what the agent started under another.
    let own = host.agent(&program, &["--socket", &socket, "approve", &id])?;
    assert!(own.err.contains("agents never"), "{}", own.err);
    let own = approve(host.uid())?;
    assert!(own.err.contains("agents never"), "{}", own.err);
    // Somebody whom the rule does not name.
    let other = approve(2)?;
    assert!(other.err.contains("may not ask the daemon"), "{}", other.err);
    assert!(approve(0)?.ok()?.contains("waits for 1 more"));
    assert!(approve(0)?.err.contains("different people"));
    assert_eq!(rows(&host)?, "3");
    assert!(approve(1)?.ok()?.contains("goes on"));
    assert_eq!(psql.finish()?.ok()?, "DELETE 3");
    let hold = past(&host)?.remove(0);
    let words: Value = serde_json::from_str(hold["words"].as_str().context("words")?)?;
    assert_eq!((&words[0]["person"], &words[1]["person"]), (&"root".into(), &"daemon".into()));
    Ok(())
}

#[test]
fn p2_a_restart_approves_nothing() -> Result<()> {
    let mut host = with_rows(&held(""))?;
    let psql = host.start_agent("psql", &["-X", "-At", "-c", "DELETE FROM t"])?;
    let id = ids(&host, 1)?.remove(0);
    host.kill_daemon()?;
    assert_ne!(psql.finish()?.code, Some(0));
    host.start_daemon()?;
    assert_eq!(ended(&host)?, ("withdrawn".into(), "the daemon was restarted".into()));
    assert!(waiting(&host)?.is_empty());
    assert_ne!(host.chaperone(&["approve", &id])?.code, Some(0));
    assert_eq!(rows(&host)?, "3");
    let command = host.command(&id.parse::<u64>()?.into())?;
    assert_eq!(command["parts"][0]["status"], "refused", "{command}");
    // An orderly end tells the client.
    let psql = host.start_agent("psql", &["-X", "-At", "-c", "DELETE FROM t"])?;
    ids(&host, 1)?;
    host.stop_daemon()?;
    let out = psql.finish()?;
    assert!(out.err.contains("the daemon stops"), "{}", out.err);
    assert_eq!(rows(&host)?, "3");
    Ok(())
}

#[test]
fn a_target_that_is_observed_is_not_held_and_the_log_says_what_would_have_been() -> Result<()> {
    let host = with_rows(&held("").target("mode = \"observe\""))?;
    assert_eq!(host.psql(&["DELETE FROM t"])?.ok()?, "");
    assert_eq!(rows(&host)?, "0");
    let command = host.commands()?.remove(0);
    assert_eq!((&command["verdict"], &command["rule"]), (&"would-hold".into(), &"ask".into()));
    Ok(())
}

#[test]
fn p8_five_hundred_wait_half_are_cancelled_and_the_daemon_is_killed() -> Result<()> {
    let scene = held("").server("max_connections = 600").daemon("max_sessions_per_agent = 2000");
    let mut host = scene.start()?;
    host.postgres().sql("CREATE TABLE t AS SELECT generate_series(1, 500) AS a")?;
    let agent = host.start_agent(
        "/usr/bin/python3",
        &[
            "-c",
            r#"
import asyncio, os, struct
host = os.environ["PGHOST"]
async def one(n, cancelled):
    r, w = await asyncio.open_connection(host, 5432)
    p = b"user\0postgres\0database\0postgres\0\0"
    w.write(struct.pack("!II", len(p) + 8, 196608) + p)
    key = None
    async def read():
        head = await r.readexactly(5)
        return head[:1], await r.readexactly(struct.unpack("!I", head[1:])[0] - 4)
    while True:
        tag, body = await read()
        if tag == b"K": key = body
        if tag == b"Z": break
    text = b"SELECT 1; DO $$ BEGIN DELETE FROM t WHERE a = %d; END $$\0" % n
    w.write(b"Q" + struct.pack("!I", len(text) + 4) + text)
    seen = b""
    try:
        while True:
            tag, body = await read()
            if tag == b"N" and cancelled:
                _, c = await asyncio.open_connection(host, 5432)
                c.write(struct.pack("!II", 16, 80877102) + key)
                await c.drain()
                c.close()
            if tag == b"E": seen = body.split(b"\0")[2][1:]
            if tag == b"Z": break
    except (asyncio.IncompleteReadError, ConnectionError):
        seen = b"lost"
    w.close()
    return (seen or b"ran").decode()
async def all():
    gate = asyncio.Semaphore(1000)
    got = await asyncio.gather(*(one(n, n % 2 == 0) for n in range(1, 501)))
    from collections import Counter
    print(sorted(Counter(got).items()))
asyncio.run(all())
"#,
        ],
    )?;
    // Half of them are cancelled, and the rest wait.
    let all = ids(&host, 250)?;
    let (yes, _) = all.split_at(20);
    for id in yes {
        host.chaperone(&["approve", id])?.ok()?;
    }
    wait_until("those that were approved to run", || {
        host.postgres().sql("SELECT count(*) FROM t").is_ok_and(|count| count == "480")
    })?;
    host.kill_daemon()?;
    let out = agent.finish()?;
    assert_eq!(out.ok()?, "[('57014', 250), ('lost', 230), ('ran', 20)]");
    host.start_daemon()?;
    assert_eq!(host.postgres().sql("SELECT count(*) FROM t")?, "480");
    let rows = host.chaperone(&["holds", "--all", "-n", "1000", "--json"])?.ok()?;
    let mut states = std::collections::BTreeMap::new();
    for line in rows.lines() {
        let row: Value = serde_json::from_str(line)?;
        let state = row["state"].as_str().unwrap_or_default().to_owned();
        *states.entry(state).or_insert(0) += 1;
    }
    let expected = [("approved".to_owned(), 20), ("withdrawn".to_owned(), 480)];
    assert_eq!(states.into_iter().collect::<Vec<_>>(), expected);
    Ok(())
}
