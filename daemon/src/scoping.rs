//! Which users and cgroups of this host the configuration's agents are.

use std::{
    collections::HashMap,
    fs, io,
    ops::RangeInclusive,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use chaperone_kernel::Scope as Kernel;

use crate::{
    config::{Config, Scope},
    identity::Owners,
};

const SUBUID: &str = "/etc/subuid";

/// See the module's comment.
pub(crate) struct Scoping {
    /// Where the cgroup v2 tree is mounted.
    root: PathBuf,
    agents: Vec<(Scope, u32)>,
    /// As they could last be read.
    subuid: String,
    names: HashMap<u32, String>,
    scope: Kernel,
}

impl Scoping {
    pub(crate) fn new(config: &Config, root: PathBuf) -> Self {
        let mut agents: Vec<(Scope, u32)> = Vec::new();
        for agent in &config.agents {
            let number = agent.select.number();
            if agents.iter().all(|(_, other)| *other != number) {
                agents.push((agent.select.scope.clone(), number));
            }
            if let Scope::Cgroup(path) = &agent.select.scope
                && cgroup_id(&root, path).is_none()
            {
                tracing::info!(
                    agent = %agent.name,
                    cgroup = %path.display(),
                    "this cgroup is not there yet: it comes into scope when it is made"
                );
            }
        }
        Self {
            root,
            agents,
            subuid: String::new(),
            names: HashMap::new(),
            scope: Kernel::default(),
        }
    }

    /// What the kernel is to be told.
    pub(crate) fn scope(&self) -> &Kernel {
        &self.scope
    }

    /// Looks through cgroups, too: those that were made before the kernel side saw them being made
    /// are found by nobody else.
    pub(crate) fn look_through(&mut self) -> bool {
        self.scope.slices.clear();
        self.look()
    }

    /// Looks again; answers whether anything changed that the kernel does not see itself.
    pub(crate) fn look(&mut self) -> bool {
        match fs::read_to_string(SUBUID) {
            Ok(text) => self.subuid = text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.subuid.clear(),
            Err(error) => tracing::warn!(%error, "{SUBUID} cannot be read: it counts as it was"),
        }
        let mut scope = Kernel::default();
        for (selected, number) in &self.agents {
            match selected {
                Scope::User(uid) => {
                    scope.uids.push((*uid..=*uid, *number));
                    if let Some(name) = name(*uid) {
                        self.names.insert(*uid, name);
                    }
                    let name = self.names.get(uid).map(String::as_str);
                    let ranges = subordinate(&self.subuid, *uid, name);
                    scope.uids.extend(ranges.into_iter().map(|range| (range, *number)));
                }
                Scope::Unit(name) => scope.units.push((name.clone(), *number)),
                Scope::Cgroup(path) => {
                    scope.paths.push((path.to_string_lossy().into_owned(), *number));
                }
            }
        }
        let changed = scope.uids != self.scope.uids || self.scope.slices.is_empty();
        if !changed {
            return false;
        }
        match self.present() {
            Ok((cgroups, slices)) => {
                self.scope = Kernel { cgroups, slices, ..scope };
                true
            }
            Err(error) => {
                tracing::warn!(%error, "cgroups cannot be looked through: scope stays as it was");
                false
            }
        }
    }

    /// Whether a cgroup is in scope, by this id. Where that cannot be told it is.
    pub(crate) fn belongs(&self, id: u64) -> bool {
        self.present().map_or(true, |(cgroups, _)| cgroups.iter().any(|(found, _)| *found == id))
    }

    fn present(&self) -> io::Result<Present> {
        let (mut cgroups, mut slices) = (Vec::new(), Vec::new());
        for (selected, number) in &self.agents {
            if let Scope::Cgroup(path) = selected {
                cgroups.extend(cgroup_id(&self.root, path).map(|id| (id, *number)));
            }
        }
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            slices.extend(id(&folder));
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                // It went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if is_slice(&name) {
                    folders.push(entry.path());
                }
                let unit = |(selected, _): &&(Scope, u32)| *selected == Scope::Unit(name.clone());
                if let Some((_, number)) = self.agents.iter().find(unit) {
                    cgroups.extend(id(&entry.path()).map(|id| (id, *number)));
                }
            }
        }
        Ok((cgroups, slices))
    }
}

