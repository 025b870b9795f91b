//! Finding agents' processes that ran before the programs did, or whose news was lost.

use std::{
    collections::{HashMap, HashSet},
    os::unix::fs::MetadataExt,
};

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
        self.drain();
        self.forget(owners)?;
        for _ in 0..ROUNDS {
            // Sessions go on meanwhile.
            let found: HashMap<u32, (proc::Found, String)> = proc::all()
                .into_iter()
                .filter_map(|pid| Some((pid, (proc::find(pid)?, proc::cgroup(pid)?))))
                .collect();
            let cgroup_id = |path: &str| self.cgroup_id(path);
            if !self.tracking().add(owners, &found, cgroup_id)? {
                break;
            }
        }
        Ok(())
    }

    /// What was lost is looked for.
    pub(crate) fn repair(&self, owners: &dyn Owners, lost: u64) {
        self.tell_processes(format!(
            "{lost} execs or exits of agents' processes were not told in time: what they were is looked for in /proc"
        ));
        if let Err(error) = self.scan(owners) {
            tracing::error!(%error, "agents' processes could not be looked for");
        }
    }

    /// Tells the log that processes are not known as they should be.
    pub(crate) fn tell_processes(&self, detail: String) {
        tracing::warn!(detail, "agents' processes");
        let event =
            Event { at: clock::wall(), session: None, kind: EventKind::ProcessesLost, detail };
        self.log.ride_along(Record::Event(event));
    }

    /// Takes out of the table what is gone, and what belongs to no agent of the configuration.
    fn forget(&self, owners: &dyn Owners) -> Result<(), KernelError> {
        let all = self.tracking().table.all();
        let mut gone = Vec::new();
        for process in all {
            let id = Id::from(&process.key);
            if proc::is_gone(id) || !owners.has(process.agent) {
                gone.push(process);
            } else {
                self.tracking().tracker.found(process);
            }
        }
        let mut tracking = self.tracking();
        for process in &gone {
            // Its id may have been used again meanwhile.
            if tracking.current(process.key.tgid).is_some_and(|now| now.key == process.key) {
                tracking.table.remove(process.key.tgid)?;
            }
        }
        let gone: HashSet<Id> = gone.iter().map(|process| Id::from(&process.key)).collect();
        tracking.tracker.retain(|key| {
            let id = Id::from(key);
            !gone.contains(&id) && !proc::is_gone(id)
        });
        Ok(())
    }

    fn cgroup_id(&self, path: &str) -> u64 {
        let folder = self.place.cgroups.join(path.trim_start_matches('/'));
        std::fs::metadata(folder).map_or(0, |found| found.ino())
    }
}

impl Tracking {
    /// Adds what is an agent's and not in the table; answers whether there was anything.
    fn add(
        &mut self,
        owners: &dyn Owners,
        found: &HashMap<u32, (proc::Found, String)>,
        cgroup_id: impl Fn(&str) -> u64,
    ) -> Result<bool, KernelError> {
        let mut agents: HashMap<u32, Process> =
            self.table.all().into_iter().map(|process| (process.key.tgid, process)).collect();
        let mut added = false;
        let mut order: Vec<_> = found.iter().collect();
        // Parents are older than their children.
        order.sort_by_key(|(_, (process, _))| process.started_ns);
        for (pid, (process, cgroup)) in order {
            if agents.contains_key(pid) {
                continue;
            }
            let above = agents.get(&process.parent).copied();
            let owner = above.map(|above| above.agent);
            let Some(agent) = owner.or_else(|| owners.owner(process.uid, cgroup)) else {
                continue;
            };
            let key =
                ProcessKey { started_ns: process.started_ns, exec_id: 0, tgid: *pid, reserved: 0 };
            let new = Process {
                key,
                parent: above.map(|above| above.key).unwrap_or_default(),
                topmost: above.map_or(key, |above| above.topmost),
                cgroup_id: cgroup_id(cgroup),
                uid: process.uid,
                gid: process.gid,
                agent,
                reserved: 0,
            };
            agents.insert(*pid, new);
            // The kernel may have put it there meanwhile, and knows better.
            if self.table.add(new)? {
                self.tracker.found(new);
                added = true;
            }
        }
        Ok(added)
    }
}
