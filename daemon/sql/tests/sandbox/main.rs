//! Processes that read, lost and locked in: this program is the daemon's thread and, started again
//! with an argument, the process.
//!
//! Its own `main`, because a test harness's would have other threads and arguments. Here is what the
//! daemon's side promises; `hard` has the texts, `worker` the process that misbehaves.

mod hard;
mod worker;

use std::{
    env, fs,
    future::Future,
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::Pin,
    process::{Command, ExitCode},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use chaperone_model::{Reading, Rung};
use chaperone_sql::{
    readers::{Options, Readers},
    sandbox,
};
use nix::{sys::signal, unistd::Pid};
use tokio::task::{JoinSet, LocalSet};

const READS: &str = "sql-worker";
const MISBEHAVES: &str = "misbehaving-worker";
const REFUSES: &str = "no-worker";

type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

fn main() -> ExitCode {
    let argument = env::args().nth(1);
    match argument.as_deref() {
        Some(READS) => return sandbox::worker(),
        Some(MISBEHAVES) => return sandbox::run(worker::misbehave),
        Some(REFUSES) => return ExitCode::FAILURE,
        _ => {}
    }
    let tests: &[Test] = &[
        ("p8_a_statement_that_ends_a_worker_costs_itself_alone", || Box::pin(crashes())),
        ("p8_a_statement_that_spins_costs_itself_alone", || Box::pin(spins())),
        ("p8_one_agent_leaves_a_worker_to_others", || Box::pin(shares())),
        ("p8_a_text_that_struck_does_not_strike_again", || Box::pin(strikes_once())),
        ("p8_who_leaves_while_it_is_read_harms_nobody", || Box::pin(leaves())),
        ("p8_too_many_who_wait_are_told", || Box::pin(waits())),
        ("p8_what_the_grammar_takes_hard_is_survived", || Box::pin(hard::survived())),
        ("p8_workers_that_are_killed_are_replaced", || Box::pin(killed())),
        ("p2_a_worker_can_do_nothing_but_read", || Box::pin(locked_in())),
        ("p2_a_worker_has_no_user_and_no_files", || Box::pin(nobody())),
        ("p2_without_a_worker_nothing_is_readable", || Box::pin(refuses())),
        ("workers_end_with_what_started_them", || Box::pin(ends())),
        ("one_text_is_read_once", || Box::pin(once())),
        ("texts_that_differ_in_literals_are_read_once", || Box::pin(literals())),
        ("a_statement_is_laid_out", || Box::pin(layout())),
        ("p2_command_lines_are_read_byte_by_byte", || Box::pin(lines())),
        ("p8_a_line_that_ends_a_worker_costs_itself_alone", || Box::pin(hostile_lines())),
    ];
    let wanted = argument.filter(|argument| !argument.starts_with('-')).unwrap_or_default();
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(&wanted)) {
        let before = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        LocalSet::new().block_on(&runtime.expect("a runtime"), test());
        println!("test {name} ... ok ({:.2?})", before.elapsed());
    }
    ExitCode::SUCCESS
}

fn readers(argument: &str, deadline: Duration) -> Rc<Readers> {
    let program = env::current_exe().expect("this program");
    Rc::new(Readers::new(Options { deadline, ..Options::new(program, argument.into()) }))
}

/// Long enough for a machine that does much else.
const LONG: Duration = Duration::from_secs(20);

fn why(reading: &Arc<Reading>) -> &str {
    assert_eq!(reading.rung(), Rung::Destructive);
    &reading.statements[0].reason
}

/// A thousand statements of others are read in the meantime.
async fn meanwhile(readers: &Rc<Readers>) {
    let mut others = JoinSet::new();
    for i in 0..1000 {
        let readers = readers.clone();
        others.spawn_local(async move {
            let (text, whose) = (format!("select a{i} from t"), format!("other {}", i % 7));
            assert_eq!(readers.read(&text, &whose).await.rung(), Rung::Read);
        });
    }
    while let Some(other) = others.join_next().await {
        other.expect("it is read");
    }
}

async fn crashes() {
    let readers = readers(MISBEHAVES, LONG);
    let mut deaths = 0;
    for text in ["abort", "panic", "exhaust", "overflow", "nonsense", "flood", "empty"] {
        let hostile = async {
            let reading = readers.read(text, "hostile").await;
            assert_eq!(why(&reading), "the reader of SQL ended while it read it", "{text}");
        };
        tokio::join!(hostile, meanwhile(&readers));
        deaths += 1;
        assert_eq!(readers.stats().deaths.get(), deaths, "{text}");
    }
    assert_eq!(readers.stats().deadlines.get(), 0);
}

