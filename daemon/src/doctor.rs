//! What this kernel and host give, and what is missing.

use std::{fs, path::Path};

use anyhow::Result;
use chaperone_kernel::{Host, kernel_release, own_netns_cookie, read_offsets};
use serde::Serialize;

use crate::{
    config::Config,
    listening,
    show::{json_line, print, table},
};

/// Oldest kernel: `SO_NETNS_COOKIE` and the network namespace's cookie in `sock_ops` programs.
const OLDEST: (u32, u32) = (5, 15);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Finding {
    Ok,
    /// Something works less well without it.
    Note,
    /// The daemon cannot run without it.
    Missing,
}

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    finding: Finding,
    detail: String,
}

/// Looks at everything; answers whether the daemon can run.
pub(crate) fn examine(path: &Path, json: bool) -> Result<bool> {
    let host = Host::default();
    let config = Config::read(path);
    let mut checks = vec![
        kernel(&kernel_release()),
        root(),
        check("cgroup v2", host.cgroup_root().map(|root| root.display().to_string())),
        bpffs(&host, config.as_ref().ok()),
        check(
            "kernel types (BTF)",
            read_offsets(&host.btf).map(|_| host.btf.display().to_string()),
        ),
        check("network namespaces", own_netns_cookie().map(|_| "each has a cookie".to_owned())),
        lsm(&host),
        check("configuration", config.as_ref().map(|_| path.display().to_string())),
    ];
    if let Ok(config) = &config {
        checks.push(attach(config, &host));
        checks.push(port(config));
        checks.push(port_range(config.daemon.listen));
        checks.push(log(config));
    }
    let well = checks.iter().all(|check| check.finding != Finding::Missing);
    if json {
        checks.iter().try_for_each(json_line)?;
    } else {
        let mut table = table(&["WHAT", "FINDING", "DETAIL"]);
        for check in &checks {
            let finding = match check.finding {
                Finding::Ok => "ok",
                Finding::Note => "note",
                Finding::Missing => "MISSING",
            };
            table.add_row([check.what, finding, &check.detail]);
        }
        print(&table.to_string())?;
    }
    Ok(well)
}

fn check<E: std::fmt::Display>(what: &'static str, result: Result<String, E>) -> Check {
    match result {
        Ok(detail) => Check { what, finding: Finding::Ok, detail },
        Err(error) => Check { what, finding: Finding::Missing, detail: error.to_string() },
    }
}

fn kernel(release: &str) -> Check {
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let result = if version >= OLDEST {
        Ok(release.to_owned())
    } else {
        Err(format!("{release} is older than {}.{}", OLDEST.0, OLDEST.1))
    };
    check("kernel", result)
}

fn root() -> Check {
    let result = if nix::unistd::geteuid().is_root() {
        Ok("root")
    } else {
        Err("the daemon loads BPF programs: run it as root")
    };
    check("privileges", result.map(str::to_owned))
}

fn bpffs(host: &Host, config: Option<&Config>) -> Check {
    let detail = match (host.bpffs(), config) {
        (Some(mount), Some(config)) if !config.daemon.pins.starts_with(&mount) => Err(format!(
            "`pins` is {}, which is not below {}, where a BPF file system is mounted",
            config.daemon.pins.display(),
            mount.display()
        )),
        (Some(mount), _) => Ok(mount.display().to_string()),
        (None, _) => Err("none is mounted: `mount -t bpf bpf /sys/fs/bpf`".to_owned()),
    };
    check("BPF file system", detail)
}

fn lsm(host: &Host) -> Check {
    let (finding, detail) = match host.takes_modules() {
        Ok(()) => (Finding::Ok, "security modules may be loaded: all nets are there".to_owned()),
        Err(why) => (
            Finding::Note,
            format!(
                "{why}. Agents' TCP is taken and guarded; open are Unix sockets of targets, descriptors that others hand over, reaching into other processes, and sockets of packets and VSOCK"
            ),
        ),
    };
    Check { what: "BPF LSM", finding, detail }
}

fn attach(config: &Config, host: &Host) -> Check {
    let result = config.attach_path(host).map_err(|e| e.to_string()).and_then(|path| {
        if path.join("cgroup.procs").exists() || path.join("cgroup.controllers").exists() {
            Ok(path.display().to_string())
        } else {
            Err(format!("{} is not a cgroup", path.display()))
        }
    });
    check("attach point", result)
}

fn port(config: &Config) -> Check {
    let running =
        chaperone_control::ask(&config.daemon.control, &chaperone_control::Action::Status).is_ok();
    let port = config.daemon.listen;
    if running {
        return check::<String>("port", Ok(format!("{port}, held by the running daemon")));
    }
    check(
        "port",
        listening::bind_all(port)
            .map(|_| format!("{port} is free"))
            .map_err(|e| format!("{port}: {e}")),
    )
}

/// A port that the kernel gives away by itself might be an agent's while the daemon is down: hooks
/// see the ports alone that somebody asks for.
fn port_range(port: u16) -> Check {
    const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let detail = if is_given_away(port, &read(RANGE), &read(RESERVED)) {
        Err(format!(
            "{port} is among those that the kernel gives away: set `listen` to another, or reserve it by sysctl net.ipv4.ip_local_reserved_ports={port}"
        ))
    } else {
        Ok(format!("{port} is none that the kernel gives away"))
    };
    match detail {
        Ok(detail) => Check { what: "ports given away", finding: Finding::Ok, detail },
        Err(detail) => Check { what: "ports given away", finding: Finding::Note, detail },
    }
}

/// `range` is two numbers, `reserved` a list of numbers and ranges (ip-sysctl).
fn is_given_away(port: u16, range: &str, reserved: &str) -> bool {
    let mut ends = range.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else { return true };
    let is_in = |item: &str| {
        let (from, to) = item.split_once('-').unwrap_or((item, item));
        matches!((from.parse::<u16>(), to.parse::<u16>()), (Ok(from), Ok(to)) if (from..=to).contains(&port))
    };
    (first..=last).contains(&port) && !reserved.trim().split(',').any(is_in)
}

fn log(config: &Config) -> Check {
    let path = &config.daemon.log;
    let folder = path.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let writable = fs::metadata(folder).is_ok_and(|found| found.is_dir())
        && nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok();
    let result = if writable {
        Ok(path.display().to_string())
    } else {
        Err(format!("{} cannot be written to", folder.display()))
    };
    check("log", result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_the_kernel_gives_away_is_told() {
        let range = "32768\t60999\n";
        assert!(!is_given_away(7400, range, ""));
        assert!(is_given_away(40000, range, "\n"));
        assert!(is_given_away(40000, range, "39999,40001-40010\n"));
        assert!(!is_given_away(40000, range, "39990-40000\n"));
        assert!(is_given_away(7400, "", ""), "in doubt");
    }

    #[test]
    fn old_kernels_are_told() {
        assert_eq!(kernel("5.10.0-8-amd64").finding, Finding::Missing);
        assert_eq!(kernel("5.15.1").finding, Finding::Ok);
        assert_eq!(kernel("6.18.44+deb").finding, Finding::Ok);
        assert_eq!(kernel("").finding, Finding::Missing);
    }
}
