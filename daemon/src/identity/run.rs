//! Which run of an agent a process belongs to: the invocation of its unit, or else the lifetime of
//! the agent's first process.

use std::path::Path;

use chaperone_kernel::ProcessKey;
use chaperone_model::Run;

use super::tracker::TICK_NS;

/// systemd notes the invocation on the unit's cgroup. Only root can set attributes of this kind, so
/// that it is the system's own service manager's word.
const INVOCATION: &str = "trusted.invocation_id";

/// The run of which this is the first process. `cgroups` is where the cgroup v2 tree is mounted,
/// `boot` the boot's id.
pub(crate) fn of(first: &ProcessKey, cgroup: Option<&str>, cgroups: &Path, boot: &str) -> Run {
    let unit = cgroup.and_then(unit);
    let invocation = unit
        .as_ref()
        .and_then(|(_, folder)| invocation(&cgroups.join(folder.trim_start_matches('/'))));
    let name = invocation.unwrap_or_else(|| {
        let boot = boot.get(..8).unwrap_or(boot);
        format!("{}.{}-{boot}", first.tgid, first.started_ns / TICK_NS)
    });
    Run {
        name: name.into(),
        unit: unit.map(|(name, _)| name.to_owned()),
        container: cgroup.and_then(container).map(str::to_owned),
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
    let id = std::str::from_utf8(value.get(..length)?).ok()?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// Container runtimes put the container's id, 64 hexadecimal digits, into its cgroup's name:
/// `docker-ID.scope`, `/docker/ID`, `libpod-ID.scope`, `cri-containerd-ID.scope`.
fn container(cgroup: &str) -> Option<&str> {
    let is_id = |text: &&str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    cgroup.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        part.rsplit(['-', ':']).next().filter(is_id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
