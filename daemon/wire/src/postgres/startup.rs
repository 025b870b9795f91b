//! What comes before the first typed message: TLS and GSS requests, cancel requests, start-up
//! (protocol-flow, "Start-up"; protocol-message-formats, `StartupMessage` and its kin).

use super::{frame::Violation, reply::Refusal};

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// `MAX_STARTUP_PACKET_LENGTH` (src/include/libpq/pqcomm.h).
const LONGEST: usize = 10_000;

/// The protocol that a client offers by ALPN (protocol-flow, "SSL Session Encryption").
pub const ALPN: &[u8] = b"postgresql";

/// Whether a connection that begins with this byte begins with TLS, without having asked: a
/// handshake record's type (RFC 8446, section 5.1). As a packet's length it would be too long.
pub fn is_direct_tls(first: u8) -> bool {
    first == 0x16
}

/// The packet that asks a server for TLS.
pub fn tls_request() -> [u8; 8] {
    let mut packet = [0, 0, 0, 8, 0, 0, 0, 0];
    packet[4..].copy_from_slice(&SSL_REQUEST.to_be_bytes());
    packet
}

/// The first packet of a connection, or the next after a request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// The client asks for TLS.
    Ssl,
    /// The client asks for GSS encryption.
    GssEnc,
    /// The client asks to cancel another session's statement.
    Cancel(CancelKey),
    /// The client starts a session.
    Startup(Startup),
}

/// What a server gives at sign-on and takes in a cancel request.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// The server's process.
    pub process: u32,
    /// The secret: 4 bytes in version 3.0, up to 256 since 3.2.
    pub secret: Box<[u8]>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CancelKey {{ process: {}, secret: … }}", self.process)
    }
}

/// A start-up message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Major version in the high 16 bits, minor in the low.
    pub version: u32,
    /// Names and values in the order in which they came.
    pub parameters: Vec<(String, String)>,
}

impl Startup {
    /// The value that the server takes: the last of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The database that the server opens: the one of the user's name where none is given, or an
    /// empty one (`ProcessStartupPacket`, src/backend/postmaster/postmaster.c).
    pub fn database(&self) -> Option<&str> {
        self.get("database").filter(|name| !name.is_empty()).or(self.get("user"))
    }

    /// Sets a parameter, wherever and however often it was there before.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.parameters.retain(|(n, _)| n != name);
        self.parameters.push((name.into(), value.into()));
    }

    /// The message as it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let texts = self.parameters.iter().flat_map(|(name, value)| [name, value]);
        let length = texts.clone().map(|text| text.len() + 1).sum::<usize>() + 9;
        let mut packet = Vec::with_capacity(length);
        packet.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        packet.extend(self.version.to_be_bytes());
        for text in texts {
            packet.extend(text.as_bytes());
            packet.push(0);
        }
        packet.push(0);
        packet
    }

    /// The parameters as a JSON object. A name that came more than once has all its values, of
    /// which the last counts.
    pub fn to_json(&self) -> String {
        use serde_json::Value;
        let mut map = serde_json::Map::new();
        for (name, value) in &self.parameters {
            let value = Value::from(value.as_str());
            match map.get_mut(name) {
                None => drop(map.insert(name.clone(), value)),
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = vec![first.take(), value].into(),
            }
        }
        Value::Object(map).to_string()
    }

    /// Why this session cannot be allowed, where it cannot. `replication`: the target takes
    /// replication connections.
    pub fn objection(&self, replication: bool) -> Option<Refusal> {
        if self.version >> 16 != 3 {
            return Some(Refusal::new(
                "0A000",
                format!(
                    "chaperone does not know protocol version {}.{}",
                    self.version >> 16,
                    self.version & 0xffff
                ),
            ));
        }
        // Any spelling of false that the server knows opens an ordinary session; the rest opens a
        // walsender, which takes commands that are no SQL (src/backend/postmaster/postmaster.c).
        if self.is_replication() && !replication {
            return Some(
                Refusal::new("0A000", "chaperone does not let replication connections through")
                    .hint("Connect without the replication parameter, or ask operations to set `replication = true` for this target."),
            );
        }
        if self.encode().len() > LONGEST {
            return Some(Refusal::new("08P01", "the start-up parameters are too long"));
        }
        None
    }

    fn is_replication(&self) -> bool {
        self.get("replication").is_some_and(|value| {
            !["false", "off", "no", "0", "f", "n", "of"].contains(&value.to_lowercase().as_str())
        })
    }
}

/// Reads a first packet; `None` means that more bytes are needed. Answers its length, too.
///
/// # Errors
/// [`Violation::Startup`] for what is no such packet.
pub fn first_packet(bytes: &[u8]) -> Result<Option<(usize, First)>, Violation> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    let length = usize::try_from(length)
        .ok()
        .filter(|length| (8..=LONGEST).contains(length))
        .ok_or_else(|| bad(format!("it says that it is {length} bytes long")))?;
    let Some(body) = rest.get(..length - 4) else {
        return Ok(None);
    };
    let Some((code, body)) = body.split_first_chunk::<4>() else {
        return Err(bad("it has no version"));
    };
    let first = match u32::from_be_bytes(*code) {
        SSL_REQUEST if body.is_empty() => First::Ssl,
        GSSENC_REQUEST if body.is_empty() => First::GssEnc,
        SSL_REQUEST | GSSENC_REQUEST => return Err(bad("an encryption request has a body")),
        CANCEL_REQUEST => match body.split_first_chunk::<4>() {
            Some((process, secret)) if (4..=256).contains(&secret.len()) => {
                First::Cancel(CancelKey {
                    process: u32::from_be_bytes(*process),
                    secret: secret.into(),
                })
            }
            _ => return Err(bad("a cancel request has no proper key")),
        },
        version => First::Startup(Startup { version, parameters: parameters(body)? }),
    };
    Ok(Some((length, first)))
}

