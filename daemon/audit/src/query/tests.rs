use std::{fs, sync::Arc};

use chaperone_model::{
    AgentAddr, AgentName, Closing, Command, CommandKind, CommandStatus, Digest, Intent,
    OriginalAddr, Outcome, Process, ProcessSeen, Protocol, Record, Ref, Response, Run, RunSeen,
    SessionClosed, SessionOpened, SessionStarted, TargetName, VerdictKind, Version, VersionSource,
};

use super::*;
use crate::{Log, Options};

mod following;

fn opened(process: u64) -> Record {
    Record::SessionOpened(SessionOpened {
        at: Timestamp(1_000_000),
        process: Ref::To(Seq(process)),
        comm: "psql".into(),
        doubts: None,
        target: TargetName("prod".into()),
        protocol: Protocol::Postgres,
        original: OriginalAddr(([127, 0, 0, 9], 5432).into()),
        agent_addr: AgentAddr(([127, 0, 0, 1], 9999).into()),
        inside: None,
    })
}

fn run(agent: &str, version: &str) -> Record {
    Record::RunSeen(RunSeen {
        at: Timestamp(1_000_000),
        agent: AgentName(agent.into()),
        version: Some(Version { text: version.into(), source: VersionSource::Digest }),
        run: Run { name: format!("{agent}-run").into(), unit: None, container: None, image: None },
    })
}

fn process(run: u64, parent: Option<u64>, name: &str) -> Record {
    Record::ProcessSeen(ProcessSeen {
        at: Timestamp(1_000_000),
        run: Ref::To(Seq(run)),
        parent: parent.map(|parent| Ref::To(Seq(parent))),
        process: Arc::new(Process {
            pid: 7,
            started_ns: 1,
            exec_id: 2,
            uid: 64001,
            gid: 64001,
            cgroup_id: 1,
            cgroup: None,
            executable: Some(format!("/usr/bin/{name}")),
            binary: Some(Digest([7; 32])),
            script: None,
            command_line: None,
            folder: None,
            login_uid: None,
        }),
        lineage: format!("agent.py → {name}"),
    })
}

fn started(session: u64) -> Record {
    Record::SessionStarted(SessionStarted {
        at: Timestamp(1_000_001),
        session: Seq(session),
        user: Some("app".into()),
        database: Some("shop".into()),
        application: None,
        parameters: "{}".into(),
    })
}

fn intent(session: u64, kind: CommandKind, text: Option<&str>, statement: Option<u64>) -> Record {
    Record::Intent(Intent {
        at: Timestamp(2_500_000),
        session: Seq(session),
        command: Command { statement, ..Command::new(kind, text.map(Into::into)) },
        verdict: VerdictKind::Allow,
        rule: "r".into(),
        rung: None,
        summary: None,
        approval: None,
        lifted: Vec::new(),
    })
}

fn outcome(intent: u64, part: u32, status: CommandStatus) -> Record {
    Record::Outcome(Outcome {
        at: Timestamp(3_000_000),
        intent: Seq(intent),
        part,
        status,
        tag: Some("SELECT 1".into()),
        error_code: None,
        error_message: None,
        duration_us: 1500,
        rows: 1,
        bytes: 10,
        bytes_in: 0,
        response: Some(Response {
            columns: r#"["a"]"#.into(),
            rows: r#"[["1"]]"#.into(),
            kept: 1,
            truncated: false,
        }),
        notices: None,
        transaction: Some("idle"),
        masked: None,
    })
}

fn log(folder: &tempfile::TempDir) -> Log {
    Log::open(&folder.path().join("log.sqlite"), Options::default()).expect("a log")
}

fn fill(log: &Log) {
    let records = vec![
        opened(13),                                                           // 1
        started(1),                                                           // 2
        intent(1, CommandKind::Prepare, Some("SELECT $1"), Some(1)),          // 3
        intent(1, CommandKind::Execute, None, Some(1)),                       // 4
        outcome(3, 0, CommandStatus::Ok),                                     // 5
        outcome(4, 0, CommandStatus::Ok),                                     // 6
        intent(1, CommandKind::Query, Some("SELECT 'A_b%'; SELECT 2"), None), // 7
        outcome(7, 0, CommandStatus::Ok),                                     // 8
        outcome(7, 1, CommandStatus::Error),                                  // 9
        opened(16),                                                           // 10
        intent(10, CommandKind::Query, Some("SELECT 'aXbY'"), None),          // 11
        run("cleaner", "1.4.2"),                                              // 12
        process(12, None, "psql"),                                            // 13
        run("other", "2.0.0"),                                                // 14
        process(14, None, "python3"),                                         // 15
        process(14, Some(15), "psql"),                                        // 16
    ];
    let _ = log.commit(records).expect("committed").receipts();
}

