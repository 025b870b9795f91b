//! Checkpoints: a sign of life is recorded, the tree over all records is flushed, and its head is
//! signed.
//!
//! Does not belong here: where checkpoints go from here.

use std::time::Instant;

use chaperone_model::{Record, Seq, Timestamp};

use crate::{
    AuditError, Sealed, Sealing,
    note::Checkpoint,
    writer::{Shared, lock_of},
};

/// When the last checkpoint was made.
pub(crate) struct Last {
    at: Instant,
    last: Seq,
}

impl Last {
    pub(crate) fn now(last: Seq) -> Self {
        Self { at: Instant::now(), last }
    }
}

impl Shared {
    /// Makes a checkpoint where one is due.
    pub(crate) fn seal_when_due(&self, last: &mut Last) {
        let Some(sealing) = &self.options.sealing else { return };
        let since = last.at.elapsed();
        let new = lock_of(&self.writer).appender.last().0 - last.last.0;
        let due = (new > 0 && since >= sealing.every)
            || (new >= sealing.records && since.as_secs() > 0)
            || since >= sealing.heartbeat;
        if !due {
            return;
        }
        if let Err(error) = self.seal(sealing) {
            tracing::warn!(%error, "the log's checkpoint could not be made");
        }
        // Where it failed the next one is due as late as if it had not.
        *last = Last::now(lock_of(&self.writer).appender.last());
    }

    /// Makes a checkpoint over all that is recorded and waits to be.
    pub(crate) fn seal(&self, sealing: &Sealing) -> Result<(), AuditError> {
        let heartbeat = Record::Heartbeat((sealing.clocks)());
        let (checkpoint, settled) = {
            let mut writer = lock_of(&self.writer);
            self.commit_with(&mut writer, Some(&heartbeat))?;
            let frontier = writer.appender.frontier();
            let origin = sealing.signer.name().to_owned();
            let checkpoint = Checkpoint { origin, size: frontier.size(), root: frontier.root() };
            (checkpoint, writer.appender.settled())
        };
        // Nobody sees a head of what a power cut could take back: it would look like tampering.
        self.flusher.sync()?;
        let note = sealing.signer.sign(&checkpoint.text());
        lock_of(&self.writer)
            .appender
            .connection
            .prepare_cached("INSERT INTO checkpoint VALUES (?, ?, ?, ?)")?
            .execute(rusqlite::params![
                checkpoint.size.cast_signed(),
                Timestamp::from(std::time::SystemTime::now()).0,
                note,
                settled.0.cast_signed()
            ])?;
        self.sealed.send_replace(Some(Sealed { size: checkpoint.size, note: note.into() }));
        Ok(())
    }
}
