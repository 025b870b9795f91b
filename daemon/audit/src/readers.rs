//! Who reads the log and for how long: a reader that holds its view keeps the WAL from being moved
//! into the file and begun anew, so that it grows. Such a reader is named, and when the WAL has
//! grown beyond a bound a new file is begun, which that reader is not in the way of.
//!
//! Does not belong here: tidying up the old file when the reader is gone (`turn.rs`).

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use chaperone_model::{Event, EventKind, Record};

use crate::{
    AuditError, chain, files,
    writer::{Log, lock_of, spawn},
};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
/// Whoever holds a view longer is named.
const LONG: Duration = Duration::from_secs(5);
/// A new file is not begun more often.
const TURN_EVERY: Duration = Duration::from_secs(10);
/// Bytes of a page in the WAL, with its head.
const FRAME: u64 = files::PAGE + 24;
/// The bytes of the `-shm` file that readers lock while they hold a view (sqlite.org/walformat.html,
/// 2.3.1).
const READ_MARKS: std::ops::RangeInclusive<u64> = 123..=127;
const LOCKS: &str = "/proc/locks";

/// A reader that has held its view for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongReader {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub program: String,
    /// Its user id, where it is known.
    pub uid: Option<u32>,
    /// The name of the file that it reads.
    pub file: String,
    /// For how long, at least.
    pub held: Duration,
    /// How many bytes that file's WAL has meanwhile.
    pub wal_bytes: u64,
}

/// Looks who reads the log, in a thread of its own, until it is dropped.
pub struct Watch {
    shared: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    found: Mutex<Vec<LongReader>>,
    end: Mutex<bool>,
    changed: Condvar,
}

/// A process, and the inode of the `-shm` file that it has a lock on.
type Holder = (u32, u64);

impl Watch {
    /// Begins to look. `bound` is how many bytes the WAL may have while somebody reads.
    ///
    /// # Errors
    /// [`AuditError`], where no thread can be started.
    pub fn start(log: Log, bound: u64) -> Result<Self, AuditError> {
        let shared = Arc::new(State::default());
        let state = shared.clone();
        let thread = spawn("log-readers", move || state.run(&log, bound))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Those who have held their view for long.
    pub fn readers(&self) -> Vec<LongReader> {
        lock_of(&self.shared.found).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *lock_of(&self.shared.end) = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn run(&self, log: &Log, bound: u64) {
        let mut since: HashMap<Holder, Instant> = HashMap::new();
        let mut turned = None;
        loop {
            let looked = files_of(log.path()).and_then(|files| {
                let current = shm_of_newest(log.path())?;
                Ok((files, current, fs::read_to_string(LOCKS)?))
            });
            if let Ok((files, current, locks)) = looked {
                let holders = holders(&locks, process::id(), current);
                since.retain(|holder, _| holders.contains(holder));
                for holder in holders {
                    since.entry(holder).or_insert_with(Instant::now);
                }
                let mut found: Vec<LongReader> = since
                    .iter()
                    .filter_map(|(holder, since)| about(*holder, since.elapsed(), &files))
                    .collect();
                found.sort_by_key(|reader| std::cmp::Reverse(reader.held));
                let in_the_way = since.keys().any(|(_, inode)| *inode == current);
                if in_the_way
                    && log.shared().wal_size.pages() * FRAME > bound
                    && turned.is_none_or(|at: Instant| at.elapsed() > TURN_EVERY)
                {
                    turned = Some(Instant::now());
                    turn(log, &found);
                }
                found.retain(|reader| reader.held >= LONG);
                *lock_of(&self.found) = found;
            }
            let end = lock_of(&self.end);
            let end = self.changed.wait_timeout_while(end, EVERY, |end| !*end);
            if *end.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
        }
    }
}

/// Begins a new file because of readers, and records whose views made it so.
fn turn(log: &Log, readers: &[LongReader]) {
    let who: Vec<String> = readers
        .iter()
        .map(|reader| {
            let uid = reader.uid.map_or("an unknown user".into(), |uid| format!("user id {uid}"));
            format!(
                "process {} ({}, {uid}) has held a view of {} for {} s",
                reader.pid,
                reader.program,
                reader.file,
                reader.held.as_secs()
            )
        })
        .collect();
    let detail = format!(
        "{}: the WAL of the log has grown to {} MiB, so a new file is begun; the old one is tidied up when its readers are gone",
        who.join(", "),
        (log.shared().wal_size.pages() * FRAME) >> 20
    );
    tracing::warn!("{detail}");
    log.ride_along(Record::Event(Event {
        at: SystemTime::now().into(),
        session: None,
        kind: EventKind::ReaderStays,
        detail,
    }));
    if let Err(error) = log.turn() {
        tracing::error!(%error, "a new file of the log could not be begun");
    }
}

/// The names of the log's files by the inodes of their `-shm` files. These are never opened: closing
/// one would drop the locks that `SQLite` has on it in this process (fcntl(2)).
fn files_of(path: &Path) -> std::io::Result<HashMap<u64, std::path::PathBuf>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = HashMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(file) = name.strip_suffix("-shm")
            && file.starts_with(&stem)
            && !file.contains(".search")
        {
            found.insert(entry.metadata()?.ino(), folder.join(file));
        }
    }
    Ok(found)
}

