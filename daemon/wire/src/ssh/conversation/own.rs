//! Channels that end here: the agent's end of a tunnel whose bytes somebody here reads, and the channels
//! that are opened to the target for that. Each has a number and windows of this side's own.
//!
//! Does not belong here: channels that pass through (`channel`), and what is in the bytes.

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    super::{
        codec::{Put, Reader, message},
        message::{
            self, Asked, CLOSE, DATA, EOF, EXTENDED_DATA, FAILURE, OPEN, OPEN_CONFIRMATION,
            OPEN_FAILURE, REQUEST, SUCCESS, WINDOW_ADJUST,
        },
    },
    Action, Conversation, Pending, Place, Violation,
    agent::read_data,
};

/// What a sender is granted: so much waits here of a channel whose reader is slow.
const WINDOW: u32 = 256 * 1024;
/// The longest data of a message.
const PACKET: u32 = 32 * 1024;
/// Channels of one connection that end here.
const MOST: usize = 256;
/// Numbers of this side's begin here: programs count theirs from 0 on.
const FIRST: u32 = 0xC0DE_0000;

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Agent,
    Target,
}

/// What comes of a channel that ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is open.
    Opened,
    /// The other side does not open it, and says why.
    Refused(String),
    /// These bytes came; [`Conversation::own_took`] says when they were taken.
    Data(Bytes),
    /// No more come.
    Eof,
    /// It is closed.
    Closed,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Own {
    end: End,
    /// The command that it belongs to, of one that the agent opened.
    command: Option<u64>,
    /// The other side's number of it.
    theirs: Option<u32>,
    /// What the other side takes.
    room: u32,
    packet: u32,
    /// What it may still send.
    granted: u32,
    /// What was taken and not granted anew.
    taken: u32,
    said_eof: bool,
    said_close: bool,
    heard_close: bool,
}

/// All of a connection, by this side's numbers.
#[derive(Debug, Default)]
pub(super) struct Owns {
    all: HashMap<u32, Own>,
    next: u32,
}

impl Owns {
    /// Whether a number that an end is told is one of this side's.
    fn has(&self, end: End, number: u32) -> bool {
        self.all.get(&number).is_some_and(|own| own.end == end)
    }

