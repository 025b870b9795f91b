//! COPY … FROM STDIN, and what it does to a `Sync`.
//!
//! While the server reads data it passes over a `Sync`, and takes any other message that is no data
//! for an error (`CopyGetData`, `src/backend/commands/copyfromparse.c`). It stops reading where the
//! client says that the data ends, or at an error, and an error can come at any point: before the
//! first message is read as well (COPY FREEZE, a view, a trigger BEFORE STATEMENT). So a `Sync` that
//! was sent before the end of the data is swallowed if COPY succeeds, and else perhaps.
//!
//! That is kept safe by what may stand beside such a `Sync`: nothing but others, all in one entry of
//! the queue, directly behind the COPY or at the front. A command is sent behind it only once the
//! server is known to be out of COPY and to pass over nothing more. Whatever is answered to that
//! command other than `ReadyForQuery` then tells that all before it has been answered.

use super::{ClientStep, Conversation, CopyIn, Expect, Header, Violation, unexpected};
use crate::postgres::expect::Syncs;

impl Conversation {
    /// The client sends a `Sync`.
    pub(super) fn sync(&mut self) {
        self.doomed = false;
        let sent = if self.copy == CopyIn::Reading {
            Syncs::PERHAPS_ONE
        } else {
            self.batches.end();
            Syncs::ONE
        };
        match self.expect.back_mut() {
            Some(Expect::Sync(last)) if !last.are_certain() || !sent.are_certain() => {
                last.join(sent);
            }
            _ => self.expect.push_back(Expect::Sync(sent)),
        }
    }

    /// The client says that its data ends, in success or not.
    pub(super) fn data_ends(&mut self) {
        if self.copy != CopyIn::No {
            self.copy = CopyIn::Done;
            return;
        }
        // Sent ahead of the server's answer, or behind an error: the server passes over it then.
        match self.expect.back_mut() {
            None => {}
            Some(Expect::CopyEnd(times)) => *times = times.saturating_add(1),
            Some(Expect::Sync(last)) if !last.are_certain() => {}
            Some(_) => self.expect.push_back(Expect::CopyEnd(1)),
        }
    }

    /// What to do with a command, where COPY decides that.
    pub(super) fn beside_copy(&self, header: Header) -> Result<Option<ClientStep>, Violation> {
        if self.copy == CopyIn::Reading {
            // The server takes such a message for the end of the data and does not run it; to
            // follow that is not worth the risk of losing step.
            return Err(unexpected(header, "while COPY data is being read"));
        }
        let Some(Expect::Sync(last)) = self.expect.back() else { return Ok(None) };
        if last.are_certain() {
            return Ok(None);
        }
        // One that was sent behind the end of the data is answered for certain, and ends skipping at
        // the latest; so is a simple query. Without that even a COPY's success stays in the server's
        // buffer.
        let answered = last.least > 0 || matches!(self.expect.front(), Some(Expect::Query(_)));
        match (self.copy, self.skipping) {
            (CopyIn::No, false) => Ok(None),
            _ if answered => Ok(Some(ClientStep::Wait)),
            _ => Err(unexpected(header, "behind a COPY whose data no Sync follows")),
        }
    }

    /// The server begins to read data for what is at the front.
    pub(super) fn begin_copy(&mut self, header: Header) -> Result<(), Violation> {
        if self.copy != CopyIn::No {
            return Err(unexpected(header, "while COPY data is being read"));
        }
        self.copy = CopyIn::Reading;
        let behind = || unexpected(header, "behind which other commands were sent ahead");
        let (mut passed, mut ends) = (Syncs { least: 0, most: 0 }, 0);
        while let Some(next) = self.expect.get_mut(1) {
            match next {
                Expect::Sync(syncs) => {
                    ends += syncs.least;
                    passed.join(Syncs { least: 0, most: syncs.most });
                    self.expect.remove(1);
                }
                Expect::CopyEnd(times) => {
                    *times -= 1;
                    if *times == 0 {
                        self.expect.remove(1);
                    }
                    self.copy = CopyIn::Done;
                    break;
                }
                _ => return Err(behind()),
            }
        }
        if passed.most == 0 {
            return Ok(());
        }
        if !self.expect.range(1..).all(|e| matches!(e, Expect::Sync(_) | Expect::CopyEnd(_))) {
            return Err(behind());
        }
        for expect in self.expect.drain(1..) {
            if let Expect::Sync(syncs) = expect {
                passed.join(syncs);
            }
        }
        self.expect.push_back(Expect::Sync(passed));
        let extended = matches!(self.expect.front(), Some(Expect::Execute(_)));
        self.batches.annul(ends, extended);
        Ok(())
    }

    /// All data was read, and with it every `Sync` that was sent before its end.
    pub(super) fn end_copy(&mut self) {
        if std::mem::replace(&mut self.copy, CopyIn::No) == CopyIn::No {
            return;
        }
        if let Some(Expect::Sync(syncs)) = self.expect.get_mut(1) {
            syncs.most = syncs.least;
            if syncs.most == 0 {
                self.expect.remove(1);
            }
        }
    }

    /// The server answers something other than `ReadyForQuery`: what stays unanswered before that is
    /// done with.
    pub(super) fn drop_unanswered(&mut self) {
        while self.expect.len() > 1 && self.expect.front().is_some_and(Expect::may_stay_unanswered)
        {
            self.expect.pop_front();
        }
    }
}
