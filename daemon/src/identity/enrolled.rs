//! The programs, scripts and images that ops have enrolled for each agent, in a file that `chaperone agents
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

use crate::config::image_digest;

/// One enrolled file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) agent: String,
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
}

/// One enrolled image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrolledImage {
    pub(crate) agent: String,
    /// Its digest, with what it is made by: `sha256:…`.
    pub(crate) digest: String,
}

/// All that is enrolled.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    #[serde(default, rename = "enrolled")]
    pub(crate) files: Vec<Entry>,
    #[serde(default, rename = "image", skip_serializing_if = "Vec::is_empty")]
    pub(crate) images: Vec<EnrolledImage>,
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
pub(crate) fn read(path: &Path) -> Result<List, EnrolledError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(List::default()),
        Err(source) => return Err(EnrolledError::File { what: "read", path: path.into(), source }),
    };
    let wrong = |reason: String| EnrolledError::Wrong { path: path.into(), reason };
    let list: List = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if let Some(entry) = list.files.iter().find(|e| e.sha256.parse::<Digest>().is_err()) {
        return Err(wrong(format!("{:?} is no SHA-256", entry.sha256)));
    }
    if let Some(error) = list.images.iter().find_map(|i| image_digest(&i.digest).err()) {
        return Err(wrong(error));
    }
    Ok(list)
}

/// Changes the list, one at a time: the new file takes the place of the old at once.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut List)) -> Result<(), EnrolledError> {
    let failed = |source| EnrolledError::File { what: "write", path: path.into(), source };
    let open = |path: &Path| {
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o644).open(path).map_err(failed)
    };
    // Held until it is done; the list itself is another file each time.
    let lock = open(&path.with_extension("lock"))?;
    lock.lock().map_err(failed)?;
    let mut list = read(path)?;
    change(&mut list);
    let text = toml::to_string(&list)
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
    images: HashSet<(AgentName, Digest)>,
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
        let list = read(path)?;
        let all = list
            .files
            .into_iter()
            .filter_map(|entry| Some((AgentName(entry.agent.into()), entry.sha256.parse().ok()?)));
        let images = list.images.into_iter().filter_map(|image| {
            Some((AgentName(image.agent.into()), image_digest(&image.digest).ok()?))
        });
        Ok(Some(Self { all: all.collect(), images: images.collect(), mark }))
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len() + self.images.len()
    }

    pub(crate) fn has(&self, agent: &AgentName, digest: Digest) -> bool {
        self.all.contains(&(agent.clone(), digest))
    }

    /// Whether an image is, by any of its digests.
    pub(crate) fn has_image(&self, agent: &AgentName, digests: &[Digest]) -> bool {
        digests.iter().any(|digest| self.images.contains(&(agent.clone(), *digest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_change_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("enrolled.toml");
        assert_eq!(read(&path).expect("none"), List::default());
        let entry = |n: &str| Entry {
            agent: "cleaner".into(),
            path: "/opt/a".into(),
            sha256: n.repeat(64),
        };
        let set = |entries: Vec<Entry>| change(&path, |all| all.files = entries).expect("written");
        set(vec![entry("a")]);
        assert_eq!(read(&path).expect("read").files, [entry("a")]);
        let first = Enrolled::default().reread(&path).expect("read").expect("changed");
        let digest = |n: &str| n.repeat(64).parse().expect("a digest");
        assert!(first.has(&AgentName("cleaner".into()), digest("a")));
        assert!(!first.has(&AgentName("other".into()), digest("a")));
        assert!(first.reread(&path).expect("read").is_none());
        set(vec![entry("b")]);
        let second = first.reread(&path).expect("read").expect("changed");
        assert!(!second.has(&AgentName("cleaner".into()), digest("a")));
        let image =
            EnrolledImage { agent: "cleaner".into(), digest: format!("sha256:{}", "c".repeat(64)) };
        change(&path, |all| all.images.push(image)).expect("written");
        let third = second.reread(&path).expect("read").expect("changed");
        let cleaner = AgentName("cleaner".into());
        assert!(third.has_image(&cleaner, &[digest("a"), digest("c")]));
        assert!(!third.has_image(&cleaner, &[digest("b")]), "that is a program");
        assert!(!third.has(&cleaner, digest("c")), "that is an image");
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
                    change(path, |all| all.files.push(entry)).expect("written");
                });
            }
        });
        assert_eq!(read(&path).expect("read").files.len(), 8);
    }
}
