//! What passes between an agent's client and a target's server once both are signed on: channels,
//! what is asked on them, and what goes on when.
//!
//! Messages go on as they are, with the numbers and the windows of the two ends, so that each end
//! speaks with the other. What is a command stops its channel until it is decided; others flow. What
//! is not known is answered as the protocol says for that. Does not belong here: deciding, recording,
//! sockets, and sealing (`transport`).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{Cover, Violation, message, scp, sftp};
use channel::{Channel, Pending};
use own::Owns;
pub use own::Said;
pub use wanted::{Action, Ask, Exit, Filter, Filters, Inner, Stream, Terminal, Wanted};

mod agent;
mod channel;
mod flow;
mod inner;
mod own;
mod rest;
mod target;
mod wanted;

/// Channels of one connection.
const CHANNELS: usize = 1024;
/// What waits behind a command, beside the data: bytes, with some for each message.
const WAITING: usize = 1024 * 1024;
const MESSAGE: usize = 64;
/// What waits for an end that does not read, beside data, in the same measure.
const UNREAD: usize = 1024 * 1024;
/// Questions without an answer.
const UNANSWERED: usize = 4096;
/// The most that an end is granted at a time, whatever the other takes: so much may come to wait here.
const WINDOW: u32 = 4 * 1024 * 1024;

/// See the module's comment.
#[derive(Debug, Default)]
pub struct Conversation {
    channels: HashMap<u32, Channel>,
    /// Channels by the numbers that the two ends gave them.
    by_agent: HashMap<u32, u32>,
    by_target: HashMap<u32, u32>,
    /// Channels that the agent's client has closed and whose number it uses for another, while the
    /// target has not closed them: what comes for the number is for the first of them.
    closing: HashMap<u32, VecDeque<u32>>,
    next: u32,
    asked: u64,
    asks: HashMap<u64, Place>,
    /// What was asked of the whole connection, and has not been answered.
    replies: Replies,
    /// Messages of that kind that wait for the decision on one before them.
    deferred: VecDeque<Bytes>,
    deferred_cost: usize,
    deciding: Option<(Listening, Bytes, bool)>,
    /// Questions of the target's to the agent's client that passed.
    owed_to_target: usize,
    /// What the target may open channels for, and the command that asked for it.
    listening: Vec<(Listening, u64)>,
    /// Channels that end here.
    owns: Owns,
    actions: Vec<Action>,
}

/// What a target opens channels for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listening {
    /// An address and a port, as they stand in the request.
    Tcp(Vec<u8>),
    /// A socket's path, in the same way.
    Socket(Vec<u8>),
    X11,
    Agent,
}

/// Where a command waits.
#[derive(Clone, Copy, Debug)]
enum Place {
    Channel(u32),
    Connection,
}

/// Answers come in the order of their questions, whoever gives them.
#[derive(Debug, Default)]
struct Replies(VecDeque<Reply>);

#[derive(Debug)]
enum Reply {
    /// The target's, to come; it is about this command.
    Theirs(Option<u64>),
    /// Ours.
    Ours(Vec<Bytes>),
}

impl Replies {
    fn theirs(&mut self, command: Option<u64>) {
        self.0.push_back(Reply::Theirs(command));
    }

    /// Adds answers of ours; what can be said now.
    fn ours(&mut self, said: Vec<Bytes>) -> Vec<Bytes> {
        self.0.push_back(Reply::Ours(said));
        self.ready()
    }

    /// The target answered: what can be said now, and the command that it was about. `None`: nobody
    /// had asked.
    fn answered(&mut self, reply: Bytes) -> Option<(Vec<Bytes>, Option<u64>)> {
        let Some(Reply::Theirs(command)) = self.0.front() else { return None };
        let command = *command;
        self.0.pop_front();
        let mut said = vec![reply];
        said.append(&mut self.ready());
        Some((said, command))
    }

    /// How many are to come.
    fn len(&self) -> usize {
        self.0.len()
    }

    fn ready(&mut self) -> Vec<Bytes> {
        let mut said = Vec::new();
        while let Some(Reply::Ours(_)) = self.0.front() {
            if let Some(Reply::Ours(mut ours)) = self.0.pop_front() {
                said.append(&mut ours);
            }
        }
        said
    }
}

