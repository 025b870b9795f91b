//! Commands that wait for a person: who waits, who says what, and what was granted.
//!
//! A hold is in the log before it is here, and a person's word before it counts. What a word makes
//! of a hold is `chaperone_policy::approval`'s to say. Does not belong here: how a session waits
//! (`relay`), who may reach the control socket (`control`).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chaperone_audit::Log;
use chaperone_control::{Hold, Inspection};
use chaperone_model::{AgentName, HoldEnd, HoldEnded, HoldVoted, Record, Seq, Timestamp};
use chaperone_policy::{
    Permit, Wait,
    approval::{Ballot, Binding, Grant, Person, Running, Standing},
};
use tokio::sync::{Notify, oneshot};

use crate::{clock, inspect::Destination};

/// Holds of one agent at a time.
const MOST: usize = 1024;
/// Bytes of statements and parameters that one agent's holds keep.
const MOST_BYTES: usize = 32 << 20;
/// Grants of one agent that can still be used.
const GRANTS: usize = 1024;
/// How long the end of holds is not looked for, where none is due earlier.
const REST: Duration = Duration::from_mins(1);

/// What became of a hold, for the session that waits.
#[derive(Debug)]
pub(crate) enum Word {
    /// It may go on.
    Approved(Permit, Running),
    /// It may not.
    Not(WhyNot),
}

/// Why a command that waited does not go on.
#[derive(Debug)]
pub(crate) enum WhyNot {
    /// Somebody is against it.
    Denied { person: String, reason: Option<String> },
    /// Nobody decided in time.
    Expired,
    /// It is not asked for any more, and why.
    Withdrawn(String),
}

/// Somebody who looks into holds as they come, go and change.
pub(crate) trait Listener: Send + Sync {
    fn opened(&self, hold: &Hold);
    fn ended(&self, hold: &Hold, how: HoldEnd, detail: Option<&str>);
}

/// See the module's comment.
pub(crate) struct Approvals {
    log: Log,
    state: Mutex<State>,
    /// A deadline may be earlier than the next that is waited for.
    changed: Notify,
    listener: Option<Box<dyn Listener>>,
}

#[derive(Default)]
struct State {
    holds: BTreeMap<Seq, Open>,
    grants: Vec<(Seq, Grant)>,
}

struct Open {
    shown: Hold,
    place: Destination,
    ballot: Ballot,
    binding: Binding,
    /// `None` where nobody waits: the agent comes again.
    waiter: Option<oneshot::Sender<Word>>,
}

