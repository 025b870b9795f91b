//! What becomes of commits on the disk: flushes, checkpoints, readers in the way, files.

use std::task::{Context, Poll, Waker};

use super::*;

/// Some 160 MB were written: without checkpoints the WAL would stay as long. While a checkpoint is
/// slow the WAL grows on, so that how long it gets depends on the machine.
fn shrinks(log: &Log) {
    for _ in 0..1000 {
        if log.stats().wal_bytes < 70 << 20 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the WAL did not shrink: {:?}", log.stats());
}

#[test]
fn p1_a_flush_answers_after_the_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let committed = log.commit(vec![intent(1, "x"), intent(1, "y")]).expect("committed");
    let receipts = runtime.block_on(committed.flushed()).expect("flushed");
    assert_eq!(receipts.iter().map(|r| r.seq().0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_long_wal_begins_anew_while_the_log_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    let text = "x".repeat(8000);
    for _ in 0..200 {
        seqs(&log, (0..100).map(|_| intent(1, &text)).collect());
    }
    shrinks(&log);
    assert_eq!(count(&read(&log), "intent"), 20_000);
}

#[test]
fn commits_without_riders_are_checkpointed_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    // Longer than the ticker stays awake.
    thread::sleep(Duration::from_millis(1300));
    // Each commit writes some pages, however small its records are: some 160 MB.
    for _ in 0..20_000 {
        seqs(&log, vec![intent(1, "x")]);
    }
    shrinks(&log);
}

#[test]
fn p1_what_a_checkpoint_moved_while_flushes_were_waited_for_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    let other = files::connect(log.path()).expect("open");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for n in 1..=50 {
        let committed = log.commit(vec![intent(1, "x")]).expect("committed");
        let flushed = committed.flushed();
        // The WAL begins anew in the same file, under the flusher's descriptor.
        checkpoint(&other, "TRUNCATE").expect("moved");
        let receipts = runtime.block_on(flushed).expect("flushed");
        assert_eq!(receipts[0].seq(), Seq(n));
    }
    assert_eq!(count(&read(&log), "intent"), 50);
}

#[test]
fn a_reader_with_an_old_view_does_not_hold_up_the_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    seqs(&log, vec![intent(1, "x")]);
    let reader = read(&log);
    reader.execute_batch("BEGIN").expect("begun");
    assert_eq!(count(&reader, "intent"), 1);
    let text = "x".repeat(100_000);
    let mut longest = Duration::ZERO;
    // 100 MB, so that checkpoints that need all readers gone are tried and fail.
    for _ in 0..1000 {
        let begun = Instant::now();
        seqs(&log, vec![intent(1, &text)]);
        longest = longest.max(begun.elapsed());
        thread::sleep(Duration::from_micros(300));
    }
    assert_eq!(count(&reader, "intent"), 1, "its view stands");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    reader.execute_batch("COMMIT").expect("ended");
    for _ in 0..500 {
        seqs(&log, vec![intent(1, &text)]);
        if log.stats().wal_bytes < 64 << 20 {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("the WAL did not shrink: {:?}", log.stats());
}

#[test]
fn p1_after_a_failed_flush_nothing_is_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.sqlite");
    // /dev/null cannot be synced.
    let log = Log::open_flushing(
        &path,
        Options::default(),
        Some(File::open("/dev/null").expect("a device")),
    )
    .expect("open");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let flushed = log.commit(vec![intent(1, "x")]).expect("committed").flushed();
    let error = runtime.block_on(flushed).expect_err("not flushed");
    assert!(matches!(error, AuditError::Flush(_)), "{error}");
    let error = log.commit(vec![intent(1, "y")]).err().expect("refused");
    assert!(matches!(error, AuditError::Flush(_)), "{error}");
    assert!(log.stats().error.expect("told").contains("flushed"));
    assert_eq!(count(&read(&log), "intent"), 1);
    // Another file is begun, of which nothing was lost, and says so.
    let deadline = Instant::now() + Duration::from_secs(10);
    let committed = loop {
        match log.commit(vec![intent(1, "z")]) {
            Ok(committed) => break committed,
            Err(error) => assert!(matches!(error, AuditError::Flush(_)), "{error}"),
        }
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    };
    let receipts = runtime.block_on(committed.flushed()).expect("flushed");
    // The event, and the command that has no outcome yet, carried over, came before.
    assert_eq!(receipts[0].seq(), Seq(4));
    let told: String = read(&log)
        .query_row("SELECT detail FROM event WHERE kind = 'log-damaged'", [], |row| row.get(0))
        .expect("an event");
    assert!(told.contains("could not be flushed"), "{told}");
    assert_eq!(log.stats().error, None);
    log.close().expect("closed");
}

#[test]
fn p1_a_flush_that_is_asked_for_after_the_end_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    let committed = log.commit(vec![intent(1, "x")]).expect("committed");
    log.close().expect("closed");
    let flushed = std::pin::pin!(committed.flushed());
    let answer = flushed.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(answer, Poll::Ready(Err(_))));
}

#[test]
fn new_files_are_for_the_owner_and_the_group() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new/log.sqlite");
    let log = Log::open(&path, Options::default()).expect("a log");
    seqs(&log, vec![intent(1, "x")]);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().expect("a folder")), 0o750);
    let file = fs::canonicalize(&path).expect("a file");
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&files::with_suffix(&file, suffix)), 0o640, "{suffix}");
    }
}

