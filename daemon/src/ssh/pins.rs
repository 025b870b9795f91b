//! Host keys that were believed when they were first seen, of targets whose entry says so: kept in the
//! format of `known_hosts`, in a file beside the authority.
//!
//! Does not belong here: keys that operations name (`chaperone_wire::ssh::Known`).

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use chaperone_wire::ssh::{Known, PublicKey};

use super::authority::text;

/// See the module's comment.
pub(crate) struct Pins {
    path: PathBuf,
    /// Keys as they stand in files, by the name under which they are pinned.
    known: Mutex<HashMap<String, String>>,
}

impl Pins {
    /// Those of this folder.
    pub(super) fn open(folder: &Path) -> Result<Self, io::Error> {
        let path = folder.join("ssh_first_use");
        let lines = match fs::read_to_string(&path) {
            Ok(lines) => lines,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let damaged = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        // One that cannot be read must not be pinned anew by whoever answers first.
        if let Some(line) = Known::default().add_file(&lines).map_err(damaged)?.pop() {
            return Err(damaged(line));
        }
        let entry = |line: &str| {
            line.split_once(' ').map(|(name, key)| (name.to_owned(), key.trim().to_owned()))
        };
        let known = lines.lines().filter(|line| !line.starts_with('#')).filter_map(entry).collect();
        Ok(Self { path, known: Mutex::new(known) })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The key that is pinned for a server.
    pub(super) fn of(&self, name: &str) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Pins a server's key, on the disk before anything else is said to it. Answers whether it was not
    /// pinned before.
    ///
    /// # Errors
    /// A sentence: another one was pinned meanwhile, or the file cannot be written.
    pub(super) fn pin(&self, name: &str, key: &PublicKey) -> Result<bool, String> {
        let key = text(key);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(name) {
            Some(pinned) if *pinned == key => return Ok(false),
            Some(_) => return Err("another host key was pinned at the same time".into()),
            None => {}
        }
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
            file.write_all(format!("{name} {key}\n").as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| {
            format!("its host key cannot be pinned in {}: {error}", self.path.display())
        })?;
        known.insert(name.to_owned(), key);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use chaperone_wire::ssh::SecretKey;

    use super::*;

    #[test]
    fn a_key_is_pinned_once_and_for_the_next_start_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) =
            (SecretKey::generate().expect("one").0, SecretKey::generate().expect("other").0);
        let pins = Pins::open(folder.path()).expect("open");
        assert_eq!(pins.of("web"), None);
        assert_eq!(pins.pin("web", one.public()), Ok(true));
        assert_eq!(pins.pin("web", one.public()), Ok(false));
        assert!(pins.pin("web", other.public()).expect_err("another").contains("another"));
        assert_eq!(pins.pin("[10.0.0.7]:2222", other.public()), Ok(true));
        let again = Pins::open(folder.path()).expect("open");
        assert_eq!(again.of("web"), Some(text(one.public())));
        assert_eq!(again.of("[10.0.0.7]:2222"), Some(text(other.public())));
        fs::write(again.path(), "web ssh-ed25519 nonsense\n").expect("written");
        assert!(Pins::open(folder.path()).is_err());
    }
}