#[test]
fn commands_show_their_statement_and_only_what_ran() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    fill(&log);
    let reader = Reader::open(log.path()).expect("readable");
    let rows = reader.commands(&Filter::default()).expect("rows");
    let ids: Vec<_> = rows.iter().map(|r| (r.id, r.part, r.status.as_str())).collect();
    assert_eq!(ids, [(4, 0, "ok"), (7, 0, "ok"), (7, 1, "error"), (11, 0, "pending")]);
    assert_eq!(rows[0].statement.as_deref(), Some("SELECT $1"), "the text of what was prepared");
    assert_eq!(rows[0].time, "1970-01-01T00:00:02.500000Z");
    assert_eq!(rows[0].database.as_deref(), Some("shop"));
    let detail = reader.command(Seq(7)).expect("read").expect("there");
    assert_eq!(detail.parts.len(), 2);
    assert_eq!(detail.parts[0].response.as_deref(), Some(r#"[["1"]]"#));
    assert_eq!(detail.session.expect("a session").agent, "cleaner");
    assert_eq!(reader.command(Seq(999)).expect("read"), None);
}

#[test]
fn filters_filter() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    fill(&log);
    let reader = Reader::open(log.path()).expect("readable");
    let ids = |filter: Filter| -> Vec<u64> {
        reader.commands(&filter).expect("rows").iter().map(|r| r.id).collect()
    };
    let text = |text: &str| Filter { text: Some(text.into()), ..Filter::default() };
    assert_eq!(ids(text("a_B%")), [7, 7], "neither % nor _ is special");
    assert_eq!(ids(text("nothing")), [0; 0]);
    let _ = log
        .commit(vec![intent(10, CommandKind::Query, Some("SELECT 'ÄRGER'"), None)])
        .expect("committed")
        .receipts();
    assert_eq!(ids(text("ärger")), [17], "letters of either case, and not of ASCII alone");
    assert_eq!(
        ids(Filter { limit: Some(1), ..text("select") }),
        [17],
        "the limit counts what is found"
    );
    assert_eq!(ids(Filter { agent: Some("other".into()), ..Filter::default() }), [11, 17]);
    assert_eq!(ids(Filter { session: Some(Seq(10)), ..Filter::default() }), [11, 17]);
    assert_eq!(ids(Filter { status: Some("error".into()), ..Filter::default() }), [7]);
    assert_eq!(ids(Filter { limit: Some(1), ..Filter::default() }), [17], "the newest");
    assert_eq!(ids(Filter { since: Some(Timestamp(2_500_001)), ..Filter::default() }), [0; 0]);
    assert_eq!(ids(Filter { until: Some(Timestamp(2_500_000)), ..Filter::default() }), [0; 0]);
    assert_eq!(ids(Filter { target: Some("prod".into()), ..Filter::default() }).len(), 5);
}

#[test]
fn a_log_is_readable_with_read_access_alone_after_a_clean_end_and_after_a_crash() {
    for crash in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let log = log(&folder);
        fill(&log);
        let path = log.path().to_owned();
        // As a crash leaves the files: copied from under the writer, whose locks do not come along.
        let copy = tempfile::tempdir().expect("a folder");
        let path = if crash {
            let file = fs::canonicalize(&path).expect("a file");
            let name = file.file_name().expect("a name");
            for suffix in ["", "-wal", "-shm"] {
                let from = crate::files::with_suffix(&file, suffix);
                let to = crate::files::with_suffix(&copy.path().join(name), suffix);
                fs::copy(from, to).expect("copied");
            }
            copy.path().join(name)
        } else {
            drop(log);
            path
        };
        for suffix in ["-wal", "-shm"] {
            let file = fs::canonicalize(&path).expect("a file");
            assert!(crate::files::with_suffix(&file, suffix).exists());
        }
        let reader = Reader::open(&path).expect("readable");
        assert!(reader.commands(&Filter::default()).expect("rows").len() >= 4);
    }
}

