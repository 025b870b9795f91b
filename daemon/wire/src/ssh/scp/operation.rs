//! What is decided, and what comes of it.

use std::fmt;

use super::line::Answer;
use crate::ssh::{Content, shown};

/// Which way files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `scp -t`: the agent sends.
    ToTarget,
    /// `scp -f`: the target sends.
    FromTarget,
}

/// What to do with bytes of one side.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// This many bytes are needed at the front before anything can be said.
    Need(usize),
    /// Nothing can be said before the other side has said more, or the command has been decided.
    Wait,
    /// This many bytes may go on, after all before them.
    Pass(usize),
    /// In the place of this many bytes others go on, or none for now.
    Instead(usize, Vec<u8>),
    /// This many bytes are a command. It must be decided: [`super::Scp::allowed`], and the bytes go on, or
    /// [`super::Scp::refused`], and they are thrown away.
    Command {
        /// Counts the commands of this channel from 0 on.
        number: u64,
        /// Bytes at the front.
        length: usize,
        /// What they ask for.
        operation: Operation,
    },
}

/// A file or folder that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which way it goes.
    pub direction: Direction,
    /// Its name, behind those of the folders that it is in. Where they begin is what the command
    /// line says.
    pub path: Vec<u8>,
    /// What it is.
    pub found: Found,
    /// Its mode bits.
    pub mode: u32,
    /// Its times, where they were said.
    pub times: Option<Times>,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file, and its length in bytes.
    File(u64),
    /// A folder.
    Folder,
}

/// Of a file, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Of the last change.
    pub modified: i64,
    /// Of the last access.
    pub accessed: i64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.direction {
            Direction::ToTarget => "put",
            Direction::FromTarget => "get",
        };
        let path = shown(&self.path);
        match self.found {
            Found::File(size) => write!(f, "{word} {path} ({size} bytes, mode {:04o})", self.mode),
            Found::Folder => write!(f, "{word} folder {path} (mode {:04o})", self.mode),
        }
    }
}

/// What happened that is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// No more will be known of a command.
    Done {
        /// Its number, from [`Step::Command`].
        command: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// The source could not send something.
    Said(Word),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The channel ended before it was answered.
    Unanswered,
    /// The sink did not want it.
    Rejected(Word),
    /// The folder was entered.
    Entered,
    /// The file was sent.
    Sent {
        /// Its content, as far as it passed.
        content: Content,
        /// How much was masked in it, by the caller's names for masks.
        masked: Vec<(u16, u64)>,
        /// What the source said at its end: it may have failed to read all of it.
        source: Option<Word>,
        /// What the sink said at its end: it may have failed to write all of it.
        sink: Option<Word>,
    },
}

/// How one side says what came of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// All went well.
    Fine,
    /// It failed, in these words.
    Failed(Vec<u8>),
    /// It failed, in these words, and nothing more comes.
    GaveUp(Vec<u8>),
}

impl From<Answer<'_>> for Word {
    fn from(answer: Answer<'_>) -> Self {
        match answer {
            Answer::Fine => Self::Fine,
            Answer::Failed(words) => Self::Failed(words.to_vec()),
            Answer::GivesUp(words) => Self::GaveUp(words.to_vec()),
        }
    }
}

/// What to send to whom when a command was refused. The channel goes on with what comes next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// To the agent.
    pub to_client: Vec<u8>,
    /// To the target.
    pub to_server: Vec<u8>,
}
