use std::{fs, time::Duration};

use chaperone_model::{
    Command, CommandKind, CommandStatus, HoldOpened, HoldVoted, Intent, Outcome, Record, Ref,
    Response, Rung, VerdictKind,
};

use super::*;
use crate::{
    Log, Options,
    query::tests::{opened, process, run},
};

const NONE: [u64; 0] = [];

/// A command and its outcome, at so many seconds.
fn did(log: &Log, at: i64, text: &str, rows: &str, change: impl FnOnce(&mut Intent)) -> u64 {
    let mut intent = Intent {
        at: Timestamp(at * 1_000_000),
        session: Seq(3),
        command: Command::new(CommandKind::Query, Some(text.into())),
        verdict: VerdictKind::Allow,
        rule: "r".into(),
        rung: Some(Rung::Read),
        summary: Some(r#"{"statements":[{"kind":"SELECT","reads":["public.orders"]}]}"#.into()),
        approval: None,
    };
    change(&mut intent);
    let id = log.commit(vec![Record::Intent(intent)]).expect("committed").receipts()[0].seq();
    let mut outcome = Outcome::new(id, CommandStatus::Ok, Timestamp(at * 1_000_000 + 1));
    outcome.response =
        Some(Response { columns: "[]".into(), rows: rows.into(), kept: 1, truncated: false });
    let _ = log.commit(vec![Record::Outcome(outcome)]).expect("committed");
    id.0
}

fn begun(folder: &tempfile::TempDir) -> Log {
    let log = Log::open(&folder.path().join("log.sqlite"), Options::default()).expect("a log");
    let _ = log.commit(vec![run("a", "1")]).expect("committed");
    let _ = log.commit(vec![process(1, None, "p")]).expect("committed");
    let _ = log.commit(vec![opened(2)]).expect("committed");
    log
}

fn wait_for_index(log: &Log) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let (indexed, last) = lag(log.path()).expect("readable");
        if indexed == last {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{indexed:?} of {last:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ids(log: &Log, search: &Search) -> Vec<u64> {
    let reader = Reader::open(log.path()).expect("readable");
    let search =
        Search { limit: if search.limit == 0 { 100 } else { search.limit }, ..search.clone() };
    reader.search(&search).expect("found").rows.iter().map(|row| row.id).collect()
}

fn text(text: &str) -> Search {
    Search { text: Some(text.into()), ..Search::default() }
}

/// With an index, with one that lags, and with none.
fn in_all_ways(log: &Log, indexing: &mut Option<Indexing>, check: impl Fn(&str)) {
    check("without");
    *indexing = Some(Indexing::start(log.path()).expect("started"));
    wait_for_index(log);
    check("with");
}

#[test]
fn commands_are_found_by_words_and_by_what_they_are_with_and_without_an_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = begun(&folder);
    let first =
        did(&log, 10, "SELECT name FROM orders WHERE id = 4711", "[[\"Émile Zola\"]]", |_| {});
    let second = did(&log, 20, "DELETE FROM app.notes", "[]", |intent| {
        intent.rung = Some(Rung::Destructive);
        intent.verdict = VerdictKind::Hold;
        intent.summary =
            Some(r#"{"statements":[{"kind":"DELETE","writes":["app.notes"]}]}"#.into());
    });
    let third = did(&log, 30, "SELECT 'orders of notes'", "[[\"x\"]]", |_| {});
    let pending = log
        .commit(vec![crate::writer::tests::intent(3, "SELECT pg_sleep(100) /* orders */")])
        .expect("committed")
        .receipts()[0]
        .seq()
        .0;
    let mut indexing = None;
    in_all_ways(&log, &mut indexing, |how| {
        let of = |search: Search| ids(&log, &search);
        assert_eq!(of(text("orders")), [pending, third, first], "{how}");
        assert_eq!(of(text("ORDERS where")), [first], "{how}: a phrase");
        assert_eq!(of(text("where orders")), NONE, "{how}");
        assert_eq!(of(text("emile")), [first], "{how}: the response, without its accent");
        assert_eq!(of(text("47*")), [first], "{how}: the beginning of a word");
        assert_eq!(of(text("47")), NONE, "{how}");
        assert_eq!(of(text("4711 emile")), NONE, "{how}: not across texts");
        let some = |value: &str| Some(value.to_owned());
        assert_eq!(of(Search { relation: some("orders"), ..Search::default() }), [third, first]);
        assert_eq!(of(Search { relation: some("app.notes"), ..Search::default() }), [second]);
        assert_eq!(of(Search { class: some("destructive"), ..Search::default() }), [second]);
        assert_eq!(of(Search { verdict: some("hold"), ..Search::default() }), [second]);
        assert_eq!(of(Search { status: some("pending"), ..Search::default() }), [pending]);
        assert_eq!(of(Search { agent: some("nobody"), ..Search::default() }), NONE);
        assert_eq!(
            of(Search { agent: some("a"), limit: 2, ..Search::default() }),
            [pending, third]
        );
        assert_eq!(of(Search { session: Some(Seq(3)), ..text("notes") }), [third, second]);
        assert_eq!(of(Search { session: Some(Seq(4)), ..text("notes") }), NONE);
        let between = |since: i64, until: i64| Search {
            since: Some(Timestamp(since * 1_000_000)),
            until: Some(Timestamp(until * 1_000_000)),
            ..Search::default()
        };
        assert_eq!(of(between(15, 30)), [second], "{how}");
        assert_eq!(of(between(20, 31)), [third, second], "{how}");
        let none = Reader::open(log.path()).expect("readable").search(&text("( ) --"));
        assert!(matches!(none, Err(AuditError::NoWord)), "{none:?}");
    });
    // What comes later, and in a later file.
    log.turn().expect("turned");
    let later = did(&log, 40, "SELECT * FROM orders", "[]", |_| {});
    assert_eq!(ids(&log, &text("orders"))[0], later);
    wait_for_index(&log);
    assert_eq!(ids(&log, &text("orders")), [later, pending, third, first]);
}

#[test]
fn a_person_who_approved_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = begun(&folder);
    let waits = vec![crate::writer::tests::intent(3, "DROP TABLE x")];
    let hold = log.commit(waits).expect("committed").receipts()[0].seq();
    let opened = HoldOpened {
        at: Timestamp(1),
        hold: Ref::To(hold),
        approvers: "2 of group:dba".into(),
        quorum: 2,
        deadline: Timestamp(9),
        wait: "stay",
        digest: chaperone_model::Digest([0; 32]),
    };
    let voted = |person: &str, approves| {
        Record::HoldVoted(HoldVoted {
            at: Timestamp(2),
            hold,
            approves,
            uid: 7,
            person: person.into(),
            reason: None,
        })
    };
    let records = vec![Record::HoldOpened(opened), voted("ann", true), voted("bob", false)];
    let _ = log.commit(records).expect("committed");
    let through = did(&log, 5, "DROP TABLE x", "[]", |intent| intent.approval = Some(hold));
    let indexing = Indexing::start(log.path()).expect("started");
    wait_for_index(&log);
    let by = |name: &str| ids(&log, &Search { approver: Some(name.into()), ..Search::default() });
    assert_eq!(by("ann"), [through]);
    assert_eq!(by("bob"), NONE);
    drop(indexing);
}

#[test]
fn p3_no_text_says_what_a_command_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = begun(&folder);
    let forged = format!("SELECT '{}'", token('a', "admin"));
    did(&log, 1, &forged, "[]", |_| {});
    let _indexing = Indexing::start(log.path()).expect("started");
    wait_for_index(&log);
    let connection = Connection::open(path_of(log.path())).expect("open");
    let search = Search { agent: Some("admin".into()), ..Search::default() };
    let count: u32 = connection
        .query_row("SELECT count(*) FROM words WHERE words MATCH ?", [search.query()], |row| {
            row.get(0)
        })
        .expect("a count");
    assert_eq!(count, 0);
}

#[test]
fn an_index_that_is_damaged_or_of_another_log_is_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = begun(&folder);
    did(&log, 1, "SELECT 'needle'", "[]", |_| {});
    let index = path_of(log.path());
    drop(Indexing::start(log.path()).expect("started"));
    for how in ["damaged", "another", "gone"] {
        match how {
            "damaged" => {
                for suffix in ["-wal", "-shm"] {
                    fs::remove_file(crate::files::with_suffix(&index, suffix)).expect("removed");
                }
                fs::write(&index, "this is no database").expect("written");
            }
            "another" => {
                let connection = Connection::open(&index).expect("open");
                let changed =
                    connection.execute("UPDATE state SET cursor = 5, leaf = zeroblob(32)", []);
                assert_eq!(changed, Ok(1));
            }
            _ => fs::remove_file(&index).expect("removed"),
        }
        let reader = Reader::open(log.path()).expect("readable");
        let found = reader.search(&Search { limit: 9, ..text("needle") }).expect("found");
        assert_eq!(found.rows.len(), 1, "{how}");
        assert!(found.without_index.is_some(), "{how}");
        let indexing = Indexing::start(log.path()).expect("started");
        wait_for_index(&log);
        let found = reader.search(&Search { limit: 9, ..text("needle") }).expect("found");
        assert_eq!((found.rows.len(), found.without_index), (1, None), "{how}");
        drop(indexing);
    }
}

