//! Opening files that an agent names: nothing happens by their being opened, and only what stands on
//! a file system of the host's own is read.
//!
//! All of this may wait for a file system: off the sessions' threads.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::{
        stat::{FileStat, Mode, SFlag, fstat},
        statfs::{FsType, fstatfs},
    },
};

use super::tracker::Id;

/// Magic numbers of file systems that keep files (include/uapi/linux/magic.h and the file systems'
/// own): a device, a file of procfs or tracefs, or a FUSE server would act on being opened or read.
const KEEPS_FILES: [i64; 14] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // erofs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
    0x6969,      // nfs
    0x9660,      // iso9660
    0x4d44,      // vfat
];

/// The file at a path, as a process sees it or saw it: below its root, whatever links say; where it
/// is gone, below the host's.
pub(super) fn open_named(process: Option<Id>, path: &Path) -> io::Result<File> {
    readable(&named(process, path)?)
}

/// A process's root; where it is gone that of the host, which is process 1's. The daemon's own may hide
/// folders.
fn root(process: Option<Id>) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let open = |path: &str| open(Path::new(path), flags, Mode::empty());
    match process {
        Some(id) => open(&format!("/proc/{}/root", id.pid)),
        None => open("/proc/1/root").or_else(|_| open("/")),
    }
}

fn named(process: Option<Id>, path: &Path) -> io::Result<OwnedFd> {
    let root = root(process)?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(&root, path, how)?)
}

/// Whether a path is that of a file, on a file system that keeps files; true as well where there is
/// nothing.
pub(super) fn is_kept(process: Option<Id>, path: &Path) -> bool {
    match named(process, path) {
        Ok(found) => is_file(&found).is_ok(),
        Err(error) => error.raw_os_error() != Some(nix::libc::ELOOP),
    }
}

/// The program that a process runs.
pub(super) fn open_program(id: Id) -> io::Result<File> {
    let path = format!("/proc/{}/exe", id.pid);
    readable(&open(Path::new(&path), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Whether the path's last part is a link that was changed at or after a moment, in microseconds
/// since 1970.
pub(super) fn link_changed_since(process: Option<Id>, path: &Path, moment: u64) -> bool {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let Ok(root) = root(process) else { return true };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found = openat2(&root, path, how).and_then(|file| fstat(&file));
    found.map_or(true, |about| kind(&about) == SFlag::S_IFLNK && changed_us(&about) >= moment)
}

/// Opens for reading what was only named so far.
fn readable(named: &OwnedFd) -> io::Result<File> {
    is_file(named)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let path = format!("/proc/self/fd/{}", named.as_raw_fd());
    Ok(File::from(open(Path::new(&path), flags, Mode::empty())?))
}

fn is_file(named: &OwnedFd) -> io::Result<()> {
    let about = fstat(named)?;
    if kind(&about) != SFlag::S_IFREG {
        return Err(io::Error::other("it is no file"));
    }
    let system = fstatfs(named)?.filesystem_type();
    if !KEEPS_FILES.iter().any(|known| FsType(*known) == system) {
        return Err(io::Error::other("its file system keeps no files of the host's own"));
    }
    Ok(())
}

fn kind(about: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT
}

fn changed_us(about: &FileStat) -> u64 {
    let seconds = u64::try_from(about.st_ctime).unwrap_or(0);
    seconds.saturating_mul(1_000_000) + u64::try_from(about.st_ctime_nsec / 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn p8_what_acts_on_being_opened_is_not_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("made");
        for path in ["/dev/zero", "/proc/self/status", "/sys/kernel/uevent_seqnum", "/", "/nowhere"]
        {
            assert!(open_named(None, Path::new(path)).is_err(), "{path}");
        }
        assert!(open_named(None, &fifo).is_err(), "nobody writes to it: it would be waited for");
        assert!(!is_kept(None, &fifo) && !is_kept(None, folder.path()));
        assert!(
            !is_kept(None, Path::new("/dev/stdin")) && !is_kept(None, Path::new("/proc/self/fd/0"))
        );
        assert!(is_kept(None, Path::new("/etc/passwd")) && is_kept(None, Path::new("/nowhere")));
        assert!(open_named(None, Path::new("/etc/passwd")).is_ok());
    }

    #[test]
    fn p8_links_do_not_lead_out_of_the_process_root() {
        let own = Id { pid: std::process::id(), ticks: 0 };
        assert!(open_named(Some(own), Path::new("/proc/self/exe")).is_err(), "a magic link");
        assert!(open_named(Some(own), Path::new("/etc/passwd")).is_ok());
        assert!(open_program(own).is_ok());
    }

    #[test]
    fn a_link_that_was_set_again_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "x").expect("written");
        symlink(&file, &link).expect("made");
        assert!(link_changed_since(None, &link, 0));
        assert!(!link_changed_since(None, &link, u64::MAX));
        assert!(!link_changed_since(None, &file, 0), "no link");
    }
}
