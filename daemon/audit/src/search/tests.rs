use std::{fs, path::Path, sync::Arc, time::Duration};

use chaperone_model::{
    AgentAddr, AgentName, Command, CommandKind, CommandStatus, Erased, HoldVoted, Intent,
    OriginalAddr, Outcome, Process, ProcessSeen, Protocol, Record, Ref, Response, Run, RunSeen,
    Rung, Seq, SessionOpened, SessionStarted, TargetName, Timestamp, VerdictKind, Version,
    VersionSource,
};

use super::{fill::Indexer, index::path_of, *};
use crate::{Filter, Log, Options, Reader, chain};

/// A log that is written to without a daemon.
struct Scene {
    folder: tempfile::TempDir,
    log: Log,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::open(&folder.path().join("log.sqlite"), Options::default()).expect("a log");
        Self { folder, log }
    }

    fn add(&self, record: Record) -> u64 {
        self.log.commit(vec![record]).expect("committed").receipts()[0].seq().0
    }

    fn session(&self, agent: &str, version: &str, target: &str, user: &str) -> u64 {
        let run = self.add(Record::RunSeen(RunSeen {
            at: Timestamp(1),
            agent: AgentName(agent.into()),
            version: Some(Version { text: version.into(), source: VersionSource::Digest }),
            run: Run {
                name: format!("{agent}-{version}").into(),
                unit: None,
                container: None,
                image: None,
            },
        }));
        let process = self.add(Record::ProcessSeen(ProcessSeen {
            at: Timestamp(1),
            run: Ref::To(Seq(run)),
            parent: None,
            process: Arc::new(Process {
                pid: 7,
                started_ns: 1,
                exec_id: 2,
                uid: 64001,
                gid: 64001,
                cgroup_id: 1,
                cgroup: None,
                executable: None,
                binary: None,
                script: None,
                command_line: None,
                folder: None,
                login_uid: None,
            }),
            lineage: "psql".into(),
        }));
        let session = self.add(Record::SessionOpened(SessionOpened {
            at: Timestamp(1),
            process: Ref::To(Seq(process)),
            comm: "psql".into(),
            doubts: None,
            target: TargetName(target.into()),
            protocol: Protocol::Postgres,
            original: OriginalAddr(([127, 0, 0, 9], 5432).into()),
            agent_addr: AgentAddr(([127, 0, 0, 1], 9999).into()),
            inside: None,
        }));
        self.add(Record::SessionStarted(SessionStarted {
            at: Timestamp(1),
            session: Seq(session),
            user: Some(user.into()),
            database: None,
            application: None,
            parameters: "{}".into(),
        }));
        session
    }

    fn begin(&self, intent: Intent) -> u64 {
        self.add(Record::Intent(intent))
    }

    fn end(&self, command: u64, outcome: Outcome) -> u64 {
        self.add(Record::Outcome(Outcome { intent: Seq(command), ..outcome }))
    }

    fn run(&self, session: u64, text: &str) -> u64 {
        let command = self.begin(intent(session, text));
        self.end(command, outcome(""));
        command
    }

    fn ids(&self, words: &str, filter: &Filter) -> Vec<u64> {
        let words = (!words.is_empty()).then(|| Words::parse(words).expect("words"));
        let reader = Reader::open(self.log.path()).expect("readable");
        let found = reader.search(words.as_ref(), filter).expect("searched");
        let mut ids: Vec<u64> = found.rows.iter().map(|row| row.id).collect();
        ids.dedup();
        ids
    }

    fn newest(&self) -> std::path::PathBuf {
        chain::newest(self.log.path()).expect("a file")
    }

    fn says(&self) -> Vec<String> {
        let reader = Reader::open(self.log.path()).expect("readable");
        reader.search(None, &Filter::default()).expect("searched").plainly
    }
}

fn intent(session: u64, text: &str) -> Intent {
    Intent {
        at: Timestamp(1_000_000),
        session: Seq(session),
        command: Command::new(CommandKind::Query, Some(text.into())),
        verdict: VerdictKind::Allow,
        rule: "r".into(),
        rung: Some(Rung::Read),
        summary: None,
        approval: None,
        lifted: Vec::new(),
    }
}

