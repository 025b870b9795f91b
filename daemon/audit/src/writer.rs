//! Appending: callers queue their records, and whoever holds the connection commits all that is
//! queued, so that one caller pays one commit and many share one. What waits for nothing rides
//! along with the next commit or a short timer.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    future::Future,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chaperone_model::{
    Closing, CommandStatus, Event, EventKind, Outcome, Record, Seq, SessionClosed, Timestamp,
};
use rusqlite::{Connection, config::DbConfig};

use crate::{
    AuditError,
    insert::{insert, weight},
    schema,
    threads::{Flusher, Ticker},
};

/// The proof that a record is committed. Neither made elsewhere nor copied; forwarding consumes it.
#[derive(Debug)]
#[must_use = "a receipt that is dropped forwards nothing"]
pub struct Receipt(Seq);

impl Receipt {
    /// The record's place in the log.
    pub fn seq(&self) -> Seq {
        self.0
    }
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of records that may wait to ride along; beyond that whoever adds one commits.
    pub queue_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { queue_bytes: 16 << 20 }
    }
}

/// The log's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Number of the last record.
    pub last: Seq,
    /// Bytes of records that wait.
    pub queued_bytes: usize,
    /// Records that were lost, because they could not be written and no more could wait.
    pub lost: u64,
    /// Why the last commit failed, where it did.
    pub error: Option<String>,
}

/// A log that is open for writing. Clones are handles of the same log.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    // Dropped with the last handle: ends the threads.
    _threads: Arc<Threads>,
}

/// Records that are committed: they survive a killed daemon.
#[must_use = "the receipts are in here"]
pub struct Committed {
    seqs: Vec<Seq>,
    shared: Arc<Shared>,
}

impl Committed {
    /// The receipts, in the order of the records.
    pub fn receipts(self) -> Vec<Receipt> {
        self.seqs.into_iter().map(Receipt).collect()
    }

    /// The receipts once the records are on the disk as well: they survive a power cut.
    ///
    /// # Errors
    /// [`AuditError::Flush`]; the log then takes no more commits.
    pub fn flushed(self) -> impl Future<Output = Result<Vec<Receipt>, AuditError>> + Send + 'static {
        let flushed = self.shared.flusher.flushed();
        async move {
            flushed.await.unwrap_or_else(|_| Err(AuditError::Flush("the log was closed".into())))?;
            Ok(self.receipts())
        }
    }
}

pub(crate) struct Shared {
    path: PathBuf,
    options: Options,
    queue: Mutex<Queue>,
    writer: Mutex<Writer>,
    pub(crate) flusher: Flusher,
    pub(crate) ticker: Ticker,
    // Held as long as the log is open: one writer a log.
    _lock: File,
}

struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    batches: Vec<(Vec<Record>, Arc<Slot>)>,
    riders: Vec<Record>,
    rider_bytes: usize,
    lost: u64,
    /// Of the lost ones, those that the log has been told of.
    told: u64,
}

type Slot = Mutex<Option<Result<Vec<Seq>, AuditError>>>;

struct Writer {
    connection: Connection,
    last: Seq,
    written_bytes: usize,
    transactions: u64,
    error: Option<String>,
}

