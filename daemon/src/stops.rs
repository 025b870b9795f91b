//! Telling the log what the kernel side stopped or saw of agents: who tried what, and where to.
//!
//! An agent that tries a thousand times a second costs some records a second: the same attempt is
//! told once in a while with its number, and an agent's attempts up to a number.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chaperone_kernel::{Attempt, Reason, Stops, UnixSockets};
use chaperone_model::EventKind;

use crate::{config::Config, shared::Shared};

/// The same attempt is told at most so often.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Attempts of an agent that are told in that time.
const TOLD_AT_A_TIME: u32 = 20;

/// Reads and tells; see the module's comment.
pub(crate) struct Teller {
    stops: Stops,
    brake: Brake<What>,
}

/// Attempts that are the same.
type What = (Reason, u32, String);

impl Teller {
    pub(crate) fn new(stops: Stops) -> Self {
        Self { stops, brake: Brake::default() }
    }

    /// Tells what there is to tell.
    pub(crate) fn read(&mut self, shared: &Shared) {
        let now = Instant::now();
        while let Some(attempt) = self.stops.take() {
            let text = sentence(&shared.config, shared.generation, &attempt);
            let what = (attempt.reason, attempt.agent, text);
            if self.brake.tells(&what, attempt.agent, now) {
                let (reason, _, text) = what;
                shared.event(None, kind(reason), format!("{text}{}", who(&attempt)));
            }
        }
        for ((reason, _, text), count) in self.brake.release(now) {
            shared.event(None, kind(reason), format!("{text}, {count} times more"));
        }
        for (agent, count) in self.brake.overflown(now) {
            let name = agent_name(&shared.config, agent);
            let detail = format!(
                "agent {name}: {count} more attempts were stopped or seen than are told one by one"
            );
            shared.event(None, EventKind::Bypass, detail);
        }
    }
}

/// Tells that the kernel side had no room for some.
pub(crate) fn lost(shared: &Shared, count: u64) {
    let detail = format!(
        "{count} attempts of agents that were stopped or seen are not told, because they came faster than they were read"
    );
    shared.event(None, EventKind::Bypass, detail);
}

/// What is told, by when it was, and what is not.
struct Brake<What> {
    told: HashMap<What, (Instant, u64)>,
    agents: HashMap<u32, (Instant, u32, u64)>,
}

impl<What> Default for Brake<What> {
    fn default() -> Self {
        Self { told: HashMap::new(), agents: HashMap::new() }
    }
}

impl<What: Clone + Eq + std::hash::Hash> Brake<What> {
    /// Whether an attempt is to be told; counts it where not.
    fn tells(&mut self, what: &What, agent: u32, now: Instant) -> bool {
        if let Some((_, more)) = self.told.get_mut(what) {
            *more += 1;
            return false;
        }
        let (_, told, beyond) = self.agents.entry(agent).or_insert((now, 0, 0));
        if *told >= TOLD_AT_A_TIME {
            *beyond += 1;
            return false;
        }
        *told += 1;
        self.told.insert(what.clone(), (now, 0));
        true
    }

    /// What was told a while ago, with the number of times that it came since; it may be told again.
    fn release(&mut self, now: Instant) -> Vec<(What, u64)> {
        let old = |at: Instant| now.duration_since(at) >= TELL_EVERY;
        let all = self.told.extract_if(|_, (at, _)| old(*at));
        all.filter(|(_, (_, more))| *more > 0).map(|(what, (_, more))| (what, more)).collect()
    }

    /// Agents some of whose attempts were not told, with the number of these.
    fn overflown(&mut self, now: Instant) -> Vec<(u32, u64)> {
        let old = |at: Instant| now.duration_since(at) >= TELL_EVERY;
        let all = self.agents.extract_if(|_, (at, _, _)| old(*at));
        all.filter(|(_, (_, _, beyond))| *beyond > 0)
            .map(|(agent, (_, _, beyond))| (agent, beyond))
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

/// The names of the agents that have this number.
pub(crate) fn agent_name(config: &Config, number: u32) -> String {
    let all = config.agents.iter().filter(|agent| agent.select.number() == number);
    let names: Vec<_> = all.map(|agent| agent.name.to_string()).collect();
    if names.is_empty() { "of an earlier configuration".into() } else { names.join(" or ") }
}

pub(crate) fn target_name(config: &Config, index: Option<u32>) -> String {
    let target = index.and_then(|index| config.targets.get(usize::try_from(index).ok()?));
    target.map_or_else(|| "of an earlier configuration".into(), |target| target.name.to_string())
}

fn kind(reason: Reason) -> EventKind {
    match reason {
        Reason::Unlisted | Reason::UnlistedRefused => EventKind::Unlisted,
        Reason::PassedBy => EventKind::PassedBy,
        _ => EventKind::Bypass,
    }
}

fn sentence(config: &Config, generation: u32, attempt: &Attempt) -> String {
    let agent = agent_name(config, attempt.agent);
    let index = attempt.target.filter(|_| attempt.generation == generation);
    let target = target_name(config, index);
    let at = attempt.address;
    let protocol = protocol(attempt.protocol);
    let what = match attempt.reason {
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
            format!("a socket of {} was refused (deny_sockets)", family(attempt.protocol))
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
    };
    format!("agent {agent}: {what}")
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
        let told = (0..1000).filter(|what| brake.tells(what, 7, start)).count();
        assert_eq!(u32::try_from(told), Ok(TOLD_AT_A_TIME));
        assert!(brake.tells(&0, 8, start) || brake.told.contains_key(&0), "others are heard");
        assert!(brake.tells(&2000, 8, start));
        assert_eq!(brake.overflown(start + TELL_EVERY), [(7, 1000 - u64::from(TOLD_AT_A_TIME))]);
    }
}
