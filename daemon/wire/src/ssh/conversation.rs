//! What passes between an agent's client and a target's server once both are signed on: channels,
//! what is asked on them, and what goes on when.
//!
//! Messages go on as they are, with the numbers and the windows of the two ends, so that each end
//! speaks with the other. What is a command stops its channel until it is decided; others flow. What
//! is not known is answered as the protocol says for that. Does not belong here: deciding, recording,
//! sockets, and sealing (`transport`).

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::{Violation, message, scp, sftp};
use channel::{Channel, Pending};
pub use wanted::{Action, Ask, Exit, Inner, Stream, Terminal, Wanted};

mod agent;
mod channel;
mod flow;
mod inner;
mod target;
mod wanted;

/// Channels of one connection.
const CHANNELS: usize = 1024;
/// Messages without data that wait behind a command.
const WAITING: usize = 4096;

/// See the module's comment.
#[derive(Debug, Default)]
pub struct Conversation {
    channels: HashMap<u32, Channel>,
    /// Channels by the numbers that the two ends gave them.
    by_agent: HashMap<u32, u32>,
    by_target: HashMap<u32, u32>,
    next: u32,
    asked: u64,
    asks: HashMap<u64, Place>,
    /// What was asked of the whole connection, and has not been answered.
    replies: Replies,
    /// Messages of that kind that wait for the decision on one before them.
    deferred: VecDeque<Bytes>,
    deciding: Option<(Listening, Bytes, bool)>,
    /// Questions of the target's to the agent's client that passed.
    owed_to_target: usize,
    /// What the target may open channels for, and the command that asked for it.
    listening: Vec<(Listening, u64)>,
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
    /// The target's, to come.
    Theirs,
    /// Ours.
    Ours(Vec<Bytes>),
}

impl Replies {
    fn theirs(&mut self) {
        self.0.push_back(Reply::Theirs);
    }

    /// Adds answers of ours; what can be said now.
    fn ours(&mut self, said: Vec<Bytes>) -> Vec<Bytes> {
        self.0.push_back(Reply::Ours(said));
        self.ready()
    }

    /// The target answered. `None`: nobody had asked.
    fn answered(&mut self, reply: Bytes) -> Option<Vec<Bytes>> {
        if !matches!(self.0.front(), Some(Reply::Theirs)) {
            return None;
        }
        self.0.pop_front();
        let mut said = vec![reply];
        said.append(&mut self.ready());
        Some(said)
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
                    self.replies.theirs();
                }
                self.actions.push(Action::ToTarget(payload));
                self.go_on()
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
        self.channels.is_empty() && self.asks.is_empty()
    }

    /// The connection ends: what is known of all that was not done.
    pub fn finish(&mut self) -> Vec<Action> {
        let mut keys: Vec<u32> = self.channels.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.remove(key);
        }
        for (ask, _) in self.asks.drain() {
            self.actions.push(Action::Withdrawn { ask });
        }
        self.actions()
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
        if let Some(ask) = channel.ask.take() {
            self.asks.remove(&ask);
            self.actions.push(Action::Withdrawn { ask });
        }
        channel.finish(&mut self.actions);
    }

    fn remove_closed(&mut self, key: u32) {
        if self.channels.get(&key).is_some_and(Channel::is_over) {
            self.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
