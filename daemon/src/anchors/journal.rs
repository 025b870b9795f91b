//! journald and syslog, which carry checkpoints off the host with all else that they carry.
//!
//! Neither says that it took a message: what was handed over counts as taken.
//!
//! Does not belong here: setting them up to send on.

use std::{
    io::Write as _,
    net::{TcpStream, ToSocketAddrs as _, UdpSocket},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chaperone_audit::{
    Sealed,
    note::{Checkpoint, Note},
};

use super::{Failure, Place};
use crate::{
    clock,
    config::Syslog,
    daemon::{HOST_NAME, read_line},
};

/// `log audit` (13) and `notice` (5), as RFC 5424 numbers them.
const FACILITY: u8 = 13;
const SEVERITY: u8 = 5;
/// By which `journalctl MESSAGE_ID=…` finds checkpoints.
const MESSAGE_ID: &str = "5d1c5c3a1f3b4c0f9b6d8f1c2f6a7e41";
/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// journald, by its native protocol (`systemd.io/JOURNAL_NATIVE_PROTOCOL`).
pub(super) struct Journald(PathBuf);

impl Journald {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.into())
    }
}

impl Place for Journald {
    fn take(&mut self, head: &Sealed, _: u64) -> Result<String, Failure> {
        let entry = entry(head).ok_or_else(unreadable)?;
        send(&self.0, &entry)?;
        Ok(head.note.to_string())
    }
}

fn entry(head: &Sealed) -> Option<Vec<u8>> {
    let checkpoint = Checkpoint::of(&Note::parse(&head.note).ok()?).ok()?;
    let root = BASE64.encode(checkpoint.root);
    let (origin, size) = (&checkpoint.origin, checkpoint.size);
    let mut entry = format!(
        "MESSAGE=the log {origin} has {size} records under the root {root}\nMESSAGE_ID={MESSAGE_ID}\n\
         PRIORITY={SEVERITY}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER=chaperone\n\
         CHAPERONE_ORIGIN={origin}\nCHAPERONE_SIZE={size}\nCHAPERONE_ROOT={root}\nCHAPERONE_CHECKPOINT\n"
    )
    .into_bytes();
    // A value with line feeds goes with its length.
    entry.extend((head.note.len() as u64).to_le_bytes());
    entry.extend(head.note.as_bytes());
    entry.push(b'\n');
    Some(entry)
}

/// A syslog server (RFC 5424).
pub(super) struct SyslogServer {
    how: Syslog,
    host: String,
    /// A TCP connection is kept: one that is opened anew each time loses no more than it.
    stream: Option<TcpStream>,
}

impl SyslogServer {
    pub(super) fn new(how: &Syslog) -> Self {
        Self { how: how.clone(), host: read_line(HOST_NAME), stream: None }
    }

    fn send_by_tcp(&mut self, address: &str, message: &str) -> Result<(), Failure> {
        // Octet counting (RFC 6587, section 3.4.1).
        let frame = format!("{} {message}", message.len());
        let unreached = |error| Failure::Later(format!("{address}: {error}"));
        let mut stream = match self.stream.take().filter(is_open) {
            Some(stream) => stream,
            None => connect(address)?,
        };
        stream.write_all(frame.as_bytes()).map_err(unreached)?;
        self.stream = Some(stream);
        Ok(())
    }
}

impl Place for SyslogServer {
    fn take(&mut self, head: &Sealed, _: u64) -> Result<String, Failure> {
        let now = jiff::Timestamp::from_microsecond(clock::wall().0).unwrap_or_default();
        let message = message(head, &self.host, now).ok_or_else(unreadable)?;
        match self.how.clone() {
            Syslog::Unix(path) => send(&path, message.as_bytes())?,
            Syslog::Udp(address) => {
                let unreached = |error| Failure::Later(format!("{address}: {error}"));
                let place = resolve(&address)?;
                let local = if place.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                let socket = UdpSocket::bind(local).map_err(unreached)?;
                socket.send_to(message.as_bytes(), place).map_err(unreached)?;
            }
            Syslog::Tcp(address) => self.send_by_tcp(&address, &message)?,
        }
        Ok(head.note.to_string())
    }
}

/// The note is in base64: servers cut or escape messages at line feeds.
fn message(head: &Sealed, host: &str, now: jiff::Timestamp) -> Option<String> {
    let checkpoint = Checkpoint::of(&Note::parse(&head.note).ok()?).ok()?;
    let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let host = if host.is_empty() || !printable(host) { "-" } else { host };
    Some(format!(
        "<{}>1 {now:.6} {host} chaperone {} CHECKPOINT - the log has {} records; its signed checkpoint in base64: {}",
        FACILITY * 8 + SEVERITY,
        std::process::id(),
        checkpoint.size,
        BASE64.encode(head.note.as_bytes())
    ))
}

fn send(path: &Path, message: &[u8]) -> Result<(), Failure> {
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send_to(message, path)
    });
    sent.map(drop).map_err(|error| Failure::Later(format!("{}: {error}", path.display())))
}

fn connect(address: &str) -> Result<TcpStream, Failure> {
    let unreached = |error| Failure::Later(format!("{address}: {error}"));
    let stream = TcpStream::connect_timeout(&resolve(address)?, PATIENCE).map_err(unreached)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(unreached)?;
    Ok(stream)
}

fn resolve(address: &str) -> Result<std::net::SocketAddr, Failure> {
    let found = address.to_socket_addrs();
    let found = found.map_err(|error| Failure::Later(format!("{address}: {error}")))?;
    let nobody = || Failure::Later(format!("{address} has no address"));
    found.into_iter().next().ok_or_else(nobody)
}

/// Whether the other side has not closed it: a first write to one that has is lost without a word.
fn is_open(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let quiet = peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    quiet && stream.set_nonblocking(false).is_ok()
}

fn unreadable() -> Failure {
    Failure::later("the log's checkpoint is none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Sealed {
        let root = BASE64.encode([7; 32]);
        Sealed { size: 12, note: format!("h/log\n12\n{root}\n\n— h/log AAAAAAA=\n").into() }
    }

    #[test]
    fn an_entry_for_journald_has_the_whole_note() {
        let entry = entry(&head()).expect("an entry");
        let (fields, note) = entry.split_at(entry.len() - head().note.len() - 9);
        let fields = String::from_utf8(fields.into()).expect("text");
        assert!(fields.starts_with("MESSAGE=the log h/log has 12 records under the root Bwc"));
        assert!(fields.contains("\nCHAPERONE_SIZE=12\n"), "{fields}");
        assert!(fields.ends_with("\nCHAPERONE_CHECKPOINT\n"), "{fields}");
        assert_eq!(note[..8], (head().note.len() as u64).to_le_bytes());
        assert_eq!(&note[8..], format!("{}\n", head().note).as_bytes());
    }

    #[test]
    fn a_message_for_syslog_is_one_line_with_the_note_in_base64() {
        let now: jiff::Timestamp = "2026-05-01T12:00:00.5Z".parse().expect("a time");
        let message = message(&head(), "db1", now).expect("a message");
        let head_of = format!(
            "<109>1 2026-05-01T12:00:00.500000Z db1 chaperone {} CHECKPOINT - ",
            std::process::id()
        );
        assert!(message.starts_with(&head_of), "{message}");
        let (_, note) = message.rsplit_once(' ').expect("words");
        assert_eq!(BASE64.decode(note).expect("base64"), head().note.as_bytes());
        assert!(super::message(&head(), "", now).expect("a message").contains("Z - chaperone"));
    }
}
