//! A line of JSON Lines against the records that it carries.
//!
//! What a line must say is put together from its records anew, as the views do, and compared.
//!
//! Does not belong here: that the records are in the log's tree.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use chaperone_audit::tree::leaf_hash;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Report, is_proven};
use crate::export::{
    item::{Numbered, hex, micros},
    proof::{Proven, unhex},
};

type Object = Map<String, Value>;

/// What a command takes from its session.
const OF_SESSION: [&str; 14] = [
    "agent",
    "agent_version",
    "run",
    "lineage",
    "target",
    "user",
    "database",
    "uid",
    "pid",
    "executable",
    "binary",
    "script",
    "script_digest",
    "doubts",
];

/// Sessions and holds that were verified.
#[derive(Default)]
pub(super) struct Known {
    sessions: HashMap<u64, Object>,
    approvals: HashMap<u64, Value>,
}

/// A record that is what the log has.
struct Record {
    seq: u64,
    fields: Object,
    content: Object,
}

impl Record {
    fn is(&self, table: &str) -> bool {
        self.fields.get("record").is_some_and(|name| name == table)
    }

    fn get(&self, name: &str) -> Value {
        self.fields.get(name).or_else(|| self.content.get(name)).cloned().unwrap_or_default()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.fields.get(name).and_then(Value::as_u64)
    }
}

struct Records(Vec<Record>);

impl Records {
    fn numbered(&self, seq: u64) -> Option<&Record> {
        self.0.iter().find(|record| record.seq == seq)
    }

    /// The record that another refers to.
    fn referred(&self, from: Option<&Record>, name: &str) -> Option<&Record> {
        from.and_then(|from| from.number(name)).and_then(|seq| self.numbered(seq))
    }

    fn one(&self, table: &str) -> Option<&Record> {
        self.0.iter().find(|record| record.is(table))
    }
}

/// What was asked: an intent, and where it executes what was prepared that of the preparing.
struct Asked<'a> {
    intent: &'a Record,
    prepared: Option<&'a Record>,
    records: &'a Records,
}

impl<'a> Asked<'a> {
    fn new(intent: &'a Record, records: &'a Records) -> Self {
        let prepared = records.0.iter().find(|record| {
            record.is("intent")
                && record.get("kind") == "prepare"
                && intent.get("kind") != "prepare"
                && record.get("statement") == intent.get("statement")
                && record.get("session") == intent.get("session")
        });
        Self { intent, prepared, records }
    }

    /// A member, of an earlier intent where these refer to one.
    fn get(&self, name: &str, reference: &str) -> Value {
        let intent = Some(self.intent);
        let source = self.records.referred(intent, reference);
        let source = source.or_else(|| self.records.referred(self.prepared, reference));
        first(&[(intent, name), (self.prepared, name), (source, name)])
    }
}

impl Known {
    /// Verifies a line.
    pub(super) fn check(
        &mut self,
        line: &Object,
        proven: &Proven,
        report: &mut Report,
    ) -> Result<()> {
        let records = records(line, proven, report)?;
        match line.get("type").and_then(Value::as_str) {
            Some("session") => {
                self.session(line, &records)?;
                report.sessions += 1;
            }
            Some("hold") => {
                self.hold(line, &records)?;
                report.holds += 1;
            }
            Some("command") => {
                self.command(line, &records)?;
                report.items += 1;
            }
            _ => bail!("it is of no type that is known here"),
        }
        Ok(())
    }

    fn command(&self, line: &Object, records: &Records) -> Result<()> {
        let number = |name: &str| line.get(name).and_then(Value::as_u64);
        let find = |name: &str, table: &str| {
            let seq = number(name).with_context(|| format!("it has no {name}"))?;
            let found = records.numbered(seq).filter(|record| record.is(table));
            found.with_context(|| format!("its record {seq} is missing"))
        };
        let (intent, outcome) = (find("id", "intent")?, find("outcome", "outcome")?);
        ensure!(outcome.number("intent") == Some(intent.seq), "its records are of two commands");
        let asked = Asked::new(intent, records);
        let response = first(&[
            (Some(outcome), "response"),
            (records.referred(Some(outcome), "response_of"), "response"),
        ]);
        let duration = outcome.get("duration_us").as_f64().map(|us| us / 1000.0);
        for (name, expected) in [
            ("session", intent.get("session")),
            ("kind", intent.get("kind")),
            ("verdict", intent.get("verdict")),
            ("rule", intent.get("rule")),
            ("approval", intent.get("approval")),
            ("unmasked", intent.get("unmasked")),
            ("parameters", intent.get("parameters")),
            ("parameters_cut", truth(&intent.get("parameters_cut"))),
            ("statement", asked.get("text", "text_of")),
            ("summary", asked.get("summary", "summary_of")),
            ("class", asked.get("rung", "")),
            ("part", outcome.get("part")),
            ("status", outcome.get("status")),
            ("tag", outcome.get("tag")),
            ("error_code", outcome.get("error_code")),
            ("error_message", outcome.get("error_message")),
            ("rows", outcome.get("rows")),
            ("bytes", outcome.get("bytes")),
            ("bytes_in", outcome.get("bytes_in")),
            ("duration_ms", json!(duration)),
            ("transaction_state", outcome.get("transaction_state")),
            ("columns", outcome.get("columns")),
            ("response", response),
            ("kept", outcome.get("kept")),
            ("truncated", truth(&outcome.get("truncated"))),
            ("notices", outcome.get("notices")),
            ("masked", outcome.get("masked")),
        ] {
            same(line, name, &expected)?;
        }
        at(line, "time", intent, "at")?;
        let leaf = |name: &str, record: &Record| match line.get(name).and_then(Value::as_str) {
            Some(leaf) if records.0.iter().any(|r| r.seq == record.seq) => Ok(leaf.to_owned()),
            _ => bail!("it has no {name}"),
        };
        for (name, record) in [("intent_leaf", intent), ("outcome_leaf", outcome)] {
            ensure!(leaf(name, record)? == record.get(LEAF), "its {name} is another");
        }
        self.of_session(line, intent, &OF_SESSION)?;
        let waited = intent.get("verdict") == "hold";
        let hold = intent.number("approval").or_else(|| waited.then_some(intent.seq));
        let approved_by = hold.map(|hold| self.approvals.get(&hold).cloned().unwrap_or_default());
        same(line, "approved_by", &approved_by.unwrap_or_default())
    }

