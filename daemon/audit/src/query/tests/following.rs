//! Following: nothing missed, nothing twice.

use super::*;

#[test]
fn a_follower_misses_nothing_and_sees_nothing_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    fill(&log);
    let reader = Reader::open(log.path()).expect("readable");
    let mut cursor = Seq(0);
    let mut seen = Vec::new();
    let mut follow = |cursor: &mut Seq| {
        let (rows, next) = reader.follow(*cursor, &Filter::default()).expect("rows");
        *cursor = next;
        seen.extend(rows.iter().map(|row| (row.id, row.part)));
    };
    follow(&mut cursor);
    follow(&mut cursor);
    let late = vec![outcome(11, 0, CommandStatus::Ok)];
    let _ = log.commit(late).expect("committed").receipts();
    follow(&mut cursor);
    assert_eq!(seen, [(4, 0), (7, 0), (7, 1), (11, 0)]);
    assert_eq!(reader.last_outcome().expect("a number"), cursor);
}

#[test]
fn p7_following_while_the_log_is_written_misses_nothing_and_repeats_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    let reader = Reader::open(log.path()).expect("readable");
    let (mut cursor, mut seen) = (Seq(0), Vec::new());
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|session| {
                let log = log.clone();
                scope.spawn(move || {
                    for _ in 0..300 {
                        let record = intent(session, CommandKind::Query, Some("x"), None);
                        let receipts = log.commit(vec![record]).expect("committed").receipts();
                        log.ride_along(outcome(receipts[0].seq().0, 0, CommandStatus::Ok));
                    }
                })
            })
            .collect();
        loop {
            let done = writers.iter().all(std::thread::ScopedJoinHandle::is_finished)
                && log.stats().queued == 0;
            let (rows, next) = reader.follow(cursor, &Filter::default()).expect("rows");
            seen.extend(rows.iter().map(|row| row.id));
            cursor = next;
            if done {
                break;
            }
        }
    });
    let all: std::collections::HashSet<_> = seen.iter().copied().collect();
    assert_eq!((seen.len(), all.len()), (1200, 1200));
}

#[test]
fn a_followers_cursor_moves_past_what_the_filter_leaves_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    fill(&log);
    let reader = Reader::open(log.path()).expect("readable");
    let nobody = Filter { agent: Some("nobody".into()), ..Filter::default() };
    assert_eq!(reader.follow(Seq(0), &nobody).expect("rows"), (Vec::new(), Seq(9)));
    let session = Filter { session: Some(Seq(1)), ..Filter::default() };
    assert_eq!(reader.follow(Seq(6), &session).expect("rows").0.len(), 2);
}
