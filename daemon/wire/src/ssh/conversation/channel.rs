//! One channel between the two ends.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    super::{Cover, Violation, message, scp, sftp},
    Action, Exit, Filter, Filters, Listening, Replies, Stream, Terminal, UNANSWERED, WAITING,
    Wanted,
    flow::Flow,
    rest::Rest,
};

/// Bytes of variables that are kept for the record.
const ENVIRONMENT: usize = 64 * 1024;
/// And for each.
const VARIABLE: usize = 64;
/// Bytes of a value; what is longer is known by its hash.
const VALUE: usize = 4 * 1024;

/// What waits on a channel for a decision.
#[derive(Debug)]
pub(super) enum Pending {
    /// To be opened.
    Open(Bytes),
    /// A program, a shell, a subsystem: it makes of the channel what it is.
    Start(Bytes, bool),
    /// Another request, for what channels may be opened then.
    Request(Bytes, bool, Listening),
    /// A command inside the stream from the agent, of so many bytes.
    Up(usize),
    /// One inside the stream from the target.
    Down(usize),
}

/// A protocol inside a channel.
#[derive(Debug)]
pub(super) enum Reading {
    Plain,
    Sftp(Box<sftp::Sftp>),
    Scp(Box<scp::Scp>),
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Channel {
    /// Its number here.
    pub(super) key: u32,
    /// Its number at either end.
    pub(super) agent: Option<u32>,
    pub(super) target: Option<u32>,
    pub(super) up: Option<Flow>,
    pub(super) down: Option<Flow>,
    /// From the agent, behind what waits.
    pub(super) deferred: VecDeque<Bytes>,
    pub(super) deferred_bytes: usize,
    /// What all that takes beside the data.
    pub(super) deferred_cost: usize,
    pub(super) ask: Option<u64>,
    pub(super) pending: Option<Pending>,
    pub(super) replies: Replies,
    /// The command that made of it what it is.
    pub(super) command: Option<u64>,
    pub(super) reading: Reading,
    pub(super) filters: Option<Box<Filters>>,
    /// What files that are read are masked by.
    pub(super) cover: Option<Arc<dyn Cover>>,
    /// Since when nothing came is counted by others: whether something did.
    pub(super) spoke: bool,
    /// What was read of either stream and has not gone on.
    pub(super) up_rest: Rest,
    pub(super) down_rest: Rest,
    /// The other stream must come first.
    pub(super) up_waits: bool,
    /// Commands inside the streams, by the number that their protocol gives them.
    pub(super) commands: HashMap<u64, u64>,
    pub(super) terminal: Option<Terminal>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) environment_bytes: usize,
    pub(super) started: bool,
    /// It is one of several that the command is for, which goes on without it.
    pub(super) of_target: bool,
    pub(super) agent_closed: bool,
    pub(super) target_closed: bool,
    /// This side has said to either end that it is closed.
    pub(super) told_agent: bool,
    pub(super) told_target: bool,
}

