//! Rules and verdicts: pure functions of (policy, identity, command).
//!
//! The only place where a [`Permit`] is made. Does not belong here: I/O, clocks, and the other
//! proof, the log's receipt.

use std::{collections::HashMap, sync::Arc};

use chaperone_model::{Command, Identity, TargetName};

/// The proof that policy allowed one command. Neither made elsewhere nor copied; forwarding
/// consumes it.
#[derive(Debug)]
#[must_use = "a permit that is dropped forwards nothing"]
pub struct Permit(());

/// What policy says of a command.
#[derive(Debug)]
pub enum Verdict {
    /// It may be forwarded.
    Allow(Permit),
    /// It may not.
    Deny,
}

/// A verdict and the rule that it comes from.
#[derive(Debug)]
pub struct Decision {
    /// What it says.
    pub verdict: Verdict,
    /// Which rule says it.
    pub rule: Arc<str>,
}

/// What a target says where no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Let it through.
    Allow,
    /// Refuse it.
    Deny,
}

/// The policy in force.
#[derive(Clone, Debug)]
pub struct Policy {
    hash: String,
    targets: HashMap<TargetName, (Fallback, Arc<str>)>,
    unknown: Arc<str>,
}

impl Policy {
    /// A policy of the targets' defaults. `hash` names the configuration that it was read from.
    pub fn new(hash: String, defaults: impl IntoIterator<Item = (TargetName, Fallback)>) -> Self {
        let targets = defaults
            .into_iter()
            .map(|(name, fallback)| {
                let rule = format!("default of target {name}").into();
                (name, (fallback, rule))
            })
            .collect();
        Self { hash, targets, unknown: "unknown target".into() }
    }

    /// SHA-256 of what the policy was read from, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Decides one command. A target that the policy does not know is refused.
    pub fn decide(
        &self,
        target: &TargetName,
        _identity: &Identity,
        _command: &Command,
    ) -> Decision {
        match self.targets.get(target) {
            Some((Fallback::Allow, rule)) => {
                Decision { verdict: Verdict::Allow(Permit(())), rule: rule.clone() }
            }
            Some((Fallback::Deny, rule)) => Decision { verdict: Verdict::Deny, rule: rule.clone() },
            None => Decision { verdict: Verdict::Deny, rule: self.unknown.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use chaperone_model::{AgentName, CommandKind, Run};

    use super::*;

    #[test]
    fn p2_an_unknown_target_is_refused() {
        let policy = Policy::new(
            String::new(),
            [(TargetName("a".into()), Fallback::Allow), (TargetName("b".into()), Fallback::Deny)],
        );
        let identity = Identity {
            agent: AgentName("x".into()),
            version: None,
            run: Run { name: "r".into(), unit: None, container: None },
            lineage: [].into(),
            comm: String::new(),
            doubts: Vec::new(),
        };
        let command = Command {
            kind: CommandKind::Query,
            text: None,
            statement: None,
            parameters: None,
            parameters_cut: false,
        };
        let verdict =
            |name: &str| policy.decide(&TargetName(name.into()), &identity, &command).verdict;
        assert!(matches!(verdict("a"), Verdict::Allow(_)));
        assert!(matches!(verdict("b"), Verdict::Deny));
        assert!(matches!(verdict("c"), Verdict::Deny));
    }
}
