//! Masks that people lifted for a run of an agent, until a time: who asks, who says what, what holds.
//!
//! Every step is in the log before it counts, and all of it is in memory alone: after a restart every
//! mask counts again. What a person's word makes of a request is `chaperone_policy::lifting`'s to say.
//! Does not belong here: what becomes of values (`masks`), who may reach the control socket
//! (`control`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chaperone_audit::Log;
use chaperone_control::{Exception, Unmask};
use chaperone_model::{
    AgentName, ExceptionStep, Identity, Record, Ref, Seq, Step, TargetName, Timestamp,
};
use chaperone_policy::{
    approval::Person,
    lifting::{Lift, Lifted, Petition, Reply},
};

use crate::{approvals::after, clock, identity::Id, shared::Shared};

/// Exceptions of one agent at a time, with those that are only asked for.
const MOST: usize = 64;
/// Longest reason, in bytes.
const REASON: usize = 2000;
/// How often it is looked whether a run or a time is over. Nothing is lifted by an exception whose
/// time is over, whenever that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the module's comment.
pub(crate) struct Exceptions {
    log: Log,
    state: Mutex<BTreeMap<Seq, One>>,
    /// Those that lift something: commands look no further where there is none.
    lifting: AtomicUsize,
}

struct One {
    shown: Exception,
    lift: Lift,
    /// The first process of the run.
    first: Option<Id>,
    stands: Stands,
}

enum Stands {
    Asked(Petition),
    Granted(Lifted),
}

/// The run that a mask is to be lifted for, as it is known now.
struct Run {
    name: Arc<str>,
    first: Option<Id>,
    /// Accounts that it runs under, or was started from.
    askers: Vec<u32>,
}

