//! Messages that the daemon itself sends: errors to the agent, and stand-ins to the server.

use super::expect::ServerError;

/// Why something was refused, for the agent: the fields of an `ErrorResponse`
/// (protocol-error-fields).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE (errcodes-appendix).
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// More, for who wants to know.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal without detail and hint.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds more.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
    /// Nothing failed: the client is told something.
    Notice,
}

/// An `ErrorResponse`, or a `NoticeResponse`.
pub fn backend_error(severity: Severity, refusal: &Refusal) -> Vec<u8> {
    let (tag, severity) = match severity {
        Severity::Error => (b'E', "ERROR"),
        Severity::Fatal => (b'E', "FATAL"),
        Severity::Notice => (b'N', "NOTICE"),
    };
    let mut body = Vec::with_capacity(128);
    let mut field = |name: u8, value: &str| {
        body.push(name);
        // A NUL would end the field early.
        body.extend(value.bytes().filter(|b| *b != 0));
        body.push(0);
    };
    field(b'S', severity);
    field(b'V', severity);
    field(b'C', refusal.code);
    field(b'M', &refusal.message);
    if let Some(detail) = &refusal.detail {
        field(b'D', detail);
    }
    if let Some(hint) = &refusal.hint {
        field(b'H', hint);
    }
    field(b'R', "chaperone");
    body.push(0);
    message(tag, &body)
}

/// A simple query that fails with a syntax error wherever the server is in a transaction, so that
/// the server's own state moves as it would with a real error. Its error is replaced by ours.
pub(crate) fn failing_query() -> Vec<u8> {
    message(b'Q', b"chaperone refused a statement\0")
}

/// As [`failing_query`], for the extended protocol: a named statement, because parsing an unnamed
/// one would drop the client's own. No name that a client can take decides whether it fails.
pub(crate) fn failing_parse() -> Vec<u8> {
    message(b'P', b"chaperone\0chaperone refused a statement\0\0\0")
}

/// An `ErrorResponse` or `NoticeResponse` of the server's in other words: its code and severity are
/// kept, all that may hold values is not.
pub(crate) fn without_values(tag: u8, error: &ServerError) -> Vec<u8> {
    let severity = match (tag, error.fatal) {
        (b'E', true) => "FATAL",
        (b'E', false) => "ERROR",
        _ => "NOTICE",
    };
    // Five letters or digits; anything else might be a value.
    let code = error.code.as_deref().filter(|code| {
        code.len() == 5 && code.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    });
    let mut body = Vec::with_capacity(128);
    for (name, value) in [
        (b'S', severity),
        (b'V', severity),
        (b'C', code.unwrap_or("XX000")),
        (b'M', WITHHELD),
        (b'R', "chaperone"),
    ] {
        body.push(name);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    message(tag, &body)
}

/// What stands in place of a server's words that may hold masked values.
pub(crate) const WITHHELD: &str =
    "chaperone withholds the server's words: they may hold values that are masked";

/// Writes a message's length where it belongs.
pub(crate) fn set_length(message: &mut [u8]) {
    let length = u32::try_from(message.len().saturating_sub(1)).unwrap_or(u32::MAX);
    if let Some(place) = message.get_mut(1..5) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// A message of this type and body.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(body.len() + 5);
    message.push(tag);
    message.extend(length.to_be_bytes());
    message.extend(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::backend;

    #[test]
    fn an_error_reads_back() {
        let refusal = Refusal::new("42501", "no\0pe").hint("ask").detail("why");
        let bytes = backend_error(Severity::Error, &refusal);
        let error = backend::error(&bytes);
        assert_eq!(error.code.as_deref(), Some("42501"));
        assert_eq!(error.message.as_deref(), Some("nope"));
        assert!(!error.fatal);
    }
}
