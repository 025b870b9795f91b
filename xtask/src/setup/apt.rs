//! Debian's packages: which are missing, and installing them without side effects.
//!
//! Belongs here: dpkg, apt, and undoing what packages do beside being there (clusters made,
//! services started and enabled). Not which packages are wanted.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{installing, satisfied};
use crate::{interrupt, shell};

/// Each file that set-up puts down for a while begins with this, so that one that a killed run
/// left behind is known for ours.
const MARK: &str = "# put here by `cargo xtask setup` while it installs packages";

/// Installs what is missing of `wanted`.
pub(super) fn ensure(wanted: &[&str]) -> Result<()> {
    if !shell::on_path("dpkg-query") {
        bail!(
            "set-up knows Debian only; elsewhere, install what these packages hold: {}",
            wanted.join(" ")
        );
    }
    let installed = installed()?;
    let (present, missing): (Vec<&str>, Vec<&str>) =
        wanted.iter().partition(|name| installed.contains(**name));
    if !present.is_empty() {
        satisfied(&format!("packages: {}", present.join(" ")));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    refuse_conflicts(&missing, &installed)?;
    if !shell::is_root() {
        bail!(
            "these packages are missing, and installing them needs root: {list}\n  \
             apt-get update && apt-get install --no-install-recommends {list}\n\
             (or run this command as root, which also keeps their services from starting)"
        );
    }
    installing(&format!("packages: {list}"));
    install(&missing, &installed)
}

fn install(missing: &[&str], before: &HashSet<String>) -> Result<()> {
    let signals = interrupt::Deferred::new();
    let temporary = [
        Temporary::put("/usr/sbin/policy-rc.d", &format!("#!/bin/sh\n{MARK}\nexit 101\n"), 0o755)?,
        Temporary::put(
            "/etc/postgresql-common/createcluster.d/chaperone-xtask.conf",
            &format!("{MARK}\ncreate_main_cluster = false\n"),
            0o644,
        )?,
    ];
    // The lists may be absent on a fresh machine. Where they cannot be had, old ones may do.
    if let Err(error) = shell::read(apt_get().args(["-q", "update"])) {
        eprintln!("        going on with the lists that are here: {error:#}");
    }
    let mut command = apt_get();
    command.args(["-q", "-y", "install", "--no-install-recommends", "--no-remove"]);
    // Settings that an operator changed stay as they are.
    command.args(["-o", "Dpkg::Options::=--force-confold"]).args(missing);
    let result = shell::read(&mut command);
    // Also where it failed: what was installed before the failure is here all the same.
    let disabled = disable_new_services(before);
    drop(temporary);
    drop(signals);
    interrupt::check()?;
    result.context("the packages could not be installed")?;
    disabled
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn installed() -> Result<HashSet<String>> {
    let text = shell::read(Command::new("dpkg-query").args([
        "-W",
        "-f",
        "${db:Status-Status} ${Package}\\n",
    ]))?;
    Ok(text.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect())
}

/// apt would take the developer's own toolchain away to make room for this one.
fn refuse_conflicts(missing: &[&str], installed: &HashSet<String>) -> Result<()> {
    if !missing.contains(&"rustc-web") {
        return Ok(());
    }
    if let Some(other) =
        ["rustup", "rustc", "rustc-mozilla"].into_iter().find(|name| installed.contains(*name))
    {
        bail!(
            "no compiler here can make BPF, and Debian's rustc-web cannot be installed beside its package {other}: \
             either remove {other}, or have a nightly with the sources: \
             rustup toolchain install nightly --component rust-src"
        );
    }
    Ok(())
}

/// Stops and disables what packages that were not here `before` have brought.
fn disable_new_services(before: &HashSet<String>) -> Result<()> {
    let now = installed()?;
    let mut services = Vec::new();
    let mut scripts = Vec::new();
    for package in now.difference(before) {
        let files =
            shell::read(Command::new("dpkg-query").args(["-L", package])).unwrap_or_default();
        services.extend(files.lines().filter_map(unit));
        scripts.extend(
            files.lines().filter_map(|file| file.strip_prefix("/etc/init.d/")).map(str::to_owned),
        );
    }
    if shell::on_path("systemctl") {
        // `--now` needs a systemd that runs; where none does, nothing was started.
        let running = Path::new("/run/systemd/system").is_dir();
        for unit in services {
            let mut command = Command::new("systemctl");
            command.arg("disable").args(running.then_some("--now")).arg(&unit);
            disable(&mut command, &unit);
        }
    }
    if shell::on_path("update-rc.d") {
        for script in scripts {
            disable(Command::new("update-rc.d").args([&script, "disable"]), &script);
        }
    }
    Ok(())
}

fn disable(command: &mut Command, what: &str) {
    match shell::read(command) {
        Ok(_) => eprintln!("        {what} is not enabled"),
        Err(error) => eprintln!("        {what} may be enabled still: {error:#}"),
    }
}

/// The name of a unit that can be enabled, if `file` is one's. A template has no instance to stop.
fn unit(file: &str) -> Option<String> {
    let path = Path::new(file);
    if !path.parent()?.ends_with("systemd/system")
        || !path.extension().is_some_and(|e| e == "service" || e == "socket" || e == "timer")
    {
        return None;
    }
    let name = path.file_name()?.to_str()?;
    (!name.contains('@')).then(|| name.to_owned())
}

/// A file that is there for as long as this value, together with its folder.
struct Temporary {
    file: Option<PathBuf>,
    folder: Option<PathBuf>,
}

impl Temporary {
    /// One that somebody else put there stays as it is.
    fn put(file: &str, text: &str, mode: u32) -> Result<Self> {
        let file = PathBuf::from(file);
        if file.exists() && !fs::read_to_string(&file).is_ok_and(|found| found.contains(MARK)) {
            return Ok(Self { file: None, folder: None });
        }
        let mut this = Self { file: Some(file.clone()), folder: None };
        let place = || format!("{} cannot be written", file.display());
        if let Some(folder) = file.parent().filter(|folder| !folder.exists()) {
            fs::create_dir_all(folder).with_context(place)?;
            this.folder = Some(folder.to_owned());
        }
        fs::write(&file, text).with_context(place)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).with_context(place)?;
        Ok(this)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && let Err(error) = fs::remove_file(file)
        {
            eprintln!("        {} could not be removed: {error}", file.display());
        }
        if let Some(folder) = &self.folder {
            // Not where the package has put files there since: it is the package's folder then.
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn units_are_told_from_templates_and_other_files() {
        assert_eq!(unit("/lib/systemd/system/haproxy.service").as_deref(), Some("haproxy.service"));
        assert_eq!(unit("/usr/lib/systemd/system/x.socket").as_deref(), Some("x.socket"));
        assert_eq!(unit("/lib/systemd/system/postgresql@.service"), None);
        assert_eq!(unit("/lib/systemd/system/postgresql.service.d/x.conf"), None);
        assert_eq!(unit("/usr/share/doc/haproxy.service"), None);
    }
}
