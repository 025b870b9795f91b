//! What is looked for in all that the server sends.

use super::*;
use crate::postgres::{Became, Counts, Look};

/// Finds `secret`, and leaves an `x` of it in texts; values of type 17 become NULL.
#[derive(Debug)]
struct Secret;

impl Screens for Secret {
    fn look(&self, type_oid: u32, _: bool) -> Look {
        match type_oid {
            23 => Look::Never,
            17 => Look::Value,
            114 => Look::Escaped,
            _ => Look::Bytes,
        }
    }

    fn finds(&self, bytes: &[u8]) -> bool {
        bytes.windows(6).any(|window| window == b"secret")
    }

    fn value(
        &self,
        type_oid: u32,
        _: bool,
        value: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Became {
        if type_oid == 17 && self.finds(value) {
            counts.add(2);
            return Became::Null;
        }
        if self.text(value, out, counts) { Became::Value } else { Became::Same }
    }

    fn text(&self, text: &[u8], out: &mut Vec<u8>, counts: &mut Counts) -> bool {
        // `\u0073` is how JSON may hide an s.
        let said = String::from_utf8_lossy(text).replace("\\u0073", "s");
        if !said.contains("secret") {
            return false;
        }
        counts.add(1);
        out.extend(said.replace("secret", "x").into_bytes());
        true
    }

    fn name(&self, way: u16) -> String {
        format!("way {way}")
    }
}

fn screened() -> Talk {
    let mut talk = Talk::ready();
    talk.conversation.set_screens(Some(Rc::new(Secret)));
    talk
}

fn described(types: &[u32]) -> Vec<u8> {
    let mut body = u16::try_from(types.len()).expect("few").to_be_bytes().to_vec();
    for oid in types {
        body.extend(b"c\0\0\0\0\0\0\0");
        body.extend(oid.to_be_bytes());
        body.extend([255, 255, 255, 255, 255, 255, 0, 0]);
    }
    message(b'T', &body)
}

fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
    for value in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).expect("short"));
        body.extend(length.to_be_bytes());
        body.extend(value.unwrap_or_default().as_bytes());
    }
    message(b'D', &body)
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn p5_rows_lose_what_is_found_and_others_are_as_they_were() {
    let long = format!("{}secret", "-".repeat(1000));
    let masked = long.replace("secret", "x");
    let rows = [
        (
            row(&[Some("a"), Some("plain"), Some("{}")]),
            row(&[Some("a"), Some("plain"), Some("{}")]),
        ),
        (row(&[None, Some("a secret"), None]), row(&[None, Some("a x"), None])),
        (row(&[Some("secret"), None, Some("")]), row(&[Some("x"), None, Some("")])),
        (row(&[None, None, Some("\\u0073ecret")]), row(&[None, None, Some("x")])),
        (row(&[None, Some(&long), None]), row(&[None, Some(&masked), None])),
        // Values are looked into each on its own.
        (row(&[Some("sec"), Some("ret"), None]), row(&[Some("sec"), Some("ret"), None])),
    ];
    for piece in [1, 7, 10_000] {
        let mut talk = screened();
        talk.client(&query("SELECT a, b, c FROM t")).expect("fine");
        let all: Vec<u8> = rows.iter().flat_map(|(sent, _)| sent.clone()).collect();
        let end = [complete("SELECT 6"), ready(b"I")].concat();
        let sent = [described(&[25, 25, 114]), all, end].concat();
        for piece in sent.chunks(piece) {
            talk.server(piece).expect("fine");
        }
        let expected: Vec<u8> = rows.iter().flat_map(|(_, with)| with.clone()).collect();
        assert!(has(&talk.to_client, &expected));
        let outcome = talk.events.iter().find_map(|event| match event {
            Event::Outcome(outcome) => Some(outcome),
            _ => None,
        });
        let outcome = outcome.expect("an outcome");
        assert_eq!(outcome.masked.as_deref(), Some(r#"{"way 1":4}"#));
        assert!(!outcome.response.as_ref().expect("rows").rows.contains("secret"));
    }
}

#[test]
fn p5_columns_of_which_nothing_can_be_found_are_not_looked_at() {
    let mut talk = screened();
    talk.client(&query("SELECT 1")).expect("fine");
    let sent = [described(&[23, 23]), row(&[Some("secret"), None])].concat();
    talk.server(&sent).expect("fine");
    assert!(has(&talk.to_client, b"secret"));
    // With bytes beside them they are, and keep what they have.
    let mut talk = screened();
    talk.client(&query("SELECT 1")).expect("fine");
    let sent = [described(&[23, 17]), row(&[Some("secret"), Some("secret")])].concat();
    talk.server(&sent).expect("fine");
    assert!(has(&talk.to_client, &row(&[Some("secret"), None])));
}

#[test]
fn p5_nothing_that_the_server_says_has_what_is_looked_for() {
    let mut talk = screened();
    talk.client(&query("SELECT c FROM t")).expect("fine");
    let sent = [
        message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Ma secret\0Dsecret\0\0"),
        message(b'S', b"application_name\0a secret\0"),
        message(b'S', b"server_version\0secret\0"),
        message(b'A', b"\0\0\0\x07secret\0the secret\0"),
        message(b'E', b"SERROR\0VERROR\0C22P02\0Mno integer: secret\0Hsecret\0Wsecret\0\0"),
        ready(b"I"),
    ];
    for byte in sent.concat() {
        talk.server(&[byte]).expect("fine");
    }
    for expected in [
        message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Ma x\0Dx\0\0"),
        message(b'S', b"application_name\0a x\0"),
        message(b'S', b"server_version\0secret\0"),
        message(b'A', b"\0\0\0\x07x\0the x\0"),
        message(b'E', b"SERROR\0VERROR\0C22P02\0Mno integer: x\0Hx\0Wx\0\0"),
    ] {
        assert!(has(&talk.to_client, &expected), "{}", String::from_utf8_lossy(&expected));
    }
    let recorded = format!("{:?}", talk.events);
    assert!(!recorded.contains("secret") && recorded.contains("no integer: x"), "{recorded}");
    assert!(recorded.contains("way 1"), "{recorded}");
}

#[test]
fn p8_a_message_that_cannot_be_looked_into_ends_the_session() {
    for sent in [
        message(b'N', b"Msecret"),
        message(b'A', b"\0\0\0\x07secret"),
        message(b'S', b"application_name\0secret"),
        message(b'S', b"client_encoding\0SJIS\0"),
    ] {
        let mut talk = screened();
        talk.client(&query("SELECT 1")).expect("fine");
        assert!(talk.server(&sent).is_err());
        assert!(!has(&talk.to_client, b"secret"));
    }
}

#[test]
fn p5_parameters_are_recorded_without_what_is_found() {
    let mut talk = screened();
    talk.client(&parse("", "SELECT $1")).expect("fine");
    let bind = message(b'B', b"\0\0\0\0\0\x01\0\0\0\x08a secret\0\0");
    talk.client(&[bind, execute(), sync()].concat()).expect("fine");
    let last = talk.commands.last().expect("a command");
    assert_eq!(last.parameters.as_deref(), Some(r#"["a x"]"#));
    assert!(has(&talk.to_server, b"secret"), "the server gets what was sent");
}

#[test]
fn p2_a_copy_of_which_nothing_is_known_does_not_pass() {
    let mut talk = screened();
    talk.client(&query("COPY t TO STDOUT")).expect("fine");
    assert!(talk.server(&message(b'H', &[0, 0, 1, 0, 0])).is_err());
}
