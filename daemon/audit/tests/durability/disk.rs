//! A disk in memory that knows of every file and folder what was flushed and what was only written,
//! and what could be left of it after a power cut.
//!
//! POSIX promises no more than this: what a file holds when its fsync or fdatasync succeeds, and
//! what a folder names when its own does. Of all that came later any part may be there, in units of
//! a sector.
//!
//! Does not belong here: how the kernel reaches it (`mount.rs`).

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::symlink,
    path::Path,
};

use fastrand::Rng;
use fuser::Errno;
use serde::{Deserialize, Serialize};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const PAGE: usize = 4096;

pub(crate) const ROOT: u64 = 1;

/// What is wrong with the disk; errors by their numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Faults {
    /// Writes, and changes of a file's length, fail.
    pub(crate) writes: Option<i32>,
    /// Flushes fail, and what was to be flushed is never written: the kernel takes it for clean.
    pub(crate) flushes: Option<i32>,
    /// Files can be neither opened for writing nor made, renamed or removed.
    pub(crate) opens: Option<i32>,
    /// Bytes that all files may have together.
    pub(crate) room: Option<usize>,
    /// Flushes succeed and do nothing.
    pub(crate) lies: bool,
}

#[derive(Default)]
pub(crate) struct Disk {
    nodes: HashMap<u64, Node>,
    last: u64,
    pub(crate) faults: Faults,
    /// Changes that still go through before the power does not.
    countdown: Option<u64>,
    off: bool,
}

pub(crate) enum Node {
    File(File),
    Folder(Folder),
    /// A symbolic link; it never changes, and is there with its name.
    Link(OsString),
}

#[derive(Default)]
pub(crate) struct File {
    pub(crate) mode: u16,
    /// As programs see it.
    pub(crate) live: Vec<u8>,
    flushed: Vec<u8>,
    /// What leads from the one to the other, in order.
    pending: Vec<Change>,
}

enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Default)]
pub(crate) struct Folder {
    pub(crate) mode: u16,
    pub(crate) live: BTreeMap<OsString, u64>,
    flushed: BTreeMap<OsString, u64>,
    /// Each is there as a whole or not at all: a rename takes one name away and gives another.
    pending: Vec<Vec<(OsString, Option<u64>)>>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self { nodes: HashMap::from([(ROOT, Node::folder(0o755))]), last: ROOT, ..Self::default() }
    }

    /// The power goes in the midst of this change from now.
    pub(crate) fn cut_after(&mut self, changes: u64) {
        self.countdown = Some(changes);
    }

    /// The power goes now: nothing is changed or flushed from here on.
    pub(crate) fn cut(&mut self) {
        self.off = true;
    }

    pub(crate) fn is_off(&self) -> bool {
        self.off
    }

    pub(crate) fn node(&self, number: u64) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    pub(crate) fn find(&self, folder: u64, name: &OsStr) -> Result<u64, Errno> {
        match self.node(folder)? {
            Node::Folder(folder) => folder.live.get(name).copied().ok_or(Errno::ENOENT),
            Node::File(_) | Node::Link(_) => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn may_open(&self, for_writing: bool) -> Result<(), Errno> {
        failing(self.faults.opens.filter(|_| for_writing))
    }

    pub(crate) fn read(&self, number: u64, at: usize, length: usize) -> Result<&[u8], Errno> {
        let Node::File(file) = self.node(number)? else { return Err(Errno::EISDIR) };
        let at = at.min(file.live.len());
        Ok(&file.live[at..file.live.len().min(at + length)])
    }

    pub(crate) fn write(&mut self, number: u64, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        failing(self.faults.writes)?;
        self.grow(number, at + bytes.len())?;
        self.change(number, Change::Write { at, bytes: bytes.into() })
    }

    pub(crate) fn resize(&mut self, number: u64, length: usize) -> Result<(), Errno> {
        failing(self.faults.writes)?;
        self.grow(number, length)?;
        self.change(number, Change::Resize(length))
    }

    pub(crate) fn set_mode(&mut self, number: u64, to: u16) -> Result<(), Errno> {
        match self.nodes.get_mut(&number).ok_or(Errno::ENOENT)? {
            Node::File(File { mode, .. }) | Node::Folder(Folder { mode, .. }) => {
                *mode = to & 0o7777;
            }
            Node::Link(_) => {}
        }
        Ok(())
    }

    /// fsync and fdatasync, of a file or a folder.
    pub(crate) fn flush(&mut self, number: u64) -> Result<(), Errno> {
        let lost = self.step()?;
        let (fails, lies) = (self.faults.flushes, self.faults.lies);
        if lost || lies {
            return if lost { Err(Errno::EIO) } else { Ok(()) };
        }
        match self.nodes.get_mut(&number).ok_or(Errno::ENOENT)? {
            Node::File(file) => {
                let pending = std::mem::take(&mut file.pending);
                if fails.is_none() {
                    for change in pending {
                        change.apply(&mut file.flushed);
                    }
                }
            }
            Node::Folder(folder) => {
                let pending = std::mem::take(&mut folder.pending);
                if fails.is_none() {
                    for change in pending {
                        apply(&mut folder.flushed, change);
                    }
                }
            }
            Node::Link(_) => {}
        }
        failing(fails)
    }

    pub(crate) fn add(&mut self, folder: u64, name: &OsStr, node: Node) -> Result<u64, Errno> {
        self.may_open(true)?;
        if self.find(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.last += 1;
        let number = self.last;
        self.nodes.insert(number, node);
        self.name(folder, vec![(name.into(), Some(number))])?;
        Ok(number)
    }

    pub(crate) fn remove(&mut self, folder: u64, name: &OsStr) -> Result<(), Errno> {
        self.may_open(true)?;
        // The node stays, for who has it open.
        self.find(folder, name)?;
        self.name(folder, vec![(name.into(), None)])
    }

    /// Within a folder, which is where a rename is one change.
    pub(crate) fn rename(&mut self, folder: u64, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        self.may_open(true)?;
        let number = self.find(folder, from)?;
        self.name(folder, vec![(from.into(), None), (to.into(), Some(number))])
    }

    /// What the disk holds after a power cut, as ordinary files in this folder.
    pub(crate) fn leave(&self, rng: &mut Rng, to: &Path) -> io::Result<()> {
        self.leave_folder(ROOT, Kept::any(rng), rng, to)
    }

    fn leave_folder(&self, number: u64, kept: Kept, rng: &mut Rng, to: &Path) -> io::Result<()> {
        let Some(Node::Folder(folder)) = self.nodes.get(&number) else { return Ok(()) };
        let mut names = folder.flushed.clone();
        for change in kept.of(&folder.pending, rng) {
            apply(&mut names, change.clone());
        }
        for (name, number) in names {
            let to = to.join(name);
            match self.nodes.get(&number) {
                Some(Node::File(file)) => fs::write(to, file.left(kept, rng))?,
                Some(Node::Folder(_)) => {
                    fs::create_dir(&to)?;
                    self.leave_folder(number, kept, rng, &to)?;
                }
                Some(Node::Link(leads_to)) => symlink(leads_to, to)?,
                None => {}
            }
        }
        Ok(())
    }

    fn name(&mut self, folder: u64, change: Vec<(OsString, Option<u64>)>) -> Result<(), Errno> {
        let lost = self.step()?;
        let Some(Node::Folder(folder)) = self.nodes.get_mut(&folder) else {
            return Err(Errno::ENOTDIR);
        };
        folder.pending.push(change.clone());
        if lost {
            return Err(Errno::EIO);
        }
        apply(&mut folder.live, change);
        Ok(())
    }

    fn change(&mut self, number: u64, change: Change) -> Result<(), Errno> {
        let lost = self.step()?;
        let Some(Node::File(file)) = self.nodes.get_mut(&number) else {
            return Err(Errno::EISDIR);
        };
        change.apply(&mut file.live);
        file.pending.push(change);
        if lost { Err(Errno::EIO) } else { Ok(()) }
    }

    fn grow(&self, number: u64, length: usize) -> Result<(), Errno> {
        let Some(room) = self.faults.room else { return Ok(()) };
        let mut used = 0;
        for (other, node) in &self.nodes {
            if let Node::File(file) = node {
                let longer = if *other == number { length } else { 0 };
                used += file.live.len().max(longer);
            }
        }
        if used > room { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// Whether the power goes in this change: some of it may be there, and nobody is told so.
    fn step(&mut self) -> Result<bool, Errno> {
        if self.off {
            return Err(Errno::EIO);
        }
        if let Some(left) = &mut self.countdown {
            self.off = *left == 0;
            *left = left.saturating_sub(1);
        }
        Ok(self.off)
    }
}

impl Node {
    pub(crate) fn file(mode: u16) -> Self {
        Self::File(File { mode, ..File::default() })
    }

    pub(crate) fn folder(mode: u16) -> Self {
        Self::Folder(Folder { mode, ..Folder::default() })
    }
}

impl File {
    fn left(&self, kept: Kept, rng: &mut Rng) -> Vec<u8> {
        let mut left = self.flushed.clone();
        let pieces: Vec<_> =
            self.pending.iter().flat_map(|change| change.pieces(kept.unit)).collect();
        for piece in kept.of(&pieces, rng) {
            piece.apply(&mut left);
        }
        left
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at..end].copy_from_slice(bytes);
            }
            Self::Resize(length) => to.resize(*length, 0),
        }
    }

    /// Cut where the disk may cut it.
    fn pieces(&self, unit: usize) -> Vec<Change> {
        let Self::Write { at, bytes } = self else {
            let Self::Resize(length) = self else { return Vec::new() };
            return vec![Self::Resize(*length)];
        };
        let mut pieces = Vec::new();
        let (mut at, mut rest) = (*at, bytes.as_slice());
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(rest.len().min(unit - at % unit));
            pieces.push(Self::Write { at, bytes: piece.into() });
            at += piece.len();
            rest = others;
        }
        pieces
    }
}

fn failing(error: Option<i32>) -> Result<(), Errno> {
    error.map_or(Ok(()), |number| Err(Errno::from_i32(number)))
}

fn apply(names: &mut BTreeMap<OsString, u64>, change: Vec<(OsString, Option<u64>)>) {
    for (name, number) in change {
        match number {
            Some(number) => names.insert(name, number),
            None => names.remove(&name),
        };
    }
}

/// How much of what was not flushed is there all the same.
#[derive(Clone, Copy, Debug)]
struct Kept {
    unit: usize,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Nothing,
    All,
    /// Up to some moment, another for each file.
    First,
    /// Each piece with this probability, whatever came before it.
    Some(f64),
}

impl Kept {
    fn any(rng: &mut Rng) -> Self {
        let how = match rng.u32(..6) {
            0 => How::Nothing,
            1 => How::All,
            2 => How::First,
            3 => How::Some(0.1),
            4 => How::Some(0.5),
            _ => How::Some(0.9),
        };
        Self { unit: if rng.bool() { SECTOR } else { PAGE }, how }
    }

    fn of<'a, T>(self, pending: &'a [T], rng: &mut Rng) -> Vec<&'a T> {
        match self.how {
            How::Nothing => Vec::new(),
            How::All => pending.iter().collect(),
            How::First => pending[..rng.usize(..=pending.len())].iter().collect(),
            How::Some(part) => pending.iter().filter(|_| rng.f64() < part).collect(),
        }
    }
}
