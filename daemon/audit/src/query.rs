//! Reading the log, also from another process and under another user, while it is written and
//! after a crash.

use std::path::Path;

use chaperone_model::{Seq, Timestamp};
use rusqlite::{Connection, OpenFlags, Row, ToSql, named_params};
use serde::Serialize;

use crate::{AuditError, schema};

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
    /// Whose statement contains this text; letters of either case, nothing else is special.
    pub text: Option<String>,
    /// With this status.
    pub status: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<u32>,
}

/// A row of the view `commands`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CommandRow {
    /// Number of the command's record.
    pub id: u64,
    /// Which statement of the command, from 0.
    pub part: u32,
    /// When, in UTC (RFC 3339).
    pub time: String,
    /// The session.
    pub session: u64,
    /// The agent.
    pub agent: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// The account at the target, as the agent said.
    pub user: Option<String>,
    /// The database, as the agent said.
    pub database: Option<String>,
    /// `query`, `prepare`, `execute`, `fetch`, `cancel`, `call`.
    pub kind: String,
    /// The statement.
    pub statement: Option<String>,
    /// Its parameters, as a JSON array.
    pub parameters: Option<String>,
    /// Whether some of them were not kept.
    pub parameters_cut: bool,
    /// `allow` or `deny`.
    pub verdict: String,
    /// The rule that said so.
    pub rule: String,
    /// `ok`, `error`, `suspended`, `skipped`, `refused`, `unknown`, `pending`.
    pub status: String,
    /// The target's word for what was done.
    pub tag: Option<String>,
    /// Rows in the response.
    pub rows: Option<u64>,
    /// Bytes of the response.
    pub bytes: Option<u64>,
    /// Bytes of data that the agent sent along.
    pub bytes_in: Option<u64>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<f64>,
    /// The target's error code.
    pub error_code: Option<String>,
    /// The target's error message.
    pub error_message: Option<String>,
    /// The transaction afterwards: `idle`, `open`, `failed`.
    pub transaction_state: Option<String>,
    /// User id of the process.
    pub uid: Option<u32>,
    /// The process.
    pub pid: Option<u32>,
    /// Its program.
    pub executable: Option<String>,
    /// Number of the outcome's record.
    pub outcome: Option<u64>,
}

/// What came back from one statement of a command.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The statement.
    #[serde(flatten)]
    pub command: CommandRow,
    /// The columns' names, as a JSON array.
    pub columns: Option<String>,
    /// The rows that were kept, as a JSON array.
    pub response: Option<String>,
    /// How many.
    pub kept: Option<u64>,
    /// Whether there were more.
    pub truncated: bool,
    /// The notices, as a JSON array.
    pub notices: Option<String>,
}

/// A command with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CommandDetail {
    /// Its session.
    pub session: Option<SessionRow>,
    /// Its statements.
    pub parts: Vec<Part>,
}

/// A row of the view `sessions`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionRow {
    /// Number of the session's first record.
    pub id: u64,
    /// When, in UTC.
    pub opened: String,
    /// When, in UTC; nothing while it is live.
    pub closed: Option<String>,
    /// The agent.
    pub agent: String,
    /// User id of the process.
    pub uid: u32,
    /// The process.
    pub pid: u32,
    /// Its program.
    pub executable: Option<String>,
    /// Its command line.
    pub command_line: Option<String>,
    /// Its cgroup.
    pub cgroup: Option<String>,
    /// The target.
    pub target: String,
    /// The address that the agent asked for.
    pub server: String,
    /// The account at the target, as the agent said.
    pub user: Option<String>,
    /// The database, as the agent said.
    pub database: Option<String>,
    /// What the client calls itself.
    pub application: Option<String>,
    /// Commands, without those that only prepared.
    pub commands: u64,
    /// `agent`, `target` or `daemon`.
    pub closed_by: Option<String>,
    /// Why.
    pub detail: Option<String>,
}

/// A row of the view `events`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventRow {
    /// Number of its record.
    pub id: u64,
    /// When, in UTC.
    pub time: String,
    /// The session, where it belongs to one.
    pub session: Option<u64>,
    /// Which kind.
    pub kind: String,
    /// A sentence.
    pub detail: String,
}

/// A log that is open for reading.
pub struct Reader(Connection);

const FILTER: &str = "(:since IS NULL OR time_us >= :since) AND (:until IS NULL OR time_us < :until)
    AND (:agent IS NULL OR agent = :agent) AND (:target IS NULL OR target = :target)
    AND (:text IS NULL OR instr(lower(statement), lower(:text)) > 0)
    AND (:status IS NULL OR status = :status)";

