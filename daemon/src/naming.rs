//! What host names in the configuration stand for now: looked up again and again, and told to the
//! kernel side.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use chaperone_kernel::{Egress, Interception, KernelError, Others, Watch};

use crate::{
    addresses::{Answers, TargetAddress},
    config::Config,
};

/// See the module's comment.
#[derive(Default)]
pub(crate) struct Naming {
    answers: Answers,
    /// Targets by their place in the configuration.
    watched: Vec<(Watch, u32)>,
    /// What agents may reach beside them, by the agents' numbers.
    reach: Vec<(u32, Watch)>,
    /// Names of targets of which no address is known.
    unknown: usize,
}

impl Naming {
    /// Looks every name up; answers whether anything changed.
    pub(crate) async fn look_up(&mut self, config: &Config) -> bool {
        let targets = config.targets.iter().flat_map(|target| &target.addresses);
        let reach = config.agents.iter().flat_map(|agent| &agent.reach);
        let mut seen = BTreeSet::new();
        for address in targets.chain(reach) {
            let TargetAddress::Name(name, port) = address else { continue };
            if !seen.insert((name, port)) {
                continue;
            }
            let found: Vec<IpAddr> = match tokio::net::lookup_host((name.as_str(), *port)).await {
                Ok(found) => found.map(|address| address.ip()).collect(),
                Err(error) => {
                    tracing::warn!(name, %error, "a name could not be looked up");
                    Vec::new()
                }
            };
            self.answers.learn(name, &found, Instant::now());
            if self.answers.is_unknown(name) {
                tracing::warn!(name, "no address of this name is known: it stands for nothing yet");
            }
        }
        self.settle(config)
    }

    /// Takes what is known of names by now; answers whether anything changed.
    pub(crate) fn settle(&mut self, config: &Config) -> bool {
        let targets = config.targets.iter().flat_map(|target| &target.addresses);
        let names = targets.filter_map(TargetAddress::name);
        let unknown = names.filter(|name| self.answers.is_unknown(name)).count();
        let mut watched: Vec<_> = (0..)
            .zip(&config.targets)
            .flat_map(|(index, target)| {
                let all = target.addresses.iter().flat_map(|a| self.answers.watches(a));
                all.map(move |watch| (watch, index))
            })
            .collect();
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
        let changed = watched != self.watched || reach != self.reach || unknown != self.unknown;
        (self.watched, self.reach, self.unknown) = (watched, reach, unknown);
        changed
    }

    /// Targets' addresses, with the targets' places in the configuration.
    pub(crate) fn watched(&self) -> &[(Watch, u32)] {
        &self.watched
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
        let others = if self.unknown > 0 { Others::Refuse } else { Others::Remove };
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
