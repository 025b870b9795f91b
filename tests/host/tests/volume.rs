//! P8: memory stays bounded whatever passes, and nothing is lost under load.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};

/// The daemon's memory limit, in KiB.
const LIMIT: u64 = 64 << 10;

#[test]
fn p8_a_result_of_a_gigabyte_passes_in_bounded_memory() -> Result<()> {
    let host = Host::start()?;
    // 1,048,576 rows of 1,024 characters, counted by the agent.
    let query = "COPY (SELECT repeat('x', 1023) FROM generate_series(1, 1048576)) TO STDOUT";
    let script = format!("psql -X -c \"{query}\" | wc -c");
    let out = host.agent("bash", &["-c", &script])?.ok()?;
    assert_eq!(out, (1_u64 << 30).to_string());
    let script = "psql -X -At --set FETCH_COUNT=0 -c \"SELECT repeat('y', 1023) FROM generate_series(1, 262144)\" | wc -c";
    assert_eq!(host.agent("bash", &["-c", script])?.ok()?, (1_u64 << 28).to_string());
    let peak = host.daemon_peak_kib()?;
    assert!(peak < LIMIT, "{peak} KiB");
    let rows = host.commands()?;
    assert_eq!(rows[0]["tag"], "COPY 1048576");
    assert!(rows[0]["bytes"].as_u64().is_some_and(|n| n > 1 << 30));
    assert_eq!(rows[1]["rows"], 262_144);
    Ok(())
}

#[test]
fn p8_copying_a_gigabyte_in_passes_in_bounded_memory() -> Result<()> {
    let host = Host::start()?;
    host.psql(&["CREATE UNLOGGED TABLE t (a text)"])?.ok()?;
    let script = "yes $(printf 'x%.0s' {1..1023}) | head -n 1048576 | \
                  psql -X -c \"COPY t FROM PROGRAM 'true'\" -c \"COPY t FROM STDIN WHERE false\"";
    host.agent("bash", &["-c", script])?.ok()?;
    let peak = host.daemon_peak_kib()?;
    assert!(peak < LIMIT, "{peak} KiB");
    let rows = host.commands()?;
    assert_eq!(rows[2]["bytes_in"], 1 << 30);
    Ok(())
}

#[test]
fn p8_a_row_of_a_hundred_megabytes_passes_in_bounded_memory() -> Result<()> {
    let host = Host::start()?;
    let script = "psql -X -At -c \"SELECT repeat('x', 100000000)\" | wc -c";
    assert_eq!(host.agent("bash", &["-c", script])?.ok()?, "100000001");
    assert!(host.daemon_peak_kib()? < LIMIT);
    let row = host.commands()?.remove(0);
    assert_eq!(row["status"], "ok");
    let shown = host.command(&row["id"])?;
    assert_eq!(shown["parts"][0]["truncated"], true);
    assert_eq!(shown["parts"][0]["kept"], 0);
    Ok(())
}

#[test]
fn p8_a_client_that_does_not_read_holds_the_server_and_not_the_daemons_memory() -> Result<()> {
    let host = Host::start()?;
    let code = "
import socket, struct, os, time
s = socket.create_connection((os.environ['PGHOST'], 5432), timeout=20)
body = struct.pack('!i', 196608) + b'user\\0postgres\\0database\\0postgres\\0\\0'
s.sendall(struct.pack('!i', len(body) + 4) + body)
q = b\"SELECT repeat('x', 1000) FROM generate_series(1, 1000000)\\0\"
s.sendall(b'Q' + struct.pack('!i', len(q) + 4) + q)
time.sleep(3)
";
    let slow = host.start_agent("/usr/bin/python3", &["-c", code])?;
    wait_until("it was sent", || host.counter("forwarded").is_ok_and(|n| n > 0))?;
    std::thread::sleep(Duration::from_millis(1500));
    let waits = host.postgres().sql(
        "SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'SELECT repeat%' AND state = 'active'",
    )?;
    assert_eq!(waits, "ClientWrite", "the server waits for its client");
    // Others are not held up by it.
    host.psql(&["SELECT 1"])?.ok()?;
    assert!(host.daemon_peak_kib()? < LIMIT);
    slow.finish()?;
    Ok(())
}

#[test]
fn p1_a_minute_of_prepared_statements_is_recorded_to_the_last() -> Result<()> {
    let host = Scene::default()
        .server("shared_preload_libraries = 'pg_stat_statements'")
        .daemon("durability = \"committed\"")
        .start()?;
    host.agent("pgbench", &["-i", "-q", "-s", "2"])?.ok()?;
    host.postgres().sql("CREATE EXTENSION pg_stat_statements")?;
    host.postgres().sql("SELECT pg_stat_statements_reset()")?;
    let out = host
        .agent("pgbench", &["-n", "-S", "-M", "prepared", "-c", "8", "-j", "2", "-T", "60"])?
        .ok()?;
    let server: u64 = host
        .postgres()
        .sql("SELECT calls FROM pg_stat_statements WHERE query LIKE 'SELECT abalance FROM%'")?
        .parse()?;
    assert!(out.contains(&format!("number of transactions actually processed: {server}")), "{out}");
    wait_until("every command has its outcome", || {
        count(&host, "outcome o ON o.intent = i.seq").is_ok_and(|n| n == server)
    })?;
    assert_eq!(count(&host, "session_opened s ON s.seq = i.session")?, server);
    // The log is moved, indexed and sealed meanwhile: all of the program is in memory.
    assert!(host.daemon_peak_kib()? < LIMIT * 5 / 4, "{} KiB", host.daemon_peak_kib()?);
    Ok(())
}

/// Executions of pgbench's statement in the log, joined with another table.
fn count(host: &Host, join: &str) -> Result<u64> {
    let sql = format!(
        "SELECT count(*) FROM intent i JOIN {join} WHERE i.kind = 'execute' AND (SELECT coalesce(p.text, t.text) \
         FROM intent p LEFT JOIN intent t ON t.seq = p.text_of WHERE p.session = i.session AND p.statement = i.statement AND p.kind = 'prepare') LIKE 'SELECT abalance%'"
    );
    let output = Command::new("sqlite3")
        .arg(format!("file:{}?mode=ro", host.log().display()))
        .arg(sql)
        .stderr(Stdio::inherit())
        .output()?;
    String::from_utf8(output.stdout)?.trim().parse().context("a number")
}
