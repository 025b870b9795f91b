//! The admin socket's actions and replies, and its client. Every front end speaks these.
//!
//! One action and one reply a connection, each a line of JSON. Does not belong here: what an action
//! does, which is the daemon's business.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use chaperone_model::{Reading, Seq, Timestamp};
use serde::{Deserialize, Serialize};

/// What the daemon can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// How is it?
    Status,
    /// Which sessions are live?
    Sessions,
    /// Which commands wait for a person?
    Holds,
    /// One of them, with all that is known of it.
    Hold(Seq),
    /// The caller's word on one of them.
    Decide {
        /// Which.
        hold: Seq,
        /// Whether the caller is for it.
        approve: bool,
        /// Why, in their words.
        reason: Option<String>,
    },
    /// Erase the content of commands from the log.
    Erase {
        /// Which.
        commands: Vec<Seq>,
        /// Why, in the caller's words.
        reason: String,
    },
    /// Begin a new file of the log.
    Turn,
    /// Lift a mask for a run of an agent.
    Unmask(Unmask),
    /// Which masks are lifted, or asked to be?
    Exceptions,
    /// The mask counts again.
    Revoke {
        /// Which exception.
        exception: Seq,
        /// Why, in the caller's words.
        reason: Option<String>,
    },
}

/// A mask that is to be lifted for a run of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmask {
    /// The mask.
    pub mask: String,
    /// The agent.
    pub agent: String,
    /// Its run; `None` where it has one alone.
    pub run: Option<String>,
    /// On this target alone.
    pub target: Option<String>,
    /// For how long, in seconds, from when it is granted.
    pub seconds: u64,
    /// Why, in the caller's words.
    pub reason: String,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Action::Status`].
    Status(Box<Status>),
    /// To [`Action::Sessions`].
    Sessions(Vec<LiveSession>),
    /// To [`Action::Holds`].
    Holds(Vec<Hold>),
    /// To [`Action::Hold`].
    Hold(Box<Hold>),
    /// To [`Action::Decide`]: what came of it, in a sentence.
    Decided(String),
    /// To [`Action::Erase`]: the records whose content is gone.
    Erased(Vec<Seq>),
    /// To [`Action::Turn`]: it is begun.
    Turned,
    /// To [`Action::Unmask`].
    Unmasked {
        /// The number of the exception.
        id: Seq,
        /// What came of it, in a sentence.
        done: String,
    },
    /// To [`Action::Exceptions`].
    Exceptions(Vec<Exception>),
    /// It cannot; a sentence says why.
    Refused(String),
}

/// The daemon's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Since when it serves.
    pub since: Timestamp,
    /// Its process id.
    pub pid: u32,
    /// The cgroup that the programs are attached to.
    pub attach: PathBuf,
    /// SHA-256 of the policy in force, in hexadecimal.
    pub policy: String,
    /// Live sessions.
    pub sessions: u64,
    /// The log.
    pub log: LogStatus,
    /// Counters by name: the kernel side's since its maps were made, the daemon's since its start.
    pub counters: Vec<(String, u64)>,
    /// Where the log's checkpoints are sent. A daemon of an earlier version does not say.
    #[serde(default)]
    pub anchors: Vec<AnchorStatus>,
    /// Whether agents' connections still come to the daemon, as far as it can see.
    #[serde(default)]
    pub interception: InterceptionStatus,
}

/// What was found when it was last looked whether agents' connections come to the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterceptionStatus {
    /// When that was; not yet.
    pub checked: Option<Timestamp>,
    /// What is wrong.
    pub problem: Option<String>,
}

/// How an anchor is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorStatus {
    /// Its name.
    pub name: String,
    /// Where it is, as the configuration says.
    pub to: String,
    /// How many records the last checkpoint is over that it took.
    pub size: Option<u64>,
    /// When it took that.
    pub at: Option<Timestamp>,
    /// Records since.
    pub behind: u64,
    /// Whether it has taken none for too long, or says that the log is another than before.
    pub lags: bool,
    /// Why it did not take the last one, where it did not.
    pub error: Option<String>,
}

/// The log's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Its file.
    pub path: PathBuf,
    /// Number of the last record.
    pub last: u64,
    /// Bytes of records that wait to be committed.
    pub queued_bytes: u64,
    /// Records of outcomes that were lost.
    pub lost: u64,
    /// Why the last commit failed, where it did.
    pub error: Option<String>,
    /// How far the newest file's search index is.
    #[serde(default)]
    pub index: IndexStatus,
    /// Who has held a view of the log for long, so that it cannot be tidied up.
    #[serde(default)]
    pub readers: Vec<LogReader>,
}

/// How far a search index is behind its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexStatus {
    /// Number of the last record that is in it.
    pub indexed: u64,
    /// Number of the log's last record when it was looked.
    pub last: u64,
    /// Why it does not get on, where it does not.
    pub error: Option<String>,
}

/// A process that has held a view of the log for long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReader {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub program: String,
    /// Its user id, where it is known.
    pub uid: Option<u32>,
    /// The name of the file that it reads.
    pub file: String,
    /// For how long, at least.
    pub held_seconds: u64,
    /// Bytes that the file's WAL has meanwhile.
    pub wal_bytes: u64,
}

/// A command that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id: the number of the command's record.
    pub id: Seq,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub deadline: Timestamp,
    /// Whether the agent waits for it (`stay`) or was told to come again (`retry`).
    pub wait: String,
    /// The agent.
    pub agent: String,
    /// Its version.
    pub version: Option<String>,
    /// Which of its runs.
    pub run: String,
    /// The agent's first process and what came of it, down to the one that connected.
    pub lineage: String,
    /// What is doubtful about who it is.
    pub doubts: Vec<String>,
    /// The session.
    pub session: Seq,
    /// Whether the session was inside a transaction.
    pub in_transaction: bool,
    /// The target.
    pub target: String,
    /// The database.
    pub database: Option<String>,
    /// The account at the target.
    pub user: Option<String>,
    /// The rule that holds it.
    pub rule: String,
    /// Who may approve it: `group:…`, `user:…`.
    pub approvers: Vec<String>,
    /// How many of them it takes.
    pub quorum: u32,
    /// Who has approved it so far.
    pub approved_by: Vec<String>,
    /// How long an approval lasts, and how often it can be used.
    pub lasts: String,
    /// The statement as sent.
    pub statement: Option<String>,
    /// The statement laid out.
    pub laid_out: Option<String>,
    /// Its parameters, as a JSON array.
    pub parameters: Option<String>,
    /// What was read out of it.
    pub reading: Option<Reading>,
    /// What it tells of masked columns, a sentence each.
    #[serde(default)]
    pub guesses: Vec<String>,
    /// What the target expects of it; for [`Action::Hold`] alone.
    pub inspection: Option<Inspection>,
    /// What the same run did just before, the newest last; for [`Action::Hold`] alone.
    pub before: Vec<Before>,
}

/// A mask that is lifted for a run of an agent, or asked to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Its id.
    pub id: Seq,
    /// Since when it is asked for.
    pub since: Timestamp,
    /// The mask.
    pub mask: String,
    /// The agent.
    pub agent: String,
    /// Its run.
    pub run: String,
    /// On this target alone.
    pub target: Option<String>,
    /// Who asked for it.
    pub asked_by: String,
    /// Why, in their words.
    pub reason: String,
    /// Who must be for it: `1 of group:…`.
    pub approvers: Vec<String>,
    /// Who is.
    pub approved_by: Vec<String>,
    /// Until when it holds; `None` where it is not granted yet.
    pub until: Option<Timestamp>,
    /// Until when it can be granted, where it is not yet.
    pub deadline: Option<Timestamp>,
    /// For how long it is asked for, in seconds.
    pub seconds: u64,
}

/// What the target itself says of a statement, without running it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Rows that it would touch, as the server's planner estimates.
    pub estimated_rows: Option<u64>,
    /// Rows in each relation, as the server's statistics say.
    pub relations: Vec<(String, u64)>,
    /// Foreign keys by which it reaches further, a sentence each.
    pub cascades: Vec<String>,
    /// Why something is not known.
    pub unknown: Option<String>,
}

/// An earlier command of the same run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Its id.
    pub id: Seq,
    /// When, in UTC.
    pub time: String,
    /// The statement.
    pub statement: Option<String>,
    /// What came of it.
    pub status: String,
}

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSession {
    /// Its id.
    pub id: Seq,
    /// Since when.
    pub since: Timestamp,
    /// The agent.
    pub agent: String,
    /// Its version.
    pub version: Option<String>,
    /// Which of its runs.
    pub run: String,
    /// Its first process and what came of it, down to the one that connected.
    pub lineage: String,
    /// User id and process id.
    pub uid: u32,
    /// As above.
    pub pid: u32,
    /// The program.
    pub executable: Option<String>,
    /// The target's name.
    pub target: String,
    /// Where the agent wanted to go.
    pub server: String,
    /// The account and database, once the agent has said so.
    pub user: Option<String>,
    /// As above.
    pub database: Option<String>,
    /// Commands so far.
    pub commands: u64,
}

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("the daemon cannot be reached at {path} ({source}): is it running?")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation failed.
    #[error("the daemon did not answer properly: {0}")]
    Broken(#[from] io::Error),
    /// The daemon said no.
    #[error("{0}")]
    Refused(String),
}

/// Longest line, in bytes, that either side takes.
pub const LONGEST_LINE: u64 = 64 << 20;

/// Asks the daemon and waits for its answer.
///
/// # Errors
/// [`ControlError`].
pub fn ask(socket: &Path, action: &Action) -> Result<Reply, ControlError> {
    let unreachable = |source| ControlError::Unreachable { path: socket.into(), source };
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(&encode(action))?;
    let mut line = String::new();
    io::Read::take(BufReader::new(stream), LONGEST_LINE).read_line(&mut line)?;
    match serde_json::from_str(&line).map_err(io::Error::from)? {
        Reply::Refused(why) => Err(ControlError::Refused(why)),
        reply => Ok(reply),
    }
}

/// An action or reply as its line.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    // These types hold nothing that JSON cannot say.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// An action from its line.
///
/// # Errors
/// A sentence for who sent it.
pub fn decode(line: &str) -> Result<Action, String> {
    serde_json::from_str(line).map_err(|error| format!("this is no action: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_read_back() {
        for action in [Action::Status, Action::Sessions] {
            let line = String::from_utf8(encode(&action)).expect("UTF-8");
            assert_eq!(decode(&line), Ok(action));
        }
        assert!(decode("{}").is_err());
    }

    #[test]
    fn the_status_of_an_earlier_daemon_reads_too() {
        let old = r#"{"version":"0","since":1,"pid":1,"attach":"/a","policy":"p","sessions":0,
            "log":{"path":"/l","last":1,"queued_bytes":0,"lost":0,"error":null},"counters":[]}"#;
        let status: Status = serde_json::from_str(old).expect("a status");
        assert_eq!(status.anchors, []);
    }

    #[test]
    fn a_daemon_that_is_not_there_is_told_with_its_socket() {
        let error = ask(Path::new("/nowhere/control.sock"), &Action::Status).expect_err("nobody");
        assert!(error.to_string().contains("/nowhere/control.sock"), "{error}");
    }
}
