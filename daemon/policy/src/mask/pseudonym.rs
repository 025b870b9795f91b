//! Values that stand for others under a key: HMAC-SHA256 (RFC 2104, FIPS 180-4) of the kind and the
//! value, cut to what the kind can hold.
//!
//! Equal values of a kind stay equal in either format, so that joins work. Different ones become
//! different as far as the kind is wide enough: of int2, and of int4 from some ten thousand values
//! on, some will fall together.

use std::{fmt, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{
    numeric::Numeric,
    types::Kind,
    value::{Value, hex},
};

/// Shorter ones can be guessed.
const SHORTEST: usize = 16;

/// A key of pseudonyms. Cheap to clone; never shown.
#[derive(Clone)]
pub struct Key(Arc<Hmac<Sha256>>);

/// A key that could be guessed.
#[derive(Debug, PartialEq, Eq)]
pub struct ShortKey;

impl fmt::Display for ShortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key for pseudonyms must have at least {SHORTEST} bytes")
    }
}

impl std::error::Error for ShortKey {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A key of these bytes, at least 16 and better 32, from a generator of random ones.
    pub fn new(bytes: &[u8]) -> Result<Self, ShortKey> {
        if bytes.len() < SHORTEST {
            return Err(ShortKey);
        }
        // It takes keys of any length.
        Hmac::new_from_slice(bytes).map(|mac| Self(Arc::new(mac))).map_err(|_| ShortKey)
    }

    pub(super) fn pseudonym(
        &self,
        kind: Kind,
        value: &Value<'_>,
        prefix: &str,
    ) -> Option<Value<'static>> {
        Some(match (kind, value) {
            (Kind::Text | Kind::Bpchar | Kind::Name, Value::Text(text)) => {
                Value::Text(self.text(b't', text, prefix).into_bytes().into())
            }
            (Kind::Json, Value::Text(text)) => {
                Value::Text(serde_json::to_vec(&self.text(b'j', text, prefix)).ok()?.into())
            }
            (Kind::Jsonb, Value::Text(text)) => {
                Value::Text(serde_json::to_vec(&self.text(b'J', text, prefix)).ok()?.into())
            }
            (Kind::Xml, Value::Text(text)) => {
                Value::Text(super::value::xml(&self.text(b'x', text, prefix)).into())
            }
            (Kind::Bytea, Value::Bytes(bytes)) => {
                Value::Bytes(self.short(b'b', bytes).to_vec().into())
            }
            (_, Value::Uuid(uuid)) => {
                // Version 8, variant 2: RFC 9562.
                let mut octets = self.short(b'u', uuid);
                octets[6] = 0x80 | (octets[6] & 0x0f);
                octets[8] = 0x80 | (octets[8] & 0x3f);
                Value::Uuid(octets)
            }
            (_, Value::Int(value)) => {
                let bits = self.number(b'i', &value.to_be_bytes());
                Value::Int(match kind {
                    Kind::Int2 => bits & i64::from(i16::MAX),
                    Kind::Int4 => bits & i64::from(i32::MAX),
                    _ => bits,
                })
            }
            #[expect(clippy::cast_precision_loss, reason = "as many bits as fit")]
            (_, Value::Float(value)) => {
                // Zero has two signs, and what is no number many forms.
                let value = if value.is_nan() { f64::NAN } else { *value + 0.0 };
                let bits = self.number(b'f', &value.to_bits().to_be_bytes());
                let kept = if kind == Kind::Float4 { 24 } else { 53 };
                Value::Float((bits & ((1 << kept) - 1)) as f64)
            }
            (_, Value::Numeric(value)) => {
                let bits = self.number(b'n', &value.canonical());
                Value::Numeric(Numeric::from_int(bits.unsigned_abs() % 1_000_000_000_000_000_000))
            }
            (Kind::Inet, Value::Network(network)) => {
                // An address of nobody: RFC 4193.
                let mut octets = self.short(b'a', &network.canonical());
                octets[0] = 0xfd;
                Value::Network(octets.into())
            }
            // Too few values to hide among, or no place for others.
            _ => return None,
        })
    }

    fn text(&self, tag: u8, value: &[u8], prefix: &str) -> String {
        let mut out = Vec::with_capacity(prefix.len() + 32);
        out.extend_from_slice(prefix.as_bytes());
        hex(&self.short(tag, value), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Not negative.
    fn number(&self, tag: u8, value: &[u8]) -> i64 {
        let bits = u128::from_be_bytes(self.short(tag, value));
        i64::try_from(bits >> 65).unwrap_or_default()
    }

    fn short(&self, tag: u8, value: &[u8]) -> [u8; 16] {
        let mut mac = Hmac::clone(&self.0);
        mac.update(&[tag]);
        mac.update(value);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut out = [0; 16];
        out.copy_from_slice(&full[..16]);
        out
    }
}
