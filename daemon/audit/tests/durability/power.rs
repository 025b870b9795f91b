//! Power cuts at every moment: while the log is made, under load, in the midst of a checkpoint.
//!
//! Does not belong here: a disk that fails and says so (`failing.rs`).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    disk::Faults,
    server::Mounted,
    work::{Promised, faults, open, until_refused},
};

/// What became of one power cut.
struct Cut {
    promised: Promised,
    /// What is wrong, where only flushed records count as promised.
    wrong: Vec<String>,
    /// Records that were only committed, and are gone.
    unflushed: usize,
    /// Whether the power was gone before the log was open.
    early: bool,
}

fn cut(seed: u64, with: Faults) -> Cut {
    let mut rng = Rng::with_seed(seed);
    let mut mounted = Mounted::new();
    // A log takes some hundred changes to be made. Long records fill the WAL up to a checkpoint.
    let (changes, size) = match rng.u32(..10) {
        0..2 => (rng.u64(..300), 200),
        2..8 => (rng.u64(250..900), 400),
        _ => (rng.u64(250..5000), 60_000),
    };
    mounted.set(with);
    mounted.cut_after(changes);
    let log = open(&mounted.log());
    let early = log.is_err();
    let promised = match log {
        Ok(log) => {
            let begun = Instant::now();
            until_refused(&log, seed, size, || begun.elapsed() > Duration::from_secs(2))
        }
        Err(_) => Promised::default(),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let was_off = mounted.leave(seed, folder.path());
    assert!(was_off || !early, "it failed for another reason");
    drop(mounted);
    let mut wrong = Vec::new();
    let mut unflushed = 0;
    match open(&folder.path().join("log/log.sqlite")) {
        Ok(log) => {
            wrong = faults(&log, &promised.flushed);
            let connection = rusqlite::Connection::open(log.path()).expect("readable");
            let there = |number: &u64| {
                connection
                    .query_row("SELECT 1 FROM intent WHERE seq = ?", [number.cast_signed()], |_| {
                        Ok(())
                    })
                    .is_ok()
            };
            unflushed = promised.committed.keys().filter(|number| !there(number)).count();
        }
        Err(error) => wrong.push(format!("cannot be opened: {error}")),
    }
    Cut { promised, wrong, unflushed, early }
}

#[test]
fn p1_what_was_flushed_outlives_a_power_cut_at_any_moment() {
    let (mut promised, mut unflushed, mut early) = (0, 0, 0);
    let mut wrong = HashMap::new();
    for seed in 0..200 {
        let cut = cut(seed, Faults::default());
        promised += cut.promised.flushed.len();
        unflushed += cut.unflushed;
        early += usize::from(cut.early);
        if !cut.wrong.is_empty() {
            wrong.insert(seed, cut.wrong);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The cuts were cuts.
    assert!(promised > 1000, "{promised}");
    assert!(unflushed > 10, "what is not flushed may be lost, and {unflushed} records were");
    assert!(early > 10, "{early}");
}

/// That the check above can fail.
#[test]
fn a_disk_that_lies_is_found_out() {
    let faults = Faults { lies: true, ..Faults::default() };
    let found = (0..30).filter(|seed| !cut(*seed, faults).wrong.is_empty()).count();
    assert!(found > 5, "{found}");
}
