//! What a person looks for, as words: all of them must stand in a command, several in quotation
//! marks in a row, and one that ends with `*` may go on.
//!
//! Does not belong here: names (`query/search.rs`).

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::document::{Document, words_of};
use crate::AuditError;

/// Words that are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// In FTS5's language, for a table that knows where words stand.
    exactly: String,
    /// The same for one that does not: it finds more.
    roughly: String,
}

/// An FTS5 table of a few documents, with all that the index leaves out.
pub(crate) struct Matcher(Connection);

impl Words {
    /// Reads what a person typed. Letters of either case and with or without accents are the same,
    /// and whatever is neither letter nor digit is a gap: `customer_id` is `"customer id"`.
    ///
    /// # Errors
    /// [`AuditError::NoWords`] where there is no word in it.
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        let matcher = Matcher::new()?;
        let (mut exactly, mut roughly) = (Vec::new(), Vec::new());
        for (phrase, goes_on) in phrases(&words_of(text)) {
            let terms = matcher.terms(&phrase)?;
            let star = if goes_on { "*" } else { "" };
            let quoted: Vec<String> =
                terms.iter().map(|term| format!("\"{}\"", term.replace('"', "\"\""))).collect();
            let Some((end, begin)) = quoted.split_last() else { continue };
            exactly.push(format!("\"{}\"{star}", phrase.replace('"', "\"\"")));
            roughly.extend(begin.iter().cloned());
            roughly.push(format!("{end}{star}"));
        }
        if exactly.is_empty() {
            return Err(AuditError::NoWords(text.into()));
        }
        Ok(Self { exactly: exactly.join(" AND "), roughly: roughly.join(" AND ") })
    }

    pub(crate) fn roughly(&self) -> &str {
        &self.roughly
    }
}

/// What is between quotation marks, or between spaces, and whether a `*` ends it.
fn phrases(text: &str) -> Vec<(String, bool)> {
    let mut phrases = Vec::new();
    for (place, piece) in text.split('"').enumerate() {
        if place % 2 == 1 {
            phrases.push((piece.to_owned(), false));
            continue;
        }
        for word in piece.split_whitespace() {
            match word.strip_suffix('*') {
                // `"two words"*`
                Some("") => phrases.last_mut().into_iter().for_each(|(_, goes_on)| *goes_on = true),
                Some(begin) => phrases.push((begin.to_owned(), true)),
                None => phrases.push((word.to_owned(), false)),
            }
        }
    }
    phrases
}

impl Matcher {
    pub(crate) fn new() -> Result<Self, AuditError> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE VIRTUAL TABLE document USING fts5 (text, content = '', tokenize = 'unicode61');
             CREATE VIRTUAL TABLE term USING fts5vocab (document, 'instance');",
        )?;
        Ok(Self(connection))
    }

    /// A text's words, in order.
    fn terms(&self, text: &str) -> Result<Vec<String>, AuditError> {
        self.insert(1, text)?;
        let mut statement = self.0.prepare_cached("SELECT term FROM term ORDER BY offset")?;
        let terms = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        self.clear()?;
        Ok(terms)
    }

    /// Those of some commands in which the words stand.
    pub(crate) fn matching<'a>(
        &self,
        words: &Words,
        documents: impl Iterator<Item = (i64, &'a Document)>,
    ) -> Result<HashSet<i64>, AuditError> {
        for (id, document) in documents {
            let mut text = String::new();
            for field in &document.fields {
                text.push_str(&words_of(field));
                // A phrase ends with a field.
                text.push_str(" \u{e004} ");
            }
            self.insert(id, &text)?;
        }
        let mut statement =
            self.0.prepare_cached("SELECT rowid FROM document WHERE document MATCH ?")?;
        let found =
            statement.query_map([&words.exactly], |row| row.get(0))?.collect::<Result<_, _>>()?;
        self.clear()?;
        Ok(found)
    }

    fn insert(&self, id: i64, text: &str) -> Result<(), AuditError> {
        self.0
            .prepare_cached("INSERT INTO document (rowid, text) VALUES (?, ?)")?
            .execute(params![id, text])?;
        Ok(())
    }

    fn clear(&self) -> Result<(), AuditError> {
        self.0
            .prepare_cached("INSERT INTO document (document) VALUES ('delete-all')")?
            .execute([])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_a_person_means_them() {
        let words = Words::parse(r#"DELETE customer_id "a b" Ärg*"#).expect("words");
        assert_eq!(words.roughly, r#""delete" AND "customer" AND "id" AND "a" AND "b" AND "arg"*"#);
        assert_eq!(words.exactly, r#""DELETE" AND "customer_id" AND "a b" AND "Ärg"*"#);
        assert!(matches!(Words::parse("% --"), Err(AuditError::NoWords(_))));
        assert!(Words::parse("OR NOT (").is_ok(), "nothing is an operator");
    }
}
