//! The Debian package: what is in it, and installing, upgrading, removing and purging it, in a folder
//! that stands for a host's root.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

fn package() -> Result<PathBuf> {
    std::env::var_os("CHAPERONE_PACKAGE")
        .map(PathBuf::from)
        .context("CHAPERONE_PACKAGE is not set: run the tests by `cargo xtask test`")
}

/// What it prints, on both ways.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let text = [output.stdout, output.stderr].map(|all| String::from_utf8_lossy(&all).into_owned());
    let text = text.concat();
    if !output.status.success() {
        bail!("{command:?}: {text}");
    }
    Ok(text)
}

fn unpacked() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    run(Command::new("dpkg-deb").arg("-x").arg(package()?).arg(folder.path()))?;
    Ok(folder)
}

const UNITS: [&str; 4] =
    ["chaperone.service", "chaperone-load.service", "chaperone.socket", "agents.slice"];

/// The units as the service manager would find them on a host that has the program.
fn units() -> Result<tempfile::TempDir> {
    let tree = unpacked()?;
    let binary = tree.path().join("usr/bin/chaperone");
    for unit in UNITS {
        let from = tree.path().join("usr/lib/systemd/system").join(unit);
        let text = fs::read_to_string(from)?;
        let text = text.replace("/usr/bin/chaperone", &binary.display().to_string());
        fs::write(tree.path().join(unit), text)?;
    }
    Ok(tree)
}

#[test]
fn the_units_are_good_and_closed_as_far_as_is_said() -> Result<()> {
    let units = units()?;
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).current_dir(units.path());
    verify.args(UNITS.map(|unit| format!("./{unit}")));
    assert_eq!(run(&mut verify)?, "", "nothing to complain of");
    // In tenths. What loads needs more, for a moment.
    for (unit, most) in [("chaperone.service", "30"), ("chaperone-load.service", "58")] {
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=yes", "--no-pager", "--threshold", most]);
        run(security.arg(units.path().join(unit)))?;
    }
    Ok(())
}

#[test]
fn the_packages_files_are_roots_and_where_they_belong() -> Result<()> {
    let list = run(Command::new("dpkg-deb").arg("--contents").arg(package()?))?;
    let mut files = 0;
    for line in list.lines() {
        assert!(line.contains(" root/root "), "{line}");
        // Nobody else may write.
        let mode = line.split(' ').next().unwrap_or_default();
        assert!(mode.get(5..6) == Some("-") && mode.get(8..9) == Some("-"), "{line}");
        files += usize::from(mode.starts_with('-'));
    }
    assert!(files > 20, "{list}");
    let tree = unpacked()?;
    for file in [
        "usr/bin/chaperone",
        "usr/lib/sysusers.d/chaperone.conf",
        "usr/lib/tmpfiles.d/chaperone.conf",
        "usr/share/man/man1/chaperone.1.gz",
        "usr/share/man/man1/chaperone-daemon.1.gz",
        "usr/share/bash-completion/completions/chaperone",
        "usr/share/doc/chaperone/operators.md",
        "usr/share/doc/chaperone/copyright",
        "usr/share/doc/chaperone/changelog.Debian.gz",
        "usr/share/lintian/overrides/chaperone",
    ] {
        assert!(tree.path().join(file).is_file(), "{file}");
    }
    // Secrets may come to be in it.
    let config = tree.path().join("etc/chaperone/chaperone.toml");
    assert_eq!(fs::metadata(&config)?.permissions().mode() & 0o777, 0o640);
    let binary = tree.path().join("usr/bin/chaperone");
    let said = run(Command::new(binary).args(["check", "--config"]).arg(config))?;
    assert!(said.contains("is good"), "{said}");
    Ok(())
}

