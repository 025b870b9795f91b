//! Finding agents' processes that ran before the programs did, or whose news was lost.

use std::{collections::HashMap, os::unix::fs::MetadataExt};

use chaperone_kernel::{KernelError, Process, ProcessKey};
use chaperone_model::{Event, EventKind, Record};

use super::{Identities, Tracking, proc, tracker::Id};
use crate::clock;

/// Rounds until nothing new is found: a process may fork while it is looked at.
const ROUNDS: usize = 8;

/// Whose processes are an agent's, by user id or by the path of their cgroup.
pub(crate) trait Owners {
    /// The agent's number.
    fn owner(&self, uid: u32, cgroup: &str) -> Option<u32>;
    /// Whether an agent has this number.
    fn has(&self, agent: u32) -> bool;
}

impl Identities {
    /// Brings the kernel's table and what is known here up to date.
    pub(crate) fn scan(&self, owners: &dyn Owners) -> Result<(), KernelError> {
        let mut tracking = self.tracking();
        tracking.drain(&self.log);
        tracking.forget(owners)?;
        for _ in 0..ROUNDS {
            if !tracking.find(owners, |path| self.cgroup_id(path))? {
                break;
            }
        }
        Ok(())
    }

    /// What was lost is looked for.
    pub(crate) fn repair(&self, owners: &dyn Owners, lost: u64) {
        let detail = format!(
            "{lost} execs or exits of agents' processes were not told in time: what they were is looked for in /proc"
        );
        let event =
            Event { at: clock::wall(), session: None, kind: EventKind::ProcessesLost, detail };
        self.log.ride_along(Record::Event(event));
        if let Err(error) = self.scan(owners) {
            tracing::error!(%error, "agents' processes could not be looked for");
        }
    }

    fn cgroup_id(&self, path: &str) -> u64 {
        let folder = self.place.cgroups.join(path.trim_start_matches('/'));
        std::fs::metadata(folder).map_or(0, |found| found.ino())
    }
}

impl Tracking {
    /// Takes out of the table what is gone, and what belongs to no agent of the configuration.
    fn forget(&mut self, owners: &dyn Owners) -> Result<(), KernelError> {
        let mut lives = std::collections::HashSet::new();
        for process in self.table.all() {
            let id = Id::from(&process.key);
            if proc::started(id.pid) == Some(id.ticks) && owners.has(process.agent) {
                lives.insert(id);
                self.tracker.found(process);
            } else {
                self.table.remove(id.pid)?;
            }
        }
        self.tracker.retain(|key| lives.contains(&Id::from(key)));
        Ok(())
    }

    /// Adds what is an agent's and not in the table; answers whether there was anything.
    fn find(
        &mut self,
        owners: &dyn Owners,
        cgroup_id: impl Fn(&str) -> u64,
    ) -> Result<bool, KernelError> {
        let found: HashMap<u32, proc::Found> =
            proc::all().into_iter().filter_map(|pid| Some((pid, proc::find(pid)?))).collect();
        let mut agents: HashMap<u32, u32> =
            self.table.all().into_iter().map(|p| (p.key.tgid, p.agent)).collect();
        let mut added = false;
        let mut order: Vec<_> = found.iter().collect();
        // Parents are older than their children.
        order.sort_by_key(|(_, process)| process.started_ns);
        for (pid, process) in order {
            if agents.contains_key(pid) {
                continue;
            }
            let cgroup = proc::cgroup(*pid).unwrap_or_default();
            let inherited = agents.get(&process.parent).copied();
            let Some(agent) = inherited.or_else(|| owners.owner(process.uid, &cgroup)) else {
                continue;
            };
            let key = |pid: u32, started_ns| ProcessKey {
                started_ns,
                exec_id: 0,
                tgid: pid,
                reserved: 0,
            };
            let parent = inherited
                .and_then(|_| found.get(&process.parent))
                .map(|above| key(process.parent, above.started_ns));
            let new = Process {
                key: key(*pid, process.started_ns),
                parent: parent.unwrap_or_default(),
                cgroup_id: cgroup_id(&cgroup),
                uid: process.uid,
                gid: process.gid,
                agent,
                reserved: 0,
            };
            agents.insert(*pid, agent);
            // The kernel may have put it there meanwhile, and knows better.
            if self.table.add(new)? {
                self.tracker.found(new);
                added = true;
            }
        }
        Ok(added)
    }
}
