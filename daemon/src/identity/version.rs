//! Which version of an agent runs, by what the configuration says of how to know it.

use std::{
    collections::HashMap,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chaperone_model::{Digest, Process, Version, VersionSource};

use super::{image, kept, proc, tracker::Id};
use crate::config::VersionRule;

/// Longest version that is kept, in bytes.
const LONGEST: u64 = 128;
/// How long an answer of the package database is believed.
const FRESH: Duration = Duration::from_secs(30);

/// Answers of the package database.
#[derive(Debug, Default)]
pub(crate) struct Packages(Mutex<HashMap<String, (Instant, Option<String>)>>);

/// The version, or why it is not known. `first` is the agent's first process.
pub(crate) async fn of(
    rule: &VersionRule,
    lineage: &[Arc<Process>],
    first: Id,
    image: &image::Found,
    packages: &Packages,
) -> Result<Version, String> {
    let (text, source) = match rule {
        VersionRule::Literal(text) => (text.clone(), VersionSource::Configuration),
        VersionRule::Digest(known) => {
            let found =
                digests(lineage).find_map(|(digest, source)| Some((known.get(digest)?, source)));
            let (text, source) = found.ok_or("no program of the lineage has one of its hashes")?;
            (text.clone(), source)
        }
        VersionRule::Image(known) => {
            let image = image.as_ref().map_err(Clone::clone)?;
            let found = image.digests().iter().find_map(|digest| known.get(digest));
            let none = || format!("the container's image sha256:{} is none of those", image.digest);
            (found.ok_or_else(none)?.clone(), VersionSource::Image)
        }
        VersionRule::File(path) => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || read(&path)).await;
            (read.map_err(|error| error.to_string())??, VersionSource::File)
        }
        VersionRule::Package(name) => {
            let version = packages.ask(name).await;
            let why = || format!("the package database knows no version of {name}");
            (version.ok_or_else(why)?, VersionSource::Package)
        }
        VersionRule::Environment(name) => {
            let version = proc::variable(first, name).await;
            let why = || format!("the agent's first process has no variable {name}, or is gone");
            (version.ok_or_else(why)?, VersionSource::Said)
        }
    };
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(128).collect();
    if text.is_empty() { Err("it is empty".into()) } else { Ok(Version { text, source }) }
}

/// The hashes of a lineage with what they are of, scripts before the interpreters that run them.
pub(crate) fn digests(lineage: &[Arc<Process>]) -> impl Iterator<Item = (&Digest, VersionSource)> {
    lineage.iter().flat_map(|process| {
        let script = process.script.as_ref().and_then(|script| script.digest.as_ref());
        let script = script.map(|digest| (digest, VersionSource::Script));
        let program = process.binary.as_ref().map(|digest| (digest, VersionSource::Digest));
        script.into_iter().chain(program)
    })
}

/// The first line of a file, where nobody but root, or who runs the daemon, can have written it or
/// put another in its place.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let file = kept::open(path)?.ok_or_else(|| format!("there is no {}", path.display()))?;
    let mut text = String::new();
    let read = file.take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
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
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn p3_a_version_that_the_agent_could_have_written_does_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("VERSION");
        let set = |path: &Path, mode| {
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
        };
        fs::write(&path, "1.4.2\nmore\n").expect("written");
        set(&path, 0o644);
        assert_eq!(read(&path).as_deref(), Ok("1.4.2"));
        set(&path, 0o666);
        assert!(read(&path).is_err(), "others may write it");
        set(&path, 0o644);
        set(folder.path(), 0o777);
        assert!(read(&path).is_err(), "others may put another in its place");
        set(folder.path(), 0o755);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("made");
        assert!(read(&link).is_err(), "whose word a link is cannot be told");
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(64001), None).expect("given away");
            assert!(read(&path).is_err(), "it is somebody else's");
        }
    }

    #[test]
    fn the_package_database_is_asked() {
        if Path::new("/usr/bin/dpkg-query").exists() {
            assert!(installed("dpkg").is_some_and(|version| version.starts_with('1')));
        }
        assert_eq!(installed("a-package-that-nobody-made"), None);
    }
}