    pub(super) fn is_of_agent(&self, number: u32) -> bool {
        self.has(End::Agent, number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Conversation {
    /// A tunnel that waits for a decision ends here: what is in it is for somebody who reads it. Answers
    /// its number, or nothing where it is no longer asked for.
    pub fn ends_here(&mut self, ask: u64) -> Option<u32> {
        let Some(Place::Channel(key)) = self.asks.get(&ask) else { return None };
        let key = *key;
        let channel = self.channels.get_mut(&key)?;
        if !matches!(channel.pending, Some(Pending::Open(_))) {
            return None;
        }
        let (agent, down) = (channel.agent?, channel.down.as_ref()?);
        let (room, packet) = (down.room(), down.packet());
        self.asks.remove(&ask);
        channel.ask = None;
        channel.pending = None;
        // It leads to no channel of the target's.
        (channel.agent_closed, channel.target_closed) = (true, true);
        self.remove(key);
        let mut own = Own::new(End::Agent, Some(ask));
        (own.theirs, own.room, own.packet) = (Some(agent), room, packet);
        let number = self.add(own);
        let mut said = message::of_channel(OPEN_CONFIRMATION, agent);
        said.put_u32(number);
        said.put_u32(WINDOW);
        said.put_u32(PACKET);
        self.actions.push(Action::ToAgent(said.into()));
        Some(number)
    }

    /// Opens a channel to where the target connects to. Answers its number; nothing where there are too
    /// many.
    pub fn open_own(&mut self, host: &str, port: u16) -> Option<u32> {
        if self.owns.all.len() >= MOST {
            return None;
        }
        let number = self.add(Own::new(End::Target, None));
        let mut said = message(OPEN);
        said.put_string(b"direct-tcpip");
        said.put_u32(number);
        said.put_u32(WINDOW);
        said.put_u32(PACKET);
        said.put_string(host.as_bytes());
        said.put_u32(port.into());
        // Who asks for it, which is nobody's business.
        said.put_string(b"127.0.0.1");
        said.put_u32(0);
        self.actions.push(Action::ToTarget(said.into()));
        Some(number)
    }

    /// Whether there is room for one more tunnel that ends here, and its channel to the target.
    pub fn has_room_for_own(&self) -> bool {
        self.owns.all.len() + 2 <= MOST
    }

    /// How many bytes the other side of a channel takes now, and whether they go to the agent.
    pub fn own_room(&self, number: u32) -> (usize, bool) {
        self.owns.all.get(&number).map_or((0, false), |own| {
            let takes = own.theirs.is_some() && !own.said_eof && !own.said_close;
            (if takes { own.room as usize } else { 0 }, own.end == End::Agent)
        })
    }

    /// Sends bytes; more than there is room for are not to be given.
    pub fn own_say(&mut self, number: u32, mut bytes: Bytes) {
        let Some(own) = self.owns.all.get_mut(&number) else { return };
        let Some(theirs) = own.theirs.filter(|_| !own.said_eof && !own.said_close) else { return };
        while !bytes.is_empty() && own.room > 0 {
            let most = bytes.len().min(own.room as usize).min(own.packet as usize);
            let piece = bytes.split_to(most);
            own.room -= u32::try_from(piece.len()).unwrap_or(u32::MAX);
            self.actions.push(own.to(message::data(theirs, None, &piece)));
        }
    }

    /// So many of the bytes that came were taken: the other side may send more.
    pub fn own_took(&mut self, number: u32, count: usize) {
        let Some(own) = self.owns.all.get_mut(&number) else { return };
        own.taken = own.taken.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        let Some(theirs) = own.theirs.filter(|_| !own.said_close) else { return };
        if own.taken >= WINDOW / 2 {
            let more = std::mem::take(&mut own.taken);
            own.granted = own.granted.saturating_add(more);
            self.actions.push(own.to(message::window_adjust(theirs, more)));
        }
    }

    /// No more is said.
    pub fn own_eof(&mut self, number: u32) {
        let Some(own) = self.owns.all.get_mut(&number) else { return };
        let Some(theirs) = own.theirs.filter(|_| !own.said_close) else { return };
        if !std::mem::replace(&mut own.said_eof, true) {
            self.actions.push(own.to(message::of_channel(EOF, theirs)));
        }
    }

    /// Nobody reads or writes it any more.
    pub fn own_close(&mut self, number: u32) {
        let Some(own) = self.owns.all.get_mut(&number) else { return };
        // One that is not open yet is closed once it is.
        let Some(theirs) = own.theirs else {
            own.said_close = true;
            return;
        };
        if !std::mem::replace(&mut own.said_close, true) {
            self.actions.push(own.to(message::of_channel(CLOSE, theirs)));
        }
        self.forget_closed(number);
    }

    /// Whether this side has such a number towards the agent, or the target.
    pub(super) fn is_own_of_agent(&self, number: u32) -> bool {
        self.owns.is_of_agent(number)
    }

    pub(super) fn is_own_of_target(&self, number: u32) -> bool {
        self.owns.has(End::Target, number)
    }

    /// A message about a channel that ends here.
    pub(super) fn hear_own(
        &mut self,
        message: u8,
        number: u32,
        payload: &Bytes,
    ) -> Result<(), Violation> {
        let actions = &mut self.actions;
        let Some(own) = self.owns.all.get_mut(&number) else { return Ok(()) };
        let mut read = Reader::new(payload.get(5..).unwrap_or_default());
        if own.heard_close {
            return Err(Violation::NoChannel(number));
        }
        let mut said = |said| actions.push(Action::Own { number, said });
        match (message, own.theirs) {
            (OPEN_CONFIRMATION, None) => {
                let (theirs, room, packet) = (read.u32()?, read.u32()?, read.u32()?);
                (own.theirs, own.room) = (Some(theirs), room);
                own.packet = packet.clamp(1, PACKET);
                if own.said_close {
                    let close = message::of_channel(CLOSE, theirs);
                    self.actions.push(own.to(close));
                } else {
                    said(Said::Opened);
                }
            }
            (OPEN_FAILURE, None) => {
                read.u32()?;
                let why = String::from_utf8_lossy(read.string()?).chars().take(1000).collect();
                said(Said::Refused(why));
                self.owns.all.remove(&number);
            }
            (_, None) => return Err(Violation::NoChannel(number)),
            (WINDOW_ADJUST, _) => own.room = own.room.saturating_add(read.u32()?),
            (DATA | EXTENDED_DATA, _) => {
                let (extended, bytes) = read_data(payload)?;
                let length = u32::try_from(bytes.len()).map_err(|_| Violation::Window(number))?;
                own.granted = own.granted.checked_sub(length).ok_or(Violation::Window(number))?;
                // A tunnel has one stream.
                if extended.is_none() && !own.said_close {
                    // Without bytes they cost no window, and would wait without end.
                    if !bytes.is_empty() {
                        said(Said::Data(bytes));
                    }
                } else {
                    self.own_took(number, bytes.len());
                }
            }
            (EOF, _) => said(Said::Eof),
            (CLOSE, Some(theirs)) => {
                own.heard_close = true;
                said(Said::Closed);
                if !std::mem::replace(&mut own.said_close, true) {
                    let close = own.to(message::of_channel(CLOSE, theirs));
                    self.actions.push(close);
                }
                self.forget_closed(number);
            }
            (REQUEST, Some(theirs)) => {
                // Nothing can be asked of it (keepalives are, and are content with any answer).
                if Asked::read(read)?.wants_reply && !own.said_close {
                    let no = own.to(message::of_channel(FAILURE, theirs));
                    self.actions.push(no);
                }
            }
            (SUCCESS | FAILURE, _) => {
                return Err(Violation::Misplaced { number: message, place: "without a question" });
            }
            (number, _) => return Err(Violation::Misplaced { number, place: "on a channel" }),
        }
        Ok(())
    }

    /// A number that neither end uses for another channel.
    fn add(&mut self, own: Own) -> u32 {
        loop {
            let number = FIRST.wrapping_add(self.owns.next % (u32::MAX - FIRST));
            self.owns.next = self.owns.next.wrapping_add(1);
            let taken = self.by_agent.contains_key(&number)
                || self.by_target.contains_key(&number)
                || self.closing.contains_key(&number)
                || self.owns.all.contains_key(&number);
            if !taken {
                self.owns.all.insert(number, own);
                return number;
            }
        }
    }

    fn forget_closed(&mut self, number: u32) {
        let over = |own: &Own| own.said_close && own.heard_close;
        if self.owns.all.get(&number).is_some_and(over)
            && let Some(own) = self.owns.all.remove(&number)
            && let Some(command) = own.command
        {
            self.actions.push(Action::Closed { command });
        }
    }

    /// The connection ends.
    pub(super) fn finish_own(&mut self) {
        let commands = self.owns.all.drain().filter_map(|(_, own)| own.command);
        self.actions.extend(commands.map(|command| Action::Closed { command }));
    }
}

impl Own {
    fn new(end: End, command: Option<u64>) -> Self {
        Self {
            end,
            command,
            theirs: None,
            room: 0,
            packet: PACKET,
            granted: WINDOW,
            taken: 0,
            said_eof: false,
            said_close: false,
            heard_close: false,
        }
    }

    fn to(&self, payload: Vec<u8>) -> Action {
        match self.end {
            End::Agent => Action::ToAgent(payload.into()),
            End::Target => Action::ToTarget(payload.into()),
        }
    }
}

#[cfg(test)]
mod tests;
