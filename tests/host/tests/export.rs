//! What is handed on: complete, in forms that others' readers read, whatever agents write; and a
//! session as it went.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, wait_until};
use serde_json::Value;

use crate::holds::{held, waiting};

/// What would end a line, a cell, a value or an element, or be run by a spreadsheet.
const HOSTILE: &str = "=cmd()|x\n\"a\",'' b=c \\ </script><img src=x onerror=alert(1)>";

/// A session with a hostile statement, an error, a held statement that is approved, and one of several
/// statements.
fn session() -> Result<Host> {
    let host = held("").start()?;
    host.postgres().sql("CREATE TABLE t AS SELECT generate_series(1, 30) AS a")?;
    let hostile = format!("SELECT '{HOSTILE}' AS \"<b>\", NULL, '@x'");
    let psql = host.start_agent(
        "psql",
        &[
            "-X",
            "-At",
            "-c",
            &hostile,
            "-c",
            "SELECT 1/0",
            "-c",
            "BEGIN; SELECT a FROM t; COMMIT",
            "-c",
            "BEGIN",
            "-c",
            "ROLLBACK",
            "-c",
            "DELETE FROM t",
        ],
    )?;
    wait_until("it waits", || waiting(&host).is_ok_and(|waiting| !waiting.is_empty()))?;
    let id = waiting(&host)?[0]["id"].to_string();
    host.chaperone(&["approve", &id, "--reason", "ticket <12>"])?.ok()?;
    psql.finish()?;
    host.closed_sessions()?;
    Ok(host)
}

fn read(host: &Host, form: &str) -> Result<Vec<Value>> {
    let path = host.folder().join(format!("exported.{form}"));
    let to = path.display().to_string();
    host.chaperone(&["log", "export", "--format", form, "-o", &to])?.ok()?;
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exported.py");
    let output = Command::new(host.newer_python()?).args([script, form, &to]).output()?;
    assert!(output.status.success(), "{form}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn p8_every_form_is_read_by_others_and_says_what_the_log_says() -> Result<()> {
    let host = session()?;
    let commands = host.commands()?;
    assert_eq!(commands.len(), 8, "{commands:?}");
    let statement = |row: &Value| row["statement"].as_str().map(str::to_owned);
    let wanted: Vec<_> = commands.iter().map(statement).collect();

    let lines = read(&host, "jsonl")?;
    assert_eq!(lines.iter().map(statement).collect::<Vec<_>>(), wanted);
    for (line, command) in lines.iter().zip(&commands) {
        for (name, value) in command.as_object().context("an object")? {
            assert_eq!(&line[name], value, "{name}");
        }
        assert_eq!(line["leaves"]["intent"].as_str().map(str::len), Some(64));
        assert_eq!(line["connection"]["agent"], "cleaner");
    }
    let delete = lines.last().context("a line")?;
    assert!(delete["hold"]["words"].as_str().context("words")?.contains("ticket <12>"));

    let rows = read(&host, "csv")?;
    assert_eq!(rows.iter().map(statement).collect::<Vec<_>>(), wanted);
    assert_eq!(rows.last().context("a row")?["approved_by"], "root");
    assert_eq!(rows[1]["error_code"], "22012");

    let events = read(&host, "ocsf")?;
    let queries =
        events.iter().map(|e| e["query_info"]["query_string"].as_str().map(str::to_owned));
    assert_eq!(queries.collect::<Vec<_>>(), wanted);
    let kinds: Vec<_> = events.iter().map(|event| event["activity_name"].clone()).collect();
    assert_eq!(kinds, ["Query", "Query", "Other", "Query", "Other", "Other", "Other", "Delete"]);
    let last = events.last().context("an event")?;
    assert_eq!((&last["disposition"], &last["table"]["name"]), (&"Approved".into(), &"t".into()));
    assert_eq!(events[1]["status"], "Failure");

    let lines = read(&host, "cef")?;
    assert_eq!(
        lines.iter().map(|row| row["cs1"].as_str().map(str::to_owned)).collect::<Vec<_>>(),
        wanted
    );
    assert_eq!(lines[7]["act"], "approved");
    Ok(())
}

#[test]
fn p7_an_export_goes_on_where_the_last_one_ended_also_across_files() -> Result<()> {
    let host = Host::start()?;
    let mut after = "0".to_owned();
    let mut seen = Vec::new();
    for round in 0..3 {
        host.psql(&[&format!("SELECT {round}"), "SELECT 'again'"])?.ok()?;
        host.commands()?;
        // One alone, then the rest.
        for more in [&["-n", "1"][..], &[]] {
            let args = [&["log", "export", "--format", "jsonl", "--after", &after], more].concat();
            let done = host.chaperone(&args)?;
            let next = done.err.split("--after ").nth(1).and_then(|rest| rest.split(' ').next());
            after = next.context("where to go on")?.to_owned();
            for line in done.ok()?.lines() {
                let line: Value = serde_json::from_str(line)?;
                seen.push(line["outcome"].as_u64().context("a number")?);
            }
        }
        host.chaperone(&["log", "turn"])?.ok()?;
    }
    let commands = host.commands()?;
    let wanted: Vec<_> = commands.iter().filter_map(|row| row["outcome"].as_u64()).collect();
    assert_eq!((seen.len(), seen), (6, wanted));
    let none = host.chaperone(&["log", "--agent", "nobody", "export", "--format", "jsonl"])?;
    assert_eq!(none.ok()?, "", "a filter before the word counts as well");
    Ok(())
}

#[test]
fn p8_a_session_is_replayed_and_obeyed_by_nothing() -> Result<()> {
    let host = session()?;
    let commands = host.commands()?;
    let id = commands[0]["session"].to_string();
    let text = host.chaperone(&["log", "replay", &id])?.ok()?;
    for part in [
        "agent        cleaner",
        "22012 division by zero",
        "inside a transaction",
        "destructive, hold (ask)",
        "approved by root at ",
        ": ticket <12>",
        "→ ok, DELETE 30",
        "(30 rows are kept",
        "closed by the agent",
        "∅",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let path = host.folder().join("session.html");
    host.chaperone(&["log", "replay", &id, "--html", &path.display().to_string()])?.ok()?;
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    let check = r#"
import sys
from html.parser import HTMLParser
class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []
    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert not any(name in ("src", "href", "style") or name.startswith("on") for name, _ in attributes), attributes
    def handle_data(self, data):
        self.text.append(data)
page = Page()
page.feed(open(sys.argv[1], encoding="utf-8").read())
page.close()
assert page.tags.count("script") == 1 and page.tags.count("style") == 1, page.tags
assert not {"img", "b", "iframe", "link"} & set(page.tags), page.tags
assert page.tags.count("article") == 8, page.tags
assert sys.argv[2] in "".join(page.text)
"#;
    let args = ["-c", check, &path.display().to_string(), HOSTILE];
    let output = Command::new(host.newer_python()?).args(args).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(host.chaperone(&["log", "replay", "999999"])?.code, Some(3));
    assert_eq!(host.chaperone(&["log", "replay", &id, "--speed", "0"])?.code, Some(2));
    Ok(())
}
