//! What the benchmark uses of the host, and gives back: a folder, addresses, cgroups, bpffs.
//!
//! Belongs here: things of the machine. Each value undoes itself when it is dropped.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::shell;

/// The agent: a uid that no account has.
pub(super) const UID: u32 = 64123;

/// Name of the database and of the user.
pub(super) const DATABASE: &str = "bench";

/// A folder that servers under other accounts can reach.
pub(super) fn folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("chaperone-bench-")
        .tempdir()
        .context("no temporary folder")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// A file with 32 bytes in hexadecimal that nobody but the daemon reads; answers its path.
pub(super) fn secret(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    fs::write(&path, "5a".repeat(32))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path.display().to_string())
}

/// Loopback addresses that stand for other hosts.
#[derive(Clone, Copy)]
pub(super) struct Net(u8);

impl Net {
    /// Ones that nobody uses: several benchmarks may run at a time.
    pub(super) fn free() -> Result<Self> {
        let start = u8::try_from(process::id() % 251).unwrap_or_default();
        for offset in 0..16 {
            let net = Self(start.wrapping_add(offset));
            if [net.server(), net.bouncer(), net.proxy()]
                .into_iter()
                .all(|a| TcpListener::bind(a).is_ok())
            {
                return Ok(net);
            }
        }
        bail!(
            "port {} is taken on every address of 127.77.0.0/16 that was tried: a server listens on all addresses",
            Self::PORT
        )
    }

    const PORT: u16 = 5432;

    pub(super) fn server(self) -> SocketAddr {
        self.address(1)
    }

    pub(super) fn bouncer(self) -> SocketAddr {
        self.address(2)
    }

    pub(super) fn proxy(self) -> SocketAddr {
        self.address(3)
    }

    fn address(self, host: u8) -> SocketAddr {
        (Ipv4Addr::new(127, 77, self.0, host), Self::PORT).into()
    }
}

/// How many files a process may have open here.
pub(super) fn open_files() -> u32 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(1024)
}

/// The same, for prlimit(1).
pub(super) fn open_files_limit() -> String {
    format!("--nofile={0}:{0}", open_files())
}

/// A loopback port that is free now.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// A cgroup of our own, never one that others are in.
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    pub(super) fn make(name: &str) -> Result<Self> {
        let root = mounted("cgroup2")?.context("no cgroup v2 is mounted")?;
        let path = root.join(format!("chaperone-bench-{}-{name}", process::id()));
        fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes that have just ended are counted for a moment.
        let start = Instant::now();
        while let Err(error) = fs::remove_dir(&self.0) {
            if start.elapsed() > Duration::from_secs(5) {
                eprintln!("{} could not be removed: {error}", self.0.display());
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where the daemons pin what outlives them.
pub(super) struct Pins {
    folder: PathBuf,
    /// A bpffs that was mounted for this.
    mount: Option<PathBuf>,
}

impl Pins {
    const USUAL: &str = "/sys/fs/bpf";

    /// In the usual place where it is mounted, else in a bpffs of its own.
    pub(super) fn find(folder: &Path) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("/proc/mounts cannot be read")?;
        if mounts.lines().any(|line| mount(line) == Some(("bpf", Self::USUAL))) {
            return Ok(Self { folder: PathBuf::from(Self::USUAL), mount: None });
        }
        let place = folder.join("bpffs");
        fs::create_dir(&place)?;
        shell::run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&place))?;
        Ok(Self { folder: place.clone(), mount: Some(place) })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("chaperone-bench-{}-{name}", process::id()))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Some(place) = &self.mount
            && let Err(error) = shell::run(Command::new("umount").arg(place))
        {
            eprintln!("{} is still mounted: {error:#}", place.display());
        }
    }
}

/// The place where a file system of this kind is mounted.
fn mounted(kind: &str) -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts").context("/proc/mounts cannot be read")?;
    Ok(mounts
        .lines()
        .filter_map(mount)
        .find(|(found, _)| *found == kind)
        .map(|(_, place)| place.into()))
}

/// Kind and place of a line of /proc/mounts.
fn mount(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split(' ').skip(1);
    let place = fields.next()?;
    Some((fields.next()?, place))
}