impl Reader {
    /// Opens a log.
    ///
    /// # Errors
    /// [`AuditError`], each a sentence for whoever asked.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        if !path.exists() {
            return Err(AuditError::Missing(path.into()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        schema::check(&connection, path)?;
        Ok(Self(connection))
    }

    /// The newest commands that a filter lets through, oldest first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn commands(&self, filter: &Filter) -> Result<Vec<CommandRow>, AuditError> {
        // `session = …` is a condition of its own so that its index is used.
        let session = filter.session.map_or("TRUE".into(), |s| format!("session = {}", s.0));
        let sql = format!(
            "SELECT * FROM commands WHERE {session} AND {FILTER} ORDER BY id DESC, part DESC LIMIT :limit"
        );
        let mut rows = self.select(&sql, filter, &[(":limit", &filter.limit.unwrap_or(u32::MAX))])?;
        rows.reverse();
        Ok(rows)
    }

    /// Commands whose outcome was recorded after the record `after`, in the order of their
    /// outcomes. A follower passes the largest `outcome` that it has seen, and so neither misses a
    /// command nor sees one twice: outcomes come later than commands, and never before others.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn finished_after(&self, after: Seq, filter: &Filter) -> Result<Vec<CommandRow>, AuditError> {
        let session = filter.session.map_or("TRUE".into(), |s| format!("session = {}", s.0));
        let sql = format!(
            "SELECT * FROM commands WHERE outcome > :after AND {session} AND {FILTER} ORDER BY outcome"
        );
        self.select(&sql, filter, &[(":after", &after.0.cast_signed())])
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
                "SELECT c.*, o.columns, o.response, o.kept, o.truncated, o.notices
                 FROM commands c LEFT JOIN outcome o ON o.seq = c.outcome
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
        let Some(first) = parts.first() else { return Ok(None) };
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
            .query_map([limit], |row| {
                Ok(EventRow {
                    id: row.get("id")?,
                    time: row.get("time")?,
                    session: row.get("session")?,
                    kind: row.get("kind")?,
                    detail: row.get("detail")?,
                })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    fn select(
        &self,
        sql: &str,
        filter: &Filter,
        more: &[(&str, &dyn ToSql)],
    ) -> Result<Vec<CommandRow>, AuditError> {
        let (since, until) = (filter.since.map(|t| t.0), filter.until.map(|t| t.0));
        let common = named_params! {
            ":since": since, ":until": until, ":agent": filter.agent, ":target": filter.target,
            ":text": filter.text, ":status": filter.status,
        };
        let params: Vec<_> = common.iter().chain(more).copied().collect();
        let rows = self
            .0
            .prepare(sql)?
            .query_map(params.as_slice(), command_row)?
            .collect::<Result<Vec<_>, _>>()?;
        Ok(rows)
    }
}

fn command_row(row: &Row<'_>) -> rusqlite::Result<CommandRow> {
    Ok(CommandRow {
        id: row.get("id")?,
        part: row.get("part")?,
        time: row.get("time")?,
        session: row.get("session")?,
        agent: row.get("agent")?,
        target: row.get("target")?,
        user: row.get("user")?,
        database: row.get("database")?,
        kind: row.get("kind")?,
        statement: row.get("statement")?,
        parameters: row.get("parameters")?,
        parameters_cut: row.get("parameters_cut")?,
        verdict: row.get("verdict")?,
        rule: row.get("rule")?,
        status: row.get("status")?,
        tag: row.get("tag")?,
        rows: row.get("rows")?,
        bytes: row.get("bytes")?,
        bytes_in: row.get("bytes_in")?,
        duration_ms: row.get("duration_ms")?,
        error_code: row.get("error_code")?,
        error_message: row.get("error_message")?,
        transaction_state: row.get("transaction_state")?,
        uid: row.get("uid")?,
        pid: row.get("pid")?,
        executable: row.get("executable")?,
        outcome: row.get("outcome")?,
    })
}

fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        id: row.get("id")?,
        opened: row.get("opened")?,
        closed: row.get("closed")?,
        agent: row.get("agent")?,
        uid: row.get("uid")?,
        pid: row.get("pid")?,
        executable: row.get("executable")?,
        command_line: row.get("command_line")?,
        cgroup: row.get("cgroup")?,
        target: row.get("target")?,
        server: row.get("server")?,
        user: row.get("user")?,
        database: row.get("database")?,
        application: row.get("application")?,
        commands: row.get("commands")?,
        closed_by: row.get("closed_by")?,
        detail: row.get("detail")?,
    })
}

#[cfg(test)]
mod tests;