fn shm_of_newest(path: &Path) -> std::io::Result<u64> {
    let newest = chain::newest(path).map_err(std::io::Error::other)?;
    Ok(fs::metadata(files::with_suffix(&newest, "-shm"))?.ino())
}

/// Other processes that hold a view, as the kernel's list of locks says (`proc_locks`(5)). Which
/// device the files are on is taken from our own lock on the current one: what stat(2) says is
/// another on some filesystems.
fn holders(locks: &str, own: u32, current: u64) -> Vec<Holder> {
    let locks: Vec<Lock<'_>> = locks.lines().filter_map(Lock::parse).collect();
    let device = locks.iter().find(|lock| lock.pid == own && lock.inode == current);
    let Some(device) = device.map(|lock| lock.device) else { return Vec::new() };
    let mut found: Vec<Holder> = locks
        .iter()
        .filter(|lock| lock.pid != own && lock.device == device)
        .filter(|lock| lock.first <= *READ_MARKS.end() && lock.last >= *READ_MARKS.start())
        .map(|lock| (lock.pid, lock.inode))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

struct Lock<'a> {
    pid: u32,
    device: &'a str,
    inode: u64,
    first: u64,
    last: u64,
}

impl<'a> Lock<'a> {
    /// `1: POSIX  ADVISORY  READ 4711 fe:00:131 124 128`; what waits has an arrow, and is none.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        if words.next() != Some("POSIX") || words.next().is_none() || words.next() != Some("READ") {
            return None;
        }
        let pid = words.next()?.parse().ok()?;
        let (device, inode) = words.next()?.rsplit_once(':')?;
        let first = words.next()?.parse().ok()?;
        let last = words.next()?.parse().unwrap_or(u64::MAX);
        Some(Self { pid, device, inode: inode.parse().ok()?, first, last })
    }
}

fn about(
    (pid, inode): Holder,
    held: Duration,
    files: &HashMap<u64, std::path::PathBuf>,
) -> Option<LongReader> {
    let file = files.get(&inode)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().to_owned())
    };
    Some(LongReader {
        pid,
        program: of("Name:").unwrap_or_else(|| "gone".into()),
        uid: of("Uid:").and_then(|uids| uids.split_whitespace().next()?.parse().ok()),
        file: file.file_name()?.to_string_lossy().into_owned(),
        held,
        wal_bytes: fs::metadata(files::wal_path(file)).map_or(0, |about| about.len()),
    })
}

#[cfg(test)]
mod tests;