impl Channel {
    pub(super) fn new() -> Self {
        Self {
            key: 0,
            agent: None,
            target: None,
            up: None,
            down: None,
            deferred: VecDeque::new(),
            deferred_bytes: 0,
            deferred_cost: 0,
            ask: None,
            pending: None,
            replies: Replies::default(),
            command: None,
            reading: Reading::Plain,
            filters: None,
            cover: None,
            spoke: false,
            up_rest: Rest::default(),
            down_rest: Rest::default(),
            up_waits: false,
            commands: HashMap::new(),
            terminal: None,
            environment: Vec::new(),
            environment_bytes: 0,
            started: false,
            of_target: false,
            agent_closed: false,
            target_closed: false,
            told_agent: false,
            told_target: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.agent_closed && self.target_closed
    }

    /// Whether what waits on it can be told about.
    pub(super) fn tells(&self) -> bool {
        !self.told_agent
            && matches!(self.pending, Some(Pending::Start(..) | Pending::Up(_) | Pending::Down(_)))
    }

    /// Tells the agent's user something, beside the stream.
    pub(super) fn say(&mut self, text: &str, actions: &mut Vec<Action>) {
        let text = match self.terminal {
            Some(_) => text.replace('\n', "\r\n"),
            None => text.to_owned(),
        };
        let mut out = Vec::new();
        if let Some(down) = &mut self.down {
            down.data(Some(message::STDERR), &Bytes::from(text), None, &mut out);
        }
        actions.extend(out.into_iter().map(Action::ToAgent));
    }

    pub(super) fn tell_agent(&mut self, payload: Bytes, actions: &mut Vec<Action>) {
        let mut out = Vec::new();
        match &mut self.down {
            Some(down) => down.message(payload, &mut out),
            None => out.push(payload),
        }
        actions.extend(out.into_iter().map(Action::ToAgent));
    }

    pub(super) fn tell_target(&mut self, payload: Bytes, actions: &mut Vec<Action>) {
        let mut out = Vec::new();
        match &mut self.up {
            Some(up) => up.message(payload, &mut out),
            None => out.push(payload),
        }
        actions.extend(out.into_iter().map(Action::ToTarget));
    }

    /// Keeps a message behind what waits for a decision; it takes so much beside data.
    pub(super) fn defer(&mut self, cost: usize, payload: Bytes) -> Result<(), Violation> {
        self.deferred_cost += cost;
        if self.deferred_cost > WAITING {
            return Err(Violation::TooMany("messages that wait for a decision"));
        }
        self.deferred.push_back(payload);
        Ok(())
    }

    /// Whether more is asked than is answered or read.
    pub(super) fn floods(&self) -> bool {
        let flooded = |flow: &Option<Flow>| flow.as_ref().is_some_and(Flow::is_flooded);
        self.replies.len() > UNANSWERED || flooded(&self.down) || flooded(&self.up)
    }

    /// Answers a request here, in its turn.
    pub(super) fn answer(&mut self, number: u8, wants_reply: bool, actions: &mut Vec<Action>) {
        let (true, Some(agent)) = (wants_reply, self.agent) else { return };
        let said = self.replies.ours(vec![message::of_channel(number, agent).into()]);
        for one in said {
            self.tell_agent(one, actions);
        }
    }

    pub(super) fn close_target(&mut self, actions: &mut Vec<Action>) {
        if let Some(number) = self.target
            && !std::mem::replace(&mut self.told_target, true)
        {
            let close = message::of_channel(message::CLOSE, number);
            self.tell_target(close.into(), actions);
        }
    }

    pub(super) fn close_agent(&mut self, actions: &mut Vec<Action>) {
        if let Some(number) = self.agent
            && !std::mem::replace(&mut self.told_agent, true)
        {
            let close = message::of_channel(message::CLOSE, number);
            self.tell_agent(close.into(), actions);
        }
    }

    /// A program is not started: in its stead there is one that says why and fails.
    pub(super) fn fail(&mut self, wants_reply: bool, why: &str, actions: &mut Vec<Action>) {
        let Some(agent) = self.agent else { return };
        self.forget_deferred();
        if wants_reply {
            let said = self.replies.ours(vec![message::of_channel(message::SUCCESS, agent).into()]);
            for one in said {
                self.tell_agent(one, actions);
            }
        }
        self.say(why, actions);
        self.tell_agent(message::exit_status(agent, REFUSED).into(), actions);
        self.tell_agent(message::of_channel(message::EOF, agent).into(), actions);
        // The target's side is closed when the client has closed its own.
        self.close_agent(actions);
    }

    /// What waits behind a command is for nobody.
    pub(super) fn forget_deferred(&mut self) {
        self.deferred.clear();
        (self.deferred_bytes, self.deferred_cost) = (0, 0);
    }

    /// What the target says goes on, through a filter where there is one.
    pub(super) fn hear(&mut self, extended: Option<u32>, bytes: &[u8], actions: &mut Vec<Action>) {
        let mut shown = Vec::new();
        if let Some(filters) = &mut self.filters {
            self.spoke = true;
            let filter = if extended.is_none() { &mut filters.out } else { &mut filters.err };
            filter.push(bytes, &mut shown);
        }
        self.pass(extended, shown.into(), actions);
    }

    /// Whether the target could have said more, and all that it said has gone on: where the client sees to
    /// it that it cannot, no time has passed.
    pub(super) fn is_open(&self) -> bool {
        self.down.as_ref().is_some_and(Flow::is_open)
    }

    pub(super) fn holds_back(&self) -> bool {
        let waits = |filters: &Filters| filters.out.waiting() + filters.err.waiting() > 0;
        self.filters.as_deref().is_some_and(waits)
    }

    /// What filters held back goes on.
    pub(super) fn let_go(
        &mut self,
        actions: &mut Vec<Action>,
        how: impl Fn(&mut dyn Filter, &mut Vec<u8>),
    ) {
        let Some(filters) = &mut self.filters else { return };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        how(filters.out.as_mut(), &mut out);
        how(filters.err.as_mut(), &mut err);
        self.pass(None, out.into(), actions);
        self.pass(Some(message::STDERR), err.into(), actions);
    }

    fn pass(&mut self, extended: Option<u32>, bytes: Bytes, actions: &mut Vec<Action>) {
        if bytes.is_empty() || self.told_agent || self.agent_closed {
            return;
        }
        let mut out = Vec::new();
        if let Some(down) = &mut self.down {
            down.data(extended, &bytes, None, &mut out);
        }
        actions.extend(out.into_iter().map(Action::ToAgent));
        let stream = if extended.is_some() { Stream::Err } else { Stream::Out };
        if let Some(command) = self.command {
            actions.push(Action::Passed { command, channel: self.key, stream, bytes });
        }
    }

    /// Bytes of the agent's that have not gone on.
    fn held(&self) -> usize {
        self.deferred_bytes + self.up_rest.len()
    }

    /// Grants both ends what the others take.
    pub(super) fn grant(&mut self, actions: &mut Vec<Action>) {
        let held = self.held();
        if let (Some(up), Some(agent)) = (&mut self.up, self.agent)
            && !self.told_agent
            && let Some(more) = up.grant(held)
        {
            actions.push(Action::ToAgent(message::window_adjust(agent, more).into()));
        }
        // A packet of masked data is read whole, however little the agent's client takes at a time.
        let held = if self.cover.is_some() { 0 } else { self.down_rest.len() };
        if let (Some(down), Some(target)) = (&mut self.down, self.target)
            && !self.told_target
            && !self.target_closed
            && let Some(more) = down.grant(held)
        {
            actions.push(Action::ToTarget(message::window_adjust(target, more).into()));
        }
    }

    /// Keeps a variable for who decides and who records. Answers whether there is room for it: one that
    /// they do not see must not count.
    pub(super) fn keep_variable(&mut self, name: &[u8], value: &[u8]) -> bool {
        let mut kept = String::from_utf8_lossy(value.get(..VALUE).unwrap_or(value)).into_owned();
        if value.len() > VALUE {
            let hash = STANDARD_NO_PAD.encode(Sha256::digest(value));
            kept = format!("{kept}… ({} bytes, SHA256:{hash})", value.len());
        }
        let bytes = self.environment_bytes + name.len() + kept.len() + VARIABLE;
        if bytes > ENVIRONMENT {
            return false;
        }
        self.environment_bytes = bytes;
        self.environment.push((String::from_utf8_lossy(name).into_owned(), kept));
        true
    }

    /// The channel is over.
    pub(super) fn finish(&mut self, actions: &mut Vec<Action>) {
        let mut sftp_events = Vec::new();
        let mut scp_events = Vec::new();
        match &mut self.reading {
            Reading::Plain => {}
            Reading::Sftp(sftp) => sftp_events = sftp.finish(),
            Reading::Scp(scp) => scp_events.extend(scp.finish()),
        }
        self.tell_sftp(sftp_events, actions);
        self.tell_scp(scp_events, actions);
        if let Some(command) = self.command.filter(|_| !self.of_target) {
            actions.push(Action::Closed { command });
        }
    }

    pub(super) fn tell_sftp(&mut self, events: Vec<sftp::Event>, actions: &mut Vec<Action>) {
        for sftp::Event::Done { command, outcome } in events {
            if let Some(command) = self.commands.remove(&command) {
                actions.push(Action::SftpDone { command, outcome });
            }
        }
    }

    pub(super) fn tell_scp(&mut self, events: Vec<scp::Event>, actions: &mut Vec<Action>) {
        for event in events {
            if let scp::Event::Done { command, outcome } = event
                && let Some(command) = self.commands.remove(&command)
            {
                actions.push(Action::CopyDone { command, outcome });
            }
        }
    }

    pub(super) fn exited(&self, exit: Exit, actions: &mut Vec<Action>) {
        if let Some(command) = self.command {
            actions.push(Action::Exited { command, exit });
        }
    }

    /// What a request would start.
    pub(super) fn start_of(kind: &[u8], name: &[u8]) -> Option<Wanted> {
        match kind {
            b"exec" => Some(Wanted::Exec { line: name.to_vec() }),
            b"shell" => Some(Wanted::Shell),
            b"subsystem" => Some(Wanted::Subsystem { name: name.to_vec() }),
            _ => None,
        }
    }
}

/// The exit status of what was refused: as a shell's, of what it finds and may not run (POSIX, "Exit
/// Status for Commands").
const REFUSED: u32 = 126;
