//! Detectors over values of columns: a value in which something is found is masked as its type
//! allows.

use super::{
    Detectors, Format, Masked, Screens, nested,
    types::{self, Kind, Shape},
    value::Value,
};

/// `pg_type.dat`.
const BYTEA: u32 = 17;

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

impl Screens {
    /// Looks into one value, which is not NULL, of the type with this OID; what was found is added
    /// to `hits`.
    ///
    /// In texts, in JSON's strings and numbers, and in arrays and records of these, what is found is
    /// masked and the rest stays. A value of another type is masked as a whole if something is found
    /// in the text that it is written as. Values of types that are not PostgreSQL's own are taken
    /// for what they look like.
    pub fn screen(
        &self,
        type_oid: u32,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
        hits: &mut Detectors,
    ) -> Screened {
        let begin = out.len();
        let screened = Screen { screens: self, hits }.any(type_oid, format, value, out, 0);
        if screened != Screened::Masked {
            out.truncate(begin);
        }
        screened
    }
}

struct Screen<'a> {
    screens: &'a Screens,
    hits: &'a mut Detectors,
}

impl Screen<'_> {
    fn any(
        &mut self,
        type_oid: u32,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
        depth: u8,
    ) -> Screened {
        if depth > nested::DEEPEST {
            return Screened::Null;
        }
        match (types::shape(type_oid), format) {
            (Some(Shape::Scalar(kind)), _) => self.scalar(type_oid, kind, format, value, out),
            (Some(Shape::Array(element)), Format::Text) => self.nested(|inner| {
                nested::text_array(value, out, |value, out| {
                    inner.element(element, format, value, out, depth)
                })
            }),
            (Some(Shape::Array(element)), Format::Binary) => {
                self.binary_array(value, element, out, depth)
            }
            (Some(Shape::Record), Format::Binary) => self.record(value, out, depth),
            (Some(Shape::Record), Format::Text) => self.like_text(value, out),
            (None, Format::Text) if !types::is_own(type_oid) => self.like_text(value, out),
            (None, Format::Binary) if !types::is_own(type_oid) => self.guessed(value, out, depth),
            (Some(Shape::Range(_)) | None, _) => self.whole(value),
        }
    }

    fn binary_array(
        &mut self,
        value: &[u8],
        element: u32,
        out: &mut Vec<u8>,
        depth: u8,
    ) -> Screened {
        self.nested(|inner| {
            nested::binary_array(value, element, out, |value, out| {
                inner.element(element, Format::Binary, value, out, depth)
            })
        })
    }

    fn record(&mut self, value: &[u8], out: &mut Vec<u8>, depth: u8) -> Screened {
        self.nested(|inner| {
            nested::binary_record(value, out, |oid, value, out| {
                inner.element(oid, Format::Binary, value, out, depth)
            })
        })
    }

    /// A value that others lie in: it is another where one of them is.
    fn nested(&mut self, walk: impl FnOnce(&mut Inner<'_>) -> Option<()>) -> Screened {
        let mut inner = Inner { screens: self.screens, hits: &mut *self.hits, changed: false };
        match walk(&mut inner) {
            Some(()) if inner.changed => Screened::Masked,
            Some(()) => Screened::Clean,
            None => Screened::Null,
        }
    }

    /// Of which only the bytes are known.
    fn whole(&mut self, value: &[u8]) -> Screened {
        let mut found = Vec::new();
        self.screens.detectors().find_into(value, &mut found);
        for one in &found {
            *self.hits = self.hits.with(one.all);
        }
        if found.is_empty() { Screened::Clean } else { Screened::Null }
    }

    /// A value of the database's own type, in binary: an array, a record, or what is written as its
    /// text (enumerations, citext), where it is one in each byte.
    fn guessed(&mut self, value: &[u8], out: &mut Vec<u8>, depth: u8) -> Screened {
        let begin = out.len();
        if let Some(element) = value.get(8..12).and_then(|word| word.try_into().ok()) {
            let array = self.binary_array(value, u32::from_be_bytes(element), out, depth);
            if array != Screened::Null {
                return array;
            }
            out.truncate(begin);
        }
        match self.record(value, out, depth) {
            Screened::Null => out.truncate(begin),
            record => return record,
        }
        if let [1, text @ ..] = value
            && serde_json::from_slice::<serde_json::Value>(text).is_ok()
        {
            return self.json(Kind::Jsonb, Format::Binary, value, out);
        }
        if !value.contains(&0) && std::str::from_utf8(value).is_ok() {
            return self.like_text(value, out);
        }
        self.whole(value)
    }

    /// A value in text of which it is not known how it is built: what is found is masked in it,
    /// where that cannot break it.
    fn like_text(&mut self, value: &[u8], out: &mut Vec<u8>) -> Screened {
        if let Some(digits) = value.strip_prefix(b"\\x")
            && digits.iter().all(u8::is_ascii_hexdigit)
        {
            return self.scalar(BYTEA, Kind::Bytea, Format::Text, value, out);
        }
        if matches!(value.first(), Some(b'{' | b'[' | b'"'))
            && (memchr::memchr(b'\\', value).is_some() || self.screens.finds(value))
            && serde_json::from_slice::<serde_json::Value>(value).is_ok()
        {
            return self.json(Kind::Json, Format::Text, value, out);
        }
        let (is_built, is_list) = match value.first() {
            Some(b'{' | b'[') => (true, true),
            Some(b'(' | b'"') => (true, false),
            _ => (false, false),
        };
        let takes = |with: &[u8]| {
            let is_plain = |byte: &u8| !b"\"'\\,(){}[]".contains(byte) && *byte > b' ';
            !is_built || with.iter().all(is_plain) && !(with.is_empty() && is_list)
        };
        match self.screens.put(value, out, takes) {
            Ok(found) => self.found(found),
            Err(found) => {
                let _ = self.found(found);
                Screened::Null
            }
        }
    }

    fn text(&mut self, value: &[u8], out: &mut Vec<u8>) -> Screened {
        let found = self.screens.text(value, out);
        self.found(found)
    }

    fn found(&mut self, found: Detectors) -> Screened {
        *self.hits = self.hits.with(found);
        if found.is_empty() { Screened::Clean } else { Screened::Masked }
    }

    fn scalar(
        &mut self,
        type_oid: u32,
        kind: Kind,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Screened {
        let detectors = self.screens.detectors();
        let found = match kind {
            Kind::Text | Kind::Bpchar | Kind::Name => return self.text(value, out),
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
            Kind::Xml => detectors.find(value),
            Kind::Bytea => match Value::read(kind, format, value) {
                Some(Value::Bytes(bytes)) => detectors.find(&bytes),
                _ => return Screened::Null,
            },
            Kind::Int8 | Kind::Float8 | Kind::Numeric | Kind::Inet | Kind::Cidr
                if format == Format::Text =>
            {
                detectors.find(value)
            }
            Kind::Int8 | Kind::Float8 | Kind::Numeric | Kind::Inet | Kind::Cidr => {
                let mut text = Vec::new();
                let read = Value::read(kind, format, value)
                    .and_then(|value| value.write(kind, Format::Text, &mut text));
                match read {
                    Some(()) => detectors.find(&text),
                    None => return Screened::Null,
                }
            }
        };
        if found.is_empty() {
            return Screened::Clean;
        }
        let found = found.iter().fold(Detectors::default(), |all, one| all.with(one.all));
        *self.hits = self.hits.with(found);
        let Some((form, key)) = self.screens.whole(found) else { return Screened::Null };
        match form.apply(key, type_oid, format, value, out) {
            Masked::Value => Screened::Masked,
            Masked::Null => Screened::Null,
        }
    }

    /// Strings are looked into as what they say, not as how they are escaped, names of members too.
    fn json(&mut self, kind: Kind, format: Format, value: &[u8], out: &mut Vec<u8>) -> Screened {
        let Some(Value::Text(text)) = Value::read(kind, format, value) else {
            return Screened::Null;
        };
        // Escapes can hide something; without them the text says it all.
        if memchr::memchr(b'\\', &text).is_none() && !self.screens.finds(&text) {
            return Screened::Clean;
        }
        let mut masked = Vec::with_capacity(text.len());
        let Some(found) = self.tokens(&text, &mut masked) else { return Screened::Null };
        *self.hits = self.hits.with(found);
        if found.is_empty() {
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

    /// What was found; `None` where a string is none.
    fn tokens(&self, text: &[u8], out: &mut Vec<u8>) -> Option<Detectors> {
        let mut all = Detectors::default();
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
            let found = string.map(|string| match self.in_hexadecimal(&string) {
                // Bytes, as they are written in JSON: nothing of them stays.
                Some(found) => found,
                None => self.screens.text(string.as_bytes(), &mut masked),
            });
            match found.filter(|found| !found.is_empty()) {
                Some(found) => {
                    all = all.with(found);
                    out.extend(serde_json::to_vec(std::str::from_utf8(&masked).ok()?).ok()?);
                }
                None => out.extend_from_slice(token),
            }
        }
        Some(all)
    }
}

impl Screen<'_> {
    /// What is found in bytes that are written as a text, where something is.
    fn in_hexadecimal(&self, text: &str) -> Option<Detectors> {
        let value = text
            .starts_with("\\x")
            .then(|| Value::read(Kind::Bytea, Format::Text, text.as_bytes()))??;
        let Value::Bytes(bytes) = value else { return None };
        let found = self.screens.detectors().find(&bytes);
        (!found.is_empty())
            .then(|| found.iter().fold(Detectors::default(), |all, one| all.with(one.all)))
    }
}

/// What lies in another value.
struct Inner<'a> {
    screens: &'a Screens,
    hits: &'a mut Detectors,
    changed: bool,
}

impl Inner<'_> {
    fn element(
        &mut self,
        oid: u32,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
        depth: u8,
    ) -> Option<()> {
        let begin = out.len();
        let mut screen = Screen { screens: self.screens, hits: &mut *self.hits };
        match screen.any(oid, format, value, out, depth + 1) {
            Screened::Clean => {
                out.truncate(begin);
                out.extend_from_slice(value);
                Some(())
            }
            Screened::Masked => {
                self.changed = true;
                Some(())
            }
            Screened::Null => {
                self.changed = true;
                None
            }
        }
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
