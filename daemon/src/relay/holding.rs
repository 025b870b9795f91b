//! A command that waits for a person: recorded, announced, waited for, and gone on with.
//!
//! Does not belong here: who may say what (`approvals`, and the policy behind it).

use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use chaperone_model::{
    CommandStatus, HoldEnd, HoldEnded, Outcome, Record, Rung, Seq, Statement, Timestamp,
};
use chaperone_policy::{
    Permit, Terms, Wait,
    approval::{Ballot, Binding, Running},
};
use chaperone_wire::postgres::{Refusal, Severity, backend_error};
use sha2::Digest as _;
use tokio::sync::oneshot;

use super::{
    Relay,
    deciding::class,
    masking::Said,
    pending::{Batch, Pending, Turn},
};
use crate::{
    approvals::{WhyNot, Word},
    clock,
    held::Held,
};

/// The statement waits for a person, or an approver's word is awaited by the agent itself.
const HELD: &str = "YH001";
/// Nobody decided in time.
const EXPIRED: &str = "YH002";
/// PostgreSQL's own `query_canceled`.
const CANCELED: &str = "57014";

/// A hold that the session waits for.
pub(super) struct Holding {
    pub(super) reference: Reference,
    word: oneshot::Receiver<Word>,
}

/// Which hold, and under which terms.
pub(super) struct Reference {
    pub(super) hold: Seq,
    terms: Arc<Terms>,
    /// What an approval of it is for.
    digest: [u8; 32],
    /// The masks at whose columns it guesses.
    guessed: BTreeSet<Arc<str>>,
    /// The masks that were lifted for it.
    lifted: Vec<(Arc<str>, Seq)>,
}

/// What a person's yes brought.
pub(super) struct Approved {
    pub(super) reference: Reference,
    pub(super) permit: Permit,
    pub(super) running: Running,
}

