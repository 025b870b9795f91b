//! Every query in `docs/auditors.md` answers what it says, of a log with known contents.

use std::{cell::Cell, collections::BTreeMap, path::Path, sync::Arc};

use chaperone_audit::{Log, Options, search};
use chaperone_model::{
    AgentAddr, AgentName, ClockState, Closing, Command, CommandKind, CommandStatus, DaemonStarted,
    Digest, Erased, Event, EventKind, ExceptionStep, Heartbeat, HoldEnd, HoldEnded, HoldOpened,
    HoldVoted, Inside, Intent, OriginalAddr, Outcome, Process, ProcessSeen, Protocol, Record, Ref,
    Response, Run, RunSeen, Rung, Seq, SessionClosed, SessionOpened, SessionStarted, Step,
    TargetName, Timestamp, VerdictKind, Version, VersionSource,
};
use rusqlite::{Connection, types::ValueRef};

const DOCS: &str = include_str!("../../../docs/auditors.md");
/// 2026-05-01T10:00:00Z.
const TEN: i64 = 1_777_629_600_000_000;
/// The number of the exception's first record.
const EXCEPTION: Seq = Seq(35);

/// What stands before a query, and its rows, with `|` between values.
const WANTED: &[(&str, &[&str])] = &[
    (
        "What did this agent do on a day, in order?",
        &[
            "2026-05-01T10:01:00.000000Z|SELECT name FROM customers||ok|DONE",
            "2026-05-01T10:02:00.000000Z|TRUNCATE cards||ok|DONE",
        ],
    ),
    (
        "Every statement of cleaner 1.4.2, and what started it.",
        &[
            "2026-05-01T10:01:00.000000Z|main → psql|SELECT name FROM customers|ok",
            "2026-05-01T10:02:00.000000Z|main → psql|TRUNCATE cards|ok",
        ],
    ),
    ("Every run that touched customers.", &["cleaner|1.4.2|0f6c…"]),
    (
        "What did this run do, in order?",
        &[
            "2026-05-01T10:01:00.000000Z|4711|prod|SELECT name FROM customers|ok",
            "2026-05-01T10:02:00.000000Z|4711|prod|TRUNCATE cards|ok",
        ],
    ),
    (
        "All programs and scripts that opened prod since a day, or stood above what did.",
        &[
            "cleaner|program|/opt/cleaner/main|abababababababababababababababababababababababababababababababab|1|2026-04-30T17:20:00.000000Z",
            "cleaner|program|/opt/cleaner/main|abababababababababababababababababababababababababababababababab|1|2026-05-01T10:00:00.000000Z",
            "other|program|/opt/other/main|abababababababababababababababababababababababababababababababab|1|2026-05-01T10:05:00.000000Z",
        ],
    ),
    (
        "Sessions of which it was doubtful who opened them.",
        &[
            r#"2026-05-01T10:05:00.000000Z|other|main → psql|["its program is not enrolled"]|agent|"#,
        ],
    ),
    (
        "What went through tunnels of SSH sessions, and what did the sessions inside do?",
        &[
            "5|prod|12|prod|2026-05-01T10:01:00.000000Z|SELECT name FROM customers|ok",
            "5|prod|12|prod|2026-05-01T10:02:00.000000Z|TRUNCATE cards|ok",
        ],
    ),
    ("What was read of the customers?", &[r#"14|2026-05-01T10:01:00.000000Z|[["ada"]]"#]),
    (
        "10.2.1.1: individual access to a relation with cardholder data.",
        &[
            "2026-05-01T10:02:00.000000Z|cleaner 1.4.2|app|query destructive|success|main → psql, process 4711 of user id 64001, run 0f6c…|prod/shop: public.cards",
            "2026-05-01T10:06:00.000000Z|other 2.0|app|query forbidden|failure|main → psql, process 4711 of user id 64001, run 1a2b|prod/shop: public.cards",
        ],
    ),
    (
        "10.2.1.2: what was done with the rights to change more than data, and who let it through.",
        &[
            r#"2026-05-01T10:02:00.000000Z|cleaner 1.4.2|query destructive|success|TRUNCATE cards|[{"person":"grace","uid":1000,"approves":true,"reason":"as agreed","time":"2026-05-01T10:03:00.000000Z"}]"#,
            "2026-05-01T10:06:00.000000Z|other 2.0|query forbidden|failure|DROP TABLE cards|",
        ],
    ),
    (
        "10.2.1.3: access to the log itself that changed it.",
        &["2026-05-01T10:11:00.000000Z|root|erasure|user id 0|command 27|asked for"],
    ),
    (
        "10.2.1.4: invalid access attempts.",
        &[
            "2026-05-01T10:06:00.000000Z|other 2.0|query forbidden|main → psql, process 4711 of user id 64001, run 1a2b|prod/shop: public.cards|DROP TABLE cards",
        ],
    ),
    (
        "10.2.1.6: starting, stopping and pausing of the log.",
        &[
            "2026-05-01T09:55:00.000000Z|daemon-started|version 0.1.0 on db-client, boot boot, policy c0ffee",
            "2026-05-01T10:12:00.000000Z|daemon-stopping|the daemon was told to stop",
        ],
    ),
    ("10.6: was the clock in step?", &["synchronized|1|250"]),
    (
        "What was out of the ordinary, by kind and agent?",
        &[
            "deny|other|1",
            "doubt|other|1",
            "erasure||1",
            "hold|cleaner|1",
            "outcomes-lost||1",
            "unknown|other|1",
            "unmasked|cleaner|1",
            "violation|other|1",
        ],
    ),
    (
        "What was refused or waited for a person, and under which rule?",
        &[
            "2026-05-01T10:02:00.000000Z|cleaner|hold|rule: TRUNCATE cards",
            "2026-05-01T10:06:00.000000Z|other|deny|rule: DROP TABLE cards",
        ],
    ),
    (
        "Who was doubtful?",
        &[r#"2026-05-01T10:05:00.000000Z|other|23|["its program is not enrolled"]"#],
    ),
    (
        "Is anything missing in the log, or unknown?",
        &[
            "2026-05-01T10:07:00.000000Z|unknown|rule: (text not known)",
            "2026-05-01T10:10:00.000000Z|outcomes-lost|3 records were lost",
        ],
    ),
    (
        "Which agents did something for the first time since a day: a relation that they had not touched before?",
        &[
            "cleaner|public.cards|2026-05-01T10:02:00.000000Z",
            "cleaner|public.customers|2026-05-01T10:01:00.000000Z",
            "other|public.cards|2026-05-01T10:06:00.000000Z",
            "other|public.orders|2026-05-01T10:07:00.000000Z",
        ],
    ),
    (
        "Who approved what, and why?",
        &["2026-05-01T10:03:00.000000Z|grace|approval|command 16|as agreed"],
    ),
    (
        "Which masks were lifted, for whom, and by whose word?",
        &[
            r#"35|2026-05-01T10:13:00.000000Z|mail|cleaner|0f6c…|ticket 7|[{"person":"grace","uid":1000,"approves":true,"reason":null,"time":"2026-05-01T10:13:00.000000Z"}]|expired|1"#,
        ],
    ),
    (
        "What was shown although a mask hides it, and by which exception?",
        &["14|2026-05-01T10:01:00.000000Z|mail|35|SELECT name FROM customers|"],
    ),
];

/// The queries of the document with the comment above each.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for block in DOCS.split("```sql\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let mut comment = String::new();
        let mut sql = String::new();
        for line in block.lines() {
            match line.strip_prefix("-- ") {
                Some(text) => comment = text.into(),
                None => sql.push_str(line),
            }
            if sql.ends_with(';') {
                found.push((std::mem::take(&mut comment), std::mem::take(&mut sql)));
            }
        }
        assert_eq!(sql, "", "a query without an end");
    }
    found
}

fn rows(log: &Connection, sql: &str) -> Vec<String> {
    let mut statement = log.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let columns = statement.column_count();
    let mut rows = statement.query([]).expect("asked");
    let mut found = Vec::new();
    while let Some(row) = rows.next().unwrap_or_else(|error| panic!("{sql}: {error}")) {
        let values = (0..columns).map(|place| match row.get_ref(place).expect("a value") {
            ValueRef::Null => String::new(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into(),
        });
        found.push(values.collect::<Vec<_>>().join("|"));
    }
    found
}

#[test]
fn the_queries_in_the_auditors_guide_answer_what_they_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.sqlite");
    fill(&path);
    let log = Connection::open(&path).expect("readable");
    let wanted: BTreeMap<&str, &[&str]> = WANTED.iter().copied().collect();
    let queries = queries();
    assert_eq!(queries.len(), wanted.len(), "each query has its rows here");
    for (what, sql) in &queries {
        let Some(wanted) = wanted.get(what.as_str()) else {
            panic!("no rows are known of {what:?}")
        };
        assert_eq!(rows(&log, sql), *wanted, "{what}");
    }
}

fn fill(path: &Path) {
    let log = Log::open(path, Options::default()).expect("a log");
    let add = |record: Record| log.commit(vec![record]).expect("committed").receipts()[0].seq();
    let at = |minute: i64| Timestamp(TEN + minute * 60_000_000);
    add(Record::DaemonStarted(DaemonStarted {
        at: at(-5),
        version: "0.1.0".into(),
        boot_id: "boot".into(),
        host: "db-client".into(),
        policy: "c0ffee".into(),
    }));
    add(Record::Heartbeat(Heartbeat {
        at: at(-4),
        boot_id: "boot".into(),
        monotonic_us: 1,
        clock: ClockState::Synchronized,
        clock_error_us: 250,
    }));
    let outer = Cell::new(None);
    let session = |agent: &str, version: &str, run: &str, doubts: Option<&str>, minute: i64| {
        let run = add(Record::RunSeen(RunSeen {
            at: at(minute),
            agent: AgentName(agent.into()),
            version: Some(Version { text: version.into(), source: VersionSource::File }),
            run: Run { name: run.into(), unit: None, container: None, image: None },
        }));
        let process = add(Record::ProcessSeen(ProcessSeen {
            at: at(minute),
            run: Ref::To(run),
            parent: None,
            process: Arc::new(Process {
                pid: 4711,
                started_ns: 1,
                exec_id: 2,
                uid: 64001,
                gid: 64001,
                cgroup_id: 1,
                cgroup: None,
                executable: Some(format!("/opt/{agent}/main")),
                binary: Some(Digest([0xab; 32])),
                script: None,
                command_line: None,
                folder: None,
                login_uid: None,
            }),
            lineage: "main → psql".into(),
        }));
        let session = add(Record::SessionOpened(SessionOpened {
            at: at(minute),
            process: Ref::To(process),
            comm: "psql".into(),
            doubts: doubts.map(Into::into),
            target: TargetName("prod".into()),
            protocol: Protocol::Postgres,
            original: OriginalAddr(([10, 0, 0, 9], 5432).into()),
            agent_addr: AgentAddr(([127, 0, 0, 1], 9999).into()),
            inside: outer.take().map(|outer| Inside { outer, asked: "db:5432".into() }),
        }));
        add(Record::SessionStarted(SessionStarted {
            at: at(minute),
            session,
            user: Some("app".into()),
            database: Some("shop".into()),
            application: None,
            parameters: "{}".into(),
        }));
        session
    };
    let command =
        |session: Seq, minute: i64, text: &str, about: (VerdictKind, Rung, &str)| Intent {
            at: at(minute),
            session,
            command: Command::new(CommandKind::Query, Some(text.into())),
            verdict: about.0,
            rule: "rule".into(),
            rung: Some(about.1),
            summary: Some(format!(r#"{{"statements":[{}]}}"#, about.2).into()),
            approval: None,
            lifted: Vec::new(),
        };
    let end = |intent: Seq, status: CommandStatus, rows: &str| {
        let response = (!rows.is_empty()).then(|| Response {
            columns: r#"["name"]"#.into(),
            rows: rows.into(),
            kept: 1,
            truncated: false,
        });
        add(Record::Outcome(Outcome {
            at: at(30),
            intent,
            part: 0,
            status,
            tag: (status == CommandStatus::Ok).then(|| "DONE".into()),
            error_code: None,
            error_message: None,
            duration_us: 1,
            rows: 1,
            bytes: 1,
            bytes_in: 0,
            response,
            notices: None,
            transaction: None,
            masked: None,
        }))
    };
    // The day before.
    let old = session("cleaner", "1.4.1", "0e00", None, -1000);
    let intent = command(
        old,
        -1000,
        "SELECT 1 FROM orders",
        (VerdictKind::Allow, Rung::Read, r#"{"reads":["public.orders"]}"#),
    );
    end(add(Record::Intent(intent)), CommandStatus::Ok, "");
    let close = |session: Seq, minute: i64| {
        add(Record::SessionClosed(SessionClosed {
            at: at(minute),
            session,
            closing: Closing::Agent,
            detail: None,
            bytes_up: 1,
            bytes_down: 1,
        }));
    };
    close(old, -999);
    outer.set(Some(old));
    let cleaner = session("cleaner", "1.4.2", "0f6c…", None, 0);
    let intent = command(
        cleaner,
        1,
        "SELECT name FROM customers",
        (VerdictKind::Allow, Rung::Read, r#"{"reads":["public.customers"]}"#),
    );
    let intent = Intent { lifted: vec![("mail".into(), EXCEPTION)], ..intent };
    end(add(Record::Intent(intent)), CommandStatus::Ok, r#"[["ada"]]"#);
    let held = add(Record::Intent(command(
        cleaner,
        2,
        "TRUNCATE cards",
        (VerdictKind::Hold, Rung::Destructive, r#"{"writes":["public.cards"]}"#),
    )));
    add(Record::HoldOpened(HoldOpened {
        at: at(2),
        hold: Ref::To(held),
        approvers: r#"["group:dba"]"#.into(),
        quorum: 1,
        deadline: at(12),
        wait: "stay",
        digest: Digest([1; 32]),
    }));
    add(Record::HoldVoted(HoldVoted {
        at: at(3),
        hold: held,
        approves: true,
        uid: 1000,
        person: "grace".into(),
        reason: Some("as agreed".into()),
    }));
    add(Record::HoldEnded(HoldEnded {
        at: at(3),
        hold: held,
        how: HoldEnd::Approved,
        detail: None,
    }));
    end(held, CommandStatus::Ok, "");
    let bad = session("other", "2.0", "1a2b", Some(r#"["its program is not enrolled"]"#), 5);
    let denied = add(Record::Intent(command(
        bad,
        6,
        "DROP TABLE cards",
        (VerdictKind::Deny, Rung::Forbidden, r#"{"writes":["public.cards"]}"#),
    )));
    end(denied, CommandStatus::Refused, "");
    let unknown = add(Record::Intent(command(
        bad,
        7,
        "UPDATE orders SET a = 1",
        (VerdictKind::Allow, Rung::Write, r#"{"writes":["public.orders"]}"#),
    )));
    end(unknown, CommandStatus::Unknown, "");
    close(cleaner, 8);
    close(bad, 8);
    add(Record::Event(Event {
        at: at(9),
        session: Some(bad),
        kind: EventKind::Violation,
        detail: "the agent broke the protocol".into(),
    }));
    add(Record::Event(Event {
        at: at(10),
        session: None,
        kind: EventKind::OutcomesLost,
        detail: "3 records were lost".into(),
    }));
    log.erase(Erased {
        at: at(11),
        command: unknown,
        records: String::new(),
        uid: 0,
        person: "root".into(),
        reason: "asked for".into(),
    })
    .expect("erased");
    add(Record::Event(Event {
        at: at(12),
        session: None,
        kind: EventKind::DaemonStopping,
        detail: "the daemon was told to stop".into(),
    }));
    let step = |step: Step, person: Option<&str>, reason: Option<&str>| {
        add(Record::Exception(ExceptionStep {
            at: at(13),
            exception: Ref::To(EXCEPTION),
            step,
            mask: "mail".into(),
            agent: AgentName("cleaner".into()),
            run: "0f6c…".into(),
            target: None,
            approvers: None,
            until: Some(at(43)),
            uid: person.map(|_| 1000),
            person: person.map(str::to_owned),
            reason: reason.map(str::to_owned),
        }))
    };
    assert_eq!(step(Step::Asked, Some("grace"), Some("ticket 7")), EXCEPTION);
    step(Step::Approved, Some("grace"), None);
    step(Step::Granted, None, None);
    step(Step::Expired, None, None);
    search::index(path).expect("indexed");
}
