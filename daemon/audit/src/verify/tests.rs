//! A log, and everything that can be done to it by someone who may write its files.

use std::{fs, sync::Arc, time::Duration};

use chaperone_model::{
    ClockState, Closing, CommandStatus, Erased, Heartbeat, Inside, Record, SessionClosed, Timestamp,
};
use rusqlite::params;

use super::*;
use crate::{
    Log, Options, Proofs, Sealing,
    note::{ProofFile, Signer},
    tree::leaf_hash,
    writer::tests::{intent, outcome, session},
};

struct Kept {
    folder: tempfile::TempDir,
    signer: Arc<Signer>,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let signer = Signer::from_pkcs8("host/log", &Signer::generate().expect("a key"));
        Self { folder, signer: Arc::new(signer.expect("a key")) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log.sqlite")
    }

    fn open(&self) -> Log {
        Log::open(&self.path(), self.options()).expect("a log")
    }

    fn options(&self) -> Options {
        let clocks = || Heartbeat {
            at: Timestamp(5),
            boot_id: "boot".into(),
            monotonic_us: 1,
            clock: ClockState::Synchronized,
            clock_error_us: 2,
        };
        let sealing = Sealing {
            signer: self.signer.clone(),
            every: Duration::from_hours(1),
            records: u64::MAX,
            heartbeat: Duration::from_hours(1),
            clocks: Arc::new(clocks),
        };
        Options { sealing: Some(sealing), ..Options::default() }
    }

    /// So many commands with their outcomes, and a checkpoint over them.
    fn write(&self, count: u64) -> u64 {
        let log = self.open();
        add(&log, count);
        let last = log.stats().last.0;
        drop(log);
        last
    }

    fn verify(&self, kept: Option<&Checkpoint>) -> Report {
        let key = self.signer.verifier();
        let question = Question { key: Some(&key), kept, ..Question::default() };
        verify(&self.path(), &question).expect("readable")
    }

    fn newest(&self) -> Checkpoint {
        let connection = self.connection();
        let sealed = read::checkpoint(&connection).expect("readable").expect("a checkpoint");
        Checkpoint::open(&sealed.note, &self.signer.verifier()).expect("signed")
    }

    fn connection(&self) -> Connection {
        Connection::open(self.path()).expect("open")
    }

    /// As somebody would who may write the file.
    fn tamper(&self, sql: &str) {
        let connection = self.connection();
        let triggers: Vec<String> = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
            .and_then(|mut s| s.query_map([], |row| row.get(0))?.collect())
            .expect("names");
        for trigger in triggers {
            connection.execute_batch(&format!("DROP TRIGGER {trigger}")).expect("dropped");
        }
        connection.execute_batch(sql).expect(sql);
    }

    /// Computes the whole tree anew, and leaves the checkpoints.
    fn reseal(&self) {
        let connection = self.connection();
        connection.execute_batch("DELETE FROM tree").expect("deleted");
        let mut records = Records::new(&connection).expect("tables");
        let mut canonical = Canonical::default();
        let mut cursors = records.open(1, &mut canonical).expect("rows");
        let mut frontier = Frontier::default();
        let mut completed = Vec::new();
        while let Some(next) =
            cursors.iter_mut().filter(|c| c.seq.is_some()).min_by_key(|cursor| cursor.seq)
        {
            frontier.append(next.leaf, &mut completed);
            connection
                .execute(
                    "INSERT INTO tree VALUES (?, ?)",
                    params![next.seq.map(u64::cast_signed), completed.as_flattened()],
                )
                .expect("inserted");
            next.step(&mut canonical).expect("a row");
        }
    }
}

fn add(log: &Log, count: u64) {
    let first = log.stats().last.0 + 1;
    for n in 0..count {
        let text = format!("SELECT {n} FROM customers WHERE name = 'Jane' /* long enough */");
        let _ = log.commit(vec![intent(1, &text)]).expect("committed");
        let _ = log.commit(vec![outcome(first + 2 * n, CommandStatus::Ok)]).expect("committed");
    }
}

fn found(report: &Report) -> (u64, &str) {
    let finding = report.finding.as_ref().expect("a finding");
    (finding.seq, &finding.what)
}

