//! Texts that differ in their literals alone, and have one reading.
//!
//! A template is a text that was read, and its slots: the literals in it as PostgreSQL's own lexer
//! cut them. A text is of the template where every byte outside the slots is the same, and each slot
//! holds a literal of the same plain form. Then PostgreSQL cuts both into the same tokens, but for
//! the slots' values, and so builds the same tree, but for the constants' values, of which a reading
//! with slots depends on none (`read` gives slots only then).
//!
//! Why the same tokens (PostgreSQL's `src/backend/parser/scan.l`, with `standard_conforming_strings`
//! on and in UTF-8: elsewhere the session is ended). The lexer is deterministic, takes the longest
//! match, and forgets everything at the end of a token. So it is enough that no token before a slot
//! can run into it, that the slot is one token of one kind, and that it ends where it ends here.
//!
//! - *Into it.* A slot was the start of a token. A string's first byte is `'` in every text. A
//!   number's is a digit: what a digit could continue is a name (`t1`), a parameter (`$1`), a number
//!   (`1_000`, `0x10`, `1e5`, `.5`), so the byte before a slot is none of `glues`. That also rules
//!   out `E''`, `B''`, `X''`, `N''` and `U&''`. An operator takes neither a quote nor a digit.
//! - *One token.* A number is one to nine decimal digits, which is an integer that fits 32 bits,
//!   always `ICONST`. A string is `'`, then printable ASCII without `'` and `\`, then `'`: whatever
//!   else stands in it (`--`, `/*`, `;`, `$$`) is inside for the lexer.
//! - *Its end.* The byte behind is the same in every text and none of `glues`: not `'`, which
//!   would double the quote; not what continues a number. A string that is continued on another line
//!   (`'a'⏎'b'`) is one token with quotes inside, so it was no slot, and whether the lexer sees one
//!   is decided by the bytes between and the second quote, which are the same.
//!
//! Beyond the lexer, one rule looks into a string before there is a tree: `UESCAPE '!'` says how the
//! identifier before it is written. A text with that word makes no template. (`float(60)` is refused
//! by the grammar for its value: then the server refuses it, too.) The second reader
//! (`sqlparser`) knows comments less well: a text with one, but for one at its start, makes none
//! either, so that its opinion is not reused where it may differ.
//!
//! Does not belong here: which literals are slots (`read`), and keeping templates (`cache`).

use std::iter;

use serde::{Deserialize, Serialize};

/// Digits that a number in a slot has at most: any such number fits the grammar's 32 bits.
const DIGITS_MOST: usize = 9;

/// The longest text that is made a template: longer ones are seldom sent again in the same form.
pub(crate) const TEXT_MOST: usize = 16 << 10;

/// A literal whose value does not matter for the reading of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Where it begins, in bytes.
    pub start: u32,
    /// Where it has ended.
    pub end: u32,
    /// What may stand there.
    pub kind: SlotKind,
}

/// What may stand in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotKind {
    /// One to nine decimal digits.
    Number,
    /// Printable ASCII without `'` and `\`, in single quotes.
    String,
}

/// Whether this is a whole literal that a number's slot may hold.
pub(crate) fn is_number(literal: &[u8]) -> bool {
    literal_at(literal, SlotKind::Number) == Some(literal.len())
}

/// Whether this is a whole literal that a string's slot may hold.
pub(crate) fn is_string(literal: &[u8]) -> bool {
    literal_at(literal, SlotKind::String) == Some(literal.len())
}

/// A text of which others may differ in slots.
#[derive(Debug)]
pub(crate) struct Template {
    text: Box<str>,
    slots: Box<[Slot]>,
}

impl Template {
    /// One of a text and the slots that were found in it, in order. Slots are tried again here: those
    /// that do not hold what this module's argument needs are left out. None where no slot is left,
    /// or the text is one of those that make none.
    pub(crate) fn new(text: &str, slots: &[Slot]) -> Option<Self> {
        if text.len() > TEXT_MOST {
            return None;
        }
        let bytes = text.as_bytes();
        let mut kept: Vec<Slot> = Vec::with_capacity(slots.len());
        for slot in slots {
            let (start, end) = (slot.start as usize, slot.end as usize);
            if start < kept.last().map_or(0, |last| last.end as usize) {
                return None;
            }
            let literal = bytes.get(start..end)?;
            let whole = match slot.kind {
                SlotKind::Number => is_number(literal),
                SlotKind::String => is_string(literal),
            };
            if whole && !glued(bytes, start, end) {
                kept.push(*slot);
            }
        }
        let template = Self { text: text.into(), slots: kept.into() };
        (!template.slots.is_empty() && template.is_plain()).then_some(template)
    }