async fn lines() {
    let readers = readers(MISBEHAVES, LONG);
    for line in [&b"ls /srv"[..], b"ls \xff\xfe", b"", b"ls\0"] {
        for _ in 0..2 {
            let reading = readers.line(line, "one").await;
            assert_eq!(
                (reading.rung, &reading.reason),
                (Rung::Read, &line.escape_ascii().to_string())
            );
        }
    }
    assert_eq!((readers.stats().trips.get(), readers.stats().cache_hits.get()), (4, 4));
    // It is asked of nobody.
    let reading = readers.line(&vec![b'x'; (128 << 10) + 1], "one").await;
    assert_eq!((reading.rung, readers.stats().trips.get()), (Rung::Destructive, 4));
    // Who reads SQL alone reads no lines, and a line is not read as SQL is.
    let reading = self::readers(READS, LONG).line(b"select 1", "one").await;
    assert_eq!(reading.rung, Rung::Destructive);
    assert!(reading.unread.is_some());
}

async fn hostile_lines() {
    let readers = readers(MISBEHAVES, Duration::from_secs(5));
    for (number, line) in ["abort", "exhaust", "nonsense", "flood", "spin"].into_iter().enumerate()
    {
        let hostile = async {
            let reading = readers.line(line.as_bytes(), "hostile").await;
            assert_eq!(reading.rung, Rung::Destructive, "{line}");
            assert!(
                reading.reason.starts_with("the reader of command lines "),
                "{line}: {reading:?}"
            );
        };
        tokio::join!(hostile, meanwhile(&readers));
        // It does not strike again.
        let trips = readers.stats().trips.get();
        assert_eq!(readers.line(line.as_bytes(), "hostile").await.rung, Rung::Destructive);
        assert_eq!(readers.stats().trips.get(), trips);
        let lost = readers.stats().deaths.get() + readers.stats().deadlines.get();
        assert_eq!(lost, number as u64 + 1, "{line}");
    }
}

async fn spins() {
    let readers = readers(MISBEHAVES, Duration::from_secs(2));
    meanwhile(&readers).await;
    let before = Instant::now();
    let hostile = async {
        let reading = readers.read("spin", "hostile").await;
        assert_eq!(why(&reading), "the reader of SQL did not read it in time");
    };
    let others = async {
        for i in 0..100 {
            let reading = readers.read(&format!("select b{i}"), "other").await;
            assert_eq!(reading.rung(), Rung::Read);
        }
        assert!(before.elapsed() < Duration::from_secs(2), "others waited for it");
    };
    tokio::join!(hostile, others);
    assert_eq!((readers.stats().deadlines.get(), readers.stats().deaths.get()), (1, 0));
}

async fn shares() {
    let readers = readers(MISBEHAVES, Duration::from_secs(2));
    let before = Instant::now();
    let mut hostile = JoinSet::new();
    for i in 0..5 {
        let readers = readers.clone();
        hostile.spawn_local(async move { readers.read(&format!("spin {i}"), "hostile").await });
    }
    tokio::task::yield_now().await;
    let reading = readers.read("select 1", "other").await;
    assert_eq!(reading.rung(), Rung::Read);
    assert!(before.elapsed() < Duration::from_secs(2), "others waited for it");
    while let Some(reading) = hostile.join_next().await {
        why(&reading.expect("an answer"));
    }
    assert_eq!(readers.stats().deadlines.get(), 5);
}

async fn strikes_once() {
    let readers = readers(MISBEHAVES, LONG);
    for _ in 0..10 {
        why(&readers.read("abort", "hostile").await);
    }
    assert_eq!((readers.stats().deaths.get(), readers.stats().cache_hits.get()), (1, 9));
}

async fn leaves() {
    let readers = readers(MISBEHAVES, LONG);
    for i in 0..20 {
        let text = format!("spin {i}");
        let asking = readers.read(&text, "hostile");
        assert!(tokio::time::timeout(Duration::from_millis(20), asking).await.is_err());
        let reading = readers.read(&format!("select {i} as a{i}"), "other").await;
        assert_eq!(reading.rung(), Rung::Read);
    }
    meanwhile(&readers).await;
    drop(readers);
    no_children().await;
}

async fn waits() {
    let program = env::current_exe().expect("this program");
    let options = Options::new(program, MISBEHAVES.into());
    let readers = Rc::new(Readers::new(Options { waiting: 10, deadline: LONG, ..options }));
    let mut asking = JoinSet::new();
    for i in 0..20 {
        let readers = readers.clone();
        asking.spawn_local(async move {
            readers.read(&format!("spin {i}"), "hostile").await.statements[0].reason.clone()
        });
    }
    for _ in 0..8 {
        let told = asking.join_next().await.expect("one is told").expect("words");
        assert_eq!(told, "too many statements of its agent wait to be read");
    }
    assert_eq!(readers.read("select 1", "other").await.rung(), Rung::Read);
}

