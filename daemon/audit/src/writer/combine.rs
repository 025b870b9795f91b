//! What is queued, and the one transaction that commits all of it.
//!
//! Does not belong here: who queues it, and what they are answered with (`writer.rs`).

use std::sync::{Arc, Mutex};

use chaperone_model::{Event, EventKind, Record, Seq, Timestamp};

use super::{Shared, lock_of};
use crate::{AuditError, append::Appender, row::weight};

#[derive(Default)]
pub(super) struct Queue {
    pub(super) batches: Vec<(Vec<Record>, Arc<Slot>)>,
    pub(super) riders: Vec<Record>,
    pub(super) rider_bytes: usize,
    pub(super) lost: u64,
    /// Of the lost ones, those that the log has been told of.
    pub(super) told: u64,
}

pub(super) type Slot = Mutex<Option<Result<Vec<Seq>, AuditError>>>;

pub(crate) struct Writer {
    pub(crate) appender: Appender,
    pub(super) transactions: u64,
    pub(crate) error: Option<String>,
    /// The file is damaged: another one is to be begun.
    pub(crate) damaged: Option<String>,
}

impl Shared {
    /// Commits what rides along, where there is any. What fails waits for the next time.
    pub(crate) fn commit_riders(&self) {
        if self.has_riders() {
            let mut writer = lock_of(&self.writer);
            let _ = self.commit_queued(&mut writer);
        }
    }

    /// Commits what waits, also what is to be told of lost records, and flushes.
    pub(super) fn settle(&self) -> Result<(), AuditError> {
        let waits = {
            let queue = lock_of(&self.queue);
            !queue.riders.is_empty() || queue.lost > queue.told
        };
        if waits {
            let mut writer = lock_of(&self.writer);
            self.commit_queued(&mut writer)?;
        }
        self.flusher.sync()
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
    pub(super) fn commit_queued(&self, writer: &mut Writer) -> Result<(), AuditError> {
        self.commit_with(writer, None)
    }

    /// Commits all that is queued with one more record behind it.
    pub(crate) fn commit_with(
        &self,
        writer: &mut Writer,
        last: Option<&Record>,
    ) -> Result<(), AuditError> {
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
            None => writer.write(
                batches.iter().map(|(records, _)| records.as_slice()),
                &mut riders.iter().chain(&told).chain(last),
            ),
        };
        match result {
            Ok(mut seqs) => {
                for (_, slot) in &batches {
                    *lock_of(slot) = seqs.next().map(Ok);
                }
                if untold > 0 {
                    lock_of(&self.queue).told += untold;
                }
                Ok(())
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
                Err(error)
            }
        }
    }

    /// Throws away what no longer has room to wait; the log is told as soon as it works again.
    pub(super) fn lose_excess(&self) {
        let mut queue = lock_of(&self.queue);
        while queue.rider_bytes > self.options.queue_bytes {
            let Some(record) = queue.riders.pop() else {
                break;
            };
            queue.rider_bytes = queue.rider_bytes.saturating_sub(weight(&record));
            queue.lost += 1;
        }
    }
}

impl Writer {
    /// One transaction: the waiting batches, then what rides along. Answers the numbers of each
    /// batch.
    pub(super) fn write<'a>(
        &mut self,
        batches: impl Iterator<Item = &'a [Record]>,
        riders: &mut dyn Iterator<Item = &Record>,
    ) -> Result<std::vec::IntoIter<Vec<Seq>>, AuditError> {
        match self.appender.write(batches, riders) {
            Ok(seqs) => {
                self.transactions += 1;
                self.error = None;
                Ok(seqs.into_iter())
            }
            Err(error) => {
                self.error = Some(error.to_string());
                if let AuditError::Corrupt(why) = &error {
                    self.damaged = Some(why.clone());
                }
                Err(error)
            }
        }
    }
}
