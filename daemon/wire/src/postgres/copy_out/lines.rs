//! The text and the CSV format: rows are lines.

use chaperone_model::CopyLayout;

use super::{Broken, Change};
use crate::postgres::masking::Became;

const OTHER_NUMBER: Broken = "a row of COPY with another number of columns";

/// How far the end of a line was looked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seek {
    at: usize,
    quoted: bool,
}

impl Seek {
    /// How long the line at the front is, with its end. `None`: it has not ended. `csv`: an end
    /// within quotes is none.
    pub(super) fn line(&mut self, rest: &[u8], csv: Option<&CopyLayout>) -> Option<usize> {
        let Some(CopyLayout { quote, escape, .. }) = csv else {
            // The text format writes no other line feed as it is.
            let end = rest.get(self.at..)?.iter().position(|byte| *byte == b'\n');
            let Some(end) = end else {
                self.at = rest.len();
                return None;
            };
            let length = self.at + end + 1;
            *self = Self::default();
            return Some(length);
        };
        while let Some(byte) = rest.get(self.at) {
            if self.quoted && byte == escape && escape != quote {
                if self.at + 1 >= rest.len() {
                    return None;
                }
                self.at += 1;
            } else if byte == quote {
                // One that is doubled ends and begins again.
                self.quoted = !self.quoted;
            } else if *byte == b'\n' && !self.quoted {
                let length = self.at + 1;
                *self = Self::default();
                return Some(length);
            }
            self.at += 1;
        }
        None
    }
}

/// Appends a whole line of the text format with other values.
pub(super) fn text(
    layout: &CopyLayout,
    columns: usize,
    line: &[u8],
    out: &mut Vec<u8>,
    change: Change<'_>,
) -> Result<bool, Broken> {
    let line = line.strip_suffix(b"\n").ok_or("a line of COPY that does not end")?;
    if columns == 0 {
        return if line.is_empty() { Ok(false) } else { Err(OTHER_NUMBER) };
    }
    let (mut at, mut column, mut changed) = (0, 0, false);
    let (mut value, mut with) = (Vec::new(), Vec::new());
    loop {
        let begin = at;
        value.clear();
        let mut is_plain = true;
        loop {
            match line.get(at) {
                Some(b'\\') => {
                    let escaped = *line.get(at + 1).ok_or("a line of COPY that ends too early")?;
                    value.push(unescaped(escaped));
                    is_plain = false;
                    at += 2;
                }
                Some(byte) if *byte != layout.delimiter => {
                    value.push(*byte);
                    at += 1;
                }
                _ => break,
            }
        }
        let raw = &line[begin..at];
        let is_null = raw == layout.null.as_bytes();
        with.clear();
        let became = if is_null {
            Became::Same
        } else {
            change(column, if is_plain { raw } else { &value }, &mut with)
        };
        changed |= became != Became::Same;
        match became {
            Became::Same => out.extend_from_slice(raw),
            Became::Null => out.extend_from_slice(layout.null.as_bytes()),
            Became::Value => escape(&with, layout.delimiter, out),
        }
        column += 1;
        if at >= line.len() {
            break;
        }
        out.push(layout.delimiter);
        at += 1;
    }
    out.push(b'\n');
    if column == columns && at == line.len() { Ok(changed) } else { Err(OTHER_NUMBER) }
}

/// What a letter behind a backslash stands for, as COPY writes it.
fn unescaped(byte: u8) -> u8 {
    match byte {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        other => other,
    }
}

fn escape(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    for byte in value {
        let letter = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            byte if *byte == b'\\' || *byte == delimiter => *byte,
            byte => {
                out.push(*byte);
                continue;
            }
        };
        out.extend([b'\\', letter]);
    }
}

/// Appends a whole line of CSV with other values.
pub(super) fn csv(
    layout: &CopyLayout,
    columns: usize,
    line: &[u8],
    out: &mut Vec<u8>,
    change: Change<'_>,
) -> Result<bool, Broken> {
    let line = line.strip_suffix(b"\n").ok_or("a line of COPY that does not end")?;
    if columns == 0 {
        return if line.is_empty() { Ok(false) } else { Err(OTHER_NUMBER) };
    }
    let (mut at, mut column, mut changed) = (0, 0, false);
    let (mut value, mut with) = (Vec::new(), Vec::new());
    loop {
        let begin = at;
        let was_quoted = line.get(at) == Some(&layout.quote);
        if was_quoted {
            at = quoted(layout, line, at + 1, &mut value)?;
        } else {
            at += line[at..]
                .iter()
                .position(|byte| *byte == layout.delimiter)
                .unwrap_or(line.len() - at);
            if line[begin..at].contains(&layout.quote) {
                return Err("a quote within a value of COPY that has none around it");
            }
        }
        let raw = &line[begin..at];
        let is_null = !was_quoted && raw == layout.null.as_bytes();
        with.clear();
        let became = if is_null {
            Became::Same
        } else {
            change(column, if was_quoted { &value } else { raw }, &mut with)
        };
        changed |= became != Became::Same;
        match became {
            Became::Same => out.extend_from_slice(raw),
            Became::Null => out.extend_from_slice(layout.null.as_bytes()),
            Became::Value => quote(layout, &with, out),
        }
        column += 1;
        match line.get(at) {
            None => break,
            Some(byte) if *byte == layout.delimiter => {}
            Some(_) => return Err("something behind a quoted value of COPY"),
        }
        out.push(layout.delimiter);
        at += 1;
    }
    out.push(b'\n');
    if column == columns && at == line.len() { Ok(changed) } else { Err(OTHER_NUMBER) }
}

/// Reads a value up to the quote that ends it, and says where it has ended.
fn quoted(
    layout: &CopyLayout,
    line: &[u8],
    from: usize,
    value: &mut Vec<u8>,
) -> Result<usize, Broken> {
    value.clear();
    let mut at = from;
    loop {
        let byte = *line.get(at).ok_or("a quoted value of COPY that does not end")?;
        let next = line.get(at + 1).copied();
        if byte == layout.escape
            && next.is_some_and(|next| next == layout.quote || next == layout.escape)
        {
            value.extend(next);
            at += 2;
        } else if byte == layout.quote {
            return Ok(at + 1);
        } else {
            value.push(byte);
            at += 1;
        }
    }
}

/// With quotes, whether it needs them or not: what the server wrote has them by its own value, which
/// may be what the statement compares with.
fn quote(layout: &CopyLayout, value: &[u8], out: &mut Vec<u8>) {
    out.push(layout.quote);
    for byte in value {
        if [layout.quote, layout.escape].contains(byte) {
            out.push(layout.escape);
        }
        out.push(*byte);
    }
    out.push(layout.quote);
}
