//! One text, read by PostgreSQL's own grammar, and by a second reader that may only make it stricter.
//!
//! A pure function; it runs in a process that can be lost (`sandbox`). What is not known to be
//! harmless is destructive: only node types and functions that are listed are anything less.

use chaperone_model::{Reading, Rung};

use crate::template::Slot;

mod bounds;
mod functions;
mod second;
mod slots;
mod statement;
mod walk;

/// Longest text that is read, in bytes.
pub const LONGEST: usize = 256 << 10;
/// Reads a text as PostgreSQL does with `standard_conforming_strings` on and in UTF-8.
pub fn read(text: &str) -> Reading {
    read_with_slots(text).0
}

/// As [`read`], with the literals that could be others without anything else being read: `None`
/// where there may be none of that kind.
pub fn read_with_slots(text: &str) -> (Reading, Option<Vec<Slot>>) {
    match parse(text) {
        Ok(parsed) => {
            let (mut reading, literal) = statement::read(&parsed.protobuf);
            second::compare(text, &mut reading);
            // A slot where the rung is at its worst brings nothing.
            let reusable =
                !literal && reading.disagreement.is_none() && reading.rung() < Rung::Forbidden;
            let slots = reusable.then(|| slots::of(text)).flatten();
            (reading, slots)
        }
        Err(why) => (Reading::unreadable(why), None),
    }
}

/// The statement laid out for a person, by PostgreSQL's own deparser.
pub fn lay_out(text: &str) -> Option<String> {
    let parsed = parse(text).ok()?;
    let options = pg_query::DeparseOptions {
        pretty_print: true,
        max_line_length: 80,
        ..pg_query::DeparseOptions::default()
    };
    std::panic::catch_unwind(|| pg_query::deparse(&parsed.protobuf, options).ok()).ok().flatten()
}

/// PostgreSQL's tree, or why there is none.
fn parse(text: &str) -> Result<pg_query::ParseResult, String> {
    if text.len() > LONGEST {
        return Err(format!("it is longer than {} KiB", LONGEST >> 10));
    }
    if text.contains('\0') {
        return Err("it holds a NUL".into());
    }
    // The crate looks for tables on the way, and panics where it meets what it does not expect.
    let parsed = std::panic::catch_unwind(|| pg_query::parse(text, 0));
    match parsed {
        Ok(Ok(parsed)) => Ok(parsed),
        Ok(Err(pg_query::Error::Parse(message))) => {
            Err(format!("PostgreSQL's grammar refuses it ({})", short(&message)))
        }
        Ok(Err(error)) => Err(format!("its tree cannot be read ({})", short(&error.to_string()))),
        Err(_) => Err("its tree cannot be read".into()),
    }
}

fn short(message: &str) -> String {
    let mut short: String = message.chars().take(120).collect();
    if short.len() < message.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
