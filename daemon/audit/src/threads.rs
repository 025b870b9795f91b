//! The log's two threads: one flushes for those who wait for the disk, many at a time; the other
//! commits what rides along, and checkpoints.

use std::{
    fs::File,
    sync::{Arc, Condvar, Mutex},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    AuditError,
    writer::{Shared, checkpoint, lock_of},
};

/// How long a record rides along at most.
const TICK: Duration = Duration::from_millis(20);
/// Ticks without work after which the thread sleeps until it is woken.
const IDLE_TICKS: u32 = 50;
/// Written bytes after which a checkpoint is worth its while.
const CHECKPOINT: usize = 4 << 20;
/// Pages in the WAL beyond which writers wait for a checkpoint: 64 MiB.
const LONG_WAL: i64 = 16 << 10;

type Waiter = oneshot::Sender<Result<(), AuditError>>;

/// Groups those who wait for a flush.
#[derive(Default)]
pub(crate) struct Flusher {
    state: Mutex<Flush>,
    changed: Condvar,
}

#[derive(Default)]
struct Flush {
    waiters: Vec<Waiter>,
    failed: Option<AuditError>,
    end: bool,
}

impl Flusher {
    /// Resolves when everything that is committed now is on the disk.
    pub(crate) fn flushed(&self) -> oneshot::Receiver<Result<(), AuditError>> {
        let (waiter, flushed) = oneshot::channel();
        let mut state = lock_of(&self.state);
        if let Some(error) = &state.failed {
            let _ = waiter.send(Err(error.clone()));
        } else {
            state.waiters.push(waiter);
            self.changed.notify_one();
        }
        flushed
    }

    /// Why nothing can be flushed any more.
    pub(crate) fn failure(&self) -> Option<AuditError> {
        lock_of(&self.state).failed.clone()
    }

    pub(crate) fn end(&self) {
        lock_of(&self.state).end = true;
        self.changed.notify_one();
    }

    fn wait(&self) -> Option<Vec<Waiter>> {
        let mut state = self
            .changed
            .wait_while(lock_of(&self.state), |state| state.waiters.is_empty() && !state.end)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let waiters = std::mem::take(&mut state.waiters);
        (!waiters.is_empty()).then_some(waiters)
    }
}

/// Wakes the thread that commits what rides along, where it sleeps.
#[derive(Default)]
pub(crate) struct Ticker {
    state: Mutex<Tick>,
    changed: Condvar,
}

#[derive(Default)]
struct Tick {
    asleep: bool,
    end: bool,
}

impl Ticker {
    /// There is something to commit. Costs a wake-up only where the thread sleeps.
    pub(crate) fn wake(&self) {
        let mut state = lock_of(&self.state);
        if state.asleep {
            state.asleep = false;
            self.changed.notify_one();
        }
    }

    pub(crate) fn end(&self) {
        let mut state = lock_of(&self.state);
        state.end = true;
        state.asleep = false;
        self.changed.notify_one();
    }

    /// Waits for a tick, or, where `idle`, until it is woken. Answers whether to go on.
    ///
    /// `work` is asked under the lock that [`Ticker::wake`] takes, so that nothing which is added
    /// meanwhile is slept over.
    fn wait(&self, idle: bool, work: impl Fn() -> bool) -> bool {
        let mut state = lock_of(&self.state);
        if idle && !state.end && !work() {
            state.asleep = true;
            state = self
                .changed
                .wait_while(state, |state| state.asleep)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let (state, _) = self
            .changed
            .wait_timeout_while(state, TICK, |state| !state.end)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        !state.end
    }
}

impl Shared {
    /// `wal` is a descriptor of its own: SQLite's POSIX locks are on the database and the -shm
    /// file and never on the -wal file, so that closing it releases none of them.
    pub(crate) fn spawn_flusher(self: Arc<Self>, wal: File) -> Result<JoinHandle<()>, AuditError> {
        spawn("log-flusher", move || {
            while let Some(waiters) = self.flusher.wait() {
                // Frames that a checkpoint has moved meanwhile were synced by it: it syncs the WAL
                // before it writes the database, and the database before the WAL starts anew.
                let result = wal.sync_data().map_err(|e| AuditError::Flush(e.to_string()));
                if let Err(error) = &result {
                    // The kernel may have dropped the pages: a second try would report success.
                    lock_of(&self.flusher.state).failed = Some(error.clone());
                }
                for waiter in waiters {
                    let _ = waiter.send(result.clone());
                }
            }
        })
    }

    pub(crate) fn spawn_ticker(
        self: Arc<Self>,
        checkpointer: Connection,
    ) -> Result<JoinHandle<()>, AuditError> {
        spawn("log-ticker", move || {
            let mut written = 0;
            let mut quiet = 0;
            let mut warned: Option<Instant> = None;
            while self.ticker.wait(quiet > IDLE_TICKS, || self.has_riders()) {
                quiet = if self.has_riders() { 0 } else { quiet + 1 };
                self.commit_riders();
                written += self.take_written();
                if written < CHECKPOINT {
                    continue;
                }
                written = 0;
                self.checkpoint(&checkpointer, &mut warned);
            }
        })
    }

    fn checkpoint(&self, connection: &Connection, warned: &mut Option<Instant>) {
        let passive = checkpoint(connection, "PASSIVE");
        let Ok((_, pages, done)) = passive else {
            tracing::warn!(error = ?passive.err(), "the log's checkpoint failed");
            return;
        };
        if pages < LONG_WAL {
            return;
        }
        // Most of it is moved; while nobody writes the rest is, and the WAL begins anew.
        let (busy, ..) = self
            .while_quiet(|| checkpoint(connection, "TRUNCATE"))
            .unwrap_or((1, 0, 0));
        let stale = warned.is_none_or(|at| at.elapsed() > Duration::from_mins(1));
        if busy != 0 && stale {
            *warned = Some(Instant::now());
            tracing::warn!(
                pages,
                done,
                "a reader holds an old view of the log, so that its WAL file grows: end that reader"
            );
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, AuditError> {
    Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|e| AuditError::Database(format!("a thread could not be started: {e}")))
}
