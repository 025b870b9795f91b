//! Deciding one command of an SSH session: it is read, policy says what it says, and what comes of that
//! is recorded before anything goes on.

use std::{pin::Pin, rc::Rc, sync::Arc};

use chaperone_audit::{AuditError, Receipt};
use chaperone_model::{
    Command, HoldEnd, HoldEnded, Intent, Reading, Record, Rung, Seq, VerdictKind,
};
use chaperone_policy::{
    Asked, Decision, Permit, Terms, Verdict, Wait,
    approval::{Ballot, Binding},
};
use chaperone_wire::ssh::{Ask, Inner, Wanted};

use super::reading::{Parent, Read, read};
use crate::{
    approvals::{WhyNot, Word},
    clock,
    held::Held,
    relay::{Account, show},
    session::Session,
    summary,
    tunnels::Leads,
};

type Later<'a> = Pin<Box<dyn Future<Output = Decided<'a>> + 'a>>;

/// What came of a command.
pub(super) enum Decided<'a> {
    /// It may go on: here is the proof that it may, and that it is in the log.
    Go { ask: u64, seq: Seq, permit: Permit, receipt: Receipt, inner: Inner },
    /// It may not, for this reason.
    No { ask: u64, why: String },
    /// A person is asked; the agent's user is told so.
    Holding { ask: u64, hold: Seq, notice: String, then: Later<'a> },
    /// It could not be recorded.
    Unrecorded { error: AuditError },
}

/// Decides a command.
pub(super) async fn decide(
    session: &Session,
    account: Rc<Account>,
    ask: Box<Ask>,
    parent: Option<Parent>,
    leads: Option<Leads>,
) -> Decided<'_> {
    let number = ask.number;
    let line = match &ask.wanted {
        // In a process that can be lost.
        Wanted::Exec { line } => {
            Some(session.local.readers.line(line, &session.identity.agent.0).await)
        }
        _ => None,
    };
    let mut found = read(&ask, line.as_deref(), parent.as_ref());
    if let Some(Leads::To(to)) = &leads {
        let name = &session.shared.config.targets[to.target].name;
        found.leads_to(&format!("what goes through this tunnel is decided as target {name}"));
    }
    let decision = asked(session, &account, &found.command);
    let Decision { verdict, rule, would, statement } = decision;
    // What is recorded, and shown to approvers, is without what is masked.
    if let Some(masked) = session.masks(&account).and_then(|masks| masks.found()) {
        masked.recorded(&mut found.command);
    }
    if let Some(objection) = ask.objection {
        return refuse(session, number, found.command, "protocol".into(), objection).await;
    }
    if let Some(Leads::Unclear(why)) = leads {
        let why = format!("chaperone cannot tell where this tunnel leads: {why}\n");
        return refuse(session, number, found.command, "tunnel".into(), &why).await;
    }
    match verdict {
        Verdict::Deny(message) => {
            let class = class(&found.command, statement);
            let told = message.map_or_else(
                || format!("chaperone does not allow this: {class}"),
                |message| format!("chaperone does not allow this: {message} ({class})"),
            );
            let why = format!("{told} Rule: {rule}.\n");
            refuse(session, number, found.command, rule, &why).await
        }
        Verdict::Allow(permit) => {
            let kind = would.unwrap_or(VerdictKind::Allow);
            let inner = found.inner;
            let intent = intent(session, found.command, kind, rule);
            go(session, number, permit, intent, inner).await
        }
        Verdict::Hold(terms) => {
            let binding = binding(session, &account, &terms, found.digest);
            if let Some((hold, permit, _)) = session.shared.approvals.redeem(&binding) {
                found.command.approval = Some(hold);
                let inner = found.inner;
                let intent = intent(session, found.command, VerdictKind::Allow, rule);
                return go(session, number, permit, intent, inner).await;
            }
            hold(session, &account, number, found, terms, binding).await
        }
    }
}

