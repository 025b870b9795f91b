//! What recording costs a session, with and without the flush, next to the disk's own flush.
//!
//! Sessions are tasks of two threads, as in the daemon: what is ready on a thread in the same round
//! is committed in one call, and a session goes on when its own record is as safe as it asked for.
//! Prints a table; `cargo bench -p chaperone-audit --bench append [-- FOLDER]`. The log is in the
//! target folder where none is named; in /dev/shm a flush costs nothing, which leaves the processor.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::{Seek, Write},
    path::Path,
    rc::Rc,
    sync::{Barrier, Mutex},
    thread,
    time::{Duration, Instant},
};

use chaperone_audit::{Committed, Log, Options};
use chaperone_model::{Command, CommandKind, Intent, Record, Seq, Timestamp, VerdictKind};
use tokio::{
    sync::{Notify, oneshot},
    task::LocalSet,
};

const RUN: Duration = Duration::from_secs(3);
const THREADS: usize = 2;

fn main() {
    // Cargo adds an argument of its own.
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let place = named.as_deref().unwrap_or(env!("CARGO_TARGET_TMPDIR"));
    let folder = tempfile::tempdir_in(place).expect("a folder");
    let mut rows =
        vec![("fdatasync after 4096 bytes in place".into(), bare(folder.path(), 4096, true))];
    for bytes in [160, 700] {
        rows.push((
            format!("fdatasync after each {bytes} bytes"),
            bare(folder.path(), bytes, false),
        ));
        for (sessions, flushed) in [(1, false), (1, true), (32, false), (32, true)] {
            let safe = if flushed { "flushed" } else { "committed" };
            let name = format!("{bytes} bytes, {sessions} sessions, {safe}");
            rows.push((name, append(folder.path(), sessions, bytes, flushed)));
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "| | records a second | median | 99 % | records a commit |\n|---|---|---|---|---|"
    )
    .expect("printed");
    for (name, measured) in rows {
        writeln!(out, "| {name} | {measured} |").expect("printed");
    }
}

struct Measured {
    took: Vec<Duration>,
    over: Duration,
    commits: u64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.took.len();
        let a_second = count as u128 * 1_000_000 / self.over.as_micros();
        let at = |part: usize| self.took[(count * part / 100).min(count - 1)].as_micros();
        let shared = count as u64 / self.commits.max(1);
        write!(f, "{a_second} | {} µs | {} µs | {shared}", at(50), at(99))
    }
}

/// The disk alone: a file is flushed after each piece, which makes it grow or is written over what
/// is there (as the WAL is, once it began anew).
fn bare(folder: &Path, bytes: usize, in_place: bool) -> Measured {
    let path = folder.join("bare");
    let mut file = File::create(&path).expect("made");
    let piece = vec![b'x'; bytes];
    if in_place {
        file.write_all(&piece).expect("written");
        file.sync_all().expect("flushed");
    }
    let begun = Instant::now();
    let mut took = Vec::new();
    while begun.elapsed() < RUN {
        let at = Instant::now();
        if in_place {
            file.rewind().expect("sought");
        }
        file.write_all(&piece).expect("written");
        file.sync_data().expect("flushed");
        took.push(at.elapsed());
    }
    let over = begun.elapsed();
    fs::remove_file(path).expect("removed");
    took.sort_unstable();
    Measured { commits: took.len() as u64, took, over }
}

fn append(folder: &Path, sessions: usize, bytes: usize, flushed: bool) -> Measured {
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let log = Log::open(&folder.path().join("log.sqlite"), Options::default()).expect("a log");
    let took = Mutex::new(Vec::new());
    let threads = THREADS.min(sessions);
    let (ready, begun) = (Barrier::new(threads), Instant::now());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                ready.wait();
                let here = on_thread(&log, sessions / threads, bytes, flushed);
                took.lock().expect("not poisoned").extend(here);
            });
        }
    });
    let over = begun.elapsed();
    let mut took = took.into_inner().expect("not poisoned");
    took.sort_unstable();
    Measured { took, over, commits: log.transactions() }
}

type Answer = oneshot::Sender<()>;

/// The sessions of one thread, and the task that commits for them.
struct Committer {
    log: Log,
    flushed: bool,
    queue: RefCell<Vec<(Record, Answer)>>,
    wake: Notify,
}

fn on_thread(log: &Log, sessions: usize, bytes: usize, flushed: bool) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let queue = RefCell::default();
    let committer = Rc::new(Committer { log: log.clone(), flushed, queue, wake: Notify::new() });
    LocalSet::new().block_on(&runtime, async {
        let run = tokio::task::spawn_local(committer.clone().run());
        let until = Instant::now() + RUN;
        let all: Vec<_> = (0..sessions)
            .map(|session| {
                tokio::task::spawn_local(committer.clone().session(session, bytes, until))
            })
            .collect();
        let mut took = Vec::new();
        for session in all {
            took.extend(session.await.expect("no panic"));
        }
        run.abort();
        took
    })
}

impl Committer {
    async fn session(
        self: Rc<Self>,
        session: usize,
        bytes: usize,
        until: Instant,
    ) -> Vec<Duration> {
        let text = "x".repeat(bytes);
        let mut took = Vec::new();
        loop {
            let at = Instant::now();
            if at > until {
                return took;
            }
            let (answer, done) = oneshot::channel();
            self.queue.borrow_mut().push((intent(session as u64, &text), answer));
            self.wake.notify_one();
            done.await.expect("recorded");
            took.push(at.elapsed());
        }
    }

    async fn run(self: Rc<Self>) {
        loop {
            self.wake.notified().await;
            let (records, answers): (Vec<_>, Vec<_>) = self.queue.take().into_iter().unzip();
            let committed = self.log.commit(records).expect("committed");
            if self.flushed {
                tokio::task::spawn_local(flush(committed, answers));
            } else {
                drop(committed.receipts());
                tell(answers);
            }
        }
    }
}

async fn flush(committed: Committed, answers: Vec<Answer>) {
    drop(committed.flushed().await.expect("flushed"));
    tell(answers);
}

fn tell(answers: Vec<Answer>) {
    for answer in answers {
        let _ = answer.send(());
    }
}

fn intent(session: u64, text: &str) -> Record {
    Record::Intent(Intent {
        at: Timestamp::from(std::time::SystemTime::now()),
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
