//! The daemon as a process, with its command line.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::{
    agent::Finished,
    process::{Process, wait_until},
};

/// The binary under test.
///
/// # Errors
/// Where it is not known.
pub(crate) fn binary() -> Result<PathBuf> {
    std::env::var_os("CHAPERONE_BIN")
        .map(PathBuf::from)
        .context("CHAPERONE_BIN is not set: run the tests by `cargo xtask test`")
}

/// How it is started.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a Path,
    pub(crate) log: PathBuf,
    pub(crate) environment: &'a [(String, String)],
    /// Capabilities that it runs without.
    pub(crate) without: &'a [String],
    /// Files that are others for the daemon alone.
    pub(crate) own: &'a [(PathBuf, String)],
    /// Sockets that are handed to it, as a service manager does.
    pub(crate) held: &'a [OwnedFd],
    /// More words for its command line.
    pub(crate) words: &'a [&'a str],
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Process,
    log: PathBuf,
}

impl Daemon {
    /// Starts it and waits until it serves.
    pub(crate) fn start(how: Start<'_>) -> Result<Self> {
        let mut daemon = Self::spawn(how)?;
        let ready = wait_until("the daemon is ready", || {
            daemon.process.has_ended() || daemon.output().contains(" ready ")
        });
        if ready.is_err() || daemon.process.has_ended() {
            bail!("{}", daemon.output().trim_end());
        }
        Ok(daemon)
    }

    /// Starts it.
    pub(crate) fn spawn(how: Start<'_>) -> Result<Self> {
        let Start { config, log, environment, without, own, held, words } = how;
        let output = fs::File::create(&log)?;
        // Descriptors from 3 on, and who they are for; the programs in between keep the process.
        let hand_over = "up=; for fd in $HELD; do exec {new}<&$fd {fd}<&-; up=\"$up $new\"; done; n=3; \
                         for fd in $up; do eval \"exec $n<&$fd\"; exec {fd}<&-; n=$((n + 1)); done; \
                         exec env -u HELD LISTEN_PID=$$ LISTEN_FDS=$((n - 3)) setpriv \"$@\"";
        let mut command = if !held.is_empty() {
            let mut command = Command::new("bash");
            command.args(["-c", hand_over, "bash"]);
            let numbers: Vec<_> = held.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
            command.env("HELD", numbers.join(" "));
            command
        } else if own.is_empty() {
            Command::new("setpriv")
        } else {
            let script = "while [ \"$1\" != -- ]; do mount --bind \"$1\" \"$2\" && shift 2 || exit; \
                          done; shift; exec setpriv \"$@\"";
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "bash", "-c", script, "bash"]);
            for (file, place) in own {
                command.arg(file).arg(place);
            }
            command.arg("--");
            command
        };
        for capability in without {
            command.arg(format!("--bounding-set=-{capability}"));
        }
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary()?)
            .arg("daemon")
            .args(words)
            .arg("--config")
            .arg(config)
            .env("CHAPERONE_LOG", "debug")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(Self { process: Process::start("chaperone", &mut command, Signal::SIGTERM)?, log })
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn stop(&mut self) -> Result<Option<i32>> {
        self.process.stop(Duration::from_secs(30))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }
}

/// Runs the command line.
pub(crate) fn chaperone(config: &Path, args: &[&str]) -> Result<Finished> {
    let output = Command::new(binary()?)
        .args(args)
        .arg("--config")
        .arg(config)
        .env("CHAPERONE_LOG", "warn")
        .stdin(Stdio::null())
        .output()?;
    Ok(output.into())
}
