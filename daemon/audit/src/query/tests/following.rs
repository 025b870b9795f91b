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
    let all: HashSet<_> = seen.iter().copied().collect();
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

#[test]
fn p7_what_is_asked_for_is_found_in_all_files_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    fill(&log);
    let reader = Reader::open(log.path()).expect("readable");
    let all = |reader: &Reader| {
        let rows = reader.commands(&Filter::default()).expect("rows");
        rows.into_iter()
            .map(|row| (row.id, row.part, row.statement, row.status))
            .collect::<Vec<_>>()
    };
    let (before, sessions) = (all(&reader), reader.sessions(10).expect("rows"));
    let runs = reader.runs(10).expect("rows");
    let binaries = reader.binaries().expect("rows");
    let mut cursor = reader.last_outcome().expect("a number");
    log.turn().expect("turned");
    assert_eq!(all(&reader), before);
    assert_eq!(reader.sessions(10).expect("rows"), sessions);
    assert_eq!(reader.runs(10).expect("rows"), runs);
    assert_eq!(reader.binaries().expect("rows"), binaries);
    // A command that was under way is the same command when it is done.
    let pending = before.iter().find(|row| row.3 == "pending").expect("one is under way").0;
    let late = vec![outcome(pending, 0, CommandStatus::Ok)];
    let _ = log.commit(late).expect("committed").receipts();
    let next = vec![intent(1, CommandKind::Query, Some("SELECT 'next'"), None)];
    let next = log.commit(next).expect("committed").receipts()[0].seq();
    let after = all(&reader);
    assert_eq!(after.len(), before.len() + 1);
    assert!(after.iter().any(|row| (row.0, row.3.as_str()) == (pending, "ok")), "{after:?}");
    assert_eq!(after.last().map(|row| row.0), Some(next.0));
    let counted = |rows: &[SessionRow]| rows.iter().map(|row| row.commands).sum::<u64>();
    let now = reader.sessions(10).expect("rows");
    assert_eq!(counted(&now), counted(&sessions) + 1);
    let (followed, at) = reader.follow(cursor, &Filter::default()).expect("rows");
    cursor = at;
    assert_eq!(followed.iter().map(|row| row.id).collect::<Vec<_>>(), [pending]);
    assert_eq!(reader.follow(cursor, &Filter::default()).expect("rows").0, []);
    let newest = Filter { limit: Some(2), ..Filter::default() };
    let newest = reader.commands(&newest).expect("rows");
    assert_eq!(newest.len(), 2);
    assert_eq!(newest[1].id, next.0);
    assert!(reader.command(Seq(before[0].0)).expect("read").is_some(), "in the first file");
}
