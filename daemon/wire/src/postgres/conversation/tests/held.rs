//! Prepared statements of which each `Bind` must be decided.

use CommandKind::{Bind, Execute, Prepare};

use super::*;

fn kinds(talk: &Talk) -> Vec<CommandKind> {
    talk.commands.iter().map(|command| command.kind).collect()
}

#[test]
fn p1_each_bind_of_what_must_be_asked_about_is_a_command() {
    let mut talk = Talk { asks: true, ..Talk::ready() };
    let flight = [parse("s", "DELETE"), bind("s"), execute(), bind("s"), execute(), sync()];
    talk.client(&flight.concat()).expect("well-formed");
    assert_eq!(kinds(&talk), [Prepare, Bind, Execute, Bind, Execute]);
    let bound = &talk.commands[1];
    assert_eq!((bound.text.as_deref(), bound.origin), (Some("DELETE"), Some([7; 32])));
    assert_eq!(talk.commands[2].approval, Some(Seq(99)), "what runs of it is covered");
    let done = [message(b'1', b""), message(b'2', b""), complete("DELETE 1")].concat();
    let more = [message(b'2', b""), error(), ready(b"I")].concat();
    talk.server(&[done, more].concat()).expect("in step");
    let expected = [(1, "ok"), (2, "ok"), (3, "ok"), (4, "ok"), (5, "error")];
    let outcomes: Vec<_> = talk.outcomes().into_iter().map(|(seq, _, how)| (seq, how)).collect();
    assert_eq!(outcomes, expected);
    assert!(talk.conversation.is_idle());
}

#[test]
fn p1_a_refused_bind_leaves_no_portal_and_what_follows_is_passed_over() {
    let mut talk = Talk { asks: true, ..Talk::ready() };
    talk.client(&[parse("s", "DELETE"), sync()].concat()).expect("well-formed");
    talk.server(&[message(b'1', b""), ready(b"I")].concat()).expect("in step");
    talk.deny = true;
    talk.client(&bind("s")).expect("well-formed");
    assert!(talk.conversation.is_doomed());
    talk.deny = false;
    talk.client(&[execute(), sync()].concat()).expect("well-formed");
    assert_eq!(talk.commands[2].approval, None);
    assert!(!talk.conversation.is_doomed());
    talk.server(&[error(), ready(b"I")].concat()).expect("in step");
    let outcomes: Vec<_> = talk.outcomes().into_iter().map(|(seq, _, how)| (seq, how)).collect();
    assert_eq!(outcomes, [(1, "ok"), (2, "refused"), (3, "skipped")]);
}

/// After SQL's `DEALLOCATE` and `PREPARE` it is not known what a name stands for: it may be what must
/// be asked about.
#[test]
fn p1_a_bind_of_what_is_no_longer_known_is_a_command_once_something_was_asked_about() {
    for (asks, expected) in [(true, 1), (false, 0)] {
        let mut talk = Talk { asks, ..Talk::ready() };
        talk.client(&[parse("s", "DELETE"), sync()].concat()).expect("well-formed");
        talk.server(&[message(b'1', b""), ready(b"I")].concat()).expect("in step");
        for tag in ["DEALLOCATE", "PREPARE"] {
            talk.client(&query(tag)).expect("well-formed");
            talk.server(&[complete(tag), ready(b"I")].concat()).expect("in step");
        }
        talk.client(&bind("s")).expect("well-formed");
        let binds = kinds(&talk).iter().filter(|kind| **kind == Bind).count();
        assert_eq!(binds, expected, "{asks}");
        assert!(talk.conversation.names().statements && !talk.conversation.names().portals);
    }
}
