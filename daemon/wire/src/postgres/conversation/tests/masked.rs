//! Results in which values are masked.

use super::*;
use crate::postgres::{Became, CopiedColumns, Copies, Counts, Field, Plan};
use chaperone_model::{CopyFormat, CopyLayout};

/// Masks what comes of table 7, and what it is not told of.
#[derive(Debug)]
struct OfSeven;

impl Masks for OfSeven {
    fn plan(&self, _: u32, fields: Option<&[Field]>, count: usize) -> Plan {
        match fields {
            Some(fields) if fields.iter().all(|field| field.table != 7) => Plan::Pass,
            Some(fields) => {
                Plan::Each(fields.iter().map(|field| (field.table == 7).then_some(1)).collect())
            }
            None => Plan::Each(vec![Some(0); count]),
        }
    }

    fn value(
        &self,
        way: u16,
        _: u32,
        _: bool,
        _: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Became {
        counts.add(way);
        if way != 1 {
            return Became::Null;
        }
        out.extend_from_slice(b"***");
        Became::Value
    }

    fn copies(&self, part: u32) -> Copies {
        if part > 0 {
            return Copies::Not;
        }
        let layout = CopyLayout::usual(CopyFormat::Csv);
        Copies::Rows(layout, CopiedColumns::Each(vec![(None, 0), (Some(1), 25)]))
    }

    fn hides_messages(&self) -> bool {
        true
    }

    fn name(&self, way: u16) -> String {
        format!("way {way}")
    }
}

fn described(table: u32) -> Vec<u8> {
    let mut body = vec![0, 1, b'c', 0];
    body.extend(table.to_be_bytes());
    body.extend([0, 2, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
    message(b'T', &body)
}

fn row(value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("short").to_be_bytes();
    message(b'D', &[&[0, 1][..], &length, value.as_bytes()].concat())
}

fn has(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|window| window == what.as_bytes())
}

fn responses(talk: &mut Talk) -> Vec<(Option<String>, Option<String>)> {
    let outcome = |event| match event {
        Event::Outcome(outcome) => {
            Some((outcome.response.map(|response| response.rows), outcome.masked))
        }
        _ => None,
    };
    talk.events.drain(..).filter_map(outcome).collect()
}

#[test]
fn p5_a_masked_value_reaches_neither_the_client_nor_the_log() {
    let mut talk = Talk::ready();
    talk.masks = Some(Rc::new(OfSeven));
    talk.client(&query("SELECT c FROM t; SELECT c FROM u")).expect("fine");
    let first = [described(7), row("secret"), complete("SELECT 1")].concat();
    let second = [described(8), row("public"), complete("SELECT 1"), ready(b"I")].concat();
    talk.server(&[first, second].concat()).expect("fine");
    assert!(!has(&talk.to_client, "secret") && has(&talk.to_client, "public"));
    let expected = [
        (Some("[[\"***\"]]".to_owned()), Some(r#"{"way 1":1}"#.to_owned())),
        (Some("[[\"public\"]]".to_owned()), None),
    ];
    assert_eq!(responses(&mut talk), expected);
}

#[test]
fn p5_a_row_that_comes_in_pieces_is_masked() {
    let mut talk = Talk::ready();
    talk.masks = Some(Rc::new(OfSeven));
    talk.client(&query("SELECT c FROM t")).expect("fine");
    for byte in [described(7), row("secret"), complete("SELECT 1"), ready(b"I")].concat() {
        talk.server(&[byte]).expect("fine");
    }
    assert!(!has(&talk.to_client, "secret") && has(&talk.to_client, "***"));
}

#[test]
fn p5_a_prepared_statement_is_masked_each_time_it_runs() {
    for is_described in [true, false] {
        let mut talk = Talk::ready();
        talk.masks = Some(Rc::new(OfSeven));
        let describe = message(b'D', b"Sa\0");
        let asked = if is_described { &describe[..] } else { &[] };
        talk.client(&[&parse("a", "SELECT c FROM t"), asked, &sync()].concat()).expect("fine");
        let types = message(b't', &[0, 0]);
        let told = if is_described { [types, described(7)].concat() } else { Vec::new() };
        talk.server(&[message(b'1', b""), told, ready(b"I")].concat()).expect("fine");
        // Nothing more is said of masks.
        talk.masks = None;
        talk.to_client.clear();
        for _ in 0..2 {
            talk.client(&[bind("a"), execute(), sync()].concat()).expect("fine");
            let run = [message(b'2', b""), row("secret"), complete("SELECT 1"), ready(b"I")];
            talk.server(&run.concat()).expect("fine");
        }
        assert!(!has(&talk.to_client, "secret"));
        assert_eq!(has(&talk.to_client, "***"), is_described, "what is not described is NULL");
    }
}

#[test]
fn p5_what_runs_by_an_unknown_name_is_masked_blindly() {
    let mut talk = Talk::ready();
    talk.conversation.set_blind(Some(Rc::new(OfSeven)));
    talk.client(&[message(b'E', b"cursor\0\0\0\0\0"), sync()].concat()).expect("fine");
    talk.server(&[row("secret"), complete("FETCH 1"), ready(b"I")].concat()).expect("fine");
    assert!(!has(&talk.to_client, "secret"));
}

#[test]
fn p5_errors_and_notices_keep_their_code_alone() {
    let mut talk = Talk::ready();
    talk.masks = Some(Rc::new(OfSeven));
    talk.client(&query("SELECT c::int FROM t")).expect("fine");
    let notice = message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Msecret\0\0");
    let failed = message(b'E', b"SERROR\0VERROR\0C22P02\0Mno integer: secret\0Dsecret\0\0");
    talk.server(&[notice.clone(), failed.clone(), ready(b"I")].concat()).expect("fine");
    assert!(!has(&talk.to_client, "secret") && has(&talk.to_client, "C22P02"));
    assert!(!talk.events.iter().any(|event| format!("{event:?}").contains("secret")));
    // A constraint that is checked later may speak of what was done before.
    talk.masks = None;
    talk.client(&query("COMMIT")).expect("fine");
    talk.server(&[failed, ready(b"I")].concat()).expect("fine");
    assert!(!has(&talk.to_client, "secret"));
}

#[test]
fn p5_what_is_copied_out_unmasked_ends_the_session() {
    let mut talk = Talk::ready();
    talk.masks = Some(Rc::new(OfSeven));
    talk.client(&query("SELECT 1; COPY t TO STDOUT")).expect("fine");
    talk.server(&complete("SELECT 0")).expect("fine");
    assert!(talk.server(&message(b'H', &[0, 0, 2, 0, 0, 0, 0])).is_err());
    // Before a COPY began; with columns that it was not read to have; with half a row at its end.
    for begin in [vec![], message(b'H', &[0, 0, 1, 0, 0]), message(b'H', &[1, 0, 2, 0, 1, 0, 1])] {
        let mut talk = Talk::ready();
        talk.masks = Some(Rc::new(OfSeven));
        talk.client(&query("COPY t TO STDOUT")).expect("fine");
        assert!(talk.server(&[begin, message(b'd', b"1,secret\n")].concat()).is_err());
        assert!(!has(&talk.to_client, "secret"));
    }
    let mut talk = Talk::ready();
    talk.masks = Some(Rc::new(OfSeven));
    talk.client(&query("COPY t TO STDOUT")).expect("fine");
    talk.server(&message(b'H', &[0, 0, 2, 0, 0, 0, 0])).expect("fine");
    talk.server(&message(b'd', b"1,secret")).expect("it may go on");
    assert!(talk.server(&message(b'c', b"")).is_err());
    assert!(!has(&talk.to_client, "secret"));
}

#[test]
fn p5_what_is_copied_out_is_masked_for_the_client_and_the_log() {
    let mut talk = Talk::ready();
    talk.masks = Some(Rc::new(OfSeven));
    talk.client(&query("COPY t TO STDOUT CSV")).expect("fine");
    let sent = [
        message(b'H', &[0, 0, 2, 0, 0, 0, 0]),
        message(b'd', b"1,secret\n"),
        message(b'd', b"2,\n"),
        message(b'd', b"3,sec"),
        message(b'd', b"ret\n4,"),
        message(b'd', b"secret\n"),
        message(b'c', b""),
        complete("COPY 4"),
        ready(b"I"),
    ];
    for byte in sent.concat() {
        talk.server(&[byte]).expect("fine");
    }
    let expected = [
        message(b'H', &[0, 0, 2, 0, 0, 0, 0]),
        message(b'd', b"1,\"***\"\n"),
        message(b'd', b"2,\n"),
        message(b'd', b"3,\"***\"\n"),
        message(b'd', b"4,\"***\"\n"),
        message(b'c', b""),
    ];
    assert!(has(&talk.to_client, &String::from_utf8_lossy(&expected.concat())));
    let logged = r#"["1,\"***\"\n","2,\n","3,\"***\"\n","4,\"***\"\n"]"#;
    let expected = [(Some(logged.to_owned()), Some(r#"{"way 1":3}"#.to_owned()))];
    assert_eq!(responses(&mut talk), expected);
}
