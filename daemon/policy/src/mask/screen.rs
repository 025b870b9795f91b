//! Detectors over values of columns: a value in which something is found is masked as its type
//! allows.

use super::{
    Detectors, Form, Format, Key, Masked, nested,
    types::{self, Kind, Shape},
    value::Value,
};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Screened {
    /// Nothing was found, nothing was appended: the value may go as it is.
    Clean,
    /// The value that was appended goes in its place.
    Masked,
    /// NULL goes in its place. Nothing was appended.
    Null,
}

impl Detectors {
    /// Looks into one value, which is not NULL, of the type with this OID.
    ///
    /// In texts, in JSON's strings and numbers, and in arrays of these, what is found is masked and
    /// the rest stays. A value of another type is masked as a whole if something is found in the text
    /// that it is written as. In binary values of types that are not known nothing can be found but
    /// what stands in them as text.
    pub fn screen(
        self,
        form: &Form,
        key: Option<&Key>,
        type_oid: u32,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Screened {
        let begin = out.len();
        let screened = Screen { detectors: self, form, key }.any(type_oid, format, value, out, 0);
        if screened != Screened::Masked {
            out.truncate(begin);
        }
        screened
    }
}

#[derive(Clone, Copy)]
struct Screen<'a> {
    detectors: Detectors,
    form: &'a Form,
    key: Option<&'a Key>,
}

impl Screen<'_> {
    fn any(
        self,
        type_oid: u32,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
        depth: u8,
    ) -> Screened {
        if depth > nested::DEEPEST {
            return Screened::Null;
        }
        let mut changed = false;
        let mut element = |oid, value: &[u8], out: &mut Vec<u8>| {
            let begin = out.len();
            match self.any(oid, format, value, out, depth + 1) {
                Screened::Clean => {
                    out.truncate(begin);
                    out.extend_from_slice(value);
                    return Some(());
                }
                Screened::Masked => changed = true,
                Screened::Null => {
                    changed = true;
                    return None;
                }
            }
            Some(())
        };
        let done = match (types::shape(type_oid), format) {
            (Some(Shape::Scalar(kind)), _) => {
                return self.scalar(type_oid, kind, format, value, out);
            }
            (Some(Shape::Array(oid)), Format::Text) => {
                nested::text_array(value, out, |value, out| element(oid, value, out))
            }
            (Some(Shape::Array(oid)), Format::Binary) => {
                nested::binary_array(value, oid, out, |value, out| element(oid, value, out))
            }
            (Some(Shape::Record), Format::Binary) => {
                nested::binary_record(value, out, |oid, value, out| element(oid, value, out))
            }
            _ => return self.whole(value),
        };
        match done {
            Some(()) if changed => Screened::Masked,
            Some(()) => Screened::Clean,
            None => Screened::Null,
        }
    }

    /// Of which only the bytes are known.
    fn whole(self, value: &[u8]) -> Screened {
        if self.detectors.find(value).is_empty() { Screened::Clean } else { Screened::Null }
    }

    fn scalar(
        self,
        type_oid: u32,
        kind: Kind,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Screened {
        let found = match kind {
            Kind::Text | Kind::Bpchar | Kind::Name => {
                return self.text(value, out);
            }
            Kind::Json | Kind::Jsonb => return self.json(kind, format, value, out),
            // What they are written as is nothing that a detector knows.
            Kind::Bool
            | Kind::Int2
            | Kind::Int4
            | Kind::Float4
            | Kind::Date
            | Kind::Timestamp
            | Kind::Timestamptz
            | Kind::Time
            | Kind::Timetz
            | Kind::Interval
            | Kind::Uuid
            | Kind::Macaddr => return Screened::Clean,
            Kind::Xml => !self.detectors.find(value).is_empty(),
            Kind::Bytea => match Value::read(kind, format, value) {
                Some(Value::Bytes(bytes)) => !self.detectors.find(&bytes).is_empty(),
                _ => return Screened::Null,
            },
            Kind::Int8 | Kind::Float8 | Kind::Numeric | Kind::Inet | Kind::Cidr => {
                let mut text = Vec::new();
                let read = Value::read(kind, format, value)
                    .and_then(|value| value.write(kind, Format::Text, &mut text));
                match read {
                    Some(()) => !self.detectors.find(&text).is_empty(),
                    None => return Screened::Null,
                }
            }
        };
        if !found {
            return Screened::Clean;
        }
        match self.form.apply(self.key, type_oid, format, value, out) {
            Masked::Value => Screened::Masked,
            Masked::Null => Screened::Null,
        }
    }

    fn text(self, value: &[u8], out: &mut Vec<u8>) -> Screened {
        match self.detectors.mask(self.form, self.key, value, out) {
            0 => Screened::Clean,
            _ => Screened::Masked,
        }
    }

    /// Strings are looked into as what they say, not as how they are escaped, names of members too.
    fn json(self, kind: Kind, format: Format, value: &[u8], out: &mut Vec<u8>) -> Screened {
        let Some(Value::Text(text)) = Value::read(kind, format, value) else {
            return Screened::Null;
        };
        // Escapes can hide something; without them the text says it all.
        if memchr::memchr(b'\\', &text).is_none() && self.detectors.find(&text).is_empty() {
            return Screened::Clean;
        }
        let mut masked = Vec::with_capacity(text.len());
        let Some(changed) = self.tokens(&text, &mut masked) else { return Screened::Null };
        if !changed {
            return Screened::Clean;
        }
        // Between its tokens nothing was checked.
        if serde_json::from_slice::<serde_json::Value>(&masked).is_err() {
            return Screened::Null;
        }
        match Value::Text(masked.into()).write(kind, format, out) {
            Some(()) => Screened::Masked,
            None => Screened::Null,
        }
    }

    /// Whether something was masked; `None` where a string is none.
    fn tokens(self, text: &[u8], out: &mut Vec<u8>) -> Option<bool> {
        let mut changed = false;
        let mut rest = text;
        while let Some(first) = rest.first() {
            let length = match first {
                b'"' => string_length(rest)?,
                b'-' | b'0'..=b'9' => rest
                    .iter()
                    .position(|byte| {
                        !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
                    })
                    .unwrap_or(rest.len()),
                _ => 1,
            };
            let (token, after) = rest.split_at(length);
            rest = after;
            let string: Option<String> = match first {
                b'"' => Some(serde_json::from_slice(token).ok()?),
                b'-' | b'0'..=b'9' => Some(std::str::from_utf8(token).ok()?.to_owned()),
                _ => None,
            };
            let mut masked = Vec::new();
            let hit = string.is_some_and(|string| {
                self.detectors.mask(self.form, self.key, string.as_bytes(), &mut masked) > 0
            });
            if hit {
                changed = true;
                out.extend(serde_json::to_vec(std::str::from_utf8(&masked).ok()?).ok()?);
            } else {
                out.extend_from_slice(token);
            }
        }
        Some(changed)
    }
}

fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}
