//! P1, P2: what the reader of SQL says of a statement is what the server then does: nothing that
//! changes something passes as harmless. The reader's answers alone are tested beside it.

use std::{
    collections::BTreeMap, fmt::Write as _, fs, os::unix::fs::PermissionsExt, process::Command,
};

use anyhow::{Context, Result, ensure};
use chaperone_host_tests::{Host, Scene};
use serde_json::{Value, json};

use crate::protocol::raw;

/// What the texts are executed in; `shop` is what it is made from.
const DATABASE: &str = "probe";

/// How many entries run between two looks at the whole database.
const BATCH: usize = 50;

/// Of PostgreSQL's regression suite: what defines, changes, prepares and hides, without the large
/// tables that other files read.
const FILES: [&str; 46] = [
    "test_setup",
    "insert",
    "insert_conflict",
    "copydml",
    "create_type",
    "create_schema",
    "create_procedure",
    "create_table",
    "create_view",
    "create_cast",
    "create_aggregate",
    "create_function_sql",
    "create_role",
    "constraints",
    "triggers",
    "updatable_views",
    "typed_table",
    "drop_if_exists",
    "select_into",
    "subselect",
    "union",
    "transactions",
    "update",
    "delete",
    "namespace",
    "prepared_xacts",
    "privileges",
    "matview",
    "rowsecurity",
    "object_address",
    "identity",
    "generated",
    "merge",
    "rules",
    "foreign_data",
    "publication",
    "prepare",
    "plpgsql",
    "copy2",
    "temp",
    "domain",
    "truncate",
    "sequence",
    "returning",
    "largeobject",
    "with",
];

/// Tags, without counts, of what changes nothing; the first is that of an empty statement.
const HARMLESS: [&str; 20] = [
    "",
    "BEGIN",
    "CLOSE CURSOR",
    "CLOSE CURSOR ALL",
    "COMMIT",
    "DEALLOCATE",
    "DEALLOCATE ALL",
    "DECLARE CURSOR",
    "DISCARD PLANS",
    "DISCARD SEQUENCES",
    "EXPLAIN",
    "PREPARE",
    "RELEASE",
    "RESET",
    "ROLLBACK",
    "SAVEPOINT",
    "SET",
    "SET CONSTRAINTS",
    "SHOW",
    "START TRANSACTION",
];

