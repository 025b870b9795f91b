//! Connections that agents have when the daemon starts, made before the programs were there or while
//! they were detached: to targets, and where `egress = "deny"` to what is not listed. They are
//! recorded, and ended unless the configuration says otherwise; the guard lets no packet between an
//! agent and a target through in any case.

use std::{collections::HashMap, fs, io, net::SocketAddr};

use chaperone_kernel::{
    Connection, Egress, Host, ProcessTable, Watch, connections, destroy, listening,
};

use crate::{
    addresses::watches,
    config::{Config, Existing},
    identity::Owners,
    naming::{Naming, UNKNOWN},
    scoping::Scoping,
    stops,
};

/// Finds them. Where they cannot be looked for the log says so: the guard stands in any case.
pub(crate) fn end(
    config: &Config,
    scoping: &Scoping,
    names: &Naming,
    processes: &ProcessTable,
    mut record: impl FnMut(String),
) {
    let found = connections().and_then(|all| Ok((all, listening()?)));
    let (all, served) = match found {
        Ok(found) => found,
        Err(error) => {
            let detail = format!(
                "connections from before the daemon could not be looked for ({error}); the guard stops those to targets"
            );
            tracing::error!("{detail}");
            return record(detail);
        }
    };
    let own_port = config.daemon.listen;
    let denies = config.agents.iter().any(|agent| agent.egress == Some(Egress::Deny));
    let mut held = None;
    for connection in &all {
        let target = target(names, connection.remote);
        // Where an agent takes connections it is asked, and goes nowhere; the daemon's is the way.
        let is_served = served.contains(&connection.local.port());
        let to_us = connection.remote.ip().is_loopback() && connection.remote.port() == own_port;
        if target.is_none() && (is_served || to_us || !denies) {
            continue;
        }
        let held = held.get_or_insert_with(|| held_by(processes));
        let holder = held.get(&connection.inode).copied();
        let by_uid = || scoping.owner(connection.uid, "");
        let Some(agent) = holder.map(|(_, agent)| agent).or_else(by_uid) else { continue };
        // Its process may have begun after the table was read.
        let pid = holder.map(|(pid, _)| pid).or_else(|| holder_of(connection.inode));
        let refused = || names.refuses(config, agent, connection.remote);
        let ends = match pid {
            // What is not below the attach point goes where it likes from now on, too.
            Some(pid) => (target.is_some() || refused()) && is_below(config, pid),
            // It may be on its way from one process to another.
            None => target.is_some(),
        };
        if ends {
            let detail = handle(config, connection, target, agent, pid);
            tracing::warn!("{detail}");
            record(detail);
        }
    }
}

/// The target that an address is.
fn target(names: &Naming, address: SocketAddr) -> Option<u32> {
    // The watch of a name that is not known yet is of any address: the guard stops packets as long
    // as that is so.
    let known = names.watched().iter().filter(|(_, target)| target & UNKNOWN == 0);
    let found = known.filter(|(watch, _)| watches(watch, address));
    let longest = found.max_by_key(|(watch, _)| match watch {
        Watch::Any { .. } => 0,
        Watch::Net { bits, .. } => *bits,
    });
    longest.map(|(_, target)| *target)
}

/// Does what the configuration says; answers what that was. Without a target it is unlisted.
fn handle(
    config: &Config,
    connection: &Connection,
    target: Option<u32>,
    agent: u32,
    pid: Option<u32>,
) -> String {
    let guarded = if target.is_some() { ": the guard stops its packets" } else { "" };
    let done = match config.daemon.existing {
        Existing::Record => format!("left as it is{guarded}"),
        Existing::Destroy => match destroy(connection) {
            Ok(()) => "ended".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "gone meanwhile".to_owned(),
            Err(error) => format!("not ended ({error}){guarded}"),
        },
    };
    let who = pid.map_or_else(|| "no process of it".to_owned(), |pid| format!("process {pid}"));
    let to = match target {
        Some(_) => {
            format!("target {} at {}", stops::target_name(config, target), connection.remote)
        }
        None => format!("{}, which is not listed,", connection.remote),
    };
    format!(
        "agent {} (user id {}, {who}) had a connection from {} to {to} when the daemon started; it was {done}",
        stops::agent_name(config, agent),
        connection.uid,
        connection.local,
    )
}

/// Whether a process is below the cgroup that the programs are attached to.
fn is_below(config: &Config, pid: u32) -> bool {
    let host = Host::default();
    let (Ok(root), Ok(attach)) = (host.cgroup_root(), config.attach_path(&host)) else {
        return true;
    };
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let own = table.lines().find_map(|line| line.strip_prefix("0::/"));
    own.is_some_and(|own| root.join(own).starts_with(attach))
}

/// Sockets that agents' processes hold, by inode, with the process and its agent: also those that
/// another made and left to them.
fn held_by(processes: &ProcessTable) -> HashMap<u32, (u32, u32)> {
    let of = |process: chaperone_kernel::Process| {
        let (pid, agent) = (process.key.tgid, process.agent);
        sockets(pid).into_iter().map(move |inode| (inode, (pid, agent)))
    };
    processes.all().into_iter().flat_map(of).collect()
}

/// A process of any account that holds a socket now.
fn holder_of(inode: u32) -> Option<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| sockets(*pid).contains(&inode))
}

/// The inodes of a process's sockets; none where it has ended.
fn sockets(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        let link = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        link.parse().ok()
    };
    entries.filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn p2_who_holds_a_socket_is_found_among_all_processes() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let of = fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("its inode");
        let inode = u32::try_from(of.ino()).expect("a small number");
        assert_eq!(holder_of(inode), Some(std::process::id()));
        drop(socket);
        assert_eq!(holder_of(inode), None);
    }
}
