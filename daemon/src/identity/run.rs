//! Which run of an agent a process belongs to: the invocation of its unit, or else the lifetime of
//! the agent's first process.

use std::{fs, path::Path, sync::Arc};

use chaperone_kernel::ProcessKey;
use chaperone_model::{Process, Run};

use super::{kept, tracker::TICK_NS};

/// systemd notes the invocation on the unit's cgroup. Only root can set attributes of this kind, so
/// that it is the system's own service manager's word.
const INVOCATION: &str = "trusted.invocation_id";
/// Reading that takes `CAP_SYS_ADMIN`. It also leaves a link for each of its units here, in a folder of
/// root's, for those that may do less (systemd's src/core/unit.c, `unit_export_invocation_id`).
const UNITS: &str = "/run/systemd/units";

/// The run of which this is the first process. `cgroups` is where the cgroup v2 tree is mounted,
/// `boot` the boot's id.
pub(crate) fn of(first: &ProcessKey, cgroup: Option<&str>, cgroups: &Path, boot: &str) -> Run {
    let unit = cgroup.and_then(unit);
    let invocation = unit.as_ref().and_then(|(name, folder)| {
        let attribute = invocation(&cgroups.join(folder.trim_start_matches('/')));
        attribute.or_else(|| exported(Path::new(UNITS), name, folder))
    });
    let name = invocation.unwrap_or_else(|| {
        let boot = boot.get(..8).unwrap_or(boot);
        format!("{}.{}-{boot}", first.tgid, first.started_ns / TICK_NS)
    });
    Run {
        name: name.into(),
        unit: unit.map(|(name, _)| name.to_owned()),
        container: cgroup.and_then(container).map(str::to_owned),
        image: None,
    }
}

/// The innermost unit of a cgroup's path, and its folder.
fn unit(cgroup: &str) -> Option<(&str, &str)> {
    let mut end = cgroup.len();
    loop {
        let folder = cgroup.get(..end)?;
        let start = folder.rfind('/')?;
        let name = folder.get(start + 1..)?;
        let kind = Path::new(name).extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("service" | "scope")) {
            return Some((name, folder));
        }
        end = start;
    }
}

fn invocation(folder: &Path) -> Option<String> {
    let mut value = [0; 32];
    let length = rustix::fs::getxattr(folder, INVOCATION, &mut value).ok()?;
    id(std::str::from_utf8(value.get(..length)?).ok()?)
}

/// As the system's service manager exported it. Units of other managers may have the same name: only
/// one with nothing but slices above it is meant.
fn exported(units: &Path, name: &str, folder: &str) -> Option<String> {
    let mut above = folder.trim_matches('/').split('/').rev().skip(1);
    if !above.all(|part| Path::new(part).extension().is_some_and(|kind| kind == "slice")) {
        return None;
    }
    let link = fs::read_link(units.join(format!("invocation:{name}"))).ok()?;
    id(link.to_str()?)
}

fn id(text: &str) -> Option<String> {
    (text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_owned())
}

/// The container in which a whole lineage is, where it is root's word; else why it is not known.
///
/// Whoever may make groups below one of his own may give them the names of others' containers, and
/// whoever may write to a group's `cgroup.procs` moves processes between those below it.
pub(super) fn surely<'a>(
    first: Option<&'a str>,
    lineage: &[Arc<Process>],
    cgroups: &Path,
) -> Result<&'a str, String> {
    let first = first.ok_or("the cgroup is not known")?;
    let (id, above) = container_and_above(first).ok_or("it runs in no container")?;
    // One that is gone by now is where another was that is not.
    let is_known = |of: &Process| {
        lineage.iter().any(|other| other.cgroup.is_some() && other.cgroup_id == of.cgroup_id)
    };
    if !lineage.last().is_some_and(|last| is_known(last)) {
        return Err("the cgroup of the process that connected is not known".into());
    }
    let mut others = lineage.iter().filter_map(|process| process.cgroup.as_deref());
    if others.any(|other| container(other) != Some(id)) {
        return Err("the processes of its lineage are not all in one container".into());
    }
    let above = cgroups.join(above.trim_matches('/'));
    let groups = above.ancestors().take_while(|folder| folder.starts_with(cgroups));
    for group in groups {
        let roots = |path: &Path| fs::metadata(path).is_ok_and(|about| kept::is_roots(&about));
        if !roots(group) || !roots(&group.join("cgroup.procs")) {
            return Err("others than root could have named the container's cgroup".into());
        }
    }
    Ok(id)
}

/// Container runtimes put the container's id, 64 hexadecimal digits, into its cgroup's name:
/// `docker-ID.scope`, `/docker/ID`, `libpod-ID.scope`, `cri-containerd-ID.scope`.
fn container(cgroup: &str) -> Option<&str> {
    container_and_above(cgroup).map(|(id, _)| id)
}

/// The id, and the path of the group above the container's.
fn container_and_above(cgroup: &str) -> Option<(&str, &str)> {
    let is_id = |text: &&str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let mut rest = cgroup;
    loop {
        let (above, part) = rest.rsplit_once('/')?;
        let part = part.strip_suffix(".scope").unwrap_or(part);
        if let Some(id) = part.rsplit(['-', ':']).next().filter(is_id) {
            return Some((id, above));
        }
        rest = above;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_is_read_from_the_service_managers_folder() {
        let units = tempfile::tempdir().expect("a folder");
        let invocation = "0123456789abcdef0123456789abcdef";
        let link = |name: &str, to: &str| {
            let path = units.path().join(format!("invocation:{name}"));
            std::os::unix::fs::symlink(to, path).expect("linked");
        };
        link("cleaner.service", invocation);
        link("odd.service", "../../etc/passwd");
        let read = |name: &str, folder: &str| exported(units.path(), name, folder);
        let own = Some(invocation.to_owned());
        assert_eq!(read("cleaner.service", "/system.slice/cleaner.service"), own);
        assert_eq!(read("cleaner.service", "/cleaner.service"), own);
        // One of the same name that a user's own service manager started.
        let users = "/user.slice/user-1.slice/user@1.service/app.slice/cleaner.service";
        assert_eq!(read("cleaner.service", users), None);
        assert_eq!(read("odd.service", "/system.slice/odd.service"), None);
        assert_eq!(read("other.service", "/system.slice/other.service"), None);
    }

    #[test]
    fn the_innermost_unit_counts() {
        assert_eq!(
            unit("/system.slice/cleaner.service/inner"),
            Some(("cleaner.service", "/system.slice/cleaner.service"))
        );
        assert_eq!(unit("/system.slice"), None);
        assert_eq!(unit("/"), None);
        assert_eq!(unit(""), None);
    }

    #[test]
    fn containers_are_known_by_their_cgroups_names() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("/system.slice/docker-{id}.scope"),
            format!("/docker/{id}"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods/pod1/{id}"),
        ] {
            assert_eq!(container(&path), Some(id.as_str()), "{path}");
        }
        assert_eq!(container("/system.slice/cleaner.service"), None);
    }

    #[test]
    fn without_a_unit_the_first_process_is_the_run() {
        let key = ProcessKey { started_ns: 23 * TICK_NS + 5, exec_id: 1, tgid: 7, reserved: 0 };
        let run = of(&key, Some("/a/b"), Path::new("/nowhere"), "0123456789-x");
        assert_eq!(&*run.name, "7.23-01234567");
        assert_eq!((run.unit, run.container), (None, None));
    }
}
