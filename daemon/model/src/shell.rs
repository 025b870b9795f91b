//! What was read out of a command line that a shell is to run.

use serde::{Deserialize, Serialize};

use crate::Rung;

/// What was read out of a command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellReading {
    /// The commands that it can run, in the order in which they stand in the line; those that are
    /// inside of others come behind them.
    pub commands: Vec<ShellCommand>,
    /// How much it can do: the highest rung of its commands, or higher where something in it is not
    /// understood.
    pub rung: Rung,
    /// Why it is on this rung: words that follow "because".
    pub reason: String,
    /// What it is, where it is nothing but one of these.
    pub special: Option<Special>,
    /// Why it may run more than these commands: something in it is not understood.
    pub unread: Option<String>,
}

impl ShellReading {
    /// Of a line that cannot be read, and why.
    pub fn unreadable(why: impl Into<String>) -> Self {
        let why = why.into();
        Self {
            commands: Vec::new(),
            rung: Rung::Destructive,
            reason: why.clone(),
            special: None,
            unread: Some(why),
        }
    }
}

/// A program that is run with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellCommand {
    /// The last part of its name; all of it where it does not stand where programs are. Empty where
    /// the name is not literal.
    pub program: String,
    /// Its name as it was given, without quotes.
    pub written: String,
    /// What it is given. Of `sudo rm x` there are two commands: `sudo` with both words, and `rm`.
    pub arguments: Vec<ShellWord>,
    /// Files that its standard streams are taken from or put to.
    pub redirects: Vec<ShellRedirect>,
    /// Variables that are set for it, or for the shell where there is no program.
    pub assignments: Vec<(String, ShellWord)>,
    /// What runs it, from the outside in: `sudo`, `sh -c`, `$(…)`, `xargs`.
    pub context: Vec<String>,
    /// What it may do that the line does not show.
    pub hides: Hides,
    /// How much it can do.
    pub rung: Rung,
    /// Why: words that follow "because".
    pub reason: String,
}

/// What a program may do that the line which runs it does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hides {
    /// Nothing: the program and its words say what it does.
    #[default]
    Nothing,
    /// It runs code of its own, or a script: a program that is not known, an interpreter.
    Code,
    /// It runs other programs, which the line does not name.
    Programs,
}

/// A word of a command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellWord {
    /// Without quotes; what is put in by the shell as it was written.
    pub text: String,
    /// Whether it is the very word that the program gets.
    pub literal: bool,
}

/// A file that a stream is taken from or put to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellRedirect {
    /// Which file.
    pub path: ShellWord,
    /// For what.
    pub kind: ShellRedirectKind,
}

/// What is done with a file that a stream is taken from or put to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShellRedirectKind {
    /// `<`
    Read,
    /// `>`: what is in it goes.
    Write,
    /// `>>`, and `<>`.
    Append,
}

/// A command line that speaks a protocol of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Special {
    /// `rsync --server --sender`: files are read.
    RsyncSender {
        /// Which.
        paths: Vec<String>,
    },
    /// `rsync --server`: files are written.
    RsyncReceiver {
        /// Where.
        paths: Vec<String>,
        /// What the other side does not have is removed.
        deletes: bool,
    },
    /// `git-upload-pack`, `git-upload-archive`: a repository is read.
    GitRead {
        /// Which.
        repository: String,
    },
    /// `git-receive-pack`: a repository is pushed to.
    GitWrite {
        /// Which.
        repository: String,
    },
    /// `scp -t`: files are written, by the scp protocol.
    ScpTo {
        /// Where.
        path: String,
    },
    /// `scp -f`: files are read, by the scp protocol.
    ScpFrom {
        /// Which.
        paths: Vec<String>,
    },
    /// A server for SFTP, which should be read as such.
    SftpServer,
}
