//! A writer that is killed, again and again, at random moments under load: whatever it forwarded has
//! its record.
//!
//! Does not belong here: the daemon itself, which the host tests kill; what the disk does.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use fastrand::Rng;

use crate::work::{faults, intent, open};

const LOG: &str = "KILLED_LOG";
/// Marks a line of what was forwarded; the test harness has lines of its own.
const FORWARDED: &str = "forwarded ";
const LANES: u64 = 2;
const ROUNDS: u64 = 480;
/// Rounds on the same log.
const SAME: u64 = 10;

#[test]
fn p1_a_writer_that_is_killed_a_thousand_times_forwarded_nothing_unrecorded() {
    let forwarded: usize = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|lane| scope.spawn(move || rounds(lane))).collect();
        lanes.into_iter().map(|lane| lane.join().expect("no panic")).sum()
    });
    assert!(forwarded > 10_000, "{forwarded}");
}

fn rounds(lane: u64) -> usize {
    let mut rng = Rng::with_seed(lane);
    let mut forwarded = 0;
    for _ in 0..ROUNDS / SAME {
        // Nothing is lost with the power here, and no time with the disk.
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let log = folder.path().join("log.sqlite");
        let mut promised = HashMap::new();
        for round in 0..SAME {
            let (from, most) =
                if rng.bool() { (From::Start, 60_000) } else { (From::Forwarding, 4_000) };
            promised.extend(killed(&log, from, Duration::from_micros(rng.u64(0..most))));
            // The next start.
            let log = open(&log).expect("opened");
            assert_eq!(faults(&log, &promised), [""; 0], "lane {lane}, round {round}");
            assert_eq!(halves(&log), 0, "lane {lane}, round {round}");
        }
        forwarded += promised.len();
    }
    forwarded
}

/// From when on a writer is let run: how long it takes to start is the machine's.
#[derive(Clone, Copy)]
enum From {
    Start,
    Forwarding,
}

/// Runs a writer for so long; answers what it forwarded.
fn killed(log: &Path, from: From, after: Duration) -> HashMap<u64, String> {
    let mut writer = Command::new(env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "killed::write", "--nocapture"])
        .env(LOG, log)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut out = BufReader::new(writer.stdout.take().expect("piped"));
    let (tell, begun) = mpsc::sync_channel(1);
    let heard = thread::spawn(move || {
        let mut text = Vec::new();
        loop {
            let line = text.len();
            if out.read_until(b'\n', &mut text)? == 0 {
                return Ok::<_, std::io::Error>(text);
            }
            if text[line..].starts_with(FORWARDED.as_bytes()) {
                let _ = tell.try_send(());
            }
        }
    });
    if let From::Forwarding = from {
        begun.recv_timeout(Duration::from_secs(30)).expect("it forwards something");
    }
    thread::sleep(after);
    writer.kill().expect("killed");
    writer.wait().expect("it ended");
    let text = String::from_utf8(heard.join().expect("no panic").expect("heard")).expect("text");
    // A line without its end was not forwarded.
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole
        .filter_map(|line| line.strip_prefix(FORWARDED)?.split_once(' '))
        .map(|(number, text)| (number.parse().expect("a number"), text.into()))
        .collect()
}

/// Batches of which not all is there: each has two records of the same text but for its end.
fn halves(log: &chaperone_audit::Log) -> i64 {
    let sql = "SELECT count(*) FROM intent a WHERE a.text LIKE '%/first' AND NOT EXISTS
               (SELECT 1 FROM intent b WHERE b.seq = a.seq + 1 AND b.text = replace(a.text, '/first', '/second'))";
    rusqlite::Connection::open(log.path())
        .and_then(|connection| connection.query_row(sql, [], |row| row.get(0)))
        .expect("a number")
}

#[test]
#[ignore = "the test starts it as a process of its own, and kills it"]
fn write() {
    let Ok(path) = env::var(LOG) else { return };
    let log = open(Path::new(&path)).expect("a log");
    thread::scope(|scope| {
        for session in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for n in 0.. {
                    let texts = ["first", "second"].map(|part| format!("{session} {n}/{part}"));
                    let records = texts.iter().map(|text| intent(session, text)).collect();
                    let receipts = log.commit(records).expect("committed").receipts();
                    for (receipt, text) in receipts.into_iter().zip(texts) {
                        let line = format!("{FORWARDED}{} {text}\n", receipt.seq().0);
                        // Standard output flushes at the end of each line.
                        std::io::stdout().write_all(line.as_bytes()).expect("forwarded");
                    }
                }
            });
        }
    });
}