    /// Whether a text differs from this one in its slots alone.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let (own, text) = (self.text.as_bytes(), text.as_bytes());
        let (mut at, mut rest) = (0, text);
        for slot in &self.slots {
            let Some(behind) = rest.strip_prefix(&own[at..slot.start as usize]) else {
                return false;
            };
            // It takes all that could belong to the literal, and what is behind must be the same: so
            // there is one way only.
            let Some(length) = literal_at(behind, slot.kind) else { return false };
            (at, rest) = (slot.end as usize, &behind[length..]);
        }
        rest == &own[at..]
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// In bytes of memory.
    pub(crate) fn size(&self) -> usize {
        self.text.len() + size_of_val(&*self.slots)
    }

    /// Whether nothing outside its slots makes more of a literal, or may be read differently by the
    /// two readers.
    fn is_plain(&self) -> bool {
        let start = behind_leading_comment(&self.text);
        let starts = self.slots.iter().map(|slot| slot.start as usize);
        let ends = self.slots.iter().map(|slot| slot.end as usize);
        let fixed = iter::once(0).chain(ends).zip(starts.chain(iter::once(self.text.len())));
        fixed.into_iter().all(|(from, to)| {
            let fixed = &self.text.as_bytes()[from.max(start).min(to)..to];
            let holds =
                |word: &[u8]| fixed.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
            !holds(b"--") && !holds(b"/*") && !holds(b"uescape")
        })
    }
}

/// Writes what is left of a text when all that could be a slot is a mark. Texts of one template have,
/// as a rule, one skeleton. It is a hint for finding a template, and says nothing for sure.
pub(crate) fn skeleton(text: &str, skeleton: &mut Vec<u8>) {
    skeleton.clear();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        // Plain bytes go over in one piece.
        let plain = rest
            .iter()
            .position(|byte| *byte == b'\'' || byte.is_ascii_digit())
            .unwrap_or(rest.len());
        skeleton.extend_from_slice(&rest[..plain]);
        at += plain;
        let rest = &rest[plain..];
        let kind = match rest.first() {
            Some(b'\'') => SlotKind::String,
            Some(_) => SlotKind::Number,
            None => break,
        };
        let mark = match kind {
            SlotKind::String => 1,
            SlotKind::Number => 2,
        };
        match literal_at(rest, kind) {
            Some(length) if !glued(bytes, at, at + length) => {
                skeleton.push(mark);
                at += length;
            }
            _ => {
                let length = match kind {
                    SlotKind::String => to_next_quote(rest),
                    SlotKind::Number => digits(rest),
                };
                skeleton.extend_from_slice(&rest[..length]);
                at += length;
            }
        }
    }
}

/// How many bytes there are from one quote to the next, with both: in most texts a whole string, so
/// that what comes behind is not taken for the inside of one.
fn to_next_quote(bytes: &[u8]) -> usize {
    let next = bytes.iter().skip(1).position(|byte| *byte == b'\'');
    next.map_or(bytes.len(), |next| next + 2)
}

/// How many bytes the literal takes that stands at the start of these.
fn literal_at(bytes: &[u8], kind: SlotKind) -> Option<usize> {
    match kind {
        SlotKind::Number => Some(digits(bytes)).filter(|count| (1..=DIGITS_MOST).contains(count)),
        SlotKind::String => {
            let inside = bytes.strip_prefix(b"'")?;
            let end = inside.iter().position(|byte| !is_inside(*byte))?;
            (inside[end] == b'\'').then_some(end + 2)
        }
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Whether a byte may stand in a string of a slot.
fn is_inside(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'\'' && byte != b'\\'
}

/// Whether what stands around these bytes could be of one token with them.
fn glued(bytes: &[u8], start: usize, end: usize) -> bool {
    let before = start.checked_sub(1).and_then(|before| bytes.get(before));
    before.is_some_and(|byte| glues(*byte)) || bytes.get(end).is_some_and(|byte| glues(*byte))
}

/// Whether a byte next to a literal could be of one token with it. More than must be: it costs a trip.
fn glues(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || !byte.is_ascii()
        || matches!(byte, b'_' | b'.' | b'$' | b'\'' | b'"' | b'&' | b'\\')
}

/// Where a text begins behind one comment at its start, in which no other begins: those that
/// libraries put there to say who asks.
fn behind_leading_comment(text: &str) -> usize {
    let begun = text.trim_ascii_start();
    let Some(inside) = begun.strip_prefix("/*") else { return 0 };
    match inside.find("*/") {
        // A mark that reaches over the start, as in `/*/*`, counts as well.
        Some(end) if !inside[..end].contains("/*") && !inside.starts_with('/') => {
            text.len() - begun.len() + 2 + end + 2
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
