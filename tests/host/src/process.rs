//! Child processes that end with their owner.

use std::{
    io,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A child that is ended when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    /// How it is asked to end.
    farewell: Signal,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(name: &str, command: &mut Command, farewell: Signal) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { child, name: name.into(), farewell })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(id), signal);
        }
    }

    /// Asks it to end and waits; kills it where that takes too long. Answers its exit code.
    ///
    /// # Errors
    /// Where it had to be killed.
    pub fn stop(&mut self, patience: Duration) -> Result<Option<i32>> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Ok(status.code());
        }
        self.signal(self.farewell);
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(status.code());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        bail!("{} did not end in {patience:?} and was killed", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop(Duration::from_secs(10));
    }
}

/// Waits until something holds.
///
/// # Errors
/// Where it does not within twenty seconds, or what `CHAPERONE_PATIENCE` says.
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, patience(), holds)
}

/// As [`wait_until`], for what takes a machine longer.
///
/// # Errors
/// Where it does not come about in this time.
pub fn wait_for(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + patience;
    while !holds() {
        if Instant::now() > end {
            return Err(io::Error::new(io::ErrorKind::TimedOut, what.to_owned()))
                .context("it did not come about");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// How long things may take; an emulated machine says more by `CHAPERONE_PATIENCE`, in seconds.
fn patience() -> Duration {
    let said = std::env::var("CHAPERONE_PATIENCE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(said.unwrap_or(20))
}
