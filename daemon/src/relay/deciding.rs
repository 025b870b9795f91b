//! Deciding one command: it is read, policy says what it says, and what comes of that is recorded.
//!
//! Does not belong here: what becomes of a command that waits for a person (`holding`).

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use chaperone_model::{
    Command, CommandKind, Intent, Reading, Record, Rung, Seq, Statement, VerdictKind,
};
use chaperone_policy::{Asked, Decision, Permit, Terms, Verdict, Wait, approval::Running};
use chaperone_wire::postgres::{Allowed, Asks, Refusal};
use sha2::Digest as _;

use super::{
    Account, Relay, holding,
    holding::Approved,
    looking::{Looked, Looking},
    masking::{Followed, Masking, Said},
    pending::{Batch, Pending, Turn},
};
use crate::{approvals::Word, names::Names, summary};

/// Approved portals whose approval is still known.
const PORTALS: usize = 1000;

/// How far deciding has come, and what a session knows that decisions depend on.
pub(super) struct Deciding {
    pub(super) account: Account,
    pub(super) names: Names,
    /// What may be run of portals that a person approved.
    approved: HashMap<Seq, Running>,
    /// Tells what the session did to where names are looked for, where it did something.
    pub(super) path: Option<[u8; 32]>,
    /// What the target's catalog says of names.
    pub(super) looking: Looking,
    /// What of its results is masked.
    pub(super) masking: Masking,
    /// The last summary that was made: the next statement is often the same.
    summary: Option<(Arc<Reading>, Arc<str>)>,
    pub(super) turn: Turn,
}

impl Deciding {
    pub(super) fn new(account: Account, looking: Looking, masking: Masking) -> Self {
        Self {
            looking,
            masking,
            account,
            names: Names::default(),
            approved: HashMap::new(),
            path: None,
            summary: None,
            turn: Turn::Free,
        }
    }

    fn summary(&mut self, reading: &Arc<Reading>) -> Arc<str> {
        match &self.summary {
            Some((of, summary)) if Arc::ptr_eq(of, reading) => summary.clone(),
            _ => {
                let summary: Arc<str> = summary::of(reading).into();
                self.summary = Some((reading.clone(), summary.clone()));
                summary
            }
        }
    }

    /// Whether no command is at the front.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.turn, Turn::Free)
    }

    /// Whether something is waited for before anything more can be looked at.
    pub(super) fn waits(&self) -> bool {
        matches!(
            self.turn,
            Turn::Reading(..) | Turn::Looking(..) | Turn::Following(..) | Turn::Holding(..)
        )
    }
}

