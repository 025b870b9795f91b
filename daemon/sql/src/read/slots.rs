//! Which literals of a text could be others, as PostgreSQL's own lexer cuts them.

use pg_query::protobuf::Token;

use crate::template::{Slot, SlotKind, is_number, is_string};

/// The slots of a text, in order; `None` where it cannot be cut.
pub(super) fn of(text: &str) -> Option<Vec<Slot>> {
    let tokens = pg_query::scan(text).ok()?.tokens;
    let bytes = text.as_bytes();
    let mut slots = Vec::new();
    for token in tokens {
        let (start, end) = (usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?);
        let inside = bytes.get(start..end)?;
        let kind = match Token::try_from(token.token) {
            Ok(Token::Sconst) if is_string(inside) => SlotKind::String,
            Ok(Token::Iconst) if is_number(inside) => SlotKind::Number,
            _ => continue,
        };
        // Nothing beside it could be taken together with it.
        let joins = |byte: Option<&u8>| {
            byte.is_some_and(|b| {
                b.is_ascii_alphanumeric() || b"_.$'\"&".contains(b) || !b.is_ascii()
            })
        };
        if joins(start.checked_sub(1).and_then(|before| bytes.get(before))) || joins(bytes.get(end))
        {
            continue;
        }
        slots.push(Slot { start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()?, kind });
    }
    Some(slots)
}
