//! What passes of a command, as the log keeps it: how much, the first of it, and how it ended.
//!
//! Does not belong here: when a command's own record is written (`deciding`).

use std::time::Instant;

use chaperone_model::{CommandStatus, Outcome, Response, Seq};
use chaperone_wire::ssh::{Exit, Stream, scp, sftp, shown};
use serde_json::{Value, json};

use crate::clock;

/// A command that runs.
pub(super) struct Running {
    pub(super) seq: Seq,
    began: Instant,
    received: u64,
    sent: u64,
    pieces: Vec<Piece>,
    kept: usize,
    /// Bytes that may be kept.
    most: usize,
    truncated: bool,
    exit: Option<Exit>,
    rejected: Option<String>,
    /// It is no program: it ends well.
    is_tunnel: bool,
}

struct Piece {
    at_us: u64,
    stream: &'static str,
    bytes: Vec<u8>,
}

impl Running {
    pub(super) fn new(seq: Seq, most: usize, is_tunnel: bool) -> Self {
        Self {
            seq,
            began: Instant::now(),
            received: 0,
            sent: 0,
            pieces: Vec::new(),
            kept: 0,
            most,
            truncated: false,
            exit: None,
            rejected: None,
            is_tunnel,
        }
    }

    /// Bytes passed.
    pub(super) fn passed(&mut self, stream: Stream, bytes: &[u8]) {
        let count = bytes.len() as u64;
        let name = match stream {
            Stream::In => "in",
            Stream::Out => "out",
            Stream::Err => "err",
        };
        if stream == Stream::In {
            self.sent += count;
        } else {
            self.received += count;
        }
        self.keep(name, bytes);
    }

    /// Its terminal has another size.
    pub(super) fn resized(&mut self, columns: u32, rows: u32) {
        self.keep("size", format!("{columns}x{rows}").as_bytes());
    }

    fn keep(&mut self, stream: &'static str, bytes: &[u8]) {
        let left = self.most - self.kept;
        let part = bytes.get(..bytes.len().min(left)).unwrap_or_default();
        self.truncated |= part.len() < bytes.len();
        if part.is_empty() {
            return;
        }
        self.kept += part.len();
        let at_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        match self.pieces.last_mut() {
            // What came at once is one piece.
            Some(last)
                if last.stream == stream && stream != "size" && at_us - last.at_us < 1000 =>
            {
                last.bytes.extend_from_slice(part);
            }
            _ => self.pieces.push(Piece { at_us, stream, bytes: part.to_vec() }),
        }
    }

    pub(super) fn exited(&mut self, exit: Exit) {
        self.exit = Some(exit);
    }

    pub(super) fn rejected(&mut self, why: String) {
        self.rejected = Some(why);
    }

    /// It is over.
    pub(super) fn finish(self) -> Outcome {
        let (status, tag, code) = match (&self.exit, &self.rejected) {
            (_, Some(_)) => (CommandStatus::Error, None, None),
            (Some(Exit::Status(0)), _) => (CommandStatus::Ok, Some("exit 0".into()), None),
            (Some(Exit::Status(status)), _) => {
                (CommandStatus::Error, Some(format!("exit {status}")), Some(status.to_string()))
            }
            (Some(Exit::Signal(name)), _) => {
                (CommandStatus::Error, Some(format!("signal {name}")), Some(name.clone()))
            }
            (None, _) if self.is_tunnel => (CommandStatus::Ok, None, None),
            (None, _) => (CommandStatus::Unknown, None, None),
        };
        let rows: Vec<Value> = self
            .pieces
            .iter()
            .map(|piece| {
                // Bytes that are no text stand as they would in a program's source.
                let (data, escaped) = match std::str::from_utf8(&piece.bytes) {
                    Ok(text) => (text.to_owned(), false),
                    Err(_) => (piece.bytes.escape_ascii().to_string(), true),
                };
                json!([piece.at_us, piece.stream, data, escaped])
            })
            .collect();
        let kept = rows.len() as u64;
        Outcome {
            tag,
            error_code: code,
            error_message: self.rejected,
            duration_us: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            bytes: self.received,
            bytes_in: self.sent,
            response: (kept > 0 || self.truncated).then(|| Response {
                columns: r#"["at_us","stream","data","escaped"]"#.into(),
                rows: Value::from(rows).to_string(),
                kept,
                truncated: self.truncated,
            }),
            ..Outcome::new(self.seq, status, clock::wall())
        }
    }

