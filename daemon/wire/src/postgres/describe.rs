//! How a server describes the result of a statement, asked on the daemon's own behalf: the statement
//! is parsed and not run.
//!
//! Does not belong here: what agents ask, and rows (`own`).

use super::{
    backend,
    expect::ServerError,
    frame::{Body, Violation, header},
    masking::Field,
    reply::message,
};

/// Longest description that is taken, in bytes.
const LONGEST: usize = 1 << 20;

/// `Parse` of a text, `Describe` and `Sync` (protocol-message-formats).
pub fn description_of(text: &str) -> Vec<u8> {
    let text: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    let parse = [&b"\0"[..], &text, b"\0\0\0"].concat();
    [message(b'P', &parse), message(b'D', b"S\0"), message(b'S', b"")].concat()
}

/// The columns of a result, each with its name; `None` where there is none.
pub type Described = Option<Vec<(String, Field)>>;

/// The answer to [`description_of`], as it comes.
#[derive(Debug, Default)]
pub struct Describing {
    columns: Described,
    error: Option<ServerError>,
    bytes: usize,
}

impl Describing {
    /// Looks at bytes of the server's. Answers how many were used, and the description once it is
    /// there.
    ///
    /// # Errors
    /// A [`Violation`]: nothing more can be asked.
    pub fn server(
        &mut self,
        bytes: &[u8],
    ) -> Result<(usize, Option<Result<Described, ServerError>>), Violation> {
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
                b'T' => self.columns = Some(columns(message)?),
                b'E' => self.error = Some(backend::error(message)),
                b'Z' => {
                    let Self { columns, error, bytes: _ } = std::mem::take(self);
                    return Ok((used, Some(error.map_or(Ok(columns), Err))));
                }
                _ => {}
            }
        }
    }
}

fn columns(message: &[u8]) -> Result<Vec<(String, Field)>, Violation> {
    let mut body = Body::of(message);
    let count = body.count()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let name = String::from_utf8_lossy(body.text()?).into_owned();
        let (table, number, type_oid) = (body.u32()?, body.i16()?, body.u32()?);
        let (_size, _modifier, _format) = (body.i16()?, body.i32()?, body.i16()?);
        columns.push((name, Field { table, number, type_oid }));
    }
    body.end()?;
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_as_it_comes() {
        let column = b"\0\x01mail\0\0\0\0\x07\0\x02\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
        let mut bytes = message(b'1', b"");
        bytes.extend(message(b't', b"\0\0"));
        bytes.extend(message(b'T', column));
        bytes.extend(message(b'Z', b"I"));
        let field = Field { table: 7, number: 2, type_oid: 25 };
        for cut in 0..bytes.len() {
            let mut describing = Describing::default();
            let (used, none) = describing.server(&bytes[..cut]).expect("well-formed");
            assert!(none.is_none());
            let (_, found) = describing.server(&bytes[used..]).expect("well-formed");
            assert_eq!(found, Some(Ok(Some(vec![("mail".into(), field)]))));
        }
    }

    #[test]
    fn p8_a_description_that_lies_about_its_length_is_refused() {
        assert!(Describing::default().server(&message(b'T', b"\0\x02mail\0\0")).is_err());
    }

    #[test]
    fn a_text_is_parsed_and_not_run() {
        let sent = description_of("SELECT 1\0; DROP TABLE t");
        assert_eq!(sent, b"P\0\0\0\x1e\0SELECT 1; DROP TABLE t\0\0\0D\0\0\0\x06S\0S\0\0\0\x04");
    }
}