/// An agent has as many holds as one may have, or they are as large as they may be.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Approvals {
    pub(crate) fn new(log: Log, listener: Option<Box<dyn Listener>>) -> Self {
        Self { log, state: Mutex::default(), changed: Notify::new(), listener }
    }

    /// Uses up what was granted for exactly this, where something was.
    pub(crate) fn redeem(&self, binding: &Binding) -> Option<(Seq, Permit, Running)> {
        let now = clock::wall();
        let mut state = self.lock();
        if state.grants.is_empty() {
            return None;
        }
        let found = state.grants.iter_mut().find_map(|(hold, grant)| {
            grant.redeem(binding, now).map(|(permit, running)| (*hold, permit, running))
        });
        state.grants.retain(|(_, grant)| !grant.is_spent(now));
        found
    }

    /// Whether an agent may have one more hold, of so many bytes.
    pub(crate) fn has_room(&self, agent: &AgentName, bytes: usize) -> Result<(), TooMany> {
        let state = self.lock();
        let size = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let (mut held, mut kept) = (0, bytes);
        for open in state.holds.values().filter(|open| open.binding.agent == *agent) {
            held += 1;
            kept += size(&open.shown.statement) + size(&open.shown.parameters);
        }
        // One of any size has room where there is none.
        if held == 0 || held < MOST && kept <= MOST_BYTES { Ok(()) } else { Err(TooMany) }
    }

    /// The hold that the agent was told to come again for.
    pub(crate) fn pending(&self, binding: &Binding) -> Option<Seq> {
        let state = self.lock();
        let same = |open: &Open| open.waiter.is_none() && open.binding == *binding;
        state.holds.iter().find(|(_, open)| same(open)).map(|(id, _)| *id)
    }

    /// A hold that is in the log. Where its agent waits, the answer comes through the receiver.
    pub(crate) fn open(
        &self,
        shown: Hold,
        place: Destination,
        ballot: Ballot,
        binding: Binding,
    ) -> oneshot::Receiver<Word> {
        let (sender, receiver) = oneshot::channel();
        let waiter = (ballot.terms().wait == Wait::Stay).then_some(sender);
        if let Some(listener) = &self.listener {
            listener.opened(&shown);
        }
        self.lock().holds.insert(shown.id, Open { shown, place, ballot, binding, waiter });
        self.changed.notify_one();
        receiver
    }

    /// What is found out about a statement, for those who look.
    pub(crate) fn lay_out(&self, hold: Seq, text: String) {
        if let Some(open) = self.lock().holds.get_mut(&hold) {
            open.shown.laid_out = Some(text);
        }
    }

    /// A session's statement is not asked for any more. Answers whether it had one.
    pub(crate) fn withdraw_session(&self, session: Seq, why: &str) -> bool {
        let mut state = self.lock();
        let of = |open: &Open| open.shown.session == session && open.waiter.is_some();
        let Some(id) = state.holds.iter().find(|(_, open)| of(open)).map(|(id, _)| *id) else {
            return false;
        };
        let open = state.holds.remove(&id);
        drop(state);
        if let Some(open) = open {
            self.tell(&open.shown, HoldEnd::Withdrawn, Some(why));
            if let Some(waiter) = open.waiter {
                let _ = waiter.send(Word::Not(WhyNot::Withdrawn(why.to_owned())));
            }
        }
        true
    }

    /// The session that waits is gone, and has recorded it.
    pub(crate) fn forget(&self, hold: Seq, why: &str) {
        let open = self.lock().holds.remove(&hold);
        if let Some(open) = open {
            self.tell(&open.shown, HoldEnd::Withdrawn, Some(why));
        }
    }

    /// All holds, oldest first.
    pub(crate) fn list(&self) -> Vec<Hold> {
        self.lock().holds.values().map(|open| open.shown.clone()).collect()
    }

    /// One hold, and where it would have gone.
    pub(crate) fn get(&self, id: Seq) -> Option<(Hold, Destination)> {
        self.lock().holds.get(&id).map(|open| (open.shown.clone(), open.place.clone()))
    }

    /// What its target says of a hold.
    pub(crate) fn inspected(&self, id: Seq, inspection: Inspection) {
        if let Some(open) = self.lock().holds.get_mut(&id) {
            open.shown.inspection = Some(inspection);
        }
    }

    /// A person's word. Answers what came of it; `Err` says why it does not count.
    pub(crate) fn decide(
        &self,
        id: Seq,
        person: &Person,
        approve: bool,
        reason: Option<String>,
    ) -> Result<String, String> {
        let at = clock::wall();
        let mut state = self.lock();
        let Some(open) = state.holds.get_mut(&id) else {
            return Err(format!(
                "nothing waits under {}: `chaperone holds` shows what does, `chaperone log show {}` what became of it",
                id.0, id.0
            ));
        };
        if open.shown.deadline <= at {
            return Err(format!("{} is past its deadline", id.0));
        }
        open.ballot.may(person, approve).map_err(|objection| objection.to_string())?;
        // Before it counts it is in the log.
        self.log
            .commit(vec![Record::HoldVoted(HoldVoted {
                at,
                hold: id,
                approves: approve,
                uid: person.uid,
                person: person.name.clone(),
                reason: reason.clone(),
            })])
            .map(|committed| drop(committed.receipts()))
            .map_err(|error| {
                format!("your word could not be recorded and does not count: {error}")
            })?;
        if !approve {
            let open = state.holds.remove(&id);
            drop(state);
            let detail = match &reason {
                Some(reason) => format!("{}: {reason}", person.name),
                None => person.name.clone(),
            };
            if let Some(open) = open {
                let why = WhyNot::Denied { person: person.name.clone(), reason };
                self.end(open, HoldEnd::Denied, Some(detail), Word::Not(why));
            }
            return Ok(format!("{} is denied", id.0));
        }
        let standing = open.ballot.approve(person, at).map_err(|o| o.to_string())?;
        open.shown.approved_by.push(person.name.clone());
        let mut grant = match standing {
            Standing::Waiting { missing } => {
                return Ok(format!("{} waits for {missing} more", id.0));
            }
            Standing::Approved(grant) => grant,
        };
        let Some(open) = state.holds.remove(&id) else { return Err("it is gone".into()) };
        let word = if open.waiter.is_some() {
            let Some((permit, running)) = grant.redeem(&open.binding, at) else {
                return Err("the approval is for something else: this is a bug".into());
            };
            Some(Word::Approved(permit, running))
        } else {
            None
        };
        let agent = &open.binding.agent;
        let granted = state.grants.iter().filter(|(_, grant)| grant.binding().agent == *agent);
        let kept = granted.count() < GRANTS;
        if kept && !grant.is_spent(at) {
            state.grants.push((id, grant));
        }
        drop(state);
        let names = open.shown.approved_by.join(", ");
        let Some(word) = word else {
            if !kept {
                let why = "the agent has too many approvals that it does not use";
                self.record(&open.shown, HoldEnd::Withdrawn, Some(why.into()));
                return Err(format!("{} is withdrawn: {why}", id.0));
            }
            self.record(&open.shown, HoldEnd::Approved, Some(names));
            return Ok(format!("{} is approved: the agent's next try goes on", id.0));
        };
        // The session records it with the command that goes on.
        self.tell(&open.shown, HoldEnd::Approved, Some(&names));
        if open.waiter.is_some_and(|waiter| waiter.send(word).is_ok()) {
            Ok(format!("{} is approved and goes on", id.0))
        } else {
            Ok(format!("{} is approved, but its session is gone", id.0))
        }
    }

    /// Ends holds as they come due, as long as the daemon runs.
    pub(crate) async fn expire(self: Arc<Self>) {
        loop {
            let now = clock::wall();
            let (due, next) = {
                let mut state = self.lock();
                let due: Vec<Seq> = state
                    .holds
                    .iter()
                    .filter(|(_, open)| open.shown.deadline <= now)
                    .map(|(id, _)| *id)
                    .collect();
                let due: Vec<Open> = due.iter().filter_map(|id| state.holds.remove(id)).collect();
                (due, state.holds.values().map(|open| open.shown.deadline).min())
            };
            for open in due {
                self.end(open, HoldEnd::Expired, None, Word::Not(WhyNot::Expired));
            }
            let rest = next.map_or(REST, |next| {
                Duration::from_micros(u64::try_from(next.0 - now.0).unwrap_or(0)).min(REST)
            });
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// The daemon ends: nobody is waited for any more.
    pub(crate) fn withdraw_all(&self, why: &str) {
        let holds = std::mem::take(&mut self.lock().holds);
        for open in holds.into_values() {
            let word = Word::Not(WhyNot::Withdrawn(why.to_owned()));
            self.end(open, HoldEnd::Withdrawn, Some(why.to_owned()), word);
        }
    }

    fn end(&self, open: Open, how: HoldEnd, detail: Option<String>, word: Word) {
        match open.waiter {
            // The session records it with what it does about it.
            Some(waiter) => {
                self.tell(&open.shown, how, detail.as_deref());
                let _ = waiter.send(word);
            }
            None => self.record(&open.shown, how, detail),
        }
    }

    fn record(&self, hold: &Hold, how: HoldEnd, detail: Option<String>) {
        self.tell(hold, how, detail.as_deref());
        let ended = HoldEnded { at: clock::wall(), hold: hold.id, how, detail };
        self.log.ride_along(Record::HoldEnded(ended));
    }

    fn tell(&self, hold: &Hold, how: HoldEnd, detail: Option<&str>) {
        if let Some(listener) = &self.listener {
            listener.ended(hold, how, detail);
        }
    }

    /// What it guards is whole whenever it is let go of.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A moment so long after another.
pub(crate) fn after(at: Timestamp, time: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
}