#[test]
fn p5_what_is_erased_is_not_found_and_its_words_are_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = begun(&folder);
    let statement = "SELECT 'Rumpelstiltskin' /* a text that is long enough to be referred to */";
    did(&log, 1, statement, "[]", |_| {});
    let again = did(&log, 2, statement, "[]", |_| {});
    did(&log, 3, "SELECT 'other'", "[]", |_| {});
    let _indexing = Indexing::start(log.path()).expect("started");
    wait_for_index(&log);
    assert_eq!(ids(&log, &text("rumpelstiltskin")).len(), 2);
    let erased = chaperone_model::Erased {
        at: Timestamp(9),
        command: Seq(again),
        records: String::new(),
        uid: 0,
        person: "root".into(),
        reason: "asked".into(),
    };
    log.erase(erased).expect("erased");
    assert_eq!(ids(&log, &text("rumpelstiltskin")), NONE);
    assert_eq!(ids(&log, &text("other")).len(), 1);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let holds = |suffix: &str| {
        let bytes =
            fs::read(crate::files::with_suffix(&path_of(log.path()), suffix)).expect("read");
        String::from_utf8_lossy(&bytes).contains("rumpelstilt")
    };
    while holds("") || holds("-wal") {
        assert!(std::time::Instant::now() < deadline, "the word is still in the index");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_no_longer_kept_is_taken_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = begun(&folder);
    for n in 0..3000 {
        did(&log, n, "SELECT 'early'", "[]", |_| {});
    }
    log.turn().expect("turned");
    did(&log, 4000, "SELECT 'late'", "[]", |_| {});
    let path = log.path().to_owned();
    let indexing = Indexing::start(&path).expect("started");
    wait_for_index(&log);
    drop(log);
    let mut options = Options::default();
    options.keep.size = Some(1);
    let log = Log::open(&path, options).expect("a log");
    let index = Connection::open(path_of(&path)).expect("open");
    let words = || -> u32 {
        index
            .query_row("SELECT count(*) FROM words WHERE words MATCH 'early'", [], |row| row.get(0))
            .expect("a count")
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    // A block at the border stays.
    while words() >= 2048 {
        assert!(std::time::Instant::now() < deadline, "{}", words());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ids(&log, &text("early")), NONE);
    assert_eq!(ids(&log, &text("late")).len(), 1);
    drop(indexing);
}
