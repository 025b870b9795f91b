//! Both directions of a session in one task: what comes is read, decided, recorded, and goes on.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use chaperone_audit::{AuditError, Receipt};
use chaperone_model::{Closing, EventKind, Record, Seq, SessionSignedOn};
use chaperone_wire::postgres::{
    CancelKey, ClientStep, Conversation, Event, Limits, Refusal, Rules, Violation,
};
use tokio::{
    io::AsyncWrite,
    sync::oneshot,
    time::{Instant, Sleep},
};

use crate::{
    committer::Answer,
    lane::{AgentLane, Lane},
    session::{Session, unrecorded},
    shared::{Cancellable, Shared, Stage},
    tls::{Stream, target::lost},
};
use deciding::Deciding;
use ending::Ending;
use looking::Looking;
use masking::Masking;
use pending::Batch;

mod deciding;
mod ending;
mod holding;
mod looking;
mod masking;
mod pending;

pub(crate) use holding::{lasts, show};

const NO_GOOD_BYE: &str = "the client closed its connection without saying good-bye";

/// How a session ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) closing: Closing,
    pub(crate) detail: Option<String>,
    pub(crate) up: u64,
    pub(crate) down: u64,
}

impl Ended {
    pub(crate) fn by(closing: Closing, detail: impl Into<String>) -> Self {
        Self { closing, detail: Some(detail.into()), up: 0, down: 0 }
    }
}

/// A session whose start-up message has been handed on.
pub(crate) struct Relay<'a> {
    session: &'a Session,
    shared: &'a Arc<Shared>,
    server: Stream,
    conversation: Conversation,
    up: AgentLane,
    down: Lane,
    /// What was looked at is being recorded, and nothing more is looked at meanwhile. Beside it
    /// which commands the records are of, where it is not their own numbers that say it.
    recording: Option<(oneshot::Receiver<Answer>, Vec<Option<Seq>>)>,
    /// The command at the front, and how far deciding it has come.
    deciding: Deciding,
    /// The client needs nothing more: it said good-bye, or its connection ended.
    client_done: Option<String>,
    /// Nothing reaches the client any more.
    client_gone: bool,
    /// Bytes of the server's that nobody reads any more.
    unread: usize,
    /// It said good-bye.
    terminated: bool,
    /// What the client sent ahead waits for answers of the server.
    waiting: bool,
    half_closed: bool,
    server_done: bool,
    /// The server said itself why the session ends.
    server_said: Option<String>,
    /// The connection to the server failed.
    server_lost: Option<String>,
    /// Nothing reaches the server any more; why is told by what can still be read from it.
    server_deaf: bool,
    ending: Option<Ending>,
    /// When something of it was under way last.
    active: Instant,
    /// Until it has been quiet for long enough to end with the daemon.
    quiet: Option<Pin<Box<Sleep>>>,
    cancel_key: Option<CancelKey>,
    /// To be recorded when the server is ready.
    signed_on: Option<SessionSignedOn>,
    /// What was written may still wait inside the encryption.
    client_unflushed: bool,
    server_unflushed: bool,
    events: Vec<Event>,
    /// What the client is to be told between two messages.
    notice: Option<Vec<u8>>,
    /// When the session is over, whatever it does, and the rule that says so.
    over: Option<(Pin<Box<Sleep>>, Arc<str>)>,
    /// Rows that a response may have, and the rule that says so.
    rows: Option<(u64, Arc<str>)>,
}

impl<'a> Relay<'a> {
    /// `ahead` is what the client sent behind its start-up message, before any answer; `said` what
    /// the server said already and the client has not heard.
    pub(crate) fn new(
        session: &'a Session,
        server: Stream,
        rules: Rules,
        signed_on: SessionSignedOn,
        account: Account,
        ahead: &[u8],
        said: &[u8],
    ) -> Self {
        let (place, changes) = session.catalog(&account);
        let config = &session.shared.config.daemon;
        let bounds = session.bounds(&account);
        let masking = Masking::new(session.masks(&account));
        let limits = Limits {
            message: config.max_message,
            response: config.response,
            parameters: config.parameters,
        };
        let mut conversation = Conversation::new(limits, rules);
        conversation.set_blind(masking.blind());
        conversation.set_screens(masking.screens());
        Self {
            session,
            shared: &session.shared,
            server,
            conversation,
            up: AgentLane::new(Lane::with(ahead)),
            down: Lane::with(said),
            recording: None,
            deciding: Deciding::new(account, Looking::new(place, changes), masking),
            client_done: None,
            client_gone: false,
            unread: 0,
            terminated: false,
            waiting: false,
            half_closed: false,
            server_done: false,
            server_said: None,
            server_lost: None,
            server_deaf: false,
            ending: None,
            active: Instant::now(),
            quiet: None,
            cancel_key: None,
            signed_on: Some(signed_on),
            client_unflushed: false,
            server_unflushed: false,
            events: Vec::new(),
            notice: None,
            over: bounds.session.map(|(most, rule)| (Box::pin(tokio::time::sleep(most)), rule)),
            rows: bounds.rows,
        }
    }

