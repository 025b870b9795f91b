//! Packets as frames: a length that does not count itself, a type byte, a body (section 3); and
//! what can be wrong with them.

/// A peer broke the protocol; the channel cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A length that cannot be, or is more than anything needs.
    #[error("an SFTP packet of type {kind} says that it is {length} bytes long, which cannot be")]
    Length {
        /// The packet's type.
        kind: u8,
        /// What its length field says.
        length: u32,
    },
    /// A type that version 3 does not have, or not at this point.
    #[error("an SFTP packet of type {kind} is not allowed {place}")]
    Unexpected {
        /// The packet's type.
        kind: u8,
        /// Where in the conversation.
        place: &'static str,
    },
    /// The body is not what its type asks for.
    #[error("an SFTP packet of type {kind} is malformed: {reason}")]
    Malformed {
        /// The packet's type.
        kind: u8,
        /// What is wrong.
        reason: &'static str,
    },
    /// The client used a number again before it was answered.
    #[error("the SFTP request number {0} was used again before it was answered")]
    Reused(u32),
    /// The server answered what was not asked.
    #[error("the server answered the SFTP request number {0}, which nobody asked")]
    Unasked(u32),
    /// The server gave a handle that it has given already.
    #[error("the server gave the same SFTP handle to two files")]
    HandleTwice,
    /// The server chose another version than the one that is read here.
    #[error(
        "the server chose version {0} of SFTP, and only version 3 can be read: ask for version 3"
    )]
    Version(u32),
}

/// Bytes before a packet's body.
pub(super) const HEADER: usize = 5;

/// The header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    /// Of the whole packet, length field included.
    pub(super) length: usize,
}

impl Header {
    /// Refuses what is longer than its kind needs.
    pub(super) fn at_most(self, limit: usize) -> Result<Self, Violation> {
        if self.length > limit { Err(self.impossible()) } else { Ok(self) }
    }

    /// Refuses a packet that is shorter than what must be in it.
    pub(super) fn at_least(self, least: usize) -> Result<Self, Violation> {
        if self.length < least { Err(self.impossible()) } else { Ok(self) }
    }

    /// Refuses a body of another length.
    pub(super) fn exactly(self, length: usize) -> Result<Self, Violation> {
        if self.length == length { Ok(self) } else { Err(self.impossible()) }
    }

    fn impossible(self) -> Violation {
        let length = u32::try_from(self.length - 4).unwrap_or(u32::MAX);
        Violation::Length { kind: self.kind, length }
    }
}

/// Reads a header; `None` means that more bytes are needed.
pub(super) fn header(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let Some((&[a, b, c, d, kind], _)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    // All packets have a type and a number (of a request, or a version).
    match usize::try_from(length).ok().and_then(|length| length.checked_add(4)) {
        Some(whole) if length >= 5 => Ok(Some(Header { kind, length: whole })),
        _ => Err(Violation::Length { kind, length }),
    }
}

/// Reads a body from front to back; every read past the end is an error of the peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    /// The body of a packet; what is there of it.
    pub(super) fn of(packet: &'a [u8]) -> Self {
        let kind = packet.get(4).copied().unwrap_or(0);
        Self { kind, rest: packet.get(HEADER..).unwrap_or_default() }
    }

    pub(super) fn malformed(&self, reason: &'static str) -> Violation {
        Violation::Malformed { kind: self.kind, reason }
    }

    pub(super) fn u32(&mut self) -> Result<u32, Violation> {
        self.chunk().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Violation> {
        self.chunk().map(u64::from_be_bytes)
    }

    /// Bytes with their length before them.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Violation> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A path or name. A NUL would end it early where the server is written in C: what was decided
    /// would not be what is done.
    pub(super) fn path(&mut self) -> Result<Vec<u8>, Violation> {
        let path = self.string()?;
        if path.len() > PATH {
            return Err(self.malformed("a path is longer than 64 KiB"));
        }
        if path.contains(&0) {
            return Err(self.malformed("a path holds a NUL byte"));
        }
        Ok(path.to_vec())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that has not been read.
    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn end(self) -> Result<(), Violation> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("bytes are left over at its end"))
        }
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (chunk, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*chunk)
    }

    fn short(&self) -> Violation {
        self.malformed("it ends too early")
    }
}

/// Longest path that is read.
const PATH: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_lengths_that_cannot_be_are_refused() {
        for length in [0_u32, 1, 4] {
            let bytes = [&length.to_be_bytes()[..], &[3]].concat();
            assert_eq!(header(&bytes), Err(Violation::Length { kind: 3, length }));
        }
        assert_eq!(header(b"\0\0\0\x05"), Ok(None));
        let found = header(b"\0\0\0\x05\x04").expect("allowed").expect("whole");
        assert_eq!(found, Header { kind: 4, length: 9 });
        assert_eq!(
            found.at_most(8),
            Err(Violation::Length { kind: 4, length: 5 }),
            "what is shown is what was sent"
        );
    }

    proptest::proptest! {
        #[test]
        fn p8_no_body_panics(bytes: Vec<u8>, turns: Vec<u8>) {
            let mut body = Body::of(&bytes);
            for turn in turns {
                match turn % 4 {
                    0 => drop(body.u32()),
                    1 => drop(body.u64()),
                    2 => drop(body.string()),
                    _ => drop(body.path()),
                }
            }
        }
    }
}
