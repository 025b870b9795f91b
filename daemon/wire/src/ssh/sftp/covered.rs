//! Reads whose data are masked: the server is asked for more than the client asked for, on both sides,
//! so that what is found is found whole wherever a read begins or ends, and the client gets the part
//! that it asked for.
//!
//! A server may answer with less than was asked for: it is asked on, until there is enough or the file
//! ends. Nothing is kept of a read beyond its answer.

use std::{collections::HashMap, sync::Arc};

use super::{
    answer::{kind, status},
    request,
};
use crate::ssh::cover::Cover;

/// Bytes of a file that a read is answered with at most: it may be less than was asked for (section
/// 6.4); OpenSSH asks for no more.
const MOST: u32 = 256 * 1024;
/// Reads that may be under way at a time; beyond that the client waits.
pub(super) const UNDER_WAY: usize = 16;
/// `SSH_FX_EOF`.
pub(super) const EOF: u32 = 1;

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Covered {
    by: Option<Arc<dyn Cover>>,
    reads: HashMap<u32, Read>,
}

#[derive(Debug)]
struct Read {
    handle: Vec<u8>,
    /// What the client asked for.
    from: u64,
    until: u64,
    /// Where the first of the bytes is in the file, and where they must reach.
    begin: u64,
    end: u64,
    bytes: Vec<u8>,
}

/// What becomes of an answer of the server's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The server is asked on.
    Ask(Vec<u8>),
    /// The client gets this packet, in which these bytes of the file are, from here on.
    Answer { packet: Vec<u8>, offset: u64, data: Vec<u8>, found: Vec<(u16, u64)> },
}

impl Covered {
    pub(super) fn set(&mut self, by: Arc<dyn Cover>) {
        self.by = Some(by);
    }

    /// Whether data are masked.
    pub(super) fn is_on(&self) -> bool {
        self.by.is_some()
    }

    /// Whether the server may still be asked for more of what is open by this handle.
    pub(super) fn uses(&self, handle: &[u8]) -> bool {
        self.reads.values().any(|read| read.handle == handle)
    }

    /// Whether no more reads may be under way.
    pub(super) fn is_full(&self) -> bool {
        self.reads.len() >= UNDER_WAY
    }

    /// A client reads: what is asked of the server in its place.
    pub(super) fn read(&mut self, id: u32, handle: &[u8], offset: u64, length: u32) -> Vec<u8> {
        let reach = self.by.as_ref().map_or(0, |by| by.reach()) as u64;
        let until = offset.saturating_add(length.min(MOST).into());
        let read = Read {
            handle: handle.to_vec(),
            from: offset,
            until,
            begin: offset.saturating_sub(reach),
            end: until.saturating_add(reach),
            bytes: Vec::new(),
        };
        let asks = read.asks(id);
        self.reads.insert(id, read);
        asks
    }

    /// How many bytes the server was asked for; `None` where this is no such read.
    pub(super) fn asked(&self, id: u32) -> Option<u64> {
        self.reads.get(&id).map(|read| read.end - read.reached())
    }

    /// The server's data of such a read.
    pub(super) fn data(&mut self, id: u32, data: &[u8]) -> Option<Then> {
        let read = self.reads.get_mut(&id)?;
        read.bytes.extend_from_slice(data);
        if !data.is_empty() && read.reached() < read.end {
            return Some(Then::Ask(read.asks(id)));
        }
        self.ended(id)
    }

    /// The file has no more, or there is enough of it.
    pub(super) fn ended(&mut self, id: u32) -> Option<Then> {
        let mut read = self.reads.remove(&id)?;
        let place = |at: u64| usize::try_from(at.saturating_sub(read.begin)).unwrap_or(usize::MAX);
        let until = place(read.until).min(read.bytes.len());
        let from = place(read.from).min(until);
        if from == until {
            let packet = status(id, EOF, "");
            return Some(Then::Answer {
                packet,
                offset: read.from,
                data: Vec::new(),
                found: Vec::new(),
            });
        }
        let by = self.by.as_ref()?;
        let found = by.cover(&mut read.bytes, from..until);
        let data = read.bytes.get(from..until).unwrap_or_default().to_vec();
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut packet = Vec::with_capacity(data.len() + 13);
        packet.extend((length + 9).to_be_bytes());
        packet.push(kind::DATA);
        packet.extend(id.to_be_bytes());
        packet.extend(length.to_be_bytes());
        packet.extend(&data);
        Some(Then::Answer { packet, offset: read.from, data, found })
    }

    /// The server would not.
    pub(super) fn failed(&mut self, id: u32) {
        self.reads.remove(&id);
    }
}

impl Read {
    /// Up to where the bytes reach.
    fn reached(&self) -> u64 {
        self.begin.saturating_add(self.bytes.len() as u64)
    }

    /// A request for what is still needed.
    fn asks(&self, id: u32) -> Vec<u8> {
        let length = u32::try_from(self.end - self.reached()).unwrap_or(u32::MAX);
        let handle = u32::try_from(self.handle.len()).unwrap_or(u32::MAX);
        let mut packet = Vec::with_capacity(self.handle.len() + 25);
        packet.extend((handle + 21).to_be_bytes());
        packet.push(request::kind::READ);
        packet.extend(id.to_be_bytes());
        packet.extend(handle.to_be_bytes());
        packet.extend(&self.handle);
        packet.extend(self.reached().to_be_bytes());
        packet.extend(length.to_be_bytes());
        packet
    }
}

#[cfg(test)]
mod tests;
