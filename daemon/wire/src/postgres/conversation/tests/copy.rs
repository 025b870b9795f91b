//! COPY in, and the Syncs around it.

use super::*;

fn copy_in() -> Vec<u8> {
    message(b'G', &[0, 0, 0])
}

fn done() -> Vec<u8> {
    message(b'c', b"")
}

/// `Bind`, `Execute`, `Sync` of a COPY, as tokio-postgres sends it.
fn run_copy() -> Vec<u8> {
    [parse("", "COPY t FROM STDIN"), bind(""), execute(), sync()].concat()
}

fn begun() -> Vec<u8> {
    [message(b'1', b""), message(b'2', b""), copy_in()].concat()
}

#[test]
fn p4_a_copy_with_a_sync_ahead_keeps_step() {
    let mut talk = Talk::ready();
    talk.client(&run_copy()).expect("fine");
    talk.server(&begun()).expect("fine");
    // The next query need not wait for the end of this one.
    let next = [parse("", "SELECT 1"), bind(""), execute(), sync()].concat();
    talk.client(&[message(b'd', b"1\n"), done(), sync(), next].concat()).expect("fine");
    talk.server(&complete("COPY 1")).expect("fine");
    talk.server(&ready(b"I")).expect("fine");
    let ran = [message(b'1', b""), message(b'2', b""), complete("SELECT 1"), ready(b"I")].concat();
    talk.server(&ran).expect("fine");
    assert_eq!(talk.outcomes(), [(1, 0, "ok"), (2, 0, "ok"), (3, 0, "ok"), (4, 0, "ok")]);
    assert!(talk.conversation.is_at_rest());
}

#[test]
fn p4_a_copy_that_fails_keeps_step_wherever_it_failed() {
    // COPY FREEZE, a view, a trigger: an error before data is read, and the Sync ahead counts. Or
    // data that is wrong, and it does not.
    for readies in [1, 2] {
        let mut talk = Talk::ready();
        talk.client(&run_copy()).expect("fine");
        talk.server(&begun()).expect("fine");
        talk.client(&[message(b'd', b"1\n"), done(), sync()].concat()).expect("fine");
        let next = [parse("", "SELECT 1"), bind(""), execute(), sync()].concat();
        talk.client(&next).expect("fine");
        talk.server(&error()).expect("fine");
        for _ in 0..readies {
            talk.server(&ready(b"I")).expect("fine");
        }
        let ran = [message(b'1', b""), message(b'2', b""), complete("SELECT 1"), ready(b"I")];
        talk.server(&ran.concat()).expect("fine");
        assert_eq!(talk.outcomes(), [(1, 0, "ok"), (2, 0, "error"), (3, 0, "ok"), (4, 0, "ok")]);
        assert!(talk.conversation.is_at_rest());
    }
}

#[test]
fn p4_an_error_before_data_is_read_is_answered_at_the_sync_ahead() {
    let mut talk = Talk::ready();
    talk.client(&run_copy()).expect("fine");
    talk.server(&[begun(), error(), ready(b"I")].concat()).expect("fine");
    talk.client(&query("SELECT 1")).expect("fine");
    talk.server(&[complete("SELECT 1"), ready(b"I")].concat()).expect("fine");
    assert_eq!(talk.outcomes(), [(1, 0, "ok"), (2, 0, "error"), (3, 0, "ok")]);
}

#[test]
fn p1_what_runs_behind_a_copy_that_failed_is_not_taken_for_passed_over() {
    // The server reports the error before it reads, answers the first Sync, passes over the end of
    // the data, and runs the first query.
    let mut talk = Talk::ready();
    let freeze = [parse("", "COPY t FROM STDIN (FREEZE)"), bind(""), execute(), sync()].concat();
    let flight = [freeze, done(), query("DROP TABLE x"), sync(), query("SELECT 2")].concat();
    talk.client(&flight).expect("fine");
    let answers = [begun(), error(), ready(b"I"), complete("DROP TABLE"), ready(b"I")].concat();
    assert!(talk.server(&answers).is_err());
    assert!(talk.outcomes().is_empty());
    let open = talk.conversation.finish(now());
    let open: Vec<_> = open.iter().map(|o| (o.intent.0, o.status.as_str())).collect();
    assert_eq!(open, [(1, "ok"), (2, "unknown"), (3, "unknown"), (4, "unknown")]);
}