#[test]
fn folders_that_cannot_be_written_are_told_with_their_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    for path in [file.join("log.sqlite"), "/proc/nowhere/log.sqlite".into()] {
        let error = Log::open(&path, Options::default()).err().expect("refused").to_string();
        assert!(error.contains(&path.parent().expect("a folder").display().to_string()), "{error}");
    }
}

#[test]
fn p2_a_full_disk_gives_no_receipt_and_uses_no_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    assert_eq!(seqs(&log, vec![intent(1, "before")]), [1]);
    lock_of(&log.shared.writer).appender.limit_pages(1);
    let filler = "x".repeat(1 << 20);
    let error = log.commit(vec![intent(1, &filler)]).err().expect("no room");
    assert!(matches!(error, AuditError::Full), "{error}");
    log.ride_along(event(&filler));
    assert!(log.commit(vec![intent(1, &filler)]).is_err());
    assert!(log.stats().error.is_some());
    lock_of(&log.shared.writer).appender.limit_pages(1 << 20);
    assert_eq!(seqs(&log, vec![intent(1, "after")]), [2]);
    assert_eq!(count(&read(&log), "event"), 1, "what rode along was kept");
    assert_eq!(log.stats().error, None);
}

#[test]
fn closing_says_what_could_not_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    lock_of(&log.shared.writer).appender.limit_pages(1);
    log.ride_along(event(&"x".repeat(1 << 20)));
    assert_eq!(log.stats().queued, 1);
    assert!(matches!(log.close(), Err(AuditError::Full)));
}

#[test]
fn what_has_no_room_to_wait_is_counted_and_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { queue_bytes: 3000, ..Options::default() };
    let log = Log::open(&folder.path().join("log.sqlite"), options).expect("a log");
    lock_of(&log.shared.writer).appender.limit_pages(1);
    let filler = "x".repeat(2000);
    // Enough to need new pages whatever room is left in the present ones.
    for _ in 0..40 {
        log.ride_along(event(&filler));
    }
    let lost = log.stats().lost;
    assert!(lost > 0);
    assert!(log.stats().queued_bytes <= 3000);
    lock_of(&log.shared.writer).appender.limit_pages(1 << 20);
    seqs(&log, vec![intent(1, "x")]);
    let told: String = read(&log)
        .query_row("SELECT detail FROM event WHERE kind = 'outcomes-lost'", [], |r| r.get(0))
        .expect("told");
    assert!(told.starts_with(&lost.to_string()), "{told}");
}

#[test]
fn all_who_meet_in_a_commit_that_fails_are_told_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    lock_of(&log.shared.writer).appender.limit_pages(1);
    let held = lock_of(&log.shared.writer);
    let errors: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|session| {
                let log = log.clone();
                let records = vec![intent(session, &"x".repeat(1 << 20))];
                scope.spawn(move || log.commit(records).err().expect("no room").to_string())
            })
            .collect();
        while lock_of(&log.shared.queue).batches.len() < 4 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(held);
        threads.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    assert!(errors.iter().all(|error| *error == AuditError::Full.to_string()), "{errors:?}");
    assert_eq!(log.stats().last, Seq(0));
}

#[test]
fn p2_a_file_that_is_damaged_is_left_and_the_log_goes_on_in_another() {
    for restart in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let log = open(&folder);
        let text = "x".repeat(3000);
        for _ in 0..200 {
            seqs(&log, vec![intent(1, &text), outcome(1, CommandStatus::Ok)]);
        }
        let last = log.stats().last;
        let file = fs::canonicalize(log.path()).expect("a file");
        let other = files::connect(&file).expect("open");
        while checkpoint(&other, "TRUNCATE").expect("moved").0 != 0 {}
        drop(other);
        let log = if restart {
            drop(log);
            None
        } else {
            Some(log)
        };
        // The table that records are appended to, from its root on.
        let root: u64 = Connection::open(&file)
            .and_then(|c| {
                let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'outcome'";
                c.query_row(sql, [], |row| row.get(0))
            })
            .expect("a page");
        let damage = File::options().write(true).open(&file).expect("open");
        std::os::unix::fs::FileExt::write_all_at(&damage, &[0xa5; 2048], (root - 1) * files::PAGE)
            .expect("written");
        let log = log.unwrap_or_else(|| open(&folder));
        // The page may be in a cache, and is found to be bad when it is read again.
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut refused = false;
        while fs::canonicalize(log.path()).expect("a file") == file {
            refused |= log.commit(vec![outcome(1, CommandStatus::Ok)]).is_err();
            assert!(Instant::now() < deadline, "refused: {refused}");
            let cache = "PRAGMA shrink_memory";
            lock_of(&log.shared.writer).appender.connection.execute_batch(cache).expect("shrunk");
        }
        assert!(restart || refused);
        let next = seqs(&log, vec![intent(1, "on")])[0];
        assert!(next > last.0, "{next}");
        let told: String = read(&log)
            .query_row("SELECT detail FROM event WHERE kind = 'log-damaged'", [], |row| row.get(0))
            .expect("an event");
        assert!(told.contains("which is damaged or failed"), "{told}");
        let report = crate::verify::verify(log.path(), &crate::verify::Question::default());
        let finding = report.expect("readable").finding.expect("a finding");
        assert!(finding.what.contains("damaged"), "{finding:?}");
        assert_eq!(finding.file, file);
    }
}
