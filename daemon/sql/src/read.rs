//! One text, read: what each of its statements is, touches and can do.
//!
//! PostgreSQL's own grammar decides. `walk` gathers what is found; `query`, `change`, `from`,
//! `expression` and `json` look through whatever can stand within a query, `utility`, `settings`,
//! `definition` and `parts` through the other statements. `selective` judges conditions, `literals`
//! and `slots` tell which literals could be others, and `second` lets another reader object. What is
//! not listed is destructive.
//!
//! Does not belong here: what policy says of a reading, and anything that only a catalog can tell.

use std::panic::{AssertUnwindSafe, catch_unwind};

use chaperone_model::Reading;
use pg_query::{DeparseOptions, Error, ParseResult, protobuf::Token};

use crate::template::Slot;

mod change;
mod definition;
mod expression;
mod from;
pub(crate) mod functions;
mod json;
mod kinds;
mod literals;
pub(crate) mod names;
mod parts;
mod query;
mod scope;
mod second;
mod selective;
mod settings;
mod slots;
mod statement;
mod utility;
mod walk;

pub(crate) use statement::makes_table;

#[cfg(test)]
mod named;
#[cfg(test)]
mod tests;

/// Longest text that is read, in bytes.
pub const LONGEST: usize = 256 << 10;
/// Comments within comments that are read: more take PostgreSQL's lexer seconds.
const DEEPEST_COMMENT: usize = 64;
/// Characters of PostgreSQL's own message that a reason keeps.
const MESSAGE: usize = 160;

/// Reads a text as PostgreSQL does with `standard_conforming_strings` on and in UTF-8.
pub fn read(text: &str) -> Reading {
    match parse(text) {
        Ok(parsed) => statement::all(text, &parsed.protobuf).0,
        Err(why) => Reading::unreadable(why),
    }
}

/// As [`read`], with the places of those literals that could be others and the reading the same;
/// `None` where that cannot be said.
pub fn read_with_slots(text: &str) -> (Reading, Option<Vec<Slot>>) {
    match parse(text) {
        Ok(parsed) => {
            let (reading, literals) = statement::all(text, &parsed.protobuf);
            let slots = if slots::may_be_reused(&reading, &parsed.protobuf) {
                slots::of(text, &literals)
            } else {
                None
            };
            (reading, slots)
        }
        Err(why) => (Reading::unreadable(why), None),
    }
}

/// The statement laid out for a person, by PostgreSQL's own deparser; `None` where it cannot be.
pub fn lay_out(text: &str) -> Option<String> {
    let parsed = parse(text).ok()?;
    let options = DeparseOptions { pretty_print: true, ..DeparseOptions::default() };
    // It panics on what it does not know.
    catch_unwind(AssertUnwindSafe(|| parsed.protobuf.deparse(options).ok())).ok().flatten()
}

/// The text with numbered parameters in place of its values, as PostgreSQL numbers statements in its
/// own statistics; `None` where a value, or a comment that may hold one, would be left.
pub fn without_values(text: &str) -> Option<String> {
    parse(text).ok()?;
    let normalized = catch_unwind(|| pg_query::normalize(text).ok()).ok().flatten()?;
    let scanned = catch_unwind(|| pg_query::scan(&normalized).ok()).ok().flatten()?;
    let values = [
        Token::Sconst,
        Token::Usconst,
        Token::Bconst,
        Token::Xconst,
        Token::Fconst,
        Token::Iconst,
        Token::SqlComment,
        Token::CComment,
    ];
    let mut tokens = scanned.tokens.iter();
    let left = tokens.any(|token| values.iter().any(|value| token.token == *value as i32));
    (!left).then_some(normalized)
}

/// PostgreSQL's tree of a text, or words that say why there is none.
pub(crate) fn parse(text: &str) -> Result<ParseResult, String> {
    if text.len() > LONGEST {
        return Err(format!("it is longer than {} KiB", LONGEST >> 10));
    }
    if text.contains('\0') {
        return Err("it holds a NUL".into());
    }
    if comments_nest_deeper(text, DEEPEST_COMMENT) {
        return Err("its comments are nested too deep".into());
    }
    // The crate gathers the tables of the tree on the way, and panics where it meets what it does
    // not expect.
    match catch_unwind(|| pg_query::parse(text, 0)) {
        Ok(Ok(parsed)) => Ok(parsed),
        Ok(Err(Error::Parse(message))) => {
            Err(format!("PostgreSQL cannot read it: {}", shortened(&message)))
        }
        Ok(Err(Error::Decode(error))) if error.to_string().contains("recursion limit") => {
            Err("it is nested too deep".into())
        }
        Ok(Err(error)) => {
            Err(format!("its tree cannot be read: {}", shortened(&error.to_string())))
        }
        Err(_) => Err("its tree is not what it should be".into()),
    }
}

/// Whether `/*` stands within more than so many others. Strings are counted as well: the answer may
/// be yes where it need not be.
fn comments_nest_deeper(text: &str, most: usize) -> bool {
    let (mut depth, mut rest) = (0_usize, text.as_bytes());
    loop {
        match rest {
            [b'/', b'*', behind @ ..] => {
                depth += 1;
                if depth > most {
                    return true;
                }
                rest = behind;
            }
            [b'*', b'/', behind @ ..] => {
                depth = depth.saturating_sub(1);
                rest = behind;
            }
            [_, behind @ ..] => rest = behind,
            [] => return false,
        }
    }
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}
