//! What becomes of the commands: answered, failed, passed over.

use super::{
    CommandStatus, Conversation, CopyIn, Event, Expect, Header, Now, Outcome, Phase, Running,
    Violation, server::Seen, too_long, unexpected,
};
use crate::postgres::{
    backend,
    expect::ServerError,
    reply::{self, Severity, backend_error},
};

impl Conversation {
    /// The answer that was due first has come.
    pub(super) fn answered(&mut self) {
        match self.expect.pop_front() {
            Some(Expect::Parse(_, name) | Expect::CloseStatement(name)) => {
                self.statements.made(&name);
            }
            Some(Expect::Bind(name) | Expect::Decided(_, name) | Expect::ClosePortal(name)) => {
                self.portals.made(&name);
            }
            Some(Expect::Query(running) | Expect::Execute(running)) if running.renames => {
                self.batches.renamed();
            }
            _ => {}
        }
    }

    /// An error in the extended protocol: the server passes over everything up to the next `Sync`.
    /// What it changes there, it does not change.
    pub(super) fn pass_over(&mut self, now: Now, events: &mut Vec<Event>) {
        let passed_over = |expect: &Expect| {
            self.skipping && !matches!(expect, Expect::Sync(_)) && !expect.is_unrecorded()
        };
        while let Some(expect) = self.expect.pop_front_if(|expect| passed_over(expect)) {
            match expect {
                Expect::Parse(mut running, name) => {
                    self.statements.not_made(&name);
                    skipped(&mut running, &mut self.held, now, events);
                }
                Expect::Decided(mut running, name) => {
                    self.portals.not_made(&name);
                    skipped(&mut running, &mut self.held, now, events);
                }
                Expect::CloseStatement(name) => self.statements.not_made(&name),
                Expect::Bind(name) | Expect::ClosePortal(name) => self.portals.not_made(&name),
                Expect::Query(mut running) | Expect::Execute(mut running) => {
                    if running.renames {
                        self.batches.renamed();
                    }
                    skipped(&mut running, &mut self.held, now, events);
                }
                Expect::RefusedQuery(refused) | Expect::RefusedExecute(refused) => {
                    if !refused.told {
                        hold(&mut self.held, refused.outcome(now), events);
                    }
                }
                Expect::Describe(_) | Expect::CopyEnd(_) | Expect::Sync(_) => {}
            }
        }
    }

