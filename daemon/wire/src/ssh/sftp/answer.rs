//! What came of commands, and a server's packets (section 7).

use std::fmt;

use super::frame::{Body, Violation};
use crate::ssh::{Content, shown};

/// Types of a server's packets.
pub(super) mod kind {
    pub(in super::super) const VERSION: u8 = 2;
    pub(in super::super) const STATUS: u8 = 101;
    pub(in super::super) const HANDLE: u8 = 102;
    pub(in super::super) const DATA: u8 = 103;
    pub(in super::super) const NAME: u8 = 104;
    pub(in super::super) const ATTRS: u8 = 105;
    pub(in super::super) const EXTENDED_REPLY: u8 = 201;
}

/// What happened that is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// No more will be known of a command.
    Done {
        /// Its number, from [`super::ClientStep::Command`].
        command: u64,
        /// What came of it.
        outcome: Outcome,
    },
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The channel ended before the server answered: it may have been done or not.
    Unanswered,
    /// The server's word; of a command that opens something, that it failed.
    Status(Status),
    /// It was answered with what was asked for.
    Answered,
    /// A file was opened, used and closed.
    File(FileOutcome),
    /// A folder was opened, listed and closed.
    Listed {
        /// Names that the server told.
        entries: u64,
        /// How it ended.
        closed: Closed,
    },
}

/// What was done with a file while it was open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOutcome {
    /// What was read, where it was opened for that.
    pub read: Option<Content>,
    /// What was written, where it was opened for that. Where it was opened for appending, it is
    /// what was appended, in the order in which it was sent.
    pub written: Option<Content>,
    /// The first write that the server did not take.
    pub failure: Option<Status>,
    /// How much was masked in what was read, by the caller's names for masks.
    pub masked: Vec<(u16, u64)>,
    /// How it ended.
    pub closed: Closed,
}

/// How the use of a handle ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The client closed it, and the server said this.
    Status(Status),
    /// The channel ended first.
    Unfinished,
}

/// A server's status (section 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: u32,
    /// Its words, which need not be there; cut to 1 KiB.
    pub message: Vec<u8>,
}

impl Status {
    /// `SSH_FX_OK`.
    pub const OK: u32 = 0;
    /// `SSH_FX_PERMISSION_DENIED`.
    pub const PERMISSION_DENIED: u32 = 3;
    /// `SSH_FX_FAILURE`.
    pub const FAILURE: u32 = 4;

    /// Whether it says that all went well.
    pub fn is_ok(&self) -> bool {
        self.code == Self::OK
    }

    /// The code's name in the draft, without its prefix.
    pub fn name(&self) -> Option<&'static str> {
        const NAMES: [&str; 9] = [
            "OK",
            "EOF",
            "NO_SUCH_FILE",
            "PERMISSION_DENIED",
            "FAILURE",
            "BAD_MESSAGE",
            "NO_CONNECTION",
            "CONNECTION_LOST",
            "OP_UNSUPPORTED",
        ];
        usize::try_from(self.code).ok().and_then(|code| NAMES.get(code)).copied()
    }

    /// Reads a packet behind its header and number. Old servers send the code alone.
    pub(super) fn read(mut body: Body<'_>) -> Result<Self, Violation> {
        let code = body.u32()?;
        let mut message = Vec::new();
        if !body.is_empty() {
            let words = body.string()?;
            message.extend(words.iter().take(MESSAGE));
            if !body.is_empty() {
                body.string()?;
            }
        }
        body.end()?;
        Ok(Self { code, message })
    }
}

/// Bytes of a status's words that are kept.
const MESSAGE: usize = 1 << 10;

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "code {}", self.code)?,
        }
        if !self.message.is_empty() {
            write!(f, " {}", shown(&self.message))?;
        }
        Ok(())
    }
}

/// A status packet of our own.
pub(super) fn status(id: u32, code: u32, message: &str) -> Vec<u8> {
    let mut end = message.len().min(MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let message = message.get(..end).unwrap_or_default();
    let length = u32::try_from(message.len()).unwrap_or(0);
    let mut packet = Vec::with_capacity(message.len() + 21);
    packet.extend((17 + length).to_be_bytes());
    packet.push(kind::STATUS);
    packet.extend(id.to_be_bytes());
    packet.extend(code.to_be_bytes());
    packet.extend(length.to_be_bytes());
    packet.extend(message.as_bytes());
    // The language of the message: none is said.
    packet.extend(0_u32.to_be_bytes());
    packet
}