impl Conversation {
    /// Nothing has been said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is to be done, in this order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// A message of the agent's client.
    ///
    /// # Errors
    /// A [`Violation`] of the client's.
    pub fn agent(&mut self, payload: Bytes) -> Result<(), Violation> {
        self.hear_agent(payload)
    }

    /// A message of the target's server.
    ///
    /// # Errors
    /// A [`Violation`] of the server's.
    pub fn target(&mut self, payload: Bytes) -> Result<(), Violation> {
        self.hear_target(payload)
    }

    /// A command may go on. `inner`: what is spoken on its channel from here on.
    ///
    /// # Errors
    /// A [`Violation`] of the client's, in what it sent behind the command.
    pub fn allowed(&mut self, ask: u64, inner: Inner) -> Result<(), Violation> {
        match self.asks.remove(&ask) {
            None => Ok(()),
            Some(Place::Channel(key)) => self.allowed_on(key, ask, inner),
            Some(Place::Connection) => {
                let Some((listens, payload, wants_reply)) = self.deciding.take() else {
                    return Ok(());
                };
                self.listening.push((listens, ask));
                if wants_reply {
                    self.replies.theirs(Some(ask));
                }
                self.actions.push(Action::ToTarget(payload));
                self.go_on()
            }
        }
    }

    /// What a command says, once it may go on, goes through these.
    pub fn filter(&mut self, ask: u64, filters: Filters) {
        if let Some(Place::Channel(key)) = self.asks.get(&ask)
            && let Some(channel) = self.channels.get_mut(key)
            && matches!(channel.pending, Some(Pending::Start(..)))
        {
            channel.filters = Some(Box::new(filters));
        }
    }

    /// What is read of files by a command that is SFTP or scp, once it may go on, is masked by this.
    pub fn cover(&mut self, ask: u64, by: Arc<dyn Cover>) {
        if let Some(Place::Channel(key)) = self.asks.get(&ask)
            && let Some(channel) = self.channels.get_mut(key)
            && matches!(channel.pending, Some(Pending::Start(..)))
        {
            channel.cover = Some(by);
        }
    }

    /// Whether a filter holds something back, of programs with a terminal or of those without.
    pub fn holds_back(&self, of_terminals: bool) -> bool {
        let mut channels = self.channels.values();
        channels.any(|one| one.terminal.is_some() == of_terminals && one.holds_back())
    }

    /// Some time has passed. What filters hold back of programs that said nothing since this was said
    /// last goes on, as far as it need not wait.
    pub fn idle(&mut self, of_terminals: bool) {
        for channel in self.channels.values_mut() {
            if channel.terminal.is_some() == of_terminals
                && channel.is_open()
                && !std::mem::take(&mut channel.spoke)
                && channel.holds_back()
            {
                channel.let_go(&mut self.actions, |filter, out| filter.flush(out));
            }
        }
    }

    /// A command may not go on; the agent's client is told so.
    ///
    /// # Errors
    /// A [`Violation`] of the client's, in what it sent behind the command.
    pub fn refused(&mut self, ask: u64, why: &str) -> Result<(), Violation> {
        match self.asks.remove(&ask) {
            None => Ok(()),
            Some(Place::Channel(key)) => self.refused_on(key, why),
            Some(Place::Connection) => {
                let Some((_, _, wants_reply)) = self.deciding.take() else { return Ok(()) };
                self.answer_connection(wants_reply);
                self.go_on()
            }
        }
    }

    /// Tells the agent's user something about a command that waits. Answers whether there is a way to.
    pub fn notice(&mut self, ask: u64, text: &str) -> bool {
        let Some(Place::Channel(key)) = self.asks.get(&ask) else { return false };
        let Some(channel) = self.channels.get_mut(key) else { return false };
        let tells = channel.tells();
        if tells {
            channel.say(text, &mut self.actions);
        }
        tells
    }

    /// Whether a command waits, or a channel is open.
    pub fn is_quiet(&self) -> bool {
        self.channels.is_empty() && self.asks.is_empty() && self.owns.is_empty()
    }

