//! A command as the index has it: its words, and what it is as words that no text can hold.
//!
//! Does not belong here: the index.

use std::borrow::Cow;

use chaperone_model::Seq;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Search;
use crate::{AuditError, CommandDetail, CommandRow, Reader};

/// Begins the words that say what a command is; taken out of all texts. The tokenizer keeps it, as
/// it keeps all of the private use area (`unicode61`, categories `L* N* Co`).
const MARK: char = '\u{e000}';
/// A word that every command has.
pub(super) const EVERY: &str = "\u{e000}e";
/// Stands between texts, so that nothing is found across them.
const BETWEEN: &str = " \u{e001} ";
/// Of each text, in bytes.
const LONGEST: usize = 64 << 10;

/// One command.
pub(super) struct Document {
    pub(super) id: u64,
    /// When it was begun, in microseconds since 1970.
    pub(super) at: i64,
    pub(super) body: String,
    pub(super) rows: Vec<CommandRow>,
    relations: Vec<String>,
    approvers: Vec<String>,
}

/// The word for a name of some kind.
pub(super) fn token(kind: char, value: &str) -> String {
    let hash = Sha256::digest(value);
    let short = hash.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    format!("{MARK}{kind}{short:016x}")
}

/// A text without characters of the private use area: it cannot say what a command is.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    let is_private = |c: char| ('\u{e000}'..='\u{f8ff}').contains(&c);
    if text.contains(is_private) { text.replace(is_private, " ").into() } else { text.into() }
}

impl Document {
    /// Of a command and all that came of it so far. `None` where the log does not have it.
    pub(super) fn of(reader: &Reader, id: Seq) -> Result<Option<Self>, AuditError> {
        let Some(detail) = reader.command(id)? else { return Ok(None) };
        let Some(first) = detail.parts.first().map(|part| &part.command) else { return Ok(None) };
        let waited = first.verdict.ends_with("hold").then_some(first.id);
        let approvers = match first.approval.or(waited) {
            Some(hold) => approvers(reader, Seq(hold))?,
            None => Vec::new(),
        };
        let relations = relations(first.summary.as_deref());
        let at = first.time_us;
        let body = body(&detail, &relations, &approvers);
        let rows = detail.parts.into_iter().map(|part| part.command).collect();
        Ok(Some(Self { id: id.0, at, body, rows, relations, approvers }))
    }

    /// Whether it is what is asked for, its words aside.
    pub(super) fn matches(&self, search: &Search) -> bool {
        let Some(row) = self.rows.first() else { return false };
        let is = |asked: &Option<String>, found: Option<&str>| {
            asked.as_ref().is_none_or(|asked| found == Some(asked.as_str()))
        };
        is(&search.agent, row.agent.as_deref())
            && is(&search.version, row.agent_version.as_deref())
            && is(&search.run, row.run.as_deref())
            && is(&search.class, row.class.as_deref())
            && is(&search.verdict, Some(&row.verdict))
            && is(&search.target, row.target.as_deref())
            && is(&search.user, row.user.as_deref())
            && search.session.is_none_or(|session| session.0 == row.session)
            && search.status.as_ref().is_none_or(|s| self.rows.iter().any(|row| row.status == *s))
            && search.relation.as_ref().is_none_or(|name| self.relations.contains(name))
            && search.approver.as_ref().is_none_or(|name| self.approvers.contains(name))
    }
}

fn body(detail: &CommandDetail, relations: &[String], approvers: &[String]) -> String {
    let mut body = EVERY.to_owned();
    let mut add = |kind: char, value: Option<&str>| {
        if let Some(value) = value {
            body.push(' ');
            body.push_str(&token(kind, value));
        }
    };
    if let Some(row) = detail.parts.first().map(|part| &part.command) {
        add('a', row.agent.as_deref());
        add('v', row.agent_version.as_deref());
        add('r', row.run.as_deref());
        add('c', row.class.as_deref());
        add('d', Some(&row.verdict));
        add('t', row.target.as_deref());
        add('u', row.user.as_deref());
        add('n', Some(&row.session.to_string()));
    }
    for part in &detail.parts {
        add('s', Some(&part.command.status));
    }
    for name in relations {
        add('o', Some(name));
    }
    for name in approvers {
        add('p', Some(name));
    }
    let mut words = |text: Option<&str>| {
        if let Some(text) = text {
            body.push_str(BETWEEN);
            body.push_str(&plain(&text[..text.floor_char_boundary(LONGEST)]));
        }
    };
    if let Some(row) = detail.parts.first().map(|part| &part.command) {
        words(row.statement.as_deref());
        words(row.parameters.as_deref());
    }
    for part in &detail.parts {
        words(part.command.error_message.as_deref());
        words(part.response.as_deref());
        words(part.notices.as_deref());
    }
    body
}

/// What a command reads and writes, with and without schemas.
fn relations(summary: Option<&str>) -> Vec<String> {
    let summary = summary.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let mut found = Vec::new();
    let statements = summary.as_ref().and_then(|summary| summary["statements"].as_array());
    for statement in statements.into_iter().flatten() {
        for what in ["reads", "writes"] {
            for name in statement[what].as_array().into_iter().flatten().filter_map(Value::as_str) {
                found.push(name.to_owned());
                if let Some((_, name)) = name.split_once('.') {
                    found.push(name.to_owned());
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn approvers(reader: &Reader, hold: Seq) -> Result<Vec<String>, AuditError> {
    let words = reader.hold(hold)?.map(|hold| hold.words);
    let words = words.and_then(|words| serde_json::from_str::<Value>(&words).ok());
    let said_yes = |word: &&Value| word["approves"] == true;
    let list = words.as_ref().and_then(Value::as_array);
    let names = list.into_iter().flatten().filter(said_yes);
    Ok(names.filter_map(|word| word["person"].as_str().map(str::to_owned)).collect())
}