#[test]
fn p7_a_log_that_nobody_touched_verifies() {
    let log = Kept::new();
    let last = log.write(20);
    let kept = log.newest();
    log.write(5);
    let report = log.verify(Some(&kept));
    assert_eq!(report.finding, None);
    assert!(report.sealed > last && report.sealed == report.last, "{report:?}");
    assert_eq!((report.records, report.checkpoints, report.erased), (report.last, 4, 0));
}

#[test]
fn p7_whatever_is_altered_is_found_with_the_first_record_that_it_concerns() {
    let cases: [(&str, u64, &str); 12] = [
        ("UPDATE intent SET rule = 'other' WHERE seq = 10", 10, "altered"),
        ("UPDATE intent SET text = 'SELECT 2' WHERE seq = 10", 10, "altered"),
        (
            "UPDATE intent SET content_key = x'00112233445566778899aabbccddeeff' WHERE seq = 10",
            10,
            "altered",
        ),
        (
            "UPDATE intent SET text = NULL, content_key = NULL, content_digest = zeroblob(32) WHERE seq = 10",
            10,
            "altered",
        ),
        ("DELETE FROM intent WHERE seq = 10", 10, "missing"),
        (
            "DELETE FROM intent WHERE seq > 21; DELETE FROM outcome WHERE seq > 21; DELETE FROM heartbeat WHERE seq > 21",
            22,
            "missing",
        ),
        (
            "DELETE FROM intent WHERE seq > 21; DELETE FROM outcome WHERE seq > 21; DELETE FROM heartbeat WHERE seq > 21; DELETE FROM tree WHERE seq > 21",
            22,
            "missing",
        ),
        ("INSERT INTO event VALUES (10, 1, NULL, 'doubt', 'x')", 10, "two records"),
        ("INSERT INTO event VALUES (1000, 1, NULL, 'doubt', 'x')", 1000, "behind the end"),
        ("UPDATE tree SET hashes = zeroblob(32) WHERE seq = 10", 10, "altered"),
        (
            "UPDATE intent SET seq = 1000 WHERE seq = 10; UPDATE intent SET seq = 10 WHERE seq = 12; UPDATE intent SET seq = 12 WHERE seq = 1000",
            10,
            "altered",
        ),
        ("UPDATE checkpoint SET note = replace(note, 'host', 'hOst')", 1, "not signed"),
    ];
    for (sql, seq, what) in cases {
        let log = Kept::new();
        log.write(20);
        log.tamper(sql);
        let report = log.verify(None);
        let (at, sentence) = found(&report);
        assert_eq!(at, seq, "{sql}: {sentence}");
        assert!(sentence.contains(what), "{sql}: {sentence}");
    }
}

#[test]
fn p7_a_tree_that_is_computed_anew_does_not_lead_to_what_was_signed() {
    let log = Kept::new();
    // With the sign of life at its end, and the one that the next begins with.
    let before = log.write(10) + 2;
    log.write(10);
    log.tamper("UPDATE intent SET rule = 'other' WHERE seq = 30");
    log.reseal();
    let report = log.verify(None);
    // What the first checkpoint covers is as it was.
    assert_eq!(found(&report).0, before + 1);
    assert_eq!(report.sealed, before);
    // Signed again, with another key.
    let other = Signer::from_pkcs8("host/log", &Signer::generate().expect("a key")).expect("a key");
    let connection = log.connection();
    let frontier = read::frontier(&connection, report.last).expect("read").expect("a tree");
    let (origin, size, root) = ("host/log".into(), report.last, frontier.root());
    let note = other.sign(&Checkpoint { origin, size, root }.text());
    let changed = connection.execute(
        "UPDATE checkpoint SET note = ? WHERE size = ?",
        params![note, size.cast_signed()],
    );
    assert_eq!(changed, Ok(1));
    assert!(found(&log.verify(None)).1.contains("not signed by host/log"));
}

#[test]
fn p7_a_log_without_its_checkpoints_is_no_log() {
    let log = Kept::new();
    log.write(10);
    log.tamper("DELETE FROM checkpoint");
    assert!(found(&log.verify(None)).1.contains("no checkpoint"));
}

