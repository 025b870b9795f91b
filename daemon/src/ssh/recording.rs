//! What passes of a command, as the log keeps it: how much, the first of it, and how it ended. What
//! passes of a terminal is recorded in parts while it goes on, so that a shell costs no more memory than
//! a part, and a crash no more than the last of them.
//!
//! Does not belong here: when a command's own record is written (`deciding`).

use std::{
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use chaperone_model::{CommandStatus, Outcome, Response, Seq};
use chaperone_policy::mask::Scanners;
use chaperone_wire::{
    sniff::{Looks, Sniffer},
    ssh::{Ask, Exit, Stream, Wanted, scp, sftp, shown},
};
use serde_json::{Value, json};

use crate::clock;

/// Bytes of a part, and how long one may wait for more.
const PART: usize = 64 * 1024;
pub(super) const PART_WAITS: Duration = Duration::from_secs(5);
/// Channels of one tunnel that are looked at: as many as a connection has.
const SNIFFERS: usize = 1024;

/// What a command is, as far as the recording differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Program,
    /// A shell, or a program with a terminal.
    Terminal,
    /// It is no program: it ends well where it ends.
    Tunnel,
}

impl Kind {
    pub(super) fn of(ask: &Ask) -> Self {
        match &ask.wanted {
            Wanted::Shell => Self::Terminal,
            Wanted::Exec { .. } | Wanted::Subsystem { .. } if ask.terminal.is_some() => {
                Self::Terminal
            }
            Wanted::Exec { .. } => Self::Program,
            Wanted::Subsystem { name } if name != b"sftp" => Self::Program,
            _ => Self::Tunnel,
        }
    }
}

/// What a command is, for those that it starts in turn.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) line: String,
    /// Tells it and all that it depends on.
    pub(super) digest: [u8; 32],
}

/// How much is kept of one command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// Of a program.
    pub(super) response: usize,
    /// Of a terminal, in all of its parts.
    pub(super) terminal: usize,
}

/// A command that runs.
pub(super) struct Running {
    pub(super) seq: Seq,
    kind: Kind,
    began: Instant,
    received: u64,
    sent: u64,
    pieces: Vec<Piece>,
    kept: usize,
    /// Bytes that may still be kept.
    left: usize,
    truncated: bool,
    /// Parts that have been recorded, and since when there is something of the next.
    parts: u32,
    since: Option<Instant>,
    exit: Option<Exit>,
    rejected: Option<String>,
    /// What is masked in what is given to it, for the record.
    input: Option<Scanners>,
    masked: BTreeMap<String, u64>,
    /// What goes through a tunnel, by its channels: what it looks like, or which session it is.
    sniffers: Vec<(u32, Sniffer)>,
    looks: Option<Looks>,
    carries: Option<String>,
    pub(super) origin: Rc<Origin>,
}

struct Piece {
    at_us: u64,
    stream: &'static str,
    bytes: Vec<u8>,
}

impl Running {
    pub(super) fn new(
        seq: Seq,
        most: Most,
        kind: Kind,
        input: Option<Scanners>,
        origin: Rc<Origin>,
    ) -> Self {
        Self {
            seq,
            kind,
            began: Instant::now(),
            received: 0,
            sent: 0,
            pieces: Vec::new(),
            kept: 0,
            left: if kind == Kind::Terminal { most.terminal } else { most.response },
            truncated: false,
            parts: 0,
            since: None,
            exit: None,
            rejected: None,
            input,
            masked: BTreeMap::new(),
            sniffers: Vec::new(),
            looks: None,
            carries: None,
            origin,
        }
    }

    /// A part of a terminal's recording, where it is time for one.
    pub(super) fn part(&mut self) -> Option<Outcome> {
        let due = self.kind == Kind::Terminal
            && (self.kept >= PART || self.since.is_some_and(|since| since.elapsed() >= PART_WAITS));
        if !due {
            return None;
        }
        let outcome = Outcome {
            part: self.parts,
            duration_us: self.elapsed(),
            bytes: std::mem::take(&mut self.received),
            bytes_in: std::mem::take(&mut self.sent),
            response: self.taken(),
            ..Outcome::new(self.seq, CommandStatus::Suspended, clock::wall())
        };
        self.parts += 1;
        Some(outcome)
    }

