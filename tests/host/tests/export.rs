//! P7: what is handed on is what the log has, by readers that are not ours, and verifies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use chaperone_host_tests::{Host, Process, Scene, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    evidence::{elsewhere, sealed_over},
    holds::waiting,
};

/// What an agent may write to break out of a cell, a field, a line or an element.
const HOSTILE: [&str; 6] = [
    "SELECT 'a\nb\r\nc'",
    "SELECT '\"quoted\"; , ''single'' ', E'\\\\'",
    "SELECT '</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>&amp;'",
    "=cmd|' /C calc'!A0",
    "SELECT 'a|b=c\\d' || ' cs5=forged\u{1b}[2J\u{202e}'",
    "SELECT 1 AS one; SELECT 1/0",
];

/// What waits for a person.
const DELETE: &str = "DELETE FROM pg_largeobject";

/// A folder with a log in it that has something of everything, and what wrote it.
struct Exports {
    host: Host,
    folder: tempfile::TempDir,
    key: String,
}

impl Exports {
    fn start() -> Result<Self> {
        // What is no SQL would be held elsewhere as well.
        let lines = "[[rule]]\nname = \"ask\"\n\
             when = { class = \"destructive\", database = \"template1\" }\nthen = \"hold\"\n\
             approvers = [\"user:root\"]\n[log]\ncheckpoint = \"100ms\"\n";
        let host = Scene::default().allow_all().more(lines).start()?;
        let key = host.chaperone(&["log", "key"])?.ok()?.trim().to_owned();
        Ok(Self { host, folder: tempfile::tempdir()?, key })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What agents do: hostile texts, one that a person lets through, one that nobody does, and a
    /// statement that is prepared once and run three times.
    fn work(&self) -> Result<()> {
        self.host.psql(&HOSTILE)?;
        let psql = self.host.start_agent("psql", &["-X", "-d", "template1", "-c", DELETE])?;
        wait_until("it is held", || waiting(&self.host).is_ok_and(|held| held.len() == 1))?;
        let id = waiting(&self.host)?.remove(0)["id"].to_string();
        self.host.chaperone(&["approve", &id, "--reason", "a = b | c"])?.ok()?;
        psql.finish()?.ok()?;
        self.host
            .agent(
                &self.host.newer_python()?,
                &[
                    "-c",
                    "import psycopg\n\
                 with psycopg.connect() as c:\n\
                 \x20 for n in range(3): c.execute('SELECT %s::text', ['x' * n], prepare=True)",
                ],
            )?
            .ok()?;
        Ok(())
    }

    /// Exports, and answers what is said of the next one.
    fn export(&self, format: &str, name: &str, more: &[&str]) -> Result<u64> {
        let path = self.path(name).display().to_string();
        let args = [&["log", "export", "--format", format, "-o", &path], more].concat();
        let said = self.host.chaperone(&args)?;
        let next = said.err.trim().rsplit(' ').next().and_then(|next| next.parse().ok());
        let next = next.with_context(|| said.err.clone())?;
        said.ok()?;
        Ok(next)
    }

    /// With its proof, once all that is recorded is under a checkpoint.
    fn proven(&self, format: &str, name: &str) -> Result<u64> {
        let last = self.host.commands()?.iter().filter_map(|row| row["outcome"].as_u64()).max();
        sealed_over(&self.host, last.context("a command")?)?;
        let proof = self.path(&format!("{name}.proof")).display().to_string();
        self.export(format, name, &["--proof", &proof])
    }

    /// Verifies on another machine, with nothing but two files and the key.
    fn verify(&self, name: &str, proof: &str) -> Result<(Option<i32>, String)> {
        let path = |name: &str| self.path(name).display().to_string();
        let args = ["verify", "--key", &self.key, "--export", &path(name), "--proof", &path(proof)];
        elsewhere(&args)
    }

    /// What a program of another language reads.
    fn read(&self, program: &str, name: &str) -> Result<Vec<Value>> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export").join(program);
        let output =
            Command::new(self.host.newer_python()?).arg(program).arg(self.path(name)).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

fn texts(rows: &[Value], name: &str) -> Vec<String> {
    rows.iter().filter_map(|row| row[name].as_str()).map(str::to_owned).collect()
}

/// A file with another text in place of one, once.
fn replaced(from: &Path, to: &Path, text: &str, other: &str) -> Result<()> {
    let mut whole = fs::read(from)?;
    let place = whole.windows(text.len()).position(|window| window == text.as_bytes());
    let place = place.with_context(|| format!("{text} is not in it"))?;
    whole.splice(place..place + text.len(), other.bytes());
    Ok(fs::write(to, whole)?)
}

#[test]
fn p7_every_form_says_what_the_log_says_to_readers_that_are_not_ours() -> Result<()> {
    let exports = Exports::start()?;
    exports.work()?;
    let expected = exports.host.commands()?;
    let mut statements = texts(&expected, "statement");
    statements.sort();
    assert!(HOSTILE.iter().all(|text| statements.iter().any(|s| s == text)), "{statements:#?}");
    let sorted = |mut found: Vec<String>| {
        found.sort();
        found
    };

    exports.export("jsonl", "all.jsonl", &[])?;
    let text = fs::read_to_string(exports.path("all.jsonl"))?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let commands: Vec<Value> =
        lines.iter().filter(|line| line["type"] == "command").cloned().collect();
    assert_eq!(sorted(texts(&commands, "statement")), statements);
    let hold = lines.iter().find(|line| line["type"] == "hold").context("the hold")?;
    assert_eq!(hold["state"], "approved");
    let delete = commands.iter().find(|row| row["statement"] == DELETE).context("it")?;
    assert_eq!(delete["approved_by"], "root");
    let tables = exports.read("hashes.py", "all.jsonl")?;
    let of = |kind: &str| tables.iter().filter(|row| row["type"] == kind).count();
    assert_eq!((of("command"), of("hold")), (expected.len(), 1));
    assert!(of("session") >= 3, "{tables:#?}");

    exports.export("csv", "all.csv", &[])?;
    let rows = exports.read("csv_.py", "all.csv")?;
    let unmarked = |row: &Value| {
        let text = row["statement"].as_str().unwrap_or_default();
        assert!(!text.starts_with(['=', '+', '-', '@']), "{text}");
        text.strip_prefix('\'').unwrap_or(text).to_owned()
    };
    assert_eq!(sorted(rows.iter().map(unmarked).collect()), statements);
    let same = |name: &str| {
        sorted(texts(&rows, name))
            == sorted(expected.iter().map(|row| row[name].to_string()).collect())
    };
    assert!(same("id") && same("outcome"));

    exports.export("parquet", "all.parquet", &[])?;
    let rows = exports.read("parquet.py", "all.parquet")?;
    assert_eq!(sorted(texts(&rows, "statement")), statements);
    let numbers = |rows: &[Value]| -> Vec<u64> {
        rows.iter().filter_map(|row| row["outcome"].as_u64()).collect()
    };
    assert_eq!(numbers(&rows), numbers(&commands));
    assert!(rows.iter().all(|row| row["time"].as_str().is_some_and(|t| t.ends_with("+00:00"))));

    exports.export("ocsf", "all.ocsf", &[])?;
    let events = exports.read("ocsf.py", "all.ocsf")?;
    assert_eq!(sorted(texts(&events, "statement")), statements);
    assert!(events.iter().all(|event| event["agent"] == "cleaner"), "{events:#?}");
    let of = |statement: &str| events.iter().find(|event| event["statement"] == statement);
    let delete = of(DELETE).context("it")?;
    assert_eq!((&delete["activity"], &delete["action"]), (&"Delete".into(), &1.into()));
    assert_eq!(delete["authorizations"][0]["decision"], "approved by root: a = b | c");
    let connects = events.iter().filter(|event| event["activity"] == "Connect").count();
    assert!(connects >= 3, "{events:#?}");

    exports.export("cef", "all.cef", &[])?;
    let events = exports.read("cef.py", "all.cef")?;
    let shown = |text: &str| text.replace('\u{1b}', "\u{fffd}");
    let commands: Vec<Value> =
        events.iter().filter(|event| event["cn2Label"] == "outcome").cloned().collect();
    assert_eq!(
        sorted(texts(&commands, "msg")),
        sorted(statements.iter().map(|s| shown(s)).collect())
    );
    assert!(
        commands.iter().all(|event| event["cs5"].as_str().is_some_and(|leaf| leaf.len() == 64))
    );
    Ok(())
}

#[test]
fn p7_an_export_verifies_elsewhere_and_nothing_that_was_altered_does() -> Result<()> {
    let exports = Exports::start()?;
    exports.work()?;
    for format in ["jsonl", "csv", "parquet", "ocsf", "cef"] {
        let proof = format!("{format}.proof");
        exports.proven(format, format)?;
        let (code, text) = exports.verify(format, &proof)?;
        assert!(code == Some(0) && text.contains("commands"), "{format}: {text}");
        // A leaf of something else.
        let rows = exports.host.commands()?;
        let id = rows.last().context("a command")?["id"].to_string();
        let leaf = fs::read_to_string(exports.path(&proof))?;
        let line = leaf.lines().find(|line| line.starts_with(&format!("{{\"seq\":{id},")));
        let line: Value = serde_json::from_str(line.context("its proof")?)?;
        let leaf = line["leaf"].as_str().context("a leaf")?.to_owned();
        replaced(&exports.path(format), &exports.path("bad"), &leaf, &"0".repeat(64))?;
        let (code, text) = exports.verify("bad", &proof)?;
        assert_eq!(code, Some(3), "{format}: {text}");
        // A proof of something else.
        replaced(&exports.path(&proof), &exports.path("bad.proof"), &leaf, &"0".repeat(64))?;
        let (code, text) = exports.verify(format, "bad.proof")?;
        assert!(code == Some(3) && text.contains("proves nothing"), "{format}: {text}");
    }
    // Each thing that a line says is compared with what its records say.
    for (from, to) in [
        ("\"statement\":\"DELETE FROM pg_largeobject\"", "\"statement\":\"SELECT 1\""),
        ("\"verdict\":\"hold\"", "\"verdict\":\"allow\""),
        ("\"status\":\"error\"", "\"status\":\"ok\""),
        ("\"approved_by\":\"root\"", "\"approved_by\":\"alice\""),
        ("\"agent\":\"cleaner\"", "\"agent\":\"other\""),
        ("\"response\":\"[[\\\"1\\\"]]\"", "\"response\":\"[[\\\"2\\\"]]\""),
        (
            "\\\"text\\\":\\\"DELETE FROM pg_largeobject\\\"",
            "\\\"text\\\":\\\"DELETE FROM other\\\"",
        ),
        ("\\\"verdict\\\":\\\"hold\\\"", "\\\"verdict\\\":\\\"allow\\\""),
    ] {
        replaced(&exports.path("jsonl"), &exports.path("bad"), from, to)?;
        let (code, text) = exports.verify("bad", "jsonl.proof")?;
        assert!(code == Some(3) && text.starts_with("item "), "{from}: {text}");
    }
    Ok(())
}

#[test]
fn an_export_goes_on_where_the_last_one_ended_over_files_and_restarts() -> Result<()> {
    let mut exports = Exports::start()?;
    exports.host.psql(&["SELECT 'first'"])?.ok()?;
    exports.host.commands()?;
    let next = exports.export("csv", "one", &["--text", "first"])?;
    exports.host.psql(&["SELECT 'second'"])?.ok()?;
    exports.host.chaperone(&["log", "turn"])?.ok()?;
    exports.host.kill_daemon()?;
    exports.host.start_daemon()?;
    exports.host.psql(&["SELECT 'third'", "SELECT 'fourth'"])?.ok()?;
    exports.host.commands()?;
    let after = next.to_string();
    let last = exports.export("csv", "two", &["--after", &after])?;
    assert!(last > next);
    let statements = texts(&exports.read("csv_.py", "two")?, "statement");
    assert_eq!(statements, ["SELECT 'second'", "SELECT 'third'", "SELECT 'fourth'"]);
    let after = last.to_string();
    assert_eq!(exports.export("csv", "three", &["--after", &after])?, last);
    assert_eq!(exports.read("csv_.py", "three")?.len(), 0);
    Ok(())
}

#[test]
fn p8_a_session_is_replayed_and_nothing_of_it_acts() -> Result<()> {
    let exports = Exports::start()?;
    exports.host.psql(&HOSTILE)?;
    let long = "SELECT n FROM generate_series(1, 30) AS n WHERE n > 0 AND n < 1000 ORDER BY n";
    exports.host.psql(&[&HOSTILE[..], &[long]].concat())?;
    let session = exports.host.last_session()?["id"].to_string();
    let shown = exports.host.chaperone(&["log", "replay", &session])?.ok()?;
    for part in
        ["cleaner", "prod", "read, allow (", "22012 division by zero", "closed by the agent"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.contains("\n    WHERE\n        n > 0\n"), "it is laid out: {shown}");
    assert!(shown.contains("(10 more rows)"), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    let page = exports.path("page.html").display().to_string();
    exports.host.chaperone(&["log", "replay", &session, "--html", &page])?.ok()?;
    let read = exports.read("page.py", "page.html")?.remove(0);
    assert_eq!(read["elements"]["script"], 1, "{}", read["elements"]);
    assert_eq!(read["elements"]["img"], Value::Null);
    assert_eq!(read["reaches"], Value::Array(Vec::new()));
    let texts: Vec<&str> =
        read["texts"].as_array().context("texts")?.iter().filter_map(Value::as_str).collect();
    assert!(texts.contains(&HOSTILE[2]), "{texts:#?}");
    assert!(texts.contains(&"30 rows"), "{texts:#?}");
    let missing = exports.host.chaperone(&["log", "replay", "999999"])?;
    assert_eq!(missing.code, Some(3), "{missing:?}");
    Ok(())
}

#[test]
fn filters_of_the_log_are_filters_of_an_export() -> Result<()> {
    let host = Scene::default().start()?;
    host.psql(&["SELECT 'one'", "SELECT 1/0", "SELECT 'two'"])?;
    host.commands()?;
    let export = |more: &[&str]| -> Result<Vec<String>> {
        let args = [&["log", "export", "--format", "jsonl"], more].concat();
        let out = host.chaperone(&args)?.ok()?;
        let lines: Vec<Value> = out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(texts(&lines, "statement"))
    };
    assert_eq!(export(&["--status", "error"])?, ["SELECT 1/0"]);
    assert_eq!(export(&["--text", "ONE", "--target", "prod"])?, ["SELECT 'one'"]);
    assert_eq!(export(&["--until", "1h"])?.len(), 0);
    assert_eq!(export(&["--agent", "cleaner", "--since", "1h"])?.len(), 3);
    Ok(())
}

/// A receiver, and what it took.
struct Receiver {
    port: u16,
    kept: PathBuf,
    process: Option<Process>,
}

impl Receiver {
    fn new(folder: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { port, kept: folder.join("kept"), process: None })
    }

    /// Starts it; it does these in turn, and then takes all.
    fn start(&mut self, python: &str, turns: &str) -> Result<()> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export/otlp.py");
        let mut command = Command::new(python);
        command.arg(program).arg(self.port.to_string()).arg(&self.kept).arg(turns);
        self.process = Some(Process::start("receiver", &mut command, Signal::SIGKILL)?);
        Ok(())
    }

    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.kept).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The numbers of the outcomes that it took, each once.
    fn outcomes(&self) -> BTreeSet<u64> {
        self.records().iter().filter_map(|record| record["chaperone.outcome"].as_u64()).collect()
    }
}

