//! Telling the log what the kernel side stopped or saw of agents: who tried what, and where to.
//!
//! An agent that tries a thousand times a second costs some records a second: the same attempt is
//! told once in a while with its number, and an agent's attempts of a kind up to a number. What was
//! never tried before is told beyond that, so that nothing hides behind a flood of something else.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use chaperone_kernel::{Attempt, Reason, Stops, UnixSockets};
use chaperone_model::EventKind;

use crate::{config::Config, naming::UNKNOWN, shared::Shared};

/// The same attempt is told at most so often.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Attempts of an agent, of a kind, that are told in that time.
const TOLD_AT_A_TIME: u32 = 20;
/// Attempts of an agent, of a kind, that are told beyond that because they are the first of theirs.
const FIRST_TOLD: usize = 512;
/// Attempts that are read at a time: who reads has other work, too.
const READ_AT_A_TIME: usize = 4096;

/// Reads and tells; see the module's comment.
pub(crate) struct Teller {
    stops: Stops,
    brake: Brake<What, (u32, Class)>,
    /// Agents' names by their numbers, which take a hash each.
    names: HashMap<u32, String>,
}

/// Attempts that are the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct What {
    reason: Reason,
    agent: u32,
    target: Option<u32>,
    address: SocketAddr,
    protocol: u32,
    traced: u32,
    name: String,
}

/// Attempts that share a number: those by which something is reached are in nobody's shadow.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    /// Most.
    Refused,
    Unlisted,
    PassedBy,
    Unix,
    Passed,
    Trace,
    Packet,
}

impl Teller {
    pub(crate) fn new(stops: Stops, config: &Config) -> Self {
        let numbers = config.agents.iter().map(|agent| agent.select.number());
        let names = numbers.map(|number| (number, agent_name(config, number))).collect();
        Self { stops, brake: Brake::default(), names }
    }

    /// Tells what there is to tell.
    pub(crate) fn read(&mut self, shared: &Shared) {
        let now = Instant::now();
        for _ in 0..READ_AT_A_TIME {
            let Some(attempt) = self.stops.take() else { break };
            let what = What::of(&attempt, shared.generation);
            if self.brake.tells(&what, (attempt.agent, class(attempt.reason)), now) {
                let text = self.sentence(&shared.config, &what);
                shared.event(None, kind(attempt.reason), format!("{text}{}", who(&attempt)));
            }
        }
        for (what, count) in self.brake.release(now) {
            let text = self.sentence(&shared.config, &what);
            shared.event(None, kind(what.reason), format!("{text}, {count} times more"));
        }
        for ((agent, class), count) in self.brake.overflown(now) {
            let name = self.agent(agent);
            let detail = format!(
                "agent {name}: {count} more attempts ({}) were stopped or seen than are told one by one",
                class.as_str()
            );
            shared.event(None, EventKind::Bypass, detail);
        }
    }

    fn agent(&self, number: u32) -> &str {
        self.names.get(&number).map_or(EARLIER, String::as_str)
    }

    fn sentence(&self, config: &Config, what: &What) -> String {
        format!("agent {}: {}", self.agent(what.agent), sentence(config, what))
    }
}

impl AsFd for Teller {
    /// It can be read where much is waiting.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stops.as_fd()
    }
}

impl What {
    fn of(attempt: &Attempt, generation: u32) -> Self {
        Self {
            reason: attempt.reason,
            agent: attempt.agent,
            target: attempt.target.filter(|_| attempt.generation == generation),
            address: attempt.address,
            protocol: attempt.protocol,
            traced: attempt.traced,
            name: attempt.name.clone(),
        }
    }
}

impl Class {
    fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused calls",
            Self::Unlisted => "unlisted places",
            Self::PassedBy => "protocols of targets elsewhere",
            Self::Unix => "Unix sockets",
            Self::Passed => "connections of others",
            Self::Trace => "processes of others",
            Self::Packet => "packets",
        }
    }
}

fn class(reason: Reason) -> Class {
    match reason {
        Reason::Unlisted | Reason::UnlistedRefused => Class::Unlisted,
        Reason::PassedBy => Class::PassedBy,
        Reason::Unix => Class::Unix,
        Reason::Passed => Class::Passed,
        Reason::Trace => Class::Trace,
        Reason::PacketOut | Reason::PacketIn | Reason::PacketOdd => Class::Packet,
        Reason::Protocol | Reason::Bind | Reason::Socket | Reason::Option => Class::Refused,
    }
}

