//! A record's canonical form, whose hash is the leaf of the tree; documented in `docs/auditors.md`.
//!
//! A JSON object without spaces: `record` with the table's name, then the table's columns in their
//! order, without those that are NULL. Strings are escaped as RFC 8785 (3.2.2.2) says, whole numbers
//! are decimal. What can be erased stands in it by a commitment alone: `content` is the SHA-256, in
//! hexadecimal, of a key of 16 random bytes followed by the canonical form of the content. The key
//! goes with the content, so that nothing can be guessed by what is left.
//!
//! Does not belong here: the tree.

use std::borrow::Cow;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use sha2::{Digest as _, Sha256};

use crate::{
    note::hex,
    table::Table,
    tree::{Hash, leaf_hash},
};

/// A value of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    Integer(i64),
    Text(Cow<'a, str>),
}

/// The key of a record's content.
pub(crate) type ContentKey = [u8; 16];

/// The content of a record, as it stands in the canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// There is none.
    None,
    /// It is there, and this is its key.
    Kept(ContentKey),
    /// It was erased, and this is left of it.
    Erased(Hash),
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// Makes canonical forms; its buffers are used again.
#[derive(Default)]
pub(crate) struct Canonical {
    record: Vec<u8>,
    content: Vec<u8>,
}

impl Canonical {
    /// The leaf of a record. `values` are in the order of the table's columns and content.
    pub(crate) fn leaf(&mut self, table: &Table, values: &[Value<'_>], content: Content) -> Hash {
        leaf_hash(self.record(table, values, content))
    }

    /// The canonical form.
    pub(crate) fn record(
        &mut self,
        table: &Table,
        values: &[Value<'_>],
        content: Content,
    ) -> &[u8] {
        let digest = match content {
            Content::None => None,
            Content::Kept(key) => Some(self.digest(table, values, key)),
            Content::Erased(digest) => Some(digest),
        };
        let out = &mut self.record;
        out.clear();
        out.extend_from_slice(b"{\"record\":\"");
        out.extend_from_slice(table.name.as_bytes());
        out.push(b'"');
        members(out, table.columns, values);
        if let Some(digest) = digest {
            out.extend_from_slice(b",\"content\":\"");
            out.extend_from_slice(hex(&digest).as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
        out
    }

    /// The commitment to a record's content.
    pub(crate) fn digest(&mut self, table: &Table, values: &[Value<'_>], key: ContentKey) -> Hash {
        let form = self.content(table, values);
        Sha256::new_with_prefix(key).chain_update(form).finalize().into()
    }

    /// The canonical form of a record's content.
    pub(crate) fn content(&mut self, table: &Table, values: &[Value<'_>]) -> &[u8] {
        let out = &mut self.content;
        out.clear();
        out.push(b'{');
        members(out, table.content, &values[table.columns.len()..]);
        out.push(b'}');
        if out.get(1) == Some(&b',') {
            out.remove(1);
        }
        out
    }
}

fn members(out: &mut Vec<u8>, names: &[&str], values: &[Value<'_>]) {
    for (name, value) in names.iter().zip(values) {
        if *value == Value::Null {
            continue;
        }
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        match value {
            Value::Integer(number) => {
                out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            }
            Value::Text(text) => string(out, text),
            Value::Null => {}
        }
    }
}

/// RFC 8785, 3.2.2.2.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = 0;
    for (place, byte) in text.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[rest..place]);
        rest = place + 1;
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(hex(&[byte]).as_bytes());
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.extend_from_slice(&text.as_bytes()[rest..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::{EVENT, HOLD_ENDED, INTENT};

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let values = [
            Value::Integer(7),
            Value::Integer(-1),
            Value::Null,
            text("doubt"),
            text("a \"b\" \\ \u{1}\u{8}\t\n\u{c}\r\u{1f} ü \u{2028}"),
        ];
        let form = Canonical::default().record(&EVENT, &values, Content::None).to_vec();
        assert_eq!(
            String::from_utf8(form).expect("text"),
            "{\"record\":\"event\",\"seq\":7,\"at\":-1,\"kind\":\"doubt\",\
             \"detail\":\"a \\\"b\\\" \\\\ \\u0001\\b\\t\\n\\f\\r\\u001f ü \u{2028}\"}"
        );
    }

    #[test]
    fn p7_content_stands_by_its_commitment_and_nothing_else_changes_when_it_is_erased() {
        let mut canonical = Canonical::default();
        let mut values = vec![Value::Null; INTENT.columns.len()];
        values.extend([text("SELECT 1"), Value::Null]);
        let key = [9; 16];
        let digest = canonical.digest(&INTENT, &values, key);
        let expected: Hash = Sha256::digest([&key[..], b"{\"text\":\"SELECT 1\"}"].concat()).into();
        assert_eq!(digest, expected);
        let kept = canonical.record(&INTENT, &values, Content::Kept(key)).to_vec();
        let mut erased = vec![Value::Null; values.len()];
        erased[..INTENT.columns.len()].clone_from_slice(&values[..INTENT.columns.len()]);
        assert_eq!(canonical.record(&INTENT, &erased, Content::Erased(digest)), kept);
        assert_ne!(canonical.record(&INTENT, &values, Content::Kept([8; 16])), kept);
    }

    proptest! {
        /// Any reader of JSON reads what was written, so that no two records have one form.
        #[test]
        fn what_is_written_is_read(detail in any::<String>(), seq in any::<i64>()) {
            let values = [Value::Integer(seq), Value::Integer(1), Value::Integer(2), Value::Null, text(&detail)];
            let form = Canonical::default().record(&HOLD_ENDED, &values, Content::None).to_vec();
            let read: serde_json::Value = serde_json::from_slice(&form).expect("JSON");
            prop_assert_eq!(&read["detail"], &detail);
            prop_assert_eq!(&read["seq"], seq);
        }
    }
}
