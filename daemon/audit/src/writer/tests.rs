use std::{
    collections::HashSet,
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

use chaperone_model::{
    AgentAddr, Command, CommandKind, CommandStatus, Event, EventKind, Intent, OriginalAddr,
    Outcome, Protocol, Ref, SessionOpened, TargetName, Timestamp, VerdictKind,
};
use proptest::prelude::*;

use super::*;
use crate::table::{TABLES, Table};

mod disk;

pub(crate) fn intent(session: u64, text: &str) -> Record {
    Record::Intent(Intent {
        at: Timestamp(1),
        session: Seq(session),
        command: Command::new(CommandKind::Query, Some(text.into())),
        verdict: VerdictKind::Allow,
        rule: "r".into(),
        rung: None,
        summary: None,
        approval: None,
        lifted: Vec::new(),
    })
}

pub(crate) fn outcome(intent: u64, status: CommandStatus) -> Record {
    Record::Outcome(Outcome {
        at: Timestamp(2),
        intent: Seq(intent),
        part: 0,
        status,
        tag: Some("SELECT 1".into()),
        error_code: None,
        error_message: None,
        duration_us: 5,
        rows: 1,
        bytes: 10,
        bytes_in: 0,
        response: None,
        notices: None,
        transaction: Some("idle"),
        masked: None,
    })
}

pub(crate) fn session() -> Record {
    Record::SessionOpened(SessionOpened {
        at: Timestamp(1),
        process: Ref::To(Seq(1)),
        comm: "c".into(),
        doubts: None,
        target: TargetName("t".into()),
        protocol: Protocol::Postgres,
        original: OriginalAddr(([127, 0, 0, 1], 1).into()),
        agent_addr: AgentAddr(([127, 0, 0, 1], 2).into()),
        inside: None,
    })
}

fn event(detail: &str) -> Record {
    Record::Event(Event {
        at: Timestamp(3),
        session: None,
        kind: EventKind::NoNote,
        detail: detail.into(),
    })
}

fn open(folder: &tempfile::TempDir) -> Log {
    Log::open(&folder.path().join("log.sqlite"), Options::default()).expect("a log")
}

fn seqs(log: &Log, records: Vec<Record>) -> Vec<u64> {
    let receipts = log.commit(records).expect("committed").receipts();
    receipts.iter().map(|r| r.seq().0).collect()
}

fn read(log: &Log) -> Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    Connection::open_with_flags(log.path(), flags).expect("readable")
}

fn count(connection: &Connection, table: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM {table}");
    connection.query_row(&sql, [], |row| row.get(0)).expect("a count")
}

#[test]
fn p1_numbers_have_no_gaps_and_every_receipts_row_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    let all: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|session| {
                let log = log.clone();
                scope.spawn(move || {
                    let reader = read(&log);
                    (0..500)
                        .map(|n| {
                            let seq = seqs(&log, vec![intent(session, &n.to_string())])[0];
                            let text: String = reader
                                .query_row(
                                    "SELECT text FROM intent WHERE seq = ?",
                                    [seq.cast_signed()],
                                    |r| r.get(0),
                                )
                                .expect("the row is there");
                            assert_eq!(text, n.to_string());
                            seq
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect()
    });
    assert_eq!(all.iter().copied().collect::<HashSet<_>>(), (1..=4000).collect());
}

#[test]
fn callers_that_meet_share_a_transaction() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    // While the connection is held, everyone queues; the first to get it commits for all.
    let held = lock_of(&log.shared.writer);
    thread::scope(|scope| {
        for session in 0..8 {
            let log = log.clone();
            scope.spawn(move || seqs(&log, vec![intent(session, "x")]));
        }
        while lock_of(&log.shared.queue).batches.len() < 8 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(held);
    });
    assert_eq!(log.transactions(), 1);
    assert_eq!(count(&read(&log), "intent"), 8);
}

#[test]
fn riders_are_written_without_anybody_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    let reader = read(&log);
    // Long enough for the thread to have gone to sleep.
    thread::sleep(Duration::from_millis(1300));
    log.ride_along(event("one"));
    for _ in 0..500 {
        if count(&reader, "event") == 1 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the rider was left behind");
}

#[test]
fn closing_writes_what_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    let path = log.path().to_owned();
    log.ride_along(event("last"));
    drop(log);
    let connection = Connection::open(path).expect("open");
    assert_eq!(count(&connection, "event"), 1);
}

#[test]
fn a_second_writer_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    let error = Log::open(log.path(), Options::default()).err().expect("refused");
    assert!(matches!(error, AuditError::Locked(_)), "{error}");
}

