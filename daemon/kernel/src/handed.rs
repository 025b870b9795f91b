//! What the service manager hands to this process: listening sockets (`sd_listen_fds(3)`), where it
//! wants to be told how things are (`sd_notify(3)`), and how often it wants a sign of life.
//!
//! It is here because taking descriptors over and taking variables out of the environment are
//! `unsafe`. Does not belong here: what the sockets are for, and what is told.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::libc;

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// More than this are a mistake.
const MOST: RawFd = 64;

/// None of these is for processes that this one starts.
const VARIABLES: [&str; 6] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Each descriptor has one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What was handed over.
#[derive(Debug, Default)]
pub struct Handed {
    /// Sockets that the service manager holds, and goes on holding when this process has ended.
    pub listeners: Vec<OwnedFd>,
    /// Where it is told how things are: a path, or an abstract name that begins with `@`.
    pub notify: Option<OsString>,
    /// After how long without a sign of life it ends this process.
    pub watchdog: Option<Duration>,
}

/// What was handed over is not to be understood.
#[derive(Debug, thiserror::Error)]
pub enum HandedError {
    /// Another thread may read the environment at the same time.
    #[error("the service manager's sockets can be taken before threads are started only")]
    Late,
    /// A variable is no number.
    #[error("{name} is {value:?}: it should be a number that the service manager sets")]
    Variable {
        /// Which.
        name: &'static str,
        /// What it is.
        value: OsString,
    },
    /// A descriptor that is not open.
    #[error(
        "the service manager says that it handed descriptor {number} over, which it did not: {source}"
    )]
    Descriptor {
        /// Which.
        number: RawFd,
        /// Why.
        source: io::Error,
    },
}

/// Takes what was handed over, and the variables that say so out of the environment. The second time
/// there is nothing.
///
/// # Errors
/// Where it is not to be understood, or threads run already.
pub fn take_handed() -> Result<Handed, HandedError> {
    // Nothing else looks into the environment, or has opened files, as long as there is one thread.
    let threads = fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count);
    if threads != 1 {
        return Err(HandedError::Late);
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Handed::default());
    }
    let [pid, count, _names, notify, watchdog_pid, watchdog] = VARIABLES.map(env::var_os);
    for name in VARIABLES {
        #[expect(clippy::disallowed_methods, reason = "there is one thread, as was made sure")]
        // SAFETY: this process has one thread, so that nobody reads the environment meanwhile.
        unsafe {
            env::remove_var(name);
        };
    }
    let [_, _, _, _, watchdog_pid_name, watchdog_name] = VARIABLES;
    let own = u64::from(std::process::id());
    let for_us = number("LISTEN_PID", pid)?.is_some_and(|pid| pid == own);
    let count = number("LISTEN_FDS", count)?.filter(|_| for_us).unwrap_or(0);
    let count = RawFd::try_from(count).map_or(MOST, |count| count.min(MOST));
    let listeners = (FIRST..FIRST + count).map(take).collect::<Result<_, _>>()?;
    let watched = number(watchdog_pid_name, watchdog_pid)?.is_none_or(|pid| pid == own);
    let watchdog = number(watchdog_name, watchdog)?.filter(|us| watched && *us > 0);
    Ok(Handed { listeners, notify, watchdog: watchdog.map(Duration::from_micros) })
}

fn number(name: &'static str, value: Option<OsString>) -> Result<Option<u64>, HandedError> {
    let Some(value) = value else { return Ok(None) };
    match value.to_str().and_then(|text| text.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(HandedError::Variable { name, value }),
    }
}

fn take(number: RawFd) -> Result<OwnedFd, HandedError> {
    // SAFETY: setting a flag of a descriptor by its number touches no memory; where there is none it
    // fails.
    let set = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if set < 0 {
        return Err(HandedError::Descriptor { number, source: io::Error::last_os_error() });
    }
    // SAFETY: it is open, was opened by whoever started this process, and is taken here alone and
    // once (`TAKEN`).
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_told() {
        assert_eq!(number("LISTEN_FDS", None).expect("none"), None);
        assert_eq!(number("LISTEN_FDS", Some("3".into())).expect("three"), Some(3));
        let error = number("LISTEN_FDS", Some("x".into())).expect_err("no number").to_string();
        assert!(error.contains("LISTEN_FDS is \"x\""), "{error}");
    }

    #[test]
    fn a_process_with_threads_takes_nothing() {
        // The tests' own harness is one.
        let other = std::thread::spawn(|| std::thread::sleep(Duration::from_millis(200)));
        assert!(matches!(take_handed(), Err(HandedError::Late)));
        other.join().expect("ended");
    }
}
