//! Arrays, records and ranges: their shape stays, what is in them is masked.
//!
//! Follows `array_out`, `array_send`, `record_send`, `range_out` and `range_send`. What is not written
//! as these write it is NULL.

use super::Format;

/// How deep values may lie in each other.
pub(super) const DEEPEST: u8 = 8;
/// `MAXDIM`.
const DIMENSIONS: u32 = 6;

// What a range says of itself: `rangetypes.h`.
const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

/// Masks one element. `None` is NULL.
type Element<'a> = &'a mut dyn FnMut(&[u8], &mut Vec<u8>) -> Option<()>;

pub(super) fn binary_array(
    value: &[u8],
    element: u32,
    out: &mut Vec<u8>,
    mut mask: impl FnMut(&[u8], &mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let mut rest = value;
    let dimensions = word(&mut rest)?;
    let flags = word(&mut rest)?;
    if dimensions > DIMENSIONS || flags > 1 || word(&mut rest)? != element {
        return None;
    }
    let mut count: u32 = u32::from(dimensions > 0);
    for _ in 0..dimensions {
        count = count.checked_mul(word(&mut rest)?)?;
        word(&mut rest)?;
    }
    let begin = out.len();
    out.extend_from_slice(&value[..value.len() - rest.len()]);
    let mut nulls = false;
    for _ in 0..count {
        nulls |= field(&mut rest, out, &mut mask)?;
    }
    out[begin + 7] = nulls.into();
    rest.is_empty().then_some(())
}

pub(super) fn binary_record(
    value: &[u8],
    out: &mut Vec<u8>,
    mut mask: impl FnMut(u32, &[u8], &mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let mut rest = value;
    let count = word(&mut rest)?;
    out.extend(count.to_be_bytes());
    for _ in 0..count {
        let oid = word(&mut rest)?;
        out.extend(oid.to_be_bytes());
        field(&mut rest, out, &mut |value, out| mask(oid, value, out))?;
    }
    rest.is_empty().then_some(())
}

/// One value with its length. Says whether it is NULL now.
fn field(rest: &mut &[u8], out: &mut Vec<u8>, mask: Element<'_>) -> Option<bool> {
    let length = word(rest)?.cast_signed();
    let begin = out.len();
    out.extend((-1_i32).to_be_bytes());
    if length == -1 {
        return Some(true);
    }
    let (value, after) = rest.split_at_checked(length.try_into().ok()?)?;
    *rest = after;
    if mask(value, out).is_none() {
        out.truncate(begin + 4);
        return Some(true);
    }
    let length = i32::try_from(out.len() - begin - 4).ok()?;
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    Some(false)
}

fn word(rest: &mut &[u8]) -> Option<u32> {
    let (word, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*word))
}

pub(super) fn text_array(
    value: &[u8],
    out: &mut Vec<u8>,
    mut mask: impl FnMut(&[u8], &mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let mut rest = value;
    // Bounds, where they are not the usual ones: [0:2]={…}
    if value.first() == Some(&b'[') {
        let equals = memchr::memchr(b'=', value)?;
        let bounds = &value[..=equals];
        if !bounds.ends_with(b"]=") || !bounds.iter().all(|byte| b"0123456789-+:[]=".contains(byte))
        {
            return None;
        }
        out.extend_from_slice(bounds);
        rest = &value[equals + 1..];
    }
    let mut depth = 0_u32;
    let mut element = Vec::new();
    loop {
        let (first, after) = rest.split_first()?;
        match first {
            b'{' if depth < DIMENSIONS => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b',' if depth > 0 => {}
            b'{' | b'}' | b',' => return None,
            _ if depth == 0 => return None,
            _ => {
                let (after, quoted) = item(rest, b",{}", &mut element)?;
                rest = after;
                if !quoted && element == b"NULL" {
                    out.extend_from_slice(b"NULL");
                } else {
                    let mut masked = Vec::with_capacity(element.len());
                    match mask(&element, &mut masked) {
                        Some(()) => quote(&masked, b"{},\"\\", out),
                        None => out.extend_from_slice(b"NULL"),
                    }
                }
                continue;
            }
        }
        out.push(*first);
        rest = after;
        if depth == 0 {
            return after.is_empty().then_some(());
        }
    }
}

/// Takes one item, with its quotes undone, up to one of these bytes. Says whether it had quotes.
fn item<'a>(text: &'a [u8], ends: &[u8], item: &mut Vec<u8>) -> Option<(&'a [u8], bool)> {
    item.clear();
    let mut quoted = false;
    let mut inside = false;
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        match first {
            b'"' if inside && after.first() == Some(&b'"') => {
                item.push(b'"');
                rest = &after[1..];
                continue;
            }
            b'"' => {
                inside = !inside;
                quoted = true;
            }
            b'\\' => {
                let (escaped, after) = after.split_first()?;
                item.push(*escaped);
                rest = after;
                continue;
            }
            byte if !inside && ends.contains(byte) => return Some((rest, quoted)),
            byte => item.push(*byte),
        }
        rest = after;
    }
    None
}

