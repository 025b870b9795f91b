//! What is asked of whoever decides, and what is told to whoever records.

use bytes::Bytes;

use super::{own::Said, scp, sftp};

/// What an agent's client wants to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A command line is run.
    Exec {
        /// Its bytes, which need not be text.
        line: Vec<u8>,
    },
    /// A shell is opened.
    Shell,
    /// A subsystem is started.
    Subsystem {
        /// Its name.
        name: Vec<u8>,
    },
    /// An operation of SFTP.
    Sftp {
        /// The command that started it.
        parent: u64,
        /// What.
        operation: sftp::Operation,
    },
    /// A file or folder that the legacy scp protocol carries.
    Copy {
        /// The command that started it.
        parent: u64,
        /// What.
        operation: scp::Operation,
    },
    /// The target connects to somewhere (`direct-tcpip`).
    Forward {
        /// To which host.
        host: String,
        /// And port.
        port: u32,
    },
    /// The target connects to a socket of its own (`direct-streamlocal@openssh.com`).
    ForwardSocket {
        /// Its path.
        path: Vec<u8>,
    },
    /// The target listens for the agent (`tcpip-forward`).
    Listen {
        /// On which address.
        address: String,
        /// And port.
        port: u32,
    },
    /// The same, on a socket (`streamlocal-forward@openssh.com`).
    ListenSocket {
        /// Its path.
        path: Vec<u8>,
    },
    /// Programs at the target may use the agent's display.
    X11,
    /// Programs at the target may use the keys of the agent's own ssh-agent.
    AgentForward,
}

/// A command that must be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Counts the commands of this connection.
    pub number: u64,
    /// What.
    pub wanted: Wanted,
    /// Why it cannot be allowed whatever policy says.
    pub objection: Option<&'static str>,
    /// The terminal that it would have.
    pub terminal: Option<Terminal>,
    /// Variables that were set for it.
    pub environment: Vec<(String, String)>,
}

/// A terminal that a client asked for (RFC 4254, section 6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Its kind, `TERM`.
    pub kind: String,
    /// Its width in characters.
    pub columns: u32,
    /// Its height in rows.
    pub rows: u32,
}

/// What is spoken on a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inner {
    /// Anything.
    #[default]
    Plain,
    /// SFTP.
    Sftp,
    /// The legacy scp protocol.
    Scp(scp::Direction),
}

/// A stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// From the agent.
    In,
    /// From the target.
    Out,
    /// From the target, beside it.
    Err,
}

/// What becomes of a stream of a program's output before it goes on.
pub trait Filter: std::fmt::Debug {
    /// Takes bytes, and appends what may go on.
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>);

    /// Nothing more comes for now: appends what need not wait for more.
    fn flush(&mut self, out: &mut Vec<u8>);

    /// Nothing more comes at all.
    fn finish(&mut self, out: &mut Vec<u8>);

    /// How many bytes wait.
    fn waiting(&self) -> usize;
}

/// The filters of a program's output and of what comes beside it.
#[derive(Debug)]
pub struct Filters {
    /// Of [`Stream::Out`].
    pub out: Box<dyn Filter>,
    /// Of [`Stream::Err`].
    pub err: Box<dyn Filter>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With a status.
    Status(u32),
    /// By a signal.
    Signal(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// This goes to the agent.
    ToAgent(Bytes),
    /// This goes to the target.
    ToTarget(Bytes),
    /// This must be decided.
    Ask(Box<Ask>),
    /// A command that waits is no longer asked for.
    Withdrawn {
        /// Which.
        ask: u64,
    },
    /// Bytes of a command's passed.
    Passed {
        /// Which command.
        command: u64,
        /// On which of its channels.
        channel: u32,
        /// Of which stream.
        stream: Stream,
        /// The bytes.
        bytes: Bytes,
    },
    /// Its terminal has another size.
    Resized {
        /// Which command.
        command: u64,
        /// Characters.
        columns: u32,
        /// Rows.
        rows: u32,
    },
    /// Its program ended.
    Exited {
        /// Which command.
        command: u64,
        /// How.
        exit: Exit,
    },
    /// The target would not start it.
    Rejected {
        /// Which command.
        command: u64,
        /// In the target's words.
        why: String,
    },
    /// An operation of SFTP is done.
    SftpDone {
        /// Which command.
        command: u64,
        /// What came of it.
        outcome: sftp::Outcome,
    },
    /// A file or folder was carried.
    CopyDone {
        /// Which command.
        command: u64,
        /// What came of it.
        outcome: scp::Outcome,
    },
    /// Something came of a channel that ends here.
    Own {
        /// Its number.
        number: u32,
        /// What.
        said: Said,
    },
    /// Its channel is closed: nothing more comes of it.
    Closed {
        /// Which command.
        command: u64,
    },
    /// Something was refused because it is not known here.
    Unknown {
        /// What.
        what: String,
    },
}
