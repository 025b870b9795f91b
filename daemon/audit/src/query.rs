//! Reading the log, also from another process and under another user, while it is written and
//! after a crash.
//!
//! Does not belong here: anything that writes.

use std::path::Path;

use chaperone_model::{Seq, Timestamp};
use rusqlite::{Connection, Row, named_params};

use crate::{AuditError, chain, files, schema};

mod rows;

pub use rows::{BinaryRow, CommandDetail, CommandRow, EventRow, HoldRow, Part, RunRow, SessionRow};
use rows::{binary_row, command_row, event_row, hold_row, run_row, session_row};

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
    /// With this status.
    pub status: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<u32>,
}

/// A log that is open for reading.
pub struct Reader(Connection);

/// Which rows to read, beside what the filter says.
enum Rows {
    /// In the order of the commands, the newest first.
    Newest,
    /// In the order of the outcomes, those after the first number and up to the second.
    Finished(Seq, Seq),
}

impl Reader {
    /// Opens a log.
    ///
    /// # Errors
    /// [`AuditError`], each a sentence for whoever asked.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let connection = files::connect_reading(&chain::newest(path)?)?;
        schema::check(&connection, path)?;
        Ok(Self(connection))
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
        let last: i64 =
            self.0.query_row("SELECT coalesce(max(seq), 0) FROM outcome", [], |row| row.get(0))?;
        Ok(Seq(last.cast_unsigned()))
    }

    /// One command.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn command(&self, id: Seq) -> Result<Option<CommandDetail>, AuditError> {
        let id = id.0.cast_signed();
        let parts = self
            .0
            .prepare(
                "SELECT c.*, o.columns, coalesce(o.response, s.response) AS response, o.kept, o.truncated, o.notices
                 FROM commands c LEFT JOIN outcome o ON o.seq = c.outcome LEFT JOIN outcome s ON s.seq = o.response_of
                 WHERE c.id = ? ORDER BY c.part",
            )?
            .query_map([id], |row| {
                Ok(Part {
                    command: command_row(row)?,
                    columns: row.get("columns")?,
                    response: row.get("response")?,
                    kept: row.get("kept")?,
                    truncated: row.get::<_, Option<bool>>("truncated")?.unwrap_or(false),
                    notices: row.get("notices")?,
                })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let Some(first) = parts.first() else {
            return Ok(None);
        };
        let session = self
            .0
            .prepare("SELECT * FROM sessions WHERE id = ?")?
            .query_map([first.command.session.cast_signed()], session_row)?
            .next()
            .transpose()?;
        Ok(Some(CommandDetail { session, parts }))
    }

    /// The newest sessions, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn sessions(&self, limit: u32) -> Result<Vec<SessionRow>, AuditError> {
        let mut rows = self
            .0
            .prepare("SELECT * FROM sessions ORDER BY id DESC LIMIT ?")?
            .query_map([limit], session_row)?
            .collect::<Result<Vec<_>, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// The newest events, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn events(&self, limit: u32) -> Result<Vec<EventRow>, AuditError> {
        let mut rows = self
            .0
            .prepare("SELECT * FROM events ORDER BY id DESC LIMIT ?")?
            .query_map([limit], event_row)?
            .collect::<Result<Vec<_>, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// The newest commands that waited for a person, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn holds(&self, limit: u32) -> Result<Vec<HoldRow>, AuditError> {
        let mut rows = self
            .0
            .prepare("SELECT * FROM holds ORDER BY id DESC LIMIT ?")?
            .query_map([limit], hold_row)?
            .collect::<Result<Vec<_>, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// The newest runs of agents, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn runs(&self, limit: u32) -> Result<Vec<RunRow>, AuditError> {
        let mut rows = self
            .0
            .prepare("SELECT * FROM runs ORDER BY id DESC LIMIT ?")?
            .query_map([limit], run_row)?
            .collect::<Result<Vec<_>, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// All programs and scripts that opened a target, or stood above what did.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn binaries(&self) -> Result<Vec<BinaryRow>, AuditError> {
        let rows = self
            .0
            .prepare("SELECT * FROM binaries ORDER BY agent, path, last_us DESC")?
            .query_map([], binary_row)?
            .collect::<Result<Vec<_>, _>>()?;
        Ok(rows)
    }

    fn select(&self, which: &Rows, filter: &Filter) -> Result<Vec<CommandRow>, AuditError> {
        let (after, last) = match *which {
            Rows::Newest => (None, None),
            Rows::Finished(after, last) => (Some(after), Some(last)),
        };
        let limit = match which {
            Rows::Newest => filter.limit.map_or(usize::MAX, |limit| limit as usize),
            Rows::Finished(..) => usize::MAX,
        };
        // SQL's lower() knows ASCII alone; what is not ASCII is looked for here, which takes longer.
        let (plain, other) = match filter.text.as_deref() {
            Some(text) if !text.is_ascii() => (None, Some(text.to_lowercase())),
            plain => (plain, None),
        };
        let mut statement = self.0.prepare(&sql(which, filter))?;
        let mut found = statement.query(named_params! {
            ":since": filter.since.map(|t| t.0),
            ":until": filter.until.map(|t| t.0),
            ":agent": filter.agent,
            ":target": filter.target,
            ":session": filter.session.map(|s| s.0.cast_signed()),
            ":status": filter.status,
            ":run": filter.run,
            ":class": filter.class,
            ":before": filter.before.map(|s| s.0.cast_signed()),
            ":text": plain,
            ":after": after.map(|s| s.0.cast_signed()),
            ":last": last.map(|s| s.0.cast_signed()),
        })?;
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some(row) = found.next()?
        {
            if contains(row, other.as_deref())? {
                rows.push(command_row(row)?);
            }
        }
        Ok(rows)
    }
}

/// The conditions that use an index stand alone, those that must not keep another from being used
/// have a `+` (sqlite.org/optoverview.html, 2.1). Every parameter is named once in every text.
fn sql(which: &Rows, filter: &Filter) -> String {
    let (place, order) = match which {
        Rows::Newest if filter.session.is_some() => {
            ("session = :session AND :after IS :last", "id DESC, part DESC")
        }
        Rows::Newest => (":session IS NULL AND :after IS :last", "id DESC, part DESC"),
        Rows::Finished(..) => (
            "outcome > :after AND outcome <= :last AND (:session IS NULL OR +session = :session)",
            "outcome",
        ),
    };
    format!(
        "SELECT * FROM commands WHERE {place}
         AND (:since IS NULL OR time_us >= :since) AND (:until IS NULL OR time_us < :until)
         AND (:agent IS NULL OR agent = :agent) AND (:target IS NULL OR target = :target)
         AND (:status IS NULL OR status = :status) AND (:run IS NULL OR run = :run)
         AND (:class IS NULL OR class = :class) AND (:before IS NULL OR id < :before)
         AND (:text IS NULL OR instr(lower(statement), lower(:text)) > 0)
         ORDER BY {order}"
    )
}

fn contains(row: &Row<'_>, text: Option<&str>) -> rusqlite::Result<bool> {
    let Some(text) = text else { return Ok(true) };
    let statement = row.get_ref("statement")?.as_str_or_null()?;
    Ok(statement.is_some_and(|statement| statement.to_lowercase().contains(text)))
}

#[cfg(test)]
mod tests;
