//! The state of one SFTP channel: what was asked, what is owed, what passed.

use std::{collections::HashMap, sync::Arc};

use super::{
    answer::{self, Event, Outcome, Status, status},
    attributes::Attributes,
    covered::{Covered, EOF, Then},
    files::Files,
    frame::{Body, HEADER, Header, Violation, header},
    operation::Operation,
    request::{self, Reply, Request, kind},
};
use crate::ssh::cover::Cover;

mod client;
mod server;

/// What to do with the client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// This many bytes are needed at the front before anything can be said.
    Need(usize),
    /// Nothing can be said before the server has answered more, or the command before this has been
    /// decided.
    Wait,
    /// This many bytes may go on, after all before them.
    Pass(usize),
    /// This many bytes are to be thrown away. An answer of our own says why.
    Discard(usize),
    /// In the place of this many bytes others go on.
    Instead(usize, Vec<u8>),
    /// This many bytes are a command. It must be decided: [`Sftp::allowed`], and the bytes go on, or
    /// [`Sftp::refused`], and they are thrown away. Where there is an objection it must be refused.
    Command {
        /// Counts the commands of this channel from 0 on.
        number: u64,
        /// Bytes at the front.
        length: usize,
        /// What they ask for.
        operation: Operation,
        /// Why it cannot be allowed whatever policy says.
        objection: Option<&'static str>,
    },
}

/// What to do with the server's bytes, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServerStep {
    /// This many bytes may go on to the client.
    pub pass: usize,
    /// This many bytes behind them are to be thrown away.
    pub discard: usize,
    /// These are to be sent behind those that pass: answers of our own.
    pub insert: Vec<u8>,
    /// These are to be sent to the server: questions of our own.
    pub ask: Vec<u8>,
    /// So many bytes are needed behind those that pass. 0 where [`Sftp::server`] must be asked
    /// again with what is left.
    pub need: usize,
}

/// Requests that are no commands, of which only the number is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That ask for attributes, real paths, limits and the like.
    pub looks: u64,
    /// That read from an open file.
    pub reads: u64,
    /// That write to an open file.
    pub writes: u64,
    /// That list an open folder.
    pub lists: u64,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Sftp {
    phase: Phase,
    client_rest: ClientRest,
    server_rest: ServerRest,
    /// What the server owes, by the request's number.
    owed: HashMap<u32, Owed>,
    files: Files,
    pending: Option<Pending>,
    /// Answers of our own that wait for the end of a packet of the server's.
    insert: Vec<u8>,
    commands: u64,
    counts: Counts,
    /// Reads whose data are masked.
    covered: Covered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// `INIT` comes next.
    Start,
    /// `VERSION` comes next.
    Initialised,
    Ready,
}

/// The rest of a client's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientRest {
    None,
    Write { file: u64, left: usize },
    Discard(usize),
}

/// The rest of a server's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerRest {
    None,
    Plain(usize),
    Data { file: u64, left: usize },
}

#[derive(Clone, Copy, Debug)]
enum Owed {
    /// Opens something.
    Open(u64),
    /// Another command.
    Command(u64, Reply),
    Close(u64),
    Read {
        file: u64,
        offset: u64,
        length: u32,
    },
    Write {
        file: u64,
        length: u32,
    },
    List(u64),
    Look(Reply),
}

#[derive(Debug)]
struct Pending {
    id: u32,
    number: u64,
    operation: Operation,
    /// To which open file it copies.
    copies_to: Option<u64>,
    /// It sets this open file's length.
    changes: Option<(u64, u64)>,
}

/// Answers that may be due at a time; beyond that the client waits.
const OWED: usize = 16_384;
/// Longest request but `WRITE`: OpenSSH's own limit (`SFTP_MAX_MSG_LENGTH`, `sftp-common.h`).
const REQUEST: usize = (256 << 10) + 4;
/// Longest handle (section 6.3).
const HANDLE: usize = 256;
/// Bytes of answers of our own that may wait; beyond that the client waits.
const INSERT: usize = 64 << 10;

impl Sftp {
    /// A channel on which the server has agreed to speak SFTP.
    pub fn new() -> Self {
        Self {
            phase: Phase::Start,
            client_rest: ClientRest::None,
            server_rest: ServerRest::None,
            owed: HashMap::new(),
            files: Files::default(),
            pending: None,
            insert: Vec::new(),
            commands: 0,
            counts: Counts::default(),
            covered: Covered::default(),
        }
    }

    /// What is read of files is masked.
    pub fn cover(&mut self, by: Arc<dyn Cover>) {
        self.covered.set(by);
    }

    /// The command that waits for a decision was allowed: its bytes go on.
    pub fn allowed(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let number = pending.number;
        if let Some(file) = pending.copies_to {
            self.files.copied(file);
        }
        if let Some((file, size)) = pending.changes {
            self.files.resized(file, size);
        }
        let owed = match pending.operation {
            Operation::Open { path, flags, .. } => {
                self.files.opening(number, path, Some(flags));
                Owed::Open(number)
            }
            Operation::OpenDirectory { path } => {
                self.files.opening(number, path, None);
                Owed::Open(number)
            }
            Operation::ReadLink { .. } => Owed::Command(number, Reply::Names),
            Operation::Extension { .. } => {
                self.files.extension();
                Owed::Command(number, Reply::Any)
            }
            _ => Owed::Command(number, Reply::Status),
        };
        self.owed.insert(pending.id, owed);
    }

    /// The command that waits for a decision was refused: its bytes do not go on. The client is told
    /// with the next step of [`Sftp::server`], for which no bytes of the server are needed.
    pub fn refused(&mut self, message: &str) {
        if let Some(pending) = self.pending.take() {
            self.insert.extend(status(pending.id, Status::PERMISSION_DENIED, message));
        }
    }

    /// The channel ended: what is known of all that was not done.
    pub fn finish(&mut self) -> Vec<Event> {
        let mut unanswered = Vec::new();
        let mut open = Vec::new();
        for owed in self.owed.drain().map(|(_, owed)| owed) {
            match owed {
                Owed::Open(command) => {
                    open.push(command);
                    unanswered.push(command);
                }
                Owed::Command(command, _) => unanswered.push(command),
                _ => {}
            }
        }
        let mut events = self.files.finish(&open);
        let done = |command| Event::Done { command, outcome: Outcome::Unanswered };
        events.extend(unanswered.into_iter().map(done));
        events.sort_by_key(|Event::Done { command, .. }| *command);
        events
    }

    /// What passed that was no command.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether what was passed to the client so far ends with a whole packet.
    pub fn at_boundary(&self) -> bool {
        self.server_rest == ServerRest::None
    }
}

impl Default for Sftp {
    fn default() -> Self {
        Self::new()
    }
}