#[test]
fn p7_an_older_copy_is_found_by_a_checkpoint_that_was_kept() {
    let log = Kept::new();
    log.write(10);
    let copy = tempfile::tempdir().expect("a folder");
    let file = fs::canonicalize(log.path()).expect("a file");
    let name = file.file_name().expect("a name");
    for suffix in ["", "-wal", "-shm"] {
        let to = files::with_suffix(&copy.path().join(name), suffix);
        fs::copy(files::with_suffix(&file, suffix), to).expect("copied");
    }
    let last = log.newest().size;
    log.write(10);
    let kept = log.newest();
    let older = Kept { folder: copy, signer: log.signer.clone() };
    std::os::unix::fs::symlink(name, older.path()).expect("linked");
    // By itself it is whole.
    assert_eq!(older.verify(None).finding, None);
    assert_eq!(found(&older.verify(Some(&kept))).0, last + 1);
    // And one that went another way from there.
    older.write(15);
    let (at, what) = (older.verify(Some(&kept)), "another log");
    assert!(found(&at).1.contains(what), "{at:?}");
}

#[test]
fn p7_a_part_of_a_log_verifies_by_itself() {
    let log = Kept::new();
    log.write(10);
    log.write(10);
    log.write(10);
    let key = log.signer.verifier();
    let part = |from, to| {
        let (from, to) = (Some(Seq(from)), Some(Seq(to)));
        let question = Question { key: Some(&key), from, to, ..Question::default() };
        verify(&log.path(), &question).expect("readable")
    };
    let report = part(25, 30);
    assert_eq!((report.finding, report.checkpoints), (None, 1));
    assert!(report.records < 25, "{}", report.records);
    log.tamper("UPDATE intent SET rule = 'other' WHERE seq = 26");
    assert_eq!(found(&part(25, 30)).0, 26);
    assert_eq!(part(30, 40).finding, None);
    // The hashes before it are believed only as far as they lead to what was signed.
    log.tamper("UPDATE tree SET hashes = zeroblob(length(hashes)) WHERE seq = 16");
    assert!(part(30, 40).finding.is_some());
}

#[test]
fn p7_a_tree_goes_on_over_the_files_and_what_is_open_is_carried_over() {
    let log = Kept::new();
    let open = log.open();
    add(&open, 5);
    let waiting = open.commit(vec![intent(1, "SELECT pg_sleep(1000)")]).expect("committed");
    let waiting = waiting.receipts()[0].seq();
    open.turn().expect("turned");
    let _ = open.commit(vec![outcome(waiting.0, CommandStatus::Ok)]).expect("committed");
    add(&open, 5);
    open.turn().expect("turned");
    add(&open, 5);
    drop(open);
    let report = log.verify(None);
    assert_eq!((&report.finding, report.files.len()), (&None, 3), "{report:?}");
    assert_eq!(report.records, report.last);
    // Each file has what its own records refer to.
    let second = Connection::open(&report.files[1]).expect("open");
    let texts: Vec<String> = second
        .prepare("SELECT statement FROM commands WHERE status = 'ok' ORDER BY id")
        .and_then(|mut s| s.query_map([], |row| row.get(0))?.collect())
        .expect("rows");
    assert_eq!((texts.len(), texts[0].as_str()), (6, "SELECT pg_sleep(1000)"));
    // What was carried over is held to what it was.
    let triggers = "DROP TRIGGER intent_u";
    second.execute_batch(triggers).expect("dropped");
    let changed =
        second.execute("UPDATE intent SET rule = 'other' WHERE seq = ?", [waiting.0.cast_signed()]);
    assert_eq!(changed, Ok(1));
    let altered = log.verify(None);
    assert_eq!(found(&altered).0, waiting.0);
}

