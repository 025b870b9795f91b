//! The log as it is searched, and as a group reads it that must not write to it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Finished, Host, wait_until};
use serde_json::Value;

/// Somebody who is in the group of the log's files, and nothing else.
const MEMBER: &str = "64777";

fn as_member(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", MEMBER, "--regid", "0", "--clear-groups", program]);
    command
}

fn sqlite3(database: &str, sql: &str) -> Result<Finished> {
    Ok(as_member("sqlite3").args([database, sql]).output()?.into())
}

fn status(host: &Host) -> Result<Value> {
    Ok(serde_json::from_str(&host.chaperone(&["status", "--json"])?.ok()?)?)
}

fn is_indexed(host: &Host) -> bool {
    status(host).is_ok_and(|status| {
        let (index, last) = (&status["log"]["index"], &status["log"]["last"]);
        index["indexed"] == *last && index["last"] == *last
    })
}

#[test]
fn commands_are_found_with_and_without_an_index_and_a_daemon() -> Result<()> {
    let mut host = Host::start()?;
    host.psql(&["CREATE TABLE needles (a text)", "SELECT 'needle one'", "SELECT 'hay'"])?.ok()?;
    host.psql(&["SELECT chr(110) || 'eedle two'", "SELECT 1/0"])?;
    host.commands()?;
    wait_until("all is indexed", || is_indexed(&host))?;
    let index = host.log_files()?[0].with_extension("search.sqlite");
    let ask = |host: &Host| -> Result<()> {
        let search = |args: &[&str]| -> Result<Vec<String>> {
            let found = host.chaperone(&[&["log", "search", "--json"], args].concat())?;
            assert_eq!(found.err.contains("is missing"), !index.exists(), "{}", found.err);
            let lines = found.ok()?;
            let rows = lines.lines().map(serde_json::from_str::<Value>);
            rows.map(|row| Ok(row?["statement"].as_str().context("a statement")?.to_owned()))
                .collect()
        };
        let (one, two) = ("SELECT 'needle one'", "SELECT chr(110) || 'eedle two'");
        assert_eq!(search(&["needle"])?, [two, one], "the newest first, and what came back");
        assert_eq!(search(&["\"needle one\""])?, [one]);
        assert_eq!(search(&["needle", "-n", "1"])?, [two]);
        assert_eq!(search(&["needle", "--agent", "nobody"])?, [""; 0]);
        assert_eq!(search(&["zero", "--status", "error", "--agent", "cleaner"])?, ["SELECT 1/0"]);
        let made = ["CREATE TABLE needles (a text)"];
        assert_eq!(search(&["--relation", "needles", "--verdict", "allow"])?, made);
        assert_eq!(search(&["--since", "1h", "--target", "prod"])?.len(), 5);
        assert_eq!(search(&["--until", "1h"])?, [""; 0]);
        Ok(())
    };
    ask(&host)?;
    host.stop_daemon()?;
    ask(&host)?;
    fs::remove_file(&index)?;
    ask(&host)?;
    let none = host.chaperone(&["log", "search", "%"])?;
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("no letter or digit"), "{}", none.err);
    host.start_daemon()?;
    wait_until("it is made anew", || is_indexed(&host))?;
    ask(&host)
}

#[test]
fn a_group_reads_the_log_whatever_the_daemon_does_and_cannot_write() -> Result<()> {
    let mut host = Host::start()?;
    host.psql(&["SELECT 'seen'"])?.ok()?;
    host.commands()?;
    wait_until("all is indexed", || is_indexed(&host))?;
    let binary = std::env::var_os("CHAPERONE_BIN").context("CHAPERONE_BIN")?;
    let binary = binary.to_str().context("its path")?.to_owned();
    for how in ["while it serves", "after a crash", "after its end"] {
        match how {
            "after a crash" => host.kill_daemon()?,
            "after its end" => {
                host.start_daemon()?;
                host.psql(&["SELECT 'again'"])?.ok()?;
                host.stop_daemon()?;
            }
            _ => (),
        }
        let [file, wal, shm] = host.log_files()?;
        let index = file.with_extension("search.sqlite");
        let read_only = format!("file:{}?mode=ro", host.log().display());
        let seen = sqlite3(&read_only, "SELECT statement FROM commands LIMIT 1")?;
        assert_eq!(seen.ok()?, "SELECT 'seen'", "{how}");
        let mut chaperone = as_member(&binary);
        chaperone.arg("--config").arg(host.config()).args(["log", "search", "seen", "--json"]);
        let found = Finished::from(chaperone.output()?);
        assert_eq!(found.err, "", "{how}: with the index");
        assert!(found.out.contains("SELECT 'seen'"), "{how}: {}", found.out);
        let before = sqlite3(&read_only, "SELECT count(*) FROM intent")?.ok()?;
        for database in [&file, &index] {
            for sql in [
                "INSERT INTO event VALUES (999999, 1, NULL, 'x', 'x')",
                "UPDATE intent SET text = NULL",
                "DELETE FROM intent",
                "DELETE FROM document",
                "DROP TABLE intent",
                "PRAGMA writable_schema = 1; DELETE FROM sqlite_schema",
                "VACUUM",
            ] {
                let tried = sqlite3(&database.display().to_string(), sql)?;
                assert_ne!(tried.code, Some(0), "{how}: {sql} in {}", database.display());
            }
            let mode = sqlite3(&database.display().to_string(), "PRAGMA journal_mode = DELETE")?;
            assert!(!mode.out.contains("delete"), "{how}: {mode:?}");
        }
        for path in [&file, &wal, &shm, &index, &host.log()] {
            let path = path.display().to_string();
            for command in
                [&["rm", "-f", &path][..], &["mv", &path, "/tmp"], &["truncate", "-s0", &path]]
            {
                let tried =
                    as_member(command[0]).args(&command[1..]).stderr(Stdio::null()).status()?;
                assert!(!tried.success(), "{how}: {command:?}");
            }
        }
        let folder = host.log().parent().context("its folder")?.join("more");
        assert!(!as_member("touch").arg(&folder).stderr(Stdio::null()).status()?.success());
        assert_eq!(sqlite3(&read_only, "SELECT count(*) FROM intent")?.ok()?, before, "{how}");
    }
    Ok(())
}

#[test]
fn a_reader_that_holds_its_view_is_in_the_status() -> Result<()> {
    let host = Host::start()?;
    host.psql(&["SELECT 1"])?.ok()?;
    let mut reader = as_member("sqlite3")
        .arg(format!("file:{}?mode=ro", host.log().display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let input = reader.stdin.as_mut().context("its input")?;
    input.write_all(b"BEGIN; SELECT count(*) FROM event;\n")?;
    input.flush()?;
    BufReader::new(reader.stdout.as_mut().context("its output")?).read_line(&mut String::new())?;
    let readers = || -> Vec<Value> {
        let status = status(&host).unwrap_or_default();
        status["log"]["readers"].as_array().cloned().unwrap_or_default()
    };
    wait_until("it is in the status", || !readers().is_empty())?;
    let found = &readers()[0];
    assert_eq!(found["pid"], reader.id());
    assert_eq!(found["uid"].to_string(), MEMBER);
    assert_eq!(found["program"], "sqlite3");
    let shown = host.chaperone(&["status"])?.ok()?;
    assert!(
        shown.contains(&format!("process {} (sqlite3, user id {MEMBER})", reader.id())),
        "{shown}"
    );
    host.psql(&["SELECT 'goes on'"])?.ok()?;
    reader.kill()?;
    reader.wait()?;
    wait_until("it is gone", || readers().is_empty())
}
