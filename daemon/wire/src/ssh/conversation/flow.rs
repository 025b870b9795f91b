//! One direction of a channel: what its receiver takes, what its sender was granted, and what waits in
//! between.
//!
//! Windows are passed on from end to end, so that nothing waits here: a channel that is not read
//! stops its own sender and nobody else. Only what this side adds to a stream, or makes of it, can be
//! more than the receiver takes; it waits, and the sender is granted so much less.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    super::{Violation, message},
    MESSAGE, UNREAD, WINDOW,
};

/// What goes to one end of a channel.
#[derive(Debug)]
pub(super) struct Flow {
    /// The channel's number at the receiver.
    pub(super) to: u32,
    /// The longest data that it takes in one message.
    packet: u32,
    /// What it takes now.
    room: u32,
    /// What the sender believes that it takes.
    granted: u32,
    waiting: VecDeque<Waiting>,
    /// Bytes of data among these.
    queued: u32,
    /// What the messages among these take.
    cost: usize,
}

#[derive(Debug)]
enum Waiting {
    Data(Option<u32>, Bytes),
    Message(Bytes),
}

impl Flow {
    /// To a receiver that said this when the channel was opened.
    pub(super) fn new(to: u32, room: u32, packet: u32) -> Self {
        Self {
            to,
            packet: packet.clamp(1, 128 * 1024),
            room,
            granted: room.min(WINDOW),
            waiting: VecDeque::new(),
            queued: 0,
            cost: 0,
        }
    }

    /// What it takes now.
    pub(super) fn room(&self) -> u32 {
        self.room
    }

    /// The longest data that it takes in one message.
    pub(super) fn packet(&self) -> u32 {
        self.packet
    }

    /// The sender has used up so much of what it was granted.
    pub(super) fn received(&mut self, length: usize, channel: u32) -> Result<(), Violation> {
        let length = u32::try_from(length).map_err(|_| Violation::Window(channel))?;
        self.granted = self.granted.checked_sub(length).ok_or(Violation::Window(channel))?;
        Ok(())
    }

    /// Sends data, in the sender's own message where that is what goes on.
    pub(super) fn data(
        &mut self,
        extended: Option<u32>,
        bytes: &Bytes,
        own: Option<&Bytes>,
        out: &mut Vec<Bytes>,
    ) {
        let length = bytes.len();
        if let Some(own) = own
            && self.waiting.is_empty()
            && length <= self.room as usize
            && length <= self.packet as usize
        {
            self.room -= u32::try_from(length).unwrap_or(u32::MAX);
            out.push(own.clone());
            return;
        }
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(self.packet as usize));
            self.queued += u32::try_from(piece.len()).unwrap_or(u32::MAX);
            self.waiting.push_back(Waiting::Data(extended, piece));
        }
        self.flush(out);
    }

    /// Sends a message behind all data.
    pub(super) fn message(&mut self, payload: Bytes, out: &mut Vec<Bytes>) {
        if self.waiting.is_empty() {
            out.push(payload);
        } else {
            self.cost += payload.len() + MESSAGE;
            self.waiting.push_back(Waiting::Message(payload));
        }
    }

    /// The receiver takes more.
    pub(super) fn adjusted(&mut self, bytes: u32, out: &mut Vec<Bytes>) {
        // More than 2^32 - 1 is not to be (RFC 4254, section 5.2), and would be of no use.
        self.room = self.room.saturating_add(bytes);
        self.flush(out);
    }

    /// Whether the receiver leaves more messages unread than may wait for it.
    pub(super) fn is_flooded(&self) -> bool {
        self.cost > UNREAD
    }

    /// Whether its sender may send, and nothing waits for the receiver.
    pub(super) fn is_open(&self) -> bool {
        self.granted > 0 && self.waiting.is_empty()
    }

    /// What the sender may be granted now, where so much of what it sent has not come here yet.
    pub(super) fn grant(&mut self, held: usize) -> Option<u32> {
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        let owed = self.granted.saturating_add(self.queued).saturating_add(held);
        let more = self.room.min(WINDOW).checked_sub(owed).filter(|more| *more > 0)?;
        // Where the receiver takes more than this side grants, not for each message.
        if self.room > WINDOW && more < WINDOW / 2 {
            return None;
        }
        self.granted += more;
        Some(more)
    }

    /// The receiver takes no more data: what waits of them is dropped, and the rest goes on.
    pub(super) fn end(&mut self, out: &mut Vec<Bytes>) {
        (self.queued, self.cost) = (0, 0);
        out.extend(self.waiting.drain(..).filter_map(|one| match one {
            Waiting::Message(payload) => Some(payload),
            Waiting::Data(..) => None,
        }));
    }

    /// Bytes of data that wait.
    pub(super) fn queued(&self) -> u32 {
        self.queued
    }

    fn flush(&mut self, out: &mut Vec<Bytes>) {
        while let Some(first) = self.waiting.front_mut() {
            match first {
                Waiting::Message(payload) => {
                    self.cost -= payload.len() + MESSAGE;
                    out.push(std::mem::take(payload));
                }
                Waiting::Data(extended, bytes) => {
                    let length = bytes.len().min(self.room as usize);
                    if length == 0 {
                        return;
                    }
                    let piece = bytes.split_to(length);
                    let length = u32::try_from(length).unwrap_or(u32::MAX);
                    self.room -= length;
                    self.queued -= length;
                    out.push(message::data(self.to, *extended, &piece).into());
                    if !bytes.is_empty() {
                        return;
                    }
                }
            }
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_taken_off_what_is_granted() {
        let mut flow = Flow::new(7, 10, 100);
        let mut out = Vec::new();
        flow.data(Some(1), &Bytes::from_static(b"abcd"), None, &mut out);
        assert_eq!((out.len(), flow.room, flow.granted), (1, 6, 10));
        // The sender uses all that it believes to have.
        flow.received(10, 7).expect("granted");
        flow.data(None, &Bytes::from_static(b"0123456789"), None, &mut out);
        assert_eq!((out.len(), flow.room, flow.queued()), (2, 0, 4));
        flow.message(Bytes::from_static(b"\x60"), &mut out);
        assert_eq!((out.len(), flow.grant(0)), (2, None));
        flow.adjusted(3, &mut out);
        assert_eq!((flow.queued(), flow.grant(0)), (1, None));
        flow.adjusted(3, &mut out);
        assert_eq!((flow.queued(), flow.grant(0)), (0, Some(2)));
        assert_eq!(out.last().map(|last| &last[..]), Some(&b"\x60"[..]));
        assert!(flow.received(3, 7).is_err());
    }
}
