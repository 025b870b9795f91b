//! What is open, and what passed through it.

use std::collections::{BTreeMap, HashMap};

use super::{
    answer::{Closed, Event, FileOutcome, Outcome, Status},
    attributes::OpenFlags,
    frame::Violation,
};
use crate::ssh::{Unhashed, content::Hashing};

/// Files and folders that are open, or are to be, by the number of the command that opens them.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: HashMap<u64, File>,
    handles: HashMap<Vec<u8>, u64>,
    /// Of all paths.
    bytes: usize,
    /// An extension that is not read was allowed.
    extension: bool,
}

/// Files that one channel may have open.
const OPEN: usize = 4096;
/// Bytes of their paths.
const PATHS: usize = 4 << 20;

#[derive(Debug)]
struct File {
    path: Vec<u8>,
    /// `None` for a folder.
    flags: Option<OpenFlags>,
    handle: Option<Vec<u8>>,
    read: Hashing,
    written: Hashing,
    /// Bytes of writes that the server has confirmed.
    confirmed: u64,
    /// A request to read or write came.
    used: Used,
    failure: Option<Status>,
    masked: BTreeMap<u16, u64>,
    entries: u64,
    /// Reads, writes and listings without an answer.
    outstanding: u32,
    closed: Option<Status>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    read: bool,
    write: bool,
}

impl Files {
    /// Whether another may be opened.
    pub(super) fn has_room(&self, path: usize) -> bool {
        self.open.len() < OPEN && self.bytes + path <= PATHS
    }

    /// A command that opens something was allowed.
    pub(super) fn opening(&mut self, command: u64, path: Vec<u8>, flags: Option<OpenFlags>) {
        self.bytes += path.len();
        let file = File {
            path,
            flags,
            handle: None,
            read: Hashing::new(),
            written: Hashing::new(),
            confirmed: 0,
            used: Used::default(),
            failure: None,
            masked: BTreeMap::new(),
            entries: 0,
            outstanding: 0,
            closed: None,
        };
        self.open.insert(command, file);
        if self.extension {
            self.spoil(command, Unhashed::Extension);
        }
    }

    /// The server opened it.
    pub(super) fn opened(&mut self, command: u64, handle: &[u8]) -> Result<(), Violation> {
        if self.handles.contains_key(handle) {
            return Err(Violation::HandleTwice);
        }
        if let Some(file) = self.open.get_mut(&command) {
            file.handle = Some(handle.to_vec());
            self.handles.insert(handle.to_vec(), command);
        }
        Ok(())
    }

    /// The server did not open it.
    pub(super) fn failed(&mut self, command: u64) {
        self.forget(command);
    }

    /// The command that opened what a handle stands for.
    pub(super) fn of_handle(&self, handle: &[u8]) -> Option<u64> {
        self.handles.get(handle).copied()
    }

    /// With which path it was opened.
    pub(super) fn path(&self, file: u64) -> Option<&[u8]> {
        self.open.get(&file).map(|file| file.path.as_slice())
    }

    /// The client closes it: nothing can be asked of it any more.
    pub(super) fn closing(&mut self, file: u64) {
        if let Some(handle) = self.open.get_mut(&file).and_then(|file| file.handle.take()) {
            self.handles.remove(&handle);
        }
    }

    pub(super) fn closed(&mut self, file: u64, status: Status, events: &mut Vec<Event>) {
        if let Some(of) = self.open.get_mut(&file) {
            of.closed = Some(status);
        }
        self.settle(file, events);
    }

    pub(super) fn asked_to_read(&mut self, file: u64) {
        self.with(file, |file| {
            file.used.read = true;
            file.outstanding += 1;
        });
    }

    pub(super) fn asked_to_list(&mut self, file: u64) {
        self.with(file, |file| file.outstanding += 1);
    }

    /// A write begins; its bytes follow.
    pub(super) fn asked_to_write(&mut self, file: u64, offset: u64) {
        self.with(file, |file| {
            file.used.write = true;
            file.outstanding += 1;
            if !file.flags.is_some_and(|flags| flags.append) {
                file.written.at(offset);
            }
        });
    }

    pub(super) fn writing(&mut self, file: u64, bytes: &[u8]) {
        self.with(file, |file| file.written.feed(bytes));
    }

    /// What was read begins here in the file; its bytes follow.
    pub(super) fn reads(&mut self, file: u64, offset: u64) {
        self.with(file, |file| file.read.at(offset));
    }

    pub(super) fn reading(&mut self, file: u64, bytes: &[u8]) {
        self.with(file, |file| file.read.feed(bytes));
    }