async fn killed() {
    let readers = readers(READS, LONG);
    for i in 0..10 {
        let reading = readers.read(&format!("select a{i}"), "other").await;
        assert_eq!(reading.rung(), Rung::Read, "{reading:?} {:?}", readers.stats());
        for pid in children() {
            // Those that are on their way already are reaped, not killed.
            let _ = signal::kill(pid, signal::Signal::SIGKILL);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(readers.stats().deaths.get() >= 9, "{:?}", readers.stats());
    drop(readers);
    no_children().await;
}

async fn locked_in() {
    let readers = readers(MISBEHAVES, LONG);
    for text in ["socket", "connect", "spawn", "kill"] {
        let reading = readers.read(text, "hostile").await;
        assert_eq!(why(&reading), "the reader of SQL ended while it read it", "{text}");
    }
    // A clone in a form that the kernel does not know is refused before the filter sees it as one.
    assert_ne!(why(&readers.read("thread", "hostile").await), "it could");
    for text in ["open", "list", "pipes"] {
        assert_eq!(why(&readers.read(text, "hostile").await), "it could not", "{text}");
    }
}

async fn nobody() {
    let inherited = fs::File::open("/etc/passwd").expect("a file");
    let inherited = nix::unistd::dup(&inherited).expect("a copy that children inherit");
    // Those of tests before may still be about to end.
    let before = children();
    let readers = readers(READS, LONG);
    readers.read("select 1", "other").await;
    let workers: Vec<_> = children().into_iter().filter(|one| !before.contains(one)).collect();
    assert!(!workers.is_empty());
    for worker in workers {
        check(worker).await;
    }
    drop(inherited);
}

/// Checks what the kernel says of a worker, when it has locked itself in.
async fn check(worker: Pid) {
    let before = Instant::now();
    let status = loop {
        let status = fs::read_to_string(format!("/proc/{worker}/status")).expect("its status");
        if status.contains("Seccomp:\t2") && status.contains("Seccomp_filters:\t2") {
            break status;
        }
        assert!(before.elapsed() < LONG, "{status}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim().to_owned()
    };
    if nix::unistd::getuid().is_root() {
        assert_eq!(line("Uid:"), "65534\t65534\t65534\t65534");
        assert_eq!(line("Gid:"), "65534\t65534\t65534\t65534");
        assert_eq!(line("Groups:"), "");
        // Only root may look.
        let mut open: Vec<_> = fs::read_dir(format!("/proc/{worker}/fd"))
            .expect("its files")
            .map(|entry| entry.expect("a file").file_name())
            .collect();
        open.sort();
        assert_eq!(open, ["0", "1", "2"]);
        let environment = fs::read(format!("/proc/{worker}/environ")).expect("its environment");
        assert_eq!(environment, b"");
        assert_eq!(fs::read_link(format!("/proc/{worker}/cwd")).expect("a place").as_os_str(), "/");
    }
    for set in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
    assert_eq!(line("NoNewPrivs:"), "1");
}

async fn refuses() {
    let refused = readers(REFUSES, LONG);
    let reading = refused.read("select 1", "other").await;
    assert_eq!(why(&reading), "no reader can be started: it ended before it was locked in");
    // It is not kept: it may be read when one can be started again.
    assert_eq!(refused.known("select 1"), None);
    let missing = Readers::new(Options::new("/nowhere/to/be/found".into(), READS.into()));
    let reading = missing.read("select 1", "other").await;
    assert!(why(&reading).starts_with("no reader can be started: No such file"), "{reading:?}");
}

async fn ends() {
    // The socket's end is enough.
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut worker = Command::new(env::current_exe().expect("this program"));
    let mut worker = worker.arg(READS).stdin(OwnedFd::from(theirs)).spawn().expect("it starts");
    drop(ours);
    worker.wait().expect("it ends");
    // So is the end of the readers.
    let readers = readers(READS, LONG);
    readers.read("select 1", "other").await;
    assert!(!children().is_empty());
    drop(readers);
    no_children().await;
}

async fn once() {
    let readers = readers(READS, LONG);
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let readers = readers.clone();
        asking.spawn_local(async move { readers.read("select a from t", "other").await });
    }
    while let Some(reading) = asking.join_next().await {
        assert_eq!(reading.expect("a reading").rung(), Rung::Read);
    }
    // Two at once at most: one agent's.
    assert!(readers.stats().trips.get() <= 2, "{:?}", readers.stats());
    assert!(readers.known("select a from t").is_some());
    assert!(readers.known("select b from t").is_none());
}

async fn literals() {
    let readers = readers(READS, LONG);
    for i in 0..100 {
        let text = format!("update t set name = 'name {i}' where id = {i}");
        readers.read(&text, "other").await;
    }
    assert_eq!((readers.stats().trips.get(), readers.stats().template_hits.get()), (1, 99));
}

async fn layout() {
    let readers = readers(READS, LONG);
    let laid_out = readers.lay_out("select a,b from t where c=1").await.expect("a layout");
    assert!(laid_out.contains("SELECT"), "{laid_out}");
    assert_eq!(readers.lay_out("this is no statement").await, None);
}

/// The processes that this one started and that have not been reaped.
fn children() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let parent = |stat: &str| stat.rsplit(')').next()?.split_whitespace().nth(1).map(str::to_owned);
    fs::read_dir("/proc")
        .expect("processes")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| parent(&stat).as_deref() == Some(&own))
        })
        .map(Pid::from_raw)
        .collect()
}

async fn no_children() {
    let before = Instant::now();
    while !children().is_empty() {
        assert!(before.elapsed() < LONG, "{:?} are left", children());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