/// Cgroups that are there: those that are selected, and slices.
type Present = (Vec<(u64, u32)>, Vec<u64>);

impl Owners for Scoping {
    fn owner(&self, uid: u32, cgroup: &str) -> Option<u32> {
        let by_uid = self.scope.uids.iter().find(|(range, _)| range.contains(&uid));
        by_uid.map(|(_, number)| *number).or_else(|| {
            let path = Path::new(cgroup);
            let within = |(selected, _): &&(Scope, u32)| match selected {
                Scope::User(_) => false,
                Scope::Cgroup(above) => path.starts_with(above),
                Scope::Unit(name) => is_in_unit(cgroup, name),
            };
            self.agents.iter().find(within).map(|(_, number)| *number)
        })
    }

    fn has(&self, agent: u32) -> bool {
        self.agents.iter().any(|(_, number)| *number == agent)
    }
}

fn is_slice(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|kind| kind == "slice")
}

/// Whether a cgroup's path leads through this unit, with nothing but slices above it.
fn is_in_unit(cgroup: &str, unit: &str) -> bool {
    let inner = cgroup.split('/').skip(1).find(|part| !is_slice(part));
    inner == Some(unit)
}

/// Lines of an account, by its name or number: `account:first:count` (subuid(5)).
fn subordinate(table: &str, uid: u32, name: Option<&str>) -> Vec<RangeInclusive<u32>> {
    let range = |line: &str| {
        let mut fields = line.split(':');
        let account = fields.next()?;
        if Some(account) != name && account != uid.to_string() {
            return None;
        }
        let (first, count): (u32, u32) =
            (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        // Root's id in a range would put the whole system into scope.
        (count > 0 && first > 0).then(|| first..=first.saturating_add(count - 1))
    };
    table.lines().filter_map(range).collect()
}

fn name(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(uid.into()).ok()??;
    Some(user.name)
}

fn cgroup_id(root: &Path, path: &Path) -> Option<u64> {
    id(&root.join(path.strip_prefix("/").unwrap_or(path)))
}

/// A cgroup's id is its folder's inode number.
fn id(folder: &Path) -> Option<u64> {
    fs::metadata(folder).ok().filter(fs::Metadata::is_dir).map(|found| found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_are_the_accounts() {
        let table = "svc:100000:65536\n64001:300000:10\nother:500000:5\nsvc:x:1\nsvc:0:5\n";
        assert_eq!(subordinate(table, 64001, Some("svc")), [100_000..=165_535, 300_000..=300_009]);
        assert_eq!(subordinate(table, 1, None), []);
    }

    #[test]
    fn p1_a_cgroup_that_was_made_between_two_looks_is_found_by_looking_through() {
        let root = tempfile::tempdir().expect("a folder");
        let agents = vec![
            (Scope::User(64001), 1),
            (Scope::Unit("cleaner.service".into()), 2),
            (Scope::Cgroup("/agents".into()), 3),
        ];
        let mut scoping = Scoping {
            root: root.path().into(),
            agents,
            subuid: String::new(),
            names: HashMap::new(),
            scope: Kernel::default(),
        };
        assert!(scoping.look());
        assert_eq!(scoping.scope().cgroups, []);
        fs::create_dir_all(root.path().join("system.slice/cleaner.service")).expect("made");
        fs::create_dir(root.path().join("agents")).expect("made");
        assert!(!scoping.look(), "cgroups are the kernel side's to see");
        assert!(scoping.look_through());
        let found: Vec<_> = scoping.scope().cgroups.iter().map(|(_, number)| *number).collect();
        assert_eq!(found, [3, 2]);
        assert_eq!(scoping.scope().slices.len(), 2);
    }

    #[test]
    fn a_unit_counts_below_slices_alone() {
        assert!(is_in_unit("/system.slice/cleaner.service/a/b", "cleaner.service"));
        assert!(is_in_unit("/cleaner.service", "cleaner.service"));
        assert!(!is_in_unit(
            "/user.slice/user-1.slice/user@1.service/cleaner.service",
            "cleaner.service"
        ));
    }
}
