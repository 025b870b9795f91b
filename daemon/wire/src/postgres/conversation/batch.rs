//! Batches: what the client sends up to a point that the server answers whatever happens.
//!
//! Such a point is a `Sync`, or a simple query with no message of the extended protocol before it
//! since the last one: an error in such a message makes the server pass over all up to the next
//! `Sync`, simple queries as well (`ignore_till_sync`, `src/backend/tcop/postgres.c`). Only what lies
//! before such a point can be waited for: the rest may need more from the client to be answered.

/// What was run, as far as it can change how the server reads texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ran {
    #[default]
    Nothing,
    /// Statements that do not, by their text.
    Plain,
    Anything,
}

/// What in a text is read otherwise under other settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Delicate {
    pub(super) backslash: bool,
    pub(super) foreign: bool,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// The number of the one that is being sent, which is how many have ended.
    current: u64,
    /// So many ends were answered.
    done: u64,
    /// Messages of the extended protocol were sent in the current one.
    open: bool,
    /// Was run in those whose end was not answered yet. PostgreSQL reports settings just before it
    /// is ready again, since version 14.
    before: Ran,
    /// Was run in the current one.
    now: Ran,
    /// So many ends must be answered before the next command can be judged.
    awaited: u64,
    /// Commands that may rename: those sent, those answered, and the batch of the last.
    renames: u64,
    renames_done: u64,
    renames_batch: u64,
    /// A delicate text that was sent behind something that ran in the same batch, the last of them.
    trusted: Option<(u64, Delicate)>,
}

impl Batches {
    pub(super) fn current(&self) -> u64 {
        self.current
    }

    /// A message of the extended protocol is sent.
    pub(super) fn extended(&mut self) {
        self.open = true;
    }

    /// A simple query or function call is sent; `answered`: all before it was. Answers whether it
    /// ends a batch.
    pub(super) fn query(&mut self, answered: bool) -> bool {
        let assured = answered || !self.open;
        if assured {
            self.end();
        }
        assured
    }

    /// The current batch ends here.
    pub(super) fn end(&mut self) {
        self.current += 1;
        self.open = false;
        self.before = self.before.max(self.now);
        self.now = Ran::Nothing;
    }

    /// The server answered an end.
    pub(super) fn ended(&mut self) {
        self.done += 1;
        if self.done == self.current {
            self.before = Ran::Nothing;
        }
    }

    /// The server is ready, and all that was sent has been answered.
    pub(super) fn all_ended(&mut self) {
        self.end();
        self.done = self.current;
        self.before = Ran::Nothing;
    }

    /// These ends turn out to be none: COPY swallowed them, or may have. `extended`: the batch that
    /// goes on is one of the extended protocol.
    pub(super) fn annul(&mut self, ends: u32, extended: bool) {
        self.done += u64::from(ends);
        if self.done == self.current {
            self.now = self.now.max(self.before);
            self.before = Ran::Nothing;
            self.open |= extended;
        }
        if let Some((batch, _)) = &mut self.trusted {
            *batch = self.current;
        }
    }

    /// Something is run.
    pub(super) fn run(&mut self, what: Ran) {
        self.now = self.now.max(what);
    }

    /// Was run before the current batch, and its effect is not known yet.
    pub(super) fn ran_before(&self) -> Ran {
        self.before
    }

    /// Was run in the current batch.
    pub(super) fn ran_now(&self) -> Ran {
        self.now
    }

    /// The next command must wait for the end of this batch, if its end can be waited for.
    pub(super) fn wait_for(&mut self, batch: u64) -> bool {
        let possible = (self.done..self.current).contains(&batch);
        if possible {
            self.awaited = batch + 1;
        }
        possible
    }

    /// The next command must wait for all batches before the current one.
    pub(super) fn wait_for_all(&mut self) -> bool {
        self.current.checked_sub(1).is_some_and(|batch| self.wait_for(batch))
    }

    pub(super) fn must_wait(&self) -> bool {
        self.done < self.awaited
    }

    /// A command is sent that may rename.
    pub(super) fn rename(&mut self) {
        self.renames += 1;
        self.renames_batch = self.current;
    }

    /// A command that may rename was answered or passed over.
    pub(super) fn renamed(&mut self) {
        self.renames_done += 1;
    }

    /// How many commands that may rename were sent.
    pub(super) fn renames(&self) -> u64 {
        self.renames
    }

    /// The batch of the last command that may rename, if one that was sent behind the first `known`
    /// of them was not answered yet.
    pub(super) fn renaming(&self, known: u64) -> Option<u64> {
        (self.renames > self.renames_done.max(known)).then_some(self.renames_batch)
    }

    /// A delicate text goes on because all that was run before it in its batch is plain.
    pub(super) fn trust(&mut self, text: Delicate) {
        let (_, before) = self.trusted.filter(|(batch, _)| *batch >= self.done).unwrap_or_default();
        let both = Delicate {
            backslash: before.backslash || text.backslash,
            foreign: before.foreign || text.foreign,
        };
        self.trusted = Some((self.current, both));
    }

    /// What in the texts that were sent so would be read otherwise if a setting that is reported
    /// now was already in force.
    pub(super) fn trusted(&self) -> Delicate {
        self.trusted
            .filter(|(batch, _)| *batch >= self.done)
            .map(|(_, text)| text)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_only_what_is_answered_whatever_happens_is_waited_for() {
        let mut batches = Batches::default();
        batches.extended();
        assert!(!batches.wait_for(0), "without a Sync");
        assert!(!batches.query(false), "an error before it would hide it");
        assert!(!batches.wait_for(0));
        batches.end();
        assert!(batches.wait_for(0) && batches.must_wait());
        assert!(batches.query(false));
        batches.ended();
        assert!(!batches.must_wait());
        assert!(!batches.wait_for(0), "it is over");
        assert!(batches.wait_for(1));
        batches.extended();
        assert!(batches.query(true), "nothing before it can fail any more");
    }

    #[test]
    fn p2_what_ran_counts_until_the_end_of_its_batch_was_answered() {
        let mut batches = Batches::default();
        batches.run(Ran::Anything);
        batches.end();
        batches.run(Ran::Plain);
        assert_eq!((batches.ran_before(), batches.ran_now()), (Ran::Anything, Ran::Plain));
        batches.ended();
        assert_eq!((batches.ran_before(), batches.ran_now()), (Ran::Nothing, Ran::Plain));
    }

    #[test]
    fn p8_an_end_that_was_none_is_not_waited_for() {
        let mut batches = Batches::default();
        batches.extended();
        batches.run(Ran::Plain);
        batches.end();
        assert!(batches.wait_for(0));
        batches.annul(1, true);
        assert!(!batches.must_wait());
        assert_eq!(batches.ran_now(), Ran::Plain, "the batch goes on");
        assert!(!batches.query(false), "and is open");
    }
}