#[test]
fn a_session_that_closed_says_how() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    fill(&log);
    log.ride_along(Record::SessionClosed(SessionClosed {
        at: Timestamp(9_000_000),
        session: Seq(1),
        closing: Closing::Agent,
        detail: None,
        bytes_up: 1,
        bytes_down: 2,
    }));
    let path = log.path().to_owned();
    drop(log);
    let sessions = Reader::open(&path).expect("readable").sessions(10).expect("rows");
    assert_eq!(sessions[0].closed_by.as_deref(), Some("agent"));
    assert_eq!(sessions[0].commands, 2);
}

#[test]
fn what_is_no_log_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("none.sqlite");
    assert!(matches!(Reader::open(&missing), Err(AuditError::Missing(_))));
    let other = folder.path().join("other.sqlite");
    fs::write(&other, "this is no database, whatever its name says, and long enough")
        .expect("written");
    for error in [Reader::open(&other).err(), Log::open(&other, Options::default()).err()] {
        assert!(matches!(error, Some(AuditError::NotALog(_))), "{error:?}");
    }
}

#[test]
fn auditors_questions_about_who_need_no_join() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    fill(&log);
    let reader = Reader::open(log.path()).expect("readable");
    let ask = |sql: &str| -> Vec<String> {
        let files = reader.files().expect("files");
        let newest = files.newest_first().next().expect("a file");
        let mut statement = newest.connection.prepare(sql).expect("prepared");
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("asked");
        rows.collect::<Result<_, _>>().expect("rows")
    };
    assert_eq!(
        ask(
            "SELECT statement FROM commands WHERE agent = 'cleaner' AND agent_version = '1.4.2' ORDER BY id"
        ),
        ["SELECT $1", "SELECT 'A_b%'; SELECT 2", "SELECT 'A_b%'; SELECT 2"]
    );
    assert_eq!(
        ask("SELECT DISTINCT run FROM commands WHERE statement LIKE '%axby%'"),
        ["other-run"]
    );
    assert_eq!(
        ask("SELECT path FROM binaries WHERE target = 'prod' AND agent = 'other' ORDER BY path"),
        ["/usr/bin/psql", "/usr/bin/python3"],
        "what stands above it as well"
    );
    assert_eq!(
        ask("SELECT agent || ' ' || sessions FROM runs ORDER BY id"),
        ["cleaner 1", "other 1"]
    );
    assert_eq!(ask("SELECT lineage FROM processes WHERE sessions = 0"), ["agent.py → python3"]);
}

#[test]
fn records_of_a_batch_refer_to_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    let _ = log.commit(vec![intent(1, CommandKind::Query, Some("x"), None)]).expect("committed");
    let Record::ProcessSeen(mut seen) = process(0, None, "psql") else { panic!("a process") };
    seen.run = Ref::InBatch(0);
    let Record::SessionOpened(mut session) = opened(0) else { panic!("a session") };
    session.process = Ref::InBatch(1);
    let batch = vec![run("a", "1"), Record::ProcessSeen(seen), Record::SessionOpened(session)];
    let _ = log.commit(batch).expect("committed");
    let sessions = Reader::open(log.path()).expect("readable").sessions(10).expect("rows");
    assert_eq!((sessions[0].id, sessions[0].process), (4, 3));
    assert_eq!((sessions[0].agent.as_str(), sessions[0].run.as_deref()), ("a", Some("a-run")));
}

#[test]
fn a_log_of_before_the_first_release_is_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.sqlite");
    let old = rusqlite::Connection::open(&path).expect("made");
    old.pragma_update(None, "application_id", 0x6368_6170).expect("set");
    old.pragma_update(None, "user_version", 2).expect("set");
    drop(old);
    for error in [Reader::open(&path).err(), Log::open(&path, Options::default()).err()] {
        assert!(matches!(error, Some(AuditError::Unreleased { found: 2, .. })), "{error:?}");
    }
}

