//! Filling the index behind the writer, in small transactions.
//!
//! Does not belong here: what is indexed of a command (`document.rs`).

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use chaperone_model::Seq;
use rusqlite::Connection;

use super::{
    document::Loader,
    index::{Index, path_of, remove},
};
use crate::{
    AuditError, chain, files,
    writer::{lock_of, spawn},
};

/// How often it is looked whether there is more.
const EVERY: Duration = Duration::from_millis(500);
/// How long is waited where something failed.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How long a transaction is to take about: so long a view of the log is held.
const LONG: Duration = Duration::from_millis(100);
/// Records of a transaction.
const FEWEST: u64 = 64;
const MOST: u64 = 1 << 13;

/// How far the index of the newest file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last record that can be found by it.
    pub indexed: Seq,
    /// The log's last record.
    pub last: Seq,
    /// Why it does not get on, where it does not.
    pub error: Option<String>,
}

/// Fills the indexes of a log's files, in a thread of its own, until it is dropped.
pub struct Indexer {
    shared: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    progress: Mutex<Progress>,
    end: Mutex<bool>,
    changed: Condvar,
}

impl Indexer {
    /// Begins to fill the indexes of the log at `path`.
    ///
    /// # Errors
    /// [`AuditError`], where no thread can be started.
    pub fn start(path: &Path) -> Result<Self, AuditError> {
        let shared = Arc::new(State::default());
        let (state, path) = (shared.clone(), path.to_owned());
        let thread = spawn("log-indexer", move || state.run(&path))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        lock_of(&self.shared.progress).clone()
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        *lock_of(&self.shared.end) = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn run(&self, path: &Path) {
        let mut done = HashSet::new();
        let mut filling: Option<Filling> = None;
        loop {
            let went = self.look(path, &mut done, &mut filling);
            let pause = match went {
                Ok(()) => EVERY,
                Err(error) => {
                    filling = None;
                    let error = error.to_string();
                    let mut progress = lock_of(&self.progress);
                    if progress.error.as_ref() != Some(&error) {
                        tracing::warn!(error, "the log's search index does not get on");
                    }
                    progress.error = Some(error);
                    AFTER_FAILURE
                }
            };
            if !self.pause(pause) {
                return;
            }
        }
    }

    /// Waits; answers whether to go on.
    fn pause(&self, time: Duration) -> bool {
        let end = lock_of(&self.end);
        let end = self.changed.wait_timeout_while(end, time, |end| !*end);
        !*end.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    /// The newest file first: it is what is asked for. Older ones are looked at once, and again when
    /// there is a newer one.
    fn look(
        &self,
        path: &Path,
        done: &mut HashSet<PathBuf>,
        filling: &mut Option<Filling>,
    ) -> Result<(), AuditError> {
        let newest = chain::newest(path)?;
        if filling.as_ref().is_none_or(|filling| !filling.is_of(&newest)) {
            done.clear();
            *filling = Some(Filling::open(&newest)?);
        }
        let Some(current) = filling.as_mut() else { return Ok(()) };
        if !self.fill(current, true)? {
            return Ok(());
        }
        for file in chain::before(&newest)? {
            let index = path_of(&file);
            if done.contains(&index) && index.exists() {
                continue;
            }
            if is_retired(&file)? {
                remove(&file)?;
            } else if !self.fill(&mut Filling::open(&file)?, false)? {
                return Ok(());
            }
            done.insert(index);
        }
        Ok(())
    }

    /// Fills an index up to the end of its file; answers false where the thread is to end first.
    fn fill(&self, filling: &mut Filling, is_newest: bool) -> Result<bool, AuditError> {
        loop {
            let begun = Instant::now();
            let step = filling.step()?;
            if is_newest {
                *lock_of(&self.progress) =
                    Progress { indexed: step.indexed, last: step.last, error: None };
            }
            if !step.more {
                return Ok(true);
            }
            // As long as it took: half a core at most.
            if !self.pause(begun.elapsed().min(LONG * 2)) {
                return Ok(false);
            }
        }
    }
}

fn is_retired(file: &Path) -> Result<bool, AuditError> {
    let log = files::connect_reading(file)?;
    Ok(log.query_row("SELECT retired IS NOT NULL FROM file", [], |row| row.get(0))?)
}

/// Fills all indexes of the log at `path` now.
///
/// # Errors
/// [`AuditError`].
pub fn index(path: &Path) -> Result<(), AuditError> {
    for file in chain::all(path)? {
        if !is_retired(&file)? {
            let mut filling = Filling::open(&file)?;
            while filling.step()?.more {}
        }
    }
    Ok(())
}

/// A file of the log, and its index.
struct Filling {
    file: PathBuf,
    log: Connection,
    index: Index,
    loader: Loader,
    /// Records of the next transaction.
    batch: u64,
}

/// What a step came to.
struct Step {
    indexed: Seq,
    last: Seq,
    more: bool,
}

impl Filling {
    /// An index that is of no use is made anew.
    fn open(file: &Path) -> Result<Self, AuditError> {
        let log = files::connect_reading(file)?;
        let usable = Index::open(file).and_then(|index| {
            index.check()?;
            Ok(index.belongs_to(&log)?.then_some(index))
        });
        let index = match usable {
            Ok(Some(index)) => index,
            Err(error) if !is_its_own(&error) => return Err(error),
            Ok(None) | Err(_) => Self::make_anew(file)?,
        };
        let (loader, batch) = (Loader::default(), FEWEST * 16);
        Ok(Self { file: file.into(), log, index, loader, batch })
    }

    fn make_anew(file: &Path) -> Result<Index, AuditError> {
        tracing::info!(file = %file.display(), "the log's search index is made anew");
        remove(file)?;
        Index::open(file)
    }

    fn is_of(&self, newest: &Path) -> bool {
        self.file == newest && self.index.is_current()
    }

    fn step(&mut self) -> Result<Step, AuditError> {
        let begun = Instant::now();
        let step = self.transaction();
        if step.is_err() {
            for connection in [&self.index.connection, &self.log] {
                if !connection.is_autocommit() {
                    let _ = connection.execute_batch("ROLLBACK");
                }
            }
            self.index.rolled_back();
        }
        let took = begun.elapsed();
        if took > LONG {
            self.batch = (self.batch / 2).max(FEWEST);
        } else if took < LONG / 3 {
            self.batch = (self.batch * 2).min(MOST);
        }
        match step {
            Err(error) if is_its_own(&error) && self.log_is_well() => {
                tracing::warn!(%error, "the log's search index is damaged");
                self.index = Self::make_anew(&self.file)?;
                self.loader.forget();
                Ok(Step { indexed: Seq(0), last: Seq(0), more: true })
            }
            step => step,
        }
    }

    /// Whether the log can be read: else what failed is not the index's fault.
    fn log_is_well(&self) -> bool {
        self.log
            .query_row("SELECT count(*) FROM file", [], |row| row.get::<_, i64>(0))
            .is_ok_and(|count| count == 1)
    }

    /// One transaction, or one step of purging where all is indexed.
    fn transaction(&mut self) -> Result<Step, AuditError> {
        let last = last(&self.log)?;
        let known = self.index.indexed()?;
        if known >= last {
            let more = self.index.purge()?;
            return Ok(Step { indexed: known, last, more });
        }
        // Taken before the log is read: see `forget`.
        self.index.connection.execute_batch("BEGIN IMMEDIATE")?;
        self.log.execute_batch("BEGIN")?;
        let known = self.index.indexed()?;
        let to = Seq(last.0.min(known.0.max(first(&self.log)?.0 - 1) + self.batch));
        // In order: each number that is lower than the one before costs a part of its own.
        for command in touched(&self.log, known, to)? {
            if let Some(document) = self.loader.load(&self.log, command)? {
                self.index.add(command, &document)?;
            }
        }
        self.index.set_indexed(&self.log, to)?;
        self.log.execute_batch("COMMIT")?;
        self.index.connection.execute_batch("COMMIT")?;
        // There may be something to purge.
        Ok(Step { indexed: to, last, more: true })
    }
}

/// The last record of a file.
fn last(log: &Connection) -> Result<Seq, AuditError> {
    let last = "SELECT coalesce(max(seq), 0) FROM tree";
    Ok(Seq(log.prepare_cached(last)?.query_row([], |row| row.get(0))?))
}

fn first(log: &Connection) -> Result<Seq, AuditError> {
    let first = "SELECT first_seq FROM file";
    Ok(Seq(log.prepare_cached(first)?.query_row([], |row| row.get(0))?))
}

/// Commands of which records after one and up to another say something, the lowest first.
pub(crate) fn touched(log: &Connection, after: Seq, to: Seq) -> Result<Vec<Seq>, AuditError> {
    let mut statement = log.prepare_cached(
        "SELECT seq FROM intent WHERE seq > ?1 AND seq <= ?2
         UNION SELECT intent FROM outcome WHERE seq > ?1 AND seq <= ?2
         UNION SELECT record FROM carried WHERE seq > ?1 AND seq <= ?2
         ORDER BY 1",
    )?;
    let rows = statement
        .query_map([after.0.cast_signed(), to.0.cast_signed()], |row| row.get(0).map(Seq))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether an error says that a file is not what it should be; a full disk is nobody's fault.
fn is_its_own(error: &AuditError) -> bool {
    matches!(error, AuditError::Corrupt(_) | AuditError::NotALog(_) | AuditError::Database(_))
}