    /// An operation of SFTP is done.
    pub(super) fn sftp_done(self, done: &sftp::Outcome) -> Outcome {
        let mut outcome = Outcome::new(self.seq, CommandStatus::Ok, clock::wall());
        outcome.duration_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let failed = |outcome: &mut Outcome, status: &sftp::Status| {
            if !status.is_ok() {
                outcome.status = CommandStatus::Error;
                outcome.error_code = Some(
                    status
                        .name()
                        .map_or_else(|| status.code.to_string(), |name| format!("SSH_FX_{name}")),
                );
                outcome.error_message = Some(shown(&status.message));
            }
        };
        match done {
            sftp::Outcome::Unanswered => outcome.status = CommandStatus::Unknown,
            sftp::Outcome::Answered => {}
            sftp::Outcome::Status(status) => failed(&mut outcome, status),
            sftp::Outcome::Listed { entries, closed } => {
                outcome.rows = *entries;
                match closed {
                    sftp::Closed::Status(status) => failed(&mut outcome, status),
                    sftp::Closed::Unfinished => outcome.status = CommandStatus::Unknown,
                }
            }
            sftp::Outcome::File(file) => {
                let mut rows = Vec::new();
                if let Some(content) = &file.read {
                    outcome.bytes = content.bytes;
                    rows.push(content_row("read", content));
                }
                if let Some(content) = &file.written {
                    outcome.bytes_in = content.bytes;
                    rows.push(content_row("written", content));
                }
                match &file.closed {
                    sftp::Closed::Status(status) => failed(&mut outcome, status),
                    sftp::Closed::Unfinished => outcome.status = CommandStatus::Unknown,
                }
                if let Some(failure) = &file.failure {
                    failed(&mut outcome, failure);
                }
                outcome.response = Some(contents(rows));
            }
        }
        outcome
    }

    /// A file or folder was carried.
    pub(super) fn copied(self, done: &scp::Outcome) -> Outcome {
        let mut outcome = Outcome::new(self.seq, CommandStatus::Ok, clock::wall());
        outcome.duration_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let said = |outcome: &mut Outcome, word: &scp::Word| {
            if let scp::Word::Failed(words) | scp::Word::GaveUp(words) = word {
                outcome.status = CommandStatus::Error;
                outcome.error_message = Some(shown(words));
            }
        };
        match done {
            scp::Outcome::Unanswered => outcome.status = CommandStatus::Unknown,
            scp::Outcome::Rejected(word) => said(&mut outcome, word),
            scp::Outcome::Entered => {}
            scp::Outcome::Sent { content, source, sink } => {
                outcome.bytes_in = content.bytes;
                outcome.response = Some(contents(vec![content_row("carried", content)]));
                if source.is_none() || sink.is_none() {
                    outcome.status = CommandStatus::Unknown;
                }
                for word in [source, sink].into_iter().flatten() {
                    said(&mut outcome, word);
                }
            }
        }
        outcome
    }
}

fn content_row(what: &str, content: &chaperone_wire::ssh::Content) -> Value {
    let (hash, why) = match content.sha256 {
        Ok(hash) => (Value::from(hex(&hash)), Value::Null),
        Err(why) => (Value::Null, Value::from(why.to_string())),
    };
    json!([what, content.bytes, hash, why])
}

fn contents(rows: Vec<Value>) -> Response {
    Response {
        columns: r#"["what","bytes","sha256","why_not"]"#.into(),
        kept: rows.len() as u64,
        rows: Value::from(rows).to_string(),
        truncated: false,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
