//! The thread that commits what rides along, and checkpoints.
//!
//! Does not belong here: flushing (`flush.rs`), and how a commit is made (`writer.rs`).

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ffi};

use crate::{
    AuditError,
    files::PAGE,
    retire::Retiring,
    seal::Last,
    turn::Turning,
    writer::{Shared, checkpoint, lock_of, spawn},
};

/// How long a record rides along at most.
const TICK: Duration = Duration::from_millis(20);
/// Ticks without work after which the thread sleeps until it is woken.
const IDLE_TICKS: u32 = 50;
/// How long the thread sleeps at most: a month ends also where nothing happens.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
/// Pages in the WAL after which a checkpoint is worth its while: 4 MiB.
const CHECKPOINT: u64 = (4 << 20) / PAGE;
/// Pages in the WAL beyond which writers wait for a checkpoint: 64 MiB.
const LONG_WAL: u64 = (64 << 20) / PAGE;
/// How long a reader may be in the way before that is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a WAL that cannot be shortened is told of.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// How long the WAL is, as `SQLite` tells after every commit.
pub(crate) struct WalSize {
    pages: AtomicU64,
    /// Pages at which the next checkpoint is due.
    due: AtomicU64,
}

impl Default for WalSize {
    fn default() -> Self {
        Self { pages: AtomicU64::new(0), due: AtomicU64::new(CHECKPOINT) }
    }
}

impl WalSize {
    /// From here on it is this connection's file that tells.
    pub(crate) fn follow(self: &Arc<Self>, connection: &mut Connection) -> rusqlite::Result<()> {
        let told = self.clone();
        self.grew_to(0);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            told.grew_to(pages.unsigned_abs().into());
            Ok(())
        }))
    }

    /// A commit left the WAL with so many pages.
    pub(crate) fn grew_to(&self, pages: u64) {
        if pages < self.pages.swap(pages, Relaxed) {
            // It began anew.
            self.due.store(CHECKPOINT, Relaxed);
        }
    }

    pub(crate) fn is_due(&self) -> bool {
        self.pages() >= self.due.load(Relaxed)
    }

    pub(crate) fn pages(&self) -> u64 {
        self.pages.load(Relaxed)
    }

    fn checkpointed_at(&self, pages: u64) {
        self.due.store(pages + CHECKPOINT, Relaxed);
    }
}

/// What operations were told of checkpoints that do not get on.
#[derive(Default)]
struct Told {
    /// Since when a reader is in the way.
    in_the_way: Option<Instant>,
    last: Option<Instant>,
}

/// Wakes the thread, where it sleeps.
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
    /// There is something to do. Costs a wake-up only where the thread sleeps.
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

    /// Waits for a tick, or, where `idle`, until it is woken or so much time has passed. Answers
    /// whether to go on.
    ///
    /// `work` is asked under the lock that [`Ticker::wake`] takes, so that nothing which is added
    /// meanwhile is slept over.
    fn wait(&self, idle: bool, longest: Duration, work: impl Fn() -> bool) -> bool {
        let mut state = lock_of(&self.state);
        if idle && !state.end && !work() {
            state.asleep = true;
            (state, _) = self
                .changed
                .wait_timeout_while(state, longest, |state| state.asleep)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            state.asleep = false;
        }
        let (state, _) = self
            .changed
            .wait_timeout_while(state, TICK, |state| !state.end)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        !state.end
    }
}

impl Shared {
    pub(crate) fn spawn_ticker(
        self: Arc<Self>,
        mut checkpointer: Connection,
    ) -> Result<JoinHandle<()>, AuditError> {
        let (mut turning, mut last) = {
            let writer = lock_of(&self.writer);
            let last = Last::now(writer.appender.last());
            (Turning::new(&writer.appender)?, last)
        };
        let longest = self.options.sealing.as_ref().map_or(LONGEST_SLEEP, |s| s.every);
        spawn("log-ticker", move || {
            let mut quiet = 0;
            let mut told = Told::default();
            let mut retiring = Retiring::default();
            let work =
                || self.has_riders() || self.wal_size.is_due() || !lock_of(&self.turns).is_empty();
            while self.ticker.wait(quiet > IDLE_TICKS, longest, work) {
                quiet = if work() { 0 } else { quiet + 1 };
                self.commit_riders();
                if self.wal_size.is_due() {
                    self.checkpoint(&checkpointer, &mut told);
                }
                self.seal_when_due(&mut last);
                let turned = self.turn_when_due(&mut turning, &mut checkpointer);
                turning.add(std::mem::take(&mut *lock_of(&self.untidy)));
                turning.tidy();
                self.retire_when_due(&mut retiring, turned);
            }
        })
    }

    fn checkpoint(&self, connection: &Connection, told: &mut Told) {
        let result = checkpoint(connection, "PASSIVE").and_then(|(_, pages, done)| {
            self.wal_size.checkpointed_at(pages);
            if pages < LONG_WAL {
                return Ok(None);
            }
            // Most of it is moved; while nobody writes the rest is, and the WAL begins anew. Where
            // a reader is in the way this gives up at once: this connection has no busy timeout.
            let (busy, ..) = self.while_quiet(|| checkpoint(connection, "TRUNCATE"))?;
            Ok((busy != 0).then_some((pages, done)))
        });
        let warn = told.last.is_none_or(|at| at.elapsed() > WARN_EVERY);
        match result {
            Ok(None) => {
                told.in_the_way = None;
                return;
            }
            // Readers come and go.
            Ok(Some(_))
                if told.in_the_way.get_or_insert_with(Instant::now).elapsed() < PATIENCE =>
            {
                return;
            }
            Ok(Some((pages, done))) if warn => tracing::warn!(
                pages,
                done,
                "a reader holds an old view of the log, so that its WAL file grows: end that reader"
            ),
            Err(error) => {
                // Not again at every tick.
                self.wal_size.checkpointed_at(self.wal_size.pages());
                if is_failed_sync(&error) {
                    self.flusher.fail(&error.to_string());
                }
                if warn {
                    tracing::warn!(%error, "the log's checkpoint failed");
                }
            }
            Ok(Some(_)) => {}
        }
        if warn {
            told.last = Some(Instant::now());
        }
    }
}

fn is_failed_sync(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_FSYNC)
}
