//! What the log keeps. Records are only ever added: what comes of a command is a record of its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    AgentAddr, AgentName, Command, Digest, ExceptionStep, OriginalAddr, Process, Protocol, Run,
    Rung, TargetName, Timestamp, Version,
};

/// A record's place in the log: 1, 2, 3 … without gaps, over all kinds of records.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

/// Another record that a record refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ref {
    /// One that is in the log.
    To(Seq),
    /// One of the same batch, by its place in it, from 0: it has no number yet.
    InBatch(u32),
}

impl Ref {
    /// Its number, where the first of the batch has this one.
    pub fn resolve(self, first: Seq) -> Seq {
        match self {
            Self::To(seq) => seq,
            Self::InBatch(place) => Seq(first.0 + u64::from(place)),
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The daemon began to serve.
    DaemonStarted(DaemonStarted),
    /// A run of an agent was seen for the first time; its sequence number stands for it.
    RunSeen(RunSeen),
    /// A process of it was seen for the first time; its sequence number stands for it.
    ProcessSeen(ProcessSeen),
    /// A connection was taken; its sequence number is the session's id from here on.
    SessionOpened(SessionOpened),
    /// The agent said which user and database it wants.
    SessionStarted(SessionStarted),
    /// The target accepted the session.
    SessionSignedOn(SessionSignedOn),
    /// A command was decided; it is committed before any of its bytes is forwarded.
    Intent(Intent),
    /// What came of a command, or of one statement of it.
    Outcome(Outcome),
    /// A command waits for a person; the command's sequence number stands for the hold.
    HoldOpened(HoldOpened),
    /// A person's word on it.
    HoldVoted(HoldVoted),
    /// It waits no longer.
    HoldEnded(HoldEnded),
    /// A mask is lifted for a run of an agent, or asked to be, or counts again.
    Exception(ExceptionStep),
    /// The session ended.
    SessionClosed(SessionClosed),
    /// Something else that an auditor wants to know.
    Event(Event),
    /// The daemon is alive, and this is the state of its clocks.
    Heartbeat(Heartbeat),
    /// The content of records was erased.
    Erased(Erased),
    /// A record of an earlier file stands in this one again, because later ones refer to it.
    Carried(Carried),
}

/// See [`Record::DaemonStarted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonStarted {
    /// When.
    pub at: Timestamp,
    /// The daemon's version.
    pub version: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The host's name.
    pub host: String,
    /// SHA-256 of the policy in force, in hexadecimal.
    pub policy: String,
}

/// See [`Record::RunSeen`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSeen {
    /// When.
    pub at: Timestamp,
    /// Of which agent.
    pub agent: AgentName,
    /// Its version.
    pub version: Option<Version>,
    /// The run.
    pub run: Run,
}

/// See [`Record::ProcessSeen`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSeen {
    /// When.
    pub at: Timestamp,
    /// Of which run.
    pub run: Ref,
    /// What it came of: what forked it, or ran in it before.
    pub parent: Option<Ref>,
    /// The process.
    pub process: Arc<Process>,
    /// The lineage down to it, in a line.
    pub lineage: String,
}

/// See [`Record::SessionOpened`].
#[derive(Clone, Debug, PartialEq)]
pub struct SessionOpened {
    /// When.
    pub at: Timestamp,
    /// The record of the process that connected.
    pub process: Ref,
    /// The connecting thread's name, which the process can choose.
    pub comm: String,
    /// What is doubtful about who it is, as a JSON array of sentences; `None` where nothing is.
    pub doubts: Option<String>,
    /// Which target the address belongs to.
    pub target: TargetName,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where the agent wanted to go.
    pub original: OriginalAddr,
    /// Where the agent came from.
    pub agent_addr: AgentAddr,
    /// The session whose tunnel it is in.
    pub inside: Option<Inside>,
}

/// A session is inside of a tunnel of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The other.
    pub outer: Seq,
    /// Where the agent wanted to go, as its client named the place: it is looked up at the far end.
    pub asked: String,
}

/// See [`Record::SessionStarted`]. All of it is the agent's own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStarted {
    /// When.
    pub at: Timestamp,
    /// Which session.
    pub session: Seq,
    /// The account at the target.
    pub user: Option<String>,
    /// The database.
    pub database: Option<String>,
    /// What the client calls itself (`application_name`).
    pub application: Option<String>,
    /// All start-up parameters, as a JSON object.
    pub parameters: String,
}

/// See [`Record::SessionSignedOn`]. All of it is what the daemon did and saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSignedOn {
    /// When.
    pub at: Timestamp,
    /// Which session.
    pub session: Seq,
    /// The account at the target.
    pub user: Option<String>,
    /// How the target was convinced: `relayed`, or the daemon's own method.
    pub method: String,
    /// Protocol and cipher suite of the agent's connection; `None` where it is not encrypted.
    pub agent_tls: Option<String>,
    /// The same of the connection to the target.
    pub target_tls: Option<String>,
    /// What the target was told as `application_name`.
    pub application: Option<String>,
}

