//! A folder, best on another mount: one file a day, and the newest checkpoint by itself.
//!
//! Does not belong here: whether the other mount is out of root's reach, which is for whoever set it
//! up.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use chaperone_audit::Sealed;

use super::{Failure, Place};
use crate::{clock, evidence};

const FILE_MODE: u32 = 0o644;

pub(super) struct Folder {
    path: PathBuf,
    log: PathBuf,
}

impl Folder {
    pub(super) fn new(path: &Path, log: &Path) -> Self {
        Self { path: path.into(), log: log.into() }
    }

    fn append(&self, note: &str) -> io::Result<()> {
        let now = jiff::Timestamp::from_microsecond(clock::wall().0).unwrap_or_default();
        let path = self.path.join(format!("{}.notes", now.strftime("%Y-%m-%d")));
        let new = !path.exists();
        let mut file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(&path)?;
        // An empty line ends a note: its own one is before the signatures.
        file.write_all(format!("{note}\n").as_bytes())?;
        file.sync_data()?;
        evidence::write(&self.path.join("newest.note"), note, FILE_MODE)?;
        if new { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }
}

impl Place for Folder {
    fn take(&mut self, head: &Sealed, _: u64) -> Result<String, Failure> {
        let path = self.path.display();
        // Where a mount is missing, the folder below it is none or is the log's neighbour.
        match same_file_system(&self.path, &self.log) {
            Some(false) => {}
            Some(true) => {
                return Err(Failure::Later(format!(
                    "{path} is on the log's own file system: is its mount missing?"
                )));
            }
            None => return Err(Failure::Later(format!("{path} is not there"))),
        }
        self.append(&head.note).map_err(|error| Failure::Later(format!("{path}: {error}")))?;
        Ok(head.note.to_string())
    }
}

/// Whether a folder is where the log is: who can rewrite one can rewrite the other. `None` where
/// one of them is not there.
pub(crate) fn same_file_system(folder: &Path, log: &Path) -> Option<bool> {
    let device = |path: &Path| fs::metadata(path).ok().map(|about| about.dev());
    Some(device(folder)? == device(log).or_else(|| device(log.parent()?))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_appended_and_the_newest_is_by_itself() {
        let base = tempfile::tempdir().expect("a folder");
        let path = base.path().join("mount");
        let mut folder = Folder::new(&path, Path::new("/proc/version"));
        let head = |size: u64| Sealed { size, note: format!("h\n{size}\n\n— h x\n").into() };
        assert!(folder.take(&head(1), 0).is_err(), "a folder that is missing is not made");
        fs::create_dir(&path).expect("made");
        for size in [1, 2] {
            folder.take(&head(size), 0).expect("taken");
        }
        let read = |path: PathBuf| fs::read_to_string(path).expect("read");
        assert_eq!(read(path.join("newest.note")), &*head(2).note);
        let mut names = fs::read_dir(&path).expect("a folder").flatten();
        let day = names.find(|e| e.file_name() != "newest.note").expect("a file of the day");
        assert_eq!(read(day.path()), "h\n1\n\n— h x\n\nh\n2\n\n— h x\n\n");
        let near = base.path().join("log");
        assert_eq!(same_file_system(&path, &near), Some(true));
        let refused = Folder::new(&path, &near).take(&head(3), 0).expect_err("no other mount");
        assert!(refused.to_string().contains("is its mount missing?"), "{refused}");
        assert_eq!(same_file_system(Path::new("/proc"), base.path()), Some(false));
    }
}
