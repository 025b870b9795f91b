//! What host names in the configuration stand for now: looked up again and again, and told to the
//! kernel side.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use chaperone_kernel::{Egress, Interception, KernelError, Others, Watch};
use tokio::{net::lookup_host, task::JoinSet, time::timeout};

use crate::{
    addresses::{Answers, LOOK_UP_EVERY, TargetAddress, watches},
    config::Config,
    near,
};

/// Marks the place of a target in the configuration: connections are watched because they may be
/// to one of its names of which no address is known yet.
pub(crate) const UNKNOWN: u32 = 1 << 31;

/// How long to wait where some name has no address yet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module's comment.
#[derive(Default)]
pub(crate) struct Naming {
    answers: Answers,
    /// Targets by their place in the configuration.
    watched: Vec<(Watch, u32)>,
    /// Names that could not be looked up the last time.
    failed: BTreeSet<String>,
    /// This host's addresses beside loopback.
    own: BTreeSet<IpAddr>,
    /// Whether every name of a target has an address.
    complete: bool,
    /// What agents may reach beside them, by the agents' numbers.
    reach: Vec<(u32, Watch)>,
}

impl Naming {
    /// Looks every name up; answers whether anything changed.
    pub(crate) async fn look_up(&mut self, config: &Config) -> bool {
        let seen = config.targets.iter().filter(|target| target.through.is_empty());
        let targets = seen.flat_map(|target| &target.addresses);
        let reach = config.agents.iter().flat_map(|agent| &agent.reach);
        let names: BTreeSet<(String, u16)> = targets
            .chain(reach)
            .filter_map(|address| match address {
                TargetAddress::Name(name, port) => Some((name.clone(), *port)),
                TargetAddress::Fixed(_) => None,
            })
            .collect();
        let mut asking = JoinSet::new();
        for (name, port) in names {
            asking.spawn(async move {
                let found = timeout(PATIENCE, lookup_host((name.as_str(), port))).await;
                let found = found.unwrap_or_else(|late| Err(late.into()));
                (found.map(|found| found.map(|address| address.ip()).collect()), name)
            });
        }
        while let Some(Ok((found, name))) = asking.join_next().await {
            match found {
                Ok(found) => {
                    let found: Vec<IpAddr> = found;
                    self.answers.learn(&name, &found, Instant::now());
                    self.failed.remove(&name);
                }
                // Told once: it is tried again soon.
                Err(error) if self.failed.insert(name.clone()) => {
                    let error: io::Error = error;
                    let what = if self.answers.is_unknown(&name) {
                        "a name could not be looked up, and no address of it is known: agents reach nothing by its port until one is"
                    } else {
                        "a name could not be looked up: it stands for what it did"
                    };
                    tracing::warn!(name, %error, "{what}");
                }
                Err(_) => {}
            }
        }
        self.settle(config)
    }

    /// Takes what is known of names by now; answers whether anything changed.
    pub(crate) fn settle(&mut self, config: &Config) -> bool {
        let mut watched: Vec<_> = (0..)
            .zip(&config.targets)
            .filter(|(_, target)| target.through.is_empty())
            .flat_map(|(index, target)| {
                let all = target.addresses.iter().flat_map(|a| self.answers.watches(a));
                all.map(move |watch| (watch, index))
            })
            .collect();
        let unknown = self.unknown(config, &watched);
        match near::own() {
            Ok(own) => self.own = own,
            Err(error) => {
                tracing::warn!(%error, "this host's addresses cannot be read: they count as they were");
            }
        }
        watched.extend(near::derived(&watched, &self.own));
        self.complete = unknown.is_empty();
        watched.extend(unknown);
        watched.sort_unstable();
        let mut reach: Vec<_> = config
            .agents
            .iter()
            .flat_map(|agent| {
                let number = agent.select.number();
                let all = agent.reach.iter().flat_map(|a| self.answers.watches(a));
                all.map(move |watch| (number, watch))
            })
            .collect();
        reach.sort_unstable();
        // The marked ones among them tell whether a name has become known.
        let changed = watched != self.watched || reach != self.reach;
        (self.watched, self.reach) = (watched, reach);
        changed
    }

    /// A name of which no address is known may stand for any: its port is watched at all of them,
    /// so that what is no other target's is refused until it is known. Each port is that of the
    /// first target that has it.
    fn unknown(&self, config: &Config, listed: &[(Watch, u32)]) -> Vec<(Watch, u32)> {
        let mut found: Vec<(Watch, u32)> = Vec::new();
        let seen = (0..).zip(&config.targets).filter(|(_, target)| target.through.is_empty());
        for (index, target) in seen {
            for address in &target.addresses {
                let TargetAddress::Name(name, port) = address else { continue };
                let watch = Watch::Any { port: *port };
                let taken = listed.iter().chain(&found).any(|(other, _)| *other == watch);
                if self.answers.is_unknown(name) && !taken {
                    found.push((watch, index | UNKNOWN));
                }
            }
        }
        found
    }

    /// When to look again.
    pub(crate) fn rest(&self) -> Duration {
        if self.complete { LOOK_UP_EVERY } else { LOOK_AGAIN }
    }

    /// Targets' addresses, with the targets' places in the configuration; those of which it is not
    /// known yet where they are have [`UNKNOWN`] in theirs.
    pub(crate) fn watched(&self) -> &[(Watch, u32)] {
        &self.watched
    }

    /// Whether the configuration refuses an agent, by its number, to reach an address.
    pub(crate) fn refuses(&self, config: &Config, agent: u32, address: SocketAddr) -> bool {
        egress(config).contains(&(agent, Egress::Deny))
            && !self.reach.iter().any(|(of, watch)| *of == agent && watches(watch, address))
    }

    /// Tells the kernel side.
    ///
    /// # Errors
    /// Where it is more than fits, or the kernel refuses.
    pub(crate) fn tell(
        &self,
        config: &Config,
        interception: &mut Interception,
    ) -> Result<(), KernelError> {
        // An address that an earlier start knew may be that of a name that cannot be looked up now.
        let others = if self.complete { Others::Remove } else { Others::Refuse };
        interception.set_targets(&self.watched, others)?;
        interception.set_egress(&egress(config), &self.reach)
    }
}

/// Agents that are told apart by their programs have one number, and the strictest word counts.
fn egress(config: &Config) -> Vec<(u32, Egress)> {
    let mut all: Vec<(u32, Egress)> = Vec::new();
    for agent in &config.agents {
        let Some(egress) = agent.egress else { continue };
        let number = agent.select.number();
        match all.iter_mut().find(|(known, _)| *known == number) {
            Some((_, known)) => *known = (*known).max(egress),
            None => all.push((number, egress)),
        }
    }
    all
}