fn parameters(body: &[u8]) -> Result<Vec<(String, String)>, Violation> {
    // name NUL value NUL … NUL
    let Some(body) = body.strip_suffix(&[0]) else {
        return Err(bad("it does not end with a NUL"));
    };
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let Some(body) = body.strip_suffix(&[0]) else {
        return Err(bad("its last parameter does not end"));
    };
    let mut parts = body.split(|b| *b == 0).map(|part| {
        String::from_utf8(part.to_vec()).map_err(|_| bad("a parameter is not valid UTF-8"))
    });
    let mut found = Vec::new();
    while let Some(name) = parts.next() {
        let name = name?;
        if name.is_empty() {
            return Err(bad("a parameter has no name"));
        }
        let value = parts.next().ok_or_else(|| bad(format!("parameter {name} has no value")))??;
        found.push((name, value));
    }
    Ok(found)
}

fn bad(reason: impl Into<String>) -> Violation {
    Violation::Startup(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = u32::try_from(body.len() + 8).expect("short").to_be_bytes().to_vec();
        packet.extend(code.to_be_bytes());
        packet.extend(body);
        packet
    }

    #[test]
    fn a_start_up_is_read() {
        let packet = packet(196_608, b"user\0a\0database\0b\0user\0c\0\0");
        for short in 0..packet.len() {
            assert_eq!(first_packet(&packet[..short]), Ok(None), "{short}");
        }
        let (length, first) = first_packet(&packet).expect("valid").expect("whole");
        assert_eq!(length, packet.len());
        let First::Startup(startup) = first else { panic!("{first:?}") };
        assert_eq!(startup.get("user"), Some("c"));
        assert_eq!(startup.get("database"), Some("b"));
        assert_eq!(startup.objection(false), None);
    }

    #[test]
    fn malformed_start_ups_are_refused() {
        for body in [
            &b"user"[..],
            b"user\0",
            b"user\0a",
            b"user\0a\0",
            b"user\0\0\0x",
            b"\0a\0\0",
            b"\xff\0a\0\0",
        ] {
            assert!(first_packet(&packet(196_608, body)).is_err(), "{body:?}");
        }
        assert!(first_packet(&[0, 0, 0, 3, 0, 0, 0, 0]).is_err());
        assert!(first_packet(&[0xff; 8]).is_err());
        assert!(first_packet(&[0, 0x10, 0, 0]).is_err(), "a huge packet is refused by its length");
        assert!(first_packet(&packet(SSL_REQUEST, b"x")).is_err());
        assert!(first_packet(&packet(CANCEL_REQUEST, b"1234")).is_err());
    }

    #[test]
    fn p7_no_parameter_is_dropped_from_the_record() {
        let parameters = [("options", "-c a=b"), ("user", "u"), ("options", ""), ("options", "x")];
        let parameters = parameters.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        let startup = Startup { version: 196_608, parameters };
        assert_eq!(startup.to_json(), r#"{"options":["-c a=b","","x"],"user":"u"}"#);
    }

    #[test]
    fn a_parameter_is_set_once() {
        let parameters = [("a", "1"), ("user", "u"), ("a", "2")];
        let parameters = parameters.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        let mut startup = Startup { version: 196_608, parameters };
        startup.set("a", "3");
        assert_eq!(startup.encode(), packet(196_608, b"user\0u\0a\x003\0\0"));
        startup.set("a", "x".repeat(10_000));
        assert!(startup.objection(false).is_some(), "the server would not take it");
    }

    #[test]
    fn the_database_is_the_users_where_none_is_named() {
        let startup = |database: &[(&str, &str)]| {
            let parameters = [&[("user", "u")], database].concat();
            let parameters = parameters.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
            Startup { version: 196_608, parameters }
        };
        assert_eq!(startup(&[("database", "d")]).database(), Some("d"));
        assert_eq!(startup(&[]).database(), Some("u"));
        assert_eq!(startup(&[("database", "")]).database(), Some("u"));
    }

    #[test]
    fn replication_and_other_versions_are_objected_to() {
        let startup = |version, value: &str| Startup {
            version,
            parameters: vec![("replication".into(), value.into())],
        };
        for value in ["true", "database", "on", "1", "T"] {
            assert!(startup(196_608, value).objection(false).is_some(), "{value}");
        }
        for value in ["false", "OFF", "0"] {
            assert_eq!(startup(196_608, value).objection(false), None, "{value}");
        }
        assert!(startup(131_072, "false").objection(false).is_some());
        assert_eq!(startup(196_608, "database").objection(true), None, "the target takes them");
    }

    proptest::proptest! {
        #[test]
        fn p8_no_start_up_panics(bytes: Vec<u8>) {
            let _ = first_packet(&bytes);
        }

        #[test]
        fn start_ups_read_back(names in proptest::collection::vec(("[a-z_]{1,12}", "[^\0]{0,20}"), 0..6)) {
            let mut body = Vec::new();
            for (name, value) in &names {
                body.extend_from_slice(name.as_bytes());
                body.push(0);
                body.extend_from_slice(value.as_bytes());
                body.push(0);
            }
            body.push(0);
            let packet = packet(196_608, &body);
            let (length, first) = first_packet(&packet).expect("valid").expect("whole");
            proptest::prop_assert_eq!(length, packet.len());
            let startup = Startup { version: 196_608, parameters: names };
            proptest::prop_assert_eq!(startup.encode(), packet);
            proptest::prop_assert_eq!(first, First::Startup(startup));
        }
    }
}
