//! What is shown in a masked value's place, and where masked values hide in texts.
//!
//! Pure functions of bytes: a PostgreSQL value in either format becomes another value of the same
//! type, or NULL; a text loses what a detector finds in it. What cannot be masked is NULL, never the
//! original. Does not belong here: which columns are masked for whom, where a column comes from,
//! messages, and where the key is kept.

use std::sync::Arc;

pub use detect::{Detector, Detectors, Found};
pub use pseudonym::{Key, ShortKey};
pub use scan::{Scanner, Scanners};
pub use screen::Screened;
pub use screens::{Look, Screens};
use types::{Kind, Shape};
use value::Value;

mod civil;
mod detect;
mod nested;
mod network;
mod numeric;
mod partial;
mod pseudonym;
mod scan;
mod screen;
mod screens;
mod types;
mod value;

/// What stands in a value's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// NULL; in a longer text, nothing.
    Null,
    /// Always the same, where it is a value of the type.
    Constant(Arc<str>),
    /// The beginning or the end, the rest as asterisks. Of texts and bytes only.
    Partial(Keep),
    /// Another value, the same for equal values of a type under one key. Texts begin with this.
    Pseudonym(Arc<str>),
    /// The first instant of its year in UTC. Of dates and timestamps only.
    Year,
}

/// What [`Form::Partial`] leaves, in Unicode scalar values (in bytes, for bytea). A value that is
/// not longer than that is masked whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many at the beginning.
    First(usize),
    /// So many at the end.
    Last(usize),
}

/// How a value is written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As the type's output function writes it.
    Text,
    /// As the type's send function writes it.
    Binary,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Masked {
    /// Another value, which was appended to the output.
    Value,
    /// NULL. Nothing was appended.
    Null,
}

/// A form and its key, as functions here hand it on.
#[derive(Clone, Copy)]
struct Mask<'a> {
    form: &'a Form,
    key: Option<&'a Key>,
}

impl Form {
    /// Masks one value, which is not NULL, of the type with this OID.
    ///
    /// Texts are taken for UTF-8 (or ASCII), as `client_encoding` must be for masking. Dates in text
    /// are read in ISO style; other styles give NULL. Arrays, and records in binary, are masked
    /// element by element and keep their shape. A pseudonym without a key is NULL.
    pub fn apply(
        &self,
        key: Option<&Key>,
        type_oid: u32,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Masked {
        let begin = out.len();
        let mask = Mask { form: self, key };
        if mask.any(type_oid, format, value, out, 0).is_some() {
            return Masked::Value;
        }
        out.truncate(begin);
        Masked::Null
    }

    /// Masks a part of a text. What is NULL for a value is nothing here.
    fn apply_to_part(&self, key: Option<&Key>, part: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        if (Mask { form: self, key }).scalar(Kind::Text, Format::Text, part, out).is_none() {
            out.truncate(begin);
        }
    }
}

impl Mask<'_> {
    /// Appends the masked value, or says `None` for NULL and leaves `out` for the caller to cut.
    fn any(
        self,
        type_oid: u32,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
        depth: u8,
    ) -> Option<()> {
        if *self.form == Form::Null || depth > nested::DEEPEST {
            return None;
        }
        match (types::shape(type_oid)?, format) {
            (Shape::Scalar(kind), _) => self.scalar(kind, format, value, out),
            (Shape::Array(element), Format::Text) => {
                nested::text_array(value, out, |value, out| {
                    self.any(element, format, value, out, depth + 1)
                })
            }
            (Shape::Array(element), Format::Binary) => {
                nested::binary_array(value, element, out, |value, out| {
                    self.any(element, format, value, out, depth + 1)
                })
            }
            (Shape::Record, Format::Binary) => {
                nested::binary_record(value, out, |oid, value, out| {
                    self.any(oid, format, value, out, depth + 1)
                })
            }
            // Only this form keeps the order of the bounds.
            (Shape::Range(bound), _) if *self.form == Form::Year => {
                nested::range(format, value, out, |value, out| {
                    self.scalar(bound, format, value, out)
                })
            }
            // A record's text does not say of which types its fields are.
            (Shape::Range(_) | Shape::Record, _) => None,
        }
    }

    fn scalar(self, kind: Kind, format: Format, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self.form {
            Form::Null => None,
            Form::Constant(text) => Value::of_constant(kind, text)?.write(kind, format, out),
            Form::Partial(keep) => partial::apply(*keep, kind, format, value, out),
            Form::Pseudonym(prefix) => {
                let value = Value::read(kind, format, value)?;
                let value = self.key?.pseudonym(kind, &value, prefix)?;
                value.write(kind, format, out)
            }
            Form::Year => Value::read(kind, format, value)?.year()?.write(kind, format, out),
        }
    }
}

#[cfg(test)]
mod tests;