#[test]
fn p7_the_session_that_another_is_inside_of_stands_in_the_same_file() {
    let log = Kept::new();
    let open = log.open();
    let commit = |record| open.commit(vec![record]).expect("committed").receipts()[0].seq();
    let outer = commit(session());
    commit(Record::SessionClosed(SessionClosed {
        at: Timestamp(2),
        session: outer,
        closing: Closing::Agent,
        detail: None,
        bytes_up: 0,
        bytes_down: 0,
    }));
    open.turn().expect("turned");
    let Record::SessionOpened(mut inner) = session() else { panic!("a session") };
    inner.inside = Some(Inside { outer, asked: "db:5432".into() });
    let inner = commit(Record::SessionOpened(inner));
    drop(open);
    let report = log.verify(None);
    assert_eq!((&report.finding, report.files.len()), (&None, 2), "{report:?}");
    let second = Connection::open(&report.files[1]).expect("open");
    let sql =
        "SELECT o.id, s.server FROM sessions s JOIN sessions o ON o.id = s.inside WHERE s.id = ?";
    let found: (i64, String) = second
        .query_row(sql, [inner.0.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("both are there");
    assert_eq!(found, (outer.0.cast_signed(), "db:5432".into()));
}

#[test]
fn what_a_reader_kept_in_an_old_files_wal_is_moved_when_it_is_gone_also_after_a_restart() {
    for restart in [false, true] {
        let log = Kept::new();
        let open = log.open();
        add(&open, 5);
        let old = fs::canonicalize(log.path()).expect("a file");
        let reader = Connection::open(&old).expect("open");
        reader.execute_batch("BEGIN; SELECT count(*) FROM intent").expect("read");
        add(&open, 5);
        open.turn().expect("turned");
        let left = || fs::metadata(files::wal_path(&old)).expect("a file").len();
        assert!(left() > 0);
        let open = if restart {
            drop(open);
            drop(reader);
            log.open()
        } else {
            drop(reader);
            open
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while left() > 0 {
            assert!(std::time::Instant::now() < deadline);
            add(&open, 1);
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(open);
        assert_eq!(log.verify(None).finding, None);
    }
}

#[test]
fn p7_a_file_that_is_left_out_is_missed() {
    let log = Kept::new();
    let open = log.open();
    for _ in 0..3 {
        add(&open, 3);
        open.turn().expect("turned");
    }
    drop(open);
    let files = log.verify(None).files;
    let connection = Connection::open(&files[2]).expect("open");
    let before = files[0].file_name().expect("a name").to_str().expect("text");
    connection.execute("UPDATE file SET before = ?", [before]).expect("changed");
    let report = log.verify(None);
    assert!(found(&report).1.contains("begins with record"), "{report:?}");
}

#[test]
fn a_leaf_is_the_canonical_record() {
    let log = Kept::new();
    log.write(1);
    let connection = log.connection();
    let mut statement = connection.prepare("SELECT * FROM outcome").expect("prepared");
    let mut rows = statement.query([]).expect("rows");
    let row = rows.next().expect("read").expect("a row");
    let (values, content) = read::values(&crate::table::OUTCOME, row).expect("values");
    let mut canonical = Canonical::default();
    let record = canonical.record(&crate::table::OUTCOME, &values, content);
    let expected = br#"{"record":"outcome","seq":3,"at":2,"intent":2,"part":0,"status":"ok","tag":"SELECT 1","duration_us":5,"rows":1,"bytes":10,"bytes_in":0,"transaction_state":"idle"}"#;
    assert_eq!(record, expected);
    let hashes: Vec<u8> = connection
        .query_row("SELECT hashes FROM tree WHERE seq = 3", [], |row| row.get(0))
        .expect("hashes");
    assert_eq!(hashes[..32], leaf_hash(expected));
}

fn erased(command: u64) -> Erased {
    Erased {
        at: Timestamp(9),
        command: Seq(command),
        records: String::new(),
        uid: 0,
        person: "root".into(),
        reason: "asked for by the person it is about".into(),
    }
}

#[test]
fn p7_what_is_erased_is_gone_and_the_log_still_verifies() {
    let log = Kept::new();
    let open = log.open();
    add(&open, 3);
    // The same text again refers to the first.
    let again = "SELECT 1 FROM customers WHERE name = 'Jane' /* long enough */";
    let again = open.commit(vec![intent(1, again)]).expect("committed").receipts()[0].seq();
    let _ = open.commit(vec![outcome(again.0, CommandStatus::Ok)]).expect("committed");
    open.turn().expect("turned");
    add(&open, 1);
    let kept = open.sealed().borrow().clone().expect("sealed");
    assert_eq!(open.erase(erased(again.0)).expect("erased"), [Seq(4)]);
    assert_eq!(open.erase(erased(1000)).expect("nothing to erase"), []);
    drop(open);
    let kept = Checkpoint::open(&kept.note, &log.signer.verifier()).expect("signed");
    let report = log.verify(Some(&kept));
    assert_eq!((&report.finding, report.erased, report.records), (&None, 1, report.last));
    for file in &report.files {
        for suffix in ["", "-wal"] {
            let bytes = fs::read(files::with_suffix(file, suffix)).expect("read");
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("SELECT 1 FROM customers"), "{}{suffix}", file.display());
        }
    }
    let first = Connection::open(&report.files[0]).expect("open");
    let texts: Vec<Option<String>> = first
        .prepare("SELECT statement FROM commands ORDER BY id")
        .and_then(|mut s| s.query_map([], |row| row.get(0))?.collect())
        .expect("rows");
    assert_eq!(texts.iter().filter(|text| text.is_none()).count(), 2);
    // Erasing by hand leaves no record of it.
    first.execute_batch("DROP TRIGGER intent_c").expect("dropped");
    let mut canonical = Canonical::default();
    let mut statement = first.prepare("SELECT * FROM intent WHERE seq = 2").expect("prepared");
    let mut rows = statement.query([]).expect("rows");
    let row = rows.next().expect("read").expect("a row");
    let (values, content) = read::values(&crate::table::INTENT, row).expect("values");
    let Content::Kept(key) = content else { panic!("{content:?}") };
    let digest = canonical.digest(&crate::table::INTENT, &values, key);
    first
        .execute(
            "UPDATE intent SET text = NULL, content_key = NULL, content_digest = ? WHERE seq = 2",
            [digest],
        )
        .expect("changed");
    assert_eq!(found(&log.verify(None)), (2, "its content was erased, and no record says so"));
}

#[test]
fn p7_files_that_were_kept_long_enough_leave_their_hashes() {
    let log = Kept::new();
    let open = log.open();
    for _ in 0..3 {
        add(&open, 20);
        open.turn().expect("turned");
    }
    let proofs = Proofs::open(&log.path()).expect("open");
    let head = proofs.newest().expect("read").expect("sealed");
    let early = proofs.inclusion(Seq(5), &head).expect("proved").expect("a proof");
    drop((open, proofs));
    let mut options = log.options();
    options.keep.size = Some(1);
    let open = Log::open(&log.path(), options).expect("a log");
    add(&open, 5);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while log.verify(None).retired.len() < 3 {
        assert!(std::time::Instant::now() < deadline, "{:?}", log.verify(None));
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(open);
    let report = log.verify(None);
    assert_eq!((&report.finding, report.files.len()), (&None, 1), "{report:?}");
    // An early record's proof is as good as it was, and the log goes on from what it led to.
    let key = log.signer.verifier();
    let proofs = Proofs::open(&log.path()).expect("open");
    let ProofFile::Inclusion { record, proof, checkpoint } = early else { panic!("{early:?}") };
    let old = Checkpoint::open(&checkpoint, &key).expect("signed");
    assert_eq!(proof.verify(&leaf_hash(&record), old.size, &old.root), Ok(()));
    let newest = proofs.newest().expect("read").expect("sealed");
    let new = Checkpoint::open(&newest.note, &key).expect("signed");
    let goes_on = proofs.consistency(old.size, &newest).expect("proved").expect("a proof");
    assert_eq!(goes_on.verify(&old.root, new.size, &new.root), Ok(()));
    assert_eq!(proofs.inclusion(Seq(5), &newest).expect("read"), None, "its content is gone");
}

#[test]
fn p7_a_log_whose_newest_file_was_taken_away_is_not_begun_anew() {
    let log = Kept::new();
    log.write(3);
    fs::remove_file(fs::canonicalize(log.path()).expect("a file")).expect("removed");
    let refused = Log::open(&log.path(), log.options()).err().expect("refused");
    assert!(matches!(refused, AuditError::Gone(_)), "{refused}");
}

#[test]
fn p7_what_is_erased_while_somebody_reads_leaves_the_wal_when_they_are_gone() {
    let log = Kept::new();
    let open = log.open();
    add(&open, 3);
    let reader = log.connection();
    reader.execute_batch("BEGIN; SELECT count(*) FROM intent").expect("read");
    let file = fs::canonicalize(log.path()).expect("a file");
    open.erase(erased(4)).expect("erased");
    drop(reader);
    let holds = |suffix: &str| {
        let bytes = fs::read(files::with_suffix(&file, suffix)).expect("read");
        String::from_utf8_lossy(&bytes).contains("SELECT 1 FROM customers")
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while holds("") || holds("-wal") {
        assert!(std::time::Instant::now() < deadline, "it is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}
