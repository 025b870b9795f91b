//! Commands that are over, with all that came of them, a bounded batch at a time: for those who
//! hand the log on.
//!
//! Does not belong here: the forms in which it is handed on.

use std::collections::HashSet;

use chaperone_model::Seq;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::Serialize;

use super::{
    CommandRow, Filter, HoldRow, Part, Reader, Rows, SessionRow,
    files::File,
    rows::{hold_row, session_row},
};
use crate::{AuditError, tree::Hash};

/// Bytes of texts after which a batch ends. One record may be larger, and is a batch then.
const BYTES: usize = 4 << 20;

/// A row of the view `commands` whose outcome is known, with its response.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finished {
    /// The command and what came back.
    #[serde(flatten)]
    pub part: Part,
    /// The leaf hash of the command's record.
    #[serde(skip)]
    pub intent_leaf: Option<Hash>,
    /// The leaf hash of the outcome's record.
    #[serde(skip)]
    pub outcome_leaf: Option<Hash>,
}

impl Reader {
    /// Commands whose outcome was recorded after the record `after` and not after `last`, in the
    /// order of their outcomes, at most `most`, and the cursor to ask with next: `last`, once there
    /// are no more.
    ///
    /// Who begins at 0 and passes each cursor on neither misses a command nor sees one twice, as
    /// with [`Reader::follow`]. No snapshot is held between two batches.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn finished(
        &self,
        after: Seq,
        last: Seq,
        filter: &Filter,
        most: usize,
    ) -> Result<(Vec<Finished>, Seq), AuditError> {
        let files = self.files()?;
        let mut oldest_first: Vec<&File> = files.newest_first().collect();
        oldest_first.reverse();
        let (mut found, mut seen, mut bytes) = (Vec::new(), HashSet::new(), 0);
        let mut full = most == 0;
        for file in &oldest_first {
            if full || file.last_outcome()? <= after {
                continue;
            }
            file.visit(&Rows::Finished(after, last), filter, None, |command| {
                // What was carried over from an earlier file stood there before.
                if seen.insert((command.id, command.part)) {
                    let finished = file.finished(command)?;
                    bytes += size(&finished.part);
                    found.push(finished);
                }
                full = found.len() >= most || bytes >= BYTES;
                Ok(!full)
            })?;
        }
        found.sort_by_key(|finished| finished.part.command.outcome);
        let cursor = match found.last().and_then(|finished| finished.part.command.outcome) {
            Some(outcome) if full => Seq(outcome),
            None if full => after,
            _ => last.max(after),
        };
        for finished in &mut found {
            let (intent, outcome) = (finished.part.command.id, finished.part.command.outcome);
            finished.intent_leaf = leaf(&oldest_first, intent)?;
            finished.outcome_leaf = match outcome {
                Some(outcome) => leaf(&oldest_first, outcome)?,
                None => None,
            };
        }
        Ok((found, cursor))
    }

    /// One session.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn session(&self, id: Seq) -> Result<Option<SessionRow>, AuditError> {
        let sql = "SELECT * FROM sessions WHERE id = ?";
        let mut found: Option<SessionRow> = None;
        for file in self.files()?.newest_first() {
            match (&mut found, one(&file.connection, sql, id, session_row)?) {
                // It went on in the later file.
                (Some(known), Some(row)) => known.commands += row.commands,
                (found, row) => *found = found.take().or(row),
            }
        }
        Ok(found)
    }

    /// One command's wait for a person.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn hold(&self, id: Seq) -> Result<Option<HoldRow>, AuditError> {
        for file in self.files()?.newest_first() {
            let found = one(&file.connection, "SELECT * FROM holds WHERE id = ?", id, hold_row)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The host that the log is of, as the daemon last said.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn host(&self) -> Result<Option<String>, AuditError> {
        for file in self.files()?.newest_first() {
            let sql = "SELECT host FROM daemon_started ORDER BY seq DESC LIMIT 1";
            let found = file.connection.query_row(sql, [], |row| row.get(0)).optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl File {
    fn finished(&self, command: CommandRow) -> Result<Finished, AuditError> {
        let outcome = command.outcome.unwrap_or_default().cast_signed();
        let part = self
            .connection
            .prepare_cached(
                "SELECT o.columns, coalesce(o.response, s.response) AS response, o.kept, o.truncated, o.notices
                 FROM outcome o LEFT JOIN outcome s ON s.seq = o.response_of WHERE o.seq = ?",
            )?
            .query_row([outcome], |row| {
                Ok(Part {
                    command,
                    columns: row.get("columns")?,
                    response: row.get("response")?,
                    kept: row.get("kept")?,
                    truncated: row.get::<_, Option<bool>>("truncated")?.unwrap_or(false),
                    notices: row.get("notices")?,
                })
            })?;
        Ok(Finished { part, intent_leaf: None, outcome_leaf: None })
    }
}

fn one<T>(
    connection: &Connection,
    sql: &str,
    id: Seq,
    row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, AuditError> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([id.0.cast_signed()], row).optional()?)
}

/// As the tree has it, in whichever file the record was appended to.
fn leaf(files: &[&File], seq: u64) -> Result<Option<Hash>, AuditError> {
    for file in files {
        let hashes: Option<Vec<u8>> = file
            .connection
            .prepare_cached("SELECT substr(hashes, 1, 32) FROM tree WHERE seq = ?")?
            .query_row([seq.cast_signed()], |row| row.get(0))
            .optional()?;
        let leaf = hashes.and_then(|hashes| hashes.try_into().ok());
        // Where a file goes on from a damaged one, hashes that it does not need are not known.
        if leaf.is_some_and(|leaf: Hash| leaf != Hash::default()) {
            return Ok(leaf);
        }
    }
    Ok(None)
}

/// Of what can be large.
fn size(part: &Part) -> usize {
    let c = &part.command;
    [&c.statement, &c.parameters, &c.summary, &c.error_message, &part.response, &part.notices]
        .into_iter()
        .flatten()
        .map(String::len)
        .sum()
}
