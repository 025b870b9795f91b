//! The kernels that guests run: which of Debian's, and taking them out of their packages.
//!
//! Belongs here: what differs from kernel to kernel. Their scripts are not run: modules go into the
//! guest's file system, and a small initial RAM disk is made that finds the disk.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::{
    image,
    mirror::{Apt, Mirror},
};
use crate::shell;

/// One of Debian's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 12's own.
    #[value(name = "6.1")]
    Bookworm,
    /// Debian 13's, which Debian 12 offers as well.
    #[value(name = "6.12")]
    Trixie,
    /// The newest that Debian has for a release.
    Newest,
}

impl Kernel {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "6.1",
            Self::Trixie => "6.12",
            Self::Newest => "newest",
        }
    }

    /// Where it is, as an entry of sources.list(5), and the package that leads to it.
    fn source(self, mirror: &Mirror) -> (String, &'static str) {
        let (site, codename, package) = match self {
            Self::Bookworm => (&mirror.security, "bookworm-security", "linux-image-cloud-amd64"),
            Self::Trixie => (&mirror.security, "bookworm-security", "linux-image-6.12-cloud-amd64"),
            Self::Newest => (&mirror.main, "trixie-backports", "linux-image-cloud-amd64"),
        };
        (format!("deb {site} {codename} main\n"), package)
    }

    /// Puts its modules into the guest's tree, and it with its RAM disk into `to`.
    pub(super) fn put(self, mirror: &Mirror, work: &Path, tree: &Path, to: &Path) -> Result<()> {
        let (entry, package) = self.source(mirror);
        let work = work.join(self.name());
        let apt = Apt::new(work.join("apt"), &entry)?;
        // Newer kernels are spread over several packages.
        let begins = ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"];
        let packages = apt.depends(package, &begins)?;
        let (files, parts) = (work.join("files"), work.join("parts"));
        apt.download(&packages, &files)?;
        for file in files.read_dir()? {
            shell::read(Command::new("dpkg-deb").arg("-x").arg(file?.path()).arg(&parts))?;
        }
        let modules = modules(&parts).with_context(|| format!("{package} leads to no modules"))?;
        let release = modules.file_name().context("modules have no name")?.to_owned();
        let release = release.to_str().context("a kernel's name is not UTF-8")?;
        let image = [parts.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")]
            .into_iter()
            .find(|path| path.is_file())
            .with_context(|| format!("{package} leads to no kernel"))?;
        let config = [parts.join(format!("boot/config-{release}")), modules.join("config")]
            .into_iter()
            .find(|path| path.is_file())
            .with_context(|| format!("{package} leads to no configuration"))?;
        fs::create_dir_all(to)?;
        fs::copy(image, to.join("vmlinuz"))?;
        fs::write(to.join("release"), release)?;
        // The tool that makes RAM disks looks there for what the kernel can unpack.
        fs::copy(config, tree.join(format!("boot/config-{release}")))?;
        let place = tree.join("usr/lib/modules");
        fs::create_dir_all(&place)?;
        shell::read(Command::new("cp").arg("-a").arg(&modules).arg(&place))?;
        shell::read(&mut image::inside(tree, &["depmod", release]))?;
        let disk = "/boot/initrd";
        shell::read(&mut image::inside(tree, &["mkinitramfs", "-o", disk, release]))?;
        fs::rename(tree.join("boot/initrd"), to.join("initrd"))?;
        Ok(())
    }
}

/// A kernel as QEMU boots it.
pub(super) struct Boots {
    pub(super) image: PathBuf,
    pub(super) initrd: PathBuf,
    folder: PathBuf,
}

impl Boots {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { image: folder.join("vmlinuz"), initrd: folder.join("initrd"), folder }
    }

    /// As `uname -r` shows it.
    pub(super) fn release(&self) -> Result<String> {
        let path = self.folder.join("release");
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
    }
}

fn modules(parts: &Path) -> Result<PathBuf> {
    for place in ["lib/modules", "usr/lib/modules"] {
        let Ok(entries) = parts.join(place).read_dir() else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.join("kernel").is_dir() {
                return Ok(path);
            }
        }
    }
    anyhow::bail!("there are none")
}
