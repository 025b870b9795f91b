//! Under which terms a command waits for a person.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use chaperone_model::Identity;

use crate::Permit;

/// What a rule says of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The rule.
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
}

impl Terms {
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

/// What an approval is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bind {
    /// The agent's run.
    #[default]
    Run,
    /// The agent's version.
    Version,
}
