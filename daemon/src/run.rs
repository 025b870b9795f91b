//! Which run of an agent a process belongs to: the invocation of its unit, or else the lifetime of
//! the topmost process of the agent above it.

use std::{fs, path::Path};

use chaperone_kernel::Note;

use crate::{config::Select, identify::start_ticks};

/// Longest line of ancestors that is followed.
const ANCESTORS: usize = 64;

/// The run's name: systemd's invocation id, or `PID.START`, start in ticks since boot.
pub(crate) fn find(select: &Select, note: &Note, cgroup: Option<&str>) -> Option<String> {
    cgroup.and_then(invocation).or_else(|| topmost(select, note))
}

/// systemd links `/run/systemd/units/invocation:UNIT` to the id of the unit's invocation.
fn invocation(cgroup: &str) -> Option<String> {
    let unit = cgroup.rsplit('/').find(|part| part.ends_with(".service"))?;
    let link = Path::new("/run/systemd/units").join(format!("invocation:{unit}"));
    let id = fs::read_link(link).ok()?.into_os_string().into_string().ok()?;
    let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then_some(id)
}

fn topmost(select: &Select, note: &Note) -> Option<String> {
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let mut top = note.tgid;
    let mut top_stat = stat(top)?;
    for _ in 0..ANCESTORS {
        let Some(parent) = parent(&top_stat).filter(|pid| *pid > 1) else { break };
        let Some(parent_stat) = stat(parent).filter(|_| belongs(select, parent)) else { break };
        (top, top_stat) = (parent, parent_stat);
    }
    Some(format!("{top}.{}", start_ticks(&top_stat)?))
}

/// Field 4 of `/proc/PID/stat`.
fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn belongs(select: &Select, pid: u32) -> bool {
    match select {
        Select::User(uid) => {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
            line.and_then(|ids| ids.split_ascii_whitespace().next()?.parse().ok()) == Some(*uid)
        }
        Select::Cgroup(path) => {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let own = text.lines().find_map(|line| line.strip_prefix("0::"));
            own.is_some_and(|own| Path::new(own).starts_with(path))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent("7 (a) b) S 3 7 7"), Some(3));
    }

    #[test]
    fn who_belongs_is_told_by_the_system() {
        let own = std::process::id();
        let uid = nix::unistd::getuid().as_raw();
        assert!(belongs(&Select::User(uid), own));
        assert!(!belongs(&Select::User(uid + 1), own));
        assert!(!belongs(&Select::Cgroup("/of-nobody".into()), own));
    }
}