    /// What a line says of its session is what the session's own line said.
    fn of_session(&self, line: &Object, intent: &Record, names: &[&str]) -> Result<()> {
        let session = intent.number("session").and_then(|session| self.sessions.get(&session));
        let session = session.context("its session is missing")?;
        for name in names {
            same(line, name, session.get(*name).unwrap_or(&Value::Null))?;
        }
        Ok(())
    }

    fn session(&mut self, line: &Object, records: &Records) -> Result<()> {
        let opened =
            records.one("session_opened").context("the record of its opening is missing")?;
        same(line, "id", &json!(opened.seq))?;
        at(line, "opened", opened, "at")?;
        let referred = |from: Option<&Record>, name: &str, table: &str| {
            let seq = from.and_then(|from| from.number(name));
            seq.and_then(|seq| {
                records.numbered(seq).filter(|record| record.is(table)).map(|r| r.seq)
            })
        };
        let process =
            referred(Some(opened), "process", "process").and_then(|n| records.numbered(n));
        let run = referred(process, "run", "run").and_then(|n| records.numbered(n));
        let of = |table: &str| {
            records.one(table).filter(|record| record.number("session") == Some(opened.seq))
        };
        let (started, signed_on) = (of("session_started"), of("session_signed_on"));
        let closed = of("session_closed");
        let get = |record: Option<&Record>, name: &str| first(&[(record, name)]);
        for name in ["process", "comm", "doubts", "target", "protocol", "server"] {
            same(line, name, &opened.get(name))?;
        }
        for name in [
            "lineage",
            "uid",
            "pid",
            "executable",
            "binary",
            "script",
            "script_digest",
            "command_line",
            "folder",
            "cgroup",
            "login_uid",
        ] {
            same(line, name, &get(process, name))?;
        }
        let user = first(&[(signed_on, "user"), (started, "user")]);
        for (name, expected) in [
            ("agent", get(run, "agent")),
            ("agent_version", get(run, "version")),
            ("run", get(run, "name")),
            ("unit", get(run, "unit")),
            ("container", get(run, "container")),
            ("user", user),
            ("asked_user", get(started, "user")),
            ("database", get(started, "database")),
            ("application", get(started, "application")),
            ("sign_on", get(signed_on, "method")),
            ("agent_tls", get(signed_on, "agent_tls")),
            ("target_tls", get(signed_on, "target_tls")),
            ("target_application", get(signed_on, "application")),
            ("closed_by", get(closed, "closed_by")),
            ("detail", get(closed, "detail")),
            ("bytes_up", get(closed, "bytes_up")),
            ("bytes_down", get(closed, "bytes_down")),
        ] {
            same(line, name, &expected)?;
        }
        let kept = OF_SESSION
            .iter()
            .map(|name| ((*name).to_owned(), line.get(*name).cloned().unwrap_or_default()));
        self.sessions.insert(opened.seq, kept.collect());
        Ok(())
    }