    /// So much was masked in what was read.
    pub(super) fn masked(&mut self, file: u64, found: &[(u16, u64)]) {
        self.with(file, |file| {
            for (way, count) in found {
                *file.masked.entry(*way).or_default() += count;
            }
        });
    }

    /// A read was answered to its end.
    pub(super) fn was_read(&mut self, file: u64, events: &mut Vec<Event>) {
        self.with(file, |file| file.outstanding = file.outstanding.saturating_sub(1));
        self.settle(file, events);
    }

    pub(super) fn was_listed(&mut self, file: u64, entries: u32, events: &mut Vec<Event>) {
        self.with(file, |file| {
            file.entries += u64::from(entries);
            file.outstanding = file.outstanding.saturating_sub(1);
        });
        self.settle(file, events);
    }

    pub(super) fn was_written(
        &mut self,
        file: u64,
        length: u32,
        status: Status,
        events: &mut Vec<Event>,
    ) {
        self.with(file, |file| {
            file.outstanding = file.outstanding.saturating_sub(1);
            if status.is_ok() {
                file.confirmed += u64::from(length);
            } else {
                file.written.spoil(Unhashed::Failed);
                file.failure.get_or_insert(status);
            }
        });
        self.settle(file, events);
    }

    /// There is no hash of it any more.
    fn spoil(&mut self, file: u64, why: Unhashed) {
        self.with(file, |file| {
            file.written.spoil(why);
            file.read.spoil(why);
        });
    }

    /// The server copies from one to the other.
    pub(super) fn copied(&mut self, to: u64) {
        self.with(to, |file| file.written.spoil(Unhashed::Copied));
    }

    /// The file's length is set, beside what is written: to another than what was written has, or, as
    /// scp does behind each file, to just that.
    pub(super) fn resized(&mut self, file: u64, size: u64) {
        let keeps = self.open.get(&file).is_some_and(|file| {
            let appends = file.flags.is_some_and(|flags| flags.append);
            !appends && !file.used.read && file.written.reaches() == size
        });
        if !keeps {
            self.spoil(file, Unhashed::Resized);
        }
    }

    /// An extension that is not read was allowed: no hash is sure any more.
    pub(super) fn extension(&mut self) {
        self.extension = true;
        let all: Vec<u64> = self.open.keys().copied().collect();
        for file in all {
            self.spoil(file, Unhashed::Extension);
        }
    }

    /// The channel ended: what is known of all that was opened. What is `unanswered` is not open.
    pub(super) fn finish(&mut self, unanswered: &[u64]) -> Vec<Event> {
        for command in unanswered {
            self.forget(*command);
        }
        let mut left: Vec<(u64, File)> = self.open.drain().collect();
        left.sort_unstable_by_key(|(command, _)| *command);
        self.handles.clear();
        self.bytes = 0;
        let done = |(command, file): (u64, File)| Event::Done { command, outcome: file.outcome() };
        left.into_iter().map(done).collect()
    }

    fn with(&mut self, file: u64, change: impl FnOnce(&mut File)) {
        if let Some(file) = self.open.get_mut(&file) {
            change(file);
        }
    }

    /// Tells the outcome where nothing more can come.
    fn settle(&mut self, file: u64, events: &mut Vec<Event>) {
        let settled = |file: &File| file.closed.is_some() && file.outstanding == 0;
        if self.open.get(&file).is_some_and(settled)
            && let Some(done) = self.forget(file)
        {
            events.push(Event::Done { command: file, outcome: done.outcome() });
        }
    }

    fn forget(&mut self, command: u64) -> Option<File> {
        let file = self.open.remove(&command)?;
        self.bytes = self.bytes.saturating_sub(file.path.len());
        if let Some(handle) = &file.handle {
            self.handles.remove(handle);
        }
        Some(file)
    }
}

impl File {
    fn outcome(mut self) -> Outcome {
        if self.outstanding > 0 {
            self.written.spoil(Unhashed::Unfinished);
            self.read.spoil(Unhashed::Unfinished);
        }
        let closed = self.closed.map_or(Closed::Unfinished, Closed::Status);
        let Some(flags) = self.flags else {
            return Outcome::Listed { entries: self.entries, closed };
        };
        let read = (flags.read || self.used.read).then(|| self.read.finish());
        let written = (flags.write || self.used.write).then(|| {
            let mut content = self.written.finish();
            content.bytes = self.confirmed;
            content
        });
        let masked = self.masked.into_iter().collect();
        Outcome::File(FileOutcome { read, written, failure: self.failure, masked, closed })
    }
}
