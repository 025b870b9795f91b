//! Values of which a part is left.

use super::{
    Format, Keep,
    types::Kind,
    value::{Value, unpadded, xml},
};

/// Appends what is left of the value. `None` for types whose values cannot hold asterisks.
pub(super) fn apply(
    keep: Keep,
    kind: Kind,
    format: Format,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    match kind {
        Kind::Text | Kind::Name => text(keep, value, out),
        Kind::Bpchar => {
            let counting = unpadded(value);
            text(keep, counting, out);
            out.extend_from_slice(&value[counting.len()..]);
        }
        // Other JSON than strings has no place for asterisks.
        Kind::Json | Kind::Jsonb => {
            let Value::Text(json) = Value::read(kind, format, value)? else { return None };
            let string: String = serde_json::from_slice(&json).ok()?;
            let mut masked = Vec::with_capacity(string.len());
            text(keep, string.as_bytes(), &mut masked);
            let json = serde_json::to_vec(std::str::from_utf8(&masked).ok()?).ok()?;
            return Value::Text(json.into()).write(kind, format, out);
        }
        Kind::Xml => {
            let mut masked = Vec::with_capacity(value.len());
            text(keep, value, &mut masked);
            out.extend(xml(std::str::from_utf8(&masked).ok()?));
        }
        Kind::Bytea => {
            let Value::Bytes(bytes) = Value::read(kind, format, value)? else { return None };
            let (hidden, kept) = match keep {
                Keep::First(n) | Keep::Last(n) if n >= bytes.len() => (0..bytes.len(), 0..0),
                Keep::First(n) => (n..bytes.len(), 0..n),
                Keep::Last(n) => (0..bytes.len() - n, bytes.len() - n..bytes.len()),
            };
            let mut masked = vec![b'*'; hidden.len()];
            let at = if hidden.start == 0 { masked.len() } else { 0 };
            masked.splice(at..at, bytes[kept].iter().copied());
            return Value::Bytes(masked.into()).write(kind, format, out);
        }
        _ => return None,
    }
    Some(())
}

/// What is not UTF-8 is masked whole, because nobody can tell its characters apart.
fn text(keep: Keep, value: &[u8], out: &mut Vec<u8>) {
    let Ok(text) = std::str::from_utf8(value) else { return stars(value.len(), out) };
    let count = text.chars().count();
    let (Keep::First(kept) | Keep::Last(kept)) = keep;
    if kept >= count {
        return stars(count, out);
    }
    let left = |at| text.char_indices().nth(at).map_or(text.len(), |(index, _)| index);
    match keep {
        Keep::First(kept) => {
            out.extend_from_slice(&value[..left(kept)]);
            stars(count - kept, out);
        }
        Keep::Last(0) => stars(count, out),
        Keep::Last(kept) => {
            stars(count - kept, out);
            let at = text.char_indices().rev().nth(kept - 1).map_or(text.len(), |(index, _)| index);
            out.extend_from_slice(&value[at..]);
        }
    }
}

fn stars(count: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + count, b'*');
}
