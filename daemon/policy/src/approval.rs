//! One hold, as people decide it: who may say what, when it is enough, and what is granted then.
//!
//! Does not belong here: clocks, who waits, and how people are reached.

use std::{fmt, sync::Arc};

use chaperone_model::{AgentName, TargetName, Timestamp};

use crate::{Approver, Permit, Terms};

/// A person, as the kernel and the user database say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their account's number.
    pub uid: u32,
    /// Its name.
    pub name: String,
    /// The names of its groups.
    pub groups: Vec<String>,
}

/// What an approval is for, exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// SHA-256 of the text and the parameters.
    pub digest: [u8; 32],
    /// The agent.
    pub agent: AgentName,
    /// Its run or version, as the rule says.
    pub run: Arc<str>,
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: Option<String>,
    /// The account at the target.
    pub user: Option<String>,
}

/// Why a person's word does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The rule does not name them.
    NoApprover {
        /// They.
        person: String,
        /// Who is named.
        approvers: String,
    },
    /// The agent runs under their account, or under one that they logged in with.
    OwnAgent(String),
    /// They have approved it already.
    Again(String),
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoApprover { person, approvers } => {
                write!(f, "{person} is none of this rule's approvers, who are {approvers}")
            }
            Self::OwnAgent(person) => {
                write!(f, "{person} started this agent: it takes somebody else's eyes")
            }
            Self::Again(person) => {
                write!(f, "{person} has approved it already: it takes different people")
            }
        }
    }
}

/// What people have said of a hold.
#[derive(Debug)]
pub struct Ballot {
    terms: Arc<Terms>,
    binding: Binding,
    /// Accounts that the agent runs under, or was started from.
    askers: Vec<u32>,
    approved: Vec<u32>,
}

/// Where it stands.
#[derive(Debug)]
pub enum Standing {
    /// More are needed.
    Waiting {
        /// So many.
        missing: u32,
    },
    /// It is enough.
    Approved(Grant),
}

impl Ballot {
    /// Nobody has said anything yet.
    pub fn new(terms: Arc<Terms>, binding: Binding, askers: Vec<u32>) -> Self {
        Self { terms, binding, askers, approved: Vec::new() }
    }

    /// Under which terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether a person's word counts.
    ///
    /// # Errors
    /// An [`Objection`].
    pub fn may(&self, person: &Person, approve: bool) -> Result<(), Objection> {
        let is = |approver: &Approver| match approver {
            Approver::User(name) => *name == person.name,
            Approver::Group(name) => person.groups.contains(name),
        };
        if !self.terms.approvers.iter().any(is) {
            let approvers: Vec<_> = self.terms.approvers.iter().map(ToString::to_string).collect();
            return Err(Objection::NoApprover {
                person: person.name.clone(),
                approvers: approvers.join(", "),
            });
        }
        if approve && self.askers.contains(&person.uid) {
            return Err(Objection::OwnAgent(person.name.clone()));
        }
        if approve && self.approved.contains(&person.uid) {
            return Err(Objection::Again(person.name.clone()));
        }
        Ok(())
    }

    /// A person is for it.
    ///
    /// # Errors
    /// An [`Objection`]: it does not count.
    pub fn approve(&mut self, person: &Person, now: Timestamp) -> Result<Standing, Objection> {
        self.may(person, true)?;
        self.approved.push(person.uid);
        let approved = u32::try_from(self.approved.len()).unwrap_or(u32::MAX);
        let missing = self.terms.quorum.max(1).saturating_sub(approved);
        if missing > 0 {
            return Ok(Standing::Waiting { missing });
        }
        let lifetime = i64::try_from(self.terms.lifetime.as_micros()).unwrap_or(i64::MAX);
        Ok(Standing::Approved(Grant {
            rule: self.terms.rule.clone(),
            binding: self.binding.clone(),
            until: Timestamp(now.0.saturating_add(lifetime)),
            left: self.terms.uses,
        }))
    }
}

/// What was approved, as long and as often as it can be used. It cannot be copied.
#[derive(Debug)]
pub struct Grant {
    rule: Arc<str>,
    binding: Binding,
    until: Timestamp,
    left: Option<u32>,
}

impl Grant {
    /// What it is for.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Uses it for a command, where it is for exactly this one: a permit for it, and for what a
    /// prepared statement runs once it was bound.
    pub fn redeem(&mut self, binding: &Binding, now: Timestamp) -> Option<(Permit, Running)> {
        if self.is_spent(now) || self.binding != *binding {
            return None;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Some((Permit(()), Running { rule: self.rule.clone() }))
    }

    /// Whether it can no longer be used.
    pub fn is_spent(&self, now: Timestamp) -> bool {
        now >= self.until || self.left == Some(0)
    }
}

/// What a person approved has been bound, and may be run. It cannot be copied.
#[derive(Debug)]
pub struct Running {
    rule: Arc<str>,
}

impl Running {
    /// For running it, and for more of its rows.
    pub fn permit(&self) -> Permit {
        Permit(())
    }

    /// The rule under which it was approved.
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }
}