fn asked(session: &Session, account: &Account, command: &Command) -> Decision {
    let policy = &session.shared.config.policy;
    let rate = if policy.needs_rate() {
        session.shared.rates.count(&session.identity.agent, &session.target, 1)
    } else {
        0
    };
    policy.decide(&Asked {
        target: &session.target,
        identity: &session.identity,
        database: None,
        user: account.user.as_deref(),
        kind: command.kind,
        reading: command.reading.as_deref(),
        search_path: None,
        moment: clock::moment(),
        rate,
    })
}

fn intent(session: &Session, command: Command, verdict: VerdictKind, rule: Arc<str>) -> Intent {
    let reading = command.reading.as_deref();
    Intent {
        at: session.shared.clock.now().wall,
        session: session.id,
        verdict,
        rule,
        rung: reading.map(Reading::rung),
        summary: reading.map(|reading| summary::of(reading).into()),
        approval: command.approval,
        lifted: Vec::new(),
        command,
    }
}

/// Records, so safe as the command's rung asks for.
async fn commit(
    session: &Session,
    records: Vec<Record>,
    rung: Rung,
) -> Result<Vec<Receipt>, AuditError> {
    let safe = session.shared.config.daemon.durability.of(rung);
    let committed = session.local.committer.commit(records, safe).await;
    committed
        .unwrap_or_else(|_| Err(AuditError::Database("the thread that records has ended".into())))
}

async fn go(
    session: &Session,
    ask: u64,
    permit: Permit,
    intent: Intent,
    inner: Inner,
) -> Decided<'_> {
    let rung = intent.rung.unwrap_or(Rung::Destructive);
    match commit(session, vec![Record::Intent(intent)], rung).await {
        Err(error) => Decided::Unrecorded { error },
        Ok(mut receipts) => match receipts.pop() {
            Some(receipt) => Decided::Go { ask, seq: receipt.seq(), permit, receipt, inner },
            None => Decided::No { ask, why: "chaperone has no receipt of it\n".into() },
        },
    }
}

async fn refuse<'a>(
    session: &'a Session,
    ask: u64,
    command: Command,
    rule: Arc<str>,
    why: &str,
) -> Decided<'a> {
    session.shared.counters.refused.up();
    let intent = intent(session, command, VerdictKind::Deny, rule);
    match commit(session, vec![Record::Intent(intent)], Rung::Read).await {
        Err(error) => Decided::Unrecorded { error },
        Ok(receipts) => {
            if let Some(receipt) = receipts.first() {
                refused_outcome(session, receipt.seq(), why);
            }
            Decided::No { ask, why: why.to_owned() }
        }
    }
}

fn refused_outcome(session: &Session, seq: Seq, why: &str) {
    let mut outcome =
        chaperone_model::Outcome::new(seq, chaperone_model::CommandStatus::Refused, clock::wall());
    outcome.error_message = Some(why.trim_end().to_owned());
    session.shared.log.ride_along(Record::Outcome(outcome));
}

fn binding(session: &Session, account: &Account, terms: &Terms, digest: [u8; 32]) -> Binding {
    Binding {
        digest,
        rule: terms.rule.clone(),
        agent: session.identity.agent.clone(),
        run: terms.run(&session.identity),
        target: session.target.clone(),
        database: None,
        user: account.user.clone(),
    }
}