impl Relay<'_> {
    /// The command waits for a person: that is recorded, and told to both. Nothing of it was sent.
    pub(super) fn hold(&mut self, pending: Pending, terms: Arc<Terms>, binding: Binding) {
        let at = clock::wall();
        let verdict = chaperone_model::VerdictKind::Hold;
        let lifted = pending.said.lifted.clone();
        let intent =
            self.intent(pending.command.clone(), verdict, terms.rule.clone(), lifted.clone());
        let guesses: Vec<String> =
            pending.said.held.iter().map(|held| held.guess.sentence()).collect();
        let waits = Held {
            session: self.session,
            account: &self.deciding.account,
            terms: &terms,
            command: &pending.command,
            at,
            in_transaction: self.conversation.in_transaction(),
            guesses: &guesses,
        };
        let opened = waits.opened(binding.digest);
        let (askers, deadline) = (waits.askers(), waits.deadline());
        // Committed here: it is known under its number, and its flush can wait for the approval's.
        let records = vec![Record::Intent(intent), Record::HoldOpened(opened)];
        let mut receipts = match self.shared.log.commit(records) {
            Ok(committed) => committed.receipts(),
            Err(error) => return self.release(Err(error), Vec::new()),
        };
        receipts.truncate(1);
        let Some(hold) = receipts.first().map(chaperone_audit::Receipt::seq) else { return };
        self.session.commands.add(1);
        self.shared.counters.held.up();
        let shown = waits.shown(hold);
        let database = self.deciding.account.database.as_deref();
        let digest = binding.digest;
        let ballot = Ballot::new(terms.clone(), binding.clone(), askers);
        let word = self.shared.approvals.open(shown, self.session.place(database), ballot, binding);
        if let Some(text) = pending.command.text.clone() {
            let (local, shared) = (self.session.local.clone(), self.shared.clone());
            tokio::task::spawn_local(async move {
                if let Some(laid_out) = local.readers.lay_out(&text).await {
                    shared.approvals.lay_out(hold, laid_out);
                }
            });
        }
        if terms.wait == Wait::Retry {
            self.stand_in(pending.length, come_again(hold, &terms, &pending.command));
            return self.release(Ok(receipts), Vec::new());
        }
        let until = show(deadline);
        let notice = Refusal::new(
            HELD,
            format!("chaperone holds this statement until a person approves it (id {})", hold.0),
        )
        .detail(format!("Rule: {}. {}", terms.rule, why(&pending, &guesses)))
        .hint(format!(
            "It goes on once approved, and is refused at {until}. Cancel it to withdraw it."
        ));
        self.notice = Some(backend_error(Severity::Notice, &notice));
        let asked = asking_masks(&pending.said);
        let reference = Reference { hold, terms, digest, guessed: asked, lifted };
        self.deciding.turn = Turn::Holding(pending, Holding { reference, word });
    }

    /// Between two messages of the server's, tells the client what it is to be told.
    pub(super) fn say_notice(&mut self) {
        let between = self.conversation.at_boundary() && self.down.rest().is_empty();
        if let Some(notice) = self.notice.take_if(|_| between) {
            self.down.replace(0, &notice);
            self.down.clear();
        }
    }

    /// Waits for a person's word. Answers whether it has come.
    pub(super) fn poll_holding(
        &mut self,
        cx: &mut Context<'_>,
        pending: Pending,
        mut holding: Holding,
    ) -> bool {
        let heard = match Pin::new(&mut holding.word).poll(cx) {
            Poll::Ready(word) => {
                word.unwrap_or_else(|_| Word::Not(WhyNot::Withdrawn("the daemon ended it".into())))
            }
            Poll::Pending => {
                let left = self.client_done.is_some();
                self.deciding.turn = Turn::Holding(pending, holding);
                if left {
                    self.give_up_hold("the client left");
                    // What it sent behind the statement is not looked at, either.
                    self.up.withdraw();
                    self.terminated = true;
                }
                return left;
            }
        };
        self.deciding.turn = Turn::Heard(pending, holding.reference, heard);
        true
    }

    /// A person let a command go on, and it was looked up once more what its names stand for.
    pub(super) fn go_on(&mut self, batch: &mut Batch, mut pending: Pending, approved: Approved) {
        let Approved { reference, permit, running } = approved;
        let hold = reference.hold;
        // A text that is not known is not looked up.
        let masked = pending.said.refusal.take();
        if let Some((_, refusal)) = masked {
            let why = WhyNot::Withdrawn(refusal.message);
            return self.not(batch, &pending, &reference, why);
        }
        let same = pending.command.text.is_none()
            || self.binding(&pending, &reference.terms).digest == reference.digest;
        if !same {
            let why =
                "what its names stand for has changed, or could not be looked up again".into();
            return self.not(batch, &pending, &reference, WhyNot::Withdrawn(why));
        }
        if asking_masks(&pending.said) != reference.guessed
            || pending.said.lifted != reference.lifted
        {
            let why = "what is masked for it has changed".into();
            return self.not(batch, &pending, &reference, WhyNot::Withdrawn(why));
        }
        pending.command.approval = Some(hold);
        let allowed = self.approved(&pending.command, hold, running);
        self.let_pass(&pending, permit, allowed);
        batch.add(ended(hold, HoldEnd::Approved, None), Some(hold), Rung::Destructive);
    }

    /// A command does not go on.
    pub(super) fn not(
        &mut self,
        batch: &mut Batch,
        pending: &Pending,
        reference: &Reference,
        why: WhyNot,
    ) {
        let Reference { hold, terms, .. } = reference;
        let rule = &terms.rule;
        let class = class(&pending.command, None);
        let refused = |code, message: String| {
            Refusal::new(code, message).detail(format!("Rule: {rule}. Id: {}. {class}", hold.0))
        };
        let (how, detail, refusal) = match why {
            WhyNot::Denied { person, reason } => {
                let why = reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
                let refusal = refused("42501", format!("{person} denied this statement{why}"))
                    .hint("Do it in another way, or talk to them.");
                let detail = reason.map_or(person.clone(), |why| format!("{person}: {why}"));
                (HoldEnd::Denied, Some(detail), refusal)
            }
            WhyNot::Expired => (
                HoldEnd::Expired,
                None,
                refused(EXPIRED, "nobody approved this statement in time".into())
                    .hint("Ask an approver, and run it again."),
            ),
            WhyNot::Withdrawn(why) => {
                let refusal = refused(
                    CANCELED,
                    format!("this statement no longer waits for a person: {why}"),
                );
                (HoldEnd::Withdrawn, Some(why), refusal)
            }
        };
        self.stand_in(pending.length, refusal);
        batch.add(ended(*hold, how, detail), Some(*hold), Rung::Read);
    }

    /// The session waits no longer for a person's word on what was never sent.
    pub(super) fn give_up_hold(&mut self, why: &str) {
        let turn = std::mem::replace(&mut self.deciding.turn, Turn::Free);
        let hold = match turn {
            Turn::Holding(_, Holding { reference, .. }) | Turn::Heard(_, reference, _) => {
                reference.hold
            }
            Turn::Looking(Pending { approved: Some(approved), .. }, _)
            | Turn::Following(Pending { approved: Some(approved), .. }, ..)
            | Turn::Read(Pending { approved: Some(approved), .. }) => approved.reference.hold,
            other => {
                self.deciding.turn = other;
                return;
            }
        };
        self.shared.approvals.forget(hold, why);
        self.shared.log.ride_along(ended(hold, HoldEnd::Withdrawn, Some(why.into())));
        let outcome = Outcome::new(hold, CommandStatus::Refused, clock::wall());
        self.shared.log.ride_along(Record::Outcome(outcome));
    }

    /// What an approval of a command is for, exactly.
    pub(super) fn binding(&self, pending: &Pending, terms: &Terms) -> Binding {
        let identity = &self.session.identity;
        let account = &self.deciding.account;
        let mut hash = sha2::Sha256::new();
        let command = &pending.command;
        let rest = self.up.rest();
        let message = rest.get(..pending.length).unwrap_or(rest);
        hash.update(self.deciding.path.unwrap_or_default());
        let by_name = |one: &Statement| one.name.is_some();
        let depends = command.reading.as_ref().is_none_or(|r| r.statements.iter().any(by_name));
        if depends || command.text.is_none() {
            // What a name stands for, and an unknown text, is this session's alone.
            hash.update(self.session.id.0.to_be_bytes());
        }
        // What names stood for, and what was behind them.
        let statements = command.reading.iter().flat_map(|reading| &reading.statements);
        for relation in statements.flat_map(|one| &one.relations) {
            hash.update(relation.name.to_string());
            hash.update([0]);
        }
        if pending.said.withheld {
            // Its values are not in what is kept of it.
            hash.update(message);
        }
        if let Some(text) = &command.text {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
            // Parameters as they were sent, and their types: what the log keeps of them may be cut.
            if let Some(origin) = command.origin {
                hash.update(origin);
                hash.update(behind_names(message, 2));
            } else if command.parameters.is_some() {
                hash.update(message);
            }
        } else {
            hash.update(command.statement.unwrap_or(0).to_be_bytes());
            hash.update(message);
            hash.update(command.parameters.as_deref().unwrap_or(""));
            // It is not known to be the same another time.
            hash.update(clock::wall().0.to_be_bytes());
        }
        Binding {
            digest: hash.finalize().into(),
            rule: terms.rule.clone(),
            agent: identity.agent.clone(),
            run: terms.run(identity),
            target: self.session.target.clone(),
            database: account.database.clone(),
            user: account.user.clone(),
        }
    }
}