fn outcomes(rows: &[Value]) -> BTreeSet<u64> {
    rows.iter().filter_map(|row| row["outcome"].as_u64()).collect()
}

#[test]
fn what_finishes_is_streamed_at_least_once_whatever_the_receiver_and_the_daemon_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut receiver = Receiver::new(folder.path())?;
    let token = folder.path().join("token");
    fs::write(&token, "Bearer secret")?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    let cursor = folder.path().join("cursor");
    let mut host = Scene::default()
        .more(&format!(
            "[[export]]\nname = \"otel\"\nurl = \"http://127.0.0.1:{}/v1/logs\"\n\
             headers = {{ authorization = \"file:{}\" }}\ncursor = \"{}\"\n",
            receiver.port,
            token.display(),
            cursor.display()
        ))
        .start()?;
    let python = host.newer_python()?;
    // Nobody is there yet.
    host.psql(&["SELECT 'first'", "SELECT 1/0"])?;
    receiver.start(&python, "429,many,break off,slow,partial")?;
    wait_until("the first are there", || {
        outcomes(&host.commands().unwrap_or_default()).is_subset(&receiver.outcomes())
    })?;
    // Killed in the middle, again and again, while the receiver comes and goes.
    for round in 0..4_usize {
        let statements: Vec<String> = (0..20).map(|n| format!("SELECT {round}, {n}")).collect();
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        host.psql(&statements)?.ok()?;
        if round % 2 == 0 {
            drop(receiver.process.take());
        }
        host.kill_daemon()?;
        host.start_daemon()?;
        // Each of these makes the daemon rest, which a restart cuts short.
        let turns = ["break off,503", "hang up,break off", "401", "503,429"];
        receiver.start(&python, turns[round])?;
    }
    host.chaperone(&["log", "turn"])?.ok()?;
    host.psql(&["SELECT 'last'"])?.ok()?;
    let rows = host.commands()?;
    assert!(rows.len() > 80, "{}", rows.len());
    wait_until("all are there", || outcomes(&rows).is_subset(&receiver.outcomes()))?;
    assert_eq!(receiver.outcomes(), outcomes(&rows), "and nothing else");
    let records = receiver.records();
    let commands = records.iter().filter(|record| record["event"] == "chaperone.command");
    let mut seen: BTreeMap<u64, Value> = BTreeMap::new();
    let mut again = 0;
    for mut record in commands.cloned() {
        assert_eq!(record["token"], "Bearer secret");
        record["time"].as_u64().context("a time")?;
        let outcome = record["chaperone.outcome"].as_u64().context("a number")?;
        if let Some(before) = seen.insert(outcome, record.take()) {
            again += 1;
            assert_eq!(before, seen[&outcome], "what comes twice is the same");
        }
    }
    assert!(again > 0, "a receiver that broke off was sent it again");
    let failed = seen.values().find(|r| r["db.query.text"] == "SELECT 1/0").context("it")?;
    for (name, value) in [
        ("db.system.name", "postgresql"),
        ("db.namespace", "postgres"),
        ("db.operation.name", "SELECT"),
        ("db.response.status_code", "22012"),
        ("gen_ai.agent.name", "cleaner"),
        ("chaperone.status", "error"),
    ] {
        assert_eq!(failed[name], value, "{name}: {failed}");
    }
    assert!(records.iter().any(|record| record["event"] == "chaperone.session"));
    let said = host.daemon_output();
    assert!(!said.contains("secret"), "{said}");
    Ok(())
}
