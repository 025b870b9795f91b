//! What is recorded on the disk under test, what was promised of it, and whether a log keeps that.
//!
//! Does not belong here: what happens to the disk.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    thread,
    time::Duration,
};

use chaperone_audit::{
    AuditError, Log, Options, Receipt,
    verify::{Question, verify},
};
use chaperone_model::{
    Command, CommandKind, CommandStatus, Intent, Outcome, Record, Seq, Timestamp, VerdictKind,
};
use rusqlite::Connection;

/// Tables that the work, and a start after it, write to. Numbers count over all of them.
const TABLES: [&str; 4] = ["intent", "outcome", "event", "carried"];

/// Records of which a receipt was given, by number, with their texts.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    /// They outlive a power cut.
    pub(crate) flushed: HashMap<u64, String>,
    /// They outlive the daemon.
    pub(crate) committed: HashMap<u64, String>,
}

impl Promised {
    /// What a disk that fails, and says so, must not take away.
    pub(crate) fn all(self) -> HashMap<u64, String> {
        self.flushed.into_iter().chain(self.committed).collect()
    }
}

/// A process that another test starts has the lock of this one's last log until it becomes another
/// program.
pub(crate) fn open(path: &Path) -> Result<Log, AuditError> {
    let locked = |opened: &Result<Log, AuditError>| matches!(opened, Err(AuditError::Locked(_)));
    let mut opened = Log::open(path, Options::default());
    for _ in 0..1000 {
        if !locked(&opened) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
        opened = Log::open(path, Options::default());
    }
    opened
}

pub(crate) fn intent(session: u64, text: &str) -> Record {
    Record::Intent(Intent {
        at: Timestamp(1),
        session: Seq(session),
        command: Command::new(CommandKind::Query, Some(text.into())),
        verdict: VerdictKind::Allow,
        rule: "r".into(),
        rung: None,
        summary: None,
        approval: None,
        lifted: Vec::new(),
    })
}

/// Commits one record, and waits for the flush where asked to.
pub(crate) fn commit(log: &Log, record: Record, flushed: bool) -> Result<Receipt, AuditError> {
    let committed = log.commit(vec![record])?;
    let receipts = if flushed { wait(committed.flushed())? } else { committed.receipts() };
    Ok(receipts.into_iter().next().expect("one a record"))
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// Several threads commit records of up to `size` bytes until the log refuses one, or for so long.
pub(crate) fn until_refused(
    log: &Log,
    seed: u64,
    size: usize,
    over: impl Fn() -> bool + Sync,
) -> Promised {
    let work = |session: u64| {
        let mut rng = fastrand::Rng::with_seed(seed ^ session);
        let mut promised = Promised::default();
        for n in 0.. {
            let count = rng.usize(1..4);
            let texts: Vec<_> = (0..count)
                .map(|part| {
                    format!("{seed} {session} {n} {part} {}", "x".repeat(rng.usize(..size)))
                })
                .collect();
            let records = texts.iter().map(|text| intent(session, text)).collect();
            let Ok(committed) = log.commit(records) else { break };
            let safe = session < 2 || rng.bool();
            let receipts = if safe {
                let Ok(receipts) = wait(committed.flushed()) else { break };
                receipts
            } else {
                committed.receipts()
            };
            let numbers = receipts.iter().map(|receipt| receipt.seq().0);
            let to = if safe { &mut promised.flushed } else { &mut promised.committed };
            to.extend(numbers.zip(texts));
            if rng.bool() {
                let of = receipts[0].seq();
                log.ride_along(Record::Outcome(Outcome::new(of, CommandStatus::Ok, Timestamp(2))));
            }
            if over() {
                break;
            }
        }
        promised
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|session| scope.spawn(move || work(session))).collect();
        let mut all = Promised::default();
        for thread in threads {
            let one = thread.join().expect("no panic");
            all.flushed.extend(one.flushed);
            all.committed.extend(one.committed);
        }
        all
    })
}

/// What is wrong with a log, as sentences: it was just opened on what is left.
pub(crate) fn faults(log: &Log, promised: &HashMap<u64, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let files = files(log);
    for file in &files {
        let check: String = file
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap_or_else(|error| error.to_string());
        if check != "ok" {
            wrong.push(check);
        }
    }
    let all = |sql: &str| files.iter().flat_map(|file| numbers(file, sql)).collect::<BTreeSet<_>>();
    let each: Vec<String> = TABLES.iter().map(|table| format!("SELECT seq FROM {table}")).collect();
    let there = all(&each.join(" UNION ALL "));
    let last = log.stats().last.0;
    if there != (1..=last).collect() {
        wrong.push(format!("{} numbers up to {last}", there.len()));
    }
    let has = |file: &Connection, number: u64, text: &String| {
        let sql = "SELECT text FROM intent WHERE seq = ?";
        let found: Result<String, _> =
            file.query_row(sql, [number.cast_signed()], |row| row.get(0));
        found.as_ref() == Ok(text)
    };
    let gone = promised
        .iter()
        .filter(|(number, text)| !files.iter().any(|file| has(file, **number, text)));
    let gone = gone.count();
    if gone > 0 {
        wrong.push(format!("{gone} of {} promised records are lost", promised.len()));
    }
    let answered = all("SELECT intent FROM outcome");
    let open = all("SELECT seq FROM intent").difference(&answered).count();
    if open > 0 {
        wrong.push(format!("{open} commands were left without an outcome"));
    }
    // These logs have no key, and so no checkpoints; all else must be as the tree says.
    match verify(log.path(), &Question::default()) {
        Ok(report) => {
            let finding = report.finding.filter(|one| !one.what.contains("no checkpoint covers"));
            wrong.extend(finding.map(|one| format!("record {}: {}", one.seq, one.what)));
        }
        Err(error) => wrong.push(format!("cannot be verified: {error}")),
    }
    match commit(log, intent(1, "next"), true) {
        Ok(receipt) if receipt.seq().0 == last + 1 => {}
        Ok(receipt) => wrong.push(format!("{last} is followed by {}", receipt.seq().0)),
        Err(error) => wrong.push(format!("takes no more records: {error}")),
    }
    wrong
}

/// All files of a log.
pub(crate) fn files(log: &Log) -> Vec<Connection> {
    let report = verify(log.path(), &Question::default()).expect("readable");
    report.files.iter().map(|file| Connection::open(file).expect("readable")).collect()
}

fn numbers(connection: &Connection, sql: &str) -> Vec<u64> {
    connection
        .prepare(sql)
        .expect("prepared")
        .query_map([], |row| row.get(0))
        .expect("rows")
        .collect::<Result<_, _>>()
        .unwrap_or_default()
}
