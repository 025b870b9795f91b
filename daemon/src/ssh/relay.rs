//! Both directions of an SSH session in one task: what comes is decided, recorded, and goes on.

use std::{
    collections::{HashMap, HashSet},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use chaperone_audit::Receipt;
use chaperone_model::{
    Closing, CommandStatus, EventKind, HoldEnd, HoldEnded, Outcome, Record, Seq,
};
use chaperone_policy::Permit;
use chaperone_wire::ssh::{Action, Ask, Conversation, Inner, Taken, Violation, Wanted};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, MissedTickBehavior, sleep, sleep_until, timeout},
};

use super::{
    BY_APPLICATION, PROTOCOL_ERROR,
    deciding::{Decided, decide},
    ends::{Ends, Moved},
    link::{Link, READ},
    masking::{self, Counts},
    reading::{Parent, origin},
    recording::{Kind, Most, Origin, PART_WAITS, Running},
};
use crate::{
    clock,
    masks::Found,
    relay::{Account, Ended},
    session::{FAREWELL, Session},
    shared::{QUIET, Stage},
    tunnels::Leads,
};

/// Bytes that may wait to be written to one end before the other is not read.
const HIGH: usize = 512 * 1024;
/// Bytes that may wait to be written to an end before that end is not read.
const BACK: usize = 8 * HIGH;
/// What an exchange of keys may take.
const EXCHANGE: Duration = Duration::from_mins(1);
/// Commands that wait at a time.
const WAITING: usize = 256;
/// Things that were refused because they are not known, and are recorded.
const UNKNOWN: u32 = 16;

const STOPPING: &str = "the daemon is stopping";

type Waiting<'a> = Pin<Box<dyn Future<Output = Decided<'a>> + 'a>>;

/// A session both of whose ends are signed on.
pub(super) struct Relay<'a> {
    pub(super) session: &'a Session,
    agent: Link,
    target: Link,
    account: Rc<Account>,
    pub(super) conversation: Conversation,
    waiting: Vec<Waiting<'a>>,
    /// Commands that run, by the conversation's numbers.
    pub(super) running: HashMap<u64, Running>,
    holds: HashMap<u64, Seq>,
    /// Commands that are not asked for any more and still wait.
    withdrawn: HashSet<u64>,
    /// What commands are that are not decided yet.
    kinds: HashMap<u64, (Kind, Rc<Origin>)>,
    /// What is looked for in what programs say, and how much of it was found, by commands.
    found: Option<Found>,
    counts: HashMap<u64, Counts>,
    unknown: u32,
    /// Where tunnels lead that are not decided yet.
    pub(super) leads: HashMap<u64, Leads>,
    /// Tunnels that end here, and their commands.
    pub(super) ends: Ends,
    pub(super) tunnels: HashMap<u32, u64>,
    up: u64,
    down: u64,
}

/// What a session goes on with.
enum Next<'a> {
    Nothing,
    Decided(Decided<'a>),
    Moved(Moved),
    /// Nothing has come for a while, of programs with a terminal or without.
    Idle(bool),
    Parts,
    Keys,
}

/// Why a session ends.
pub(super) struct End {
    closing: Closing,
    detail: String,
    /// What each end is told.
    code: u32,
    told: String,
}