fn quote(item: &[u8], special: &[u8], out: &mut Vec<u8>) {
    let plain = !item.is_empty()
        && !item.eq_ignore_ascii_case(b"NULL")
        && !item
            .iter()
            .any(|byte| special.contains(byte) || byte.is_ascii_whitespace() || *byte == 0x0b);
    if plain {
        return out.extend_from_slice(item);
    }
    out.push(b'"');
    for byte in item {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Bounds that fall together belong to it both, or it would be empty.
pub(super) fn range(
    format: Format,
    value: &[u8],
    out: &mut Vec<u8>,
    mut mask: impl FnMut(&[u8], &mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    match format {
        Format::Text => text_range(value, out, &mut mask),
        Format::Binary => binary_range(value, out, &mut mask),
    }
}

fn text_range(value: &[u8], out: &mut Vec<u8>, mask: Element<'_>) -> Option<()> {
    if value == b"empty" {
        out.extend_from_slice(value);
        return Some(());
    }
    let (open, rest) = value.split_first().filter(|(open, _)| b"[(".contains(open))?;
    let (mut from, mut to) = (Vec::new(), Vec::new());
    let (rest, _) = item(rest, b",", &mut from)?;
    let (rest, _) = item(rest.get(1..)?, b"])", &mut to)?;
    let [close] = rest else { return None };
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    for (bound, masked) in [(&from, &mut lower), (&to, &mut upper)] {
        if !bound.is_empty() {
            mask(bound, masked)?;
        }
    }
    let same = !lower.is_empty() && lower == upper;
    out.push(if same { b'[' } else { *open });
    let special = b"()[],\"\\";
    if !lower.is_empty() {
        quote(&lower, special, out);
    }
    out.push(b',');
    if !upper.is_empty() {
        quote(&upper, special, out);
    }
    out.push(if same { b']' } else { *close });
    Some(())
}

fn binary_range(value: &[u8], out: &mut Vec<u8>, mask: Element<'_>) -> Option<()> {
    let (flags, mut rest) = value.split_first()?;
    let at = out.len();
    out.push(*flags);
    if flags & !(EMPTY | LOWER_INCLUSIVE | UPPER_INCLUSIVE | LOWER_INFINITE | UPPER_INFINITE) != 0 {
        return None;
    }
    let mut bounds = [at + 1, at + 1, at + 1];
    for (index, infinite) in [LOWER_INFINITE, UPPER_INFINITE].into_iter().enumerate() {
        if flags & (EMPTY | infinite) == 0 && field(&mut rest, out, mask)? {
            return None;
        }
        bounds[index + 1] = out.len();
    }
    let [begin, middle, end] = bounds;
    if middle > begin && out[begin..middle] == out[middle..end] {
        out[at] |= LOWER_INCLUSIVE | UPPER_INCLUSIVE;
    }
    rest.is_empty().then_some(())
}
