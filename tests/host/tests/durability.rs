//! A daemon that is killed under load, again and again: what the server was sent is in the log.
//!
//! Does not belong here: a power cut and a disk that fails, which the log's own tests have.

use std::{collections::HashSet, process::Command, thread, time::Duration};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};

const ROUNDS: u32 = 40;
const CLIENTS: u32 = 4;

/// Statements that say who they are: the client, the round and the number, until the daemon is gone.
const LOAD: &str = r#"
import os, subprocess, sys
mark = sys.argv[1]
psql = subprocess.Popen(["psql", "-X", "-q", "-At"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    for n in range(1000000):
        line = f"INSERT INTO marks VALUES ('{mark}-{n}');\n" if n % 2 else f"SELECT '{mark}-{n}';\n"
        psql.stdin.write(line.encode()); psql.stdin.flush()
except BrokenPipeError:
    pass
"#;

#[test]
fn p1_a_daemon_that_is_killed_under_load_forwarded_nothing_unrecorded() -> Result<()> {
    let mut host = Scene::default().server("log_statement = all\nlog_line_prefix = ''").start()?;
    host.postgres().sql("CREATE TABLE marks (mark text)")?;
    for round in 0..ROUNDS {
        let clients = (0..CLIENTS)
            .map(|client| {
                let mark = format!("mark-{round}-{client}");
                host.start_agent("/usr/bin/python3", &["-c", LOAD, &mark])
            })
            .collect::<Result<Vec<_>>>()?;
        // Every fourth time while they start and sign on.
        if round % 4 > 0 {
            wait_until("there is load", || host.counter("forwarded").is_ok_and(|n| n > 20))?;
        }
        thread::sleep(Duration::from_millis(u64::from(round * 37 % 150)));
        host.kill_daemon()?;
        for client in clients {
            client.finish()?;
        }
        host.start_daemon()?;
        check(&host).with_context(|| format!("round {round}"))?;
    }
    let arrived: u32 = host.postgres().sql("SELECT count(*) FROM marks")?.parse()?;
    assert!(arrived > ROUNDS * 5, "there was load: {arrived}");
    Ok(())
}

fn check(host: &Host) -> Result<()> {
    let recorded: HashSet<String> = ask(host, "SELECT text FROM intent WHERE text LIKE '%mark-%'")?
        .lines()
        .filter_map(mark)
        .collect();
    // What the server heard, and what it did.
    let heard = host.postgres().log();
    let heard = heard.lines().filter(|line| line.contains("statement:")).filter_map(mark);
    let done = host.postgres().sql("SELECT mark FROM marks")?;
    for mark in heard.chain(done.lines().map(str::to_owned)) {
        assert!(recorded.contains(&mark), "{mark} was forwarded, and is not recorded");
    }
    let one = |sql| -> Result<u64> { Ok(ask(host, sql)?.parse()?) };
    assert_eq!(ask(host, "PRAGMA integrity_check")?, "ok");
    let open = "SELECT count(*) FROM intent i JOIN session_opened s ON s.seq = i.session
                WHERE NOT EXISTS (SELECT 1 FROM outcome o WHERE o.intent = i.seq)";
    assert_eq!(one(open)?, 0, "commands without an outcome are unknown");
    let numbers = tables(host)?
        .iter()
        .map(|table| format!("SELECT seq FROM {table}"))
        .collect::<Vec<_>>()
        .join(" UNION ALL ");
    let gaps = format!("SELECT max(seq) - count(*) FROM ({numbers})");
    assert_eq!(ask(host, &gaps)?, "0", "numbers without gaps");
    Ok(())
}

/// Those that are append-only by a trigger, which are those of records.
fn tables(host: &Host) -> Result<Vec<String>> {
    let sql =
        "SELECT tbl_name FROM sqlite_schema WHERE type = 'trigger' AND name = tbl_name || '_d'";
    Ok(ask(host, sql)?.lines().map(str::to_owned).collect())
}

fn mark(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("'mark-")?;
    Some(format!("mark-{}", rest.split_once('\'')?.0))
}

fn ask(host: &Host, sql: &str) -> Result<String> {
    let file = format!("file:{}?mode=ro", host.log().display());
    let output = Command::new("sqlite3").args([&file, sql]).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
