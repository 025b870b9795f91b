//! Finding commands by words and by what they are, in a log of any size.
//!
//! The words are in a file beside the log (`log.search.sqlite`) that is derived from it and filled
//! behind the writer; what is not in it yet, or all where there is none, is looked through with the
//! same rules. Does not belong here: how the file is filled (`search/index.rs`).

use std::{collections::HashSet, path::Path};

use chaperone_model::{Seq, Timestamp};
use rusqlite::Connection;
use serde::Serialize;

use crate::{AuditError, CommandRow, Filter, Reader};

mod document;
mod index;

use document::{Document, token};
pub(crate) use index::forget;
pub use index::{Indexing, lag};

/// Commands that are looked through at a time where they are not in the file.
const AT_A_TIME: usize = 1000;

/// What to find. What is `None` is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Words that stand one behind the other in the statement, its parameters or what came back;
    /// letters of either case, with or without accents. A `*` at the end stands for the rest of a
    /// word.
    pub text: Option<String>,
    /// Of this agent.
    pub agent: Option<String>,
    /// In this version.
    pub version: Option<String>,
    /// Of this run.
    pub run: Option<String>,
    /// That touched this relation, by its name with or without its schema.
    pub relation: Option<String>,
    /// Of this class.
    pub class: Option<String>,
    /// Of which policy said this.
    pub verdict: Option<String>,
    /// That this person approved.
    pub approver: Option<String>,
    /// On this target.
    pub target: Option<String>,
    /// As this user of the target's.
    pub user: Option<String>,
    /// With this status.
    pub status: Option<String>,
    /// Of this session.
    pub session: Option<Seq>,
    /// Begun at or after.
    pub since: Option<Timestamp>,
    /// Begun before.
    pub until: Option<Timestamp>,
    /// At most so many, the newest.
    pub limit: u32,
}

/// What was found, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The commands, a row a part.
    pub rows: Vec<CommandRow>,
    /// Why all was looked through, where it was.
    pub without_index: Option<String>,
}

impl Search {
    /// As a full-text query (sqlite.org/fts5.html, section 3). `None` where the text has no word.
    fn query(&self) -> Option<String> {
        let session = self.session.map(|session| session.0.to_string());
        let named = [
            ('a', &self.agent),
            ('v', &self.version),
            ('r', &self.run),
            ('o', &self.relation),
            ('c', &self.class),
            ('d', &self.verdict),
            ('p', &self.approver),
            ('t', &self.target),
            ('u', &self.user),
            ('s', &self.status),
            ('n', &session),
        ];
        let mut terms: Vec<String> = named
            .into_iter()
            .filter_map(|(kind, value)| Some(format!("\"{}\"", token(kind, value.as_ref()?))))
            .collect();
        if let Some(text) = &self.text {
            let (text, rest) = match text.strip_suffix('*') {
                Some(text) => (text, " *"),
                None => (text.as_str(), ""),
            };
            let text = document::plain(text);
            if !text.chars().any(char::is_alphanumeric) {
                return None;
            }
            terms.push(format!("\"{}\"{rest}", text.replace('"', " ")));
        }
        if terms.is_empty() {
            terms.push(format!("\"{}\"", document::EVERY));
        }
        Some(terms.join(" AND "))
    }

    fn is_in_time(&self, at: i64) -> bool {
        self.since.is_none_or(|since| at >= since.0) && self.until.is_none_or(|until| at < until.0)
    }
}

impl Reader {
    /// Finds commands.
    ///
    /// # Errors
    /// [`AuditError`]; [`AuditError::NoWord`] where there is no word in the text.
    pub fn search(&self, search: &Search) -> Result<Found, AuditError> {
        let query = search.query().ok_or(AuditError::NoWord)?;
        let opened = index::open_reading(self);
        let mut found = Hits { search, query, rows: Vec::new(), seen: HashSet::new() };
        let (indexed, without_index) = match &opened {
            Ok(index) => (index.cursor, None),
            Err(why) => (Seq(0), Some(why.clone())),
        };
        self.unfinished(&mut found)?;
        self.look_through(indexed, &mut found)?;
        if let Ok(index) = &opened {
            self.look_up(&index.connection, &mut found)?;
        }
        let mut rows = found.rows;
        rows.sort_by_key(|row| std::cmp::Reverse((row.id, row.part)));
        rows.truncate(search.limit as usize);
        Ok(Found { rows, without_index })
    }

