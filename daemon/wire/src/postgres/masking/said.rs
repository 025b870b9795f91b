//! What the server says beside rows: errors, notices, notifications, settings, results of calls.

use super::{Became, Counts, Screens};
use crate::postgres::{
    backend,
    frame::{Body, Violation},
    reply,
};

/// `pg_type.dat`.
const BYTEA: u32 = 17;

/// Settings that no statement can set: drivers read them.
const FIXED: [&[u8]; 6] = [
    b"server_version",
    b"server_encoding",
    b"client_encoding",
    b"integer_datetimes",
    b"is_superuser",
    b"in_hot_standby",
];

/// A whole message without what is found in it. `None`: it may pass as it is.
pub(crate) fn without(
    screens: &dyn Screens,
    message: &[u8],
    counts: &mut Counts,
) -> Result<Option<Vec<u8>>, Violation> {
    let tag = message.first().copied().unwrap_or(0);
    match tag {
        b'E' | b'N' => fields(screens, tag, message, counts),
        b'A' => notification(screens, message, counts),
        b'S' => setting(screens, message, counts),
        b'V' => result(screens, message, counts),
        _ => Ok(None),
    }
}

/// Appends a text, and the byte that ends it. Answers whether something was found.
fn put(screens: &dyn Screens, text: &[u8], out: &mut Vec<u8>, counts: &mut Counts) -> bool {
    let begin = out.len();
    let found = screens.text(text, out, counts);
    if found {
        // One that is in a constant would end the text early.
        let with: Vec<u8> = out.drain(begin..).filter(|byte| *byte != 0).collect();
        out.extend(with);
    } else {
        out.extend_from_slice(text);
    }
    out.push(0);
    found
}

fn fields(
    screens: &dyn Screens,
    tag: u8,
    message: &[u8],
    counts: &mut Counts,
) -> Result<Option<Vec<u8>>, Violation> {
    let mut body = Body::of(message);
    let mut out = Vec::new();
    let mut found = false;
    loop {
        let field = body.u8()?;
        out.push(field);
        if field == 0 {
            break;
        }
        found |= put(screens, body.text()?, &mut out, counts);
    }
    body.end()?;
    Ok(found.then(|| reply::message(tag, &out)))
}

fn notification(
    screens: &dyn Screens,
    message: &[u8],
    counts: &mut Counts,
) -> Result<Option<Vec<u8>>, Violation> {
    let mut body = Body::of(message);
    let mut out = body.u32()?.to_be_bytes().to_vec();
    let mut found = false;
    for _ in ["channel", "payload"] {
        found |= put(screens, body.text()?, &mut out, counts);
    }
    body.end()?;
    Ok(found.then(|| reply::message(b'A', &out)))
}

fn setting(
    screens: &dyn Screens,
    message: &[u8],
    counts: &mut Counts,
) -> Result<Option<Vec<u8>>, Violation> {
    let (name, value) = backend::parameter(message)?;
    if FIXED.contains(&name) {
        return Ok(None);
    }
    let mut out = name.to_vec();
    out.push(0);
    let found = put(screens, value, &mut out, counts);
    Ok(found.then(|| reply::message(b'S', &out)))
}

/// `FunctionCallResponse`: only functions of large objects are called, and what they read is bytes,
/// in either format.
fn result(
    screens: &dyn Screens,
    message: &[u8],
    counts: &mut Counts,
) -> Result<Option<Vec<u8>>, Violation> {
    let mut body = Body::of(message);
    let Some(value) = body.value()? else { return Ok(None) };
    body.end()?;
    let mut with = Vec::new();
    let mut became = screens.value(BYTEA, true, value, &mut with, counts);
    if became == Became::Same
        && value.contains(&b'\\')
        && screens.value(BYTEA, false, value, &mut with, counts) != Became::Same
    {
        became = Became::Null;
    }
    let length = match became {
        Became::Same => return Ok(None),
        Became::Value => i32::try_from(with.len()).unwrap_or(-1),
        Became::Null => -1,
    };
    let mut out = length.to_be_bytes().to_vec();
    if length >= 0 {
        out.extend(with);
    }
    Ok(Some(reply::message(b'V', &out)))
}