impl Relay<'_> {
    /// Goes on with what the command at the front waits for. Answers whether it waits no longer.
    pub(super) fn poll_deciding(&mut self, cx: &mut Context<'_>) -> bool {
        // What came before it goes first.
        if self.recording.is_some() {
            return false;
        }
        match std::mem::replace(&mut self.deciding.turn, Turn::Free) {
            Turn::Reading(mut pending, mut reading) => match reading.as_mut().poll(cx) {
                Poll::Pending => {
                    self.deciding.turn = Turn::Reading(pending, reading);
                    false
                }
                Poll::Ready(reading) => {
                    pending.command.reading = Some(reading);
                    self.deciding.turn = Turn::Read(pending);
                    true
                }
            },
            Turn::Looking(mut pending, mut looking) => match looking.as_mut().poll(cx) {
                Poll::Pending => {
                    self.deciding.turn = Turn::Looking(pending, looking);
                    false
                }
                Poll::Ready(known) => {
                    pending.looked = known.map_or(Looked::Without, Looked::At);
                    self.deciding.turn = Turn::Read(pending);
                    true
                }
            },
            Turn::Following(mut pending, columns, mut following) => {
                match following.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.deciding.turn = Turn::Following(pending, columns, following);
                        false
                    }
                    Poll::Ready(found) => {
                        pending.followed = match columns {
                            Some(columns) => Followed::Found(columns, found),
                            None => Followed::Refused(found),
                        };
                        self.deciding.turn = Turn::Read(pending);
                        true
                    }
                }
            }
            Turn::Holding(pending, holding) => self.poll_holding(cx, pending, holding),
            other => {
                self.deciding.turn = other;
                false
            }
        }
    }

    /// Finishes with the command at the front, where there is one that waits no longer. Answers
    /// whether the next may be looked at.
    pub(super) fn decided(&mut self, batch: &mut Batch) -> bool {
        match std::mem::replace(&mut self.deciding.turn, Turn::Free) {
            Turn::Read(pending) => self.decide(batch, pending),
            Turn::Heard(pending, reference, Word::Not(why)) => {
                self.not(batch, &pending, &reference, why);
                true
            }
            Turn::Heard(mut pending, reference, Word::Approved(permit, running)) => {
                pending.approved = Some(Box::new(Approved { reference, permit, running }));
                pending.command.reading.clone_from(&pending.raw);
                pending.looked = Looked::No;
                pending.look_anew();
                self.decide(batch, pending)
            }
            other => {
                self.deciding.turn = other;
                !self.deciding.waits()
            }
        }
    }

    /// Decides a command whose text is known already, and has others read. Answers whether the next
    /// may be looked at.
    pub(super) fn read(
        &mut self,
        batch: &mut Batch,
        length: usize,
        mut command: Command,
        objection: Option<Refusal>,
    ) -> bool {
        let readers = &self.session.local.readers;
        if let (None, Some(text)) = (&objection, &command.text)
            && command.reading.is_none()
            && command.kind != CommandKind::Cancel
        {
            let Some(reading) = readers.known(text) else {
                let (local, text) = (self.session.local.clone(), text.clone());
                let agent = self.session.identity.agent.clone();
                let reading = Box::pin(async move { local.readers.read(&text, &agent.0).await });
                self.deciding.turn =
                    Turn::Reading(Pending::new(length, command, objection), reading);
                return false;
            };
            command.reading = Some(reading);
        }
        self.decide(batch, Pending::new(length, command, objection))
    }

    fn decide(&mut self, batch: &mut Batch, mut pending: Pending) -> bool {
        if pending.raw.is_none()
            && let Some(reading) = pending.command.reading.take()
        {
            pending.prepared = self.deciding.masking.of_prepared(Some(&reading));
            let taken = self.conversation.names();
            let reading = self.deciding.names.settle(reading, taken);
            pending.command.reading = Some(reading.clone());
            pending.raw = Some(reading);
        }
        if let Some(refusal) = pending.objection.take() {
            self.refuse(batch, pending, VerdictKind::Deny, "protocol".into(), refusal);
            return true;
        }
        if let Some(hold) = pending.command.approval
            && let Some(running) = self.deciding.approved.get(&hold)
        {
            let (permit, rule) = (running.permit(), running.rule().clone());
            self.pass(batch, pending, permit, VerdictKind::Allow, rule, Allowed::default());
            return true;
        }
        let pending = if matches!(pending.followed, Followed::No) {
            let Some(pending) = self.look(pending) else { return false };
            pending
        } else {
            pending
        };
        let Some(mut pending) = self.follow(pending) else { return false };
        if let Some(approved) = pending.approved.take() {
            self.go_on(batch, pending, *approved);
            return true;
        }
        let Decision { verdict, rule, would, statement } = self.ask(&pending);
        if !matches!(verdict, Verdict::Deny(_))
            && let Some((mask, refusal)) = pending.said.refusal.take()
        {
            self.refuse(batch, pending, VerdictKind::Deny, mask, refusal);
            return true;
        }
        let (verdict, rule) = with_guesses(verdict, rule, &pending.said);
        match verdict {
            Verdict::Allow(permit) => {
                let kind = would.unwrap_or(VerdictKind::Allow);
                self.pass(batch, pending, permit, kind, rule, Allowed::default());
                true
            }
            Verdict::Deny(message) => {
                let refusal = denied(&rule, message.as_deref(), &pending.command, statement);
                self.refuse(batch, pending, VerdictKind::Deny, rule, refusal);
                true
            }
            Verdict::Hold(terms) if pending.command.kind == CommandKind::Prepare => {
                // Nothing of it runs before it has its parameters.
                let text = pending.original.as_ref().or(pending.command.text.as_ref());
                let asks = text.map(|text| Asks {
                    text: text.as_str().into(),
                    digest: holding::origin(self.up.rest(), pending.length),
                });
                let allowed = Allowed { asks, ..Allowed::default() };
                let permit = terms.prepare();
                self.pass(batch, pending, permit, VerdictKind::Hold, rule, allowed);
                true
            }
            Verdict::Hold(_) if self.conversation.is_doomed() => {
                let refusal = Refusal::new(
                    "25P02",
                    "chaperone refused a statement before this one in the same batch",
                );
                self.refuse(batch, pending, VerdictKind::Hold, rule, refusal);
                true
            }
            Verdict::Hold(_) if !batch.is_empty() || self.up.has_scanned() => {
                // What came before it is recorded and sent first.
                self.deciding.turn = Turn::Read(pending);
                false
            }
            Verdict::Hold(terms) => {
                let binding = self.binding(&pending, &terms);
                if let Some((hold, permit, running)) = self.shared.approvals.redeem(&binding) {
                    pending.command.approval = Some(hold);
                    let allowed = self.approved(&pending.command, hold, running);
                    self.pass(batch, pending, permit, VerdictKind::Allow, rule, allowed);
                    return true;
                }
                let bytes = pending.command.text.as_ref().map_or(0, String::len)
                    + pending.command.parameters.as_ref().map_or(0, String::len);
                let agent = &self.session.identity.agent;
                if self.shared.approvals.has_room(agent, bytes).is_err() {
                    let refusal = Refusal::new(
                        "53400",
                        "too many statements of this agent wait for a person, and chaperone holds no more",
                    )
                    .detail(format!("Rule: {rule}."))
                    .hint("Come again when some have been decided.");
                    self.refuse(batch, pending, VerdictKind::Deny, rule, refusal);
                    return true;
                }
                if terms.wait == Wait::Retry
                    && let Some(hold) = self.shared.approvals.pending(&binding)
                {
                    let refusal = holding::come_again(hold, &terms, &pending.command);
                    self.refuse(batch, pending, VerdictKind::Hold, rule, refusal);
                    return true;
                }
                self.hold(pending, terms, binding);
                false
            }
        }
    }

    fn ask(&self, pending: &Pending) -> Decision {
        let command = &pending.command;
        let session = self.session;
        let policy = &session.shared.config.policy;
        let account = &self.deciding.account;
        let rate = if policy.needs_rate() {
            session.shared.rates.count(&session.identity.agent, &session.target, 1)
        } else {
            0
        };
        policy.decide(&Asked {
            target: &session.target,
            identity: &session.identity,
            database: account.database.as_deref(),
            user: account.user.as_deref(),
            kind: command.kind,
            reading: command.reading.as_deref(),
            search_path: pending.path.as_ref().map(|known| known.path.as_slice()),
            moment: crate::clock::moment(),
            rate,
        })
    }

    /// Remembers what a person's approval of a command covers.
    pub(super) fn approved(&mut self, command: &Command, hold: Seq, running: Running) -> Allowed {
        if command.kind != CommandKind::Bind {
            return Allowed::default();
        }
        if self.deciding.approved.len() >= PORTALS {
            // What runs of those is asked for again.
            self.deciding.approved.clear();
        }
        self.deciding.approved.insert(hold, running);
        Allowed { approval: Some(hold), ..Allowed::default() }
    }

    /// The command goes on, once that is recorded.
    fn pass(
        &mut self,
        batch: &mut Batch,
        pending: Pending,
        permit: Permit,
        verdict: VerdictKind,
        rule: Arc<str>,
        allowed: Allowed,
    ) {
        self.let_pass(&pending, permit, allowed);
        self.intend(batch, pending.command, verdict, rule, pending.said.lifted);
    }

    pub(super) fn let_pass(&mut self, pending: &Pending, permit: Permit, allowed: Allowed) {
        let command = &pending.command;
        let kept = pending.kept.as_ref().or(pending.raw.as_ref());
        let runs = !matches!(command.kind, CommandKind::Prepare | CommandKind::Bind);
        if runs {
            self.follow_path(command);
        }
        if runs && command.kind != CommandKind::Cancel {
            self.deciding.looking.learn(command.reading.as_deref());
        }
        match kept {
            Some(reading) if runs => self.deciding.names.learn(reading),
            None if runs => self.deciding.names.lose(),
            _ => {}
        }
        let (mut reading, masks) = (kept.cloned(), pending.said.masks());
        if command.kind == CommandKind::Prepare {
            reading = self.deciding.masking.prepared(reading, &pending.said);
        }
        self.conversation.allowed(Allowed { reading, masks, ..allowed });
        self.up.scan_command(pending.length, permit);
    }

    /// Remembers what may change where names without a schema are looked for: an approval is for
    /// what they stood for.
    fn follow_path(&mut self, command: &Command) {
        let sets = command.reading.as_deref().is_none_or(sets);
        let session = self.session.id.0.to_string();
        // The setting's own name, SET SCHEMA, a name with escapes, or all settings at once.
        let words = ["path", "schema", "&\"", "all"];
        let text = command.text.as_ref().map(|text| text.to_lowercase());
        let text = match &text {
            Some(text) if !words.iter().any(|word| text.contains(word)) => return,
            Some(text) => text,
            None => &session,
        };
        if sets {
            let mut hash = sha2::Sha256::new();
            hash.update(self.deciding.path.unwrap_or_default());
            hash.update(text);
            self.deciding.path = Some(hash.finalize().into());
        }
    }

    /// The command does not go on, and the agent is told why.
    fn refuse(
        &mut self,
        batch: &mut Batch,
        pending: Pending,
        verdict: VerdictKind,
        rule: Arc<str>,
        refusal: Refusal,
    ) {
        let Pending { length, command, .. } = pending;
        self.stand_in(length, refusal);
        self.intend(batch, command, verdict, rule, Vec::new());
    }

    pub(super) fn stand_in(&mut self, length: usize, refusal: Refusal) {
        self.shared.counters.refused.up();
        let stand_in = self.conversation.refused(refusal);
        self.up.scan_refused(length, &stand_in);
    }

    fn intend(
        &mut self,
        batch: &mut Batch,
        command: Command,
        verdict: VerdictKind,
        rule: Arc<str>,
        lifted: Vec<(Arc<str>, Seq)>,
    ) {
        let intent = self.intent(command, verdict, rule, lifted);
        let rung = intent.rung.unwrap_or(Rung::Destructive);
        batch.add(Record::Intent(intent), None, rung);
    }

    pub(super) fn intent(
        &mut self,
        mut command: Command,
        verdict: VerdictKind,
        rule: Arc<str>,
        lifted: Vec<(Arc<str>, Seq)>,
    ) -> Intent {
        if let Some(found) = &self.deciding.masking.found {
            found.recorded(&mut command);
        }
        let reading = command.reading.as_ref().filter(|_| command.text.is_some());
        let summary = reading.map(|reading| self.deciding.summary(reading));
        Intent {
            at: self.shared.clock.now().wall,
            session: self.session.id,
            verdict,
            rule,
            rung: command.reading.as_ref().map(|reading| reading.rung()),
            // With the statement's text, once.
            summary,
            approval: command.approval,
            lifted,
            command,
        }
    }
}

