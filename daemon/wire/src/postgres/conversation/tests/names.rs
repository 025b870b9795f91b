//! Which statement a run is recorded with.

use super::*;

const DONE: &[u8] = b"DELETE FROM t";

/// The statement of the last command, and its kind.
fn last(talk: &Talk) -> (CommandKind, Option<u64>) {
    let command = talk.commands.last().expect("a command");
    (command.kind, command.statement)
}

/// A conversation in which statement 1 of this name is made.
fn with_statement(name: &str) -> Talk {
    let mut talk = Talk::ready();
    let text = std::str::from_utf8(DONE).expect("text");
    talk.client(&[parse(name, text), sync()].concat()).expect("fine");
    talk.server(&[message(b'1', b""), ready(b"I")].concat()).expect("fine");
    talk
}

#[test]
fn p1_a_run_is_not_that_of_a_statement_whose_making_was_passed_over() {
    let mut talk = with_statement("");
    let flight =
        [message(b'D', b"Snope\0"), parse("", "SELECT 1"), sync(), bind(""), execute(), sync()];
    talk.client(&flight.concat()).expect("fine");
    talk.server(&[error(), ready(b"I")].concat()).expect("fine");
    assert_eq!(last(&talk), (CommandKind::Execute, Some(1)));
    talk.server(&[message(b'2', b""), complete("DELETE 1"), ready(b"I")].concat()).expect("fine");
    assert_eq!(talk.outcomes(), [(1, 0, "ok"), (2, 0, "skipped"), (3, 0, "ok")]);
    assert_eq!(talk.to_server, [with_statement("").to_server, flight.concat()].concat());
}

#[test]
fn p1_a_run_is_not_that_of_a_statement_whose_name_was_taken() {
    let mut talk = with_statement("s");
    let flight = [parse("s", "SELECT 1"), sync(), bind("s"), execute(), sync()].concat();
    talk.client(&flight).expect("fine");
    talk.server(&[error(), ready(b"I")].concat()).expect("fine");
    assert_eq!(last(&talk), (CommandKind::Execute, Some(1)));
}

#[test]
fn p1_a_statement_that_is_closed_meanwhile_is_waited_for() {
    let mut talk = with_statement("s");
    let close = message(b'C', b"Ss\0");
    let flight = [message(b'D', b"Snope\0"), close, sync(), bind("s"), execute(), sync()];
    talk.client(&flight.concat()).expect("fine");
    talk.server(&[error(), ready(b"I")].concat()).expect("fine");
    assert_eq!(last(&talk), (CommandKind::Execute, Some(1)), "it was not closed");
}

#[test]
fn p1_a_name_that_sql_gives_to_another_meanwhile_is_waited_for() {
    let mut talk = with_statement("s");
    let (one, two) = (query("DEALLOCATE s"), query("PREPARE s AS DELETE FROM u"));
    talk.client(&[one, two, bind("s"), execute(), sync()].concat()).expect("fine");
    assert_eq!(last(&talk).0, CommandKind::Query, "the run waits");
    talk.server(&[complete("DEALLOCATE"), ready(b"I")].concat()).expect("fine");
    talk.server(&[complete("PREPARE"), ready(b"I")].concat()).expect("fine");
    assert_eq!(last(&talk), (CommandKind::Execute, None));

    // Without a Sync there is nothing to wait for.
    let mut talk = with_statement("s");
    let run = |text| [parse("", text), bind(""), execute()].concat();
    let renaming = [run("DEALLOCATE s"), run("PREPARE s AS DELETE FROM u")].concat();
    talk.client(&[renaming, bind("s"), execute(), sync()].concat()).expect("fine");
    assert_eq!(last(&talk), (CommandKind::Execute, None));
}

#[test]
fn p4_a_pipeline_of_honest_statements_waits_for_nothing() {
    let mut talk = Talk::ready();
    let run = |name, text| [parse(name, text), bind(name), execute()].concat();
    let mut sent = [run("", "BEGIN"), run("s", "INSERT INTO t VALUES ($1)")].concat();
    for _ in 0..3 {
        sent.extend([bind("s"), execute()].concat());
    }
    sent.extend([run("", "/* orm */ COMMIT"), bind("s"), execute(), sync()].concat());
    for _ in 0..3 {
        sent.extend([run("", "SELECT 1"), sync()].concat());
    }
    talk.client(&sent).expect("fine");
    assert_eq!(talk.to_server, sent);
    let of_s: Vec<_> = talk.commands.iter().filter(|c| c.statement == Some(2)).collect();
    assert_eq!(of_s.len(), 6, "one that prepares and five runs");
}