/// See [`Record::Intent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// When.
    pub at: Timestamp,
    /// Which session.
    pub session: Seq,
    /// What.
    pub command: Command,
    /// What policy said.
    pub verdict: VerdictKind,
    /// The rule that said it.
    pub rule: Arc<str>,
    /// How much it can do, where that was looked at.
    pub rung: Option<Rung>,
    /// What it is and touches, as a JSON object, with the statements that are first sent here.
    pub summary: Option<Arc<str>>,
    /// The hold whose approval let it through.
    pub approval: Option<Seq>,
    /// The masks that are lifted for what it does, and by which exception.
    pub lifted: Vec<(Arc<str>, Seq)>,
}

/// See [`Record::HoldOpened`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldOpened {
    /// When.
    pub at: Timestamp,
    /// The command.
    pub hold: Ref,
    /// Who may approve it, as the rule says.
    pub approvers: String,
    /// How many of them it takes.
    pub quorum: u32,
    /// Until when.
    pub deadline: Timestamp,
    /// Whether the agent waits for it (`stay`) or comes again (`retry`).
    pub wait: &'static str,
    /// SHA-256 of the text and the parameters: the approval is for these alone.
    pub digest: Digest,
}

/// See [`Record::HoldVoted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldVoted {
    /// When.
    pub at: Timestamp,
    /// The hold.
    pub hold: Seq,
    /// Whether they are for it.
    pub approves: bool,
    /// The account, as the kernel says.
    pub uid: u32,
    /// Its name.
    pub person: String,
    /// Why, in their words.
    pub reason: Option<String>,
}

/// See [`Record::HoldEnded`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldEnded {
    /// When.
    pub at: Timestamp,
    /// The hold.
    pub hold: Seq,
    /// How.
    pub how: HoldEnd,
    /// A sentence for the auditor.
    pub detail: Option<String>,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldEnd {
    /// Enough approvers were for it.
    Approved,
    /// One was against it.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// It was no longer asked for.
    Withdrawn,
}

impl HoldEnd {
    /// The name that the log uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What policy said of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictKind {
    /// It may be forwarded.
    Allow,
    /// It may not, and was not.
    Deny,
    /// It may, once a person has said so.
    Hold,
    /// It was forwarded, because the target is only observed; else it would not have been.
    WouldDeny,
    /// It was forwarded, because the target is only observed; else a person would have been asked.
    WouldHold,
}

impl VerdictKind {
    /// The name that the log uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Hold => "hold",
            Self::WouldDeny => "would-deny",
            Self::WouldHold => "would-hold",
        }
    }
}

/// See [`Record::Outcome`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// When the last byte of the response had come.
    pub at: Timestamp,
    /// The intent that this is the outcome of.
    pub intent: Seq,
    /// Which statement of the command, from 0: a simple query can hold several.
    pub part: u32,
    /// How it ended.
    pub status: CommandStatus,
    /// The target's word for what was done (`SELECT 3`).
    pub tag: Option<String>,
    /// The target's error code (SQLSTATE).
    pub error_code: Option<String>,
    /// The target's error message.
    pub error_message: Option<String>,
    /// From forwarding to the end of the response, in microseconds, by a monotonic clock.
    pub duration_us: u64,
    /// Rows in the response.
    pub rows: u64,
    /// Bytes of the response, with the protocol's framing.
    pub bytes: u64,
    /// Bytes of data that the agent sent along (COPY … FROM STDIN).
    pub bytes_in: u64,
    /// The response itself, up to the configured size.
    pub response: Option<Response>,
    /// The notices that came with it, as a JSON array.
    pub notices: Option<String>,
    /// Whether the session was inside a transaction afterwards (`idle`, `open`, `failed`), where
    /// the target said so.
    pub transaction: Option<&'static str>,
    /// How many values each mask masked, as a JSON object; `None` where none did.
    pub masked: Option<String>,
}

impl Outcome {
    /// An outcome of which nothing more is known.
    pub fn new(intent: Seq, status: CommandStatus, at: Timestamp) -> Self {
        Self {
            at,
            intent,
            part: 0,
            status,
            tag: None,
            error_code: None,
            error_message: None,
            duration_us: 0,
            rows: 0,
            bytes: 0,
            bytes_in: 0,
            response: None,
            notices: None,
            transaction: None,
            masked: None,
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandStatus {
    /// It was done.
    Ok,
    /// The target refused it or failed.
    Error,
    /// The agent has a part of the rows and may ask for more.
    Suspended,
    /// The target passed over it, because a command before it in the same batch had failed.
    Skipped,
    /// Policy or the daemon refused it; the target never saw it.
    Refused,
    /// The session ended before the response did: it may or may not have been done.
    Unknown,
}

impl CommandStatus {
    /// The name that the log uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Suspended => "suspended",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// The rows of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The columns' names as a JSON array; empty where the target did not describe them.
    pub columns: String,
    /// The rows as a JSON array of arrays, or an array of strings for COPY data.
    pub rows: String,
    /// How many rows `rows` holds.
    pub kept: u64,
    /// Whether rows were left out because of the configured size.
    pub truncated: bool,
}

/// See [`Record::SessionClosed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClosed {
    /// When.
    pub at: Timestamp,
    /// Which session.
    pub session: Seq,
    /// Why.
    pub closing: Closing,
    /// A sentence for the auditor.
    pub detail: Option<String>,
    /// Bytes from the agent that were forwarded.
    pub bytes_up: u64,
    /// Bytes to the agent that were forwarded.
    pub bytes_down: u64,
}

/// Who ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Closing {
    /// The agent said good-bye or closed its connection.
    Agent,
    /// The target closed its connection or could not be reached.
    Target,
    /// The daemon: a violation of the protocol, a log that cannot be written, a shutdown.
    Daemon,
}

impl Closing {
    /// The name that the log uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Target => "target",
            Self::Daemon => "daemon",
        }
    }
}