fn outcome(rows: &str) -> Outcome {
    Outcome {
        at: Timestamp(2_000_000),
        intent: Seq(0),
        part: 0,
        status: CommandStatus::Ok,
        tag: None,
        error_code: None,
        error_message: None,
        duration_us: 1,
        rows: 1,
        bytes: 1,
        bytes_in: 0,
        response: (!rows.is_empty()).then(|| Response {
            columns: "[\"email\"]".into(),
            rows: rows.into(),
            kept: 1,
            truncated: false,
        }),
        notices: None,
        transaction: None,
        masked: None,
    }
}

/// Asks the same with an index, with one that lags, and without.
fn three_ways(scene: &Scene, lagging: &Path, ask: impl Fn() -> Vec<Vec<u64>>) -> Vec<Vec<u64>> {
    let path = path_of(&scene.newest());
    index(scene.log.path()).expect("indexed");
    assert_eq!(scene.says(), [""; 0]);
    let with = ask();
    for suffix in ["", "-wal", "-shm"] {
        fs::copy(
            crate::files::with_suffix(lagging, suffix),
            crate::files::with_suffix(&path, suffix),
        )
        .expect("put there");
    }
    assert_eq!(scene.says(), [""; 0]);
    assert_eq!(ask(), with, "an index that lags");
    remove(&scene.newest()).expect("removed");
    assert!(scene.says()[0].contains("is missing"), "{:?}", scene.says());
    assert_eq!(ask(), with, "without an index");
    with
}

/// The index as it is now, kept aside.
fn kept(scene: &Scene) -> std::path::PathBuf {
    let path = path_of(&scene.newest());
    let kept = scene.folder.path().join("kept");
    for suffix in ["", "-wal", "-shm"] {
        fs::copy(
            crate::files::with_suffix(&path, suffix),
            crate::files::with_suffix(&kept, suffix),
        )
        .expect("copied");
    }
    kept
}