/// What is said of a command with what its guesses at masked columns ask: all whom rules and masks ask
/// must be for it. Masks count on targets that are only observed, too.
fn with_guesses(verdict: Verdict, rule: Arc<str>, said: &Said) -> (Verdict, Arc<str>) {
    let mut all: Vec<&Arc<Terms>> = Vec::new();
    if let Verdict::Hold(terms) = &verdict {
        all.push(terms);
    }
    for held in &said.held {
        if !all.iter().any(|known| Arc::ptr_eq(known, &held.terms)) {
            all.push(&held.terms);
        }
    }
    match Terms::together(&all) {
        Some(terms) if !matches!(verdict, Verdict::Deny(_)) => {
            let rule = terms.rule.clone();
            (Verdict::Hold(terms), rule)
        }
        _ => (verdict, rule),
    }
}

/// Whether settings are set by it, perhaps where names are looked for.
pub(super) fn sets(reading: &Reading) -> bool {
    let sets = |one: &Statement| ["SET", "RESET", "DISCARD ALL"].contains(&one.kind.as_str());
    reading.statements.iter().any(sets)
}

/// What an agent is told of a statement that a rule denies.
fn denied(
    rule: &str,
    message: Option<&str>,
    command: &Command,
    statement: Option<usize>,
) -> Refusal {
    let told = message.map_or_else(
        || "chaperone does not allow this statement".to_owned(),
        |message| format!("chaperone does not allow this statement: {message}"),
    );
    Refusal::new("42501", told)
        .detail(format!("Rule: {rule}. {}", class(command, statement)))
        .hint("Do it in another way, or ask operations to change the rule.")
}

/// What the deciding statement is, in a sentence.
pub(super) fn class(command: &Command, statement: Option<usize>) -> String {
    let Some(reading) = command.reading.as_deref() else {
        return "Which statement it is, is not known here.".into();
    };
    let statements = &reading.statements;
    let strictest = || statements.iter().max_by_key(|statement| statement.rung);
    match statement.and_then(|index| statements.get(index)).or_else(strictest) {
        Some(one) => format!("{} is {}: {}.", one.kind, one.rung, one.reason),
        None => "It holds no statement.".into(),
    }
}
