//! Texts that are read otherwise under other settings.

use super::{special::status, *};

const EVIL: &str = r"SELECT '\'; DROP TABLE t; --'";
const OFF: (&str, &str) = ("standard_conforming_strings", "off");

fn run(text: &str) -> Vec<u8> {
    [parse("", text), bind(""), execute()].concat()
}

fn ran(tag: &str) -> Vec<u8> {
    [message(b'1', b""), message(b'2', b""), complete(tag)].concat()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn p2_a_text_is_judged_when_the_settings_before_it_are_known() {
    for (set, name, value, text) in [
        ("SET standard_conforming_strings = off", OFF.0, OFF.1, EVIL),
        ("SET client_encoding = 'SJIS'", "client_encoding", "SJIS", "SELECT 'é'"),
        ("SELECT perhaps_a_function()", OFF.0, OFF.1, EVIL),
    ] {
        let mut talk = Talk::ready();
        talk.client(&[query(set), query(text)].concat()).expect("fine");
        assert!(!has(&talk.to_server, text), "it waits");
        talk.server(&[complete("SET"), status(name, value), ready(b"I")].concat()).expect("fine");
        assert!(!has(&talk.to_server, text), "and is refused");
        talk.server(&[error(), ready(b"I")].concat()).expect("fine");
        assert_eq!(talk.outcomes(), [(1, 0, "ok"), (2, 0, "refused")]);
    }
}

#[test]
fn p2_within_a_batch_what_may_change_settings_is_not_followed_by_a_text_that_depends_on_them() {
    for before in ["SET standard_conforming_strings = off", "COMMIT", "DO $$ $$", "RESET ALL"] {
        let mut talk = Talk::ready();
        talk.client(&[run(before), message(b'H', b"")].concat()).expect("fine");
        talk.server(&ran("DONE")).expect("fine");
        // The setting is reported only before ReadyForQuery.
        talk.client(&[parse("", EVIL), sync()].concat()).expect("fine");
        assert!(!has(&talk.to_server, EVIL), "{before}");
        let refusal = talk.conversation.expect.iter().find_map(|expect| match expect {
            Expect::RefusedExecute(refused) => refused.refusal.hint.clone(),
            _ => None,
        });
        assert!(refusal.expect("a hint").contains("Send a Sync"));
    }
    // A statement of which nothing is known.
    let mut talk = Talk::ready();
    talk.client(&[bind("of_sql"), execute(), parse("", EVIL), sync()].concat()).expect("fine");
    assert!(!has(&talk.to_server, EVIL));
}

#[test]
fn p4_honest_pipelines_of_any_text_pass() {
    let mut talk = Talk::ready();
    let sent = [
        run("BEGIN"),
        run("SAVEPOINT PGJDBC_AUTOSAVE"),
        run("INSERT INTO t VALUES ('é')"),
        run("-- a comment\nSELECT 'ü'"),
        run(r"UPDATE t SET a = '\d+'"),
        sync(),
    ]
    .concat();
    talk.client(&sent).expect("fine");
    assert_eq!(talk.to_server, sent);
    talk.server(&ran("BEGIN").repeat(5)).expect("fine");
    // Behind the Sync it is only a matter of waiting.
    let more = [parse("", "SELECT 'é'"), sync()].concat();
    talk.client(&more).expect("fine");
    talk.server(&[status("TimeZone", "UTC"), ready(b"I")].concat()).expect("fine");
    assert_eq!(talk.to_server, [sent, more].concat());
}

#[test]
fn p4_what_was_answered_without_a_sync_hides_nothing() {
    // As asyncpg prepares a statement that it then does not run, and copies.
    let mut talk = Talk::ready();
    let prepare = [parse("s", "SELECT 1"), message(b'D', b"Ss\0"), message(b'H', b"")].concat();
    talk.client(&prepare).expect("fine");
    let described = [message(b'1', b""), message(b't', b"\0\0"), message(b'n', b"")].concat();
    talk.server(&described).expect("fine");
    let flight = [query("COPY t TO STDOUT"), query(r"SELECT '\d'")].concat();
    talk.client(&flight).expect("fine");
    assert!(!has(&talk.to_server, r"\d"), "it waits");
    talk.server(&[complete("COPY 1"), ready(b"I")].concat()).expect("fine");
    assert_eq!(talk.to_server, [prepare, flight].concat(), "and goes on");

    // A simple query before whose answer nothing is known of what was sent before it.
    let mut talk = Talk::ready();
    talk.client(&[parse("s", "SELECT 1"), query("SELECT 1")].concat()).expect("fine");
    let answers = [message(b'1', b""), complete("SELECT 1"), ready(b"I")].concat();
    talk.server(&answers).expect("fine");
    talk.client(&query(r"SELECT '\d'")).expect("fine");
    assert!(has(&talk.to_server, r"\d"));
}

#[test]
fn p2_a_setting_that_a_function_changed_under_a_text_ends_the_session() {
    let sent = [run("SELECT f()"), parse("", EVIL), sync()].concat();
    let answers = [ran("SELECT 1"), message(b'1', b"")].concat();
    let mut talk = Talk::ready();
    talk.client(&sent).expect("fine");
    talk.server(&answers).expect("fine");
    let violation = talk.server(&status(OFF.0, OFF.1)).expect_err("it was read otherwise");
    assert!(violation.to_string().contains("send a Sync"), "{violation}");

    // A change that comes after it is none of its.
    let mut talk = Talk::ready();
    talk.client(&sent).expect("fine");
    talk.server(&[answers, ready(b"I")].concat()).expect("fine");
    talk.client(&[run("SELECT set_config('a', 'b', false)"), sync()].concat()).expect("fine");
    talk.server(&[ran("SELECT 1"), status(OFF.0, OFF.1), ready(b"I")].concat()).expect("fine");
}

#[test]
fn p8_a_copy_that_swallows_a_sync_leaves_nothing_waiting() {
    // The Sync ahead ended no batch; the one behind the data does.
    let mut talk = Talk::ready();
    talk.client(&[run("COPY t FROM STDIN"), sync()].concat()).expect("fine");
    let begun = [message(b'1', b""), message(b'2', b""), message(b'G', &[0, 0, 0])].concat();
    talk.server(&begun).expect("fine");
    talk.client(&message(b'c', b"")).expect("fine");
    talk.server(&complete("COPY 0")).expect("fine");
    talk.client(&[parse("", "SELECT 'é'"), sync()].concat()).expect("fine");
    assert!(talk.up.is_empty(), "it is refused, since nothing will come that could be waited for");
    talk.server(&[error(), ready(b"I")].concat()).expect("fine");
    assert!(talk.conversation.is_at_rest());
}
