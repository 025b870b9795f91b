//! What is exported: one command, session or hold, with the numbers and leaf hashes of the records
//! that it was put together from.
//!
//! Does not belong here: the forms (one module each), and reading the log (`gather`).

use std::rc::Rc;

use chaperone_audit::{Canonicalised, HoldRow, Part, SessionRow, tree::Hash};
use serde::Serialize;

/// One thing that is exported.
pub(crate) enum Exported {
    /// A session, before the first of its commands.
    Session(Session),
    /// What a person was asked, before the command that it was about.
    Hold(Hold),
    /// A command with its outcome: a row of the view `commands`.
    Command(Box<Item>),
}

/// A session.
pub(crate) struct Session {
    pub(crate) host: Rc<str>,
    pub(crate) row: Rc<SessionRow>,
    pub(crate) records: Vec<Numbered>,
}

/// What a person was asked.
pub(crate) struct Hold {
    pub(crate) host: Rc<str>,
    pub(crate) row: Rc<HoldRow>,
    pub(crate) records: Vec<Numbered>,
}

/// A command with its outcome.
pub(crate) struct Item {
    /// The host that the log is of; with the outcome's number it names the item.
    pub(crate) host: Rc<str>,
    pub(crate) part: Part,
    pub(crate) session: Option<Rc<SessionRow>>,
    /// The hold that let it through, or that it is.
    pub(crate) hold: Option<Rc<HoldRow>>,
    pub(crate) intent_leaf: Option<Hash>,
    pub(crate) outcome_leaf: Option<Hash>,
    /// Its own two records and those that it refers to, where the form carries them.
    pub(crate) records: Vec<Numbered>,
}

/// A record as a line of JSON carries it: `leaf` is the SHA-256 of a zero byte and `record`, and
/// `content` in `record` the SHA-256 of `key`'s bytes and `content`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct Numbered {
    pub(crate) seq: u64,
    pub(crate) leaf: String,
    pub(crate) record: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

impl Numbered {
    pub(crate) fn new(seq: u64, record: Canonicalised) -> Self {
        let Canonicalised { record, content, key, leaf } = record;
        Self { seq, leaf, record, content, key }
    }
}

impl Item {
    /// Who approved it, with commas between.
    pub(crate) fn approved_by(&self) -> Option<String> {
        // Words on a hold that did not end in an approval approved nothing.
        let hold = self.hold.as_ref().filter(|hold| hold.state == "approved")?;
        let people: Vec<String> =
            words(hold).into_iter().filter(|word| word.approves).map(|word| word.person).collect();
        (!people.is_empty()).then(|| people.join(","))
    }

    /// What names it among all items of all hosts.
    pub(crate) fn uid(&self) -> String {
        format!("{}/{}", self.host, self.part.command.outcome.unwrap_or(self.part.command.id))
    }

    /// What its first statement is, as the server's completion tags name it: as the reader read it,
    /// else by the tag.
    pub(crate) fn operation(&self) -> Option<String> {
        let command = &self.part.command;
        let read = statements(command.summary.as_deref());
        let mine = read.get(command.part as usize).or(read.first());
        mine.map(|statement| statement.kind.clone()).or_else(|| {
            let words = command.tag.as_deref()?.split(' ');
            let words = words.take_while(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
            Some(words.collect::<Vec<_>>().join(" ")).filter(|tag| !tag.is_empty())
        })
    }

    /// The relations that its statements name, those that are changed first.
    pub(crate) fn relations(&self) -> Vec<String> {
        let read = statements(self.part.command.summary.as_deref());
        let of = |pick: fn(&Statement) -> &Vec<String>| read.iter().flat_map(pick).cloned();
        let mut found: Vec<String> = Vec::new();
        for name in of(|s| &s.writes).chain(of(|s| &s.reads)) {
            if !found.contains(&name) {
                found.push(name);
            }
        }
        found
    }
}

/// A word on a hold, as the view `holds` has it.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Word {
    pub(crate) person: String,
    pub(crate) approves: bool,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    pub(crate) time: String,
}

/// What people said.
pub(crate) fn words(hold: &HoldRow) -> Vec<Word> {
    serde_json::from_str(&hold.words).unwrap_or_default()
}

/// A statement, as the summary has it.
#[derive(serde::Deserialize)]
struct Statement {
    kind: String,
    #[serde(default)]
    reads: Vec<String>,
    #[serde(default)]
    writes: Vec<String>,
}

fn statements(summary: Option<&str>) -> Vec<Statement> {
    #[derive(serde::Deserialize)]
    struct Summary {
        statements: Vec<Statement>,
    }
    summary
        .and_then(|text| serde_json::from_str::<Summary>(text).ok())
        .map(|summary| summary.statements)
        .unwrap_or_default()
}

/// In hexadecimal.
pub(crate) fn hex(hash: &Hash) -> String {
    chaperone_model::Digest(*hash).to_string()
}

/// Microseconds since 1970 of a time as the views show it.
pub(crate) fn micros(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}