/// See [`Record::Heartbeat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Arc<str>,
    /// Microseconds since the system was booted (`CLOCK_BOOTTIME`).
    pub monotonic_us: u64,
    /// Whether the wall clock follows another.
    pub clock: ClockState,
    /// By how much the wall clock may be wrong, in microseconds, as the kernel estimates.
    pub clock_error_us: u64,
}

/// Whether a host's wall clock follows another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockState {
    /// It does (`adjtimex(2)` without `STA_UNSYNC`).
    Synchronized,
    /// It does not.
    Unsynchronized,
    /// The kernel did not say.
    Unknown,
}

impl ClockState {
    /// The name that the log uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synchronized => "synchronized",
            Self::Unsynchronized => "unsynchronized",
            Self::Unknown => "unknown",
        }
    }
}

/// See [`Record::Erased`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// When.
    pub at: Timestamp,
    /// The command whose statement, parameters and response it was.
    pub command: Seq,
    /// The numbers of the records, as a JSON array.
    pub records: String,
    /// The account of who erased it, as the kernel says.
    pub uid: u32,
    /// Its name.
    pub person: String,
    /// Why, in their words.
    pub reason: String,
}

/// See [`Record::Carried`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// When.
    pub at: Timestamp,
    /// The record's number.
    pub record: Seq,
    /// Its leaf in the tree.
    pub leaf: Digest,
}

/// See [`Record::Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// The session that it belongs to, where there is one.
    pub session: Option<Seq>,
    /// Which kind.
    pub kind: EventKind,
    /// A sentence for the auditor.
    pub detail: String,
}

/// The kinds of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A connection without the kernel's note was reset.
    NoNote,
    /// Connections were refused because there were too many, of all agents or of one.
    TooMany,
    /// A peer broke the protocol.
    Violation,
    /// An agent's connection could not be encrypted.
    AgentTls,
    /// A target could not be reached, was not believed, or did not accept the sign-on.
    TargetRefused,
    /// Records of outcomes were lost because the log could not be written.
    OutcomesLost,
    /// The daemon is about to end.
    DaemonStopping,
    /// The programs were detached: from here on nothing is intercepted.
    Detached,
    /// Who connected is doubtful, or the session was refused for it.
    Doubt,
    /// The list of enrolled programs was read.
    Enrolled,
    /// Execs and exits of agents' processes were lost, because they came faster than they were
    /// read.
    ProcessesLost,
    /// A new file of the log was begun.
    LogTurned,
    /// A file of the log was removed, because it was kept long enough; its hashes were kept.
    LogRetired,
    /// The log was damaged, and another one was begun.
    LogDamaged,
    /// A place that checkpoints are sent to has not taken one for too long.
    AnchorLags,
    /// A reader has kept the log from being tidied up for too long.
    ReaderStays,
    /// An agent tried to reach a target by another way than by the daemon, and was stopped.
    Bypass,
    /// An agent went to what its configuration does not list, and was refused where it says so.
    Unlisted,
    /// An agent speaks a target's protocol with what is no target.
    PassedBy,
    /// An agent had a connection to a target from before the daemon.
    Existing,
    /// The programs were detached or replaced by somebody, or do not take connections.
    Tampered,
    /// A target's host key was seen for the first time, and is believed from here on.
    HostKeyPinned,
}

impl EventKind {
    /// The name that the log uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoNote => "no-note",
            Self::TooMany => "too-many",
            Self::Violation => "violation",
            Self::AgentTls => "agent-tls",
            Self::TargetRefused => "target-refused",
            Self::OutcomesLost => "outcomes-lost",
            Self::DaemonStopping => "daemon-stopping",
            Self::Detached => "detached",
            Self::Doubt => "doubt",
            Self::Enrolled => "enrolled",
            Self::ProcessesLost => "processes-lost",
            Self::LogTurned => "log-turned",
            Self::LogRetired => "log-retired",
            Self::LogDamaged => "log-damaged",
            Self::AnchorLags => "anchor-lags",
            Self::ReaderStays => "reader-stays",
            Self::Bypass => "bypass",
            Self::Unlisted => "unlisted",
            Self::PassedBy => "passed-by",
            Self::Existing => "existing",
            Self::Tampered => "tampered",
            Self::HostKeyPinned => "host-key-pinned",
        }
    }
}
