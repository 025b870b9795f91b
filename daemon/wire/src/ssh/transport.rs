//! The transport layer (RFC 4253): a stream of sealed packets, from the first line to the last
//! exchange of keys. Bytes come in, payloads come out; what is sent is appended to a buffer.
//!
//! Own, and not a library's, because a relay must be able to pass a window on to the side that grants
//! it, answers in the order of their questions, and messages that it does not know: libraries that
//! speak SSH keep all of that to themselves. Cryptography is a library's. Does not belong here: who
//! signs on (`sign_on`), channels (`conversation`).

use std::sync::Arc;

use bytes::BytesMut;
use zeroize::Zeroizing;

use super::{
    HostKey, SecretKey, Violation,
    codec::{Put, Reader, message},
    keys::SIGNATURES,
};
use cipher::{Material, Opener, Sealer};
use exchange::Asked;
use negotiate::Agreed;

mod cipher;
mod exchange;
mod negotiate;

const DISCONNECT: u8 = 1;
const IGNORE: u8 = 2;
const UNIMPLEMENTED: u8 = 3;
const DEBUG: u8 = 4;
const EXT_INFO: u8 = 7;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
const KEX_INIT: u8 = 30;
const KEX_REPLY: u8 = 31;

/// The longest first line (RFC 4253, section 4.2).
const LINE: usize = 255;
/// What a server may say before it.
const PREFACE: usize = 8 * 1024;
/// Keys are exchanged anew after so many bytes or packets of a direction (RFC 4253, section 9; RFC
/// 4344, section 3.1).
const KEY_BYTES: u64 = 1 << 30;
const KEY_PACKETS: u64 = 1 << 30;
/// What a message that waits costs beside its bytes.
const KEPT: usize = 64;
/// Bytes that wait for new keys: the other side is listened to meanwhile only where it exchanges keys
/// itself, and what it sent before it knew that is at most what its sockets hold.
const WAITING: usize = 32 * 1024 * 1024;

/// The first line of both sides. OpenSSH uses its own extensions only with those who call themselves so
/// (its `compat.c`): without them a program is not told that its client no longer listens.
pub const IDENTIFICATION: &str = "SSH-2.0-OpenSSH_9.9 chaperone";

/// Whether a host key is believed, and else why not.
pub type Believes = Box<dyn Fn(&HostKey) -> Result<(), String> + Send>;

/// Which side this is.
enum Role {
    Server { key: Arc<SecretKey>, certificate: Option<Vec<u8>> },
    Client { algorithms: Vec<&'static str>, believes: Believes },
}

/// How far an exchange of keys has come.
enum Exchange {
    /// None is under way.
    Idle,
    /// This side has said what it offers.
    Offered(Vec<u8>),
    /// Both have; a server waits for the client's half, a client for the server's.
    Agreed { agreed: Box<Agreed>, client: Vec<u8>, server: Vec<u8>, asked: Option<Box<Asked>> },
    /// This side uses new keys; the other's are used once it says so.
    Waiting(Box<Material>),
}

/// What both agreed on, the two offers, and the client's half.
type Offers = (Box<Agreed>, Vec<u8>, Vec<u8>, Option<Box<Asked>>);

/// What came.
#[derive(Debug)]
pub enum Taken {
    /// More must come.
    Need,
    /// A message that is not the transport's own.
    Payload(BytesMut),
    /// The peer ends the connection, and says why.
    Disconnect {
        /// As a number (RFC 4250, section 4.2.2).
        code: u32,
        /// In words.
        text: String,
    },
}

/// One side of a connection.
pub struct Transport {
    role: Role,
    sealer: Sealer,
    opener: Opener,
    theirs: Option<Vec<u8>>,
    preface: usize,
    session: Option<Vec<u8>>,
    /// The peer's packets are sealed: nobody else can have put one in.
    opened: bool,
    exchange: Exchange,
    strict: bool,
    /// Throw away the packet that comes next.
    skip: bool,
    waiting: Vec<Zeroizing<Vec<u8>>>,
    waiting_bytes: usize,
    /// The signatures that a server takes (RFC 8308, section 3.1).
    server_signatures: Option<String>,
    host_key: Option<HostKey>,
    /// As it was shown when it was believed.
    shown: Option<Vec<u8>>,
    out: BytesMut,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("host_key", &self.host_key).finish_non_exhaustive()
    }
}

