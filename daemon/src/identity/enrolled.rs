//! The programs and scripts that ops have enrolled for each agent, in a file that `chaperone agents
//! enroll` writes and the daemon reads again when it changes.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use chaperone_model::{AgentName, Digest};
use serde::{Deserialize, Serialize};

/// One enrolled file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) agent: String,
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    enrolled: Vec<Entry>,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolledError {
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is no list of enrolled files: {reason}", path.display())]
    Wrong { path: PathBuf, reason: String },
}

/// All entries. A file that is not there has none.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, EnrolledError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(EnrolledError::File { what: "read", path: path.into(), source }),
    };
    let wrong = |reason: String| EnrolledError::Wrong { path: path.into(), reason };
    let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if let Some(entry) = file.enrolled.iter().find(|e| e.sha256.parse::<Digest>().is_err()) {
        return Err(wrong(format!("{:?} is no SHA-256", entry.sha256)));
    }
    Ok(file.enrolled)
}

/// Changes the list, one at a time: the new file takes the place of the old at once.
pub(crate) fn change(
    path: &Path,
    change: impl FnOnce(&mut Vec<Entry>),
) -> Result<(), EnrolledError> {
    let failed = |source| EnrolledError::File { what: "write", path: path.into(), source };
    let open = |path: &Path| {
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o644).open(path).map_err(failed)
    };
    // Held until it is done; the list itself is another file each time.
    let lock = open(&path.with_extension("lock"))?;
    lock.lock().map_err(failed)?;
    let mut entries = read(path)?;
    change(&mut entries);
    let text = toml::to_string(&File { enrolled: entries })
        .map_err(|error| EnrolledError::Wrong { path: path.into(), reason: error.to_string() })?;
    let draft = path.with_extension("new");
    let mut file = open(&draft)?;
    let head = "# Written by `chaperone agents enroll`.\n";
    file.write_all(head.as_bytes()).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)
}

/// For look-ups: agent and hash.
#[derive(Debug, Default)]
pub(crate) struct Enrolled {
    all: HashSet<(AgentName, Digest)>,
    /// Of the file: inode, size, time of change.
    mark: Option<(u64, u64, i64, i64)>,
}

impl Enrolled {
    /// Reads the file again where it changed; `None` where it did not.
    pub(crate) fn reread(&self, path: &Path) -> Result<Option<Self>, EnrolledError> {
        let mark = fs::metadata(path).ok().map(|m| (m.ino(), m.size(), m.ctime(), m.ctime_nsec()));
        if mark == self.mark {
            return Ok(None);
        }
        let entries = read(path)?;
        let all = entries
            .into_iter()
            .filter_map(|entry| Some((AgentName(entry.agent.into()), entry.sha256.parse().ok()?)));
        Ok(Some(Self { all: all.collect(), mark }))
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn has(&self, agent: &AgentName, digest: Digest) -> bool {
        self.all.contains(&(agent.clone(), digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_change_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("enrolled.toml");
        assert_eq!(read(&path).expect("none"), []);
        let entry = |n: &str| Entry {
            agent: "cleaner".into(),
            path: "/opt/a".into(),
            sha256: n.repeat(64),
        };
        let set = |entries: Vec<Entry>| change(&path, |all| *all = entries).expect("written");
        set(vec![entry("a")]);
        assert_eq!(read(&path).expect("read"), [entry("a")]);
        let first = Enrolled::default().reread(&path).expect("read").expect("changed");
        let digest = |n: &str| n.repeat(64).parse().expect("a digest");
        assert!(first.has(&AgentName("cleaner".into()), digest("a")));
        assert!(!first.has(&AgentName("other".into()), digest("a")));
        assert!(first.reread(&path).expect("read").is_none());
        set(vec![entry("b")]);
        let second = first.reread(&path).expect("read").expect("changed");
        assert!(!second.has(&AgentName("cleaner".into()), digest("a")));
        fs::write(&path, "enrolled = 3").expect("written");
        assert!(second.reread(&path).is_err());
    }

    #[test]
    fn changes_at_the_same_time_are_all_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("enrolled.toml");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let entry = Entry {
                        agent: "a".into(),
                        path: format!("/{number}").into(),
                        sha256: "a".repeat(64),
                    };
                    change(path, |all| all.push(entry)).expect("written");
                });
            }
        });
        assert_eq!(read(&path).expect("read").len(), 8);
    }
}
