//! Appending: callers queue their records, and whoever holds the connection commits all that is
//! queued, so that one caller pays one commit and many share one. What waits for nothing rides
//! along with the next commit or a short timer.
//!
//! Does not belong here: the transaction (`writer/combine.rs`), what a record's row looks like (`insert.rs`), flushing (`flush.rs`), the
//! timer and checkpoints (`threads.rs`).

use std::{
    fs::{self, File},
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use chaperone_model::{Heartbeat, Record, Seq};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::{
    AuditError,
    append::{Appender, Beginning},
    chain, files,
    flush::Flusher,
    note::Signer,
    read, recover,
    retire::Keep,
    row::{LARGEST, weight},
    threads::{Ticker, WalSize},
    turn,
};

mod combine;

pub(crate) use combine::Writer;
use combine::{Queue, Slot};

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
#[derive(Clone)]
pub struct Options {
    /// Bytes of records that may wait to ride along; beyond that whoever adds one commits.
    pub queue_bytes: usize,
    /// How checkpoints are made; without it there are none.
    pub sealing: Option<Sealing>,
    /// How long files are kept.
    pub keep: Keep,
}

impl Default for Options {
    fn default() -> Self {
        Self { queue_bytes: 16 << 20, sealing: None, keep: Keep::default() }
    }
}

/// How checkpoints are made.
#[derive(Clone)]
pub struct Sealing {
    /// The key, whose name is the log's origin.
    pub signer: Arc<Signer>,
    /// How long a record may be without a checkpoint over it.
    pub every: Duration,
    /// Records after which a checkpoint is made sooner, but not more often than once a second.
    pub records: u64,
    /// How long nothing may be recorded before a sign of life is.
    pub heartbeat: Duration,
    /// Tells the state of the host's clocks.
    pub clocks: Arc<dyn Fn() -> Heartbeat + Send + Sync>,
}

/// A signed head of the log that is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// How many records it is over.
    pub size: u64,
    /// The signed note (c2sp.org/tlog-checkpoint).
    pub note: Arc<str>,
}

/// The log's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Number of the last record.
    pub last: Seq,
    /// Records that wait to ride along.
    pub queued: usize,
    /// Their bytes, about.
    pub queued_bytes: usize,
    /// Records that were lost, because they could not be written and no more could wait.
    pub lost: u64,
    /// Bytes of the WAL file.
    pub wal_bytes: u64,
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

    /// Takes away those behind the first `count`.
    pub fn split_off(&mut self, count: usize) -> Self {
        Self { seqs: self.seqs.split_off(count.min(self.seqs.len())), shared: self.shared.clone() }
    }

    /// The receipts once the records are on the disk as well: they survive a power cut.
    ///
    /// # Errors
    /// [`AuditError::Flush`]: the records may or may not outlast a power cut, and the log takes no
    /// more commits.
    pub fn flushed(
        self,
    ) -> impl Future<Output = Result<Vec<Receipt>, AuditError>> + Send + 'static {
        let flushed = self.shared.flusher.flushed();
        async move {
            flushed
                .await
                .unwrap_or_else(|_| Err(AuditError::Flush("the log was closed".into())))?;
            Ok(self.receipts())
        }
    }
}

pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    queue: Mutex<Queue>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) ticker: Ticker,
    pub(crate) wal_size: Arc<WalSize>,
    pub(crate) sealed: watch::Sender<Option<Sealed>>,
    /// Files whose WAL is to be moved into them as soon as no reader is in the way.
    pub(crate) untidy: Mutex<Vec<Connection>>,
    /// Those who asked for a new file.
    pub(crate) turns: Mutex<Vec<turn::Request>>,
    // Held as long as the log is open: one writer a log.
    _lock: File,
}

struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Log {
    /// Opens a log for writing, and makes it where there is none. What an earlier daemon left open
    /// is closed: its commands without an outcome get the outcome `unknown`.
    ///
    /// # Errors
    /// [`AuditError`], each a sentence for ops.
    pub fn open(path: &Path, options: Options) -> Result<Self, AuditError> {
        Self::open_flushing(path, options, None)
    }

    fn open_flushing(path: &Path, options: Options, wal: Option<File>) -> Result<Self, AuditError> {
        let lock = files::make(path)?;
        let file = match chain::newest(path) {
            Ok(file) => file,
            // A log whose newest file was taken away is not begun anew as if there had been none.
            Err(AuditError::Missing(_)) if path.is_symlink() => {
                return Err(AuditError::Gone(path.into()));
            }
            Err(AuditError::Missing(_)) => turn::make_first(path)?,
            Err(error) => return Err(error),
        };
        let mut appender = match open_file(&file) {
            Err(AuditError::Corrupt(why)) => turn::salvage(path, &file, &why)?,
            opened => opened?,
        };
        let file = appender.path.clone();
        let wal_size = Arc::new(WalSize::default());
        wal_size.follow(&mut appender.connection)?;
        let writer = Writer { appender, transactions: 0, error: None, damaged: None };
        let wal = wal.map_or_else(|| files::open_wal(&file), Ok)?;
        let flusher = Arc::new(Flusher::new(wal));
        let checkpointer = files::connect(&file)?;
        // It holds the writers up while it tries.
        checkpointer.busy_timeout(Duration::ZERO)?;
        let (sealed, _) = watch::channel(read::checkpoint(&writer.appender.connection)?);
        let shared = Arc::new(Shared {
            path: path.into(),
            options,
            queue: Mutex::default(),
            writer: Mutex::new(writer),
            flusher: flusher.clone(),
            ticker: Ticker::default(),
            wal_size,
            sealed,
            untidy: Mutex::default(),
            turns: Mutex::default(),
            _lock: lock,
        });
        if let Some(sealing) = &shared.options.sealing {
            // A log is never without a checkpoint.
            shared.seal(sealing)?;
        }
        // Made first: where a thread cannot be started, the other one is ended.
        let threads = Arc::new(Threads { shared: shared.clone(), handles: Mutex::default() });
        let ticker = shared.clone().spawn_ticker(checkpointer)?;
        lock_of(&threads.handles).push(ticker);
        lock_of(&threads.handles).push(flusher.spawn()?);
        Ok(Self { shared, _threads: threads })
    }

    /// Commits records, all of them or none, and answers with their receipts.
    ///
    /// # Errors
    /// [`AuditError`]; nothing was written then, and no number used.
    pub fn commit(&self, records: Vec<Record>) -> Result<Committed, AuditError> {
        if records.iter().any(|record| weight(record) > LARGEST) {
            return Err(AuditError::TooLarge);
        }
        let slot = Arc::new(Slot::default());
        lock_of(&self.shared.queue).batches.push((records, slot.clone()));
        let mut writer = lock_of(&self.shared.writer);
        // Another caller may have committed this batch with its own meanwhile.
        let done = lock_of(&slot).take();
        let result = done.unwrap_or_else(|| {
            let _ = self.shared.commit_queued(&mut writer);
            drop(writer);
            if self.shared.wal_size.is_due() {
                self.shared.ticker.wake();
            }
            // `commit_queued` fills the slot of every batch that it took, and it took ours.
            lock_of(&slot)
                .take()
                .unwrap_or_else(|| Err(AuditError::Database("a batch was lost".into())))
        });
        result.map(|seqs| Committed { seqs, shared: self.shared.clone() })
    }

    /// Adds a record that nobody waits for. It is committed with the next batch, or within some
    /// twenty milliseconds.
    pub fn ride_along(&self, record: Record) {
        let shared = &self.shared;
        let full = {
            let mut queue = lock_of(&shared.queue);
            let weight = weight(&record);
            if weight > LARGEST {
                // It would keep all others from being committed.
                queue.lost += 1;
                return;
            }
            queue.rider_bytes += weight;
            queue.riders.push(record);
            queue.rider_bytes > shared.options.queue_bytes
        };
        if full {
            let mut writer = lock_of(&shared.writer);
            let _ = shared.commit_queued(&mut writer);
            shared.lose_excess();
        } else {
            shared.ticker.wake();
        }
    }

    /// Commits and flushes what waits, and says whether that went well; dropping the last handle
    /// does the same and can only complain to the journal. Other handles of the log go on.
    ///
    /// # Errors
    /// [`AuditError`]; what waited is then not in the log, or may not outlast a power cut.
    pub fn close(self) -> Result<(), AuditError> {
        self.shared.settle()
    }

    /// How it is. Waits for a commit that is being made.
    pub fn stats(&self) -> Stats {
        let (last, error, wal) = {
            let writer = lock_of(&self.shared.writer);
            let wal = files::wal_path(&writer.appender.path);
            (writer.appender.last(), writer.error.clone(), fs::metadata(wal))
        };
        let queue = lock_of(&self.shared.queue);
        Stats {
            last,
            queued: queue.riders.len(),
            queued_bytes: queue.rider_bytes,
            lost: queue.lost,
            wal_bytes: wal.map_or(0, |file| file.len()),
            error: error.or_else(|| self.shared.flusher.failure().map(|e| e.to_string())),
        }
    }

    /// Begins a new file, as with every month.
    ///
    /// # Errors
    /// [`AuditError`]; the old file goes on then.
    pub fn turn(&self) -> Result<(), AuditError> {
        let (request, answer) = std::sync::mpsc::sync_channel(1);
        lock_of(&self.shared.turns).push(request);
        self.shared.ticker.wake();
        answer.recv().unwrap_or_else(|_| Err(AuditError::Database("the log was closed".into())))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The newest signed head, from here on.
    pub fn sealed(&self) -> watch::Receiver<Option<Sealed>> {
        self.shared.sealed.subscribe()
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
        if let Err(error) = self.shared.settle() {
            let records = lock_of(&self.shared.queue).riders.len();
            tracing::error!(%error, records, "the log could not be closed well: records were lost");
        } else if let Some(sealing) = &self.shared.options.sealing
            && let Err(error) = self.shared.seal(sealing)
        {
            tracing::error!(%error, "the log's last checkpoint could not be made");
        }
    }
}

/// Opens a file to go on with, and closes what was left open in it.
fn open_file(file: &Path) -> Result<Appender, AuditError> {
    files::rewrite_wal(file)?;
    let mut appender = Appender::open(file, || Ok(Beginning::of_nothing()))?;
    // Before anything is promised the database, what an earlier daemon left in the WAL, and the
    // entries of the files are on the disk.
    checkpoint(&appender.connection, "TRUNCATE")?;
    files::sync_folder(file)?;
    let left_open = recover::left_open(&appender.connection)?;
    if !left_open.is_empty() {
        appender.write(std::iter::empty(), &mut left_open.iter())?;
    }
    Ok(appender)
}

pub(crate) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(u64, u64, u64)> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        // Negative where another checkpoint is under way.
        let pages = |column| row.get(column).map(|pages: i64| u64::try_from(pages).unwrap_or(0));
        Ok((row.get(0)?, pages(1)?, pages(2)?))
    })
}

pub(crate) fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, AuditError> {
    Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|e| AuditError::Database(format!("a thread could not be started: {e}")))
}

/// What these guard is whole whenever it is let go of.
pub(crate) fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
