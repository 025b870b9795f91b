//! Agents, however they come to run, go by the daemon and are known.

use anyhow::{Result, ensure};

use crate::{
    guest::Guest,
    scene::{self, DIRECT, KEEPER, Way},
};

/// The network namespace's way to the server, and one by the server's Unix socket.
const IN_NETWORK: &str = "ip netns exec box setpriv --reuid svc-container --regid svc-container \
     --clear-groups psql -X -At -h 10.77.0.1 -U direct -d work -c 'SELECT current_user' 2>&1";
const AT_SOCKET: &str = "runuser -u svc-container -- psql -X -At -h /run/postgresql -U direct \
     -d work -c 'SELECT current_user' 2>&1";

/// What is later refused works without the package: so the later tests can fail.
pub(crate) fn reach_without(guest: &mut Guest) -> Result<()> {
    scene::set(guest)?;
    for (way, said) in Way::run_all(guest, "without")? {
        ensure!(said.starts_with(&format!("{DIRECT} ")), "{way:?}: {said}");
    }
    for way in [IN_NETWORK, AT_SOCKET] {
        let said = guest.ok(way)?;
        ensure!(said == DIRECT, "{way}: {said}");
    }
    // It came to be with the agent in it; the package's own is to start by itself, or not.
    guest.ok("systemctl stop agents.slice")?;
    ensure!(scene::came_past(guest)? >= 8, "the server's log does not show who came");
    Ok(())
}

/// The server sees the daemon's account and the agent's name, and so does the log.
pub(crate) fn protected(guest: &mut Guest) -> Result<()> {
    let before = scene::came_past(guest)?;
    check_all(guest, "with")?;
    ensure!(scene::came_past(guest)? == before, "somebody came past the daemon");
    Ok(())
}

/// Every way, with marks of the test's.
pub(crate) fn check_all(guest: &mut Guest, test: &str) -> Result<()> {
    for (way, said) in Way::run_all(guest, test)? {
        known(guest, way, test, &said)?;
    }
    Ok(())
}

/// One way, with a mark of the test's.
pub(crate) fn check(guest: &mut Guest, way: Way, test: &str) -> Result<()> {
    let said = way.run(guest, &format!("{test}-{}", way.agent()))?;
    known(guest, way, test, &said)
}

fn known(guest: &mut Guest, way: Way, test: &str, said: &str) -> Result<()> {
    let mark = format!("{test}-{}", way.agent());
    ensure!(said.starts_with(&format!("{KEEPER} {}@1.0/", way.agent())), "{way:?}: {said}");
    let row = scene::recorded(guest, &mark)?;
    ensure!(row["agent"] == way.agent() && row["status"] == "ok", "{way:?}: {row}");
    // The statement was read, so the readers work within the unit as well; an emulated machine may
    // be too slow for their second.
    let late = row["summary"].as_str().is_some_and(|summary| summary.contains("in time"));
    ensure!(row["class"] == "read" || late, "{way:?}: {row}");
    Ok(())
}

pub(crate) fn refused_in_network(guest: &mut Guest) -> Result<()> {
    refused(guest, IN_NETWORK, "Operation not permitted", "kernel_refused_namespace")
}

pub(crate) fn refused_at_socket(guest: &mut Guest) -> Result<()> {
    refused(guest, AT_SOCKET, "Permission denied", "kernel_refused_unix")
}

fn refused(guest: &mut Guest, way: &str, words: &str, counter: &str) -> Result<()> {
    let before = scene::came_past(guest)?;
    let done = guest.sh(way)?;
    ensure!(done.code != Some(0) && done.out.contains(words), "{done:?}");
    ensure!(scene::came_past(guest)? == before, "somebody came past the daemon");
    let counters = guest.ok("chaperone status --json")?;
    let counters: serde_json::Value = serde_json::from_str(&counters)?;
    let count = counters["counters"]
        .as_array()
        .and_then(|all| all.iter().find(|found| found[0] == counter)?[1].as_u64());
    ensure!(count.is_some_and(|count| count > 0), "{counter} is {count:?}");
    Ok(())
}
