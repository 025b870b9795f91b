//! By how much the log grows for a command, for several kinds of traffic: bytes of the file, with
//! indexes and the tree, after everything was moved out of the WAL.
//!
//! `cargo bench -p chaperone-audit --bench growth`

use std::{fs, path::Path};

use chaperone_audit::{Log, Options};
use chaperone_model::{
    Command, CommandKind, CommandStatus, Intent, Outcome, Record, Response, Rung, Seq, Timestamp,
    VerdictKind,
};

/// Commands of each kind.
const COMMANDS: u64 = 100_000;
/// What is read out of a statement, as the daemon writes it.
const SUMMARY: &str = r#"{"statements":[{"kind":"SELECT","class":"read","reason":"it only reads","relations":[{"name":"public.accounts","access":"read"}],"functions":[]}]}"#;

fn main() {
    println!("{:44} {:>16} {:>22}", "", "bytes a command", "a day at 1,000/s");
    let row = |_: u64| "[[\"-1234\"]]".to_owned();
    let prepared = |_: u64| None;
    show("a prepared statement, one short row", prepared, row);
    let text = |n: u64| Some(format!("SELECT abalance FROM pgbench_accounts WHERE aid = {n}"));
    show("a text with its own literal, one short row", text, row);
    let poll = "SELECT id, state FROM jobs WHERE state = 'waiting' ORDER BY id LIMIT 20";
    let same = |_: u64| format!("[{}]", ["[\"4711\",\"waiting\"]"; 20].join(","));
    show("the same text and 20 rows again and again", |_| Some(poll.into()), same);
    let rows = |n: u64| format!("[[\"{n}\",\"{}\"]]", "x".repeat(2000));
    show("a text with its own literal, 2 KB of rows", text, rows);
}

fn show(what: &str, text: impl Fn(u64) -> Option<String>, rows: impl Fn(u64) -> String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.sqlite");
    let log = Log::open(&path, Options::default()).expect("a log");
    let empty = size(&path);
    for n in 0..COMMANDS {
        let at = Timestamp(1_764_000_000_000_000 + n.cast_signed() * 1000);
        let text = text(n);
        let kind = if text.is_some() { CommandKind::Query } else { CommandKind::Execute };
        let summary = text.is_some().then(|| SUMMARY.into());
        let mut command = Command::new(kind, text);
        if command.text.is_none() {
            command.statement = Some(1);
            command.parameters = Some(format!("[\"{n}\"]"));
        }
        let (session, verdict) = (Seq(1), VerdictKind::Allow);
        let (rule, rung, approval) = ("default".into(), Some(Rung::Read), None);
        let lifted = Vec::new();
        let intent =
            Intent { at, session, command, verdict, rule, rung, summary, approval, lifted };
        let committed = log.commit(vec![Record::Intent(intent)]).expect("committed");
        let mut outcome = Outcome::new(committed.receipts()[0].seq(), CommandStatus::Ok, at);
        outcome.tag = Some("SELECT 1".into());
        outcome.transaction = Some("idle");
        (outcome.rows, outcome.bytes, outcome.duration_us) = (1, 80, 123);
        outcome.response = Some(Response {
            columns: "[\"abalance\"]".into(),
            rows: rows(n),
            kept: 1,
            truncated: false,
        });
        log.ride_along(Record::Outcome(outcome));
    }
    drop(log);
    // To open it again moves the WAL into it.
    drop(Log::open(&path, Options::default()).expect("a log"));
    let bytes = (size(&path) - empty) / COMMANDS;
    let day = (bytes * 86_400_000) >> 30;
    println!("{what:44} {bytes:>16} {day:>18} GiB");
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).expect("a file").len()
}
