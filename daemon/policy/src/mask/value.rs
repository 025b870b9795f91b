//! Scalar values, read from and written in either format.
//!
//! Reading refuses what it does not fully understand. Follows the `*recv`, `*send`, `*in` and `*out`
//! functions of PostgreSQL's `utils/adt`.

use std::borrow::Cow;

use super::{
    Format,
    civil::{self, Zone},
    network::{self, Network},
    numeric::Numeric,
    types::Kind,
};

/// A value of some kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Also of JSON and XML, as they are written.
    Text(Cow<'a, [u8]>),
    Bytes(Cow<'a, [u8]>),
    Uuid([u8; 16]),
    /// Of any width.
    Int(i64),
    Float(f64),
    Numeric(Numeric),
    Bool(bool),
    /// Days since 2000.
    Date(i32),
    /// Microseconds since 2000.
    Timestamp(i64),
    /// Microseconds of the day; of intervals, too.
    Time(i64),
    /// And seconds west of Greenwich.
    Timetz(i64, i32),
    Network(Network),
    Macaddr([u8; 6]),
}

impl<'a> Value<'a> {
    pub(super) fn read(kind: Kind, format: Format, value: &'a [u8]) -> Option<Self> {
        match format {
            Format::Text => Self::read_text(kind, value),
            Format::Binary => Self::read_binary(kind, value),
        }
    }

    /// The constant as a value of this kind, where it is one. JSON that it is not becomes a string,
    /// XML character data, bytes its bytes.
    pub(super) fn of_constant(kind: Kind, text: &'a str) -> Option<Self> {
        match kind {
            Kind::Json | Kind::Jsonb => {
                if serde_json::from_str::<serde_json::Value>(text).is_ok() {
                    return Some(Self::Text(text.as_bytes().into()));
                }
                Some(Self::Text(serde_json::to_vec(text).ok()?.into()))
            }
            Kind::Xml => Some(Self::Text(xml(text).into())),
            Kind::Bytea => Some(Self::Bytes(text.as_bytes().into())),
            _ => Self::read_text(kind, text.as_bytes()),
        }
    }

    fn read_text(kind: Kind, value: &'a [u8]) -> Option<Self> {
        match kind {
            Kind::Text | Kind::Name | Kind::Json | Kind::Jsonb | Kind::Xml => {
                return Some(Self::Text(value.into()));
            }
            Kind::Bpchar => return Some(Self::Text(unpadded(value).into())),
            Kind::Bytea => return Some(Self::Bytes(bytea(value)?.into())),
            _ => {}
        }
        let text = std::str::from_utf8(value).ok()?;
        Some(match kind {
            Kind::Uuid => Self::Uuid(uuid(text)?),
            Kind::Int2 => Self::Int(text.parse::<i16>().ok()?.into()),
            Kind::Int4 => Self::Int(text.parse::<i32>().ok()?.into()),
            Kind::Int8 => Self::Int(text.parse().ok()?),
            Kind::Float4 => Self::Float(text.parse::<f32>().ok()?.into()),
            Kind::Float8 => Self::Float(text.parse().ok()?),
            Kind::Numeric => Self::Numeric(Numeric::from_text(text)?),
            Kind::Bool => Self::Bool(match text {
                "t" | "true" => true,
                "f" | "false" => false,
                _ => return None,
            }),
            Kind::Date => Self::Date(civil::read_date(text)?),
            Kind::Timestamp => Self::Timestamp(civil::read_timestamp(text, Zone::Without)?),
            Kind::Timestamptz => Self::Timestamp(civil::read_timestamp(text, Zone::With)?),
            Kind::Time | Kind::Interval => Self::Time(civil::read_time(text)?),
            Kind::Timetz => {
                let (time, west) = civil::read_timetz(text)?;
                Self::Timetz(time, west)
            }
            Kind::Inet => Self::Network(Network::from_text(text, false)?),
            Kind::Cidr => Self::Network(Network::from_text(text, true)?),
            Kind::Macaddr => Self::Macaddr(network::mac(text)?),
            Kind::Text
            | Kind::Name
            | Kind::Bpchar
            | Kind::Json
            | Kind::Jsonb
            | Kind::Xml
            | Kind::Bytea => return None,
        })
    }

    fn read_binary(kind: Kind, value: &'a [u8]) -> Option<Self> {
        Some(match kind {
            Kind::Text | Kind::Name | Kind::Json | Kind::Xml => Self::Text(value.into()),
            Kind::Bpchar => Self::Text(unpadded(value).into()),
            // The version of the format, and then as in text.
            Kind::Jsonb => Self::Text(value.strip_prefix(&[1])?.into()),
            Kind::Bytea => Self::Bytes(value.into()),
            Kind::Uuid => Self::Uuid(value.try_into().ok()?),
            Kind::Int2 => Self::Int(i16::from_be_bytes(value.try_into().ok()?).into()),
            Kind::Int4 => Self::Int(i32::from_be_bytes(value.try_into().ok()?).into()),
            Kind::Int8 => Self::Int(i64::from_be_bytes(value.try_into().ok()?)),
            Kind::Float4 => Self::Float(f32::from_be_bytes(value.try_into().ok()?).into()),
            Kind::Float8 => Self::Float(f64::from_be_bytes(value.try_into().ok()?)),
            Kind::Numeric => Self::Numeric(Numeric::from_binary(value)?),
            Kind::Bool => Self::Bool(match value {
                [0] => false,
                [1] => true,
                _ => return None,
            }),
            Kind::Date => Self::Date(i32::from_be_bytes(value.try_into().ok()?)),
            Kind::Timestamp | Kind::Timestamptz => {
                Self::Timestamp(i64::from_be_bytes(value.try_into().ok()?))
            }
            Kind::Time => Self::Time(i64::from_be_bytes(value.try_into().ok()?)),
            Kind::Timetz => {
                let (time, west) = value.split_first_chunk()?;
                Self::Timetz(i64::from_be_bytes(*time), i32::from_be_bytes(west.try_into().ok()?))
            }
            Kind::Interval => {
                let (time, rest) = value.split_first_chunk()?;
                if rest != [0; 8] {
                    return None;
                }
                Self::Time(i64::from_be_bytes(*time))
            }
            Kind::Inet => Self::Network(Network::from_binary(value, false)?),
            Kind::Cidr => Self::Network(Network::from_binary(value, true)?),
            Kind::Macaddr => Self::Macaddr(value.try_into().ok()?),
        })
    }

    /// Appends it as a value of this kind, which must be one that such values have.
    pub(super) fn write(&self, kind: Kind, format: Format, out: &mut Vec<u8>) -> Option<()> {
        match format {
            Format::Text => self.write_text(kind, out),
            Format::Binary => self.write_binary(kind, out),
        }
    }

    fn write_text(&self, kind: Kind, out: &mut Vec<u8>) -> Option<()> {
        let text = match self {
            Self::Text(text) => {
                if kind == Kind::Name && text.len() > 63 {
                    return None;
                }
                out.extend_from_slice(text);
                return Some(());
            }
            Self::Bytes(bytes) => {
                out.extend_from_slice(b"\\x");
                hex(bytes, out);
                return Some(());
            }
            Self::Uuid(uuid) => {
                for (index, part) in
                    [&uuid[..4], &uuid[4..6], &uuid[6..8], &uuid[8..10], &uuid[10..]]
                        .into_iter()
                        .enumerate()
                {
                    if index > 0 {
                        out.push(b'-');
                    }
                    hex(part, out);
                }
                return Some(());
            }
            Self::Bool(value) => {
                out.push(if *value { b't' } else { b'f' });
                return Some(());
            }
            Self::Int(value) => value.to_string(),
            Self::Float(value) if value.is_infinite() => {
                if *value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
            }
            #[expect(clippy::cast_possible_truncation, reason = "it was read from one")]
            Self::Float(value) if kind == Kind::Float4 => (*value as f32).to_string(),
            Self::Float(value) => value.to_string(),
            Self::Numeric(value) => value.to_text(),
            Self::Date(days) => civil::date_text(*days),
            Self::Timestamp(micros) => civil::timestamp_text(
                *micros,
                if kind == Kind::Timestamptz { Zone::With } else { Zone::Without },
            ),
            Self::Time(micros) => civil::time_text(*micros),
            Self::Timetz(micros, west) => civil::timetz_text(*micros, *west),
            Self::Network(network) => network.to_text(kind == Kind::Cidr),
            Self::Macaddr(mac) => mac.map(|octet| format!("{octet:02x}")).join(":"),
        };
        out.extend_from_slice(text.as_bytes());
        Some(())
    }

    fn write_binary(&self, kind: Kind, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Text(text) => {
                if kind == Kind::Jsonb {
                    out.push(1);
                }
                return self.write_text(kind, out).filter(|()| !text.contains(&0));
            }
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Uuid(uuid) => out.extend_from_slice(uuid),
            Self::Int(value) => match kind {
                Kind::Int2 => out.extend(i16::try_from(*value).ok()?.to_be_bytes()),
                Kind::Int4 => out.extend(i32::try_from(*value).ok()?.to_be_bytes()),
                _ => out.extend(value.to_be_bytes()),
            },
            #[expect(clippy::cast_possible_truncation, reason = "it was read from one")]
            Self::Float(value) if kind == Kind::Float4 => {
                out.extend((*value as f32).to_be_bytes());
            }
            Self::Float(value) => out.extend(value.to_be_bytes()),
            Self::Numeric(value) => value.to_binary(out),
            Self::Bool(value) => out.push((*value).into()),
            Self::Date(days) => out.extend(days.to_be_bytes()),
            Self::Timestamp(micros) => out.extend(micros.to_be_bytes()),
            Self::Time(micros) => {
                out.extend(micros.to_be_bytes());
                if kind == Kind::Interval {
                    out.extend([0; 8]);
                }
            }
            Self::Timetz(micros, west) => {
                out.extend(micros.to_be_bytes());
                out.extend(west.to_be_bytes());
            }
            Self::Network(network) => network.to_binary(kind == Kind::Cidr, out),
            Self::Macaddr(mac) => out.extend_from_slice(mac),
        }
        Some(())
    }

    /// The first instant of its year. Infinity has none, nor has what lies before time begins.
    pub(super) fn year(&self) -> Option<Self> {
        match self {
            Self::Date(days) => civil::year_of_date(*days).map(Self::Date),
            Self::Timestamp(micros) => civil::year_of_timestamp(*micros).map(Self::Timestamp),
            _ => None,
        }
    }
}

/// Without the blanks that do not count.
pub(super) fn unpadded(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &value[..end]
}

/// As character data.
pub(super) fn xml(text: &str) -> Vec<u8> {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").into_bytes()
}

/// Either of the styles of `bytea_output`.
pub(super) fn bytea(text: &[u8]) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix(b"\\x") {
        return unhex(digits);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                out.push(b'\\');
                rest = after;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            (b'\\', _) => return None,
            (byte, _) => out.push(*byte),
        }
    }
    Some(out)
}

/// Appends two digits a byte.
pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(
        bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[digit as usize]),
    );
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| digit.try_into().ok())
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    unhex(&digits)?.try_into().ok()
}
