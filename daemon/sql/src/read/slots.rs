//! Which literals of a text could be others and the text be read the same, cut as PostgreSQL's own
//! lexer cuts them.

use std::collections::BTreeSet;

use chaperone_model::{Reading, Rung};
use pg_query::{
    NodeEnum,
    protobuf::{ParseResult, ScanToken, Token},
};

use super::literals::Literals;
use crate::template::{Slot, SlotKind, is_number, is_string};

/// Whether a reading may be that of other texts: of queries and changes alone, where literals are
/// values and nothing else.
pub(super) fn may_be_reused(reading: &Reading, parsed: &ParseResult) -> bool {
    let is_query = |node: &NodeEnum| {
        matches!(
            node,
            NodeEnum::SelectStmt(_)
                | NodeEnum::InsertStmt(_)
                | NodeEnum::UpdateStmt(_)
                | NodeEnum::DeleteStmt(_)
                | NodeEnum::MergeStmt(_)
        )
    };
    reading.disagreement.is_none()
        && reading.rung() < Rung::Forbidden
        && !parsed.stmts.is_empty()
        && parsed.stmts.iter().all(|statement| {
            statement.stmt.as_ref().and_then(|node| node.node.as_ref()).is_some_and(is_query)
        })
}

/// The slots of a text, in order. A literal that the reading depends on is none.
pub(super) fn of(text: &str, literals: &[Literals]) -> Option<Vec<Slot>> {
    let tokens = pg_query::scan(text).ok()?.tokens;
    let is = |token: &ScanToken, kind: Token| token.token == kind as i32;
    // The literal behind UESCAPE decides what names are.
    if tokens.iter().any(|token| is(token, Token::Uescape) || is(token, Token::Uident)) {
        return None;
    }
    // A sign stands before its number, a type may stand before its string: the literal that is meant
    // is the first from the place on.
    let is_literal = |token: &&ScanToken| is(token, Token::Sconst) || is(token, Token::Iconst);
    let starts: BTreeSet<i32> = tokens.iter().filter(is_literal).map(|token| token.start).collect();
    let depended_on: BTreeSet<i32> = literals
        .iter()
        .flat_map(Literals::looked_at)
        .filter_map(|place| starts.range(*place..).next().copied())
        .collect();

    let bytes = text.as_bytes();
    let mut slots = Vec::new();
    for token in &tokens {
        let (start, end) = (usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?);
        let literal = bytes.get(start..end)?;
        let kind = if is(token, Token::Iconst) && is_number(literal) {
            SlotKind::Number
        } else if is(token, Token::Sconst) && is_string(literal) {
            SlotKind::String
        } else {
            continue;
        };
        let before = start.checked_sub(1).and_then(|before| bytes.get(before));
        let joined = [before, bytes.get(end)].into_iter().flatten().any(|byte| joins(*byte));
        if !joined && !depended_on.contains(&token.start) {
            slots.push(Slot {
                start: u32::try_from(start).ok()?,
                end: u32::try_from(end).ok()?,
                kind,
            });
        }
    }
    Some(slots)
}

/// Whether a byte beside a literal could be taken together with it.
fn joins(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.$'\"&".contains(&byte) || !byte.is_ascii()
}
