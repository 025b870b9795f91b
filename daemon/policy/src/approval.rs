//! One hold, as people decide it: who may say what, when it is enough, and what is granted then.
//!
//! Does not belong here: clocks, who waits, and how people are reached.

use std::{fmt, sync::Arc, time::Duration};

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
    /// The rule that asked, and whom: what it says may be another thing at another time.
    pub rule: Arc<str>,
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
    /// The rule or the mask does not name them.
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
                write!(f, "{person} is none of its approvers, who are {approvers}")
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

/// Who is for something that people are asked.
#[derive(Debug)]
pub(crate) struct Count {
    terms: Arc<Terms>,
    /// Accounts that the agent runs under, or was started from.
    askers: Vec<u32>,
    /// Who is for it, and which of the panels they belong to.
    approved: Vec<(u32, Vec<bool>)>,
}

impl Count {
    pub(crate) fn new(terms: Arc<Terms>, askers: Vec<u32>) -> Self {
        Self { terms, askers, approved: Vec::new() }
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether a person's word counts.
    pub(crate) fn may(&self, person: &Person, approve: bool) -> Result<(), Objection> {
        if !self.seats(person).contains(&true) {
            let all = self.terms.panels().flat_map(|(approvers, _)| approvers);
            let approvers: Vec<_> = all.map(ToString::to_string).collect();
            return Err(Objection::NoApprover {
                person: person.name.clone(),
                approvers: approvers.join(", "),
            });
        }
        if approve && self.askers.contains(&person.uid) {
            return Err(Objection::OwnAgent(person.name.clone()));
        }
        if approve && self.approved.iter().any(|(uid, _)| *uid == person.uid) {
            return Err(Objection::Again(person.name.clone()));
        }
        Ok(())
    }

    /// A person is for it. Answers how many more it takes.
    pub(crate) fn approve(&mut self, person: &Person) -> Result<u32, Objection> {
        self.may(person, true)?;
        self.approved.push((person.uid, self.seats(person)));
        let missing = self.terms.panels().enumerate().map(|(panel, (_, quorum))| {
            let seated = self.approved.iter().filter(|(_, seats)| seats.get(panel) == Some(&true));
            quorum.max(1).saturating_sub(u32::try_from(seated.count()).unwrap_or(u32::MAX))
        });
        Ok(missing.fold(0, u32::saturating_add))
    }

    /// To which panels a person belongs.
    fn seats(&self, person: &Person) -> Vec<bool> {
        let is = |approver: &Approver| match approver {
            Approver::User(name) => *name == person.name,
            Approver::Group(name) => person.groups.contains(name),
        };
        self.terms.panels().map(|(approvers, _)| approvers.iter().any(is)).collect()
    }
}

/// What people have said of a hold.
#[derive(Debug)]
pub struct Ballot {
    count: Count,
    binding: Binding,
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
        Self { count: Count::new(terms, askers), binding }
    }

    /// Under which terms.
    pub fn terms(&self) -> &Terms {
        self.count.terms()
    }

    /// Whether a person's word counts.
    ///
    /// # Errors
    /// An [`Objection`].
    pub fn may(&self, person: &Person, approve: bool) -> Result<(), Objection> {
        self.count.may(person, approve)
    }

    /// A person is for it.
    ///
    /// # Errors
    /// An [`Objection`]: it does not count.
    pub fn approve(&mut self, person: &Person, now: Timestamp) -> Result<Standing, Objection> {
        let missing = self.count.approve(person)?;
        if missing > 0 {
            return Ok(Standing::Waiting { missing });
        }
        let terms = self.count.terms();
        Ok(Standing::Approved(Grant {
            rule: terms.rule.clone(),
            binding: self.binding.clone(),
            until: after(now, terms.lifetime),
            left: terms.uses,
        }))
    }
}

