//! One commit for all sessions of a thread that were ready at the same time.
//!
//! A session that has something to record queues it here and goes on waiting; the task that commits
//! is woken behind all sessions that are ready in the same round of the thread's runtime, and so
//! commits for all of them at once. Nothing leaves the thread; the log in turn combines what several
//! threads commit.

use std::cell::RefCell;

use chaperone_audit::{AuditError, Committed, Log, Receipt};
use chaperone_model::Record;
use tokio::sync::{Notify, oneshot};

use crate::config::Safe;

/// The receipts of what was queued, or why there are none.
pub(crate) type Answer = Result<Vec<Receipt>, AuditError>;

pub(crate) struct Committer {
    log: Log,
    queue: RefCell<Vec<Waiting>>,
    wake: Notify,
}

struct Waiting {
    records: Vec<Record>,
    safe: Safe,
    answer: oneshot::Sender<Answer>,
}

impl Committer {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, queue: RefCell::default(), wake: Notify::new() }
    }

    /// Records are so safe when the answer comes.
    pub(crate) fn commit(&self, records: Vec<Record>, safe: Safe) -> oneshot::Receiver<Answer> {
        let (answer, receipts) = oneshot::channel();
        self.queue.borrow_mut().push(Waiting { records, safe, answer });
        self.wake.notify_one();
        receipts
    }

    /// Commits what is queued, again and again.
    pub(crate) async fn run(&self) {
        loop {
            self.wake.notified().await;
            let waiting = self.queue.take();
            self.commit_together(waiting);
        }
    }

    /// All or none: whatever keeps one from being committed (a disk that is full) keeps the others.
    fn commit_together(&self, waiting: Vec<Waiting>) {
        // Those that need no flush do not wait for it.
        let (late, soon): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|one| one.safe == Safe::FromPowerCut);
        let mut records = Vec::new();
        let mut take = |waiting: Vec<Waiting>| -> Vec<_> {
            let take = |mut one: Waiting| {
                let count = one.records.len();
                records.append(&mut one.records);
                (count, one.answer)
            };
            waiting.into_iter().map(take).collect()
        };
        let (soon, late) = (take(soon), take(late));
        match self.log.commit(records) {
            Ok(mut committed) => {
                let rest = committed.split_off(soon.iter().map(|(count, _)| count).sum());
                answer(Ok(committed.receipts()), soon);
                if late.is_empty() {
                    drop(rest);
                } else {
                    tokio::task::spawn_local(async move { answer(flush(rest).await, late) });
                }
            }
            Err(error) => answer(Err(error), soon.into_iter().chain(late).collect()),
        }
    }
}

async fn flush(committed: Committed) -> Answer {
    committed.flushed().await
}

/// Gives everybody their part.
fn answer(all: Answer, answers: Vec<(usize, oneshot::Sender<Answer>)>) {
    // A session that is gone takes none.
    match all {
        Ok(receipts) => {
            let mut receipts = receipts.into_iter();
            for (count, answer) in answers {
                let _ = answer.send(Ok(receipts.by_ref().take(count).collect()));
            }
        }
        Err(error) => {
            for (_, answer) in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use chaperone_audit::Options;
    use chaperone_model::{Event, EventKind, Timestamp};
    use tokio::task::LocalSet;

    use super::*;

    fn event(detail: &str) -> Record {
        let detail = detail.to_owned();
        Record::Event(Event { at: Timestamp(1), session: None, kind: EventKind::NoNote, detail })
    }

    #[test]
    fn p1_sessions_that_are_ready_together_share_a_commit_and_each_gets_its_own_receipts() {
        for safe in [Safe::FromCrash, Safe::FromPowerCut] {
            let folder = tempfile::tempdir().expect("a folder");
            let log = Log::open(&folder.path().join("log"), Options::default()).expect("a log");
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, async {
                let committer = Rc::new(Committer::new(log.clone()));
                let running = committer.clone();
                tokio::task::spawn_local(async move { running.run().await });
                let waiting: Vec<_> = (1..4)
                    .map(|count| {
                        let records = (0..count).map(|_| event("e")).collect();
                        committer.commit(records, safe)
                    })
                    .collect();
                let mut next = 1;
                for (count, receipts) in (1..4).zip(waiting) {
                    let receipts = receipts.await.expect("an answer").expect("committed");
                    let seqs: Vec<u64> = receipts.iter().map(|r| r.seq().0).collect();
                    assert_eq!(seqs, (next..next + count).collect::<Vec<_>>());
                    next += count;
                }
            });
            assert_eq!(log.transactions(), 1);
        }
    }
}
