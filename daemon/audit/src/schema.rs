//! The log's layout: one append-only table a kind of record, and views for auditors.
//!
//! `seq` counts over all tables without gaps. Times are microseconds since 1970 in UTC; the views
//! show them as text. Triggers keep the tables append-only, also for other programs; they guard
//! against accidents, not against someone who may write the file.
//!
//! Does not belong here: what is written and read.

use std::{fmt::Write as _, path::Path};

use rusqlite::Connection;

use crate::{
    AuditError,
    table::{DIGEST, KEY, TABLES, Table},
};

/// `PRAGMA application_id`: "chap".
const APPLICATION_ID: i32 = 0x6368_6170;

/// The layout that this version writes. Those before it were never released, and are not carried on;
/// from the first release on a step brings each to the next.
const LAYOUT: u32 = 8;
const TABLES_SQL: &str = include_str!("schema/log.sql");
const VIEWS_SQL: &str =
    concat!(include_str!("schema/views.sql"), include_str!("schema/auditors.sql"));

/// Brings a database up to date.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), AuditError> {
    let (id, found) = marks(connection).map_err(|e| AuditError::opening(path, e))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if id != APPLICATION_ID && (tables > 0 || found > 0) {
        return Err(AuditError::NotALog(path.into()));
    }
    known(path, found)?;
    if found == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES_SQL)?;
        for table in TABLES {
            transaction.execute_batch(&guards(table))?;
        }
        transaction.execute_batch(VIEWS_SQL)?;
        transaction.pragma_update(None, "user_version", LAYOUT)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Nothing is changed or removed, but that content is erased; and nothing is added but at the end:
/// REPLACE removes a row without asking the triggers for DELETE. What is carried over from an
/// earlier file has a number from before this one's first.
fn guards(table: &Table) -> String {
    let (name, no) = (table.name, "SELECT RAISE(ABORT, 'the log is append-only');");
    let fixed = table.columns.join(", ");
    let mut sql = format!(
        "CREATE TRIGGER {name}_u BEFORE UPDATE OF {fixed} ON {name} BEGIN {no} END;
         CREATE TRIGGER {name}_d BEFORE DELETE ON {name} BEGIN {no} END;
         CREATE TRIGGER {name}_i BEFORE INSERT ON {name} WHEN NEW.seq <= (SELECT max(seq) FROM {name})
           AND (NEW.seq >= (SELECT first_seq FROM file WHERE one = 1) OR EXISTS (SELECT 1 FROM {name} WHERE seq = NEW.seq))
           BEGIN {no} END;"
    );
    if !table.content.is_empty() {
        let changed = table.content.join(", ");
        let kept = table.content.iter().map(|column| format!("NEW.{column} IS NOT NULL OR "));
        let kept: String = kept.collect();
        let _ = write!(
            sql,
            "CREATE TRIGGER {name}_c BEFORE UPDATE OF {changed}, {KEY}, {DIGEST} ON {name}
             WHEN {kept}NEW.{KEY} IS NOT NULL OR NEW.{DIGEST} IS NULL OR OLD.{DIGEST} IS NOT NULL
             BEGIN {no} END;"
        );
    }
    sql
}

/// Whether a database is a log that this version reads.
pub(crate) fn check(connection: &Connection, path: &Path) -> Result<(), AuditError> {
    let (id, found) = marks(connection).map_err(|e| AuditError::opening(path, e))?;
    if id != APPLICATION_ID {
        return Err(AuditError::NotALog(path.into()));
    }
    known(path, found)
}

/// 0 is a file that was just made.
fn known(path: &Path, found: u32) -> Result<(), AuditError> {
    match found {
        1..LAYOUT => Err(AuditError::Unreleased { path: path.into(), found }),
        0 | LAYOUT => Ok(()),
        _ => Err(AuditError::Newer { path: path.into(), found, known: LAYOUT }),
    }
}

/// Whose file it is, and its layout.
fn marks(connection: &Connection) -> rusqlite::Result<(i32, u32)> {
    let id = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let layout = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((id, layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_that_records_are_written_to() {
        let mut connection = Connection::open_in_memory().expect("a database");
        migrate(&mut connection, Path::new("log")).expect("a layout");
        for table in TABLES {
            let found: Vec<String> = connection
                .prepare(&format!("SELECT name FROM pragma_table_info('{}')", table.name))
                .and_then(|mut s| s.query_map([], |row| row.get(0))?.collect())
                .expect("columns");
            assert_eq!(found, table.all_columns().collect::<Vec<_>>(), "{}", table.name);
        }
        let with_seq: i64 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema s WHERE type = 'table' AND name <> 'tree'
                 AND EXISTS (SELECT 1 FROM pragma_table_info(s.name) WHERE name = 'seq')",
                [],
                |row| row.get(0),
            )
            .expect("a count");
        assert_eq!(usize::try_from(with_seq), Ok(TABLES.len()));
    }
}
