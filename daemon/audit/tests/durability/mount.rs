//! The disk as a file system that the kernel mounts, so that everything above it is real: `SQLite`,
//! its locks, the shared mapping of its `-shm` file, the page cache.
//!
//! Does not belong here: what is flushed, and what is left (`disk.rs`).

use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use crate::disk::{Disk, Node};

/// Nothing changes but through the kernel.
const TTL: Duration = Duration::from_hours(1);

/// Serves a disk at this folder while the answer is kept.
pub(crate) fn mount(disk: Arc<Mutex<Disk>>, folder: &Path) -> io::Result<BackgroundSession> {
    fuser::spawn_mount(Front(disk), folder, &Config::default())
}

struct Front(Arc<Mutex<Disk>>);

pub(crate) fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Front {
    fn attributes(disk: &Disk, number: u64) -> Result<FileAttr, Errno> {
        let (kind, mode, size) = match disk.node(number)? {
            Node::File(file) => (FileType::RegularFile, file.mode, file.live.len() as u64),
            Node::Folder(folder) => (FileType::Directory, folder.mode, 0),
            Node::Link(to) => (FileType::Symlink, 0o777, to.len() as u64),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn add(&self, parent: INodeNo, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        let mut disk = lock(&self.0);
        let number = disk.add(parent.0, name, node)?;
        Self::attributes(&disk, number)
    }
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn attributes(reply: ReplyAttr, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.attr(&TTL, &attributes),
        Err(error) => reply.error(error),
    }
}

fn mode(asked: u32, umask: u32) -> u16 {
    u16::try_from(asked & !umask & 0o7777).unwrap_or(0)
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl Filesystem for Front {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disk = lock(&self.0);
        let found = disk.find(parent.0, name).and_then(|number| Self::attributes(&disk, number));
        entry(reply, found);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attributes(reply, Self::attributes(&lock(&self.0), ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = lock(&self.0);
        let resized = size.map_or(Ok(()), |size| disk.resize(ino.0, place(size)));
        let done = resized
            .and_then(|()| mode.map_or(Ok(()), |to| disk.set_mode(ino.0, self::mode(to, 0))))
            .and_then(|()| Self::attributes(&disk, ino.0));
        attributes(reply, done);
    }

    fn mkdir(
        &self,
        _: &Request,
        at: INodeNo,
        name: &OsStr,
        asked: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        entry(reply, self.add(at, name, Node::folder(mode(asked, umask))));
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, to: &Path, reply: ReplyEntry) {
        entry(reply, self.add(parent, name, Node::Link(to.into())));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match lock(&self.0).node(ino.0) {
            Ok(Node::Link(to)) => reply.data(to.as_encoded_bytes()),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, lock(&self.0).remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let same = if parent == to_parent { Ok(()) } else { Err(Errno::EXDEV) };
        answer(reply, same.and_then(|()| lock(&self.0).rename(parent.0, name, to)));
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match lock(&self.0).may_open(flags.acc_mode() != OpenAccMode::O_RDONLY) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        asked: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.add(parent, name, Node::file(mode(asked, umask))) {
            Ok(attributes) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match lock(&self.0).read(ino.0, place(offset), size as usize) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match lock(&self.0).write(ino.0, place(offset), data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(0)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // close(2), which makes nothing durable.
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, lock(&self.0).flush(ino.0));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, lock(&self.0).flush(ino.0));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let disk = lock(&self.0);
        let Ok(Node::Folder(folder)) = disk.node(ino.0) else {
            reply.error(Errno::ENOTDIR);
            return;
        };
        for (next, (name, number)) in (1..).zip(&folder.live).skip(place(offset)) {
            let kind = match disk.node(*number) {
                Ok(Node::Folder(_)) => FileType::Directory,
                Ok(Node::Link(_)) => FileType::Symlink,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(*number), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