#[test]
fn records_cannot_be_changed_or_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    let other = Connection::open(log.path()).expect("open");
    let records = vec![intent(1, "x"), outcome(1, CommandStatus::Ok), event("e")];
    seqs(&log, records);
    for Table { name: table, columns, content, .. } in TABLES {
        // Rows of the tables that have none here: triggers fire for rows.
        let values = vec!["1"; columns.len() + content.len() - 1].join(", ");
        let values = if content.is_empty() { values } else { values + ", NULL, NULL" };
        let _ = other
            .execute(&format!("INSERT INTO {table} VALUES (100, {values})"), [])
            .expect("added");
        for verb in ["INSERT OR REPLACE", "REPLACE", "INSERT"] {
            let error = other
                .execute(&format!("{verb} INTO {table} VALUES (1, {values})"), [])
                .expect_err(verb);
            assert!(error.to_string().contains("append-only"), "{error}");
        }
        let mut changes =
            vec![format!("UPDATE {table} SET at = 0"), format!("DELETE FROM {table}")];
        for column in *content {
            changes.push(format!("UPDATE {table} SET {column} = 'x', content_digest = x'00'"));
            changes.push(format!("UPDATE {table} SET {column} = NULL"));
        }
        for change in changes {
            let error = other.execute(&change, []).expect_err(&change);
            assert!(error.to_string().contains("append-only"), "{error}");
        }
    }
}

#[test]
fn what_an_earlier_daemon_left_open_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    seqs(&log, vec![intent(1, "done"), outcome(1, CommandStatus::Ok), intent(1, "open")]);
    drop(log);
    let log = open(&folder);
    let unknown: Vec<i64> = read(&log)
        .prepare("SELECT intent FROM outcome WHERE status = 'unknown'")
        .expect("prepared")
        .query_map([], |r| r.get(0))
        .expect("rows")
        .collect::<Result<_, _>>()
        .expect("numbers");
    assert_eq!(unknown, [3]);
    assert_eq!(seqs(&log, vec![intent(1, "next")]), [5], "the numbers go on");
}

#[test]
fn other_databases_and_newer_logs_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("other.sqlite");
    Connection::open(&path).expect("open").execute_batch("CREATE TABLE t (a)").expect("made");
    let error = Log::open(&path, Options::default()).err().expect("refused");
    assert!(matches!(error, AuditError::NotALog(_)), "{error}");
    let log = open(&folder);
    let path = log.path().to_owned();
    drop(log);
    Connection::open(&path).expect("open").pragma_update(None, "user_version", 99).expect("set");
    let error = Log::open(&path, Options::default()).err().expect("refused");
    assert!(matches!(error, AuditError::Newer { found: 99, .. }), "{error}");
}

#[test]
fn a_session_that_an_earlier_daemon_left_open_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    seqs(&log, vec![session()]);
    drop(log);
    for _ in 0..2 {
        let log = open(&folder);
        let closed: (i64, String, String) = read(&log)
            .query_row("SELECT session, closed_by, detail FROM session_closed", [], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?))
            })
            .expect("one row");
        assert_eq!((closed.0, closed.1.as_str()), (1, "daemon"));
        assert_eq!(closed.2, "the daemon ended before the session did");
        assert_eq!(log.stats().last, Seq(2), "and only once");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit(u8),
    Ride,
    Full,
    Room,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Against a model: what was acknowledged is there in order, what was refused is not, and what
    /// rode along is there in the end.
    #[test]
    fn p1_the_writer_agrees_with_its_model(steps in proptest::collection::vec(prop_oneof![
        4 => (1..4_u8).prop_map(Step::Commit), 2 => Just(Step::Ride), 1 => Just(Step::Full), 1 => Just(Step::Room),
    ], 1..40)) {
        let folder = tempfile::tempdir().expect("a folder");
        let log = open(&folder);
        let (mut committed, mut ridden, mut text) = (Vec::new(), 0, 0);
        for step in steps {
            match step {
                Step::Commit(size) => {
                    let texts: Vec<String> = (0..size).map(|_| { text += 1; format!("{text} {}", "x".repeat(5000)) }).collect();
                    if let Ok(done) = log.commit(texts.iter().map(|t| intent(1, t)).collect()) {
                        prop_assert_eq!(done.receipts().len(), texts.len());
                        committed.extend(texts);
                    }
                }
                Step::Ride => { ridden += 1; log.ride_along(event("e")); }
                Step::Full => lock_of(&log.shared.writer).appender.limit_pages(1),
                Step::Room => lock_of(&log.shared.writer).appender.limit_pages(1 << 20),
            }
        }
        lock_of(&log.shared.writer).appender.limit_pages(1 << 20);
        let path = log.path().to_owned();
        drop(log);
        let connection = Connection::open(path).expect("open");
        let texts: Vec<String> = connection.prepare("SELECT text FROM intent ORDER BY seq").expect("prepared")
            .query_map([], |r| r.get(0)).expect("rows").collect::<Result<_, _>>().expect("texts");
        prop_assert_eq!(&texts, &committed);
        prop_assert_eq!(count(&connection, "event"), ridden);
        let last: u64 = connection
            .query_row("SELECT coalesce(max(seq), 0) FROM tree", [], |row| row.get(0))
            .expect("a number");
        prop_assert_eq!(last, committed.len() as u64 + ridden, "no gaps");
    }
}
