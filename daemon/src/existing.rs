//! Connections that agents have to targets when the daemon starts: made before the programs were
//! there, or while they were detached. They are recorded, and ended unless the configuration says
//! otherwise; the guard lets none of their packets through in any case.

use std::{collections::HashMap, fs, io};

use chaperone_kernel::{Connection, ProcessTable, Watch, connections, destroy};

use crate::{
    addresses::watches,
    config::{Config, Existing},
    identity::Owners,
    scoping::Scoping,
    stops,
};

/// Finds them. Where they cannot be looked for the log says so: the guard stands in any case.
pub(crate) fn end(
    config: &Config,
    scoping: &Scoping,
    watched: &[(Watch, u32)],
    processes: &ProcessTable,
    mut record: impl FnMut(String),
) {
    let all = match connections() {
        Ok(all) => all,
        Err(error) => {
            let detail = format!(
                "connections from before the daemon could not be looked for ({error}); the guard stops their packets"
            );
            tracing::error!("{detail}");
            return record(detail);
        }
    };
    let to_targets: Vec<_> = all
        .iter()
        .filter_map(|found| {
            let (_, target) = watched.iter().find(|(watch, _)| watches(watch, found.remote))?;
            Some((found, *target))
        })
        .collect();
    if to_targets.is_empty() {
        return;
    }
    let held = held(processes);
    for (connection, target) in to_targets {
        let holder = held.get(&connection.inode).copied();
        let by_uid = || scoping.owner(connection.uid, "");
        let Some(agent) = holder.map(|(_, agent)| agent).or_else(by_uid) else { continue };
        let detail = handle(config, connection, target, agent, holder.map(|(pid, _)| pid));
        tracing::warn!("{detail}");
        record(detail);
    }
}

fn handle(
    config: &Config,
    connection: &Connection,
    target: u32,
    agent: u32,
    pid: Option<u32>,
) -> String {
    let done = match config.daemon.existing {
        Existing::Record => "left as it is: the guard stops its packets".to_owned(),
        Existing::Destroy => match destroy(connection) {
            Ok(()) => "ended".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "gone meanwhile".to_owned(),
            Err(error) => format!("not ended ({error}): the guard stops its packets"),
        },
    };
    let who = pid.map_or_else(|| "no process of it".to_owned(), |pid| format!("process {pid}"));
    format!(
        "agent {} (user id {}, {who}) had a connection from {} to target {} at {} when the daemon started; it was {done}",
        stops::agent_name(config, agent),
        connection.uid,
        connection.local,
        stops::target_name(config, Some(target)),
        connection.remote,
    )
}

/// Sockets that agents' processes hold, by inode, with the process and its agent: also those that
/// another made and left to them.
fn held(processes: &ProcessTable) -> HashMap<u32, (u32, u32)> {
    let mut held = HashMap::new();
    for process in processes.all() {
        let pid = process.key.tgid;
        // It may have ended.
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(link) = fs::read_link(entry.path()) else { continue };
            let link = link.to_string_lossy();
            let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|number| number.parse().ok()) {
                held.insert(inode, (pid, process.agent));
            }
        }
    }
    held
}
