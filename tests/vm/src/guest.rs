//! The guest, as tests see it: shell commands, files, waiting, the log that `chaperone` keeps in it.
//!
//! Belongs here: what several promises need of the guest. Nothing that is promised.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::machine::{Finished, Images, Machine};

/// For what takes no time on a machine that is not emulated.
pub(crate) const SHORT: Duration = Duration::from_mins(2);
/// For what takes some.
pub(crate) const LONG: Duration = Duration::from_mins(10);

/// A guest that is up.
pub(crate) struct Guest {
    machine: Machine,
}

impl Guest {
    /// Boots it and waits until all of its units are started.
    pub(crate) fn boot(images: &Images, end: Instant) -> Result<Self> {
        let mut guest = Self { machine: Machine::boot(images, end)? };
        guest.settle()?;
        guest.ok("mkdir -p /payload && mount -o ro /dev/vdb /payload")?;
        Ok(guest)
    }

    /// Runs a script of the shell as root.
    pub(crate) fn sh(&mut self, script: &str) -> Result<Finished> {
        self.sh_within(script, SHORT)
    }

    /// As [`Guest::sh`], for what takes longer.
    pub(crate) fn sh_within(&mut self, script: &str, limit: Duration) -> Result<Finished> {
        self.machine.run("/bin/bash", &["-c", script], "", limit)
    }

    /// What a script prints, which must end well.
    pub(crate) fn ok(&mut self, script: &str) -> Result<String> {
        self.ok_within(script, SHORT)
    }

    /// As [`Guest::ok`], for what takes longer.
    pub(crate) fn ok_within(&mut self, script: &str, limit: Duration) -> Result<String> {
        self.sh_within(script, limit)?.ok().with_context(|| script.to_owned())
    }

    /// Writes a file of root's that everybody may read and run.
    pub(crate) fn write(&mut self, path: &str, text: &str) -> Result<()> {
        let script = "mkdir -p \"$(dirname \"$0\")\" && cat > \"$0\" && chmod 755 \"$0\"";
        self.machine.run("/bin/bash", &["-c", script, path], text, SHORT)?.ok()?;
        Ok(())
    }

    /// Waits until a script ends well; answers what it prints.
    pub(crate) fn until(&mut self, what: &str, limit: Duration, script: &str) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let done = self.sh(script)?;
            if done.code == Some(0) {
                return Ok(done.out.trim_end().to_owned());
            }
            if Instant::now() > end {
                let said = done.ok().err().map(|error| error.to_string()).unwrap_or_default();
                bail!("it did not come about within {} s: {what} ({said})", limit.as_secs());
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Starts anew, in order.
    pub(crate) fn reboot(&mut self) -> Result<()> {
        self.machine.reboot()?;
        self.ok("mountpoint -q /payload || mount -o ro /dev/vdb /payload").map(drop)
    }

    /// Starts anew, as after a power cut.
    pub(crate) fn cut_power(&mut self) -> Result<()> {
        self.machine.cut_power()?;
        self.ok("mountpoint -q /payload || mount -o ro /dev/vdb /payload").map(drop)
    }

    /// Waits until all that starts by itself has.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let state = self.sh_within("systemctl is-system-running --wait", LONG)?.out;
        if state.trim() == "running" {
            return Ok(());
        }
        bail!("the guest is {}: {}", state.trim(), self.ok("systemctl --failed --no-legend")?)
    }

    /// Rows of `chaperone … --json`.
    pub(crate) fn rows(&mut self, command: &str) -> Result<Vec<Value>> {
        let out = self.ok(&format!("chaperone {command} --json"))?;
        out.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
            .collect()
    }

    /// Whether it still runs.
    pub(crate) fn alive(&mut self) -> Result<()> {
        self.machine.alive()
    }

    /// What helps to understand a failure.
    pub(crate) fn evidence(&mut self) -> String {
        let mut parts = Vec::new();
        if self.machine.alive().is_ok() {
            let script = "systemctl --no-pager --failed --no-legend; \
                          journalctl --no-pager -n 15 -o short-monotonic -u 'chaperone*' 2>&1";
            if let Ok(done) = self.sh(script) {
                parts.push(format!("chaperone's journal:\n{}", done.out.trim_end()));
            }
        }
        parts.push(format!("the console ends with:\n{}", self.machine.console_tail()));
        if let Ok(path) = self.machine.keep_console() {
            parts.push(format!("the whole console is in {}", path.display()));
        }
        parts.join("\n")
    }
}