impl End {
    fn new(closing: Closing, code: u32, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { closing, code, told: format!("chaperone: {detail}"), detail }
    }
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        session: &'a Session,
        agent: Link,
        target: Link,
        account: Rc<Account>,
    ) -> Self {
        let found = session.masks(&account).and_then(|masks| masks.found());
        Self {
            session,
            agent,
            target,
            account,
            conversation: Conversation::new(),
            waiting: Vec::new(),
            running: HashMap::new(),
            holds: HashMap::new(),
            withdrawn: HashSet::new(),
            kinds: HashMap::new(),
            found,
            counts: HashMap::new(),
            unknown: 0,
            leads: HashMap::new(),
            ends: Ends::new(),
            tunnels: HashMap::new(),
            up: 0,
            down: 0,
        }
    }

    /// Relays until the session ends, and records what was still open.
    pub(super) async fn run(mut self) -> Ended {
        let end = self.relay().await;
        let last = self.conversation.finish();
        for action in last {
            // Nobody is told any more; what is known is recorded.
            let _ = self.act(action);
        }
        let still: Vec<u64> = self.running.keys().copied().collect();
        for command in still {
            self.close(command);
        }
        for (_, hold) in self.holds.drain() {
            withdraw(self.session, hold, "the session ended");
        }
        for link in [&mut self.agent, &mut self.target] {
            link.transport.disconnect(end.code, &end.told);
            let _ = timeout(FAREWELL, link.farewell()).await;
        }
        Ended { closing: end.closing, detail: Some(end.detail), up: self.up, down: self.down }
    }

    async fn relay(&mut self) -> End {
        let shared = self.session.shared.clone();
        let reached = |least: Stage| {
            let mut stage = shared.stage.clone();
            // The sender lives as long as the daemon.
            Box::pin(async move {
                let _ = stage.wait_for(|stage| *stage >= least).await;
            })
        };
        let (mut draining, mut ending) = (reached(Stage::Draining), reached(Stage::Ending));
        let (mut drains, mut active) = (false, Instant::now());
        let over = self.session.bounds(&self.account).session;
        let (most, rule) = over.map_or((None, None), |(most, rule)| (Some(most), Some(rule)));
        let mut over = Box::pin(async move {
            match most {
                Some(most) => sleep(most).await,
                None => std::future::pending().await,
            }
        });
        let (start, mut begun) = (Instant::now(), None);
        let every = |period| {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut of_terminals, mut of_programs) =
            (every(masking::OF_TERMINALS), every(masking::OF_PROGRAMS));
        let mut silence = masking::Silence::default();
        let mut of_parts = every(PART_WAITS);
        let mut of_keys = every(shared.config.daemon.ssh_rekey);
        // The first is at once.
        of_keys.tick().await;
        // What came with the last message before.
        if let Err(end) = self.read_both() {
            return end;
        }
        loop {
            let (up, down) = (self.target.transport.out().len(), self.agent.transport.out().len());
            let (agent, target) = (&self.agent.transport, &self.target.transport);
            let (agent_keys, target_keys) = (agent.is_exchanging(), target.is_exchanging());
            let room = has_room(up, down) && self.waiting.len() < WAITING;
            let reads_agent = reads(agent_keys, target_keys, room);
            let reads_target = reads(target_keys, agent_keys, has_room(down, up));
            silence.goes_on(reads_target);
            begun = (agent_keys || target_keys).then(|| begun.unwrap_or_else(Instant::now));
            let late = sleep_until(begun.unwrap_or(start) + EXCHANGE);
            self.agent.input.reserve(READ);
            self.target.input.reserve(READ);
            let holds = |terminals| self.found.is_some() && self.conversation.holds_back(terminals);
            let (terminals_hold, programs_hold) = (holds(true), holds(false));
            let parts_wait = self.running.values().any(Running::waits);
            let (agent, target, waiting) = (&mut self.agent, &mut self.target, &mut self.waiting);
            let (ends, conversation) = (&mut self.ends, &self.conversation);
            // What sessions inside say waits in them while it cannot go on.
            let takes = |number| match conversation.own_room(number) {
                (room, true) if down < HIGH && !agent_keys => room,
                (room, false) if up < HIGH && !target_keys => room,
                _ => 0,
            };
            let moved = tokio::select! {
                read = agent.read.read_buf(&mut agent.input), if reads_agent => match read {
                    Ok(0) => Err(End::new(Closing::Agent, BY_APPLICATION, "the client closed its connection")),
                    Ok(_) => Ok(Next::Nothing),
                    Err(error) => Err(End::new(Closing::Agent, BY_APPLICATION, format!("the client's connection was lost: {error}"))),
                },
                read = target.read.read_buf(&mut target.input), if reads_target => match read {
                    Ok(0) => Err(End::new(Closing::Target, BY_APPLICATION, "the target closed the connection")),
                    Ok(_) => Ok(Next::Nothing),
                    Err(error) => Err(End::new(Closing::Target, BY_APPLICATION, format!("the connection to the target was lost: {error}"))),
                },
                wrote = agent.write.write_buf(agent.transport.out()), if down > 0 => match wrote {
                    Ok(count) => { self.down += count as u64; Ok(Next::Nothing) }
                    Err(error) => Err(End::new(Closing::Agent, BY_APPLICATION, format!("the client's connection was lost: {error}"))),
                },
                wrote = target.write.write_buf(target.transport.out()), if up > 0 => match wrote {
                    Ok(count) => { self.up += count as u64; Ok(Next::Nothing) }
                    Err(error) => Err(End::new(Closing::Target, BY_APPLICATION, format!("the connection to the target was lost: {error}"))),
                },
                decided = next(waiting), if !waiting.is_empty() => Ok(Next::Decided(decided)),
                moved = poll_fn(|cx| ends.poll(cx, takes)) => Ok(Next::Moved(moved)),
                _ = of_keys.tick() => Ok(Next::Keys),
                _ = of_terminals.tick(), if terminals_hold => {
                    Ok(Next::Idle(true))
                }
                _ = of_programs.tick(), if programs_hold => {
                    Ok(Next::Idle(false))
                }
                _ = of_parts.tick(), if parts_wait => Ok(Next::Parts),
                () = &mut draining, if !drains => {
                    drains = true;
                    Ok(Next::Nothing)
                }
                () = sleep_until(active + QUIET), if drains => {
                    if self.conversation.is_quiet() {
                        return End::new(Closing::Daemon, BY_APPLICATION, STOPPING);
                    }
                    Ok(Next::Nothing)
                }
                () = late, if begun.is_some() => {
                    let who = if agent_keys { Closing::Agent } else { Closing::Target };
                    Err(End::new(who, BY_APPLICATION, "keys were not exchanged in time"))
                }
                () = &mut ending => {
                    Err(End::new(Closing::Daemon, BY_APPLICATION, STOPPING))
                }
                () = &mut over => {
                    let rule = rule.as_deref().unwrap_or("?");
                    Err(End::new(Closing::Daemon, BY_APPLICATION, format!("the session is as long as it may be (rule: {rule})")))
                }
            };
            let step = match moved {
                Err(end) => Err(end),
                Ok(Next::Decided(decided)) => self.decided(decided),
                Ok(Next::Moved(moved)) => {
                    self.moved_inside(moved);
                    self.act_all()
                }
                Ok(Next::Keys) => self.rekey(),
                Ok(Next::Idle(of_terminals)) => {
                    if silence.counts(of_terminals) {
                        self.conversation.idle(of_terminals);
                    }
                    self.act_all()
                }
                Ok(Next::Parts) => {
                    self.record_parts();
                    Ok(())
                }
                Ok(Next::Nothing) => Ok(()),
            };
            if let Err(end) = step.and_then(|()| self.read_both()) {
                return end;
            }
            if !self.conversation.is_quiet() {
                active = Instant::now();
            }
        }
    }

    /// Both connections get new keys, however little has passed (RFC 4253, section 9).
    fn rekey(&mut self) -> Result<(), End> {
        let renewed = self.agent.transport.rekey();
        renewed.map_err(|broken| self.client_violation(&broken))?;
        let renewed = self.target.transport.rekey();
        renewed.map_err(|broken| self.server_violation(&broken))
    }

    /// Takes what has come from both ends.
    fn read_both(&mut self) -> Result<(), End> {
        // Before what the client sent is looked at: what it ran before that has been told by then.
        if !self.agent.input.is_empty()
            && let Some(refusal) = self.session.moved()
        {
            self.session.shared.counters.doubted.up();
            return Err(End::new(Closing::Daemon, BY_APPLICATION, refusal.message));
        }
        loop {
            let taken = self.agent.transport.take(&mut self.agent.input);
            match taken.map_err(|broken| self.client_violation(&broken))? {
                Taken::Need => break,
                Taken::Payload(payload) => {
                    let said = self.conversation.agent(payload.freeze());
                    said.map_err(|broken| self.client_violation(&broken))?;
                    self.act_all()?;
                }
                Taken::Disconnect { text, .. } => {
                    let detail = if text.is_empty() {
                        "the client said good-bye".into()
                    } else {
                        format!("the client ended it: {text}")
                    };
                    return Err(End::new(Closing::Agent, BY_APPLICATION, detail));
                }
            }
        }
        loop {
            let taken = self.target.transport.take(&mut self.target.input);
            match taken.map_err(|broken| self.server_violation(&broken))? {
                Taken::Need => break,
                Taken::Payload(payload) => {
                    let said = self.conversation.target(payload.freeze());
                    said.map_err(|broken| self.server_violation(&broken))?;
                    self.act_all()?;
                }
                Taken::Disconnect { text, code } => {
                    let mut end =
                        End::new(Closing::Target, code, format!("the target ended it: {text}"));
                    end.told = text;
                    return Err(end);
                }
            }
        }
        Ok(())
    }

    pub(super) fn client_violation(&self, broken: &Violation) -> End {
        self.session.shared.counters.client_violations.up();
        self.violation("client", broken)
    }

    fn server_violation(&self, broken: &Violation) -> End {
        self.session.shared.counters.server_violations.up();
        self.violation("target", broken)
    }

    fn violation(&self, who: &str, broken: &Violation) -> End {
        let detail = format!("the {who} broke the protocol: {broken}");
        self.session.shared.event(Some(self.session.id), EventKind::Violation, detail.clone());
        End::new(Closing::Daemon, PROTOCOL_ERROR, detail)
    }

    fn act_all(&mut self) -> Result<(), End> {
        for action in self.conversation.actions() {
            self.act(action)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), End> {
        let record = |outcome| self.session.shared.log.ride_along(Record::Outcome(outcome));
        match action {
            Action::ToAgent(payload) => {
                let sent = self.agent.transport.send(&[&payload]);
                sent.map_err(|broken| self.client_violation(&broken))?;
            }
            Action::ToTarget(payload) => {
                let sent = self.target.transport.send(&[&payload]);
                sent.map_err(|broken| self.server_violation(&broken))?;
            }
            Action::Ask(ask) => self.ask(ask),
            Action::Withdrawn { ask } => {
                if let Some(hold) = self.holds.remove(&ask) {
                    // Whoever waits for the word hears that nobody will say it, and records that.
                    self.session.shared.approvals.forget(hold, "the client left");
                }
                self.withdrawn.insert(ask);
            }
            Action::Passed { command, channel, stream, bytes } => {
                if let Some(running) = self.running.get_mut(&command) {
                    let looks = running.sniffed(channel, stream, &bytes);
                    let seq = running.seq;
                    running.passed(stream, &bytes);
                    if let Some(part) = running.part() {
                        record(part);
                    }
                    if let Some(looks) = looks {
                        self.looks_like(seq, looks);
                    }
                }
            }
            Action::Resized { command, columns, rows } => {
                if let Some(running) = self.running.get_mut(&command) {
                    running.resized(columns, rows);
                }
            }
            Action::Exited { command, exit } => {
                if let Some(running) = self.running.get_mut(&command) {
                    running.exited(exit);
                }
            }
            Action::Rejected { command, why } => {
                if let Some(running) = self.running.get_mut(&command) {
                    running.rejected(why);
                }
                self.close(command);
            }
            Action::SftpDone { command, outcome } => {
                if let Some(running) = self.running.remove(&command) {
                    record(running.sftp_done(&outcome, &self.masked_as()));
                }
            }
            Action::CopyDone { command, outcome } => {
                if let Some(running) = self.running.remove(&command) {
                    record(running.copied(&outcome, &self.masked_as()));
                }
            }
            Action::Own { number, said } => self.heard_inside(number, said),
            Action::Closed { command } => self.close(command),
            Action::Unknown { what } => {
                self.unknown += 1;
                if self.unknown <= UNKNOWN {
                    let detail = format!("refused, because chaperone does not know it: {what}");
                    self.session.shared.event(Some(self.session.id), EventKind::Violation, detail);
                }
            }
        }
        Ok(())
    }

    /// What masks are called in the record.
    fn masked_as(&self) -> impl Fn(u16) -> String {
        |way| self.found.as_ref().map_or_else(String::new, |found| found.name_of(way))
    }

    /// What has passed of terminals.
    fn record_parts(&mut self) {
        for part in self.running.values_mut().filter_map(Running::part) {
            self.session.shared.log.ride_along(Record::Outcome(part));
        }
    }

    fn close(&mut self, command: u64) {
        if let Some(mut running) = self.running.remove(&command) {
            if let (Some(found), Some(counts)) = (&self.found, self.counts.remove(&command)) {
                for (way, count) in counts.borrow().iter() {
                    running.masked(&found.name_of(*way), *count);
                }
            }
            self.session.shared.log.ride_along(Record::Outcome(running.finish()));
        }
    }

    fn ask(&mut self, ask: Box<Ask>) {
        let parent = match ask.wanted {
            Wanted::Sftp { parent, .. } | Wanted::Copy { parent, .. } => {
                let of =
                    |running: &Running| Parent { seq: running.seq, origin: running.origin.clone() };
                self.running.get(&parent).map(of)
            }
            _ => None,
        };
        let origin = match ask.wanted {
            Wanted::Exec { .. } | Wanted::Subsystem { .. } => origin(&ask),
            _ => Origin::default(),
        };
        self.kinds.insert(ask.number, (Kind::of(&ask), origin.into()));
        let leads = self.leads_to(&ask.wanted);
        if let Some(leads) = &leads {
            self.leads.insert(ask.number, leads.clone());
        }
        let decide = decide(self.session, self.account.clone(), ask, parent, leads);
        self.waiting.push(Box::pin(decide));
    }

    fn decided(&mut self, decided: Decided<'a>) -> Result<(), End> {
        match decided {
            Decided::Go { ask, seq, permit, receipt, inner } => {
                self.holds.remove(&ask);
                let (kind, origin) = self.kinds.remove(&ask).unwrap_or_default();
                let leads = self.leads.remove(&ask);
                if self.withdrawn.remove(&ask) {
                    let outcome = Outcome {
                        error_message: Some("it was no longer asked for".into()),
                        ..Outcome::new(seq, CommandStatus::Refused, clock::wall())
                    };
                    self.session.shared.log.ride_along(Record::Outcome(outcome));
                    return Ok(());
                }
                self.session.commands.add(1);
                let daemon = &self.session.shared.config.daemon;
                let most = Most { response: daemon.response, terminal: daemon.terminal };
                let mut input = None;
                // Beside files there is what their program says of itself.
                if let Some(found) = &self.found
                    && (inner != Inner::Plain || kind != Kind::Tunnel)
                {
                    let (filters, counts) = masking::filters(found);
                    self.conversation.filter(ask, filters);
                    self.counts.insert(ask, counts);
                    input = (inner == Inner::Plain).then(|| found.scanners());
                }
                if inner != Inner::Plain
                    && let Some(by) = self.found.as_ref().and_then(Found::in_files)
                {
                    self.conversation.cover(ask, by);
                }
                self.running.insert(ask, Running::new(seq, most, kind, input, origin));
                match leads {
                    Some(Leads::To(to)) => self.release_inside(ask, permit, receipt, to)?,
                    _ => self.release(ask, permit, receipt, inner)?,
                }
            }
            Decided::No { ask, why } => {
                self.holds.remove(&ask);
                self.kinds.remove(&ask);
                self.leads.remove(&ask);
                if !self.withdrawn.remove(&ask) {
                    let said = self.conversation.refused(ask, &why);
                    said.map_err(|broken| self.client_violation(&broken))?;
                }
            }
            Decided::Holding { ask, hold, notice, then } => {
                if self.withdrawn.contains(&ask) {
                    self.session.shared.approvals.forget(hold, "the client left");
                } else {
                    self.holds.insert(ask, hold);
                    self.conversation.notice(ask, &notice);
                }
                self.waiting.push(then);
            }
            Decided::Unrecorded { error } => {
                self.session.shared.counters.unrecorded.up();
                let detail = format!("the log could not be written: {error}");
                return Err(End::new(Closing::Daemon, BY_APPLICATION, detail));
            }
        }
        self.act_all()
    }

    /// The only way of a command to the target: it takes the proof that policy or a person allowed it,
    /// and the proof that this is in the log.
    fn release(
        &mut self,
        ask: u64,
        permit: Permit,
        receipt: Receipt,
        inner: Inner,
    ) -> Result<(), End> {
        // Both are spent here.
        drop((permit, receipt));
        self.session.shared.counters.forwarded.up();
        let said = self.conversation.allowed(ask, inner);
        said.map_err(|broken| self.client_violation(&broken))
    }
}