#[test]
fn p1_nothing_of_the_corpus_changes_anything_without_approval() -> Result<()> {
    let host = shop()?;
    let all = entries(include_str!("../../corpus/sql/hidden.sql"));
    assert!(all.len() >= 550, "{}", all.len());
    let sent: Vec<_> = all.iter().filter(|e| !e.noted("limit:") && !e.noted("catalog:")).collect();
    assert!(sent.len() >= 525, "{}", sent.len());
    a_write_is_seen(&host)?;
    let mut wrong = Vec::new();
    for (entry, answer) in harmless(&host, &sent)? {
        if !answer.refused {
            wrong.push(format!("{entry}: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} went on:\n{}", wrong.len(), sent.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn p1_what_is_read_changes_nothing() -> Result<()> {
    let host = shop()?;
    let all = entries(include_str!("../../corpus/sql/statements.sql"));
    // What only the catalog tells is let through: a text that reads a view, whatever is behind it.
    let read: Vec<_> = all.iter().filter(|e| e.rung() == "read" && !e.noted("catalog:")).collect();
    let above: Vec<_> =
        all.iter().filter(|e| ["destructive", "forbidden"].contains(&e.rung())).collect();
    assert!(read.len() >= 180 && above.len() >= 400, "{} {}", read.len(), above.len());
    a_write_is_seen(&host)?;
    let mut wrong = Vec::new();
    for (entry, answer) in harmless(&host, &read)? {
        // One that fails changes nothing for another reason than that it is read.
        if answer.refused || answer.code.is_some() && !entry.noted("fails") {
            wrong.push(format!("{entry}: {answer:?}"));
        }
    }
    for (entry, answer) in harmless(&host, &above)? {
        if !answer.refused {
            wrong.push(format!("{entry}: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn p2_no_regression_statement_that_changes_something_is_read() -> Result<()> {
    let host = Scene::default().server("max_prepared_transactions = 2").start()?;
    regression(&host)?;
    let (mut wrong, mut accepted, mut unreadable) = (Vec::new(), 0_u32, Vec::new());
    let (mut named, mut classes) = (0_u32, BTreeMap::<String, u32>::new());
    for row in host.commands()? {
        let text = |name: &str| row[name].as_str().unwrap_or_default();
        if text("status") != "ok" {
            continue;
        }
        accepted += 1;
        *classes.entry(text("class").to_owned()).or_default() += 1;
        if text("class") == "read" && changes(text("tag"), row["bytes_in"].as_u64()) {
            wrong.push(format!("{}: {}", text("tag"), text("statement")));
        }
        named += u32::from(text("summary").contains(r#""kind":""#));
        if text("summary").contains(r#""kind":"unreadable""#) {
            unreadable.push(text("statement").to_owned());
        }
    }
    let share = f64::from(u32::try_from(unreadable.len())?) * 100.0 / f64::from(accepted);
    tell(&format!("{accepted} accepted, {classes:?}; unreadable {share:.2} %: {unreadable:#?}"));
    assert!(accepted > 8_000, "{accepted}");
    assert!(named > accepted - 20, "{named}: all but the empty ones are of some kind");
    assert!(classes.get("read").is_some_and(|read| *read > 1_000), "{classes:?}");
    assert!(wrong.is_empty(), "{} are no reads:\n{}", wrong.len(), wrong.join("\n"));
    assert!(share < 5.0, "{share} %");
    Ok(())
}

/// Whether a command with this tag, and so much data from the client, changed something. A tag that
/// is not known to be harmless is not.
fn changes(tag: &str, bytes_in: Option<u64>) -> bool {
    let (verb, rest) = tag.split_once(' ').unwrap_or((tag, ""));
    match verb {
        _ if HARMLESS.contains(&tag) => false,
        "SELECT" | "FETCH" | "MOVE" => false,
        "INSERT" | "UPDATE" | "DELETE" => rest.rsplit(' ').next() != Some("0"),
        "COPY" => bytes_in != Some(0),
        _ => true,
    }
}

/// Runs PostgreSQL's own driver as the agent, which is the superuser. What it makes of the answers
/// is another test's.
fn regression(host: &Host) -> Result<()> {
    let cached = std::env::var("CHAPERONE_REGRESSION_SUITE")
        .context("CHAPERONE_REGRESSION_SUITE is not set: run the tests by `cargo xtask test`")?;
    let (suite, out) = (host.folder().join("suite"), host.folder().join("out"));
    let copied = Command::new("cp").args(["-r", &cached]).arg(&suite).status()?;
    let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(&suite).status()?;
    ensure!(copied.success() && opened.success(), "the suite could not be copied");
    // Both the agent and the server write here.
    for folder in [&out, &out.join("results")] {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
    }
    let bin = host.postgres().bin();
    let libraries = bin.parent().context("no folder of libraries")?.join("lib");
    let ours = host.folder().join("lib");
    fs::create_dir(&ours)?;
    fs::copy(suite.join("regress.so"), ours.join("regress.so"))?;
    for library in ["autoinc.so", "refint.so"] {
        fs::copy(libraries.join(library), ours.join(library))?;
    }
    let mut arguments = vec![
        format!("--bindir={}", bin.display()),
        format!("--inputdir={}", suite.display()),
        format!("--outputdir={}", out.display()),
        format!("--dlpath={}", ours.display()),
        format!("--host={}", host.address()),
        "--port=5432".into(),
        "--user=postgres".into(),
    ];
    arguments.extend(FILES.map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let driver = libraries.join("pgxs/src/test/regress/pg_regress");
    let finished = host.agent(driver.to_str().context("a path")?, &arguments)?;
    ensure!(matches!(finished.code, Some(0 | 1)), "{}{}", finished.out, finished.err);
    let ran = fs::read_dir(out.join("results"))?.count();
    ensure!(ran >= FILES.len(), "{ran} of {} ran: {}", FILES.len(), finished.out);
    Ok(())
}

/// An entry of the corpus; see `tests/corpus/sql/README.md`.
struct Entry {
    line: usize,
    head: String,
    notes: String,
    text: String,
}

impl Entry {
    fn noted(&self, what: &str) -> bool {
        self.notes.lines().any(|note| note.trim_start().starts_with(what))
    }

    fn rung(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, {}: {:?}", self.line, self.head, self.text)
    }
}

fn entries(file: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    // At line feeds alone, which is not what `lines` does.
    for (number, line) in file.split('\n').enumerate() {
        if let Some(head) = line.strip_prefix("--- ") {
            let (notes, text) = (String::new(), String::new());
            found.push(Entry { line: number + 1, head: head.into(), notes, text });
        } else if let Some(entry) = found.last_mut() {
            if let (Some(note), true) = (line.strip_prefix("--:"), entry.text.is_empty()) {
                entry.notes.push_str(note);
                entry.notes.push('\n');
            } else if !line.starts_with("--# ") {
                entry.text.push_str(line);
                entry.text.push('\n');
            }
        }
    }
    for entry in &mut found {
        let text = entry.text.trim_end_matches('\n').len();
        entry.text.truncate(text);
    }
    found
}

/// A server with the corpus' schema, and a daemon that lets pass what is read or written.
fn shop() -> Result<Host> {
    let host = Scene::default()
        // What maintenance writes would look like a change.
        .server("max_prepared_transactions = 5\nautovacuum = off")
        .more(
            "[[rule]]\nname = \"no\"\nwhen = { class = [\"destructive\", \"forbidden\"] }\n\
             then = \"deny\"",
        )
        .start()?;
    let schema = host.folder().join("schema.sql");
    fs::write(&schema, include_str!("../../corpus/sql/schema.sql"))?;
    host.postgres().sql("CREATE DATABASE shop")?;
    let schema = schema.to_str().context("a path")?;
    host.outside("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "shop", "-f", schema])?
        .ok()?;
    fresh(&host)?;
    Ok(host)
}

/// Makes the database anew.
fn fresh(host: &Host) -> Result<()> {
    for statement in [
        &format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"),
        &format!("CREATE DATABASE {DATABASE} TEMPLATE shop"),
        // A copy does not have the rights on the database itself.
        &format!("GRANT ALL ON DATABASE {DATABASE} TO agent"),
        &format!("GRANT CREATE ON DATABASE {DATABASE} TO shop_ops"),
    ] {
        host.postgres().sql(statement)?;
    }
    Ok(())
}

/// A digest of each table, sequence and catalog: all rows, where they lie and who wrote them, so
/// that one that is written anew with the same content is another.
fn digest(host: &Host) -> Result<String> {
    let query = "
        SELECT c.oid::regclass, (xpath('//m/text()', query_to_xml(format(
            'SELECT md5(string_agg(t::text, '''' ORDER BY t.ctid)) AS m
             FROM (SELECT ctid, xmin, * FROM ONLY %s) AS t', c.oid::regclass), false, false, '')))[1]
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm', 'S') AND n.nspname !~ '^pg_toast' AND c.relpersistence <> 't';
        SELECT 'prepared transactions', string_agg(gid, ' ' ORDER BY gid) FROM pg_prepared_xacts;
        SELECT 'slots', string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots;
        SELECT 'settings', md5(pg_read_file('postgresql.auto.conf'))
        ";
    host.outside(
        "psql",
        &["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-c", query],
    )?
    .ok()
    .context("the digest")
}

/// What differs, for a reader.
fn difference(before: &str, after: &str) -> Option<String> {
    let differs: Vec<&str> = after
        .lines()
        .filter(|line| !before.lines().any(|other| other == *line))
        .chain(before.lines().filter(|line| {
            let name = line.split('|').next().unwrap_or_default();
            !after.lines().any(|other| other.split('|').next() == Some(name))
        }))
        .map(|line| line.split('|').next().unwrap_or_default())
        .collect();
    (!differs.is_empty()).then(|| differs.join(", "))
}

/// That the digest shows what changes, and the daemon lets through what the rule does not deny.
fn a_write_is_seen(host: &Host) -> Result<()> {
    let control = entries(
        "--- row\nINSERT INTO staging VALUES (99, 'control', 1)\n\
         --- same\nUPDATE archive_old SET notes = notes WHERE id = 10\n\
         --- copy\nCOPY staging FROM STDIN\n\
         --- prepared\n--: extended\nINSERT INTO jobs VALUES (99, '{}')\n",
    );
    for entry in &control {
        let before = digest(host)?;
        let answer = run(host, &[entry])?.remove(0);
        let after = digest(host)?;
        let seen = difference(&before, &after);
        assert!(seen.is_some(), "{entry}: {answer:?}");
        assert!(!answer.refused && answer.code.is_none(), "{entry}: {answer:?}");
    }
    fresh(host)
}

/// Runs all of these, and is sure that none of them has changed anything.
fn harmless<'a>(host: &Host, all: &[&'a Entry]) -> Result<Vec<(&'a Entry, Answer)>> {
    let mut answers = Vec::new();
    for batch in all.chunks(BATCH) {
        let before = digest(host)?;
        let got = run(host, batch)?;
        if let Some(changed) = difference(&before, &digest(host)?) {
            panic!("{changed} changed: {}", narrowed(host, batch)?);
        }
        answers.extend(batch.iter().copied().zip(got));
    }
    Ok(answers)
}

/// Which entries of a batch change something, each in a fresh database.
fn narrowed(host: &Host, batch: &[&Entry]) -> Result<String> {
    let mut found = String::new();
    for entry in batch {
        fresh(host)?;
        let before = digest(host)?;
        let answer = run(host, &[entry])?;
        if let Some(changed) = difference(&before, &digest(host)?) {
            let _ = write!(found, "\n{entry} changed {changed}: {answer:?}");
        }
    }
    if found.is_empty() {
        let heads: Vec<_> = batch.iter().map(|entry| &entry.head).collect();
        return Ok(format!("none alone, but together: {heads:?}"));
    }
    Ok(found)
}

/// What came back.
#[derive(Debug)]
struct Answer {
    /// It is the daemon that refused it.
    refused: bool,
    /// The first error's.
    code: Option<String>,
    #[expect(dead_code, reason = "for who reads of a failure")]
    message: Option<String>,
}

/// Sends each on a connection of its own, as the role `agent`.
fn run(host: &Host, all: &[&Entry]) -> Result<Vec<Answer>> {
    let texts: Vec<Value> =
        all.iter().map(|e| json!({ "text": e.text, "extended": e.noted("extended") })).collect();
    let file = host.folder().join("entries.json");
    fs::write(&file, serde_json::to_string(&texts)?)?;
    let client =
        CLIENT.replace("{database}", DATABASE).replace("{file}", &file.display().to_string());
    let out = raw(host, &client)?;
    let answers: Result<Vec<Answer>> = out
        .lines()
        .map(|line| {
            let said: Value = serde_json::from_str(line)?;
            let text = |name: &str| said[name].as_str().map(str::to_owned);
            let (code, message) = (text("C"), text("M"));
            ensure!(message.is_some() || said["done"] == true, "no answer: {line}");
            let own = text("R").as_deref() == Some("chaperone");
            Ok(Answer { refused: own && code.as_deref() == Some("42501"), code, message })
        })
        .collect();
    let answers = answers?;
    ensure!(answers.len() == all.len(), "{} answers to {}", answers.len(), all.len());
    Ok(answers)
}

/// Says of each text the first error's fields.
const CLIENT: &str = r#"
import json
def attempt(text, extended):
    s = socket.create_connection((os.environ["PGHOST"], 5432), timeout=20)
    body = struct.pack("!i", 196608) + b"user\0agent\0database\0{database}\0\0"
    s.sendall(struct.pack("!i", len(body) + 4) + body)
    read_to(s, b"Z")
    text = text.encode()
    s.sendall(P(b"", text) + B(b"", b"") + E() + S if extended else msg(b"Q", text + b"\0"))
    said = {"done": False}
    while True:
        m = read_msg(s)
        if m is None: return said
        kind, body = m
        if kind == b"E" and "C" not in said:
            said.update((part[:1].decode(), part[1:].decode()) for part in body.split(b"\0") if part)
        if kind == b"G":
            # The server has passed over the Sync.
            s.sendall(msg(b"d", "900\tnine\t9\n".encode()) + msg(b"c") + (S if extended else b""))
        if kind == b"Z":
            said["done"] = True
            s.sendall(msg(b"X"))
            # Once it is over, its locks and its transaction are so too.
            while s.recv(4096): pass
            s.close()
            return said
for entry in json.load(open("{file}")):
    try:
        said = attempt(entry["text"], entry["extended"])
    except TimeoutError:
        said = {"M": "no answer in time"}
    print(json.dumps(said), flush=True)
"#;

#[expect(clippy::print_stderr, reason = "the share is of interest where the test succeeds, too")]
fn tell(text: &str) {
    eprintln!("{text}");
}