#[test]
fn words_are_found_wherever_they_stand_with_and_without_an_index() {
    let scene = Scene::new();
    let session = scene.session("cleaner", "1", "prod", "app");
    let statement = scene.run(session, "DELETE FROM customer_orders WHERE town = 'Münster'");
    let parameters = scene.begin(Intent {
        command: Command {
            parameters: Some(r#"["one\ntwo"]"#.into()),
            ..Command::new(CommandKind::Query, Some("SELECT $1".into()))
        },
        ..intent(session, "")
    });
    index(scene.log.path()).expect("indexed");
    let lagging = kept(&scene);
    scene.end(parameters, outcome(r#"[["ada@example.org"]]"#));
    let failed = scene.begin(intent(session, "SELECT 1/0"));
    scene.end(
        failed,
        Outcome {
            status: CommandStatus::Error,
            error_code: Some("22012".into()),
            error_message: Some("division by zero".into()),
            notices: Some(r#"["careful"]"#.into()),
            ..outcome("")
        },
    );
    let open = scene.begin(intent(session, "SELECT 'open town'"));
    let asked = || {
        [
            "customer_orders",
            "orders customer",
            "\"orders customer\"",
            "munster DELETE",
            "two",
            "ntwo",
            "ada",
            "\"ada example\"",
            "EMAIL",
            "22012",
            "\"division by zero\"",
            "careful",
            "town",
            "custo*",
            "nowhere",
        ]
        .map(|words| scene.ids(words, &Filter::default()))
        .to_vec()
    };
    let none: &[u64] = &[];
    let want: [&[u64]; 15] = [
        &[statement],
        &[statement],
        none,
        &[statement],
        &[parameters],
        none,
        &[parameters],
        &[parameters],
        &[parameters],
        &[failed],
        &[failed],
        &[failed],
        &[open, statement],
        &[statement],
        none,
    ];
    assert_eq!(three_ways(&scene, &lagging, asked), want);
}

#[test]
fn commands_are_found_by_who_what_where_and_how_it_ended() {
    let scene = Scene::new();
    let (one, other) = (
        scene.session("cleaner", "1.4", "prod", "app"),
        scene.session("other", "2", "test", "dba"),
    );
    let plain = scene.run(one, "SELECT 1");
    let summary = r#"{"statements":[{"reads":["public.customers"],"program":"rm"}]}"#;
    let held = scene.begin(Intent {
        verdict: VerdictKind::Hold,
        rung: Some(Rung::Destructive),
        summary: Some(summary.into()),
        at: Timestamp(5_000_000),
        ..intent(other, "TRUNCATE a")
    });
    index(scene.log.path()).expect("indexed");
    let lagging = kept(&scene);
    scene.add(Record::HoldVoted(HoldVoted {
        at: Timestamp(6_000_000),
        hold: Seq(held),
        approves: true,
        uid: 1,
        person: "grace".into(),
        reason: None,
    }));
    scene.end(held, Outcome { status: CommandStatus::Refused, ..outcome("") });
    let later = scene.begin(Intent {
        approval: Some(Seq(held)),
        at: Timestamp(7_000_000),
        ..intent(other, "TRUNCATE a")
    });
    scene.end(later, outcome(""));
    let all = Filter::default;
    let some = |text: &str| Some(text.to_owned());
    let asked = || {
        [
            all(),
            Filter { agent: some("cleaner"), ..all() },
            Filter { version: some("2"), ..all() },
            Filter { run: some("other-2"), ..all() },
            Filter { target: some("test"), ..all() },
            Filter { user: some("app"), ..all() },
            Filter { class: some("destructive"), ..all() },
            Filter { verdict: some("hold"), ..all() },
            Filter { status: some("refused"), ..all() },
            Filter { relation: some("customers"), ..all() },
            Filter { relation: some("public.customers"), ..all() },
            Filter { relation: some("omers"), ..all() },
            Filter { program: some("rm"), ..all() },
            Filter { program: some("r"), ..all() },
            Filter { approver: some("grace"), ..all() },
            Filter { approver: some("nobody"), ..all() },
            Filter { session: Some(Seq(one)), ..all() },
            Filter { since: Some(Timestamp(5_000_001)), ..all() },
            Filter { until: Some(Timestamp(5_000_000)), ..all() },
            Filter { agent: some("cleaner"), target: some("test"), ..all() },
            Filter { limit: Some(1), ..all() },
            Filter { before: Some(Seq(later)), ..all() },
        ]
        .map(|filter| scene.ids("", &filter))
        .to_vec()
    };
    let none: &[u64] = &[];
    let want: [&[u64]; 22] = [
        &[later, held, plain],
        &[plain],
        &[later, held],
        &[later, held],
        &[later, held],
        &[plain],
        &[held],
        &[held],
        &[held],
        &[held],
        &[held],
        none,
        &[held],
        none,
        &[later, held],
        none,
        &[plain],
        &[later],
        &[plain],
        none,
        &[later],
        &[held, plain],
    ];
    assert_eq!(three_ways(&scene, &lagging, asked), want);
    assert_eq!(scene.ids("truncate", &Filter { agent: some("cleaner"), ..all() }), [0; 0]);
}

#[test]
fn a_statement_cannot_pass_for_a_name() {
    let scene = Scene::new();
    let session = scene.session("cleaner", "1", "prod", "app");
    scene.run(session, "SELECT '\u{e000}908 \u{e001}908'");
    index(scene.log.path()).expect("indexed");
    let found = Index::open_reading(&scene.newest()).expect("readable").expect("there");
    assert_eq!(found.newest("\"\u{e000}908\"", (1, i64::MAX), 9).expect("asked"), [0; 0]);
}

#[test]
fn what_is_erased_is_not_found_and_leaves_the_indexs_file() {
    let scene = Scene::new();
    let session = scene.session("cleaner", "1", "prod", "app");
    // Long enough to be referred to by the second.
    let text = format!("SELECT 'zyxwvutsrq' || '{}'", "x".repeat(60));
    let (first, second) = (scene.run(session, &text), scene.run(session, &text));
    let other = scene.run(session, "SELECT 'abcdefghij'");
    index(scene.log.path()).expect("indexed");
    assert_eq!(scene.ids("zyxwvutsrq", &Filter::default()), [second, first]);
    let erase = |command: u64| {
        scene.log.erase(Erased {
            at: Timestamp(1),
            command: Seq(command),
            records: String::new(),
            uid: 0,
            person: "root".into(),
            reason: "asked".into(),
        })
    };
    assert!(!erase(second).expect("erased").is_empty());
    let found = Index::open_reading(&scene.newest()).expect("readable").expect("there");
    assert_eq!(found.newest("\"zyxwvutsrq\"", (1, i64::MAX), 9).expect("asked"), [0; 0]);
    assert_eq!(scene.ids("zyxwvutsrq", &Filter::default()), [0; 0]);
    let all = Filter { agent: Some("cleaner".into()), ..Filter::default() };
    assert_eq!(scene.ids("", &all), [other, second, first], "by what is left of them");
    drop(found);
    let path = path_of(&scene.newest());
    let has = |word: &str| {
        ["", "-wal"].iter().any(|suffix| {
            let bytes = fs::read(crate::files::with_suffix(&path, suffix)).expect("read");
            bytes.windows(word.len()).any(|bytes| bytes == word.as_bytes())
        })
    };
    // Words are stored without what they begin with in common with the one before.
    assert!(has("yxwvutsrq"));
    index(scene.log.path()).expect("purged");
    assert!(!has("yxwvutsrq"), "it is still in the file");
    assert!(has("bcdefghij"));
    assert_eq!(scene.ids("abcdefghij", &Filter::default()), [other]);
}

#[test]
fn an_index_that_is_of_no_use_is_made_anew() {
    let scene = Scene::new();
    let session = scene.session("cleaner", "1", "prod", "app");
    let command = scene.run(session, "SELECT 'needle'");
    let path = path_of(&scene.newest());
    let is_used =
        || scene.says().is_empty() && scene.ids("needle", &Filter::default()) == [command];
    index(scene.log.path()).expect("indexed");
    assert!(is_used());
    let change = |sql: &str| {
        let index = rusqlite::Connection::open(&path).expect("opened");
        index.execute_batch(sql).expect("changed");
    };
    let spoil: [(&str, &dyn Fn()); 5] = [
        ("missing", &|| remove(&scene.newest()).expect("removed")),
        ("of another layout", &|| change("PRAGMA user_version = 99")),
        ("of another log", &|| change("UPDATE state SET hashes = x'00'")),
        ("ahead of its log", &|| change("UPDATE state SET indexed = 99999")),
        ("damaged", &|| {
            remove(&scene.newest()).expect("removed");
            fs::write(&path, "not a database, whatever its name says".repeat(99)).expect("written");
        }),
    ];
    for (what, spoil) in spoil {
        spoil();
        assert!(!scene.says().is_empty(), "{what}: it is told");
        assert_eq!(scene.ids("needle", &Filter::default()), [command], "{what}");
        index(scene.log.path()).expect("made anew");
        assert!(is_used(), "{what}");
    }
    // Damage that no opening shows.
    change("UPDATE document_data SET block = x'ff00ff00ff00' WHERE id > 10");
    assert_eq!(scene.ids("needle", &Filter::default()), [command], "searched plainly");
}

#[test]
fn all_files_are_searched_and_a_command_that_ended_in_a_later_one_is_shown_once() {
    let scene = Scene::new();
    let session = scene.session("cleaner", "1", "prod", "app");
    let early = scene.run(session, "SELECT 'needle 1'");
    let across = scene.begin(intent(session, "SELECT 'needle 2'"));
    scene.log.turn().expect("turned");
    scene.end(across, outcome(""));
    let late = scene.run(session, "SELECT 'needle 3'");
    let pending = Filter { status: Some("pending".into()), ..Filter::default() };
    for indexed in [false, true] {
        if indexed {
            index(scene.log.path()).expect("indexed");
            assert_eq!(scene.says(), [""; 0]);
        }
        assert_eq!(scene.ids("needle", &Filter::default()), [late, across, early]);
        assert_eq!(scene.ids("needle", &pending), [0; 0]);
        assert_eq!(
            scene.ids("needle", &Filter { limit: Some(2), ..Filter::default() }),
            [late, across]
        );
    }
}

#[test]
fn the_indexer_follows_the_log_and_tells_how_far_it_is() {
    use std::os::unix::fs::MetadataExt;

    let scene = Scene::new();
    let session = scene.session("cleaner", "1", "prod", "app");
    let indexer = Indexer::start(scene.log.path()).expect("started");
    for turn in [false, true] {
        if turn {
            scene.log.turn().expect("turned");
        }
        let command = scene.run(session, "SELECT 'needle'");
        let last = scene.log.stats().last;
        let begun = std::time::Instant::now();
        while indexer.progress().indexed < last {
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", indexer.progress());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(scene.says(), [""; 0]);
        assert_eq!(scene.ids("needle", &Filter::default())[0], command);
        let about = |path: &Path| {
            let about = fs::metadata(path).expect("a file");
            (about.mode(), about.uid(), about.gid())
        };
        let newest = scene.newest();
        for suffix in ["", "-wal", "-shm"] {
            let index = crate::files::with_suffix(&path_of(&newest), suffix);
            assert_eq!(about(&index), about(&newest));
        }
    }
}