    pub(super) fn ready_for_query(
        &mut self,
        header: Header,
        message: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<Seen, Violation> {
        let transaction = backend::ready(message)?;
        self.drop_copy_ends();
        let owes = || unexpected(header, "from a server that owes another answer");
        let assured = match self.expect.front_mut() {
            None => return Err(unexpected(header, "from a server that was not asked")),
            Some(Expect::Sync(syncs)) => {
                let certain = syncs.least > 0;
                syncs.least = syncs.least.saturating_sub(1);
                syncs.most -= 1;
                if syncs.most == 0 {
                    self.expect.pop_front();
                }
                certain
            }
            Some(Expect::Query(running)) if running.ended => {
                let assured = running.assured;
                self.answered();
                assured
            }
            Some(Expect::RefusedQuery(refused)) if refused.told => {
                let assured = refused.assured;
                self.answered();
                assured
            }
            Some(_) => return Err(owes()),
        };
        if assured {
            self.batches.ended();
        }
        self.drop_copy_ends();
        if self.expect.is_empty() {
            self.batches.all_ended();
        }
        self.skipping = false;
        self.copy = CopyIn::No;
        self.in_transaction = transaction != "idle";
        if let Some(mut outcome) = self.held.take() {
            outcome.transaction = Some(transaction);
            events.push(Event::Outcome(outcome));
        }
        if !self.in_transaction {
            // Portals end with their transaction.
            self.portals.clear();
        }
        Ok(Seen::Whole)
    }

    /// The client's word that its data ends is answered by nothing.
    fn drop_copy_ends(&mut self) {
        while self.expect.pop_front_if(|expect| matches!(expect, Expect::CopyEnd(_))).is_some() {}
    }

    pub(super) fn error(
        &mut self,
        header: Header,
        message: &[u8],
        seen: Seen,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<Seen, Violation> {
        let hides = self.hides;
        match self.settle_error(header, message, seen, now, events)? {
            Seen::Whole if hides => {
                Ok(Seen::Replace(reply::without_values(header.tag, &backend::error(message))))
            }
            Seen::Head if hides => Err(too_long(header)),
            seen => Ok(seen),
        }
    }

    fn settle_error(
        &mut self,
        header: Header,
        message: &[u8],
        seen: Seen,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<Seen, Violation> {
        let error = self.said(message);
        if self.phase != Phase::Ready || error.fatal {
            events.push(Event::ServerError(error.clone()));
        }
        // Whether a Sync that was sent while data was read counts stays open.
        self.copy = CopyIn::No;
        self.drop_unanswered();
        if self.expect.front().is_some_and(Expect::is_unrecorded) {
            // What ends the session needs no occasion.
            return if error.fatal {
                Ok(seen)
            } else {
                Err(unexpected(header, "from a server that was not asked yet"))
            };
        }
        match self.expect.front_mut() {
            None if self.phase == Phase::Ready && !error.fatal => {
                events.push(Event::ServerError(error));
            }
            Some(Expect::RefusedQuery(refused) | Expect::RefusedExecute(refused))
                if !refused.told =>
            {
                // The stand-in failed, as it should: tell why.
                refused.told = true;
                let outcome = refused.outcome(now);
                let reply = backend_error(Severity::Error, &refused.refusal);
                hold(&mut self.held, outcome, events);
                if matches!(self.expect.front(), Some(Expect::RefusedExecute(_))) {
                    self.skipping = true;
                    self.pass_over(now, events);
                }
                return match seen {
                    _ if error.fatal => Ok(seen),
                    Seen::Whole => Ok(Seen::Replace(reply)),
                    _ => Err(too_long(header)),
                };
            }
            Some(Expect::Query(running)) => {
                running.count(header.length);
                self.complete(CommandStatus::Error, None, Some(error), now, events);
            }
            Some(
                Expect::Parse(running, _) | Expect::Decided(running, _) | Expect::Execute(running),
            ) => {
                running.count(header.length);
                self.complete(CommandStatus::Error, None, Some(error), now, events);
                self.skipping = true;
                self.pass_over(now, events);
            }
            Some(
                Expect::Bind(_)
                | Expect::Describe(_)
                | Expect::CloseStatement(_)
                | Expect::ClosePortal(_),
            ) => {
                self.skipping = true;
                self.fail_next(error, now, events);
                self.pass_over(now, events);
            }
            Some(Expect::Sync(_)) => self.fail_sync(error, events),
            // Whatever the server has to say besides.
            Some(Expect::RefusedQuery(_) | Expect::RefusedExecute(_) | Expect::CopyEnd(_))
            | None => {}
        }
        Ok(seen)
    }

    /// A failed Bind has no record of its own: the error belongs to the run that it was for.
    fn fail_next(&mut self, error: ServerError, now: Now, events: &mut Vec<Event>) {
        let next = self
            .expect
            .iter_mut()
            .take_while(|expect| !matches!(expect, Expect::Sync(_)))
            .find_map(|expect| match expect {
                Expect::Execute(running) if running.seq.is_some() => Some(running),
                _ => None,
            });
        if let Some(running) = next {
            running.ended = true;
            running.capture = None;
            let outcome = running.outcome(CommandStatus::Error, None, Some(error), now);
            hold(&mut self.held, outcome, events);
        }
    }

    /// The commit at a `Sync` failed (a deferred constraint): the error belongs to what ran last.
    fn fail_sync(&mut self, error: ServerError, events: &mut Vec<Event>) {
        match &mut self.held {
            Some(outcome) => {
                outcome.status = CommandStatus::Error;
                outcome.error_code = error.code;
                outcome.error_message = error.message;
            }
            None => events.push(Event::ServerError(error)),
        }
    }

    /// The command at the front has an outcome.
    pub(super) fn complete(
        &mut self,
        status: CommandStatus,
        tag: Option<String>,
        error: Option<ServerError>,
        now: Now,
        events: &mut Vec<Event>,
    ) {
        let mut outcome = None;
        self.running(|running| {
            outcome = running.outcome(status, tag, error, now);
            // A simple query ends with ReadyForQuery; what is not answered before it does not run.
            running.ended = true;
        });
        hold(&mut self.held, outcome, events);
    }

    pub(super) fn running(&mut self, change: impl FnOnce(&mut Running)) {
        if let Some(
            Expect::Query(running)
            | Expect::Execute(running)
            | Expect::Parse(running, _)
            | Expect::Decided(running, _),
        ) = self.expect.front_mut()
        {
            change(running);
        }
    }
}

/// An outcome waits for the state of the transaction, or for the next outcome.
fn hold(held: &mut Option<Outcome>, outcome: Option<Outcome>, events: &mut Vec<Event>) {
    if outcome.is_some() {
        events.extend(held.take().map(Event::Outcome));
        *held = outcome;
    }
}

/// The server passed over a command.
fn skipped(running: &mut Running, held: &mut Option<Outcome>, now: Now, events: &mut Vec<Event>) {
    if !running.ended {
        running.capture = None;
        hold(held, running.outcome(CommandStatus::Skipped, None, None, now), events);
    }
}
