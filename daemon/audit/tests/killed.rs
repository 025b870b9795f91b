//! A writer that is killed at any moment, also while it begins a new file or makes a checkpoint.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use chaperone_audit::{
    Log, Options, Sealing,
    note::{Signer, Verifier},
    verify::{Question, verify},
};
use chaperone_model::{
    ClockState, Command as Asked, CommandKind, CommandStatus, Heartbeat, Intent, Outcome, Record,
    Seq, Timestamp, VerdictKind,
};

const FOLDER: &str = "CHAPERONE_TEST_FOLDER";
/// How often it is killed.
const ROUNDS: u64 = 16;

fn open(folder: &Path, signer: Signer) -> Log {
    let clocks = || Heartbeat {
        at: Timestamp(1),
        boot_id: "boot".into(),
        monotonic_us: 1,
        clock: ClockState::Unknown,
        clock_error_us: 0,
    };
    let sealing = Sealing {
        signer: Arc::new(signer),
        every: Duration::from_millis(1),
        records: 1,
        heartbeat: Duration::from_secs(1),
        clocks: Arc::new(clocks),
    };
    let options = Options { sealing: Some(sealing), ..Options::default() };
    Log::open(&folder.join("log.sqlite"), options).expect("a log")
}

fn signer(folder: &Path) -> Signer {
    let path = folder.join("key");
    let document = std::fs::read(&path).unwrap_or_else(|_| {
        let made = Signer::generate().expect("a key");
        std::fs::write(&path, &made).expect("written");
        made
    });
    Signer::from_pkcs8("host/log", &document).expect("a key")
}

/// Writes, turns and tells the number of each record that is committed, until it is killed.
#[test]
fn the_writer() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let log = open(folder, signer(folder));
    let mut out = std::io::stdout().lock();
    for n in 0_u64.. {
        let intent = Intent {
            at: Timestamp(1),
            session: Seq(1),
            command: Asked::new(
                CommandKind::Query,
                Some(format!("SELECT {n} -- {}", "x".repeat(60))),
            ),
            verdict: VerdictKind::Allow,
            rule: "r".into(),
            rung: None,
            summary: None,
            approval: None,
            lifted: Vec::new(),
        };
        let committed = log.commit(vec![Record::Intent(intent)]).expect("committed");
        let seq = committed.receipts()[0].seq();
        let outcome = Outcome::new(seq, CommandStatus::Ok, Timestamp(2));
        log.ride_along(Record::Outcome(outcome));
        let _ = writeln!(out, "\ncommitted {}", seq.0);
        let _ = out.flush();
        if n % 12 == 11 {
            log.turn().expect("turned");
        }
    }
}

#[test]
fn p1_p7_a_writer_that_is_killed_leaves_a_log_that_goes_on_and_verifies() {
    let folder = tempfile::tempdir().expect("a folder");
    let key: Verifier = signer(folder.path()).verifier();
    let mut files = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "the_writer", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        // Another moment each time; some are in the middle of a turn.
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let until = 3 + round * 7 % 41;
        let mut last = 0;
        let committed = |line: String| line.strip_prefix("committed ").and_then(|n| n.parse().ok());
        for _ in 0..until {
            let found = lines.by_ref().map_while(Result::ok).find_map(committed);
            last = found.expect("it writes");
        }
        std::thread::sleep(Duration::from_micros(round * 131 % 4000));
        child.kill().expect("killed");
        child.wait().expect("gone");
        // What it said before it died counts as well.
        last = lines.map_while(Result::ok).filter_map(committed).last().unwrap_or(last);
        let question = Question { key: Some(&key), ..Question::default() };
        let report = verify(&folder.path().join("log.sqlite"), &question).expect("readable");
        assert_eq!(report.finding, None, "round {round}");
        assert!(report.last >= last, "round {round}: {last} was committed, and {report:?}");
        files = report.files.len();
    }
    assert!(files > 5, "it turned: {files}");
    // And it goes on: all commands have an outcome.
    drop(open(folder.path(), signer(folder.path())));
    let reader =
        chaperone_audit::Reader::open(&folder.path().join("log.sqlite")).expect("readable");
    let rows = reader.commands(&chaperone_audit::Filter::default()).expect("rows");
    assert!(rows.iter().all(|row| row.status != "pending"));
    assert!(rows.iter().any(|row| row.status == "unknown"));
}
