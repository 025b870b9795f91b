//! The log as an auditor reads it, and what happens when it cannot be written.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};

fn sqlite3(host: &Host, sql: &str) -> Result<String> {
    let file = format!("file:{}?mode=ro", host.log().display());
    let output = Command::new("sqlite3").args([&file, sql]).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[test]
fn the_plain_sqlite3_shell_reads_the_log_while_it_is_written_and_after() -> Result<()> {
    let mut host = Host::start()?;
    host.psql(&["SELECT 'sqlite' AS how"])?.ok()?;
    host.commands()?;
    let sql = "SELECT agent, target, statement, status FROM commands";
    let want = "cleaner|prod|SELECT 'sqlite' AS how|ok";
    assert_eq!(sqlite3(&host, sql)?, want);
    assert_eq!(sqlite3(&host, "SELECT columns, rows FROM responses")?, r#"["how"]|[["sqlite"]]"#);
    host.stop_daemon()?;
    assert_eq!(sqlite3(&host, sql)?, want);
    assert_eq!(
        sqlite3(&host, "SELECT database, commands, closed_by FROM sessions")?,
        "postgres|1|agent"
    );
    Ok(())
}

#[test]
fn the_command_line_filters_shows_and_prints_json() -> Result<()> {
    let host = Host::start()?;
    host.psql(&["SELECT 'needle_1%'", "SELECT 'hay'", "SELECT 1/0"])?;
    host.commands()?;
    let log = |args: &[&str]| host.chaperone(&[&["log"], args].concat())?.ok();
    assert!(log(&["--text", "NEEDLE_1%"])?.contains("needle_1%"));
    assert!(!log(&["--text", "needle_1%"])?.contains("hay"));
    assert!(!log(&["--text", "needleX1%"])?.contains("needle"));
    assert!(log(&["--status", "error"])?.contains("22012"));
    assert_eq!(log(&["--agent", "nobody", "--json"])?, "");
    assert_eq!(log(&["--target", "prod", "--json"])?.lines().count(), 3);
    assert_eq!(log(&["--since", "1h", "--json"])?.lines().count(), 3);
    assert_eq!(log(&["--until", "1h", "--json"])?, "");
    assert_eq!(log(&["-n", "1", "--json"])?.lines().count(), 1);
    let row: serde_json::Value = serde_json::from_str(&log(&["-n", "1", "--json"])?)?;
    let shown = log(&["show", &row["id"].to_string()])?;
    assert!(shown.contains("22012 division by zero") && shown.contains("cleaner"), "{shown}");
    let missing = host.chaperone(&["log", "show", "999999"])?;
    assert_eq!(missing.code, Some(3));
    assert!(missing.err.contains("there is no command 999999"), "{}", missing.err);
    let wrong = host.chaperone(&["log", "--since", "soon"])?;
    assert_eq!(wrong.code, Some(2));
    Ok(())
}

#[test]
fn following_shows_each_command_once() -> Result<()> {
    let host = Host::start()?;
    host.psql(&["SELECT 'before'"])?.ok()?;
    host.commands()?;
    let binary = std::env::var_os("CHAPERONE_BIN").context("CHAPERONE_BIN")?;
    let mut follow = Command::new(binary)
        .args(["log", "--follow", "--json", "--config"])
        .arg(host.config())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(follow.stdout.take().context("its output")?).lines();
    let mut next = || -> Result<String> {
        let row: serde_json::Value = serde_json::from_str(&lines.next().context("a line")??)?;
        Ok(row["statement"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(next()?, "SELECT 'before'");
    host.psql(&["SELECT 'one'", "SELECT 'two'"])?.ok()?;
    assert_eq!(next()?, "SELECT 'one'");
    assert_eq!(next()?, "SELECT 'two'");
    host.psql(&["SELECT 'three'"])?.ok()?;
    assert_eq!(next()?, "SELECT 'three'");
    follow.kill()?;
    follow.wait()?;
    Ok(())
}

#[test]
fn responses_are_cut_at_the_configured_size_and_say_so() -> Result<()> {
    let host = Scene::default().daemon("response = \"1 KiB\"\nparameters = \"64 B\"").start()?;
    host.psql(&["SELECT generate_series(1, 1000)", "SELECT 1"])?.ok()?;
    let rows = host.commands()?;
    let long = host.command(&rows[0]["id"])?;
    let part = &long["parts"][0];
    assert_eq!(part["truncated"], true);
    assert_eq!(part["rows"], 1000, "all of them are counted");
    let kept: Vec<Vec<String>> = serde_json::from_str(part["response"].as_str().context("rows")?)?;
    assert_eq!(Some(kept.len() as u64), part["kept"].as_u64());
    assert!(kept.len() > 50 && kept.len() < 200);
    assert_eq!(host.command(&rows[1]["id"])?["parts"][0]["truncated"], false);
    let code = "import psycopg\nwith psycopg.connect('') as c: c.execute('SELECT %s, %s', ('x' * 20, 'y' * 200))";
    host.python(code)?.ok()?;
    let rows = host.commands()?;
    let last = rows.iter().find(|r| r["statement"] == "SELECT $1, $2").context("the command")?;
    assert_eq!(last["parameters"], format!("[\"{}\"]", "x".repeat(20)));
    assert_eq!(last["parameters_cut"], true);
    Ok(())
}

#[test]
fn p1_p2_a_full_disk_refuses_statements_and_recovery_needs_no_hand() -> Result<()> {
    for durability in ["committed", "flushed"] {
        let host = Scene::default()
            .daemon(&format!("durability = \"{durability}\""))
            .server("log_statement = 'all'")
            .small_disk()
            .start()?;
        host.psql(&["SELECT 'before'"])?.ok()?;
        let filler = host.folder().join("log/filler");
        // dd ends with an error when the disk is full: that is what it is for.
        Command::new("dd")
            .args(["if=/dev/zero", "bs=4k", &format!("of={}", filler.display())])
            .stderr(Stdio::null())
            .status()?;
        let long = format!("SELECT '{}'", "x".repeat(100_000));
        let file = host.folder().join("long.sql");
        fs::write(&file, format!("{long};\n"))?;
        let out = host.agent("psql", &["-X", "-f", &file.display().to_string()])?;
        assert!(out.err.contains("chaperone could not record"), "{}", out.err);
        assert!(out.err.contains("the disk that holds the log is full"), "{}", out.err);
        assert!(!host.postgres().log().contains("xxxx"), "it reached the server");
        assert!(host.counter("unrecorded")? > 0);
        fs::remove_file(&filler)?;
        host.psql(&["SELECT 'after'"])?.ok()?;
        let statements = host.statements()?;
        assert!(statements.contains(&"SELECT 'after'".to_owned()), "{statements:?}");
        assert!(!statements.iter().any(|s| s.contains("xxxx")));
    }
    Ok(())
}

#[test]
fn the_logs_files_are_for_its_owner_and_group() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::start()?;
    host.psql(&["SELECT 1"])?.ok()?;
    let mode = |path: &Path| fs::metadata(path).map(|about| about.permissions().mode() & 0o777);
    assert_eq!(mode(&host.folder().join("log"))?, 0o750);
    for file in host.log_files()? {
        assert_eq!(mode(&file)?, 0o640, "{}", file.display());
    }
    let beside = |suffix: &str| host.log().with_extension(format!("sqlite.{suffix}"));
    assert_eq!((mode(&beside("key"))?, mode(&beside("pub"))?), (0o600, 0o644));
    wait_until("it is recorded", || host.commands().is_ok_and(|rows| rows.len() == 1))?;
    Ok(())
}
