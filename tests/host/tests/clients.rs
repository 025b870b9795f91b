//! P4: clients that were told nothing work, and what they do is in the log.

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene};

#[test]
fn p1_p4_an_agents_psql_is_recorded() -> Result<()> {
    let host = Host::start()?;
    let out = host.psql(&["SELECT 1 AS one, 'two' AS two", "SELECT 3"])?.ok()?;
    assert_eq!(out, "1|two\n3");
    assert_eq!(host.statements()?, ["SELECT 1 AS one, 'two' AS two", "SELECT 3"]);

    let rows = host.commands()?;
    let first = &rows[0];
    for (field, value) in [
        ("agent", "cleaner"),
        ("target", "prod"),
        ("user", "postgres"),
        ("database", "postgres"),
        ("kind", "query"),
        ("verdict", "allow"),
        ("status", "ok"),
        ("tag", "SELECT 1"),
        ("transaction_state", "idle"),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    assert_eq!(first["uid"], host.uid());
    let program = first["executable"].as_str().context("no program")?;
    assert!(program.ends_with("/psql") || program.contains("perl"), "{program}");
    let shown = host.command(&first["id"])?;
    let part = &shown["parts"][0];
    assert_eq!(part["columns"], r#"["one","two"]"#);
    assert_eq!(part["response"], r#"[["1","two"]]"#);
    assert_eq!(part["truncated"], false);
    Ok(())
}

#[test]
fn p4_pgbench_works_in_every_mode_and_every_execution_is_recorded() -> Result<()> {
    let host = Scene::default()
        .server("shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.track = 'top'")
        .start()?;
    host.agent("pgbench", &["-i", "-q", "-s", "1"])?.ok()?;
    host.postgres().sql("CREATE EXTENSION pg_stat_statements")?;
    for mode in ["simple", "extended", "prepared"] {
        host.postgres().sql("SELECT pg_stat_statements_reset()")?;
        let before = selects(&host)?;
        host.agent("pgbench", &["-n", "-S", "-M", mode, "-c", "4", "-j", "2", "-t", "100"])?
            .ok()?;
        // The ordinary script writes, and does so inside transactions.
        host.agent("pgbench", &["-n", "-M", mode, "-c", "2", "-t", "20"])?.ok()?;
        let server = host.postgres().sql(
            "SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE 'SELECT abalance FROM%'",
        )?;
        assert_eq!(server, "440", "{mode}");
        assert_eq!(selects(&host)? - before, 440, "{mode}");
    }
    Ok(())
}

fn selects(host: &Host) -> Result<usize> {
    let ran = |row: &&serde_json::Value| {
        row["status"] == "ok"
            && row["statement"].as_str().is_some_and(|s| s.starts_with("SELECT abalance FROM"))
    };
    Ok(host.commands()?.iter().filter(ran).count())
}
