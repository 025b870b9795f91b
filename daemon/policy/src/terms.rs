//! Under which terms a command waits for a person.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use chaperone_model::Identity;

use crate::Permit;

/// What a rule, or a mask, says of what people are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The rule, or the mask.
    pub rule: Arc<str>,
    /// Who may approve.
    pub approvers: Vec<Approver>,
    /// How long it waits.
    pub deadline: Duration,
    /// How many different people it takes.
    pub quorum: u32,
    /// Whether the agent waits.
    pub wait: Wait,
    /// How long an approval lasts.
    pub lifetime: Duration,
    /// How often it can be used; `None` is any number of times within its lifetime.
    pub uses: Option<u32>,
    /// What an approval is bound to, beside the agent, the target and the statement.
    pub bind: Bind,
    /// Others who must be for it as well: other rules ask them.
    pub also: Vec<Panel>,
}

/// Those whom one rule asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    /// Who may approve.
    pub approvers: Vec<Approver>,
    /// How many of them it takes.
    pub quorum: u32,
}

impl Terms {
    /// What several rules say of one command: all whom they ask must be for it, on the narrowest
    /// terms of any. `None` where nobody says anything.
    pub fn together(all: &[&Arc<Self>]) -> Option<Arc<Self>> {
        let (first, rest) = all.split_first()?;
        if rest.is_empty() {
            return Some(Arc::clone(first));
        }
        let mut terms = Self::clone(first);
        let mut names = vec![&*first.rule];
        for other in rest {
            names.push(&other.rule);
            terms.deadline = terms.deadline.min(other.deadline);
            terms.lifetime = terms.lifetime.min(other.lifetime);
            terms.uses = match (terms.uses, other.uses) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if other.wait == Wait::Retry {
                terms.wait = Wait::Retry;
            }
            if other.bind == Bind::Run {
                terms.bind = Bind::Run;
            }
            let panel = Panel { approvers: other.approvers.clone(), quorum: other.quorum };
            terms.also.push(panel);
            terms.also.extend(other.also.iter().cloned());
        }
        names.sort_unstable();
        terms.rule = names.join("; ").into();
        Some(Arc::new(terms))
    }

    /// All who must be for it: who may approve, and how many of them it takes.
    pub fn panels(&self) -> impl Iterator<Item = (&[Approver], u32)> {
        let first = (self.approvers.as_slice(), self.quorum);
        let also = self.also.iter().map(|panel| (panel.approvers.as_slice(), panel.quorum));
        std::iter::once(first).chain(also)
    }

    /// Those who may approve, panel by panel, in words.
    pub fn approver_lines(&self) -> Vec<String> {
        self.panels()
            .map(|(approvers, quorum)| {
                let names: Vec<_> = approvers.iter().map(ToString::to_string).collect();
                format!("{quorum} of {}", names.join(", "))
            })
            .collect()
    }

    /// How many people it takes, of all panels.
    pub fn quorum_of_all(&self) -> u32 {
        self.panels().map(|(_, quorum)| quorum).sum()
    }

    /// That a statement may be prepared: nothing of it runs before it has its parameters, and then
    /// a person is asked.
    pub fn prepare(&self) -> Permit {
        Permit(())
    }

    /// What an approval is bound to of the agent's run or version.
    pub fn run(&self, identity: &Identity) -> Arc<str> {
        match self.bind {
            Bind::Run => identity.run.name.clone(),
            Bind::Version => match &identity.version {
                Some(version) => format!("version {}", version.text).into(),
                // Without a version there is only the run.
                None => identity.run.name.clone(),
            },
        }
    }
}

/// Somebody who may approve.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Approver {
    /// Whoever is in this group.
    Group(String),
    /// This account.
    User(String),
}

impl FromStr for Approver {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(':') {
            Some(("group", name)) if !name.is_empty() => Ok(Self::Group(name.into())),
            Some(("user", name)) if !name.is_empty() => Ok(Self::User(name.into())),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Approver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(f, "group:{name}"),
            Self::User(name) => write!(f, "user:{name}"),
        }
    }
}

/// How an agent waits for a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Its statement stays open.
    #[default]
    Stay,
    /// It is told an id, and comes again.
    Retry,
}

impl Wait {
    /// The name that the configuration and the log use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stay => "stay",
            Self::Retry => "retry",
        }
    }
}

/// What an approval is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bind {
    /// The agent's run.
    #[default]
    Run,
    /// The agent's version.
    Version,
}