impl Transport {
    /// The server's side, which shows this key. `certificate`: what vouches for it.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn server(key: Arc<SecretKey>, certificate: Option<Vec<u8>>) -> Result<Self, Violation> {
        Self::new(Role::Server { key, certificate })
    }

    /// The client's side. `algorithms`: the kinds of host key that could be believed, best first.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn client(algorithms: Vec<&'static str>, believes: Believes) -> Result<Self, Violation> {
        Self::new(Role::Client { algorithms, believes })
    }

    fn new(role: Role) -> Result<Self, Violation> {
        let mut transport = Self {
            role,
            sealer: Sealer::clear(),
            opener: Opener::clear(),
            theirs: None,
            preface: 0,
            session: None,
            opened: false,
            exchange: Exchange::Idle,
            strict: false,
            skip: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            server_signatures: None,
            host_key: None,
            shown: None,
            out: BytesMut::new(),
        };
        transport.out.extend_from_slice(IDENTIFICATION.as_bytes());
        transport.out.extend_from_slice(b"\r\n");
        transport.offer()?;
        Ok(transport)
    }

    /// What is to be sent; whoever sends it takes it off the front.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Whether keys have been exchanged.
    pub fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// Whether what is sent now waits for new keys: nothing more should be read for it meanwhile.
    pub fn is_exchanging(&self) -> bool {
        !matches!(self.exchange, Exchange::Idle | Exchange::Waiting(_))
    }

    /// What tells this session from all others (RFC 4253, section 7.2).
    pub fn session(&self) -> &[u8] {
        self.session.as_deref().unwrap_or_default()
    }

    /// The peer's first line.
    pub fn peer(&self) -> String {
        String::from_utf8_lossy(self.theirs.as_deref().unwrap_or_default()).into_owned()
    }

    /// Which signatures the server says that it takes.
    pub fn server_signatures(&self) -> Option<&str> {
        self.server_signatures.as_deref()
    }

    /// The server's key, once it is believed.
    pub fn host_key(&self) -> Option<&HostKey> {
        self.host_key.as_ref()
    }

    fn is_server(&self) -> bool {
        matches!(self.role, Role::Server { .. })
    }

    /// Sends a message, whose parts follow each other.
    ///
    /// # Errors
    /// Where it is too long, or too much waits for new keys.
    pub fn send(&mut self, payload: &[&[u8]]) -> Result<(), Violation> {
        if self.is_exchanging() {
            let payload = Zeroizing::new(payload.concat());
            self.waiting_bytes += payload.len() + KEPT;
            if self.waiting_bytes > WAITING {
                return Err(Violation::TooMany("messages that wait for new keys"));
            }
            self.waiting.push(payload);
            return Ok(());
        }
        self.sealer.seal(payload, &mut self.out)?;
        if self.session.is_some()
            && matches!(self.exchange, Exchange::Idle)
            && (self.sealer.bytes.max(self.opener.bytes) > KEY_BYTES
                || self.sealer.packets.max(self.opener.packets) > KEY_PACKETS)
        {
            self.offer()?;
        }
        Ok(())
    }

    /// Ends the connection with a sentence for whoever reads it (RFC 4253, section 11.1).
    pub fn disconnect(&mut self, code: u32, text: &str) {
        let mut last = message(DISCONNECT);
        last.put_u32(code);
        last.put_string(text.as_bytes());
        last.put_string(b"");
        // It is the last in any case.
        let _ = self.sealer.seal(&[&last], &mut self.out);
    }

    /// Begins to exchange new keys, where that is not under way.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn rekey(&mut self) -> Result<(), Violation> {
        if matches!(self.exchange, Exchange::Idle) { self.offer() } else { Ok(()) }
    }

    fn offer(&mut self) -> Result<(), Violation> {
        let host_keys = match &self.role {
            Role::Client { algorithms, .. } => algorithms.clone(),
            Role::Server { key, certificate: Some(_) } => {
                vec!["ssh-ed25519-cert-v01@openssh.com", key.algorithm()]
            }
            Role::Server { key, certificate: None } => vec![key.algorithm()],
        };
        let offer = negotiate::offer(self.is_server(), &host_keys, self.session.is_none())?;
        self.sealer.seal(&[&offer], &mut self.out)?;
        self.exchange = Exchange::Offered(offer);
        Ok(())
    }

    /// Takes what is at the front of what came, up to the next message that is for others.
    ///
    /// # Errors
    /// A [`Violation`].
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Taken, Violation> {
        if self.theirs.is_none() && !self.identify(input)? {
            return Ok(Taken::Need);
        }
        loop {
            let Some(payload) = self.opener.open(input)? else { return Ok(Taken::Need) };
            let number = payload.first().copied().unwrap_or(0);
            if std::mem::take(&mut self.skip) {
                continue;
            }
            let misplaced = |place| Violation::Misplaced { number, place };
            let exchanging =
                matches!(self.exchange, Exchange::Agreed { .. } | Exchange::Waiting(_));
            match number {
                DISCONNECT => {
                    let mut read = Reader::new(&payload[1..]);
                    let code = read.u32().unwrap_or(0);
                    let text = read.string().unwrap_or_default();
                    let text = String::from_utf8_lossy(text).chars().take(1000).collect();
                    return Ok(Taken::Disconnect { code, text });
                }
                IGNORE | DEBUG | UNIMPLEMENTED => {
                    // Where a stranger may have put it in, its place must not shift what is sealed
                    // (CVE-2023-48795).
                    if self.strict && !self.opened {
                        return Err(misplaced("before keys are exchanged"));
                    }
                }
                EXT_INFO if self.opened => self.extensions(&payload)?,
                KEXINIT => self.offered(&payload)?,
                KEX_INIT if self.is_server() => self.asked(&payload)?,
                KEX_REPLY if !self.is_server() => self.answered(&payload)?,
                NEWKEYS => {
                    let exchange = std::mem::replace(&mut self.exchange, Exchange::Idle);
                    let Exchange::Waiting(material) = exchange else {
                        return Err(misplaced("before the keys that it is about"));
                    };
                    self.opener.rekey(&material, self.strict)?;
                    self.opened = true;
                }
                _ if !self.opened => return Err(misplaced("before keys are exchanged")),
                _ if exchanging => return Err(misplaced("in an exchange of keys")),
                _ => return Ok(Taken::Payload(payload)),
            }
        }
    }

    /// The peer's first line. Answers whether it is whole.
    fn identify(&mut self, input: &mut BytesMut) -> Result<bool, Violation> {
        loop {
            let Some(end) = input.iter().take(LINE + 1).position(|byte| *byte == b'\n') else {
                return if input.len() > LINE {
                    Err(Violation::Identification("its first line has no end"))
                } else {
                    Ok(false)
                };
            };
            let mut line = input.split_to(end + 1);
            line.truncate(end);
            if line.last() == Some(&b'\r') {
                line.truncate(end - 1);
            }
            if line.starts_with(b"SSH-2.0-")
                || (!self.is_server() && line.starts_with(b"SSH-1.99-"))
            {
                self.theirs = Some(line.to_vec());
                return Ok(true);
            }
            self.preface += end + 1;
            // A server may say something first; a client may not.
            if self.is_server() || line.starts_with(b"SSH-") || self.preface > PREFACE {
                return Err(Violation::Identification("its first line is no SSH-2.0-…"));
            }
        }
    }

    /// The peer said what it offers.
    fn offered(&mut self, theirs: &[u8]) -> Result<(), Violation> {
        if matches!(self.exchange, Exchange::Idle) {
            self.offer()?;
        }
        let exchange = std::mem::replace(&mut self.exchange, Exchange::Idle);
        let Exchange::Offered(ours) = exchange else {
            return Err(Violation::Misplaced { number: KEXINIT, place: "in an exchange of keys" });
        };
        let (client, server) =
            if self.is_server() { (theirs.to_vec(), ours) } else { (ours, theirs.to_vec()) };
        let agreed = negotiate::agree(&client, &server, self.is_server())?;
        if self.session.is_none() {
            self.strict = agreed.strict;
            if self.strict && self.opener.sequence() != 1 {
                return Err(Violation::Exchange("something was sent before the offer"));
            }
        }
        self.skip = agreed.skip;
        let mut asked = None;
        if !self.is_server() {
            let half = Asked::new(agreed.method)?;
            let mut ask = message(KEX_INIT);
            ask.put_string(&half.public);
            self.sealer.seal(&[&ask], &mut self.out)?;
            asked = Some(Box::new(half));
        }
        self.exchange = Exchange::Agreed { agreed: Box::new(agreed), client, server, asked };
        Ok(())
    }

    fn take_agreed(&mut self, number: u8) -> Result<Offers, Violation> {
        match std::mem::replace(&mut self.exchange, Exchange::Idle) {
            Exchange::Agreed { agreed, client, server, asked } => {
                Ok((agreed, client, server, asked))
            }
            _ => Err(Violation::Misplaced { number, place: "outside of an exchange of keys" }),
        }
    }

    /// A client's half came.
    fn asked(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let (agreed, client, server, _) = self.take_agreed(KEX_INIT)?;
        let Role::Server { key, certificate } = &self.role else { return Ok(()) };
        let asked = exchange::only_string(payload)?;
        let (public, secret) = exchange::answer(agreed.method, asked)?;
        let shown = match certificate {
            Some(blob) if agreed.host_key != key.algorithm() => blob.as_slice(),
            _ => key.public().blob(),
        };
        let theirs = self.theirs.as_deref().unwrap_or_default();
        let ours = IDENTIFICATION.as_bytes();
        let hash = secret.hash(&[theirs, ours, &client, &server, shown, asked, &public]);
        let signature =
            key.sign(&hash).map_err(|_| Violation::Exchange("the host key does not sign"))?;
        let mut reply = message(KEX_REPLY);
        reply.put_string(shown);
        reply.put_string(&public);
        reply.put_string(&signature);
        self.sealer.seal(&[&reply], &mut self.out)?;
        self.keys(&agreed, &secret, &hash)
    }

    /// A server's half came.
    fn answered(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let (agreed, client, server, asked) = self.take_agreed(KEX_REPLY)?;
        let Role::Client { believes, .. } = &self.role else { return Ok(()) };
        let asked = asked.ok_or(Violation::Exchange("nothing was asked"))?;
        let mut read = Reader::new(&payload[1..]);
        let (shown, public, signature) = (read.string()?, read.string()?, read.string()?);
        read.end()?;
        let own = asked.public.clone();
        let secret = asked.answered(public)?;
        let theirs = self.theirs.as_deref().unwrap_or_default();
        let ours = IDENTIFICATION.as_bytes();
        let hash = secret.hash(&[ours, theirs, &client, &server, shown, &own, public]);
        let host_key = HostKey::read(&agreed.host_key, shown, &hash, signature)?;
        // What was believed once is for all of the session: a certificate may end meanwhile.
        if self.shown.as_deref() != Some(shown) {
            believes(&host_key).map_err(Violation::HostKey)?;
            self.shown = Some(shown.to_vec());
        }
        self.host_key = Some(host_key);
        self.keys(&agreed, &secret, &hash)
    }

    /// This side's new keys are used from here on.
    fn keys(
        &mut self,
        agreed: &Agreed,
        secret: &exchange::Secret,
        hash: &[u8],
    ) -> Result<(), Violation> {
        let first = self.session.is_none();
        let session = self.session.get_or_insert_with(|| hash.to_vec()).clone();
        let up = secret.material(b'A', agreed.up, hash, &session);
        let down = secret.material(b'B', agreed.down, hash, &session);
        self.sealer.seal(&[&[NEWKEYS]], &mut self.out)?;
        let (ours, theirs) = if self.is_server() { (down, up) } else { (up, down) };
        self.sealer.rekey(&ours, self.strict)?;
        self.exchange = Exchange::Waiting(Box::new(theirs));
        if first && self.is_server() && agreed.extensions {
            let mut info = message(EXT_INFO);
            info.put_u32(1);
            info.put_string(b"server-sig-algs");
            info.put_names(&SIGNATURES);
            self.sealer.seal(&[&info], &mut self.out)?;
        }
        self.waiting_bytes = 0;
        for payload in std::mem::take(&mut self.waiting) {
            self.sealer.seal(&[&payload], &mut self.out)?;
        }
        Ok(())
    }

    /// RFC 8308, section 2.3.
    fn extensions(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let mut read = Reader::new(&payload[1..]);
        for _ in 0..read.u32()?.min(64) {
            let (name, value) = (read.string()?, read.string()?);
            if name == b"server-sig-algs" {
                self.server_signatures = Some(String::from_utf8_lossy(value).into_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