impl Exceptions {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, state: Mutex::default(), lifting: AtomicUsize::new(0) }
    }

    /// The masks that are lifted for who connected there, and by which exception.
    pub(crate) fn of(&self, identity: &Identity, target: &TargetName) -> Vec<(Arc<str>, Seq)> {
        if self.lifting.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let now = clock::wall();
        let state = self.lock();
        let granted = state.iter().filter_map(|(id, one)| match &one.stands {
            Stands::Granted(lifted) => {
                let mask = lifted.of(&identity.agent, &identity.run.name, target, now)?;
                Some((mask.clone(), *id))
            }
            Stands::Asked(_) => None,
        });
        granted.collect()
    }

    /// Whether an id is one of these.
    pub(crate) fn has(&self, id: Seq) -> bool {
        self.lock().contains_key(&id)
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<Exception> {
        let now = clock::wall();
        let state = self.lock();
        state.values().filter(|one| one.ends() > now).map(|one| one.shown.clone()).collect()
    }

    /// Somebody asks to lift a mask; where they may say so themselves, that is their word for it.
    /// Answers the id, and what came of it; `Err` says why nothing did.
    pub(crate) fn ask(
        &self,
        shared: &Shared,
        asked: &Unmask,
        person: &Person,
    ) -> Result<(Seq, String), String> {
        let reason = asked.reason.trim();
        if reason.is_empty() || reason.len() > REASON {
            return Err(format!("say why, in 1 to {REASON} bytes"));
        }
        let config = &shared.config;
        let mask = config.masks.iter().find(|mask| *mask.name == *asked.mask);
        let mask =
            mask.ok_or_else(|| format!("the configuration has no mask named {:?}", asked.mask))?;
        let terms = mask.unmask.clone().ok_or_else(|| {
            format!("mask {} says of nobody that they may lift it (`unmask`)", mask.name)
        })?;
        let agent = config.agents.iter().find(|agent| *agent.name.0 == *asked.agent);
        let agent = agent
            .ok_or_else(|| format!("the configuration has no agent named {:?}", asked.agent))?;
        let target = match &asked.target {
            None => None,
            Some(name) => {
                let target = config.targets.iter().find(|target| *target.name.0 == **name);
                let target = target
                    .ok_or_else(|| format!("the configuration has no target named {name:?}"))?;
                Some(target.name.clone())
            }
        };
        let run = Run::of(shared, &agent.name, asked.run.as_deref())?;
        let lift = Lift {
            mask: mask.name.clone(),
            agent: agent.name.clone(),
            run: run.name.clone(),
            target,
            lasts: Duration::from_secs(asked.seconds),
        };
        let most = terms.lifetime;
        let petition = Petition::new(terms, lift.clone(), run.askers).ok_or_else(|| {
            let most = jiff::SignedDuration::try_from(most).map(|most| format!("{most:#}"));
            let most = most.unwrap_or_else(|_| "any time".into());
            format!("mask {} is lifted for at least a second and at most {most}", mask.name)
        })?;
        self.open(petition, lift, run.first, person, reason)
    }

    fn open(
        &self,
        mut petition: Petition,
        lift: Lift,
        first: Option<Id>,
        person: &Person,
        reason: &str,
    ) -> Result<(Seq, String), String> {
        let at = clock::wall();
        let mut state = self.lock();
        if state.values().filter(|one| one.lift.agent == lift.agent).count() >= MOST {
            return Err(format!("agent {} has {MOST} exceptions already", lift.agent));
        }
        let deadline = after(at, petition.terms().deadline);
        let approvers = petition.terms().approver_lines();
        let step = |step, until| Said { at, step, until, person: Some(person), reason: None };
        let mut records = vec![ExceptionStep {
            approvers: Some(approvers.join(" and ")),
            ..step(Step::Asked, Some(deadline)).record(&lift, Ref::InBatch(0), Some(reason))
        }];
        let mut approved_by = Vec::new();
        let reply = match petition.approve(person, at) {
            Ok(reply) => {
                approved_by.push(person.name.clone());
                records.push(step(Step::Approved, None).record(
                    &lift,
                    Ref::InBatch(0),
                    Some(reason),
                ));
                reply
            }
            // To ask needs nobody's leave.
            Err(_) => Reply::Waiting { missing: petition.terms().quorum_of_all() },
        };
        if let Reply::Lifted(lifted) = &reply {
            let granted = Said { person: None, ..step(Step::Granted, Some(lifted.until())) };
            records.push(granted.record(&lift, Ref::InBatch(0), None));
        }
        let id = self.commit(records)?.ok_or("the log gave it no number")?;
        let mut shown = Exception {
            id,
            since: at,
            mask: lift.mask.to_string(),
            agent: lift.agent.to_string(),
            run: lift.run.to_string(),
            target: lift.target.as_ref().map(ToString::to_string),
            asked_by: person.name.clone(),
            reason: reason.to_owned(),
            approvers,
            approved_by,
            until: None,
            deadline: Some(deadline),
            seconds: lift.lasts.as_secs(),
        };
        let (stands, done) = match reply {
            Reply::Waiting { missing } => {
                let done =
                    format!("{} waits for {missing} more: `chaperone approve {}`", id.0, id.0);
                (Stands::Asked(petition), done)
            }
            Reply::Lifted(lifted) => {
                (shown.until, shown.deadline) = (Some(lifted.until()), None);
                let done = granted(id, &lifted);
                (Stands::Granted(lifted), done)
            }
        };
        state.insert(id, One { shown, lift, first, stands });
        self.count(&state);
        Ok((id, done))
    }

    /// A person's word on what somebody asked for. Answers what came of it; `Err` says why it does not
    /// count.
    pub(crate) fn decide(
        &self,
        id: Seq,
        person: &Person,
        approve: bool,
        reason: Option<&str>,
    ) -> Result<String, String> {
        let at = clock::wall();
        let mut state = self.lock();
        let one = state.get_mut(&id).ok_or_else(|| gone(id))?;
        if one.ends() <= at {
            return Err(gone(id));
        }
        let Stands::Asked(petition) = &mut one.stands else {
            return Err(format!("{} is granted already: `chaperone unmask revoke {}`", id.0, id.0));
        };
        petition.may(person, approve).map_err(|objection| objection.to_string())?;
        let step = |step, until| Said { at, step, until, person: Some(person), reason: None };
        if !approve {
            let record = step(Step::Denied, None).record(&one.lift, Ref::To(id), reason);
            self.commit(vec![record])?;
            state.remove(&id);
            return Ok(format!("{} is denied", id.0));
        }
        // It counts once it is in the log: the word before what it leads to.
        let record = step(Step::Approved, None).record(&one.lift, Ref::To(id), reason);
        self.commit(vec![record])?;
        let reply = petition.approve(person, at).map_err(|objection| objection.to_string())?;
        one.shown.approved_by.push(person.name.clone());
        match reply {
            Reply::Waiting { missing } => Ok(format!("{} waits for {missing} more", id.0)),
            Reply::Lifted(lifted) => {
                let until = lifted.until();
                let record = Said { person: None, ..step(Step::Granted, Some(until)) };
                self.commit(vec![record.record(&one.lift, Ref::To(id), None)])?;
                (one.shown.until, one.shown.deadline) = (Some(until), None);
                let done = granted(id, &lifted);
                one.stands = Stands::Granted(lifted);
                self.count(&state);
                Ok(done)
            }
        }
    }

    /// The mask counts again, or is not asked for any more. That needs nobody's leave.
    pub(crate) fn revoke(
        &self,
        id: Seq,
        person: &Person,
        reason: Option<&str>,
    ) -> Result<String, String> {
        let mut state = self.lock();
        let one = state.remove(&id).ok_or_else(|| gone(id))?;
        self.count(&state);
        drop(state);
        let step = Said {
            at: clock::wall(),
            step: Step::Revoked,
            until: None,
            person: Some(person),
            reason: None,
        };
        // It is revoked all the same.
        self.commit(vec![step.record(&one.lift, Ref::To(id), reason)])
            .map_err(|why| format!("{} is revoked, and {why}", id.0))?;
        Ok(format!("{} is revoked: mask {} counts from the next command on", id.0, one.lift.mask))
    }

    /// Ends what is over, as long as the daemon runs.
    pub(crate) async fn watch(shared: Arc<Shared>) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            every.tick().await;
            shared.exceptions.look(&shared);
        }
    }

    fn look(&self, shared: &Shared) {
        let now = clock::wall();
        let runs: Vec<(Seq, Arc<str>, AgentName, Option<Id>)> = {
            let state = self.lock();
            let of = |(id, one): (&Seq, &One)| {
                (*id, one.lift.run.clone(), one.lift.agent.clone(), one.first)
            };
            state.iter().map(of).collect()
        };
        if runs.is_empty() {
            return;
        }
        let over = runs.into_iter().filter(|(_, run, agent, first)| {
            let in_it = |identity: &Identity| identity.agent == *agent && identity.run.name == *run;
            let has_session = shared.sessions().values().any(|live| in_it(&live.identity));
            !has_session && !first.is_some_and(|first| shared.identities.any_of(first))
        });
        let over: Vec<Seq> = over.map(|(id, ..)| id).collect();
        let mut state = self.lock();
        let ended: Vec<(Seq, One)> =
            state.extract_if(.., |id, one| one.ends() <= now || over.contains(id)).collect();
        self.count(&state);
        drop(state);
        for (id, one) in ended {
            let expired = one.ends() <= now;
            let (step, why) = match (expired, &one.stands) {
                (true, Stands::Granted(_)) => (Step::Expired, "its time is over"),
                (true, Stands::Asked(_)) => (Step::Expired, "nobody granted it in time"),
                (false, _) => (Step::Ended, "the run is over"),
            };
            self.end(id, &one, step, why);
        }
    }

    /// The daemon ends: every mask counts again.
    pub(crate) fn end_all(&self, why: &str) {
        let all = std::mem::take(&mut *self.lock());
        self.lifting.store(0, Ordering::Release);
        for (id, one) in all {
            self.end(id, &one, Step::Ended, why);
        }
    }

    fn end(&self, id: Seq, one: &One, step: Step, why: &str) {
        let step = Said { at: clock::wall(), step, until: None, person: None, reason: Some(why) };
        self.log.ride_along(Record::Exception(step.record(&one.lift, Ref::To(id), None)));
    }

    /// Writes steps to the log. Answers the number of the first.
    fn commit(&self, steps: Vec<ExceptionStep>) -> Result<Option<Seq>, String> {
        let records = steps.into_iter().map(Record::Exception).collect();
        let receipts = self.log.commit(records).map(chaperone_audit::Committed::receipts);
        let receipts = receipts
            .map_err(|error| format!("it could not be recorded and does not count: {error}"))?;
        Ok(receipts.first().map(chaperone_audit::Receipt::seq))
    }

    fn count(&self, state: &BTreeMap<Seq, One>) {
        let granted = |one: &&One| matches!(one.stands, Stands::Granted(_));
        self.lifting.store(state.values().filter(granted).count(), Ordering::Release);
    }

    /// What it guards is whole whenever it is let go of.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Seq, One>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    /// When it is over whatever happens.
    fn ends(&self) -> Timestamp {
        match &self.stands {
            Stands::Granted(lifted) => lifted.until(),
            Stands::Asked(petition) => after(self.shown.since, petition.terms().deadline),
        }
    }
}

