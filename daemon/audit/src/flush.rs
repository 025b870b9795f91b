//! Making commits safe from a power cut: one thread flushes the WAL for all who wait.
//!
//! Does not belong here: commits and checkpoints.

use std::{
    fs::File,
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
};

use tokio::sync::oneshot;

use crate::{
    AuditError,
    writer::{lock_of, spawn},
};

type Waiter = oneshot::Sender<Result<(), AuditError>>;

/// Groups those who wait for a flush.
pub(crate) struct Flusher {
    /// A descriptor of its own. `SQLite`'s POSIX locks are on the database and the -shm file and
    /// never on the -wal file, so that closing this one releases none of them.
    wal: Mutex<Arc<File>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiters: Vec<Waiter>,
    failed: Option<AuditError>,
    end: bool,
}

impl Flusher {
    pub(crate) fn new(wal: File) -> Self {
        let wal = Mutex::new(Arc::new(wal));
        Self { wal, state: Mutex::default(), changed: Condvar::new() }
    }

    /// From here on another file is flushed, whatever became of the one before: all that was
    /// committed to it is on the disk, or those who waited for that were told otherwise.
    pub(crate) fn turn_to(&self, wal: File) {
        *lock_of(&self.wal) = Arc::new(wal);
        lock_of(&self.state).failed = None;
    }

    pub(crate) fn spawn(self: Arc<Self>) -> Result<JoinHandle<()>, AuditError> {
        spawn("log-flusher", move || self.serve(|| self.sync()))
    }

    /// Resolves when everything that is committed now is on the disk.
    pub(crate) fn flushed(&self) -> oneshot::Receiver<Result<(), AuditError>> {
        let (waiter, flushed) = oneshot::channel();
        let mut state = lock_of(&self.state);
        if let Some(error) = &state.failed {
            let _ = waiter.send(Err(error.clone()));
        } else if !state.end {
            state.waiters.push(waiter);
            self.changed.notify_one();
        }
        // After the end nobody serves: the waiter is dropped, and the receiver says so.
        flushed
    }

    /// Flushes on the calling thread.
    ///
    /// Frames that a checkpoint has moved out of the WAL need no flush: it syncs the WAL before it
    /// writes the database, and the database before the WAL may start anew.
    pub(crate) fn sync(&self) -> Result<(), AuditError> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let wal = lock_of(&self.wal).clone();
        let result = wal.sync_data();
        result.map_err(|error| self.fail(&error.to_string()))
    }

    /// From here on nothing of this file counts as flushed: after a failed sync the kernel may have
    /// dropped the pages, and the next one would report success without them.
    pub(crate) fn fail(&self, reason: &str) -> AuditError {
        let mut state = lock_of(&self.state);
        state.failed.get_or_insert_with(|| AuditError::Flush(reason.into())).clone()
    }

    /// Why nothing can be flushed any more.
    pub(crate) fn failure(&self) -> Option<AuditError> {
        lock_of(&self.state).failed.clone()
    }

    /// Those who wait already are still served.
    pub(crate) fn end(&self) {
        lock_of(&self.state).end = true;
        self.changed.notify_one();
    }

    /// `sync` asks for an earlier failure first, for those who came while a sync was failing.
    fn serve(&self, sync: impl Fn() -> Result<(), AuditError>) {
        while let Some(waiters) = self.wait() {
            let result = sync();
            for waiter in waiters {
                let _ = waiter.send(result.clone());
            }
        }
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

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn flusher() -> Flusher {
        Flusher::new(File::open("/etc/passwd").expect("a file"))
    }

    #[test]
    fn those_who_wait_share_a_sync() {
        let flusher = flusher();
        let waiting: Vec<_> = (0..10).map(|_| flusher.flushed()).collect();
        flusher.end();
        let syncs = AtomicU32::new(0);
        flusher.serve(|| {
            syncs.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!(syncs.into_inner(), 1);
        for flushed in waiting {
            flushed.blocking_recv().expect("an answer").expect("flushed");
        }
    }

    #[test]
    fn p1_who_comes_while_a_sync_fails_is_not_told_that_all_is_well() {
        let flusher = flusher();
        let (failing, seen) = (Barrier::new(2), Barrier::new(2));
        let calls = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let first = flusher.flushed();
            scope.spawn(|| {
                flusher.serve(|| {
                    if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                        failing.wait();
                        seen.wait();
                        return Err(flusher.fail("the disk is gone"));
                    }
                    // This one the system would let pass.
                    flusher.sync()
                });
            });
            failing.wait();
            let second = flusher.flushed();
            seen.wait();
            let answers = [first, second, flusher.flushed()].map(oneshot::Receiver::blocking_recv);
            // Before anything can panic: the thread above is waited for.
            flusher.end();
            for answer in answers {
                let error = answer.expect("an answer").expect_err("not flushed");
                assert!(matches!(error, AuditError::Flush(_)), "{error}");
            }
        });
    }

    #[test]
    fn nobody_waits_for_a_flusher_that_ended() {
        let flusher = flusher();
        flusher.end();
        assert_eq!(
            flusher.flushed().try_recv().expect_err("no answer"),
            oneshot::error::TryRecvError::Closed
        );
    }
}
