//! The binary format.

use super::{Broken, Change};
use crate::postgres::masking::Became;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Behind the last row.
pub(super) const TRAILER: &[u8] = &[0xff, 0xff];
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// How long what stands before the rows is.
pub(super) fn head(rest: &[u8]) -> Result<Option<usize>, Broken> {
    let known = rest.len().min(SIGNATURE.len());
    if rest[..known] != SIGNATURE[..known] {
        return Err("COPY data that does not begin as its format does");
    }
    // Flags, and the length of what may follow.
    let Some(word) = word(rest, SIGNATURE.len() + 4) else { return Ok(None) };
    let more = usize::try_from(word).map_err(|_| "COPY data with a header of a negative length")?;
    let length = SIGNATURE.len() + 8 + more;
    Ok((rest.len() >= length).then_some(length))
}

/// How long the row at the front is.
pub(super) fn row(rest: &[u8], columns: usize) -> Result<Option<usize>, Broken> {
    let Some(count) = rest.first_chunk() else { return Ok(None) };
    match i16::from_be_bytes(*count) {
        -1 => return Ok(Some(TRAILER.len())),
        count if usize::try_from(count) == Ok(columns) => {}
        _ => return Err("a row of COPY with another number of columns"),
    }
    let mut at = 2;
    for _ in 0..columns {
        let Some(length) = word(rest, at) else { return Ok(None) };
        at += 4;
        if length != -1 {
            at += usize::try_from(length).map_err(|_| "a value of COPY of a negative length")?;
        }
    }
    Ok((rest.len() >= at).then_some(at))
}

/// Appends a whole row with other values.
pub(super) fn change(row: &[u8], out: &mut Vec<u8>, change: Change<'_>) -> Result<bool, Broken> {
    let cut = "a row of COPY that ends too early";
    let mut changed = false;
    let (count, mut rest) = row.split_at_checked(2).ok_or(cut)?;
    out.extend_from_slice(count);
    let mut column = 0;
    while let Some((length, after)) = rest.split_first_chunk() {
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            out.extend(NULL);
            (rest, column) = (after, column + 1);
            continue;
        };
        let (value, after) = after.split_at_checked(length).ok_or(cut)?;
        let mark = out.len();
        out.extend(NULL);
        let begin = out.len();
        match change(column, value, out) {
            Became::Same => out.extend_from_slice(value),
            Became::Value => changed = true,
            Became::Null => {
                changed = true;
                (rest, column) = (after, column + 1);
                continue;
            }
        }
        let length = i32::try_from(out.len() - begin).map_err(|_| "a value that is too long")?;
        out[mark..begin].copy_from_slice(&length.to_be_bytes());
        (rest, column) = (after, column + 1);
    }
    if rest.is_empty() { Ok(changed) } else { Err(cut) }
}

fn word(rest: &[u8], at: usize) -> Option<i32> {
    rest.get(at..)?.first_chunk().map(|chunk| i32::from_be_bytes(*chunk))
}
