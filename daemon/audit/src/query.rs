//! Reading the log, also from another process and under another user, while it is written and
//! after a crash.
//!
//! Does not belong here: anything that writes.

use std::{
    cell::RefCell,
    collections::HashSet,
    path::{Path, PathBuf},
    rc::Rc,
};

use chaperone_model::{Seq, Timestamp};
use rusqlite::Row;

use crate::{AuditError, chain};

mod export;
mod files;
mod rows;
mod search;

pub use export::Page;
use files::{Files, command_in};
pub use rows::{
    BinaryRow, CommandDetail, CommandRow, EventRow, ExceptionRow, HoldRow, Part, RunRow, SessionRow,
};
use rows::{binary_row, event_row, exception_row, hold_row, run_row, session_row};
pub use search::Found;

/// Which commands to show. What is `None` is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Begun at or after.
    pub since: Option<Timestamp>,
    /// Begun before.
    pub until: Option<Timestamp>,
    /// Of this agent.
    pub agent: Option<String>,
    /// On this target.
    pub target: Option<String>,
    /// Of this session.
    pub session: Option<Seq>,
    /// Of this run of an agent.
    pub run: Option<String>,
    /// Of a class: `read`, `write`, `destructive`, `forbidden`.
    pub class: Option<String>,
    /// Recorded before this one.
    pub before: Option<Seq>,
    /// Whose statement contains this text; letters of either case, nothing else is special.
    pub text: Option<String>,
    /// Of an agent of this version.
    pub version: Option<String>,
    /// Under this account at the target.
    pub user: Option<String>,
    /// That policy gave this verdict.
    pub verdict: Option<String>,
    /// That reads or writes this relation, with or without its schema.
    pub relation: Option<String>,
    /// That runs this program: a command line's.
    pub program: Option<String>,
    /// That went on, or would have, because this person approved it.
    pub approver: Option<String>,
    /// With this status.
    pub status: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<u32>,
}

/// A log that is open for reading: all of its files.
pub struct Reader {
    path: PathBuf,
    files: RefCell<Rc<Files>>,
}

/// Which rows to read, beside what the filter says.
enum Rows {
    /// In the order of the commands, the newest first.
    Newest,
    /// In the order of the outcomes, those after the first number and up to the second.
    Finished(Seq, Seq),
    /// Those commands, the newest first: a JSON array.
    Of(String),
}