    /// Those that are under way, or wait for a person.
    fn unfinished(&self, found: &mut Hits<'_>) -> Result<(), AuditError> {
        let search = found.search;
        let filter = Filter {
            status: Some("pending".into()),
            since: search.since,
            until: search.until,
            session: search.session,
            ..Filter::default()
        };
        // Where another status is asked for they are none of those.
        if search.status.as_ref().is_some_and(|status| status != "pending") {
            return Ok(());
        }
        let settled = self.settled()?;
        let rows = self.commands_after(settled, &filter)?;
        let ids = rows.iter().map(|row| row.id).collect();
        found.try_all(self, ids)
    }

    /// Those whose outcome is not in the index.
    fn look_through(&self, after: Seq, found: &mut Hits<'_>) -> Result<(), AuditError> {
        let (mut cursor, last) = (after, self.last_outcome()?);
        let filter =
            Filter { since: found.search.since, until: found.search.until, ..Filter::default() };
        while cursor < last {
            let (batch, next) = self.finished(cursor, last, &filter, AT_A_TIME)?;
            cursor = next;
            let mut ids: Vec<u64> = batch.iter().map(|one| one.part.command.id).collect();
            ids.dedup();
            found.try_all(self, ids)?;
        }
        Ok(())
    }

    /// Those that the index proposes, the newest first, until there are enough.
    fn look_up(&self, index: &Connection, found: &mut Hits<'_>) -> Result<(), AuditError> {
        let search = found.search;
        let (first, last) = index::bounds(index, search.since, search.until)?;
        let mut statement = index.prepare(
            "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid DESC",
        )?;
        let mut rows = statement.query(rusqlite::params![found.query, first, last])?;
        let mut hits = 0;
        while hits < search.limit
            && let Some(row) = rows.next()?
        {
            hits += u32::from(found.take(self, row.get(0)?)?);
        }
        Ok(())
    }
}

/// What was found so far.
struct Hits<'a> {
    search: &'a Search,
    query: String,
    rows: Vec<CommandRow>,
    seen: HashSet<u64>,
}

impl Hits<'_> {
    /// Takes those of some commands that match, by the same rules as the index.
    fn try_all(&mut self, reader: &Reader, ids: Vec<u64>) -> Result<(), AuditError> {
        let memory = Connection::open_in_memory()?;
        index::make_words(&memory)?;
        for id in ids {
            if let Some(document) = Document::of(reader, Seq(id))? {
                index::add(&memory, &document)?;
            }
        }
        let mut statement = memory.prepare("SELECT rowid FROM words WHERE words MATCH ?")?;
        let hits: Vec<u64> =
            statement.query_map([&self.query], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for id in hits {
            self.take(reader, id)?;
        }
        Ok(())
    }

    /// Takes a command that has the words, where it is what was asked for. Says whether it is.
    fn take(&mut self, reader: &Reader, id: u64) -> Result<bool, AuditError> {
        if self.seen.contains(&id) {
            return Ok(false);
        }
        // Where its file is no longer kept there is nothing to show.
        let Some(document) = Document::of(reader, Seq(id))? else { return Ok(false) };
        if !self.search.is_in_time(document.at) || !document.matches(self.search) {
            return Ok(false);
        }
        self.seen.insert(id);
        self.rows.extend(document.rows);
        Ok(true)
    }
}

/// The file of words beside a log.
fn path_of(log: &Path) -> std::path::PathBuf {
    let stem = log.file_stem().unwrap_or_default().to_string_lossy();
    let end = log.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    log.with_file_name(format!("{stem}.search{end}"))
}

#[cfg(test)]
mod tests;
