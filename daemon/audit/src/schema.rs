//! The log's layout: one append-only table a kind of record, and views for auditors.
//!
//! `seq` counts over all tables without gaps. Times are microseconds since 1970 in UTC; the views
//! show them as text. Triggers keep the tables append-only, also for other programs; they guard
//! against accidents, not against someone who may write the file.
//!
//! Does not belong here: what is written and read.

use std::path::Path;

use rusqlite::Connection;

use crate::AuditError;

/// `PRAGMA application_id`: "chap".
const APPLICATION_ID: i32 = 0x6368_6170;

/// The first layout that is carried on: those before it were never released.
const FIRST: u32 = 3;
/// The first makes [`FIRST`], each other brings its layout to the next; what has been released is
/// never changed.
const STEPS: [&str; 2] = [include_str!("schema/log.sql"), include_str!("schema/holds.sql")];
/// The layout that this version writes: one more a step.
const LAYOUT: u32 = 4;
const _: () = assert!((LAYOUT - FIRST + 1) as usize == STEPS.len());

/// The tables of records.
pub(crate) const TABLES: [&str; 13] = [
    "daemon_started",
    "run",
    "process",
    "session_opened",
    "session_started",
    "session_signed_on",
    "intent",
    "outcome",
    "hold_opened",
    "hold_voted",
    "hold_ended",
    "session_closed",
    "event",
];

/// Brings a database up to date.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), AuditError> {
    let (id, found) = marks(connection).map_err(|e| AuditError::opening(path, e))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if id != APPLICATION_ID && (tables > 0 || found > 0) {
        return Err(AuditError::NotALog(path.into()));
    }
    known(path, found)?;
    for (version, sql) in (FIRST..).zip(STEPS).filter(|(version, _)| *version > found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Whether a database is a log that this version reads.
pub(crate) fn check(connection: &Connection, path: &Path) -> Result<(), AuditError> {
    let (id, found) = marks(connection).map_err(|e| AuditError::opening(path, e))?;
    if id != APPLICATION_ID {
        return Err(AuditError::NotALog(path.into()));
    }
    known(path, found)?;
    if found < LAYOUT {
        return Err(AuditError::Older { path: path.into(), found, known: LAYOUT });
    }
    Ok(())
}

/// 0 is a file that was just made.
fn known(path: &Path, found: u32) -> Result<(), AuditError> {
    match found {
        1..FIRST => Err(AuditError::Unreleased { path: path.into(), found }),
        0..=LAYOUT => Ok(()),
        _ => Err(AuditError::Newer { path: path.into(), found, known: LAYOUT }),
    }
}

/// The number of the last record.
pub(crate) fn last_seq(connection: &Connection) -> Result<u64, AuditError> {
    let mut last = 0;
    for table in TABLES {
        let sql = format!("SELECT coalesce(max(seq), 0) FROM {table}");
        last = last.max(connection.query_row(&sql, [], |row| row.get(0))?);
    }
    Ok(last)
}

/// Whose file it is, and its layout.
fn marks(connection: &Connection) -> rusqlite::Result<(i32, u32)> {
    let id = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let layout = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((id, layout))
}