#[test]
fn p1_a_swallowed_sync_takes_no_later_answer() {
    let mut talk = Talk::ready();
    talk.client(&query("COPY t FROM STDIN")).expect("fine");
    talk.server(&copy_in()).expect("fine");
    talk.client(&[sync(), message(b'd', b"bad row\n")].concat()).expect("fine");
    talk.server(&[error(), ready(b"I")].concat()).expect("fine");
    talk.client(&sync()).expect("fine");
    talk.server(&ready(b"I")).expect("fine");
    assert!(talk.conversation.is_idle(), "what may be answered is not waited for");
    talk.client(&[query("SELECT fails"), query("SELECT 2")].concat()).expect("fine");
    talk.server(&[error(), ready(b"I"), complete("SELECT 1"), ready(b"I")].concat()).expect("fine");
    assert_eq!(talk.outcomes(), [(1, 0, "error"), (2, 0, "error"), (3, 0, "ok")]);
    assert!(talk.conversation.is_at_rest());
}

#[test]
fn p8_a_command_behind_a_copy_that_failed_without_a_sync_ends_the_session() {
    let mut talk = Talk::ready();
    talk.client(&run_copy()).expect("fine");
    talk.server(&[begun(), error()].concat()).expect("fine");
    assert!(talk.client(&query("SELECT 1")).is_err());
}

#[test]
fn p8_a_query_that_was_not_answered_is_not_over() {
    let mut talk = Talk::ready();
    talk.client(&query("SELECT 1")).expect("fine");
    assert!(talk.server(&ready(b"I")).is_err());
}

#[test]
fn p8_syncs_in_copy_data_hold_nothing_up() {
    let mut talk = Talk::ready();
    talk.client(&query("COPY t FROM STDIN")).expect("fine");
    talk.server(&copy_in()).expect("fine");
    talk.client(&sync().repeat(2 * AHEAD)).expect("fine");
    talk.client(&done()).expect("fine");
    assert!(talk.up.is_empty(), "the server would wait for the end of the data");
    talk.server(&[complete("COPY 0"), ready(b"I")].concat()).expect("fine");
    assert!(talk.conversation.is_at_rest());
}

#[test]
fn a_word_that_data_ends_is_left_over_by_nobody() {
    // The error is on its way when the client says that it is done.
    let mut talk = Talk::ready();
    talk.client(&query("COPY t FROM STDIN")).expect("fine");
    talk.server(&[copy_in(), error()].concat()).expect("fine");
    talk.client(&done()).expect("fine");
    talk.server(&ready(b"I")).expect("fine");
    assert!(talk.conversation.is_at_rest());
}

#[test]
fn p4_two_copies_in_one_text_keep_step() {
    let mut talk = Talk::ready();
    talk.client(&query("COPY t FROM STDIN; COPY u FROM STDIN")).expect("fine");
    for _ in 0..2 {
        talk.server(&copy_in()).expect("fine");
        talk.client(&[message(b'd', b"1\n"), done()].concat()).expect("fine");
        talk.server(&complete("COPY 1")).expect("fine");
    }
    talk.server(&ready(b"I")).expect("fine");
    assert_eq!(talk.outcomes(), [(1, 0, "ok"), (1, 1, "ok")]);
}

/// A server that is played by its rules: what it answers to messages, and whether a command ran.
mod model {
    use super::*;

    /// What a client sends around a COPY.
    #[derive(Clone, Copy, Debug)]
    pub(super) enum Sent {
        Sync,
        Data,
        Done,
        Query,
    }

