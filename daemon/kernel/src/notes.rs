//! What the kernel side left for the daemon: notes about connections, and counters.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray},
};
use chaperone_abi::{COUNTERS, Counter, FlowKey, Note};
use chaperone_model::{AgentAddr, OriginalAddr};

use crate::{KernelError, sockets::cookie};

/// A handle for taking notes; each thread opens its own.
pub struct Notes {
    flows: HashMap<MapData, Key, Value>,
    netns: u64,
}

/// What was found for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The kernel's note; it is no longer in the map.
    Note(Note),
    /// The kernel knows nothing of this connection.
    Nothing,
}

impl Notes {
    pub(crate) fn open(pins: &Path, netns: u64) -> Result<Self, KernelError> {
        let flows = HashMap::try_from(Map::HashMap(open(pins, "FLOWS")?))
            .map_err(|error| KernelError::refused("map FLOWS", &error))?;
        Ok(Self { flows, netns })
    }

    /// Takes the note of an accepted connection out of the map.
    ///
    /// # Errors
    /// Where the kernel fails the look-up for another reason than that there is nothing.
    pub fn take(&mut self, agent: AgentAddr) -> Result<Taken, KernelError> {
        let address = match agent.0.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let key = Key(FlowKey {
            netns: self.netns,
            address: words(address),
            port: agent.0.port().into(),
            reserved: 0,
        });
        let note = match self.flows.get(&key, 0) {
            Ok(note) => note.0,
            Err(MapError::KeyNotFound) => return Ok(Taken::Nothing),
            Err(error) => return Err(KernelError::refused("reading map FLOWS", &error)),
        };
        match self.flows.remove(&key) {
            Ok(()) => Ok(Taken::Note(note)),
            Err(error) if is_gone(&error) => Ok(Taken::Note(note)),
            Err(error) => Err(KernelError::refused("removing from map FLOWS", &error)),
        }
    }

    /// Removes the notes of earlier starts whose connections are gone. Those of connections that wait
    /// in the queue of a listener that outlives the daemon stay.
    pub(crate) fn forget_gone(&mut self, generation: u32, port: u16) -> Result<(), KernelError> {
        let failed = |error| KernelError::refused("cleaning map FLOWS", &error);
        let entries: Vec<_> = self.flows.iter().collect::<Result<_, _>>().map_err(failed)?;
        for (key, value) in entries.iter().filter(|(_, value)| value.0.generation != generation) {
            let from = SocketAddr::new(address(key.0.address), low(key.0.port));
            // Where the kernel does not tell, whoever accepts the connection asks again.
            if key.0.netns == self.netns
                && !matches!(is_of(&value.0, AgentAddr(from), port), Ok(false))
            {
                continue;
            }
            match self.flows.remove(key) {
                Ok(()) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

/// Whether there is nothing to be removed: aya says so of look-ups alone, and passes the kernel's word
/// on of a removal.
pub(crate) fn is_gone(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(call) => call.io_error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn low(port: u32) -> u16 {
    u16::try_from(port).unwrap_or(0)
}

/// Whether a note is of the connection that came from here to the daemon's port, and not of an earlier
/// one from the same address that never was accepted.
///
/// # Errors
/// Where the kernel does not tell.
pub fn is_of(note: &Note, agent: AgentAddr, port: u16) -> std::io::Result<bool> {
    let loopback: IpAddr = if agent.0.ip().to_canonical().is_ipv4() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    };
    Ok(cookie(agent.0, SocketAddr::new(loopback, port))? == Some(note.cookie))
}

/// The kernel side's counters.
pub struct Counters(PerCpuArray<MapData, u64>);

impl Counters {
    pub(crate) fn open(pins: &Path) -> Result<Self, KernelError> {
        PerCpuArray::try_from(Map::PerCpuArray(open(pins, "COUNTS")?))
            .map(Self)
            .map_err(|error| KernelError::refused("map COUNTS", &error))
    }

    /// Every counter with its name; sums over all CPUs, since the maps were made.
    ///
    /// # Errors
    /// Where the kernel fails the look-up.
    pub fn read(&self) -> Result<Vec<(&'static str, u64)>, KernelError> {
        (0..COUNTERS)
            .map(|index| {
                let values = self
                    .0
                    .get(&index, 0)
                    .map_err(|error| KernelError::refused("reading map COUNTS", &error))?;
                Ok((name(index), values.iter().sum()))
            })
            .collect()
    }
}

/// An address as the kernel side keeps it: its bytes in order, read as words.
pub(crate) fn words(address: Ipv6Addr) -> [u32; 4] {
    let o = address.octets();
    std::array::from_fn(|i| {
        u32::from_ne_bytes([o[4 * i], o[4 * i + 1], o[4 * i + 2], o[4 * i + 3]])
    })
}

/// Where the agent wanted to go, with a mapped IPv4 address as the IPv4 address that it is.
pub fn original(note: &Note) -> OriginalAddr {
    OriginalAddr(SocketAddr::new(address(note.address), note.port))
}

/// An address of the kernel side's.
pub(crate) fn address(words: [u32; 4]) -> IpAddr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(octets).to_canonical()
}

fn name(index: u32) -> &'static str {
    const NAMES: [(Counter, &str); COUNTERS as usize] = [
        (Counter::Redirected, "redirected"),
        (Counter::RefusedNamespace, "refused_namespace"),
        (Counter::RefusedNoteFull, "refused_note_full"),
        (Counter::RefusedNoSettings, "refused_no_settings"),
        (Counter::FlowFull, "flow_full"),
        (Counter::FlowAbandoned, "flow_abandoned"),
        (Counter::RefusedOwnPort, "refused_own_port"),
        (Counter::ProcessesFull, "processes_full"),
        (Counter::EventsLost, "events_lost"),
        (Counter::CgroupsFull, "cgroups_full"),
        (Counter::GuardOut, "guard_out"),
        (Counter::GuardIn, "guard_in"),
        (Counter::GuardOdd, "guard_odd"),
        (Counter::RefusedProtocol, "refused_protocol"),
        (Counter::RefusedBind, "refused_bind"),
        (Counter::RefusedSocket, "refused_socket"),
        (Counter::RefusedOption, "refused_option"),
        (Counter::RefusedUnix, "refused_unix"),
        (Counter::RefusedPassed, "refused_passed"),
        (Counter::RefusedTrace, "refused_trace"),
        (Counter::RefusedUnlisted, "refused_unlisted"),
        (Counter::Unlisted, "unlisted"),
        (Counter::PassedBy, "passed_by"),
        (Counter::StoppedLost, "stopped_lost"),
    ];
    NAMES.iter().find(|(counter, _)| *counter as u32 == index).map_or("unknown", |(_, name)| name)
}

pub(crate) fn open(pins: &Path, name: &str) -> Result<MapData, KernelError> {
    MapData::from_pin(pins.join(name))
        .map_err(|error| KernelError::refused(format!("opening the pinned map {name}"), &error))
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Key(FlowKey);

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Value(Note);

// SAFETY: both are plain structures of integers without padding (sizes asserted in the ABI crate),
// so that any bytes are a value.
unsafe impl Pod for Key {}
// SAFETY: as above.
unsafe impl Pod for Value {}