impl Reader {
    /// Opens a log.
    ///
    /// # Errors
    /// [`AuditError`], each a sentence for whoever asked.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let files = RefCell::new(Rc::new(Files::open(path)?));
        Ok(Self { path: path.into(), files })
    }

    /// The files, also those that were begun since the log was opened.
    fn files(&self) -> Result<Rc<Files>, AuditError> {
        let newest = chain::newest(&self.path)?;
        if self.files.borrow().newest() != newest {
            *self.files.borrow_mut() = Rc::new(Files::open(&self.path)?);
        }
        Ok(self.files.borrow().clone())
    }

    /// The newest commands that a filter lets through, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn commands(&self, filter: &Filter) -> Result<Vec<CommandRow>, AuditError> {
        let mut rows = self.select(&Rows::Newest, filter)?;
        rows.reverse();
        Ok(rows)
    }

    /// Commands whose outcome was recorded after the record `after`, in the order of their
    /// outcomes, and the cursor to ask with next. Its `limit` is not looked at.
    ///
    /// A follower that begins at some [`Reader::last_outcome`] and passes each cursor on neither
    /// misses a command nor sees one twice: a command has its place by its outcome, and outcomes
    /// are only ever added after all others. (By their own numbers commands would be missed: one
    /// that takes long gets its outcome when later ones have long been shown.) The cursor also
    /// moves where the filter lets nothing through, so that nothing is read twice.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn follow(
        &self,
        after: Seq,
        filter: &Filter,
    ) -> Result<(Vec<CommandRow>, Seq), AuditError> {
        let last = self.last_outcome()?.max(after);
        // What is committed from here on is beyond `last`, and comes with the next call.
        Ok((self.select(&Rows::Finished(after, last), filter)?, last))
    }

    /// The number of the last outcome: where a follower begins.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn last_outcome(&self) -> Result<Seq, AuditError> {
        for file in self.files()?.newest_first() {
            let last: u64 = file.connection.query_row(
                "SELECT coalesce(max(seq), 0) FROM outcome",
                [],
                |row| row.get(0),
            )?;
            if last > 0 {
                return Ok(Seq(last));
            }
        }
        Ok(Seq(0))
    }

    /// One command.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn command(&self, id: Seq) -> Result<Option<CommandDetail>, AuditError> {
        for file in self.files()?.newest_first() {
            if let Some(found) = command_in(&file.connection, id)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The newest sessions, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn sessions(&self, limit: u32) -> Result<Vec<SessionRow>, AuditError> {
        let sql = "SELECT * FROM sessions ORDER BY id DESC LIMIT ?";
        let mut rows: Vec<SessionRow> = Vec::new();
        for file in self.files()?.newest_first() {
            for row in file.rows(sql, limit, session_row)? {
                match rows.iter_mut().find(|known| known.id == row.id) {
                    // It went on in the later file.
                    Some(known) => known.commands += row.commands,
                    None => rows.push(row),
                }
            }
        }
        Ok(newest(rows, limit, |row| row.id))
    }

    /// The newest events, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn events(&self, limit: u32) -> Result<Vec<EventRow>, AuditError> {
        self.newest("SELECT * FROM events ORDER BY id DESC LIMIT ?", limit, event_row, |row| row.id)
    }

    /// The newest commands that waited for a person, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn holds(&self, limit: u32) -> Result<Vec<HoldRow>, AuditError> {
        self.newest("SELECT * FROM holds ORDER BY id DESC LIMIT ?", limit, hold_row, |row| row.id)
    }

    /// The newest masks that were lifted, or asked to be, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn exceptions(&self, limit: u32) -> Result<Vec<ExceptionRow>, AuditError> {
        let sql = "SELECT * FROM exceptions ORDER BY id DESC LIMIT ?";
        let mut rows: Vec<ExceptionRow> = Vec::new();
        for file in self.files()?.newest_first() {
            for row in file.rows(sql, limit, exception_row)? {
                match rows.iter_mut().find(|known| known.id == row.id) {
                    // It went on in the later file.
                    Some(known) => known.uses += row.uses,
                    None => rows.push(row),
                }
            }
        }
        Ok(newest(rows, limit, |row| row.id))
    }

    /// The newest runs of agents, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn runs(&self, limit: u32) -> Result<Vec<RunRow>, AuditError> {
        let sql = "SELECT * FROM runs ORDER BY id DESC LIMIT ?";
        let mut rows: Vec<RunRow> = Vec::new();
        for file in self.files()?.newest_first() {
            for row in file.rows(sql, u32::MAX, run_row)? {
                let is_same = |known: &RunRow| {
                    (&known.agent, &known.agent_version, &known.run)
                        == (&row.agent, &row.agent_version, &row.run)
                };
                match rows.iter_mut().find(|known| is_same(known)) {
                    Some(known) => known.began_as(row),
                    None => rows.push(row),
                }
            }
        }
        Ok(newest(rows, limit, |row| row.id))
    }

    /// All programs and scripts that opened a target, or stood above what did.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn binaries(&self) -> Result<Vec<BinaryRow>, AuditError> {
        let sql = "SELECT * FROM binaries ORDER BY agent, path, last_us DESC LIMIT ?";
        let mut rows: Vec<BinaryRow> = Vec::new();
        for file in self.files()?.newest_first() {
            for row in file.rows(sql, u32::MAX, binary_row)? {
                match rows.iter_mut().find(|known| known.is_same(&row)) {
                    Some(known) => known.began_as(row),
                    None => rows.push(row),
                }
            }
        }
        rows.sort_by(|a, b| {
            (&a.agent, &a.path, &b.last_session).cmp(&(&b.agent, &b.path, &a.last_session))
        });
        Ok(rows)
    }

    /// The newest rows of a view, the oldest first. What was carried over into a later file is told
    /// as that one has it.
    fn newest<T>(
        &self,
        sql: &str,
        limit: u32,
        row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
        id: impl Fn(&T) -> u64,
    ) -> Result<Vec<T>, AuditError> {
        let mut rows: Vec<T> = Vec::new();
        let mut seen = HashSet::new();
        for file in self.files()?.newest_first() {
            if rows.len() >= limit as usize {
                break;
            }
            let found = file.rows(sql, limit, &row)?;
            rows.extend(found.into_iter().filter(|row| seen.insert(id(row))));
        }
        Ok(newest(rows, limit, id))
    }

    fn select(&self, which: &Rows, filter: &Filter) -> Result<Vec<CommandRow>, AuditError> {
        let limit = match which {
            Rows::Newest => filter.limit.map_or(usize::MAX, |limit| limit as usize),
            Rows::Finished(..) | Rows::Of(_) => usize::MAX,
        };
        let approved = self.approved(filter)?;
        let mut rows = Vec::new();
        let mut seen = HashSet::new();
        let files = self.files()?;
        for file in files.newest_first() {
            if rows.len() >= limit || files.all_before(file, filter.since) {
                break;
            }
            if let Rows::Finished(after, _) = which
                && file.last_outcome()? <= *after
            {
                break;
            }
            let found = file.select(which, filter, approved.as_deref(), limit)?;
            rows.extend(found.into_iter().filter(|row| seen.insert((row.id, row.part))));
        }
        match which {
            Rows::Newest | Rows::Of(_) => {
                rows.sort_by_key(|row| std::cmp::Reverse((row.id, row.part)));
                rows.truncate(limit);
            }
            Rows::Finished(..) => rows.sort_by_key(|row| row.outcome),
        }
        Ok(rows)
    }
}

/// The newest of rows, the oldest first.
fn newest<T>(mut rows: Vec<T>, limit: u32, id: impl Fn(&T) -> u64) -> Vec<T> {
    rows.sort_by_key(id);
    let excess = rows.len().saturating_sub(limit as usize);
    rows.split_off(excess)
}

#[cfg(test)]
mod tests;
