//! What `/proc` shows of a process.
//!
//! Reading a command line or an environment reads the process's own memory, which it can make to
//! hang: that is done off the session's thread, and given up in time.

use std::{
    fs::{self, File},
    io::{self, Read},
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};

use super::tracker::{Id, TICK_NS};

/// Longest command line or environment that is read, in bytes.
const LONGEST: u64 = 128 << 10;
const PATIENCE: Duration = Duration::from_secs(2);
/// Readings of processes' memory at a time.
static TURN: Semaphore = Semaphore::const_new(8);

/// A process as it is now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) executable: Option<String>,
    pub(crate) folder: Option<String>,
    pub(crate) cgroup: Option<String>,
    pub(crate) login_uid: Option<u32>,
}

/// Looks at a process. `None` where it is gone, or its id is another's by now.
pub(crate) fn look(id: Id) -> Option<Seen> {
    let link = |file: &str| {
        let path = fs::read_link(path(id.pid, file)).ok()?;
        Some(path.to_string_lossy().into_owned())
    };
    let text = |file: &str| fs::read_to_string(path(id.pid, file)).ok();
    let seen = Seen {
        executable: link("exe"),
        folder: link("cwd"),
        cgroup: text("cgroup").and_then(|text| cgroup2(&text)),
        // All ones: nobody logged in.
        login_uid: text("loginuid").and_then(|t| t.trim().parse().ok()).filter(|u| *u != u32::MAX),
    };
    // Read last: if the process id still belongs to the process now, it did before.
    (started(id.pid) == Some(id.ticks)).then_some(seen)
}

/// The program that a process runs, as a file.
pub(crate) fn executable(pid: u32) -> io::Result<File> {
    File::open(path(pid, "exe"))
}

/// The arguments, where the process still is the one that is asked for.
pub(crate) async fn arguments(id: Id) -> Option<Vec<u8>> {
    memory(id, "cmdline").await
}

/// A variable of the environment that the process was given.
pub(crate) async fn variable(id: Id, name: &str) -> Option<String> {
    let all = memory(id, "environ").await?;
    all.split(|b| *b == 0).find_map(|line| {
        let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

async fn memory(id: Id, file: &'static str) -> Option<Vec<u8>> {
    let read = async {
        let turn = TURN.acquire().await.ok()?;
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut bytes = Vec::new();
            File::open(path(id.pid, file)).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
            (started(id.pid) == Some(id.ticks)).then_some(bytes)
        })
        .await
        .ok()?
    };
    timeout(PATIENCE, read).await.ok()?
}

/// When a process started, in ticks since boot.
pub(crate) fn started(pid: u32) -> Option<u64> {
    start_ticks(&fs::read_to_string(path(pid, "stat")).ok()?)
}

/// All processes.
pub(crate) fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What a scan wants to know: parent, start, user and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) parent: u32,
    pub(crate) started_ns: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A process for a scan; `None` where it is gone by now.
pub(crate) fn find(pid: u32) -> Option<Found> {
    let stat = fs::read_to_string(path(pid, "stat")).ok()?;
    let status = fs::read_to_string(path(pid, "status")).ok()?;
    let first = |name: &str| -> Option<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Some(Found {
        parent: fields(&stat)?.nth(1)?.parse().ok()?,
        started_ns: start_ticks(&stat)? * TICK_NS,
        uid: first("Uid:")?,
        gid: first("Gid:")?,
    })
}

/// The cgroup v2 of a process, as a path from the root of the tree.
pub(crate) fn cgroup(pid: u32) -> Option<String> {
    cgroup2(&fs::read_to_string(path(pid, "cgroup")).ok()?)
}

/// Field 22 of `/proc/PID/stat`.
fn start_ticks(stat: &str) -> Option<u64> {
    fields(stat)?.nth(19)?.parse().ok()
}

/// The fields of `/proc/PID/stat` from the third on. The second is the name in parentheses, which
/// may hold both spaces and parentheses.
fn fields(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace())
}

fn cgroup2(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

fn path(pid: u32, file: &str) -> String {
    format!("/proc/{pid}/{file}")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn own() -> Id {
        let pid = std::process::id();
        Id { pid, ticks: started(pid).expect("there") }
    }

    #[test]
    fn p3_a_process_id_that_was_used_again_is_not_taken_for_the_process() {
        let seen = look(own()).expect("there");
        assert!(seen.executable.is_some() && seen.folder.is_some());
        assert!(look(Id { ticks: own().ticks + 1, ..own() }).is_none());
    }

    #[tokio::test]
    async fn p3_nor_is_its_memory() {
        let arguments = arguments(own()).await.expect("there");
        assert!(!arguments.is_empty());
        assert!(variable(own(), "PATH").await.is_some());
        assert_eq!(variable(own(), "PAT").await, None);
        assert_eq!(super::arguments(Id { ticks: 1, ..own() }).await, None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let mut stat = "1 (a) b) c) S".to_owned();
        for field in 4..=22 {
            let _ = write!(stat, " {field}");
        }
        assert_eq!(start_ticks(&stat), Some(22));
        assert_eq!(
            find(std::process::id()).expect("there").parent,
            nix::unistd::getppid().as_raw().cast_unsigned()
        );
    }
}
