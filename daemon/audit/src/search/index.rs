//! The file of words: made, filled behind the writer from where it was left, and emptied of what is
//! erased.
//!
//! It can be deleted at any time: it is made anew. Its cursor is the number of the last outcome that
//! is in it, committed with the words, and the leaf of that record tells whether it is of this log.
//! Does not belong here: what is asked of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use chaperone_model::{Seq, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{document::Document, path_of};
use crate::{
    AuditError, Filter, Reader, chain, files, read,
    tree::{Hash, Subtree},
    writer::{checkpoint, spawn},
};

/// Its layout; another one is made anew.
const LAYOUT: u32 = 1;
/// Outcomes that are taken in at a time: neither their snapshot nor the transaction lasts long.
const BATCH: usize = 1000;
/// How often it is looked whether there is more.
const EVERY: Duration = Duration::from_millis(500);
/// How long somebody waits who erases, until a batch is in.
const BUSY: Duration = Duration::from_secs(30);
/// Records of which the earliest and latest times are kept together: 4096.
const BLOCK: u32 = 12;
/// Documents whose log is no longer kept and that are taken out at a time.
const FORGET: u32 = 5000;

/// The thread that fills it; ended by being dropped.
pub struct Indexing {
    ends: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Indexing {
    /// Begins to fill the file of a log.
    ///
    /// # Errors
    /// [`AuditError`] where the thread cannot be started.
    pub fn start(log: &Path) -> Result<Self, AuditError> {
        let ends = Arc::new((Mutex::new(false), Condvar::new()));
        let (log, waits) = (log.to_owned(), ends.clone());
        let thread = spawn("log-index", move || {
            let mut index = None;
            let mut told = None;
            loop {
                let more = match step(&log, &mut index) {
                    Ok(more) => {
                        told = None;
                        more
                    }
                    Err(error) => {
                        // Next time from the file as it is then.
                        index = None;
                        let error = error.to_string();
                        if told.as_ref() != Some(&error) {
                            tracing::warn!(
                                error,
                                "what is new in the log is not indexed for search"
                            );
                        }
                        told = Some(error);
                        false
                    }
                };
                let (lock, wake) = &*waits;
                let ends = lock.lock().unwrap_or_else(PoisonError::into_inner);
                let wait = if more { Duration::ZERO } else { EVERY };
                let (ends, _) = wake
                    .wait_timeout_while(ends, wait, |ends| !*ends)
                    .unwrap_or_else(PoisonError::into_inner);
                if *ends {
                    break;
                }
            }
        })?;
        Ok(Self { ends, thread: Some(thread) })
    }
}

impl Drop for Indexing {
    fn drop(&mut self) {
        *self.ends.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ends.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The number of the last outcome that can be searched by words, and that of the log's last outcome.
///
/// # Errors
/// [`AuditError`].
pub fn lag(log: &Path) -> Result<(Seq, Seq), AuditError> {
    let reader = Reader::open(log)?;
    let indexed = open_reading(&reader).map_or(Seq(0), |index| index.cursor);
    Ok((indexed, reader.last_outcome()?))
}

struct Index {
    connection: Connection,
    reader: Reader,
}

/// An index that is read.
pub(super) struct Reading {
    pub(super) connection: Connection,
    pub(super) cursor: Seq,
}

/// Opens it for reading; says why not where it cannot be used.
pub(super) fn open_reading(reader: &Reader) -> Result<Reading, String> {
    let path = path_of(reader.path());
    if !path.exists() {
        return Err("there is no index beside the log".into());
    }
    let connection = files::connect_reading(&path)
        .map_err(|error| format!("the index beside the log cannot be read ({error})"))?;
    match state(&connection, reader) {
        Ok(Some(cursor)) => Ok(Reading { connection, cursor }),
        Ok(None) => Err("the index beside the log is of another log".into()),
        Err(_) => Err("the index beside the log is damaged or of another version".into()),
    }
}

/// Its cursor, where it is of this log.
fn state(connection: &Connection, reader: &Reader) -> Result<Option<Seq>, AuditError> {
    let (layout, cursor, leaf): (u32, u64, Option<Vec<u8>>) =
        connection.query_row("SELECT layout, cursor, leaf FROM state", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    if layout != LAYOUT {
        return Err(AuditError::Database("another layout".into()));
    }
    let same = match leaf.map(Hash::try_from) {
        None => cursor == 0,
        Some(leaf) => reader.leaf(Seq(cursor))?.is_some_and(|found| leaf == Ok(found)),
    };
    Ok(same.then_some(Seq(cursor)))
}

/// Takes in what is new, a batch of it. Answers whether there is more.
fn step(log: &Path, index: &mut Option<Index>) -> Result<bool, AuditError> {
    let index = match index {
        Some(index) => index,
        None => index.insert(open(log)?),
    };
    let last = index.reader.last_outcome()?;
    let cursor: u64 =
        index.connection.query_row("SELECT cursor FROM state", [], |row| row.get(0))?;
    let kept = index.reader.first_kept()?;
    if cursor >= last.0 && !has_old(&index.connection, kept)? {
        return purge(&index.connection);
    }
    // Before anything is read: who erases waits until it is in, and takes it out again.
    let transaction = rusqlite::Transaction::new_unchecked(
        &index.connection,
        rusqlite::TransactionBehavior::Immediate,
    )?;
    let (batch, next) = index.reader.finished(Seq(cursor), last, &Filter::default(), BATCH)?;
    let mut ids: Vec<u64> = batch.iter().map(|one| one.part.command.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut leaf = None;
    for one in &batch {
        if one.part.command.outcome == Some(next.0) {
            leaf = one.outcome_leaf;
        }
    }
    for id in ids {
        if let Some(document) = Document::of(&index.reader, Seq(id))? {
            transaction
                .prepare_cached("DELETE FROM words WHERE rowid = ?")?
                .execute([id.cast_signed()])?;
            add(&transaction, &document)?;
            transaction
                .prepare_cached(
                    "INSERT INTO block VALUES (?1, ?2, ?2) ON CONFLICT (number) DO UPDATE
                     SET first = min(first, ?2), last = max(last, ?2)",
                )?
                .execute(params![(id >> BLOCK).cast_signed(), document.at])?;
        }
    }
    if next.0 > cursor {
        let leaf = match leaf {
            Some(leaf) => Some(leaf),
            None => index.reader.leaf(next)?,
        };
        transaction.execute("UPDATE state SET cursor = ?, leaf = ?", params![next.0, leaf])?;
    }
    forget_old(&transaction, kept)?;
    transaction.commit()?;
    let _ = checkpoint(&index.connection, "PASSIVE");
    Ok(next < last || has_old(&index.connection, kept)?)
}

/// Opens it for writing; makes it anew where it is missing, damaged, or of another log.
fn open(log: &Path) -> Result<Index, AuditError> {
    let reader = Reader::open(log)?;
    let path = path_of(log);
    if path.exists() {
        let usable = files::connect(&path).and_then(|connection| {
            let cursor = state(&connection, &reader)?;
            Ok(cursor.map(|_| connection))
        });
        match usable {
            Ok(Some(connection)) => return Ok(Index { connection: settings(connection)?, reader }),
            Ok(None) => tracing::info!("the search index is of another log, and is made anew"),
            Err(error) => {
                tracing::info!(%error, "the search index cannot be used, and is made anew");
            }
        }
    }
    // Also what SQLite left beside a file that is gone: it would take that for the new one's.
    remove(&path)?;
    files::make_file(&path)?;
    let connection = settings(files::connect(&path)?)?;
    connection.execute_batch(
        "BEGIN;
         CREATE TABLE state (layout INTEGER NOT NULL, cursor INTEGER NOT NULL, leaf BLOB,
                             erased INTEGER NOT NULL) STRICT;
         CREATE TABLE block (number INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL) STRICT;",
    )?;
    make_words(&connection)?;
    connection.execute("INSERT INTO state VALUES (?, 0, NULL, 0)", [LAYOUT])?;
    connection.execute_batch("COMMIT")?;
    Ok(Index { connection, reader })
}

fn settings(connection: Connection) -> Result<Connection, AuditError> {
    connection.busy_timeout(BUSY)?;
    // What is taken out leaves nothing behind.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(connection)
}

fn remove(path: &Path) -> Result<(), AuditError> {
    for suffix in ["", "-wal", "-shm"] {
        let file: PathBuf = files::with_suffix(path, suffix);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(AuditError::file("removing", file, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The words themselves are not kept a second time; phrases need their places.
pub(super) fn make_words(connection: &Connection) -> Result<(), AuditError> {
    connection.execute_batch(
        "CREATE VIRTUAL TABLE words USING fts5
         (body, content = '', contentless_delete = 1, tokenize = 'unicode61')",
    )?;
    Ok(())
}

pub(super) fn add(connection: &Connection, document: &Document) -> Result<(), AuditError> {
    connection
        .prepare_cached("INSERT INTO words (rowid, body) VALUES (?, ?)")?
        .execute(params![document.id.cast_signed(), document.body])?;
    Ok(())
}

/// The numbers that commands of a time may have.
pub(super) fn bounds(
    connection: &Connection,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<(i64, i64), AuditError> {
    let first: Option<i64> = match since {
        None => Some(0),
        Some(since) => connection.query_row(
            "SELECT min(number) FROM block WHERE last >= ?",
            [since.0],
            |row| row.get(0),
        )?,
    };
    let last: Option<i64> = match until {
        None => Some(i64::MAX >> BLOCK),
        Some(until) => connection.query_row(
            "SELECT max(number) FROM block WHERE first < ?",
            [until.0],
            |row| row.get(0),
        )?,
    };
    let (Some(first), Some(last)) = (first, last) else { return Ok((1, 0)) };
    Ok((first << BLOCK, (last << BLOCK) | ((1 << BLOCK) - 1)))
}

/// Takes commands out of the index of a log, where it has one.
pub(crate) fn forget(log: &Path, commands: &[Seq]) -> Result<(), AuditError> {
    let path = path_of(log);
    if !path.exists() {
        return Ok(());
    }
    let mut connection = settings(files::connect(&path)?)?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for command in commands {
        transaction.execute("DELETE FROM words WHERE rowid = ?", [command.0.cast_signed()])?;
    }
    transaction.execute("UPDATE state SET erased = 1", [])?;
    transaction.commit()?;
    Ok(())
}

/// What was taken out is only marked as gone until the parts that it is in are written anew: that is
/// done while there is nothing else to do. Answers whether there is more of it.
fn purge(connection: &Connection) -> Result<bool, AuditError> {
    let erased: bool = connection.query_row("SELECT erased FROM state", [], |row| row.get(0))?;
    if !erased {
        return Ok(false);
    }
    connection.execute("INSERT INTO words (words) VALUES ('optimize')", [])?;
    connection.execute("UPDATE state SET erased = 0", [])?;
    checkpoint(connection, "TRUNCATE")?;
    Ok(false)
}

/// Whether there are words of records that are no longer kept.
fn has_old(connection: &Connection, kept: Seq) -> Result<bool, AuditError> {
    let oldest: Option<i64> =
        connection.query_row("SELECT min(number) FROM block", [], |row| row.get(0))?;
    Ok(oldest.is_some_and(|oldest| (oldest + 1) << BLOCK <= kept.0.cast_signed()))
}

fn forget_old(connection: &Connection, kept: Seq) -> Result<(), AuditError> {
    let mut blocks = 0;
    while blocks * (1 << BLOCK) < FORGET && has_old(connection, kept)? {
        let oldest: i64 =
            connection.query_row("SELECT min(number) FROM block", [], |row| row.get(0))?;
        connection.execute(
            "DELETE FROM words WHERE rowid BETWEEN ? AND ?",
            [oldest << BLOCK, (oldest << BLOCK) | ((1 << BLOCK) - 1)],
        )?;
        connection.execute("DELETE FROM block WHERE number = ?", [oldest])?;
        connection.execute("UPDATE state SET erased = 1", [])?;
        blocks += 1;
    }
    Ok(())
}

impl Reader {
    /// The leaf of a record, in whichever file the tree has it.
    fn leaf(&self, seq: Seq) -> Result<Option<Hash>, AuditError> {
        let Some(number) = seq.0.checked_sub(1) else { return Ok(None) };
        for file in chain::all(self.path())? {
            let connection = files::connect_reading(&file)?;
            if let Some(hash) = read::hash(&connection, Subtree { level: 0, number })? {
                return Ok(Some(hash));
            }
        }
        Ok(None)
    }

    /// The first record whose file still has its records.
    fn first_kept(&self) -> Result<Seq, AuditError> {
        let mut first = Seq(1);
        for file in chain::all(self.path())? {
            let connection = files::connect_reading(&file)?;
            let (begins, retired): (u64, bool) = connection
                .query_row("SELECT first_seq, retired IS NOT NULL FROM file", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?
                .unwrap_or((1, false));
            if retired {
                break;
            }
            first = Seq(begins);
        }
        Ok(first)
    }
}
