//! The daemon ends while agents are connected over SSH.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use chaperone_host_tests::wait_until;
use nix::sys::signal::Signal;

use super::{Ssh, Way, words, writable};

/// What `drain` is where nothing else is said.
const DRAIN: Duration = Duration::from_secs(10);

#[test]
fn a_shutdown_lets_a_command_finish_and_ends_a_connection_that_has_none() -> Result<()> {
    let mut ssh = Ssh::start("")?;
    let begin = |before: &[&str], behind: &[&str]| {
        ssh.begin(Way::Through, "ssh", &words(&ssh.line(Way::Through, before, behind)))
    };
    let quiet = begin(&["-N"], &[])?;
    let running = begin(&[], &["sleep 3; echo finished"])?;
    let sessions = || -> Result<usize> {
        Ok(ssh.host.chaperone(&["sessions", "--json"])?.ok()?.lines().count())
    };
    wait_until("both are there", || {
        sessions().is_ok_and(|count| count == 2)
            && ssh.host.counter("forwarded").is_ok_and(|count| count > 0)
    })?;
    let start = Instant::now();
    assert_eq!(ssh.host.stop_daemon()?, Some(0));
    assert!(start.elapsed() < DRAIN, "{:?}", start.elapsed());
    assert_eq!(running.finish()?.ok()?, "finished");
    let said = quiet.finish()?.err;
    assert!(said.contains("the daemon is stopping"), "{said}");
    Ok(())
}

#[test]
fn a_shutdown_lets_a_connection_that_was_just_opened_come_to_its_command() -> Result<()> {
    let mut ssh = Ssh::start("")?;
    let control = ssh.host.folder().join("control");
    fs::create_dir(&control)?;
    writable(&control)?;
    let socket = format!("ControlPath={}/it", control.display());
    let master = ["-o", &socket, "-o", "ControlMaster=yes", "-N"];
    let opened = ssh.begin(Way::Through, "ssh", &words(&ssh.line(Way::Through, &master, &[])))?;
    wait_until("it is signed on", || control.join("it").exists())?;
    ssh.host.signal_daemon(Signal::SIGTERM);
    let done = ssh.client(Way::Through, &["-o", &socket], &["echo in time"], "")?;
    assert_eq!(done.ok()?, "in time");
    assert_eq!(ssh.host.stop_daemon()?, Some(0));
    let said = opened.finish()?.err;
    assert!(said.contains("the daemon is stopping"), "{said}");
    Ok(())
}
