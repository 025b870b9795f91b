//! What a stream of bytes looks like that nobody reads: named by the first that either side says.
//!
//! It is for the record and no boundary: who wraps or splits what it says is not named. Does not belong
//! here: reading any of it.

/// What a stream looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// PostgreSQL.
    Postgres,
    /// SSH.
    Ssh,
    /// PostgreSQL in TLS.
    PostgresInTls,
    /// TLS.
    Tls,
    /// HTTP.
    Http,
}

impl Looks {
    /// The name that the log uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Ssh => "SSH",
            Self::PostgresInTls => "PostgreSQL in TLS",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
        }
    }
}

/// Bytes of a side that are looked at: the `ClientHello` of TLS must be among them.
const LOOKED_AT: usize = 2048;

/// Looks at both sides of a stream.
#[derive(Clone, Debug, Default)]
pub struct Sniffer {
    up: Vec<u8>,
    down: Vec<u8>,
    found: Option<Looks>,
}

impl Sniffer {
    /// Bytes of the client's. Answers what it looks like, where that is known by these.
    pub fn client(&mut self, bytes: &[u8]) -> Option<Looks> {
        let before = self.found;
        if before == Some(Looks::Tls) || before.is_none() {
            keep(&mut self.up, bytes);
            self.found = first_words(&self.up).or(before);
        }
        self.found.filter(|_| self.found != before)
    }

    /// Bytes of the server's.
    pub fn server(&mut self, bytes: &[u8]) -> Option<Looks> {
        if self.found.is_some() {
            return None;
        }
        // It may speak first, or be the client of who connected to it.
        keep(&mut self.down, bytes);
        self.found = first_words(&self.down);
        self.found
    }

    /// What it looks like, where it looks like something.
    pub fn looks(&self) -> Option<Looks> {
        self.found
    }
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = LOOKED_AT.saturating_sub(kept.len());
    kept.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
}

fn first_words(bytes: &[u8]) -> Option<Looks> {
    if bytes.starts_with(b"SSH-") {
        return Some(Looks::Ssh);
    }
    if let Some((length, rest)) = bytes.split_first_chunk::<4>()
        && let Some((code, _)) = rest.split_first_chunk::<4>()
    {
        // The start-up, and requests for encryption and to cancel (protocol-message-formats).
        let (length, code) = (u32::from_be_bytes(*length), u32::from_be_bytes(*code));
        let is_startup = matches!(code >> 16, 2 | 3) && code & 0xffff < 100;
        if (8..=10_000).contains(&length) && (is_startup || code >> 16 == 1234) {
            return Some(Looks::Postgres);
        }
    }
    if matches!(bytes, [0x16, 0x03, 0..=4, ..]) {
        // Chosen by ALPN (RFC 7301, section 3.1).
        let alpn = b"\x0apostgresql";
        let found = bytes.windows(alpn.len()).any(|part| part == alpn);
        return Some(if found { Looks::PostgresInTls } else { Looks::Tls });
    }
    let methods =
        ["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "CONNECT ", "OPTIONS ", "PATCH ", "PRI "];
    methods.iter().any(|method| bytes.starts_with(method.as_bytes())).then_some(Looks::Http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_by_its_first_bytes_however_they_come() {
        let hello = |alpn: &[u8]| [b"\x16\x03\x01\x02\x00\x01", alpn, b"rest"].concat();
        for (bytes, looks) in [
            (b"SSH-2.0-x\r\n".to_vec(), Some(Looks::Ssh)),
            (vec![0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f], Some(Looks::Postgres)),
            (vec![0, 0, 0, 40, 0, 3, 0, 0, b'u'], Some(Looks::Postgres)),
            (vec![0, 0, 0, 40, 0, 3, 0, 2, b'u'], Some(Looks::Postgres)),
            (vec![0, 0, 0, 3, 0, 3, 0, 0], None),
            (vec![0, 1, 0, 0, 0, 3, 0, 0], None),
            (hello(b""), Some(Looks::Tls)),
            (hello(b"\x0apostgresql"), Some(Looks::PostgresInTls)),
            (b"GET / HTTP/1.1\r\n".to_vec(), Some(Looks::Http)),
            (b"GETTING".to_vec(), None),
            (b"EHLO x\r\n".to_vec(), None),
        ] {
            let mut whole = Sniffer::default();
            assert_eq!(whole.client(&bytes), looks, "{bytes:?}");
            assert_eq!(whole.client(b"more"), None, "it is told once");
            let mut parts = Sniffer::default();
            for part in bytes.chunks(1) {
                parts.client(part);
            }
            assert_eq!(parts.looks(), looks, "{bytes:?}");
        }
        let mut first = Sniffer::default();
        assert_eq!(first.server(b"SSH-2.0-OpenSSH"), Some(Looks::Ssh));
        assert_eq!((first.server(b"x"), first.client(b"SSH-2.0")), (None, None));
        let mut long = Sniffer::default();
        long.client(&vec![b'x'; 10_000]);
        assert!(long.up.len() <= LOOKED_AT);
    }
}
