//! Tests in virtual machines: the package under a whole systemd on Debian's kernels, one count at
//! the end.
//!
//! Belongs here: which kernels, and what a guest is given. How its images are made is in `image` and
//! `kernels`; what is tested, in `tests/vm`.

mod image;
mod kernels;
mod mirror;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::kernels::Kernel;
use crate::{
    build, deb,
    setup::{self, Group},
    shell,
    test::{self, Count},
};

/// On which kernels, and how much.
#[derive(Args)]
pub(crate) struct Options {
    /// Only on these kernels
    #[arg(long = "kernel", value_enum, value_delimiter = ',', default_values_t = Kernel::value_variants().to_vec())]
    kernels: Vec<Kernel>,
    /// Only what takes a few minutes
    #[arg(long)]
    quick: bool,
    /// Make the guest's images anew: with Debian's newest packages and kernels
    #[arg(long)]
    rebuild: bool,
    /// Minutes for each kernel
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Package this binary, which was built before
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Only the tests whose name contains one of these, and what they build on
    filters: Vec<String>,
}

/// Runs them. The last line printed is the count.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if env::consts::ARCH != "x86_64" {
        bail!("guests are of x86_64, and so must this machine be: their programs are built here");
    }
    setup::run(Group::Vm)?;
    let images = image::ensure(options.rebuild)?;
    let kept = shell::root().join("target/vm");
    let payload = payload(options.binary.as_deref(), &kept.join("payload"))?;
    let runner = build::programs()?.join("vm");
    let mut count = Count::default();
    for kernel in &options.kernels {
        let (name, boots) = (kernel.name(), images.kernel(*kernel));
        println!("on kernel {name} ({}):", boots.release()?);
        let mut command = Command::new(&runner);
        command
            .arg("--kernel")
            .arg(&boots.image)
            .arg("--initrd")
            .arg(&boots.initrd)
            .arg("--root")
            .arg(&images.root)
            .arg("--payload")
            .arg(&payload)
            .arg("--keep")
            .arg(kept.join(name))
            .args(["--limit", &options.limit.to_string()])
            .args(options.quick.then_some("--quick"))
            .args(&options.filters);
        count += test::counted(&mut command)?;
    }
    Ok(count.report())
}

/// A disk with the package, a newer one, and the programs of the host tests.
fn payload(binary: Option<&Path>, work: &Path) -> Result<PathBuf> {
    build::kernel_side()?;
    let daemon = binary.map_or_else(|| build::daemon(true), |binary| Ok(binary.to_owned()))?;
    let tests = build::host_tests()?;
    // In one place, so that nothing piles up where a run is ended amid it.
    if work.exists() {
        fs::remove_dir_all(work)
            .with_context(|| format!("{} cannot be removed", work.display()))?;
    }
    let folder = work.join("files");
    fs::create_dir_all(&folder)?;
    let package = deb::make(&daemon, "1", work)?;
    newer(&package, work, &folder.join("newer.deb"))?;
    fs::rename(package, folder.join("chaperone.deb"))?;
    for (from, name) in [(daemon, "chaperone"), (tests, "host-tests")] {
        fs::copy(&from, folder.join(name))
            .with_context(|| format!("{} cannot be copied", from.display()))?;
    }
    let disk = work.join("payload.ext4");
    image::disk(&folder, &disk, "payload", 1024)?;
    Ok(disk)
}

/// The same package under a higher version. Not compressed: that takes longer than all the rest.
fn newer(package: &Path, work: &Path, to: &Path) -> Result<()> {
    let parts = work.join("newer");
    shell::read(Command::new("dpkg-deb").arg("-R").arg(package).arg(&parts))?;
    let control = parts.join("DEBIAN/control");
    let text = fs::read_to_string(&control).context("the package has no control file")?;
    fs::write(&control, with_higher_version(&text))?;
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Znone", "--build"]).arg(&parts).arg(to);
    shell::read(&mut build).map(drop)
}

fn with_higher_version(control: &str) -> String {
    let line = |line: &str| match line.strip_prefix("Version:") {
        Some(version) => format!("Version: {}+newer\n", version.trim()),
        None => format!("{line}\n"),
    };
    control.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_made_higher_and_nothing_else() {
        let control = "Package: chaperone\nVersion: 0.1.0-1\nDepends: x (>= 1)\n";
        let want = "Package: chaperone\nVersion: 0.1.0-1+newer\nDepends: x (>= 1)\n";
        assert_eq!(with_higher_version(control), want);
    }
}
