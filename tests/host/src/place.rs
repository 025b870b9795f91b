//! Parts of the machine that a test has for itself, and gives back.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A cgroup v2 of the test's own.
#[derive(Debug)]
pub(crate) struct Cgroup {
    pub(crate) path: PathBuf,
}

impl Cgroup {
    pub(crate) fn make(name: &str) -> Result<Self> {
        let table = fs::read_to_string("/proc/self/mounts")?;
        let root = table
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields.get(2) == Some(&"cgroup2"))
            .context("no cgroup v2 is mounted on this host")?;
        let path = Path::new(root[1]).join(name);
        fs::create_dir(&path)
            .with_context(|| format!("the cgroup {} cannot be made", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Ends what a test left behind in it, and nothing else.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        for _ in 0..200 {
            // Groups that a test made below it go first.
            remove_below(&self.path);
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn remove_below(folder: &Path) {
    for below in fs::read_dir(folder).into_iter().flatten().flatten() {
        if below.path().is_dir() {
            remove_below(&below.path());
            let _ = fs::remove_dir(below.path());
        }
    }
}

/// A file system of the test's own.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    /// Makes the folder and mounts it.
    ///
    /// # Errors
    /// Where the kernel has no such file system, or this is not root.
    pub fn make(kind: &str, path: PathBuf, options: Option<&str>) -> Result<Self> {
        fs::create_dir(&path)?;
        mount(Some(kind), &path, Some(kind), MsFlags::empty(), options)
            .with_context(|| format!("a file system of type {kind} cannot be mounted"))?;
        Ok(Self(path))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
