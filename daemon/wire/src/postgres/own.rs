//! What the daemon asks a server on its own behalf: simple queries, and the rows that come back.
//!
//! Does not belong here: what agents ask.

use super::{
    backend,
    expect::ServerError,
    frame::{Body, HEADER, Violation, header},
    reply::message,
};

/// Longest answer that is taken, in bytes.
const LONGEST: usize = 1 << 20;

/// A simple query.
pub fn question(text: &str) -> Vec<u8> {
    let body: Vec<u8> = text.bytes().filter(|byte| *byte != 0).chain([0]).collect();
    message(b'Q', &body)
}

/// The values of one row, as text.
pub type Row = Vec<Option<String>>;

/// The answer to one simple query, as it comes.
#[derive(Debug, Default)]
pub struct Answer {
    rows: Vec<Row>,
    error: Option<ServerError>,
    bytes: usize,
}

impl Answer {
    /// Looks at bytes of the server's. Answers how many were used, and the rows once all are there.
    ///
    /// # Errors
    /// A [`Violation`]: nothing more can be asked.
    #[expect(
        clippy::type_complexity,
        reason = "the rows or the server's error, once they are there"
    )]
    pub fn server(
        &mut self,
        bytes: &[u8],
    ) -> Result<(usize, Option<Result<Vec<Row>, ServerError>>), Violation> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let Some(header) = header(rest)? else { return Ok((used, None)) };
            if self.bytes + header.length > LONGEST {
                return Err(super::conversation::too_long(header));
            }
            let Some(message) = rest.get(..header.length) else { return Ok((used, None)) };
            used += header.length;
            self.bytes += header.length;
            match header.tag {
                b'D' => {
                    let mut body = Body::of(message);
                    let count = body.count()?;
                    let mut row = Row::new();
                    for _ in 0..count {
                        let value = body.value()?;
                        row.push(value.map(|value| String::from_utf8_lossy(value).into_owned()));
                    }
                    self.rows.push(row);
                }
                b'E' => self.error = Some(backend::error(message)),
                b'Z' => {
                    let answer = std::mem::take(self);
                    return Ok((used, Some(answer.error.map_or(Ok(answer.rows), Err))));
                }
                _ => debug_assert!(header.length >= HEADER),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_come() {
        let mut bytes = message(b'T', b"\0\0");
        bytes.extend(message(b'D', b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"));
        bytes.extend(message(b'C', b"SELECT 1\0"));
        bytes.extend(message(b'Z', b"I"));
        for cut in 0..bytes.len() {
            let mut answer = Answer::default();
            let (used, rows) = answer.server(&bytes[..cut]).expect("well-formed");
            assert!(rows.is_none());
            let (_, rows) = answer.server(&bytes[used..]).expect("well-formed");
            assert_eq!(rows, Some(Ok(vec![vec![Some("a".into()), None]])));
        }
    }

    #[test]
    fn p8_an_answer_without_an_end_is_not_kept() {
        let mut answer = Answer::default();
        let row = message(b'D', &[&b"\0\x01\0\x01\0\0"[..], &vec![b'x'; 65_536]].concat());
        let failed = (0..20).any(|_| answer.server(&row).is_err());
        assert!(failed);
    }
}