/// Whether there is room for what an end sends: `onward`, what waits for the other, and `back`, what
/// waits for itself. Of the latter only what is answered here is not held up by the other's window.
fn has_room(onward: usize, back: usize) -> bool {
    onward < HIGH && back < BACK
}

/// Whether an end is read. What it sends for the other waits while that exchanges keys; its own keys
/// need what it sends, whatever the other does.
fn reads(own_keys: bool, others_keys: bool, room: bool) -> bool {
    own_keys || room && !others_keys
}

/// The next of them that is decided.
async fn next<'a>(waiting: &mut Vec<Waiting<'a>>) -> Decided<'a> {
    poll_fn(|cx| {
        for index in 0..waiting.len() {
            if let Some(one) = waiting.get_mut(index)
                && let Poll::Ready(decided) = one.as_mut().poll(cx)
            {
                drop(waiting.swap_remove(index));
                return Poll::Ready(decided);
            }
        }
        Poll::Pending
    })
    .await
}

/// A hold that the session no longer waits for.
fn withdraw(session: &Session, hold: Seq, why: &str) {
    session.shared.approvals.forget(hold, why);
    session.shared.log.ride_along(Record::HoldEnded(HoldEnded {
        at: clock::wall(),
        hold,
        how: HoldEnd::Withdrawn,
        detail: Some(why.into()),
    }));
    let outcome = Outcome::new(hold, CommandStatus::Refused, clock::wall());
    session.shared.log.ride_along(Record::Outcome(outcome));
}

#[cfg(test)]
mod tests {
    use super::{HIGH, has_room, reads};

    #[test]
    fn p8_who_does_not_take_its_answers_is_not_read() {
        assert!(has_room(0, 0) && has_room(0, 2 * HIGH));
        assert!(!has_room(0, 8 * HIGH) && !has_room(HIGH, 0));
    }

    #[test]
    fn two_ends_that_exchange_keys_at_once_are_both_read() {
        assert!(reads(true, true, true) && reads(true, true, false));
        assert!(reads(false, false, true) && !reads(false, false, false));
        assert!(!reads(false, true, true));
    }
}
