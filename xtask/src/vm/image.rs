//! The guest's images: a Debian 12 made by debootstrap, as a disk, with the kernels that boot it.
//!
//! Belongs here: what is in it, and its place in the cache. Nothing of chaperone is in it: packages
//! are installed by the tests.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::{
    kernels::{Boots, Kernel},
    mirror::Mirror,
};
use crate::{interrupt, shell};

const SUITE: &str = "bookworm";

/// Beside the base system: a whole systemd, what agents are started by, a server, what chaperone's
/// package depends on, and what the tests use.
const PACKAGES: &[&str] = &[
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "dbus-user-session",
    "udev",
    "cron",
    "openssh-server",
    "openssh-client",
    "postgresql",
    "python3",
    "iproute2",
    "procps",
    "adduser",
    "ca-certificates",
    "curl",
    "libgcc-s1",
    "kmod",
    "initramfs-tools",
    "zstd",
    "qemu-guest-agent",
];

/// What starts by itself and only costs time.
const MASKED: &[&str] = &[
    "e2scrub_reap.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "getty.target",
    "serial-getty@ttyS0.service",
];

/// What a guest is made of.
pub(super) struct Images {
    pub(super) root: PathBuf,
    folder: PathBuf,
}

impl Images {
    pub(super) fn kernel(&self, kernel: Kernel) -> Boots {
        Boots::new(self.folder.join(kernel.name()))
    }
}

/// Makes them where they are not in the cache: some five minutes.
pub(super) fn ensure(rebuild: bool) -> Result<Images> {
    let folder = shell::cache()?.join("vm").join(recipe());
    if rebuild && folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    if !folder.exists() {
        make(&folder)?;
    }
    Ok(Images { root: folder.join("root.ext4"), folder })
}

/// A disk of so many MiB with the files of a folder; what is empty takes no room.
pub(super) fn disk(folder: &Path, to: &Path, label: &str, size: u32) -> Result<()> {
    shell::read(
        Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-L", label, "-d"])
            .arg(folder)
            .arg(to)
            .arg(format!("{size}M")),
    )
    .map(drop)
}

/// A command inside of a tree. Mounts that it makes go with it.
pub(super) fn inside(tree: &Path, words: &[&str]) -> Command {
    let mut command = apart();
    command
        .arg("chroot")
        .arg(tree)
        .args(words)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// A name that differs where this code does.
fn recipe() -> String {
    let mut hasher = DefaultHasher::new();
    [include_str!("image.rs"), include_str!("kernels.rs")].hash(&mut hasher);
    format!("{SUITE}-{:016x}", hasher.finish())
}

fn make(folder: &Path) -> Result<()> {
    if !shell::is_root() {
        bail!("a guest's file system is made by debootstrap, which needs root");
    }
    let parent = folder.parent().context("the cache has no folder")?;
    fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    let signals = interrupt::Deferred::new();
    let work = tempfile::Builder::new().prefix(".making-").tempdir_in(parent)?;
    let mirror = Mirror::find()?;
    let (tree, made) = (work.path().join("tree"), work.path().join("made"));
    eprintln!("make    a Debian guest in {} (some minutes, once)", folder.display());
    base(&mirror, &tree)?;
    interrupt::check()?;
    for kernel in Kernel::value_variants() {
        eprintln!("        kernel {}", kernel.name());
        kernel.put(&mirror, work.path(), &tree, &made.join(kernel.name()))?;
        interrupt::check()?;
    }
    settings(&tree)?;
    disk(&tree, &made.join("root.ext4"), "guest", 3072)?;
    drop(signals);
    interrupt::check()?;
    // All of it or nothing, whenever this run is ended.
    fs::rename(&made, folder)
        .with_context(|| format!("{} cannot be put in its place", folder.display()))
}

fn base(mirror: &Mirror, tree: &Path) -> Result<()> {
    let mut command = apart();
    command
        .args(["debootstrap", "--variant=minbase", &format!("--include={}", PACKAGES.join(","))])
        .arg(SUITE)
        .arg(tree)
        .arg(&mirror.main);
    if let Some(proxy) = proxy()? {
        command.env("http_proxy", &proxy).env("https_proxy", &proxy);
    }
    shell::read(&mut command).context("debootstrap could not make a Debian")?;
    // Only what finds the disk: the smaller, the sooner it is unpacked.
    let settings = tree.join("etc/initramfs-tools/initramfs.conf");
    let text = fs::read_to_string(&settings).context("the guest has no initramfs-tools")?;
    let text: String = text
        .lines()
        .map(|line| {
            if line.starts_with("MODULES=") { "MODULES=list\n".into() } else { format!("{line}\n") }
        })
        .collect();
    fs::write(&settings, text)?;
    fs::write(tree.join("etc/initramfs-tools/modules"), "virtio_pci\nvirtio_blk\next4\n")?;
    Ok(())
}

fn settings(tree: &Path) -> Result<()> {
    for (file, text) in [
        ("etc/hostname", "guest\n"),
        ("etc/hosts", "127.0.0.1 localhost guest\n::1 localhost\n"),
        ("etc/fstab", "/dev/vda / ext4 defaults 0 1\n"),
        // There is no network, and so nothing to fetch.
        ("etc/apt/sources.list", ""),
        ("etc/resolv.conf", ""),
    ] {
        fs::write(tree.join(file), text).with_context(|| format!("/{file} of the guest"))?;
    }
    // An empty one makes every boot the first, at which systemd enables what it finds.
    shell::read(&mut inside(tree, &["systemd-machine-id-setup"]))?;
    shell::read(inside(tree, &["systemctl", "mask"]).args(MASKED))?;
    shell::read(&mut inside(tree, &["apt-get", "clean"]))?;
    Ok(())
}

/// In a mount namespace of its own.
fn apart() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]);
    command
}

/// The one that apt goes through, where the environment names none.
fn proxy() -> Result<Option<String>> {
    if env::var_os("http_proxy").is_some() {
        return Ok(None);
    }
    let said =
        shell::read(Command::new("apt-config").args(["shell", "PROXY", "Acquire::http::Proxy"]))?;
    let proxy = said.trim().strip_prefix("PROXY='").and_then(|rest| rest.strip_suffix('\''));
    Ok(proxy.filter(|proxy| *proxy != "DIRECT").map(str::to_owned))
}
