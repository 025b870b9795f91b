//! How the server reads texts, and whether it may have changed since.
//!
//! `client_encoding` and `standard_conforming_strings` decide where a string ends. A text that would
//! be read otherwise under other settings is judged only where they are known: behind the answers to
//! all that could change them.

use super::{
    Conversation, Refusal, Violation,
    batch::{Delicate, Ran},
};
use crate::postgres::backend;

/// Encodings in which a byte of a longer character can be that of another one (`pg_encoding_max`,
/// `src/common/encnames.c`): a client may have them, and no server.
const FOREIGN: [&str; 7] = ["SJIS", "BIG5", "GBK", "GB18030", "UHC", "JOHAB", "SHIFT_JIS_2004"];

/// As the server reports it.
#[derive(Debug, Default)]
pub(super) struct TextRules {
    /// `client_encoding`, where it is none in which UTF-8 is itself.
    encoding: Option<String>,
    /// `standard_conforming_strings` is off: a backslash has a meaning in ordinary strings.
    backslashes: bool,
}

impl TextRules {
    /// The client's encoding, where a byte in it does not say which character it is of.
    pub(super) fn foreign(&self) -> Option<&str> {
        self.encoding.as_deref().filter(|name| FOREIGN.contains(name))
    }
}

impl Conversation {
    /// A statement's text; what we would not read as the server does is refused, and recorded as far
    /// as it can be read. `None` where that cannot be said before the server has answered more.
    pub(super) fn readable(&mut self, bytes: &[u8]) -> Option<(String, Option<Refusal>)> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            let refusal =
                Refusal::new("22021", "chaperone refuses a statement that is not valid UTF-8")
                    .hint("Set client_encoding to UTF8.");
            return Some((String::from_utf8_lossy(bytes).into_owned(), Some(refusal)));
        };
        // ASCII is itself in every encoding that a client can have.
        let delicate = Delicate { backslash: text.contains('\\'), foreign: !text.is_ascii() };
        if delicate == Delicate::default() {
            return Some((text.to_owned(), None));
        }
        if self.batches.ran_before() != Ran::Nothing && self.batches.wait_for_all() {
            return None;
        }
        let refusal = match &self.text {
            TextRules { encoding: Some(name), .. } if delicate.foreign => Some(
                Refusal::new(
                    "22021",
                    format!("chaperone reads statements in UTF8, and client_encoding is {name}"),
                )
                .hint("Set client_encoding to UTF8."),
            ),
            TextRules { backslashes: true, .. } if delicate.backslash => Some(
                Refusal::new(
                    "0A000",
                    "chaperone does not read backslashes while standard_conforming_strings is off",
                )
                .hint("Set standard_conforming_strings to on, or send the text as a parameter."),
            ),
            _ => match self.batches.ran_now() {
                Ran::Nothing => None,
                Ran::Plain => {
                    self.batches.trust(delicate);
                    None
                }
                Ran::Anything => Some(
                    Refusal::new(
                        "0A000",
                        "chaperone cannot tell how the server will read this statement: what was sent before it may change client_encoding or standard_conforming_strings",
                    )
                    .hint("Send a Sync before it, or send what is not ASCII and backslashes as parameters."),
                ),
            },
        };
        Some((text.to_owned(), refusal))
    }

    /// What the server reports of how it reads texts. A function may have changed that since: a text
    /// that was sent meanwhile may have been read otherwise.
    pub(super) fn learn_parameter(&mut self, message: &[u8]) -> Result<(), Violation> {
        let Ok((name, value)) = backend::parameter(message) else { return Ok(()) };
        let sent = self.batches.trusted();
        match name {
            b"client_encoding" => {
                let known = [&b"UTF8"[..], b"UNICODE", b"SQL_ASCII"].contains(&value);
                let name = || String::from_utf8_lossy(value).into_owned();
                if self.screens.is_some()
                    && FOREIGN.iter().any(|foreign| foreign.as_bytes() == value)
                {
                    return Err(Violation::Encoding(name()));
                }
                self.text.encoding = (!known).then(name);
                if !known && sent.foreign {
                    return Err(Violation::ReadOtherwise("client_encoding"));
                }
            }
            b"standard_conforming_strings" => {
                self.text.backslashes = value != b"on";
                if self.text.backslashes && sent.backslash {
                    return Err(Violation::ReadOtherwise("standard_conforming_strings"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