fn bind_portal(portal: &str, name: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{name}\0\0\0\0\0\0\0").as_bytes())
}

fn execute_portal(portal: &str) -> Vec<u8> {
    message(b'E', format!("{portal}\0\0\0\0\0").as_bytes())
}

/// In a transaction, with portal "p" of statement 1.
fn with_portal() -> Talk {
    let mut talk = Talk::ready();
    talk.client(&[parse("a", "SELECT 1"), bind_portal("p", "a"), sync()].concat()).expect("fine");
    talk.server(&[message(b'1', b""), message(b'2', b""), ready(b"T")].concat()).expect("fine");
    talk
}

#[test]
fn p1_a_portal_that_sql_replaced_is_not_taken_for_the_one_before() {
    for awaited in [true, false] {
        let mut talk = with_portal();
        let sql = query("CLOSE p; DECLARE p CURSOR FOR SELECT evil()");
        let run = [execute_portal("p"), sync()].concat();
        let answer = [complete("CLOSE CURSOR"), complete("DECLARE CURSOR"), ready(b"T")].concat();
        if awaited {
            talk.client(&sql).expect("fine");
            talk.server(&answer).expect("fine");
            talk.client(&run).expect("fine");
        } else {
            talk.client(&[sql, run].concat()).expect("fine");
            assert_eq!(last(&talk).0, CommandKind::Query, "the run waits");
            talk.server(&answer).expect("fine");
        }
        assert_eq!(last(&talk), (CommandKind::Execute, None));
    }
}

#[test]
fn p1_a_portal_whose_savepoint_is_gone_is_not_taken_for_a_cursor() {
    let mut talk = with_portal();
    for (text, tag) in
        [("ROLLBACK TO s", "ROLLBACK"), ("DECLARE q CURSOR FOR SELECT 1", "DECLARE CURSOR")]
    {
        talk.client(&query(text)).expect("fine");
        talk.server(&[complete(tag), ready(b"T")].concat()).expect("fine");
    }
    talk.client(&[execute_portal("p"), sync()].concat()).expect("fine");
    assert_eq!(last(&talk), (CommandKind::Execute, None));
}

#[test]
fn p1_a_portal_whose_binding_was_passed_over_is_the_one_before() {
    let mut talk = with_portal();
    let flight = [
        message(b'D', b"Snope\0"),
        parse("b", "SELECT 2"),
        bind_portal("p", "b"),
        sync(),
        query("ROLLBACK TO s"),
        execute_portal("p"),
        sync(),
    ];
    talk.client(&flight.concat()).expect("fine");
    talk.server(&[error(), ready(b"E"), complete("ROLLBACK"), ready(b"T")].concat()).expect("fine");
    assert_eq!(last(&talk), (CommandKind::Execute, Some(1)));
}

#[test]
fn p1_portals_end_with_their_transaction_though_more_was_sent_ahead() {
    let mut talk = with_portal();
    talk.client(&[query("COMMIT"), sync()].concat()).expect("fine");
    talk.server(&[complete("COMMIT"), ready(b"I")].concat()).expect("fine");
    talk.client(&[execute_portal("p"), sync()].concat()).expect("fine");
    assert_eq!(last(&talk), (CommandKind::Execute, None));
}

#[test]
fn p1_a_block_that_may_rename_leaves_no_name_certain() {
    for (body, known) in [("EXECUTE 'DEALLOCATE s'", None), ("UPDATE t SET a = 1", Some(1))] {
        for extended in [true, false] {
            let mut talk = with_statement("s");
            let text = format!("DO $$ BEGIN {body}; END $$");
            let answer = [complete("DO"), ready(b"I")].concat();
            if extended {
                let run = [parse("", &text), bind(""), execute(), sync()].concat();
                talk.client(&run).expect("fine");
                let made = [message(b'1', b""), message(b'2', b"")].concat();
                talk.server(&[made, answer].concat()).expect("fine");
            } else {
                talk.client(&query(&text)).expect("fine");
                talk.server(&answer).expect("fine");
            }
            talk.client(&[bind("s"), execute(), sync()].concat()).expect("fine");
            assert_eq!(last(&talk), (CommandKind::Execute, known), "{body}");
        }
    }
}

#[test]
fn p1_names_that_the_server_may_take_for_others_are_refused() {
    let long = "n".repeat(64);
    for name in [long.as_str(), "é"] {
        for bytes in [
            parse(name, "SELECT 1"),
            bind(name),
            bind_portal(name, ""),
            execute_portal(name),
            message(b'D', format!("S{name}\0").as_bytes()),
            message(b'C', format!("P{name}\0").as_bytes()),
        ] {
            let mut talk = Talk::ready();
            talk.client(&[bytes.clone(), sync()].concat()).expect("fine");
            assert_ne!(talk.to_server, [bytes, sync()].concat());
            talk.server(&[error(), ready(b"I")].concat()).expect("fine");
            assert_eq!(talk.outcomes(), [(1, 0, "refused")]);
        }
    }
}

