//! What agents tried and was stopped, or only seen, as the kernel side tells it.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use aya::maps::{Map, MapData, RingBuf};
use chaperone_abi::{Counter, NO_TARGET, ProcessKey, Stopped, UNIX_NAME};

use crate::{
    KernelError,
    notes::{address, open},
    processes::{Plain, plain},
};

/// What it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A packet of an agent's to a target.
    PacketOut,
    /// A packet from a target to an agent's socket.
    PacketIn,
    /// A packet that lists the way that it is to take, or cannot be read.
    PacketOdd,
    /// Another protocol than TCP to a target.
    Protocol,
    /// Taking the daemon's port.
    Bind,
    /// A socket of a kind that agents may not have.
    Socket,
    /// Another protocol made of a TCP connection.
    Option,
    /// A target's Unix socket.
    Unix,
    /// A socket that others connected to a target.
    Passed,
    /// Reaching into a process that is not the agent's.
    Trace,
    /// Going to what is not listed, refused.
    UnlistedRefused,
    /// Going to what is not listed, let.
    Unlisted,
    /// Speaking PostgreSQL's protocol or SSH with what is no target.
    PassedBy,
}

impl Reason {
    const ALL: [(Counter, Self); 13] = [
        (Counter::GuardOut, Self::PacketOut),
        (Counter::GuardIn, Self::PacketIn),
        (Counter::GuardOdd, Self::PacketOdd),
        (Counter::RefusedProtocol, Self::Protocol),
        (Counter::RefusedBind, Self::Bind),
        (Counter::RefusedSocket, Self::Socket),
        (Counter::RefusedOption, Self::Option),
        (Counter::RefusedUnix, Self::Unix),
        (Counter::RefusedPassed, Self::Passed),
        (Counter::RefusedTrace, Self::Trace),
        (Counter::RefusedUnlisted, Self::UnlistedRefused),
        (Counter::Unlisted, Self::Unlisted),
        (Counter::PassedBy, Self::PassedBy),
    ];
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What was tried.
    pub reason: Reason,
    /// Who tried, or made the socket; `None` where it was made before the programs.
    pub process: Option<ProcessKey>,
    /// The thread's name.
    pub comm: String,
    /// Real user id of the process, or of the socket.
    pub uid: u32,
    /// Its cgroup's id.
    pub cgroup_id: u64,
    /// The agent's number.
    pub agent: u32,
    /// The target: an index into the daemon's list of the generation below.
    pub target: Option<u32>,
    /// Configuration generation.
    pub generation: u32,
    /// The other end; a process id in the first word where a process was to be traced.
    pub address: SocketAddr,
    /// The process that was to be traced.
    pub traced: u32,
    /// Number of the protocol, or of family and protocol.
    pub protocol: u32,
    /// A Unix socket's name, `@` for an abstract one.
    pub name: String,
}

/// What was stopped and not read yet.
pub struct Stops(RingBuf<MapData>);

impl Stops {
    pub(crate) fn open(pins: &Path) -> Result<Self, KernelError> {
        RingBuf::try_from(Map::RingBuf(open(pins, "STOPPED")?))
            .map(Self)
            .map_err(|error| KernelError::refused("map STOPPED", &error))
    }

    /// The next; `None` where all has been read.
    pub fn take(&mut self) -> Option<Attempt> {
        loop {
            // What is none of this version was written by nobody.
            if let Some(found) = attempt(&self.0.next()?) {
                return Some(found);
            }
        }
    }
}

impl AsFd for Stops {
    /// It can be read where much is waiting.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn attempt(bytes: &[u8]) -> Option<Attempt> {
    let found: Stopped = plain(bytes)?;
    let reason = Reason::ALL.iter().find(|(c, _)| *c as u32 == found.reason)?.1;
    Some(Attempt {
        reason,
        process: Some(found.process).filter(|process| process.tgid != 0),
        comm: text(&found.comm),
        uid: found.uid,
        cgroup_id: found.cgroup_id,
        agent: found.agent,
        target: Some(found.target).filter(|target| *target != NO_TARGET),
        generation: found.generation,
        address: SocketAddr::new(address(found.address), found.port),
        traced: found.address[0],
        protocol: found.protocol,
        name: unix_name(&found.name),
    })
}

/// Up to the first NUL, without what a terminal would take for more than text.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or_default().escape_ascii().to_string()
}

fn unix_name(name: &[u8; UNIX_NAME]) -> String {
    match name {
        [0, rest @ ..] if rest[0] != 0 => format!("@{}", text(rest)),
        name => text(name),
    }
}

// SAFETY: integers and arrays of them, without padding (size asserted in the ABI crate).
unsafe impl Plain for Stopped {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_what_is_cut_short_is_none() {
        for length in 0..size_of::<Stopped>() {
            let mut bytes = vec![0; length];
            let at = std::mem::offset_of!(Stopped, reason);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = Counter::GuardOut as u8;
            }
            assert_eq!(attempt(&bytes), None, "{length}");
        }
    }

    #[test]
    fn names_are_shown_as_people_write_them() {
        let mut name = [0; UNIX_NAME];
        name[1..4].copy_from_slice(b"db\x1b");
        assert_eq!(unix_name(&name), "@db\\x1b");
        name[0] = b'/';
        assert_eq!(unix_name(&name), "/db\\x1b");
        assert_eq!(unix_name(&[0; UNIX_NAME]), "");
    }
}
