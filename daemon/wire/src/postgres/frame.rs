//! Messages as frames: a type byte, a length that counts itself, a body
//! (protocol-message-formats, "Message Formats").

/// A peer broke the protocol; the connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A length that cannot be.
    #[error("a message of type {tag} says that it is {length} bytes long, which cannot be")]
    Length {
        /// The message's type.
        tag: Tag,
        /// What its length field says.
        length: i64,
    },
    /// A type that the protocol does not have, or not at this point.
    #[error("a message of type {tag} is not allowed {place}")]
    Unexpected {
        /// The message's type.
        tag: Tag,
        /// Where in the conversation.
        place: &'static str,
    },
    /// The body is not what its type asks for.
    #[error("a message of type {tag} is malformed: {reason}")]
    Malformed {
        /// The message's type.
        tag: Tag,
        /// What is wrong.
        reason: &'static str,
    },
    /// A start-up packet that cannot be.
    #[error("the start-up packet is malformed: {0}")]
    Startup(String),
    /// More than a session may have.
    #[error("a session has {0} portals at most")]
    Portals(usize),
    /// The client's: a statement of its own changed how the server read the next.
    #[error(
        "a statement changed {0} while another was under way that reads otherwise under it: send a Sync behind what changes it"
    )]
    ReadOtherwise(&'static str),
    /// What COPY writes may hold what must not be seen.
    #[error("what COPY writes does not pass: {0}")]
    Copy(&'static str),
    /// In this encoding nothing can be found in values.
    #[error(
        "values are looked into, and in client_encoding {0} nothing can be found in them: use UTF8"
    )]
    Encoding(String),
}

/// A message's type byte, shown as a letter where it is one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u8);

impl std::fmt::Debug for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(f, "'{}'", char::from(self.0))
        } else {
            write!(f, "0x{:02x}", self.0)
        }
    }
}

/// Bytes before a message's body.
pub(crate) const HEADER: usize = 5;

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) tag: u8,
    /// Of the whole message, type byte included.
    pub(crate) length: usize,
}

/// Reads a header; `None` means that more bytes are needed.
pub(crate) fn header(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes([a, b, c, d]);
    // The server itself allows up to 1 GB (PQ_LARGE_MESSAGE_LIMIT); i32 holds no more than 2 GB, so
    // adding the type byte cannot overflow.
    match usize::try_from(length) {
        Ok(length @ 4..) => Ok(Some(Header { tag, length: length + 1 })),
        _ => Err(Violation::Length { tag: Tag(tag), length: length.into() }),
    }
}

/// Reads a body from front to back; every read past the end is an error of the peer.
#[derive(Clone, Copy)]
pub(crate) struct Body<'a> {
    tag: u8,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    /// The body of a whole message.
    pub(crate) fn of(message: &'a [u8]) -> Self {
        let tag = message.first().copied().unwrap_or(0);
        Self { tag, rest: message.get(HEADER..).unwrap_or_default() }
    }

    pub(crate) fn malformed(&self, reason: &'static str) -> Violation {
        Violation::Malformed { tag: Tag(self.tag), reason }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Violation> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Violation> {
        self.chunk().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Violation> {
        self.chunk().map(i32::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        self.chunk().map(u32::from_be_bytes)
    }

    /// A count field: how many items follow.
    pub(crate) fn count(&mut self) -> Result<usize, Violation> {
        // Counts are unsigned on the wire since PostgreSQL 14 allows 65,535 parameters.
        self.chunk().map(u16::from_be_bytes).map(usize::from)
    }

    /// Bytes up to a NUL, which is taken and not given.
    pub(crate) fn text(&mut self) -> Result<&'a [u8], Violation> {
        let end = self
            .rest
            .iter()
            .position(|b| *b == 0)
            .ok_or_else(|| self.malformed("a text does not end"))?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(text)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A value with its length before it; a length of -1 means null.
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        match self.i32()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => self.bytes(length).map(Some),
                Err(_) => Err(self.malformed("a value has a negative length")),
            },
        }
    }

    /// All that has not been read.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn end(self) -> Result<(), Violation> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_lengths_that_cannot_be_are_refused() {
        for length in [i32::MIN, -1, 0, 3] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert!(matches!(header(&bytes), Err(Violation::Length { .. })), "{length}");
        }
    }

    #[test]
    fn p8_the_longest_length_does_not_overflow() {
        let mut bytes = vec![b'd'];
        bytes.extend(i32::MAX.to_be_bytes());
        let found = header(&bytes).expect("allowed").expect("whole");
        assert_eq!(found.length, 0x8000_0000);
    }

    #[test]
    fn a_header_needs_five_bytes() {
        assert_eq!(header(b"Q\0\0\0"), Ok(None));
        assert_eq!(header(b"S\0\0\0\x04"), Ok(Some(Header { tag: b'S', length: 5 })));
    }

    proptest::proptest! {
        #[test]
        fn p8_no_body_panics(bytes: Vec<u8>, counts: Vec<u16>) {
            let mut body = Body::of(&bytes);
            for count in counts {
                let _ = body.value();
                let _ = body.text();
                let _ = body.bytes(count.into());
            }
        }
    }
}