    fn hold(&mut self, line: &Object, records: &Records) -> Result<()> {
        let opened = records.one("hold_opened").context("the record of its opening is missing")?;
        let hold = opened.number("hold").context("its record is of no command")?;
        let of = |record: &&Record| record.number("hold") == Some(hold);
        let ended = records.one("hold_ended").filter(of);
        same(line, "id", &json!(hold))?;
        for name in ["approvers", "quorum"] {
            same(line, name, &opened.get(name))?;
        }
        at(line, "time", opened, "at")?;
        at(line, "deadline", opened, "deadline")?;
        match ended {
            Some(ended) => at(line, "ended", ended, "at")?,
            None => same(line, "ended", &Value::Null)?,
        }
        let intent = records.numbered(hold).filter(|record| record.is("intent"));
        let intent = intent.context("its command's record is missing")?;
        let asked = Asked::new(intent, records);
        for (name, expected) in [
            ("statement", asked.get("text", "text_of")),
            ("parameters", intent.get("parameters")),
            ("class", asked.get("rung", "")),
            ("rule", intent.get("rule")),
        ] {
            same(line, name, &expected)?;
        }
        self.of_session(line, intent, &["agent", "agent_version", "run", "target"])?;
        let state = first(&[(ended, "how")]);
        same(line, "state", &if state.is_null() { json!("open") } else { state.clone() })?;
        same(line, "detail", &first(&[(ended, "detail")]))?;
        let said: Vec<Object> = line
            .get("words")
            .and_then(Value::as_str)
            .and_then(|words| serde_json::from_str(words).ok())
            .context("its words are none")?;
        let voted: Vec<&Record> =
            records.0.iter().filter(|record| record.is("hold_voted")).filter(of).collect();
        ensure!(said.len() == voted.len(), "its words are others");
        for (word, vote) in said.iter().zip(&voted) {
            for name in ["person", "uid", "reason"] {
                same(word, name, &vote.get(name))?;
            }
            same(word, "approves", &truth(&vote.get("approves")))?;
        }
        let people = voted.iter().filter(|vote| truth(&vote.get("approves")) == true);
        let people: Vec<String> =
            people.filter_map(|vote| vote.get("person").as_str().map(str::to_owned)).collect();
        let approved = state == "approved" && !people.is_empty();
        self.approvals.insert(hold, if approved { json!(people.join(",")) } else { Value::Null });
        Ok(())
    }
}

/// A member of the first of these records that has it.
fn first(places: &[(Option<&Record>, &str)]) -> Value {
    let mut values = places.iter().map(|(record, name)| record.map(|r| r.get(name)));
    values.find_map(|value| value.filter(|value| !value.is_null())).unwrap_or_default()
}

/// Where the leaf is kept among a record's members: no column has this name.
const LEAF: &str = "";

/// The records of a line, each verified against its leaf, its content and the tree.
fn records(line: &Object, proven: &Proven, report: &mut Report) -> Result<Records> {
    let carried = line.get("records").and_then(Value::as_array).context("it has no records")?;
    let mut found = Vec::new();
    for one in carried {
        let one = Numbered::deserialize(one).context("one of its records is none")?;
        let mut fields: Object = serde_json::from_str(&one.record)
            .with_context(|| format!("record {} is none", one.seq))?;
        ensure!(
            fields.get("seq") == Some(&json!(one.seq)),
            "record {} has another number",
            one.seq
        );
        let leaf = leaf_hash(one.record.as_bytes());
        ensure!(unhex(&one.leaf)? == leaf, "record {} has another leaf", one.seq);
        let ended = fields.get("record").is_some_and(|table| table == "session_closed");
        if ended && one.seq > proven.head.size {
            report.beyond += 1;
        } else {
            is_proven(one.seq, &leaf, proven)?;
        }
        let mut content = Object::new();
        if let (Some(text), Some(key)) = (&one.content, &one.key) {
            let mut hash = Sha256::new();
            hash.update(bytes(key).with_context(|| format!("the key of record {}", one.seq))?);
            hash.update(text);
            let digest = hex(&hash.finalize().into());
            ensure!(
                fields.get("content") == Some(&json!(digest)),
                "record {} has another content",
                one.seq
            );
            content = serde_json::from_str(text)
                .with_context(|| format!("the content of record {} is none", one.seq))?;
        }
        fields.insert(LEAF.into(), one.leaf.into());
        found.push(Record { seq: one.seq, fields, content });
    }
    Ok(Records(found))
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    ensure!(hex.is_ascii() && hex.len().is_multiple_of(2), "it is not hexadecimal");
    let pairs = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
    Ok(pairs.collect::<Result<_, _>>()?)
}

fn same(line: &Object, name: &str, expected: &Value) -> Result<()> {
    let found = line.get(name).unwrap_or(&Value::Null);
    let equal = match (found.as_f64(), expected.as_f64()) {
        // 1 and 1.0 are one number.
        (Some(found), Some(expected)) => found.to_bits() == expected.to_bits(),
        _ => found == expected,
    };
    ensure!(equal, "its {name} is {found}, and {expected} by its records");
    Ok(())
}

fn at(line: &Object, name: &str, record: &Record, column: &str) -> Result<()> {
    let time = line.get(name).and_then(Value::as_str).and_then(micros);
    ensure!(time.map(Value::from) == Some(record.get(column)), "its {name} is another");
    Ok(())
}

/// The log's tables have 0 and 1.
fn truth(value: &Value) -> Value {
    json!(value.as_u64().is_some_and(|value| value != 0))
}
