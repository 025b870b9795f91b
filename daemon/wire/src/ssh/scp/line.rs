//! Lines and answers.

/// A peer broke the protocol; the channel cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A line that the protocol does not have, or that does not end.
    #[error("a line of the scp protocol is malformed: {0}")]
    Line(&'static str),
    /// An answer that the protocol does not have, or that does not end.
    #[error("an answer of the scp protocol is malformed: {0}")]
    Answer(&'static str),
    /// The target reports an error which may belong to what was asked, or to what was before it: what
    /// is sent next could be taken for something else than it is.
    #[error("the target reported an error, and it cannot be told what it belongs to")]
    Ambiguous,
}

/// Longest line or answer, its end included: OpenSSH's is 2,048 bytes, and what is longer is cut into
/// two by it.
pub(super) const LINE: usize = 2000;

/// A line of the source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// `C`: a file, its content follows.
    File { mode: u32, size: u64, name: &'a [u8] },
    /// `D`: a folder, what follows is in it.
    Folder { mode: u32, name: &'a [u8] },
    /// `T`: of what is announced next.
    Times { modified: i64, accessed: i64 },
    /// `E`: the folder ends.
    End,
    /// The source could not send something, and goes on.
    Warning(&'a [u8]),
    /// The source gives up.
    Fatal(&'a [u8]),
}

/// Reads a line at the front: with its length, the end included; `None` where more is needed.
pub(super) fn line(bytes: &[u8]) -> Result<Option<(Line<'_>, usize)>, Violation> {
    let Some(end) = end(bytes) else {
        return if bytes.len() < LINE { Ok(None) } else { Err(Violation::Line("it is too long")) };
    };
    let Some((kind, rest)) = bytes.get(..end).and_then(<[u8]>::split_first) else {
        return Err(Violation::Line("it is empty"));
    };
    // scp is written in C: for it the line would end there.
    if rest.contains(&0) {
        return Err(Violation::Line("it holds a NUL byte"));
    }
    let line = match kind {
        b'C' => {
            let (mode, size, name) = announced(rest)?;
            Line::File { mode, size, name }
        }
        b'D' => {
            let (mode, _, name) = announced(rest)?;
            Line::Folder { mode, name }
        }
        b'T' => times(rest)?,
        b'E' if rest.is_empty() => Line::End,
        1 => Line::Warning(rest),
        2 => Line::Fatal(rest),
        _ => return Err(Violation::Line("its type is none that there is")),
    };
    Ok(Some((line, end + 1)))
}

/// An answer of the sink, or what the source says of a content that it has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    Fine,
    /// It goes on with what comes next.
    Failed(&'a [u8]),
    /// It gives up.
    GivesUp(&'a [u8]),
}

/// Reads an answer at the front, with its length; `None` where more is needed.
pub(super) fn answer(bytes: &[u8]) -> Result<Option<(Answer<'_>, usize)>, Violation> {
    let fatal = match bytes.first() {
        None => return Ok(None),
        Some(0) => return Ok(Some((Answer::Fine, 1))),
        Some(1) => false,
        Some(2) => true,
        Some(_) => return Err(Violation::Answer("its first byte is none that there is")),
    };
    let Some(end) = end(bytes) else {
        let long = Violation::Answer("it is too long");
        return if bytes.len() < LINE { Ok(None) } else { Err(long) };
    };
    let words = bytes.get(1..end).unwrap_or_default();
    let answer = if fatal { Answer::GivesUp(words) } else { Answer::Failed(words) };
    Ok(Some((answer, end + 1)))
}

fn end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().take(LINE).position(|byte| *byte == b'\n')
}

/// `0644 12 name`. Stricter than scp: one form of each number.
fn announced(rest: &[u8]) -> Result<(u32, u64, &[u8]), Violation> {
    let mut parts = rest.splitn(3, |byte| *byte == b' ');
    let (Some(mode), Some(size), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Violation::Line("it holds no mode, size and name"));
    };
    if mode.len() != 4 || !mode.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return Err(Violation::Line("its mode is not four octal digits"));
    }
    let mode = mode.iter().fold(0, |mode, digit| mode << 3 | u32::from(digit - b'0'));
    let size = number(size).and_then(|size| u64::try_from(size).ok());
    let size = size.ok_or(Violation::Line("its size is not a number"))?;
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(Violation::Line("its name is none that a file can have"));
    }
    Ok((mode, size, name))
}

/// `1700000000 0 1700000000 0`: seconds and microseconds of the last change and the last access.
fn times(rest: &[u8]) -> Result<Line<'static>, Violation> {
    let parts: Option<Vec<i64>> = rest.split(|byte| *byte == b' ').map(number).collect();
    match parts.as_deref() {
        Some(&[modified, 0..=999_999, accessed, 0..=999_999]) => {
            Ok(Line::Times { modified, accessed })
        }
        _ => Err(Violation::Line("its times are not four numbers")),
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
