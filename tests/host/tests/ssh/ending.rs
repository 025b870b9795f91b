//! The daemon ends while agents are connected over SSH.

use std::time::{Duration, Instant};

use anyhow::Result;
use chaperone_host_tests::wait_until;

use super::{Ssh, Way, words};

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