impl Run {
    /// The run of this name, or the only one that an agent has: one with a session now, so that it is
    /// known who started it.
    fn of(shared: &Shared, agent: &AgentName, name: Option<&str>) -> Result<Self, String> {
        let sessions = shared.sessions();
        let of_agent: Vec<&Identity> = sessions
            .values()
            .map(|live| &live.identity)
            .filter(|identity| identity.agent == *agent)
            .collect();
        let mut runs: Vec<&str> = of_agent.iter().map(|identity| &*identity.run.name).collect();
        runs.sort_unstable();
        runs.dedup();
        let name = match (name, runs.as_slice()) {
            (Some(name), _) if runs.contains(&name) => name,
            (None, [one]) => one,
            (Some(name), _) => {
                return Err(format!(
                    "run {name:?} of agent {agent} has no session now: `chaperone sessions` shows which have"
                ));
            }
            (None, []) => return Err(format!("agent {agent} has no session now")),
            (None, many) => {
                return Err(format!(
                    "agent {agent} has several runs, say which by --run: {}",
                    many.join(", ")
                ));
            }
        };
        let of_run = of_agent.iter().filter(|identity| *identity.run.name == *name);
        let mut found = Self { name: name.into(), first: None, askers: Vec::new() };
        for identity in of_run {
            let processes = &identity.lineage;
            found.first = found.first.or_else(|| processes.first().map(|one| Id::from(&**one)));
            found
                .askers
                .extend(processes.iter().flat_map(|p| [Some(p.uid), p.login_uid]).flatten());
        }
        Ok(found)
    }
}

/// What is said of a step beside what the exception is.
struct Said<'a> {
    at: Timestamp,
    step: Step,
    until: Option<Timestamp>,
    person: Option<&'a Person>,
    reason: Option<&'a str>,
}

impl Said<'_> {
    fn record(&self, lift: &Lift, exception: Ref, reason: Option<&str>) -> ExceptionStep {
        ExceptionStep {
            at: self.at,
            exception,
            step: self.step,
            mask: lift.mask.clone(),
            agent: lift.agent.clone(),
            run: lift.run.clone(),
            target: lift.target.clone(),
            approvers: None,
            until: self.until,
            uid: self.person.map(|person| person.uid),
            person: self.person.map(|person| person.name.clone()),
            reason: reason.or(self.reason).map(str::to_owned),
        }
    }
}

fn granted(id: Seq, lifted: &Lifted) -> String {
    let Lift { mask, agent, run, .. } = lifted.lift();
    let until = crate::relay::show(lifted.until());
    format!("{}: mask {mask} is lifted for {agent}, run {run}, until {until}", id.0)
}

fn gone(id: Seq) -> String {
    format!(
        "nothing is lifted or asked for under {}: `chaperone unmask list --all` shows what was",
        id.0
    )
}