    /// The connection ends: what is known of all that was not done.
    pub fn finish(&mut self) -> Vec<Action> {
        let mut keys: Vec<u32> = self.channels.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.remove(key);
        }
        self.finish_own();
        for (ask, _) in self.asks.drain() {
            self.actions.push(Action::Withdrawn { ask });
        }
        self.actions()
    }

    /// The target would not do it: nothing comes of it any more.
    fn rejected(&mut self, command: u64) {
        self.listening.retain(|(_, asked)| *asked != command);
        self.actions.push(Action::Rejected { command, why: "the target refused it".into() });
    }

    /// The client no longer wants the target to listen there.
    fn cancelled(&mut self, listens: &Listening) {
        if let Some(index) = self.listening.iter().position(|(asked, _)| asked == listens) {
            let (_, command) = self.listening.remove(index);
            self.actions.push(Action::Closed { command });
        }
    }

    /// A refusal of what was asked of the whole connection.
    fn answer_connection(&mut self, wants_reply: bool) {
        if wants_reply {
            let said = self.replies.ours(vec![Bytes::from_static(&[message::REQUEST_FAILURE])]);
            self.actions.extend(said.into_iter().map(Action::ToAgent));
        }
    }

    /// What was asked of the whole connection meanwhile.
    fn go_on(&mut self) -> Result<(), Violation> {
        while self.deciding.is_none() {
            let Some(payload) = self.deferred.pop_front() else { break };
            self.deferred_cost -= payload.len() + MESSAGE;
            self.connection_request(payload)?;
        }
        Ok(())
    }

    fn new_ask(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// A channel is over on both sides.
    fn remove(&mut self, key: u32) {
        let Some(mut channel) = self.channels.remove(&key) else { return };
        for (number, map) in
            [(channel.agent, &mut self.by_agent), (channel.target, &mut self.by_target)]
        {
            if let Some(number) = number
                && map.get(&number) == Some(&key)
            {
                map.remove(&number);
            }
        }
        if let Some(number) = channel.agent
            && let Some(closing) = self.closing.get_mut(&number)
        {
            closing.retain(|other| *other != key);
            if closing.is_empty() {
                self.closing.remove(&number);
            }
        }
        if let Some(ask) = channel.ask.take() {
            self.asks.remove(&ask);
            self.actions.push(Action::Withdrawn { ask });
        }
        channel.finish(&mut self.actions);
    }

    /// The agent's client gives a channel this number, where it may.
    fn takes(&mut self, number: u32) -> Result<(), Violation> {
        if self.is_own_of_target(number) {
            return Err(Violation::TakenChannel(number));
        }
        let Some(&old) = self.by_agent.get(&number) else { return Ok(()) };
        let is_free = |old: &Channel| old.agent_closed && old.told_agent;
        if !self.channels.get(&old).is_none_or(is_free) {
            return Err(Violation::TakenChannel(number));
        }
        let closing = self.closing.entry(number).or_default();
        if closing.back() != Some(&old) {
            closing.push_back(old);
        }
        Ok(())
    }

    /// The channel that the target means by the agent's number of it; `opens`: in an answer to an open,
    /// which may come before the close of an older one.
    fn of_agents(&self, number: u32, opens: bool) -> Option<u32> {
        if opens {
            return self.by_agent.get(&number).copied();
        }
        let closing = self.closing.get(&number).and_then(|closing| closing.front());
        closing.or_else(|| self.by_agent.get(&number)).copied()
    }

    fn remove_closed(&mut self, key: u32) {
        if self.channels.get(&key).is_some_and(Channel::is_over) {
            self.remove(key);
        }
    }
}

/// A message that opens a channel, or agrees to one, with no larger window than this side grants.
fn clamped(payload: &Bytes, window: u32, at: usize) -> Bytes {
    if window <= WINDOW {
        return payload.clone();
    }
    let mut said = payload.to_vec();
    if let Some(place) = said.get_mut(at..at + 4) {
        place.copy_from_slice(&WINDOW.to_be_bytes());
    }
    said.into()
}

/// Where the window stands in a message that opens a channel of this kind, and in one that agrees (RFC
/// 4254, section 5.1).
fn window_of_open(kind: &[u8]) -> usize {
    1 + 4 + kind.len() + 4
}
const WINDOW_OF_CONFIRMATION: usize = 1 + 4 + 4;

#[cfg(test)]
mod tests;