/// The masks at whose columns a command guesses, as far as people are asked about it.
fn asking_masks(said: &Said) -> BTreeSet<Arc<str>> {
    said.held.iter().map(|held| held.terms.rule.clone()).collect()
}

/// What is asked about: what the statement is, or what it tells of masked columns.
fn why(pending: &Pending, guesses: &[String]) -> String {
    let class = class(&pending.command, None);
    let guesses: Vec<String> = guesses.iter().map(|guess| format!(" Guess: {guess}.")).collect();
    format!("{class}{}", guesses.concat())
}

/// Tells a `Parse` at the front from others, whatever name it gives to its statement.
pub(super) fn origin(rest: &[u8], length: usize) -> [u8; 32] {
    let message = rest.get(..length).unwrap_or(rest);
    sha2::Sha256::digest(behind_names(message, 1)).into()
}

/// A message without the names at its front, which differ from one time to the next: a `Bind` has two,
/// a `Parse` one (protocol-message-formats).
fn behind_names(message: &[u8], names: usize) -> &[u8] {
    let mut rest = message.get(5..).unwrap_or(&[]);
    for _ in 0..names {
        let end = rest.iter().position(|byte| *byte == 0).map_or(rest.len(), |end| end + 1);
        rest = rest.get(end..).unwrap_or(&[]);
    }
    rest
}

/// What an agent is told that is to come again.
pub(super) fn come_again(hold: Seq, terms: &Terms, command: &chaperone_model::Command) -> Refusal {
    Refusal::new(HELD, format!("this statement needs a person's approval (id {})", hold.0))
        .detail(format!("Rule: {}. {}", terms.rule, class(command, None)))
        .hint("Run the same statement again once it is approved.")
}

fn ended(hold: Seq, how: HoldEnd, detail: Option<String>) -> Record {
    Record::HoldEnded(HoldEnded { at: clock::wall(), hold, how, detail })
}

pub(crate) fn lasts(terms: &Terms) -> String {
    let time = jiff::SignedDuration::try_from(terms.lifetime)
        .map_or_else(|_| "for ever".into(), |time| format!("for {time:#}"));
    match terms.uses {
        Some(1) => format!("once, {time}"),
        Some(uses) => format!("{uses} times, {time}"),
        None => time,
    }
}

/// A moment for people: UTC, to the second.
pub(crate) fn show(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0)
        .and_then(|at| at.round(jiff::Unit::Second))
        .map_or_else(|_| "?".into(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_is_compared_without_its_names() {
        let bind = |portal: &str, statement: &str| {
            [b"B\0\0\0\x20", portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\x01value"]
                .concat()
        };
        assert_eq!(behind_names(&bind("", "s"), 2), behind_names(&bind("p7", ""), 2));
        assert_eq!(behind_names(&bind("", "s"), 2), b"\0\x01value");
        assert_eq!(behind_names(b"B", 2), b"");
    }
}
