//! Erasing the content of a command: its statement, parameters and response, and the command lines
//! of the process that sent it and of those above. What they were committed to in the tree stands,
//! and with the key of that commitment goes all that could tell what they were.
//!
//! Does not belong here: who may ask for it.

use std::{collections::BTreeSet, path::Path, time::Duration};

use chaperone_model::{Erased, Record, Seq};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    AuditError,
    canonical::{Canonical, Content},
    chain, files, read, search,
    table::{DIGEST, INTENT, KEY, OUTCOME, PROCESS, TABLES, Table},
    writer::{Log, Shared, checkpoint, lock_of},
};

/// Rows that content is found in: a record's number, and its table.
type Places = BTreeSet<(Seq, &'static str)>;

impl Log {
    /// Erases what a command and what came of it say, in all files, and records that. Other commands
    /// that refer to the same text or response lose it with it. Answers the records.
    ///
    /// # Errors
    /// [`AuditError`]; where it was recorded and then failed, asking again goes on with it.
    pub fn erase(&self, mut erased: Erased) -> Result<Vec<Seq>, AuditError> {
        let shared = self.shared();
        let mut writer = lock_of(&shared.writer);
        shared.commit_with(&mut writer, None)?;
        let older = chain::before(&writer.appender.path)?;
        let mut places = content_of(&writer.appender.connection, erased.command)?;
        for file in &older {
            places.extend(content_of(&files::connect_reading(file)?, erased.command)?);
        }
        let records: Vec<Seq> = places.iter().map(|(seq, _)| *seq).collect();
        if records.is_empty() {
            return Ok(records);
        }
        erased.records = format!(
            "[{}]",
            records.iter().map(|seq| seq.0.to_string()).collect::<Vec<_>>().join(",")
        );
        writer.appender.forget();
        writer.appender.connection.pragma_update(None, "secure_delete", true)?;
        let done = writer.appender.erase(&Record::Erased(erased), &places);
        let _ = writer.appender.connection.pragma_update(None, "secure_delete", false);
        done?;
        shared.flusher.sync()?;
        let current = writer.appender.path.clone();
        drop(writer);
        shared.out_of_the_wal(files::connect(&current)?)?;
        search::forget(&current, &places)?;
        for file in &older {
            shared.out_of_the_wal(erase_in(file, &places)?)?;
            search::forget(file, &places)?;
        }
        Ok(records)
    }
}

impl Shared {
    /// What was erased leaves the file's WAL as well; where a reader is in the way, when it is gone.
    fn out_of_the_wal(&self, connection: Connection) -> Result<(), AuditError> {
        if checkpoint(&connection, "TRUNCATE")?.0 != 0 {
            connection.busy_timeout(Duration::ZERO)?;
            lock_of(&self.untidy).push(connection);
            self.ticker.wake();
        }
        Ok(())
    }
}

/// The rows that a command's content is in.
fn content_of(connection: &Connection, command: Seq) -> Result<Places, AuditError> {
    let mut candidates = Places::new();
    let id = command.0.cast_signed();
    let about: Option<(i64, Option<i64>, Option<i64>)> = connection
        .prepare_cached("SELECT session, statement, text_of FROM intent WHERE seq = ?")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let mut add = |table: &'static Table, seq: Option<i64>| {
        candidates.extend(seq.map(|seq| (Seq(seq.cast_unsigned()), table.name)));
    };
    if let Some((session, statement, text_of)) = about {
        add(&INTENT, Some(id));
        add(&INTENT, text_of);
        // A statement is often an argument of the program that ran it, and of what started that.
        let mut processes = connection.prepare_cached(
            "WITH RECURSIVE above (seq) AS (
                 SELECT process FROM session_opened WHERE seq = ?
                 UNION
                 SELECT parent FROM above JOIN process USING (seq) WHERE parent IS NOT NULL)
             SELECT seq FROM above",
        )?;
        let mut rows = processes.query([session])?;
        while let Some(row) = rows.next()? {
            add(&PROCESS, row.get(0)?);
        }
        if statement.is_some() {
            let mut prepared = connection.prepare_cached(
                "SELECT seq, text_of FROM intent WHERE session = ? AND statement = ? AND kind = 'prepare'",
            )?;
            let mut rows = prepared.query(params![session, statement])?;
            while let Some(row) = rows.next()? {
                add(&INTENT, row.get(0)?);
                add(&INTENT, row.get(1)?);
            }
        }
    }
    let mut outcomes =
        connection.prepare_cached("SELECT seq, response_of FROM outcome WHERE intent = ?")?;
    let mut rows = outcomes.query([id])?;
    while let Some(row) = rows.next()? {
        add(&OUTCOME, row.get(0)?);
        add(&OUTCOME, row.get(1)?);
    }
    let mut found = Places::new();
    for (seq, name) in candidates {
        let sql = format!("SELECT 1 FROM {name} WHERE seq = ? AND {KEY} IS NOT NULL");
        if connection.prepare_cached(&sql)?.exists([seq.0.cast_signed()])? {
            found.insert((seq, name));
        }
    }
    Ok(found)
}

/// Erases rows of a file, as far as they are in it.
pub(crate) fn erase(connection: &Connection, places: &Places) -> Result<(), AuditError> {
    let mut canonical = Canonical::default();
    for (seq, name) in places {
        let Some(table) = TABLES.iter().find(|table| table.name == *name) else { continue };
        let id = seq.0.cast_signed();
        let mut found = connection.prepare(&format!("SELECT * FROM {name} WHERE seq = ?"))?;
        let mut rows = found.query([id])?;
        let digest = match rows.next()? {
            Some(row) => match read::values(table, row)? {
                (values, Content::Kept(key)) => canonical.digest(table, &values, key),
                _ => continue,
            },
            None => continue,
        };
        drop(rows);
        let content = table.content.join(" = NULL, ");
        connection.execute(
            &format!(
                "UPDATE {name} SET {content} = NULL, {KEY} = NULL, {DIGEST} = ? WHERE seq = ?"
            ),
            params![digest, id],
        )?;
    }
    Ok(())
}

fn erase_in(file: &Path, places: &Places) -> Result<Connection, AuditError> {
    let mut connection = files::connect(file)?;
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction = connection.transaction()?;
    erase(&transaction, places)?;
    transaction.commit()?;
    Ok(connection)
}
