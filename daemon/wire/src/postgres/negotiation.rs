//! Which version of the protocol a session speaks, and with which options: no other than is known
//! here (protocol-flow, "Start-up"; protocol-message-formats, `NegotiateProtocolVersion`).
//!
//! A client that asks for more is heard by the server as one that asks for less, and told so in the
//! server's place, or together with it.

use super::{
    frame::{Body, HEADER, Tag, Violation, header},
    reply::message,
    startup::Startup,
};

/// The newest version whose messages are known here: 3.2, of PostgreSQL 18.
const NEWEST: u32 = (3 << 16) | 2;

/// How the names of the protocol's own options begin. None is known here.
pub(super) const OPTION: &str = "_pq_.";

/// `NegotiateProtocolVersion`.
const TAG: u8 = b'v';
/// Longest that a server sends; it repeats no more than it was sent.
const LONGEST: usize = 16 << 10;

/// What a client asked for and does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiation {
    version: u32,
    options: Vec<String>,
}

/// What the client is to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// So many bytes of the server are needed to know it.
    Need(usize),
    /// This, in place of so many of the server's first bytes.
    Instead(usize, Vec<u8>),
}

impl Startup {
    /// Lowers what is asked for to what is known here. `None` where nothing had to be.
    pub fn negotiate(&mut self) -> Option<Negotiation> {
        let options: Vec<_> = self
            .parameters
            .extract_if(.., |(name, _)| name.starts_with(OPTION))
            .map(|(name, _)| name)
            .collect();
        let known = self.version >> 16 != NEWEST >> 16 || self.version <= NEWEST;
        if known && options.is_empty() {
            return None;
        }
        if !known {
            self.version = NEWEST;
        }
        Some(Negotiation { version: self.version, options })
    }
}

impl Negotiation {
    /// Looks at the first bytes that the server says to the client. Where it lowers the version
    /// itself, that holds: it is the older of the two.
    ///
    /// # Errors
    /// A [`Violation`] of the server.
    pub fn told(&self, server: &[u8]) -> Result<Told, Violation> {
        let Some(header) = header(server)? else { return Ok(Told::Need(HEADER)) };
        if header.tag != TAG {
            return Ok(Told::Instead(0, self.encode(self.version, &[])));
        }
        if header.length > LONGEST {
            let length = i64::try_from(header.length).unwrap_or(i64::MAX);
            return Err(Violation::Length { tag: Tag(TAG), length });
        }
        let Some(whole) = server.get(..header.length) else {
            return Ok(Told::Need(header.length));
        };
        let mut body = Body::of(whole);
        let version = body.u32()?;
        let names = body.u32()?;
        // None was sent to it, and what it names all the same is the client's to judge.
        let rest = body.rest();
        if rest.last().is_some_and(|b| *b != 0) || u32::try_from(count(rest)) != Ok(names) {
            return Err(body.malformed("it does not have the names that it counts"));
        }
        Ok(Told::Instead(header.length, self.encode(version, rest)))
    }

    fn encode(&self, version: u32, names: &[u8]) -> Vec<u8> {
        let count = self.options.len() + count(names);
        let mut body = version.to_be_bytes().to_vec();
        body.extend(u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        for name in &self.options {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
        }
        body.extend_from_slice(names);
        message(TAG, &body)
    }
}

/// Of names that end with a NUL each.
fn count(names: &[u8]) -> usize {
    names.split(|b| *b == 0).count() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(minor: u32, names: &[&str]) -> Startup {
        let parameters = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        Startup { version: (3 << 16) | minor, parameters }
    }

    fn told(version: u32, names: &[&str]) -> Vec<u8> {
        let count = u32::try_from(names.len()).expect("few");
        let names: String = names.iter().flat_map(|name| [*name, "\0"]).collect();
        let parts = [&version.to_be_bytes()[..], &count.to_be_bytes(), names.as_bytes()];
        message(TAG, &parts.concat())
    }

    const V3_0: u32 = 3 << 16;

    #[test]
    fn p1_no_server_is_asked_for_what_is_not_known_here() {
        for (minor, names, sent) in [
            (0, &["user"][..], 0),
            (2, &["user"], 2),
            (3, &["user"], 2),
            (0xffff, &["_pq_.a", "user", "_pq_.b"], 2),
            (0, &["_pq_.a"], 0),
            (1, &["_pq_.a"], 1),
        ] {
            let mut startup = startup(minor, names);
            let negotiation = startup.negotiate();
            let options: Vec<_> = names.iter().filter(|name| name.starts_with("_pq_")).collect();
            assert_eq!(startup.version, V3_0 | sent);
            assert!(startup.parameters.iter().all(|(name, _)| name == "user"));
            assert_eq!(
                negotiation.is_some(),
                minor > 2 || !options.is_empty(),
                "{minor} {names:?}"
            );
            let Some(negotiation) = negotiation else { continue };
            let expected: Vec<_> = options.into_iter().copied().collect();
            // A server that does what it is asked for.
            let heard = negotiation.told(b"R\0\0\0\x08\0\0\0\0");
            assert_eq!(heard, Ok(Told::Instead(0, told(V3_0 | sent, &expected))));
            // One that is older.
            let said = told(V3_0, &[]);
            let heard = negotiation.told(&[&said[..], b"R"].concat());
            assert_eq!(heard, Ok(Told::Instead(said.len(), told(V3_0, &expected))));
        }
        let mut other = Startup { version: 2 << 16, ..startup(0, &[]) };
        assert_eq!(other.negotiate(), None);
    }

    #[test]
    fn p8_what_the_server_says_is_read_with_care() {
        let negotiation = startup(9, &["_pq_.a"]).negotiate().expect("negotiated");
        let said = told(V3_0, &["_pq_.b"]);
        for end in 0..said.len() {
            let heard = negotiation.told(&said[..end]);
            assert!(matches!(heard, Ok(Told::Need(need)) if need > end), "{end}: {heard:?}");
        }
        let both = told(V3_0, &["_pq_.a", "_pq_.b"]);
        assert_eq!(negotiation.told(&said), Ok(Told::Instead(said.len(), both)));
        for bad in [
            message(TAG, b""),
            message(TAG, b"\0\x03\0\0\0\0\0\x01"),
            message(TAG, b"\0\x03\0\0\0\0\0\x01x"),
            b"v\x7f\xff\xff\xff".to_vec(),
            b"v\0\0\0\x03".to_vec(),
        ] {
            assert!(negotiation.told(&bad).is_err(), "{bad:?}");
        }
    }
}
