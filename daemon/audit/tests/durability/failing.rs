//! A disk that fails and says so: commits are refused with the reason, nothing is half there, and
//! the log goes on by itself when the disk does.
//!
//! Does not belong here: a power cut, of which nobody is told (`power.rs`).

use std::{
    collections::HashMap,
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use chaperone_audit::{AuditError, Log};
use fastrand::Rng;
use nix::errno::Errno;

use crate::{
    disk::Faults,
    server::Mounted,
    work::{Promised, commit, faults, intent, open, until_refused},
};

/// Longer than what is left in the pages that the log has.
const LONG: usize = 100_000;

/// A log of some records, and what was promised of them.
fn begun(mounted: &Mounted) -> (Log, Promised) {
    let log = open(&mounted.log()).expect("a log");
    let promised = until_refused(&log, 1, 400, rounds());
    (log, promised)
}

/// Over after some ten commits of each thread.
fn rounds() -> impl Fn() -> bool + Sync {
    let rounds = AtomicU32::new(0);
    move || rounds.fetch_add(1, Ordering::Relaxed) > 40
}

/// Refused with `why`, many times; then the disk is well, and nobody does anything.
fn refuses_and_goes_on(with: Faults, why: &str) {
    let mut mounted = Mounted::new();
    let (log, promised) = begun(&mounted);
    let mut promised = promised.all();
    mounted.set(with);
    for _ in 0..20 {
        let error = commit(&log, intent(1, &"x".repeat(LONG)), false).expect_err("refused");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(log.stats().error, Some(error.to_string()), "status says it too");
    }
    mounted.set(Faults::default());
    let receipt = commit(&log, intent(1, "after"), true).expect("it goes on");
    promised.insert(receipt.seq().0, "after".into());
    let path = log.path().to_owned();
    log.close().expect("closed");
    // What is there is whole, also for the next daemon.
    let log = open(&path).expect("opened");
    assert_eq!(faults(&log, &promised), [""; 0]);
}

#[test]
fn p2_writes_that_fail_are_refused_until_they_do_not() {
    let with = Faults { writes: Some(Errno::EIO as i32), ..Faults::default() };
    refuses_and_goes_on(with, "the disk that holds the log failed");
}

#[test]
fn p2_a_full_disk_is_told_until_there_is_room() {
    let with = Faults { room: Some(0), ..Faults::default() };
    refuses_and_goes_on(with, "the disk that holds the log is full");
}

#[test]
fn p2_a_disk_that_became_read_only_is_told_until_it_is_not() {
    let read_only = Some(Errno::EROFS as i32);
    let with = Faults { writes: read_only, opens: read_only, ..Faults::default() };
    refuses_and_goes_on(with, "check the disk");
}

#[test]
fn p2_a_log_that_may_not_be_opened_is_told_at_the_start() {
    for error in [Errno::EACCES, Errno::EROFS] {
        let mut mounted = Mounted::new();
        let (log, promised) = begun(&mounted);
        log.close().expect("closed");
        mounted.set(Faults { opens: Some(error as i32), ..Faults::default() });
        let told = open(&mounted.log()).err().expect("refused").to_string();
        assert!(told.contains("opening the log"), "{told}");
        assert!(told.contains(error.desc()), "{told}");
        mounted.set(Faults::default());
        let log = open(&mounted.log()).expect("opened");
        assert_eq!(faults(&log, &promised.all()), [""; 0]);
    }
}

/// After a flush that failed the kernel takes for clean what it could not write. What is promised
/// from then on must not rest on it.
#[test]
fn p1_after_a_failed_flush_nothing_is_promised_and_a_new_start_heals_the_log() {
    let mut wrong = HashMap::new();
    for seed in 0..100 {
        let mut mounted = Mounted::new();
        let (log, promised) = begun(&mounted);
        drop(log);
        // The WAL begins anew, so that what the flush fails for is all that is in it.
        let log = open(&mounted.log()).expect("opened");
        mounted.set(Faults { flushes: Some(Errno::EIO as i32), ..Faults::default() });
        for text in ["first", "second"] {
            let error = commit(&log, intent(1, text), true).expect_err("refused");
            assert!(matches!(error, AuditError::Flush(_)), "{error}");
        }
        let error = commit(&log, intent(1, "third"), false).expect_err("refused");
        assert!(matches!(error, AuditError::Flush(_)), "{error}");
        drop(log);
        mounted.set(Faults::default());
        // The power goes at some moment of the new start, or soon after it.
        mounted.cut_after(seed);
        if let Ok(log) = open(&mounted.log()) {
            let _ = until_refused(&log, seed, 400, || false);
        }
        let folder = tempfile::tempdir().expect("a folder");
        mounted.leave(seed, folder.path());
        match open(&folder.path().join("log/log.sqlite")) {
            Ok(log) => {
                // Those that were only committed may be gone.
                let found = faults(&log, &promised.flushed);
                if !found.is_empty() {
                    wrong.insert(seed, found);
                }
            }
            Err(error) => {
                wrong.insert(seed, vec![format!("cannot be opened: {error}")]);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Overwrites some bytes of each file, as a broken disk or a careless program would.
fn damage(log: &Path, rng: &mut Rng) {
    let mut file = fs::OpenOptions::new().write(true).open(log).expect("opened");
    let length = file.metadata().expect("there").len();
    for _ in 0..rng.u32(1..20) {
        let noise: Vec<u8> = (0..rng.usize(1..5000)).map(|_| rng.u8(..)).collect();
        file.seek(SeekFrom::Start(rng.u64(..length))).expect("sought");
        file.write_all(&noise).expect("written");
    }
}

#[test]
fn p2_a_damaged_log_is_told_in_one_sentence_or_goes_on_in_another_file() {
    let (mut told, mut went_on) = (0, 0);
    for seed in 0..60 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.sqlite");
        let log = open(&path).expect("a log");
        let _ = until_refused(&log, seed, 400, rounds());
        drop(log);
        // Moves all of it out of the WAL.
        drop(open(&path).expect("opened"));
        let file = fs::canonicalize(&path).expect("a file");
        damage(&path, &mut Rng::with_seed(seed));
        let log = match open(&path) {
            Ok(log) => log,
            Err(error) => {
                said_well(&error);
                told += 1;
                continue;
            }
        };
        // Damage where nothing is read or written shows later.
        let begun = Instant::now();
        let mut refused = false;
        for _ in 0..50 {
            while let Err(error) = commit(&log, intent(1, "x"), false) {
                said_well(&error);
                refused = true;
                assert!(begun.elapsed() < Duration::from_secs(20), "it goes on: {error}");
                thread::sleep(Duration::from_millis(10));
            }
        }
        let elsewhere = fs::canonicalize(&path).expect("a file") != file;
        assert!(elsewhere || !refused, "seed {seed}");
        went_on += u32::from(elsewhere);
    }
    // Where the head of the file is gone, or the tree, nobody but people can say what to do.
    assert!(told + went_on > 40 && went_on > 0, "{told} {went_on}");
}

#[test]
fn p5_p8_what_is_told_of_a_damaged_file_quotes_nothing_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.sqlite");
    drop(open(&path).expect("a log"));
    let schema = "UPDATE sqlite_schema SET sql = 'CREATE VIEW trail AS SELECT ''\nsecret\r' \
                  WHERE name = 'trail'";
    let file = rusqlite::Connection::open(&path).expect("a file");
    file.execute_batch(&format!("PRAGMA writable_schema = ON; {schema}")).expect("written");
    assert_eq!(file.changes(), 1);
    drop(file);
    let Err(error) = open(&path) else { panic!("it was opened") };
    said_well(&error);
    assert!(!error.to_string().contains("secret"), "{error}");
}

fn said_well(error: &AuditError) {
    let said = error.to_string();
    let known = ["is damaged (", "is no chaperone log", "has the layout"];
    assert!(known.iter().any(|known| said.contains(known)), "{said}");
    assert!(!said.contains('\n'), "{said}");
}
