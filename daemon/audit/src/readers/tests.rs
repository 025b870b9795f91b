use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::*;
use crate::{Options, Reader};

const LOG: &str = "CHAPERONE_TEST_LOG";

/// Not a test: what the process runs that [`hold`] starts.
#[test]
#[ignore = "is run by others"]
fn another_process_that_holds_a_view() {
    let Some(path) = std::env::var_os(LOG).map(PathBuf::from) else { return };
    let connection = files::connect_reading(&path).expect("opened");
    connection.execute_batch("BEGIN; SELECT count(*) FROM event;").expect("a view");
    println!("held");
    std::thread::sleep(Duration::from_mins(1));
}

fn hold(log: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--nocapture", "another_process_that_holds_a_view"])
        .env(LOG, log)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    assert!(output.lines().any(|line| line.is_ok_and(|line| line.contains("held"))));
    child
}

fn event() -> Record {
    Record::Event(Event {
        at: SystemTime::now().into(),
        session: None,
        kind: EventKind::Doubt,
        detail: "x".repeat(10_000),
    })
}

fn wait(what: &str, until: impl Fn() -> bool) {
    let begun = Instant::now();
    while !until() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_reader_that_stays_is_named_and_the_wal_does_not_grow_without_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.sqlite");
    let log = Log::open(&path, Options::default()).expect("a log");
    let bound = 1 << 20;
    let watch = Watch::start(log.clone(), bound).expect("started");
    let _ = log.commit(vec![event()]).expect("committed");
    let mut reader = hold(&path);
    let old = chain::newest(&path).expect("a file");
    wait("it is named", || !watch.readers().is_empty());
    let named = &watch.readers()[0];
    assert_eq!(named.pid, reader.id());
    assert_eq!(named.uid, fs::metadata("/proc/self").ok().map(|about| about.uid()));
    assert!(old.ends_with(&named.file) && named.held >= LONG, "{named:?}");
    let begun = Instant::now();
    while chain::newest(&path).expect("a file") == old {
        assert!(begun.elapsed() < Duration::from_secs(30), "no new file is begun");
        let _ = log.commit(vec![event(); 20]).expect("committed");
        std::thread::sleep(Duration::from_millis(20));
    }
    let size = |file: &Path| fs::metadata(files::wal_path(file)).expect("a WAL").len();
    let stands_at = size(&old);
    assert!(stands_at > bound);
    let _ = log.commit(vec![event(); 200]).expect("committed");
    assert_eq!(size(&old), stands_at, "nothing is appended to it any more");
    let events = Reader::open(&path).expect("readable").events(1000).expect("events");
    let told = events.iter().find(|event| event.kind == "reader-stays").expect("it is recorded");
    assert!(told.detail.contains(&format!("process {} (", reader.id())), "{}", told.detail);
    reader.kill().expect("ended");
    reader.wait().expect("ended");
    wait("nobody is named any more", || watch.readers().is_empty());
    // The thread that tidies up sleeps while there is nothing to do.
    let _ = log.commit(vec![event(); 1000]).expect("committed");
    wait("the old file is tidied up", || {
        log.ride_along(event());
        size(&old) == 0
    });
}

#[test]
fn the_kernels_list_of_locks_is_read() {
    let locks = "\
1: POSIX  ADVISORY  READ 10 fe:00:131 128 128
2: POSIX  ADVISORY  READ 20 fe:00:131 124 128
3: POSIX  ADVISORY  READ 30 fe:00:131 128 128
4: POSIX  ADVISORY  WRITE 40 fe:00:131 123 123
5: -> POSIX  ADVISORY  READ 50 fe:00:131 123 123
6: POSIX  ADVISORY  READ 60 fe:01:131 123 123
7: FLOCK  ADVISORY  READ 70 fe:00:131 0 EOF
8: POSIX  ADVISORY  READ 80 fe:00:132 0 EOF
9: POSIX  ADVISORY  READ 10 fe:00:131 124 124
";
    assert_eq!(holders(locks, 10, 131), [(20, 131), (80, 132)]);
    assert_eq!(holders(locks, 11, 131), [], "without our own lock the device is not known");
}