/// Tells that the kernel side had no room for some.
pub(crate) fn lost(shared: &Shared, count: u64) {
    let detail = format!(
        "{count} attempts of agents that were stopped or seen are not told, because they came faster than they were read"
    );
    shared.event(None, EventKind::Bypass, detail);
}

/// What is told, by when it was, and what is not. `Whose` shares a number.
struct Brake<What, Whose> {
    told: HashMap<What, (Instant, u64)>,
    shares: HashMap<Whose, (Instant, u32, u64)>,
    known: HashMap<Whose, HashSet<What>>,
}

impl<What, Whose> Default for Brake<What, Whose> {
    fn default() -> Self {
        Self { told: HashMap::new(), shares: HashMap::new(), known: HashMap::new() }
    }
}

impl<What: Clone + Eq + Hash, Whose: Copy + Eq + Hash> Brake<What, Whose> {
    /// Whether an attempt is to be told; counts it where not.
    fn tells(&mut self, what: &What, whose: Whose, now: Instant) -> bool {
        if let Some((_, more)) = self.told.get_mut(what) {
            *more += 1;
            return false;
        }
        let (_, told, beyond) = self.shares.entry(whose).or_insert((now, 0, 0));
        if *told < TOLD_AT_A_TIME {
            *told += 1;
        } else {
            let known = self.known.entry(whose).or_default();
            if known.len() >= FIRST_TOLD || !known.insert(what.clone()) {
                *beyond += 1;
                return false;
            }
        }
        self.told.insert(what.clone(), (now, 0));
        true
    }

    /// What was told a while ago, with the number of times that it came since; it may be told again.
    fn release(&mut self, now: Instant) -> Vec<(What, u64)> {
        let old = |at: Instant| now.duration_since(at) >= TELL_EVERY;
        let all = self.told.extract_if(|_, (at, _)| old(*at));
        all.filter(|(_, (_, more))| *more > 0).map(|(what, (_, more))| (what, more)).collect()
    }

    /// Those some of whose attempts were not told, with the number of these.
    fn overflown(&mut self, now: Instant) -> Vec<(Whose, u64)> {
        let old = |at: Instant| now.duration_since(at) >= TELL_EVERY;
        let all = self.shares.extract_if(|_, (at, _, _)| old(*at));
        all.filter(|(_, (_, _, beyond))| *beyond > 0)
            .map(|(whose, (_, _, beyond))| (whose, beyond))
            .collect()
    }
}

/// Targets' Unix sockets, with the files that they are now.
pub(crate) fn unix_sockets(config: &Config) -> UnixSockets {
    let mut all = UnixSockets::default();
    for (index, target) in (0..).zip(&config.targets) {
        for name in &target.sockets {
            if !all.add(name, index) {
                tracing::warn!(
                    target = %target.name,
                    name,
                    "the name of this socket without links is longer than one can be: it counts by its file"
                );
            }
        }
    }
    all
}

const EARLIER: &str = "of an earlier configuration";

/// The names of the agents that have this number.
pub(crate) fn agent_name(config: &Config, number: u32) -> String {
    let all = config.agents.iter().filter(|agent| agent.select.number() == number);
    let names: Vec<_> = all.map(|agent| agent.name.to_string()).collect();
    if names.is_empty() { EARLIER.into() } else { names.join(" or ") }
}

pub(crate) fn target_name(config: &Config, index: Option<u32>) -> String {
    let place = index.map(|index| index & !UNKNOWN);
    let target = place.and_then(|place| config.targets.get(usize::try_from(place).ok()?));
    let Some(target) = target else { return EARLIER.into() };
    let is_unknown = index.is_some_and(|index| index & UNKNOWN != 0);
    format!("{}{}", target.name, if is_unknown { " (whose address is not known yet)" } else { "" })
}

fn kind(reason: Reason) -> EventKind {
    match reason {
        Reason::Unlisted | Reason::UnlistedRefused => EventKind::Unlisted,
        Reason::PassedBy => EventKind::PassedBy,
        _ => EventKind::Bypass,
    }
}