impl Log {
    /// Opens a log for writing, and makes it where there is none. What an earlier daemon left open
    /// is closed: its commands without an outcome get the outcome `unknown`.
    ///
    /// # Errors
    /// [`AuditError`], each a sentence for ops.
    pub fn open(path: &Path, options: Options) -> Result<Self, AuditError> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(folder)
            .map_err(|e| AuditError::file("making the log's folder", folder, &e))?;
        let lock = lock(path)?;
        // SQLite gives its other files the mode and group of this one.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)
            .map_err(|e| AuditError::file("opening the log", path, &e))?;
        let mut connection = connect(path)?;
        schema::migrate(&mut connection, path)?;
        checkpoint(&connection, "TRUNCATE")?;
        sync_folder(folder)?;
        let mut writer = Writer {
            last: Seq(schema::last_seq(&connection)?),
            connection,
            written_bytes: 0,
            transactions: 0,
            error: None,
        };
        writer.close_what_was_left_open()?;
        let wal = wal_path(path);
        let wal = File::open(&wal).map_err(|e| AuditError::file("opening", &wal, &e))?;
        let shared = Arc::new(Shared {
            path: path.into(),
            options,
            queue: Mutex::default(),
            writer: Mutex::new(writer),
            flusher: Flusher::default(),
            ticker: Ticker::default(),
            _lock: lock,
        });
        let checkpointer = connect(path)?;
        let handles = vec![
            shared.clone().spawn_flusher(wal)?,
            shared.clone().spawn_ticker(checkpointer)?,
        ];
        let threads = Threads { shared: shared.clone(), handles: Mutex::new(handles) };
        Ok(Self { shared, _threads: Arc::new(threads) })
    }

    /// Commits records, all of them or none, and answers with their receipts.
    ///
    /// # Errors
    /// [`AuditError`]; nothing was written then, and no number used.
    pub fn commit(&self, records: Vec<Record>) -> Result<Committed, AuditError> {
        let slot = Arc::new(Slot::default());
        lock_of(&self.shared.queue).batches.push((records, slot.clone()));
        let mut writer = lock_of(&self.shared.writer);
        // Another caller may have committed this batch with its own meanwhile.
        let done = lock_of(&slot).take();
        let result = match done {
            Some(result) => result,
            None => {
                self.shared.commit_queued(&mut writer);
                drop(writer);
                // `commit_queued` fills the slot of every batch that it took, and it took ours.
                lock_of(&slot)
                    .take()
                    .unwrap_or_else(|| Err(AuditError::Database("a batch was lost".into())))
            }
        };
        result.map(|seqs| Committed { seqs, shared: self.shared.clone() })
    }

    /// Adds a record that nobody waits for. It is committed with the next batch, or within some
    /// twenty milliseconds.
    pub fn ride_along(&self, record: Record) {
        let shared = &self.shared;
        let full = {
            let mut queue = lock_of(&shared.queue);
            queue.rider_bytes += weight(&record);
            queue.riders.push(record);
            queue.rider_bytes > shared.options.queue_bytes
        };
        if full {
            let mut writer = lock_of(&shared.writer);
            shared.commit_queued(&mut writer);
            shared.lose_excess();
        } else {
            shared.ticker.wake();
        }
    }

    /// How it is.
    pub fn stats(&self) -> Stats {
        let (last, error) = {
            let writer = lock_of(&self.shared.writer);
            (writer.last, writer.error.clone())
        };
        let queue = lock_of(&self.shared.queue);
        let error = error.or_else(|| self.shared.flusher.failure().map(|e| e.to_string()));
        Stats { last, queued_bytes: queue.rider_bytes, lost: queue.lost, error }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// How many transactions were committed: less than batches, where callers met.
    pub fn transactions(&self) -> u64 {
        lock_of(&self.shared.writer).transactions
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.ticker.end();
        self.shared.flusher.end();
        for handle in lock_of(&self.handles).drain(..) {
            let _ = handle.join();
        }
        // What still waits must not be lost.
        self.shared.commit_riders();
    }
}

impl Shared {
    /// Commits what rides along, where there is any.
    pub(crate) fn commit_riders(&self) {
        if !lock_of(&self.queue).riders.is_empty() {
            let mut writer = lock_of(&self.writer);
            self.commit_queued(&mut writer);
        }
    }

    /// Bytes written since the last call.
    pub(crate) fn take_written(&self) -> usize {
        std::mem::take(&mut lock_of(&self.writer).written_bytes)
    }

    /// Runs while nobody writes.
    pub(crate) fn while_quiet<T>(&self, run: impl FnOnce() -> T) -> T {
        let _writer = lock_of(&self.writer);
        run()
    }

    pub(crate) fn has_riders(&self) -> bool {
        !lock_of(&self.queue).riders.is_empty()
    }

    /// Commits all that is queued and answers those who wait.
    fn commit_queued(&self, writer: &mut Writer) {
        let (batches, mut riders, bytes, untold) = {
            let mut queue = lock_of(&self.queue);
            let bytes = std::mem::take(&mut queue.rider_bytes);
            let untold = queue.lost - queue.told;
            (std::mem::take(&mut queue.batches), std::mem::take(&mut queue.riders), bytes, untold)
        };
        let told = (untold > 0).then(|| {
            Record::Event(Event {
                at: Timestamp::from(std::time::SystemTime::now()),
                session: None,
                kind: EventKind::OutcomesLost,
                detail: format!("{untold} records were lost while the log could not be written"),
            })
        });
        let broken = self.flusher.failure();
        let result = match broken {
            Some(error) => Err(error),
            None => writer.write(batches.iter().map(|(records, _)| records.as_slice()), &riders, told.as_ref()),
        };
        match result {
            Ok(mut seqs) => {
                for (_, slot) in &batches {
                    *lock_of(slot) = seqs.next().map(Ok);
                }
                if untold > 0 {
                    lock_of(&self.queue).told += untold;
                }
            }
            Err(error) => {
                for (_, slot) in &batches {
                    *lock_of(slot) = Some(Err(error.clone()));
                }
                // What rides along waits for better times.
                let mut queue = lock_of(&self.queue);
                riders.append(&mut queue.riders);
                queue.riders = riders;
                queue.rider_bytes += bytes;
            }
        }
    }

