//! One unit that policy decides.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Reading, Seq};

/// What an agent asks a target to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Which kind of request it came as.
    pub kind: CommandKind,
    /// The statement as sent. `None` where this session cannot know it (a statement that was
    /// prepared by SQL's own `PREPARE`), and for `Cancel`.
    pub text: Option<String>,
    /// The prepared statement that is made (`Prepare`) or run (`Execute`, `Fetch`): a number that
    /// this session gave it, so that both can be committed in one batch, before either has a
    /// sequence number. The log joins them by (session, statement); the text is with the `Prepare`.
    pub statement: Option<u64>,
    /// The bound parameters as a JSON array; cut to the configured size.
    pub parameters: Option<String>,
    /// Whether `parameters` was cut.
    pub parameters_cut: bool,
    /// What was read out of its text; for `Bind`, `Execute` and `Fetch` when the text was sent to be
    /// parsed.
    pub reading: Option<Arc<Reading>>,
    /// Of a `Bind`: what tells the prepared statement, with its parameters' types, from others.
    pub origin: Option<[u8; 32]>,
    /// The hold whose approval covers it, for what is run after it was approved.
    pub approval: Option<Seq>,
}

impl Command {
    /// A command of which no more is known yet.
    pub fn new(kind: CommandKind, text: Option<String>) -> Self {
        Self {
            kind,
            text,
            statement: None,
            parameters: None,
            parameters_cut: false,
            reading: None,
            origin: None,
            approval: None,
        }
    }
}

/// The kinds of command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandKind {
    /// A text that may hold several statements, run at once (PostgreSQL's simple query).
    Query,
    /// A statement is sent to be parsed, and not run yet.
    Prepare,
    /// A prepared statement that a person must approve is given its parameters.
    Bind,
    /// A prepared statement is run.
    Execute,
    /// More rows of a statement that is already running are asked for.
    Fetch,
    /// Another session's running statement is to be cancelled.
    Cancel,
    /// A request that is refused whatever it says (PostgreSQL's function call).
    Call,
    /// A command line is run (SSH).
    Exec,
    /// A shell is opened (SSH).
    Shell,
    /// A subsystem is started (SSH).
    Subsystem,
    /// An operation of SFTP.
    Sftp,
    /// A file or folder that the legacy scp protocol carries.
    Copy,
    /// A tunnel, a display or a key agent is made reachable (SSH).
    Forward,
}

impl CommandKind {
    /// Whether it is of a database: relations and columns are nothing that other commands name, and
    /// files nothing that these do.
    pub fn is_sql(self) -> bool {
        match self {
            Self::Query
            | Self::Prepare
            | Self::Bind
            | Self::Execute
            | Self::Fetch
            | Self::Cancel
            | Self::Call => true,
            Self::Exec
            | Self::Shell
            | Self::Subsystem
            | Self::Sftp
            | Self::Copy
            | Self::Forward => false,
        }
    }

    /// The name that the log uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Prepare => "prepare",
            Self::Bind => "bind",
            Self::Execute => "execute",
            Self::Fetch => "fetch",
            Self::Cancel => "cancel",
            Self::Call => "call",
            Self::Exec => "exec",
            Self::Shell => "shell",
            Self::Subsystem => "subsystem",
            Self::Sftp => "sftp",
            Self::Copy => "copy",
            Self::Forward => "forward",
        }
    }
}
