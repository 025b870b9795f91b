//! Handing on: batches are bounded, and together they are everything once.

use sha2::{Digest as _, Sha256};

use super::*;
use crate::Proofs;

fn all(reader: &Reader, most: usize, filter: &Filter) -> Vec<Finished> {
    let last = reader.last_outcome().expect("a number");
    let (mut cursor, mut found) = (Seq(0), Vec::new());
    while cursor < last {
        let (batch, next) = reader.finished(cursor, last, filter, most).expect("a batch");
        assert!(batch.len() <= most && next > cursor, "it goes on");
        found.extend(batch);
        cursor = next;
    }
    found
}

#[test]
fn p7_batches_of_any_size_are_together_everything_once_with_its_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    fill(&log);
    log.turn().expect("a new file");
    let more = vec![
        intent(10, CommandKind::Query, Some("SELECT 3"), None),
        outcome(11, 0, CommandStatus::Ok),
    ];
    let receipts = log.commit(more).expect("committed").receipts();
    let late = receipts[0].seq().0;
    let _ = log.commit(vec![outcome(late, 0, CommandStatus::Error)]).expect("committed");
    let reader = Reader::open(log.path()).expect("readable");
    let proofs = Proofs::open(log.path()).expect("readable");
    let whole = all(&reader, 1000, &Filter::default());
    let ids: Vec<_> = whole.iter().map(|f| (f.part.command.id, f.part.command.part)).collect();
    assert_eq!(ids, [(4, 0), (7, 0), (7, 1), (11, 0), (late, 0)], "in the order of outcomes");
    for most in 1..4 {
        assert_eq!(all(&reader, most, &Filter::default()), whole);
    }
    let errors = Filter { status: Some("error".into()), ..Filter::default() };
    assert_eq!(all(&reader, 1, &errors).len(), 2);
    for finished in &whole {
        assert_eq!(finished.part.response.as_deref(), Some(r#"[["1"]]"#), "also by reference");
        let command = &finished.part.command;
        let pairs = [
            (command.id, finished.intent_leaf),
            (command.outcome.expect("an outcome"), finished.outcome_leaf),
        ];
        for (seq, leaf) in pairs {
            let record = proofs.record(Seq(seq)).expect("read").expect("there").record;
            let expected: [u8; 32] = Sha256::digest([b"\0", record.as_bytes()].concat()).into();
            assert_eq!(leaf, Some(expected), "record {seq}");
        }
    }
    assert_eq!(reader.session(Seq(1)).expect("read").expect("there").commands, 2);
    assert_eq!(reader.session(Seq(999)).expect("read"), None);
}

#[test]
fn p8_a_batch_of_large_texts_ends_early() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    fill(&log);
    for number in 0..4 {
        let text = format!("SELECT {number}{}", "x".repeat(3 << 20));
        let large = vec![intent(10, CommandKind::Query, Some(&text), None)];
        let seq = log.commit(large).expect("committed").receipts()[0].seq().0;
        let _ = log.commit(vec![outcome(seq, 0, CommandStatus::Ok)]).expect("committed");
    }
    let reader = Reader::open(log.path()).expect("readable");
    let last = reader.last_outcome().expect("a number");
    let (batch, next) = reader.finished(Seq(9), last, &Filter::default(), 100).expect("a batch");
    assert_eq!(batch.len(), 2);
    assert!(next < last);
    assert_eq!(all(&reader, 100, &Filter::default()).len(), 7);
}
