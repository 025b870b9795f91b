//! What the server still has to answer, in the order in which it was asked.

use std::time::Duration;

use chaperone_model::{CommandStatus, Outcome, Seq};

use super::{
    conversation::Now, masking::Masking, reply::Refusal, response::Capture, startup::CancelKey,
};

/// Something that the daemon wants to know of what passed.
#[derive(Debug)]
pub enum Event {
    /// What came of a command.
    Outcome(Outcome),
    /// The key with which this session's statements are cancelled.
    CancelKey(CancelKey),
    /// The server accepted the sign-on and waits for commands.
    Ready,
    /// The server sent an error that belongs to no command.
    ServerError(ServerError),
}

/// An `ErrorResponse`'s fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE.
    pub code: Option<String>,
    /// The message.
    pub message: Option<String>,
    /// Whether it ends the session.
    pub fatal: bool,
}

/// One answer that is due.
#[derive(Debug)]
pub(crate) enum Expect {
    /// A simple query: any number of results, then `ReadyForQuery`.
    Query(Running),
    /// A stand-in for a simple query or function call that was refused.
    RefusedQuery(Refused),
    /// `ParseComplete`, of a statement of this name.
    Parse(Running, Box<[u8]>),
    /// `BindComplete`, of a portal of this name.
    Bind(Box<[u8]>),
    /// The same of a `Bind` that was decided and recorded on its own.
    Decided(Running, Box<[u8]>),
    /// A row description or `NoData`, before it the parameters' types.
    Describe(Described),
    /// `CloseComplete`.
    CloseStatement(Box<[u8]>),
    /// `CloseComplete`.
    ClosePortal(Box<[u8]>),
    /// One result.
    Execute(Running),
    /// A stand-in for a message of the extended protocol that was refused.
    RefusedExecute(Refused),
    /// `ReadyForQuery`.
    Sync(Syncs),
    /// Nothing: here the client said, so many times, that its COPY data ends, before the server
    /// asked for any.
    CopyEnd(u32),
}

/// One `Sync`, or several in a row of which it is not known how many the server passed over: it does
/// so with those that it reads as a part of COPY data (protocol-flow, "COPY Operations").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syncs {
    /// So many are answered for certain.
    pub(crate) least: u32,
    /// So many may be.
    pub(crate) most: u32,
}

impl Syncs {
    pub(crate) const ONE: Self = Self { least: 1, most: 1 };
    /// It was sent while the server may have been reading data.
    pub(crate) const PERHAPS_ONE: Self = Self { least: 0, most: 1 };

    pub(crate) fn are_certain(self) -> bool {
        self.least == self.most
    }

    /// None can be told from the other where one of them is uncertain.
    pub(crate) fn join(&mut self, other: Self) {
        self.least = self.least.saturating_add(other.least);
        self.most = self.most.saturating_add(other.most);
    }
}

impl Expect {
    /// Whether it is a command that has not been recorded, and so not been sent.
    pub(crate) fn is_unrecorded(&self) -> bool {
        match self {
            Self::Query(running)
            | Self::Parse(running, _)
            | Self::Decided(running, _)
            | Self::Execute(running) => running.seq.is_none(),
            Self::RefusedQuery(refused) | Self::RefusedExecute(refused) => refused.seq.is_none(),
            _ => false,
        }
    }

    /// Whether the server may well answer nothing to it.
    pub(crate) fn may_stay_unanswered(&self) -> bool {
        matches!(self, Self::CopyEnd(_) | Self::Sync(Syncs { least: 0, .. }))
    }
}

#[derive(Debug)]
pub(crate) enum Described {
    Statement(Box<[u8]>),
    Portal(Box<[u8]>),
}

/// A refused command that waits for its turn to be told so.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) seq: Option<Seq>,
    pub(crate) refusal: Refusal,
    pub(crate) told: bool,
    /// As of a [`Running`].
    pub(crate) assured: bool,
}

/// A command that the server works at.
#[derive(Debug)]
pub(crate) struct Running {
    /// `None` until it is recorded; it is not forwarded before that.
    pub(crate) seq: Option<Seq>,
    /// A simple query that the server does not pass over, whatever becomes of what is before it.
    pub(crate) assured: bool,
    /// It may give the name of a statement or cursor to another.
    pub(crate) renames: bool,
    since: Duration,
    part: u32,
    rows: u64,
    bytes: u64,
    bytes_in: u64,
    pub(crate) capture: Option<Capture>,
    pub(crate) masking: Option<Box<Masking>>,
    notices: Vec<u8>,
    /// It has its last outcome.
    pub(crate) ended: bool,
}

impl Running {
    pub(crate) fn new(renames: bool, capture: Option<Capture>) -> Self {
        Self {
            seq: None,
            assured: false,
            renames,
            since: Duration::ZERO,
            part: 0,
            rows: 0,
            bytes: 0,
            bytes_in: 0,
            capture,
            masking: None,
            notices: Vec::new(),
            ended: false,
        }
    }

    pub(crate) fn recorded(&mut self, seq: Seq, now: Now) {
        self.seq = Some(seq);
        self.since = now.monotonic;
    }

    pub(crate) fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The place in the command's text of the statement that the server works at.
    pub(crate) fn part(&self) -> u32 {
        self.part
    }

    pub(crate) fn count_row(&mut self) {
        self.rows += 1;
    }

    pub(crate) fn count_in(&mut self, bytes: usize) {
        self.bytes_in += bytes as u64;
    }

    pub(crate) fn notice(&mut self, notice: &ServerError, limit: usize) {
        let Some(message) = &notice.message else { return };
        if self.notices.len() + message.len() > limit {
            return;
        }
        self.notices.push(if self.notices.is_empty() { b'[' } else { b',' });
        super::value::push_string(&mut self.notices, message);
    }

    /// The outcome of what has come so far; the next statement of the same command starts anew.
    pub(crate) fn outcome(
        &mut self,
        status: CommandStatus,
        tag: Option<String>,
        error: Option<ServerError>,
        now: Now,
    ) -> Option<Outcome> {
        let mut notices = std::mem::take(&mut self.notices);
        if !notices.is_empty() {
            notices.push(b']');
        }
        let error = error.unwrap_or_default();
        let mut response = self.capture.take().and_then(Capture::finish);
        if let (Some(response), Some(masking)) = (&mut response, &self.masking) {
            let names = std::mem::take(&mut response.columns);
            response.columns = masking.names(names);
        }
        let outcome = Outcome {
            at: now.wall,
            intent: self.seq?,
            part: self.part,
            status,
            tag,
            error_code: error.code,
            error_message: error.message,
            duration_us: u64::try_from(now.monotonic.saturating_sub(self.since).as_micros())
                .unwrap_or(u64::MAX),
            rows: self.rows,
            bytes: self.bytes,
            bytes_in: self.bytes_in,
            response,
            notices: (!notices.is_empty()).then(|| String::from_utf8(notices).unwrap_or_default()),
            transaction: None,
            masked: self.masking.as_mut().and_then(|masking| masking.finish()),
        };
        self.part += 1;
        (self.rows, self.bytes, self.bytes_in, self.since) = (0, 0, 0, now.monotonic);
        Some(outcome)
    }
}

impl Refused {
    pub(crate) fn outcome(&self, now: Now) -> Option<Outcome> {
        let mut running = Running::new(false, None);
        running.recorded(self.seq?, now);
        let error = ServerError {
            code: Some(self.refusal.code.to_owned()),
            message: Some(self.refusal.message.clone()),
            fatal: false,
        };
        running.outcome(CommandStatus::Refused, None, Some(error), now)
    }
}
