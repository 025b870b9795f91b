//! Agents' processes as the kernel side keeps them: a table of those that live, and what happened.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError, RingBuf},
};
use chaperone_abi::{ARGUMENTS, EVENT_EXEC, EVENT_EXIT, Event, Exec, Image, Process};

use crate::{
    KernelError,
    notes::{is_gone, open},
};

/// `BPF_NOEXIST` (include/uapi/linux/bpf.h).
const NO_EXIST: u64 = 1;

/// Something that happened to a process of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It runs another program.
    Exec(Executed),
    /// Its last thread ended.
    Exit(Process),
}

/// What an exec began to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// When, in nanoseconds since boot.
    pub at_ns: u64,
    /// The process as it is since.
    pub process: Process,
    /// The program's file; of a script its interpreter's.
    pub image: Image,
    /// The name that was given to execve(2), of a script its own.
    pub filename: Box<[u8]>,
    /// The first bytes of the arguments, each ending with NUL.
    pub arguments: Box<[u8]>,
}

/// What happened and was not read yet.
pub struct Events(RingBuf<MapData>);

impl Events {
    pub(crate) fn open(pins: &Path) -> Result<Self, KernelError> {
        RingBuf::try_from(Map::RingBuf(open(pins, "EVENTS")?))
            .map(Self)
            .map_err(|error| KernelError::refused("map EVENTS", &error))
    }

    /// The next; `None` where all has been read.
    pub fn take(&mut self) -> Option<Happened> {
        loop {
            // What is no event of this version was written by nobody.
            if let Some(found) = happened(&self.0.next()?) {
                return Some(found);
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn happened(bytes: &[u8]) -> Option<Happened> {
    let event: Event = plain(bytes)?;
    match event.kind {
        EVENT_EXIT => Some(Happened::Exit(event.process)),
        EVENT_EXEC => {
            let exec: Exec = plain(bytes)?;
            let name = exec.filename.iter().position(|b| *b == 0).unwrap_or(exec.filename.len());
            let arguments = usize::try_from(exec.arguments_len).map_or(0, |n| n.min(ARGUMENTS));
            Some(Happened::Exec(Executed {
                at_ns: event.at_ns,
                process: event.process,
                image: exec.image,
                filename: exec.filename[..name].into(),
                arguments: exec.arguments[..arguments].into(),
            }))
        }
        _ => None,
    }
}

/// # Panics
/// Never: what is too short is `None`.
pub(crate) fn plain<T: Plain>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: `T` is a plain structure of which any bytes are a value, and there are as many; the
    // read asks for no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// # Safety
/// Any bytes must be a value of the type.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: integers and arrays of them, without padding (sizes asserted in the ABI crate).
unsafe impl Plain for Event {}
// SAFETY: as above.
unsafe impl Plain for Exec {}

/// The table of live processes.
pub struct ProcessTable(HashMap<MapData, u32, Entry>);

impl ProcessTable {
    pub(crate) fn open(pins: &Path) -> Result<Self, KernelError> {
        HashMap::try_from(Map::HashMap(open(pins, "PROCESSES")?))
            .map(Self)
            .map_err(|error| KernelError::refused("map PROCESSES", &error))
    }

    /// A process by its id.
    ///
    /// # Errors
    /// Where the kernel fails the look-up for another reason than that there is nothing.
    pub fn get(&self, tgid: u32) -> Result<Option<Process>, KernelError> {
        match self.0.get(&tgid, 0) {
            Ok(entry) => Ok(Some(entry.0)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::refused("reading map PROCESSES", &error)),
        }
    }

    /// Adds a process, where the kernel has not put it there itself. Answers whether it did.
    ///
    /// # Errors
    /// Where the table is full, or the kernel refuses.
    pub fn add(&mut self, process: Process) -> Result<bool, KernelError> {
        match self.0.insert(process.key.tgid, Entry(process), NO_EXIST) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(call))
                if call.io_error.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                Ok(false)
            }
            Err(error) => Err(KernelError::refused("filling map PROCESSES", &error)),
        }
    }

    /// Removes a process, where it is there.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove(&mut self, tgid: u32) -> Result<(), KernelError> {
        match self.0.remove(&tgid) {
            Ok(()) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(KernelError::refused("cleaning map PROCESSES", &error)),
        }
    }

    /// All of them. A process that comes or goes meanwhile may or may not be among them.
    pub fn all(&self) -> Vec<Process> {
        self.0.iter().filter_map(Result::ok).map(|(_, entry)| entry.0).collect()
    }
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Entry(Process);

// SAFETY: a plain structure of integers without padding (its size is asserted in the ABI crate).
unsafe impl Pod for Entry {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_events_that_are_cut_short_are_none() {
        for length in 0..size_of::<Exec>() {
            let mut bytes = vec![0; length];
            if length >= size_of::<Event>() {
                let kind = std::mem::offset_of!(Event, kind);
                bytes[kind] = 2;
            }
            assert_eq!(happened(&bytes), None, "{length}");
        }
    }
}