#[test]
fn p1_answers_to_what_was_not_sent_yet_are_found_out() {
    for (bytes, answer) in [
        (query("SELECT 1"), complete("SELECT 1")),
        (query("SELECT 1"), message(b'D', &[0, 0])),
        (query("SELECT 1"), error()),
        (parse("", "SELECT 1"), message(b'1', b"")),
    ] {
        let mut conversation = Conversation::new(limits(), RULES);
        let (signed_on, mut events) = ([message(b'R', &[0; 4]), ready(b"I")].concat(), Vec::new());
        conversation.server(&signed_on, now(), &mut events).expect("signed on");
        assert!(matches!(conversation.client(&bytes), Ok(ClientStep::Command { .. })));
        conversation.allowed(<_>::default());
        assert!(conversation.server(&answer, now(), &mut events).is_err(), "{answer:?}");

        // An end needs no occasion, and takes no other's place.
        let mut conversation = Conversation::new(limits(), RULES);
        conversation.server(&signed_on, now(), &mut events).expect("signed on");
        assert!(matches!(conversation.client(&bytes), Ok(ClientStep::Command { .. })));
        conversation.allowed(<_>::default());
        let fatal = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mover\0\0");
        assert!(conversation.server(&fatal, now(), &mut events).is_ok());
        conversation.recorded([Seq(5)], now(), &mut events);
        let open = conversation.finish(now());
        assert_eq!(open.iter().map(|o| o.intent).collect::<Vec<_>>(), [Seq(5)]);
    }
}

#[test]
fn p8_a_batch_that_failed_makes_room_for_what_follows_in_it() {
    // The server answers nothing up to the Sync: the client must be let through to it.
    let mut talk = Talk::ready();
    let batch = parse("", "x").repeat(3 * AHEAD);
    talk.client(&[batch, sync()].concat()).expect("fine");
    assert!(!talk.up.is_empty(), "some wait");
    talk.server(&error()).expect("fine");
    assert!(talk.up.is_empty());
    talk.server(&ready(b"I")).expect("fine");
    let outcomes = talk.outcomes();
    assert_eq!(outcomes.len(), 3 * AHEAD);
    assert!(outcomes.iter().skip(1).all(|(_, _, status)| *status == "skipped"));
    assert!(talk.conversation.is_at_rest());
}

#[test]
fn p8_types_of_many_statements_are_kept_within_a_budget() {
    let mut talk = Talk::ready();
    let types = 1024_u16;
    for number in 0..1000 {
        let head = format!("{number}\0SELECT 1\0");
        let oids = 23_u32.to_be_bytes().repeat(types.into());
        let body = [head.as_bytes(), &types.to_be_bytes(), &oids].concat();
        talk.client(&[message(b'P', &body), sync()].concat()).expect("fine");
        talk.server(&[message(b'1', b""), ready(b"I")].concat()).expect("fine");
    }
    let names = &mut talk.conversation.statements;
    let kept: usize = (0..1000)
        .map(|n| names.standing(n.to_string().as_bytes()).map_or(0, |p| 4 * p.types.get().len()))
        .sum();
    assert!(kept > HELD / 2 && kept <= HELD, "{kept}");
}

#[test]
fn a_description_is_of_all_runs_of_its_statement() {
    let columns = message(b'T', b"\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
    let row = message(b'D', b"\0\x01\0\0\0\x011");
    let mut talk = Talk::ready();
    let described = message(b'D', b"Ss\0");
    // Bound before the description comes, and after.
    let sent = [parse("s", "SELECT 1"), bind("s"), described, execute(), bind("s"), execute()];
    talk.client(&[sent.concat(), sync()].concat()).expect("fine");
    let ran = [row, complete("SELECT 1")].concat();
    let bound = message(b'2', b"");
    let types = message(b't', b"\0\0");
    let made = message(b'1', b"");
    talk.server(
        &[made, bound.clone(), types, columns, ran.clone(), bound, ran, ready(b"I")].concat(),
    )
    .expect("fine");
    let columns: Vec<_> = talk
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Outcome(outcome) => outcome.response.as_ref(),
            _ => None,
        })
        .map(|response| response.columns.as_str())
        .collect();
    assert_eq!(columns, [r#"["n"]"#; 2]);
}