    /// Relays until the session ends, and records what was still open.
    pub(crate) async fn run(mut self, client: &mut Stream) -> Ended {
        let mut stage = self.shared.stage.clone();
        let (closing, detail) = {
            let mut changed = pin!(async move {
                // The sender lives as long as the daemon.
                let _ = stage.wait_for(|stage| *stage >= Stage::Draining).await;
                let _ = stage.wait_for(|stage| *stage >= Stage::Ending).await;
            });
            let mut stopped = false;
            poll_fn(|cx| {
                if !stopped {
                    stopped = changed.as_mut().poll(cx).is_ready();
                }
                self.poll(cx, Pin::new(&mut *client))
            })
            .await
        };
        self.give_up_hold("the session ended");
        for outcome in self.conversation.finish(self.shared.clock.now()) {
            self.shared.log.ride_along(Record::Outcome(outcome));
        }
        if let Some(key) = self.cancel_key.take() {
            self.shared.forget_cancel_key(self.session.original.0, key, self.session.id);
        }
        Ended { closing, detail, up: self.up.total(), down: self.down.total() }
    }

    /// Goes round until nothing moves.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut client: Pin<&mut Stream>,
    ) -> Poll<(Closing, Option<String>)> {
        loop {
            let mut moved = false;
            moved |= self.poll_recording(cx);
            moved |= self.poll_from_client(cx, client.as_mut());
            moved |= self.poll_deciding(cx);
            moved |= self.look_at_client();
            moved |= self.poll_to_server(cx);
            moved |= self.poll_from_server(cx);
            self.look_at_server();
            self.settle_catalog();
            self.say_notice();
            moved |= self.poll_to_client(cx, client.as_mut());
            if let Some(ended) = self.ended(cx, &mut client) {
                return Poll::Ready(ended);
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    fn poll_recording(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((recording, of)) = &mut self.recording else {
            return false;
        };
        let Poll::Ready(answer) = Pin::new(recording).poll(cx) else {
            return false;
        };
        let of = std::mem::take(of);
        self.recording = None;
        self.release(answer.unwrap_or_else(|_| Err(not_recorded())), of);
        true
    }

    fn poll_from_client(&mut self, cx: &mut Context<'_>, client: Pin<&mut Stream>) -> bool {
        if self.client_done.is_some()
            || self.ending.is_some()
            || self.server_deaf
            || self.recording.is_some()
            || !self.up.wants_more()
        {
            return false;
        }
        match self.up.poll_read(client, cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(0)) => {
                self.client_done = Some(NO_GOOD_BYE.into());
                true
            }
            Poll::Ready(Ok(_)) => true,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                // Not even TLS's own good-bye.
                self.client_done = Some(NO_GOOD_BYE.into());
                true
            }
            Poll::Ready(Err(error)) => {
                self.client_gone = true;
                self.client_done = Some(format!("the client's connection was lost: {error}"));
                true
            }
        }
    }

    /// Decides and records what the client sent.
    /// Answers whether anything came of it: what is being recorded must be waited for.
    fn look_at_client(&mut self) -> bool {
        let busy = self.recording.is_some()
            || self.ending.is_some()
            || self.server_done
            || self.server_deaf;
        // Nothing counts after the good-bye.
        if busy || self.terminated {
            return false;
        }
        if !self.up.rest().is_empty()
            && let Some(refusal) = self.session.moved()
        {
            self.shared.counters.doubted.up();
            let detail = refusal.message.clone();
            self.end(Closing::Daemon, refusal, detail);
            return true;
        }
        if self.deciding.waits() {
            return false;
        }
        let mut batch = Batch::default();
        self.waiting = false;
        if !self.decided(&mut batch) {
            self.record(batch);
            return true;
        }
        loop {
            match self.conversation.client(self.up.rest()) {
                Ok(ClientStep::Need(need)) => {
                    self.up.set_need(need);
                    break;
                }
                Ok(ClientStep::Wait) => {
                    self.up.set_need(0);
                    self.waiting = true;
                    break;
                }
                Ok(ClientStep::Pass(count)) => self.up.scan(count),
                Ok(ClientStep::Discard(count)) => self.up.drop_bytes(count),
                Ok(ClientStep::Terminate(count)) => {
                    self.up.scan(count);
                    self.terminated = true;
                    self.client_done = Some(String::new());
                    break;
                }
                Ok(ClientStep::Refuse(refusal)) => {
                    self.shared.counters.refused.up();
                    let detail = refusal.message.clone();
                    self.record(batch);
                    self.end(Closing::Daemon, refusal, detail);
                    return true;
                }
                Ok(ClientStep::Command { length, command, objection }) => {
                    if !self.read(&mut batch, length, command, objection) {
                        break;
                    }
                }
                Err(violation) => {
                    // What came before it is honoured.
                    self.record(batch);
                    self.violated(&violation);
                    return true;
                }
            }
        }
        let moved = !batch.is_empty() || self.up.has_scanned() || self.deciding.waits();
        self.record(batch);
        moved
    }

    /// Commits what was decided; what was looked at goes on with the receipts.
    fn record(&mut self, batch: Batch) {
        if batch.is_empty() {
            if self.up.has_scanned() {
                self.release(Ok(Vec::new()), Vec::new());
            }
            return;
        }
        self.session.commands.add(batch.len());
        let (records, of, durable) = batch.into_parts(self.shared.config.daemon.durability);
        self.recording = Some((self.session.local.committer.commit(records, durable), of));
    }

    /// Lets go on what was looked at. `of`: the commands that the receipts are for, where they are
    /// not for records of commands.
    fn release(&mut self, receipts: Result<Vec<Receipt>, AuditError>, of: Vec<Option<Seq>>) {
        let receipts = match receipts {
            Ok(receipts) => receipts,
            Err(error) => {
                self.shared.counters.unrecorded.up();
                tracing::error!(session = self.session.id.0, %error, "the log cannot be written");
                let detail = format!("the log could not be written: {error}");
                return self.end(Closing::Daemon, unrecorded("this statement", &error), detail);
            }
        };
        let mut of = of.into_iter();
        let seqs: Vec<Seq> = receipts
            .iter()
            .map(|receipt| of.next().flatten().unwrap_or_else(|| receipt.seq()))
            .collect();
        match self.up.release(receipts) {
            Ok(forwarded) => {
                let mut events = std::mem::take(&mut self.events);
                self.conversation.recorded(seqs, self.shared.clock.now(), &mut events);
                self.learn_all(events);
                if self.server_deaf {
                    self.up.discard_cleared();
                } else {
                    self.shared.counters.forwarded.add(forwarded);
                }
            }
            Err(error) => {
                let refusal = Refusal::new("XX000", format!("chaperone: {error}"));
                self.end(Closing::Daemon, refusal, error.to_string());
            }
        }
    }

    fn poll_to_server(&mut self, cx: &mut Context<'_>) -> bool {
        if self.server_done || self.server_deaf {
            return false;
        }
        if self.up.has_cleared() {
            return match self.up.poll_write(Pin::new(&mut self.server), cx) {
                Poll::Pending => false,
                Poll::Ready(Ok(_)) => {
                    self.server_unflushed = true;
                    true
                }
                Poll::Ready(Err(_)) => {
                    self.server_deaf = true;
                    self.up.discard_cleared();
                    true
                }
            };
        }
        if self.server_unflushed {
            match Pin::new(&mut self.server).poll_flush(cx) {
                Poll::Pending => return false,
                Poll::Ready(_) => self.server_unflushed = false,
            }
        }
        // A client that is gone after its last command: the server sees the end as it would
        // without us, and still answers what it was sent.
        let all_sent = self.recording.is_none() && !self.waiting && self.deciding.is_free();
        let closes = self.client_done.is_some() && all_sent && !self.half_closed;
        if closes && Pin::new(&mut self.server).poll_shutdown(cx).is_ready() {
            self.half_closed = true;
        }
        false
    }

    fn poll_from_server(&mut self, cx: &mut Context<'_>) -> bool {
        if self.server_done || !self.down.wants_more() {
            return false;
        }
        match self.down.poll_read(Pin::new(&mut self.server), cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(0)) => {
                self.server_done = true;
                true
            }
            Poll::Ready(Ok(_)) => true,
            Poll::Ready(Err(error)) => {
                self.server_done = true;
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    self.server_lost = Some(lost(&error));
                }
                true
            }
        }
    }

    /// Follows what the server answers.
    fn look_at_server(&mut self) {
        if self.down.rest().is_empty() {
            return;
        }
        let now = self.shared.clock.now();
        while !self.down.rest().is_empty() {
            let mut events = std::mem::take(&mut self.events);
            let step = self.conversation.server(self.down.rest(), now, &mut events);
            self.learn_all(events);
            match step {
                Ok(step) => {
                    self.down.see(step.pass);
                    self.down.clear();
                    if let Some((length, with)) = step.replace {
                        self.down.replace(length, &with);
                        self.down.clear();
                        continue;
                    }
                    self.down.set_need(step.need);
                }
                Err(violation @ Violation::ReadOtherwise(_)) => {
                    self.server_done = true;
                    self.down.end();
                    self.violated(&violation);
                }
                Err(violation @ (Violation::Copy(_) | Violation::Encoding(_))) => {
                    self.server_done = true;
                    self.down.end();
                    let detail = violation.to_string();
                    let refusal =
                        Refusal::new("42501", format!("chaperone ends this session: {detail}"));
                    self.end(Closing::Daemon, refusal, detail);
                }
                Err(violation) => {
                    self.shared.counters.server_violations.up();
                    let detail = format!("the server broke the protocol: {violation}");
                    self.shared.event(Some(self.session.id), EventKind::Violation, detail.clone());
                    self.server_done = true;
                    self.down.end();
                    let refusal =
                        Refusal::new("08P01", format!("chaperone ends this session: {detail}"));
                    self.end(Closing::Target, refusal, detail);
                }
            }
            break;
        }
    }

    fn learn_all(&mut self, mut events: Vec<Event>) {
        for event in events.drain(..) {
            self.learn(event);
        }
        // Its room is used again.
        self.events = events;
    }

    fn learn(&mut self, event: Event) {
        let session = self.session;
        self.active = Instant::now();
        match event {
            Event::Outcome(outcome) => self.shared.log.ride_along(Record::Outcome(outcome)),
            Event::CancelKey(key) => {
                let of = Cancellable { session: session.id, agent: session.identity.agent.clone() };
                self.shared.learn_cancel_key(session.original.0, key.clone(), of);
                if let Some(old) = self.cancel_key.replace(key) {
                    self.shared.forget_cancel_key(session.original.0, old, session.id);
                }
            }
            Event::Ready => {
                if let Some(mut signed_on) = self.signed_on.take() {
                    signed_on.at = self.shared.clock.now().wall;
                    self.shared.log.ride_along(Record::SessionSignedOn(signed_on));
                }
            }
            Event::ServerError(error) => {
                if !error.fatal {
                    return;
                }
                let code = error.code.unwrap_or_default();
                let message = error.message.unwrap_or_default();
                self.server_said = Some(format!("the server said {code}: {message}"));
            }
        }
    }

    fn poll_to_client(&mut self, cx: &mut Context<'_>, client: Pin<&mut Stream>) -> bool {
        if self.client_gone {
            self.unread += self.down.discard_cleared();
            return false;
        }
        let done = if self.down.has_cleared() {
            self.down.poll_write(client, cx).map_ok(|_| true)
        } else if self.client_unflushed {
            client.poll_flush(cx).map_ok(|()| false)
        } else {
            return false;
        };
        match done {
            Poll::Pending => false,
            Poll::Ready(Ok(written)) => {
                self.client_unflushed = written;
                written
            }
            Poll::Ready(Err(error)) => {
                // What the server still answers is recorded all the same.
                self.client_gone = true;
                self.client_done
                    .get_or_insert_with(|| format!("the client's connection was lost: {error}"));
                true
            }
        }
    }
}

/// Who a session is at the target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) user: Option<String>,
    pub(crate) database: Option<String>,
    /// It may have said at its start where names are looked for, or who it is.
    pub(crate) own_path: bool,
}

fn not_recorded() -> AuditError {
    AuditError::Database("the thread that records has ended".into())
}
