//! Files that count because nobody but root, or who runs the daemon, can have written them or put
//! others in their place.
//!
//! Not here: files that an agent names (`files`).

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// In a folder with this bit (`/tmp`) nobody removes what is another's.
const STICKY: u32 = 0o1000;

/// Opens such a file, else says why it does not count. `None` where there is none.
pub(super) fn open(path: &Path) -> Result<Option<File>, String> {
    let shown = path.display();
    let cannot = |error: io::Error| format!("cannot read {shown}: {error}");
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(format!("{shown} is no file"));
    };
    // Links on the way are followed first: what they lead through has to be root's as well.
    for folder in [folder, &followed(folder).map_err(cannot)?] {
        for folder in folder.ancestors() {
            let about = match fs::metadata(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                about => about.map_err(cannot)?,
            };
            let sticky = is_owned(&about) && about.mode() & STICKY != 0;
            if !is_roots(&about) && !sticky {
                return Err(format!("others than root could have put {shown} there"));
            }
        }
    }
    let path = followed(folder).map_err(cannot)?.join(name);
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(cannot)?,
    };
    let about = file.metadata().map_err(cannot)?;
    if !about.is_file() || !is_roots(&about) {
        return Err(format!("others than root could have written {shown}"));
    }
    Ok(Some(file))
}

/// Whether nobody but root, or who runs the daemon, can write to it.
pub(super) fn is_roots(about: &fs::Metadata) -> bool {
    is_owned(about) && about.permissions().mode() & 0o022 == 0
}

fn is_owned(about: &fs::Metadata) -> bool {
    [0, nix::unistd::geteuid().as_raw()].contains(&about.uid())
}

/// A folder without links; one that is not there stays as it is.
fn followed(folder: &Path) -> io::Result<std::path::PathBuf> {
    match fs::canonicalize(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(folder.into()),
        followed => followed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn p3_a_folder_of_roots_below_one_of_the_agents_does_not_count() {
        let top = tempfile::tempdir().expect("a folder");
        let (theirs, link) = (top.path().join("theirs"), top.path().join("link"));
        let ours = theirs.join("ours");
        fs::create_dir_all(&ours).expect("made");
        fs::write(ours.join("file"), "x").expect("written");
        symlink(&ours, &link).expect("made");
        assert!(matches!(open(&link.join("file")), Ok(Some(_))));
        assert!(matches!(open(&link.join("other")), Ok(None)));
        if nix::unistd::geteuid().is_root() {
            chown(&theirs, Some(64001), None).expect("given away");
            assert!(open(&ours.join("file")).is_err());
            assert!(open(&link.join("file")).is_err(), "the link leads through it");
        }
    }
}