fn sentence(config: &Config, attempt: &What) -> String {
    let target = target_name(config, attempt.target);
    let at = attempt.address;
    let protocol = protocol(attempt.protocol);
    match attempt.reason {
        Reason::PacketOut => {
            format!("a packet ({protocol}) to target {target} at {at} was dropped")
        }
        Reason::PacketIn => {
            format!("a packet ({protocol}) from target {target} at {at} was dropped")
        }
        Reason::PacketOdd => {
            format!(
                "a packet to {} was dropped: it takes a way of its own, or cannot be read",
                at.ip()
            )
        }
        Reason::Protocol => {
            format!("{protocol} to target {target} at {at} was refused: targets are reached by TCP")
        }
        Reason::Bind => format!("taking the daemon's port by bind to {at} was refused"),
        Reason::Socket => {
            let why = if is_unseen(attempt.protocol) { "egress" } else { "deny_sockets" };
            format!("a socket of {} was refused ({why})", family(attempt.protocol))
        }
        Reason::Option => "making another protocol of a TCP connection was refused".into(),
        Reason::Unix => format!(
            "the Unix socket {} of target {target} was refused: the way is TCP",
            attempt.name
        ),
        Reason::Passed => format!(
            "a socket that was connected to target {target} at {at} without the daemon was refused"
        ),
        Reason::Trace => format!("reaching into process {} was refused", attempt.traced),
        Reason::UnlistedRefused => {
            format!("{protocol} to {at} was refused: it is neither a target nor in reach")
        }
        Reason::Unlisted => format!("it went to {at} ({protocol}), which is not listed"),
        Reason::PassedBy => format!(
            "it speaks {} with {at}, which is no target",
            if attempt.protocol == 22 { "SSH" } else { "PostgreSQL's protocol" }
        ),
    }
}

fn who(attempt: &Attempt) -> String {
    match attempt.process {
        Some(process) => format!(
            " (process {}, which calls itself {:?}, user id {})",
            process.tgid, attempt.comm, attempt.uid
        ),
        None => format!(
            " (a socket of user id {} from before the daemon, or that another made)",
            attempt.uid
        ),
    }
}

fn protocol(number: u32) -> String {
    match number {
        6 => "TCP".into(),
        17 => "UDP".into(),
        33 => "DCCP".into(),
        132 => "SCTP".into(),
        136 => "UDP-Lite".into(),
        262 => "MPTCP".into(),
        other => format!("IP protocol {other}"),
    }
}

/// Whether the kernel side refuses sockets of this protocol because it sees not where they lead.
fn is_unseen(both: u32) -> bool {
    matches!((both >> 16, both & 0xffff), (2 | 10, 33 | 115 | 136))
}

/// Of a socket that was not made: its family in the high half, its protocol in the low one.
fn family(both: u32) -> String {
    let name = match both >> 16 {
        2 => "IPv4",
        10 => "IPv6",
        17 => "packets (AF_PACKET)",
        40 => "AF_VSOCK",
        43 => "SMC",
        _ => return format!("family {}, protocol {}", both >> 16, both & 0xffff),
    };
    format!("{name}, protocol {}", both & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_an_agent_that_tries_again_and_again_is_told_a_few_times() {
        let (start, mut brake) = (Instant::now(), Brake::default());
        assert!(brake.tells(&1, 7, start));
        for _ in 0..1000 {
            assert!(!brake.tells(&1, 7, start));
        }
        assert_eq!(brake.release(start), []);
        let later = start + TELL_EVERY;
        assert_eq!(brake.release(later), [(1, 1000)]);
        assert!(brake.overflown(later).is_empty());
        assert!(brake.tells(&1, 7, later), "it is told again");
        assert_eq!(brake.release(later + TELL_EVERY), []);
    }

    #[test]
    fn p8_attempts_that_differ_are_told_up_to_a_number_and_counted_beyond() {
        let (start, mut brake) = (Instant::now(), Brake::default());
        let most = TOLD_AT_A_TIME as usize + FIRST_TOLD;
        assert_eq!((0..10_000).filter(|what| brake.tells(what, 7, start)).count(), most);
        assert!(brake.tells(&20_000, 8, start), "others are heard");
        assert_eq!(brake.overflown(start + TELL_EVERY), [(7, 10_000 - most as u64)]);
        // From then on nothing is new, and the number is what it is.
        let later = start + TELL_EVERY;
        brake.release(later);
        let told = (0..10_000).filter(|what| brake.tells(what, 7, later)).count();
        assert_eq!(u32::try_from(told), Ok(TOLD_AT_A_TIME));
        assert!(brake.told.len() <= most + 1, "memory is bounded");
    }

    #[test]
    fn p8_what_was_never_tried_is_told_behind_a_flood() {
        let (mut now, mut brake) = (Instant::now(), Brake::default());
        for round in 0..5 {
            let flood = (0..1000).map(|what| what % 30);
            let _ = flood.filter(|what| brake.tells(what, 7, now)).count();
            assert!(brake.tells(&(100 + round), 7, now), "hidden in round {round}");
            now += TELL_EVERY;
            brake.release(now);
            brake.overflown(now);
        }
    }
}