/// A moment so long after another.
pub(crate) fn after(at: Timestamp, time: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
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

#[cfg(test)]
mod tests {
    use chaperone_model::{Identity, Run, Version, VersionSource};

    use super::*;
    use crate::{Bind, Wait};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn terms(approvers: &[&str], quorum: u32, uses: Option<u32>) -> Arc<Terms> {
        let approvers = approvers.iter().map(|text| text.parse().expect("an approver")).collect();
        Arc::new(Terms {
            rule: "held".into(),
            approvers,
            deadline: Duration::from_mins(1),
            quorum,
            wait: Wait::Stay,
            lifetime: Duration::from_mins(1),
            uses,
            bind: Bind::Run,
            also: Vec::new(),
        })
    }

    fn binding() -> Binding {
        Binding {
            rule: "ask".into(),
            digest: [1; 32],
            agent: AgentName("cleaner".into()),
            run: "run-1".into(),
            target: TargetName("prod".into()),
            database: Some("app".into()),
            user: Some("rw".into()),
        }
    }

    fn person(uid: u32, name: &str, groups: &[&str]) -> Person {
        let groups = groups.iter().map(|&group| group.into()).collect();
        Person { uid, name: name.into(), groups }
    }

    fn grant(uses: Option<u32>) -> Grant {
        let mut ballot = Ballot::new(terms(&["user:anna"], 1, uses), binding(), vec![]);
        match ballot.approve(&person(7, "anna", &[]), NOW) {
            Ok(Standing::Approved(grant)) => grant,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_those_who_are_named_count_and_none_for_their_own_agent() {
        let terms = terms(&["group:dba", "user:anna"], 1, Some(1));
        // The agent's account, and the account that it was started from.
        let mut ballot = Ballot::new(terms, binding(), vec![64001, 1000]);
        for (who, approve, objection) in [
            (person(7, "anna", &[]), true, None),
            (person(8, "ben", &["staff", "dba"]), true, None),
            (person(9, "eve", &["dba2"]), true, Some("is none of its approvers")),
            (person(9, "eve", &["dba2"]), false, Some("who are group:dba, user:anna")),
            (person(9, "dba", &["anna"]), true, Some("none of")),
            (person(0, "root", &["root"]), true, Some("none of")),
            (person(64001, "svc", &["dba"]), true, Some("somebody else's eyes")),
            (person(1000, "anna", &[]), true, Some("somebody else's eyes")),
            (person(1000, "anna", &[]), false, None),
        ] {
            let found = ballot.may(&who, approve).map_err(|objection| objection.to_string());
            match objection {
                None => assert_eq!(found, Ok(()), "{who:?}"),
                Some(words) => assert!(found.expect_err(words).contains(words), "{who:?}"),
            }
        }
        let own = ballot.approve(&person(1000, "anna", &[]), NOW).expect_err("own");
        assert_eq!(own, Objection::OwnAgent("anna".into()));
    }

    #[test]
    fn root_approves_where_it_is_named() {
        let root = person(0, "root", &["root"]);
        for (approver, asker, expected) in
            [("user:root", 64001, true), ("user:anna", 64001, false), ("user:root", 0, false)]
        {
            let ballot = Ballot::new(terms(&[approver], 1, None), binding(), vec![asker]);
            assert_eq!(ballot.may(&root, true).is_ok(), expected, "{approver} {asker}");
        }
    }

    #[test]
    fn a_quorum_is_of_different_people() {
        let mut ballot = Ballot::new(terms(&["group:dba"], 3, Some(1)), binding(), vec![]);
        for (uid, name, expected) in [
            (7, "anna", Ok(2)),
            (7, "anna", Err(Objection::Again("anna".into()))),
            (7, "anna2", Err(Objection::Again("anna2".into()))),
            (8, "ben", Ok(1)),
            (9, "cleo", Ok(0)),
        ] {
            let missing = ballot.approve(&person(uid, name, &["dba"]), NOW);
            let missing = missing.map(|standing| match standing {
                Standing::Waiting { missing } => missing,
                Standing::Approved(_) => 0,
            });
            assert_eq!(missing, expected, "{name}");
        }
    }

    #[test]
    fn a_grant_is_for_exactly_what_was_approved() {
        let other = |change: fn(&mut Binding)| {
            let mut binding = binding();
            change(&mut binding);
            binding
        };
        for wrong in [
            other(|b| b.digest[31] = 0),
            other(|b| b.agent = AgentName("other".into())),
            other(|b| b.run = "run-2".into()),
            other(|b| b.target = TargetName("test".into())),
            other(|b| b.database = Some("app2".into())),
            other(|b| b.database = None),
            other(|b| b.user = Some("owner".into())),
            other(|b| b.user = None),
        ] {
            let mut grant = grant(Some(1));
            assert!(grant.redeem(&wrong, NOW).is_none(), "{wrong:?}");
            let (_, running) = grant.redeem(&binding(), NOW).expect("it was not used up");
            assert_eq!(&**running.rule(), "held");
        }
    }

    #[test]
    fn a_grant_is_used_up_and_expires() {
        let end = Timestamp(NOW.0 + 60_000_000);
        let before = Timestamp(end.0 - 1);
        for (uses, times, expected) in [
            (Some(1), vec![NOW, NOW], 1),
            (Some(2), vec![NOW, before, before], 2),
            (Some(2), vec![before, end, end], 1),
            (Some(1), vec![end], 0),
            (None, vec![NOW, NOW, before, before, end], 4),
        ] {
            let mut grant = grant(uses);
            let used = times.iter().filter(|now| grant.redeem(&binding(), **now).is_some());
            assert_eq!(used.count(), expected, "{uses:?} {times:?}");
            assert!(grant.is_spent(end), "{uses:?}");
        }
    }

    #[test]
    fn an_approval_is_bound_to_the_run_or_the_version() {
        let identity = |run: &str, version: Option<&str>| Identity {
            agent: AgentName("cleaner".into()),
            version: version.map(|text| Version { text: text.into(), source: VersionSource::File }),
            run: Run { name: run.into(), unit: None, container: None, image: None },
            lineage: [].into(),
            comm: String::new(),
            doubts: Vec::new(),
        };
        let terms = terms(&["user:anna"], 1, None);
        for (bind, run, version, expected) in [
            (Bind::Run, "r1", Some("1.4"), "r1"),
            (Bind::Version, "r1", Some("1.4"), "version 1.4"),
            (Bind::Version, "r2", Some("1.4"), "version 1.4"),
            (Bind::Version, "r2", Some("1.5"), "version 1.5"),
            (Bind::Version, "r2", None, "r2"),
        ] {
            let terms = Terms { bind, ..Terms::clone(&terms) };
            assert_eq!(&*terms.run(&identity(run, version)), expected);
        }
    }

    #[test]
    fn approvers_are_written_as_they_are_read() {
        for text in ["group:dba", "user:anna"] {
            assert_eq!(text.parse::<Approver>().map(|a| a.to_string()), Ok(text.into()));
        }
        for wrong in ["dba", "group:", "user:", "role:dba", ""] {
            assert_eq!(wrong.parse::<Approver>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn p1_whom_several_rules_ask_must_all_be_for_it() {
        let other = Terms {
            rule: "other".into(),
            uses: None,
            ..Terms::clone(&terms(&["user:eve"], 1, Some(3)))
        };
        let all = [&terms(&["user:anna", "user:bert"], 2, Some(1)), &Arc::new(other)];
        let together = Terms::together(&all).expect("terms");
        assert_eq!(together.uses, Some(1));
        let mut ballot = Ballot::new(together, binding(), Vec::new());
        let someone = |uid: u32, name: &str| Person { uid, name: name.into(), groups: Vec::new() };
        let missing = |standing| match standing {
            Ok(Standing::Waiting { missing }) => missing,
            Ok(Standing::Approved(_)) => 0,
            Err(objection) => panic!("{objection}"),
        };
        let now = Timestamp(0);
        assert_eq!(missing(ballot.approve(&someone(1, "anna"), now)), 2);
        assert_eq!(missing(ballot.approve(&someone(3, "eve"), now)), 1);
        assert!(ballot.approve(&someone(4, "mallory"), now).is_err());
        assert_eq!(missing(ballot.approve(&someone(2, "bert"), now)), 0);
    }
}