/// A command waits for a person: that is recorded and told. Nothing of it was sent.
async fn hold<'a>(
    session: &'a Session,
    account: &Account,
    ask: u64,
    found: Read,
    terms: Arc<Terms>,
    binding: Binding,
) -> Decided<'a> {
    let shared = &session.shared;
    let Read { command, inner, .. } = found;
    let bytes = command.text.as_ref().map_or(0, String::len);
    if shared.approvals.has_room(&session.identity.agent, bytes).is_err() {
        let why =
            "too many commands of this agent wait for a person, and chaperone holds no more\n";
        return refuse(session, ask, command, terms.rule.clone(), why).await;
    }
    if terms.wait == Wait::Retry
        && let Some(waiting) = shared.approvals.pending(&binding)
    {
        return refuse(session, ask, command, terms.rule.clone(), &come_again(waiting)).await;
    }
    let at = clock::wall();
    let rung = command.reading.as_deref().map_or(Rung::Destructive, Reading::rung);
    let waits = Held {
        session,
        account,
        terms: &terms,
        command: &command,
        at,
        in_transaction: false,
        guesses: &[],
    };
    let opened = waits.opened(binding.digest);
    let record = intent(session, command.clone(), VerdictKind::Hold, terms.rule.clone());
    let records = vec![Record::Intent(record), Record::HoldOpened(opened)];
    let receipts = match commit(session, records, rung).await {
        Err(error) => return Decided::Unrecorded { error },
        Ok(receipts) => receipts,
    };
    let Some(hold) = receipts.first().map(Receipt::seq) else {
        return Decided::No { ask, why: "chaperone has no receipt of it\n".into() };
    };
    session.commands.add(1);
    shared.counters.held.up();
    let waiting = waits.shown(hold);
    let uids = waits.askers();
    let ballot = Ballot::new(terms.clone(), binding.clone(), uids);
    let word = shared.approvals.open(waiting, session.place(None), ballot, binding);
    if terms.wait == Wait::Retry {
        let why = come_again(hold);
        refused_outcome(session, hold, &why);
        return Decided::No { ask, why };
    }
    let notice = format!(
        "chaperone holds this until a person approves it (id {}); it is refused at {}.\n",
        hold.0,
        show(waits.deadline())
    );
    let then = Box::pin(async move {
        let word =
            word.await.unwrap_or_else(|_| Word::Not(WhyNot::Withdrawn("its session ended".into())));
        heard(session, ask, hold, rung, inner, word).await
    });
    Decided::Holding { ask, hold, notice, then }
}

/// A person, or the lack of one, has decided.
async fn heard(
    session: &Session,
    ask: u64,
    hold: Seq,
    rung: Rung,
    inner: Inner,
    word: Word,
) -> Decided<'_> {
    let ended = |how, detail| Record::HoldEnded(HoldEnded { at: clock::wall(), hold, how, detail });
    let (how, detail, why) = match word {
        Word::Approved(permit, _) => {
            let record = ended(HoldEnd::Approved, None);
            return match commit(session, vec![record], rung).await {
                Err(error) => Decided::Unrecorded { error },
                Ok(mut receipts) => match receipts.pop() {
                    Some(receipt) => Decided::Go { ask, seq: hold, permit, receipt, inner },
                    None => Decided::No { ask, why: "chaperone has no receipt of it\n".into() },
                },
            };
        }
        Word::Not(WhyNot::Denied { person, reason }) => {
            let because = reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            let detail = reason.map_or(person.clone(), |why| format!("{person}: {why}"));
            let why = format!("{person} denied this command (id {}){because}\n", hold.0);
            (HoldEnd::Denied, Some(detail), why)
        }
        Word::Not(WhyNot::Expired) => {
            let why = format!("nobody approved this command in time (id {})\n", hold.0);
            (HoldEnd::Expired, None, why)
        }
        Word::Not(WhyNot::Withdrawn(why)) => {
            let told = format!("this command no longer waits for a person: {why}\n");
            (HoldEnd::Withdrawn, Some(why), told)
        }
    };
    if let Err(error) = commit(session, vec![ended(how, detail)], Rung::Read).await {
        return Decided::Unrecorded { error };
    }
    refused_outcome(session, hold, &why);
    Decided::No { ask, why }
}

fn come_again(hold: Seq) -> String {
    format!(
        "this command needs a person's approval (id {}): run it again once it is approved\n",
        hold.0
    )
}

/// What decided of a command, in a sentence.
fn class(command: &Command, decides: Option<usize>) -> String {
    let reading = command.reading.as_deref();
    let statement = reading.and_then(|reading| reading.statements.get(decides.unwrap_or(0)));
    statement.map_or_else(String::new, |one| {
        let program = one.program.as_ref().map(|program| program.name.escape_debug().to_string());
        let program = program.filter(|name| !name.is_empty());
        let program = program.map_or_else(String::new, |name| format!(" `{name}`"));
        format!("{}{program} is {}: {}.", one.kind, one.rung, one.reason)
    })
}
