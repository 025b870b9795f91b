//! Replication connections, where a target takes them: their commands are recorded, and what
//! streams both ways passes.

use std::process::Command;

use anyhow::Result;
use chaperone_host_tests::Scene;

use crate::drivers::verified;

#[test]
fn p1_logical_replication_passes_where_the_target_takes_it() -> Result<()> {
    let host = Scene::default()
        .target("replication = true")
        .server("wal_level = logical\nmax_wal_senders = 4\nmax_replication_slots = 4")
        .start()?;
    let identify = ["-X", "-At", "dbname=postgres replication=database", "-c", "IDENTIFY_SYSTEM"];
    let system = verified(&host, "psql", &identify)?.ok()?;
    assert!(system.ends_with("|postgres"), "{system}");

    host.postgres().sql("CREATE TABLE t (a int, b text)")?;
    let receive = host.postgres().bin().join("pg_recvlogical").display().to_string();
    let create = ["-d", "postgres", "--slot", "news", "-P", "test_decoding", "--create-slot"];
    verified(&host, &receive, &create)?.ok()?;
    host.postgres()
        .sql("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 500) n")?;
    let end = host.postgres().sql("SELECT pg_current_wal_lsn()")?;
    let start = ["-d", "postgres", "--slot", "news", "--start", "-f", "-", "--endpos", &end];
    let lines = verified(&host, &receive, &[&start[..], &["-F", "0"]].concat())?.ok()?;
    let inserted = lines.lines().filter(|line| line.starts_with("table public.t: INSERT")).count();
    assert_eq!(inserted, 500, "{lines}");
    let drop = ["-d", "postgres", "--slot", "news", "--drop-slot"];
    verified(&host, &receive, &drop)?.ok()?;

    let rows = host.commands()?;
    for text in ["IDENTIFY_SYSTEM", "CREATE_REPLICATION_SLOT", "START_REPLICATION", "DROP_REP"] {
        let is = |row: &&serde_json::Value| {
            row["statement"].as_str().is_some_and(|statement| statement.starts_with(text))
        };
        let found: Vec<_> = rows.iter().filter(is).collect();
        assert!(!found.is_empty(), "{text} is not in the log: {rows:?}");
        assert!(found.iter().all(|row| row["status"] == "ok"), "{text}: {found:?}");
    }
    Ok(())
}

#[test]
fn p1_a_walsender_takes_sql_too_and_it_is_recorded() -> Result<()> {
    let host = Scene::default().target("replication = true").start()?;
    let connection = "dbname=postgres replication=database";
    let out =
        host.agent("psql", &["-X", "-At", connection, "-c", "SELECT 7", "-c", "SHOW port"])?;
    assert_eq!(out.ok()?, "7\n5432");
    assert_eq!(host.statements()?, ["SELECT 7", "SHOW port"]);
    Ok(())
}

#[test]
fn p2_a_base_backup_needs_a_target_that_takes_replication() -> Result<()> {
    let host = Scene::default().hba("host all,replication all all trust\n").start()?;
    let backup = host.postgres().bin().join("pg_basebackup").display().to_string();
    let out = host.agent(&backup, &["-D", "-", "-F", "tar", "-X", "none"])?;
    assert!(out.err.contains("does not let replication connections through"), "{}", out.err);
    let direct = Command::new(&backup)
        .args(["-D", "-", "-F", "tar", "-X", "none", "-U", "postgres", "-h"])
        .arg(host.address().to_string())
        .output()?;
    assert!(direct.stdout.len() > 1_000_000, "the server itself would have given it");
    assert!(host.commands()?.is_empty());
    Ok(())
}
