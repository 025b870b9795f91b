//! The daemon as a process, with its command line.

use std::{
    fs,
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

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Process,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn start(
        config: &Path,
        log: PathBuf,
        environment: &[(String, String)],
        without: &[String],
        hosts: Option<&Path>,
    ) -> Result<Self> {
        let output = fs::File::create(&log)?;
        let mut command = match hosts {
            None => Command::new("setpriv"),
            Some(hosts) => {
                // The file is another for the daemon alone.
                let script = "mount --bind \"$0\" /etc/hosts && exec setpriv \"$@\"";
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "bash", "-c", script]);
                command.arg(hosts);
                command
            }
        };
        for capability in without {
            command.arg(format!("--bounding-set=-{capability}"));
        }
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary()?)
            .arg("daemon")
            .arg("--config")
            .arg(config)
            .env("CHAPERONE_LOG", "debug")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut daemon =
            Self { process: Process::start("chaperone", &mut command, Signal::SIGTERM)?, log };
        let ready = wait_until("the daemon is ready", || {
            daemon.process.has_ended() || daemon.output().contains(" ready ")
        });
        if ready.is_err() || daemon.process.has_ended() {
            bail!("{}", daemon.output().trim_end());
        }
        Ok(daemon)
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