    /// Whether something waits to be a part.
    pub(super) fn waits(&self) -> bool {
        self.kind == Kind::Terminal && self.since.is_some()
    }

    /// What was found and masked of what passed.
    pub(super) fn masked(&mut self, name: &str, count: u64) {
        if count > 0 {
            *self.masked.entry(name.to_owned()).or_default() += count;
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A session of its own is in it, which has its own record of what passes.
    pub(super) fn carries(&mut self, session: Seq) {
        self.carries = Some(format!("session {}", session.0));
    }

    /// So many bytes passed, of which nothing is kept here.
    pub(super) fn counted(&mut self, stream: Stream, count: usize) {
        match stream {
            Stream::In => self.sent += count as u64,
            Stream::Out | Stream::Err => self.received += count as u64,
        }
    }

    /// What a tunnel looks like, where it is known by these bytes.
    pub(super) fn sniffed(&mut self, channel: u32, stream: Stream, bytes: &[u8]) -> Option<Looks> {
        if self.kind != Kind::Tunnel {
            return None;
        }
        let index = self.sniffers.iter().rposition(|(of, _)| *of == channel).unwrap_or_else(|| {
            if self.sniffers.len() >= SNIFFERS {
                self.sniffers.remove(0);
            }
            self.sniffers.push((channel, Sniffer::default()));
            self.sniffers.len() - 1
        });
        let (_, sniffer) = self.sniffers.get_mut(index)?;
        let looks = match stream {
            Stream::In => sniffer.client(bytes),
            Stream::Out => sniffer.server(bytes),
            Stream::Err => None,
        };
        self.looks = looks.or(self.looks);
        looks
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
            if let Some(mut input) = self.input.take() {
                let mut shown = Vec::new();
                input.push(bytes, &mut shown);
                // What is typed comes key by key, and its time is part of the record.
                if self.kind == Kind::Terminal {
                    input.flush(&mut shown);
                }
                self.input = Some(input);
                self.keep(name, &shown);
                return;
            }
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
        let part = bytes.get(..bytes.len().min(self.left)).unwrap_or_default();
        self.truncated |= part.len() < bytes.len();
        if part.is_empty() {
            return;
        }
        self.kept += part.len();
        self.left -= part.len();
        self.since.get_or_insert_with(Instant::now);
        let at_us = self.elapsed();
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
    pub(super) fn finish(mut self) -> Outcome {
        if let Some(mut input) = self.input.take() {
            let mut shown = Vec::new();
            input.finish(&mut shown);
            self.keep("in", &shown);
        }
        let (status, tag, code) = match (&self.exit, &self.rejected) {
            (_, Some(_)) => (CommandStatus::Error, None, None),
            (Some(Exit::Status(0)), _) => (CommandStatus::Ok, Some("exit 0".into()), None),
            (Some(Exit::Status(status)), _) => {
                (CommandStatus::Error, Some(format!("exit {status}")), Some(status.to_string()))
            }
            (Some(Exit::Signal(name)), _) => {
                (CommandStatus::Error, Some(format!("signal {name}")), Some(name.clone()))
            }
            (None, _) if self.kind == Kind::Tunnel => {
                let looks = self.looks.map(|looks| looks.as_str().to_owned());
                (CommandStatus::Ok, self.carries.take().or(looks), None)
            }
            (None, _) => (CommandStatus::Unknown, None, None),
        };
        let masked = (!self.masked.is_empty()).then(|| json!(self.masked).to_string());
        Outcome {
            part: self.parts,
            tag,
            error_code: code,
            duration_us: self.elapsed(),
            bytes: self.received,
            bytes_in: self.sent,
            response: self.taken(),
            error_message: self.rejected,
            masked,
            ..Outcome::new(self.seq, status, clock::wall())
        }
    }

    /// What was kept since the last part.
    fn taken(&mut self) -> Option<Response> {
        (self.kept, self.since) = (0, None);
        let truncated = std::mem::take(&mut self.truncated);
        let rows: Vec<Value> = std::mem::take(&mut self.pieces).iter().map(Piece::row).collect();
        let kept = rows.len() as u64;
        (kept > 0 || truncated).then(|| Response {
            columns: r#"["at_us","stream","data","escaped"]"#.into(),
            rows: Value::from(rows).to_string(),
            kept,
            truncated,
        })
    }

    /// An operation of SFTP is done.
    pub(super) fn sftp_done(self, done: &sftp::Outcome, name: &dyn Fn(u16) -> String) -> Outcome {
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
                outcome.masked = masked(&file.masked, name);
            }
        }
        outcome
    }

    /// A file or folder was carried.
    pub(super) fn copied(self, done: &scp::Outcome, name: &dyn Fn(u16) -> String) -> Outcome {
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
            scp::Outcome::Sent { content, masked: found, source, sink } => {
                outcome.masked = masked(found, name);
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

impl Piece {
    fn row(&self) -> Value {
        // Bytes that are no text stand as they would in a program's source.
        let (data, escaped) = match std::str::from_utf8(&self.bytes) {
            Ok(text) => (text.to_owned(), false),
            Err(_) => (self.bytes.escape_ascii().to_string(), true),
        };
        json!([self.at_us, self.stream, data, escaped])
    }
}

/// What was masked, by the masks' names.
fn masked(found: &[(u16, u64)], name: &dyn Fn(u16) -> String) -> Option<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (way, count) in found {
        *counts.entry(name(*way)).or_default() += count;
    }
    (!counts.is_empty()).then(|| json!(counts).to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_a_terminal_is_recorded_in_parts_up_to_its_size_and_says_so() {
        let most = Most { response: 10, terminal: 3 * PART };
        let mut running = Running::new(Seq(7), most, Kind::Terminal, None, Rc::default());
        let mut parts = Vec::new();
        for _ in 0..40 {
            running.passed(Stream::Out, &vec![b'x'; PART / 8]);
            parts.extend(running.part());
            assert!(running.pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>() <= PART);
        }
        running.exited(Exit::Status(3));
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|one| one.status == CommandStatus::Suspended));
        assert_eq!(parts.iter().map(|one| one.part).collect::<Vec<_>>(), [0, 1, 2]);
        let last = running.finish();
        assert_eq!((last.part, last.status), (3, CommandStatus::Error));
        assert!(last.response.expect("it says that more came").truncated);
        let bytes: u64 = parts.iter().map(|one| one.bytes).sum::<u64>() + last.bytes;
        assert_eq!(bytes, 5 * PART as u64);
    }

    #[test]
    fn what_is_no_terminal_is_recorded_once() {
        let most = Most { response: 10, terminal: PART };
        let mut running = Running::new(Seq(7), most, Kind::Program, None, Rc::default());
        running.passed(Stream::Out, b"0123456789abc");
        assert!(running.part().is_none() && !running.waits());
        running.masked("mail", 2);
        let done = running.finish();
        assert_eq!((done.bytes, done.masked.as_deref()), (13, Some(r#"{"mail":2}"#)));
        let response = done.response.expect("a response");
        assert!(response.truncated && response.rows.contains("0123456789\""), "{}", response.rows);
    }

    #[test]
    fn p1_each_channel_of_a_tunnel_is_looked_at() {
        let most = Most { response: 10, terminal: 10 };
        let mut running = Running::new(Seq(7), most, Kind::Tunnel, None, Rc::default());
        for channel in 0..2000 {
            assert_eq!(running.sniffed(channel, Stream::In, b"nothing that is known"), None);
        }
        assert_eq!(running.sniffed(7, Stream::In, b"SSH-2.0-x\r\n"), Some(Looks::Ssh));
        assert!(running.sniffers.len() <= SNIFFERS);
        assert_eq!(running.finish().tag.as_deref(), Some("SSH"));
    }
}
