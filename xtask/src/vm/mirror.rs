//! Debian's mirror: the one that this machine's own apt uses, and apt with lists of its own.
//!
//! Belongs here: where packages come from. Which ones is for the callers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::shell;

/// Where Debian's packages are fetched.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) main: String,
    /// For security updates.
    pub(super) security: String,
}

impl Mirror {
    /// The one that this machine's apt was told of.
    pub(super) fn find() -> Result<Self> {
        if let Some(known) = Self::among(&targets()?) {
            return Ok(known);
        }
        // Whose a source is stands in its lists, which may never have been fetched.
        shell::read(Command::new("apt-get").args(["-q", "update"]))?;
        Self::among(&targets()?).context(
            "this machine's apt knows no mirror of Debian and of its security updates, from which a guest could be made: \
             add them to its sources",
        )
    }

    /// `SITE ORIGIN LABEL` a line.
    fn among(targets: &str) -> Option<Self> {
        let site = |label: &str| {
            targets.lines().find_map(|line| {
                let mut words = line.split(' ');
                let site = words.next()?;
                (words.next() == Some("Debian") && words.next() == Some(label))
                    .then(|| site.trim_end_matches('/').to_owned())
            })
        };
        Some(Self { main: site("Debian")?, security: site("Debian-Security")? })
    }
}

/// All that apt's sources lead to.
fn targets() -> Result<String> {
    shell::read(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(SITE) $(ORIGIN) $(LABEL)",
        "Created-By: Packages",
    ]))
}

/// apt with lists of its own, in a folder of its own.
pub(super) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// `entries` are those of sources.list(5).
    pub(super) fn new(folder: PathBuf, entries: &str) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("sources.list"), entries)?;
        let apt = Self { folder };
        shell::read(apt.command("apt-get").args(["-q", "update"]))
            .context("the lists of Debian's kernels could not be fetched")?;
        Ok(apt)
    }

    /// The real packages that this one depends on whose names begin with one of these.
    pub(super) fn depends(&self, package: &str, begins: &[&str]) -> Result<Vec<String>> {
        let out = shell::read(self.command("apt-cache").args([
            "depends",
            "--recurse",
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
            package,
        ]))?;
        Ok(out
            .lines()
            .filter(|line| begins.iter().any(|head| line.starts_with(head)))
            .map(str::to_owned)
            .collect())
    }

    /// Downloads these packages into a folder.
    pub(super) fn download(&self, packages: &[String], to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        let mut command = self.command("apt-get");
        command.args(["-q", "download"]).args(packages).current_dir(to);
        shell::read(&mut command).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, place) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
        ] {
            command.args(["-o", &format!("{option}={}", self.folder.join(place).display())]);
        }
        command
            .args(["-o", "Dir::Etc::sourceparts=/dev/null", "-o", "APT::Sandbox::User=root"])
            // Only what a machine of this kind has.
            .args(["-o", "APT::Architecture=amd64", "-o", "Acquire::Languages=none"])
            .args(["-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"])
            .env("LC_ALL", "C");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_apts_sources() {
        let targets = "http://other/x Other Other\nhttp://a/debian/ Debian Debian\n\
            http://b/debian Debian Debian Backports\nhttp://a/security Debian Debian-Security\n";
        let want = Mirror { main: "http://a/debian".into(), security: "http://a/security".into() };
        assert_eq!(Mirror::among(targets), Some(want));
        assert_eq!(Mirror::among("http://a/ubuntu Ubuntu Ubuntu\n"), None);
    }
}