#[test]
fn looking_one_up_reads_no_whole_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    let reader = Reader::open(log.path()).expect("readable");
    let of_all = reader.files().expect("files");
    let newest = of_all.newest_first().next().expect("a file");
    for sql in [
        "SELECT * FROM commands WHERE id = 1",
        "SELECT * FROM commands WHERE session = 1",
        "SELECT * FROM commands WHERE outcome > 1",
        "SELECT * FROM commands ORDER BY id DESC LIMIT 10",
        "SELECT * FROM sessions WHERE id = 1",
        "SELECT * FROM sessions ORDER BY id DESC LIMIT 10",
        "SELECT * FROM responses WHERE id = 1",
        "SELECT * FROM prepared WHERE session = 1",
        &files::sql(&Rows::Newest, &Filter { session: Some(Seq(1)), ..Filter::default() }),
        &files::sql(&Rows::Finished(Seq(1), Seq(2)), &Filter::default()),
    ] {
        let mut plan: Vec<String> = Vec::new();
        let mut statement =
            newest.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("prepared");
        let mut steps = statement.raw_query();
        while let Some(step) = steps.next().expect("a plan") {
            plan.push(step.get(3).expect("a text"));
        }
        let scans: Vec<_> = plan.iter().filter(|step| step.starts_with("SCAN")).collect();
        // Walking a table in its order up to a limit is a scan by name alone.
        let limited = sql.contains("LIMIT");
        assert!(scans.is_empty() || (limited && scans.len() == 1), "{sql}: {plan:#?}");
        assert!(
            !plan
                .iter()
                .any(|step| step.contains("TEMP B-TREE FOR ORDER BY") && !step.contains("LAST")),
            "{sql}: {plan:#?}"
        );
    }
}

#[test]
fn pages_of_what_finished_miss_nothing_and_say_nothing_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    let (mut intents, mut written) = (Vec::new(), Vec::new());
    let _ = log.commit(vec![opened(13), started(1)]).expect("committed").receipts();
    for _ in 0..2 {
        // The first of each ends last, and in the next file.
        for _ in 0..10 {
            let seq = log.stats().last.0 + 1;
            let record = intent(1, CommandKind::Query, Some("SELECT 1"), None);
            let _ = log.commit(vec![record]).expect("committed").receipts();
            intents.push(seq);
        }
        for intent in intents.split_off(1).into_iter().rev() {
            written.push(intent);
            let record = outcome(intent, 0, CommandStatus::Ok);
            let _ = log.commit(vec![record]).expect("committed").receipts();
        }
        log.turn().expect("turned");
    }
    let last_one = outcome(intents[0], 0, CommandStatus::Ok);
    let _ = log.commit(vec![last_one]).expect("committed").receipts();
    written.push(intents[0]);
    let reader = Reader::open(log.path()).expect("readable");
    let last = reader.last_outcome().expect("a number");
    for most in [1, 4, 1000] {
        let (mut cursor, mut found) = (Seq(0), Vec::new());
        while cursor < last {
            let page = reader.finished(cursor, last, &Filter::default(), most).expect("a page");
            assert!(page.rows.len() <= most && page.next > cursor);
            found.extend(page.rows.iter().map(|row| row.id));
            cursor = page.next;
        }
        assert_eq!(found, written, "{most} a page");
    }
    let page = reader.finished(last, last, &Filter::default(), 1).expect("a page");
    assert_eq!((page.rows.len(), page.next), (0, last));
}

#[test]
fn an_item_names_the_records_that_it_was_put_together_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(&folder);
    fill(&log);
    let statement = format!("SELECT '{}'", "x".repeat(1000));
    let again = intent(10, CommandKind::Query, Some(&statement), None);
    let _ = log.commit(vec![again.clone(), again]).expect("committed").receipts();
    let reader = Reader::open(log.path()).expect("readable");
    let made_of =
        |id: u64, outcome: Option<u64>| reader.made_of(Seq(id), outcome.map(Seq)).expect("numbers");
    assert_eq!(made_of(4, Some(6)), [Seq(4), Seq(6), Seq(3)], "what was prepared");
    assert_eq!(made_of(18, None), [Seq(18), Seq(17)], "the same text");
    assert_eq!(
        reader.session_made_of(Seq(1)).expect("numbers"),
        [Seq(1), Seq(13), Seq(12), Seq(2)]
    );
    assert_eq!(reader.intents(Seq(1), Seq(3), 2).expect("numbers"), [Seq(4), Seq(7)]);
    assert_eq!(reader.parts(Seq(3)).expect("parts"), [], "it only prepared");
}