    /// Throws away what no longer has room to wait; the log is told as soon as it works again.
    fn lose_excess(&self) {
        let mut queue = lock_of(&self.queue);
        while queue.rider_bytes > self.options.queue_bytes {
            let Some(record) = queue.riders.pop() else { break };
            queue.rider_bytes = queue.rider_bytes.saturating_sub(weight(&record));
            queue.lost += 1;
        }
    }
}

impl Writer {
    /// One transaction: the waiting batches, then what rides along. Answers the numbers of each
    /// batch.
    fn write<'a>(
        &mut self,
        batches: impl Iterator<Item = &'a [Record]>,
        riders: &[Record],
        told: Option<&Record>,
    ) -> Result<std::vec::IntoIter<Vec<Seq>>, AuditError> {
        let mut last = self.last;
        let mut bytes = 0;
        let connection = &self.connection;
        let mut append = |record: &Record| {
            last = Seq(last.0 + 1);
            bytes += weight(record);
            insert(connection, last, record).map(|()| last)
        };
        let run = || -> rusqlite::Result<Vec<Vec<Seq>>> {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let seqs = batches
                .map(|records| records.iter().map(&mut append).collect())
                .collect::<rusqlite::Result<_>>()?;
            for record in riders.iter().chain(told) {
                append(record)?;
            }
            connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(seqs)
        };
        match run() {
            Ok(seqs) => {
                self.last = last;
                self.written_bytes += bytes;
                self.transactions += 1;
                self.error = None;
                Ok(seqs.into_iter())
            }
            Err(error) => {
                if !self.connection.is_autocommit() {
                    // Where even this fails the next BEGIN does, and says so.
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                let error = AuditError::from(error);
                self.error = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn close_what_was_left_open(&mut self) -> Result<(), AuditError> {
        let at = Timestamp::from(std::time::SystemTime::now());
        let numbers = |sql: &str| -> rusqlite::Result<Vec<Seq>> {
            self.connection
                .prepare(sql)?
                .query_map([], |row| row.get::<_, i64>(0))?
                .map(|n| n.map(|n| Seq(n.cast_unsigned())))
                .collect()
        };
        let intents = numbers(
            "SELECT seq FROM intent i WHERE NOT EXISTS (SELECT 1 FROM outcome o WHERE o.intent = i.seq)",
        )?;
        let sessions = numbers(
            "SELECT seq FROM session_opened s WHERE NOT EXISTS (SELECT 1 FROM session_closed c WHERE c.session = s.seq)",
        )?;
        let unknown = intents.into_iter().map(|intent| {
            Record::Outcome(Outcome {
                at,
                intent,
                part: 0,
                status: CommandStatus::Unknown,
                tag: None,
                error_code: None,
                error_message: None,
                duration_us: 0,
                rows: 0,
                bytes: 0,
                bytes_in: 0,
                response: None,
                notices: None,
                transaction: None,
            })
        });
        let closed = sessions.into_iter().map(|session| {
            Record::SessionClosed(SessionClosed {
                at,
                session,
                closing: Closing::Daemon,
                detail: Some("the daemon ended before the session did".into()),
                bytes_up: 0,
                bytes_down: 0,
            })
        });
        let records: Vec<_> = unknown.chain(closed).collect();
        if !records.is_empty() {
            self.write(std::iter::empty(), &records, None)?;
        }
        Ok(())
    }

    #[cfg(test)]
    fn limit_pages(&self, pages: i64) {
        self.connection.pragma_update(None, "max_page_count", pages).expect("a limit");
    }
}

pub(crate) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64, i64)> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })
}

fn connect(path: &Path) -> Result<Connection, AuditError> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Commits do not wait for the disk; the flusher makes them safe where it is asked to. A
    // checkpoint does sync, first the WAL and then the database.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Readers with read access alone need the -wal and -shm files, also when nobody writes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Only one daemon writes a log.
fn lock(path: &Path) -> Result<File, AuditError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(&name)
        .map_err(|e| AuditError::file("opening the log's lock", &name, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AuditError::Locked(path.into())),
        Err(TryLockError::Error(e)) => Err(AuditError::file("locking", &name, &e)),
    }
}

fn wal_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn sync_folder(folder: &Path) -> Result<(), AuditError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| AuditError::file("syncing the log's folder", folder, &e))
}

/// What these guard is whole whenever it is let go of.
pub(crate) fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
