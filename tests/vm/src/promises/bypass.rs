//! The attempts to go round the daemon, which are host tests, on this kernel.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::guest::{Guest, SHORT};

/// The files of host tests that hold them.
const FILES: [&str; 3] = ["guard::", "handed::", "egress::"];
/// For one of them: some forty ways round, each tried twice, are one.
const LIMIT: Duration = Duration::from_mins(40);

/// Their names.
pub(crate) fn list(guest: &mut Guest) -> Result<Vec<String>> {
    // Without security modules half of them would only see that the daemon says so.
    let doctor = guest.sh("/payload/chaperone doctor --json")?.out;
    let modules = doctor.lines().find(|line| line.contains("\"BPF LSM\""));
    ensure!(modules.is_some_and(|line| line.contains("\"ok\"")), "{doctor}");
    let out = guest.ok_within(&format!("/payload/host-tests --list {}", FILES.join(" ")), SHORT)?;
    let names: Vec<_> =
        out.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
    ensure!(names.len() >= 15, "these are few: {names:?}");
    Ok(names)
}

/// Runs one.
pub(crate) fn run(guest: &mut Guest, name: &str) -> Result<()> {
    let script = format!(
        "cd /tmp && CHAPERONE_BIN=/payload/chaperone CHAPERONE_PATIENCE=120 RUST_BACKTRACE=0 \
         PATH=/usr/sbin:/usr/bin:/sbin:/bin /payload/host-tests --exact --nocapture {name} 2>&1"
    );
    let out = guest.ok_within(&script, LIMIT)?;
    ensure!(out.contains("1 passed; 0 failed"), "{out}");
    Ok(())
}
