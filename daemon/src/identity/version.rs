//! Which version of an agent runs, by what the configuration says of how to know it.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chaperone_model::{Digest, Process, Version, VersionSource};

use super::{proc, tracker::Id};
use crate::config::VersionRule;

/// Longest version that is kept, in bytes.
const LONGEST: u64 = 128;
/// How long an answer of the package database is believed.
const FRESH: Duration = Duration::from_secs(30);

/// Answers of the package database.
#[derive(Debug, Default)]
pub(crate) struct Packages(Mutex<HashMap<String, (Instant, Option<String>)>>);

/// The version. `uids` are the users whom the agent's processes run as, `first` is its first
/// process.
pub(crate) async fn of(
    rule: &VersionRule,
    lineage: &[std::sync::Arc<Process>],
    first: Id,
    packages: &Packages,
) -> Option<Version> {
    let version = |text: String, source| {
        let text: String = text.trim().chars().filter(|c| !c.is_control()).take(128).collect();
        (!text.is_empty()).then_some(Version { text, source })
    };
    match rule {
        VersionRule::Literal(text) => version(text.clone(), VersionSource::Configuration),
        VersionRule::Digest(known) => {
            let digest = digests(lineage).find_map(|digest| known.get(digest))?;
            version(digest.clone(), VersionSource::Digest)
        }
        VersionRule::File(path) => {
            let uids: Vec<u32> = lineage.iter().map(|process| process.uid).collect();
            version(read(path, &uids)?, VersionSource::File)
        }
        VersionRule::Package(name) => version(packages.ask(name).await?, VersionSource::Package),
        VersionRule::Environment(name) => {
            version(proc::variable(first, name).await?, VersionSource::Said)
        }
    }
}

/// The hashes of a lineage, scripts before the interpreters that run them.
pub(crate) fn digests(lineage: &[std::sync::Arc<Process>]) -> impl Iterator<Item = &Digest> {
    lineage.iter().flat_map(|process| {
        let script = process.script.as_ref().and_then(|script| script.digest.as_ref());
        script.into_iter().chain(process.binary.as_ref())
    })
}

/// A file counts where the agent cannot have written it.
fn read(path: &Path, uids: &[u32]) -> Option<String> {
    let why = |reason: &str| tracing::warn!(path = %path.display(), reason, "no version");
    let file = File::open(path).inspect_err(|error| why(&error.to_string())).ok()?;
    let about = file.metadata().ok()?;
    if !about.is_file() || uids.contains(&about.uid()) || about.permissions().mode() & 0o022 != 0 {
        why("the agent could have written it");
        return None;
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    text.lines().next().map(str::to_owned)
}

impl Packages {
    async fn ask(&self, name: &str) -> Option<String> {
        if let Some((at, version)) = self.lock().get(name)
            && at.elapsed() < FRESH
        {
            return version.clone();
        }
        let asked = name.to_owned();
        let version = tokio::task::spawn_blocking(move || installed(&asked)).await.ok()?;
        if version.is_none() {
            tracing::warn!(package = name, "the package database knows no version");
        }
        self.lock().insert(name.to_owned(), (Instant::now(), version.clone()));
        version
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Option<String>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What dpkg, else rpm, says is installed.
fn installed(package: &str) -> Option<String> {
    let ask = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let debian = ask(
        "dpkg-query",
        &["--show", "--showformat=${db:Status-Status} ${Version}", "--", package],
    );
    if let Some(version) = debian.as_deref().and_then(|said| said.strip_prefix("installed ")) {
        return Some(version.to_owned());
    }
    ask("rpm", &["--query", "--queryformat=%{VERSION}-%{RELEASE}", "--", package])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn p3_a_version_that_the_agent_could_have_written_does_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("VERSION");
        fs::write(&path, "1.4.2\nmore\n").expect("written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("set");
        let owner = fs::metadata(&path).expect("there").uid();
        assert_eq!(read(&path, &[owner + 1]).as_deref(), Some("1.4.2"));
        assert_eq!(read(&path, &[owner + 1, owner]), None);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("set");
        assert_eq!(read(&path, &[owner + 1]), None);
    }

    #[test]
    fn the_package_database_is_asked() {
        if Path::new("/usr/bin/dpkg-query").exists() {
            assert!(installed("dpkg").is_some_and(|version| version.starts_with('1')));
        }
        assert_eq!(installed("a-package-that-nobody-made"), None);
    }
}