    /// The server's answers to what follows a COPY that has begun, where an error comes before the
    /// message of this number is read.
    pub(super) fn answers(sent: &[Sent], extended: bool, fails_at: usize) -> Vec<u8> {
        let (mut out, mut copying, mut skipping) = (Vec::new(), true, false);
        for (at, message) in sent.iter().enumerate() {
            if copying && at == fails_at {
                out.extend(error());
                (copying, skipping) = (false, extended);
                out.extend(if extended { Vec::new() } else { ready(b"I") });
            }
            match message {
                Sent::Done if copying => {
                    out.extend(complete("COPY 1"));
                    copying = false;
                    out.extend(if extended { Vec::new() } else { ready(b"I") });
                }
                Sent::Sync if !copying => {
                    skipping = false;
                    out.extend(ready(b"I"));
                }
                Sent::Query if !copying && !skipping => {
                    out.extend([complete("RAN"), ready(b"I")].concat());
                }
                Sent::Query if copying => {
                    out.extend(error());
                    (copying, skipping) = (false, extended);
                    out.extend(if extended { Vec::new() } else { ready(b"I") });
                }
                _ => {}
            }
        }
        out
    }
}

proptest! {
    /// Whatever is sent around a COPY, and wherever it fails: either the session ends, or what ran
    /// is recorded as what ran.
    #[test]
    fn p1_what_ran_around_a_copy_is_recorded_as_that(
        ahead in prop::collection::vec(prop::sample::select(vec![model::Sent::Sync, model::Sent::Data, model::Sent::Done, model::Sent::Query]), 0..6),
        later in prop::collection::vec(prop::sample::select(vec![model::Sent::Sync, model::Sent::Data, model::Sent::Done, model::Sent::Query]), 0..6),
        extended: bool,
        fails_at in 0..12_usize,
    ) {
        let bytes = |sent: &model::Sent| match sent {
            model::Sent::Sync => sync(),
            model::Sent::Data => message(b'd', b"1\n"),
            model::Sent::Done => done(),
            model::Sent::Query => query("RAN"),
        };
        let mut talk = Talk::ready();
        let begin = if extended {
            [parse("", "COPY t FROM STDIN"), bind(""), execute()].concat()
        } else {
            query("COPY t FROM STDIN")
        };
        talk.client(&begin).expect("fine");
        let base = talk.to_server.len();
        let mut fine = ahead.iter().all(|sent| talk.client(&bytes(sent)).is_ok());
        fine = fine && talk.server(&if extended { begun() } else { copy_in() }).is_ok();
        fine = fine && later.iter().all(|sent| talk.client(&bytes(sent)).is_ok());
        // The server sees what was forwarded, and more when it has answered.
        let mut answered = 0;
        while fine {
            let mut sent = Vec::new();
            let mut rest = &talk.to_server[base..];
            while let Some(&tag) = rest.first() {
                sent.push(match tag {
                    b'S' => model::Sent::Sync,
                    b'd' => model::Sent::Data,
                    b'c' => model::Sent::Done,
                    _ => model::Sent::Query,
                });
                let length = u32::from_be_bytes(rest[1..5].try_into().expect("4")) as usize + 1;
                rest = &rest[length..];
            }
            let answers = model::answers(&sent, extended, fails_at);
            if answers.len() == answered { break }
            let (from, until) = (answered, answers.len());
            answered = until;
            fine = talk.server(&answers[from..until]).is_ok();
        }
        let open = talk.conversation.finish(now());
        for number in 1..=talk.commands.len() as u64 {
            let told = |event: &Event| matches!(event, Event::Outcome(o) if o.intent.0 == number);
            let is_open = open.iter().any(|outcome| outcome.intent.0 == number);
            prop_assert!(is_open || talk.events.iter().any(told), "{number} has no outcome");
        }
        // The COPY has the first numbers.
        let first = if extended { 2 } else { 1 };
        for event in &talk.events {
            if let Event::Outcome(outcome) = event && outcome.intent.0 > first {
                let ran = outcome.tag.as_deref() == Some("RAN");
                prop_assert!(outcome.status.as_str() != "ok" || ran, "{outcome:?}");
                prop_assert!(outcome.status.as_str() != "error", "{outcome:?}");
                prop_assert!(fine || outcome.status.as_str() != "skipped", "{outcome:?}");
            }
        }
        if fine {
            let ran = talk.to_client.windows(4).filter(|w| w == b"RAN\0").count();
            let said = talk.outcomes().iter().filter(|(intent, _, status)| *intent > first && *status == "ok").count();
            prop_assert_eq!(ran, said);
        }
    }
}