/// The binary is linked with them, and their licences ask for it.
#[test]
fn the_licences_of_the_libraries_in_the_binary_are_in_the_package() -> Result<()> {
    let tree = unpacked()?;
    let file = tree.path().join("usr/share/doc/chaperone/third-party-licences.gz");
    let text = run(Command::new("zcat").arg(file))?;
    // Crates, and what is in C within one of them.
    for name in ["rustls", "aws-lc-sys", "== PostgreSQL", "== libpg_query", "Yann Collet"] {
        assert!(text.contains(name), "{name}");
    }
    Ok(())
}

/// A host's root, as far as dpkg and the package's scripts need one.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Result<Self> {
        let root = tempfile::tempdir()?;
        for folder in ["var/lib/dpkg/updates", "var/lib/dpkg/info", "etc"] {
            fs::create_dir_all(root.path().join(folder))?;
        }
        for file in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
            fs::write(root.path().join(file), "")?;
        }
        fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(root.path().join("etc/group"), "root:x:0:\n")?;
        Ok(Self(root))
    }

    fn dpkg(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("dpkg");
        command.arg("--root").arg(self.0.path());
        // The scripts see where the root is, and what they need is outside of it.
        command.args(["--force-script-chrootless", "--force-depends"]).args(arguments);
        run(&mut command)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// The id of a group of this root's.
    fn group(&self, name: &str) -> Result<u32> {
        let groups = fs::read_to_string(self.path("etc/group"))?;
        let line = groups.lines().find_map(|line| line.strip_prefix(&format!("{name}:x:")));
        Ok(line.context("no such group")?.split(':').next().context("no id")?.parse()?)
    }
}

fn gid_and_mode(path: &Path) -> Result<(u32, u32)> {
    let about = fs::metadata(path)?;
    Ok((about.gid(), about.permissions().mode() & 0o7777))
}

#[test]
fn installing_makes_groups_and_folders_and_enables_nothing() -> Result<()> {
    let root = Root::new()?;
    let package = package()?.display().to_string();
    root.dpkg(&["--install", &package])?;
    let run = gid_and_mode(&root.path("run/chaperone"))?;
    assert_eq!(run, (root.group("chaperone")?, 0o755));
    let log = gid_and_mode(&root.path("var/lib/chaperone"))?;
    assert_eq!(log, (root.group("chaperone-audit")?, 0o2750));
    for wants in ["etc/systemd", "var/lib/systemd"] {
        assert!(!root.path(wants).exists(), "{wants}: nothing is enabled");
    }
    Ok(())
}

#[test]
fn upgrading_keeps_what_ops_wrote_and_purging_keeps_the_log_alone() -> Result<()> {
    let root = Root::new()?;
    let package = package()?.display().to_string();
    root.dpkg(&["--install", &package])?;
    let config = root.path("etc/chaperone/chaperone.toml");
    fs::write(&config, "# ours\n")?;
    root.dpkg(&["--install", &package])?;
    assert_eq!(fs::read_to_string(&config)?, "# ours\n");

    let state = root.path("var/lib/chaperone");
    fs::create_dir(state.join("authority"))?;
    for file in ["authority/ca-key.pem", "enrolled.toml", "log-2026-11.sqlite", "log.sqlite.key"] {
        fs::write(state.join(file), "x")?;
    }
    root.dpkg(&["--remove", "chaperone"])?;
    assert!(config.exists() && !root.path("usr/bin/chaperone").exists());
    let said = root.dpkg(&["--purge", "chaperone"])?;
    assert!(said.contains("the log of what agents did stays"), "{said}");
    assert!(!config.exists() && !root.path("etc/chaperone").exists());
    let mut left: Vec<_> = fs::read_dir(&state)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    left.sort();
    assert_eq!(left, ["log-2026-11.sqlite", "log.sqlite.key"]);

    // Where there is no log nothing is left.
    let root = Root::new()?;
    root.dpkg(&["--install", &package])?;
    root.dpkg(&["--purge", "chaperone"])?;
    assert!(!root.path("var/lib/chaperone").exists());
    Ok(())
}
