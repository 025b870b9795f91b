//! Sign-on, large objects, replication, and how texts are read.

use super::*;

const OFFER: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

fn sasl(flag: u8) -> Vec<u8> {
    let first = [&[flag][..], b",,n=,r=abc"].concat();
    let length = u32::try_from(first.len()).expect("short").to_be_bytes();
    message(b'p', &[b"SCRAM-SHA-256\0", &length[..], &first].concat())
}

pub(super) fn status(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

#[test]
fn a_binding_to_another_connection_is_not_offered() {
    let mut talk = Talk::new();
    talk.server(&message(b'R', OFFER)).expect("fine");
    assert_eq!(talk.to_client, message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"));
    talk.client(&sasl(b'n')).expect("fine");
    assert_eq!(talk.to_server, sasl(b'n'), "a client without TLS of its own can be relayed");
}

#[test]
fn a_sign_on_that_the_server_would_take_for_an_attack_is_explained() {
    let mut talk = Talk::new();
    talk.server(&message(b'R', OFFER)).expect("fine");
    talk.client(&sasl(b'y')).expect("fine");
    assert!(talk.to_server.is_empty());
    let refusal = talk.refused.expect("refused");
    assert!(refusal.hint.expect("a hint").contains("`credential`"));

    // Where the server offers none the same flag is the truth.
    let mut talk = Talk::new();
    let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    talk.server(&offer).expect("fine");
    talk.client(&sasl(b'y')).expect("fine");
    assert_eq!((talk.to_client, talk.to_server), (offer, sasl(b'y')));
}

#[test]
fn p6_where_the_daemon_signs_on_no_answer_of_the_client_reaches_the_server() {
    let mut talk = Talk::with(Rules { sign_on: SigningOn::Held, ..RULES });
    assert!(talk.client(&sasl(b'n')).is_err());
    let mut talk = Talk::new();
    talk.server(&message(b'R', &[0; 4])).expect("fine");
    assert!(talk.client(&sasl(b'n')).is_err(), "after the sign-on as well");
}

#[test]
fn a_server_asks_once_and_is_ready_after_it_said_so() {
    let asked_again = [message(b'R', &[0; 4]), message(b'R', OFFER)].concat();
    assert!(Talk::new().server(&asked_again).is_err());
    assert!(Talk::new().server(&ready(b"I")).is_err(), "before AuthenticationOk");
    assert!(Talk::new().server(&message(b'K', &[0; 8])).is_err(), "before AuthenticationOk");
}

fn call(number: u32) -> Vec<u8> {
    let head = number.to_be_bytes();
    message(b'F', &[&head[..], b"\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x07\0\x01"].concat())
}

#[test]
fn large_objects_are_reached_by_calls_and_nothing_else_is() {
    let mut talk = Talk::ready();
    talk.client(&call(964)).expect("fine");
    assert_eq!(talk.commands[0].text.as_deref(), Some("SELECT pg_catalog.lo_unlink($1)"));
    assert_eq!(talk.commands[0].parameters.as_deref(), Some(r#"["7"]"#));
    assert_eq!(talk.to_server, call(964));
    let result = message(b'V', b"\0\0\0\x04\0\0\0\x01");
    talk.server(&[result, ready(b"I")].concat()).expect("fine");

    // version()
    talk.client(&call(89)).expect("fine");
    assert!(!talk.to_server.windows(4).any(|w| w == 89_u32.to_be_bytes()));
    talk.server(&[error(), ready(b"I")].concat()).expect("fine");
    assert_eq!(talk.outcomes(), [(1, 0, "ok"), (2, 0, "refused")]);
}

#[test]
fn p4_a_large_object_is_read_at_once() {
    let mut talk = Talk::ready();
    talk.client(&call(954)).expect("fine");
    let result = message(b'V', &vec![b'x'; WHOLE + 1]);
    for piece in result.chunks(100_000) {
        talk.server(piece).expect("fine");
        assert!(talk.down.len() < WHOLE / 2, "it is not held");
    }
    talk.server(&ready(b"I")).expect("fine");
    assert_eq!(talk.to_client, [result, ready(b"I")].concat());
    assert_eq!(talk.outcomes(), [(1, 0, "ok")]);
}

#[test]
fn replication_streams_both_ways_where_it_may() {
    let both = message(b'W', b"\0\0\0");
    let mut talk = Talk::ready();
    talk.client(&query("START_REPLICATION 0/0")).expect("fine");
    assert!(talk.server(&both).is_err());

    let mut talk = Talk::with(Rules { replication: true, ..RULES });
    talk.server(&[message(b'R', &[0; 4]), ready(b"I")].concat()).expect("signed on");
    talk.client(&query("START_REPLICATION 0/0")).expect("fine");
    talk.server(&[both, message(b'd', b"wal")].concat()).expect("fine");
    talk.client(&[message(b'd', b"status"), message(b'c', b"")].concat()).expect("fine");
    talk.server(
        &[message(b'd', b"wal"), message(b'c', b""), complete("START_STREAMING"), ready(b"I")]
            .concat(),
    )
    .expect("fine");
    talk.client(&query("IDENTIFY_SYSTEM")).expect("fine");
    talk.server(&[complete("IDENTIFY_SYSTEM"), ready(b"I")].concat()).expect("fine");
    assert_eq!(talk.outcomes(), [(1, 0, "ok"), (2, 0, "ok")]);
}

#[test]
fn p2_texts_that_the_server_reads_otherwise_are_refused() {
    let refused = |talk: &mut Talk, text: &str| {
        let before = talk.to_server.len();
        talk.client(&query(text)).expect("fine");
        let refused = talk.to_server[before..] != query(text)[..];
        let answer = if refused { error() } else { complete("SELECT 1") };
        talk.server(&[answer, ready(b"I")].concat()).expect("fine");
        refused
    };
    let mut talk = Talk::ready();
    assert!(!refused(&mut talk, r"SELECT 'é\'"));
    talk.server(&status("standard_conforming_strings", "off")).expect("fine");
    assert!(refused(&mut talk, r"SELECT '\'"));
    assert!(!refused(&mut talk, "SELECT 'é'"));
    talk.server(&status("standard_conforming_strings", "on")).expect("fine");
    assert!(!refused(&mut talk, r"SELECT '\'"));
    talk.server(&status("client_encoding", "SJIS")).expect("fine");
    assert!(refused(&mut talk, "SELECT 'é'"));
    assert!(!refused(&mut talk, "SET client_encoding = UTF8"));
    talk.server(&status("client_encoding", "UTF8")).expect("fine");
    assert!(!refused(&mut talk, "SELECT 'é'"));
}

#[test]
fn p1_no_name_that_a_client_takes_is_a_stand_ins() {
    // A stand-in must fail whatever the client made before: it is no run of anything named.
    let mut talk = Talk::ready();
    talk.client(&[parse("s", "SELECT 1"), bind("s")].concat()).expect("fine");
    talk.deny = true;
    let before = talk.to_server.len();
    talk.client(&[execute(), sync()].concat()).expect("fine");
    assert_eq!(talk.to_server[before], b'P');
    let parse = Parse::read(&talk.to_server[before..talk.to_server.len() - 5]);
    let parse = parse.expect("a Parse");
    assert_eq!(parse.text, b"chaperone refused a statement", "which no grammar takes");
    assert!(!parse.name.is_empty(), "the unnamed statement is the client's own");
}
