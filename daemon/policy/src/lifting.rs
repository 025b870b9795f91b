//! Lifting a mask for a run of an agent: who may say so, when it is enough, and until when it holds.
//!
//! Does not belong here: clocks, whether the run still goes on, and what becomes of values.

use std::{sync::Arc, time::Duration};

use chaperone_model::{AgentName, TargetName, Timestamp};

use crate::{
    Terms,
    approval::{Count, Objection, Person, after},
};

/// What is to be lifted, for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lift {
    /// The mask.
    pub mask: Arc<str>,
    /// The agent.
    pub agent: AgentName,
    /// Its run.
    pub run: Arc<str>,
    /// On this target; `None` is on all that the mask is for.
    pub target: Option<TargetName>,
    /// For how long.
    pub lasts: Duration,
}

/// What people have said of it.
#[derive(Debug)]
pub struct Petition {
    count: Count,
    lift: Lift,
}

/// Where it stands.
#[derive(Debug)]
pub enum Reply {
    /// More people are needed.
    Waiting {
        /// So many.
        missing: u32,
    },
    /// It is enough.
    Lifted(Lifted),
}

/// A mask is lifted. Neither made elsewhere nor copied.
#[derive(Debug)]
pub struct Lifted {
    lift: Lift,
    until: Timestamp,
}

impl Petition {
    /// Nobody has said anything yet. `None` where it asks for longer than the mask allows.
    pub fn new(terms: Arc<Terms>, lift: Lift, askers: Vec<u32>) -> Option<Self> {
        let fits = !lift.lasts.is_zero() && lift.lasts <= terms.lifetime;
        fits.then(|| Self { count: Count::new(terms, askers), lift })
    }

    /// Under which terms.
    pub fn terms(&self) -> &Terms {
        self.count.terms()
    }

    /// What for.
    pub fn lift(&self) -> &Lift {
        &self.lift
    }

    /// Whether a person's word counts.
    ///
    /// # Errors
    /// An [`Objection`].
    pub fn may(&self, person: &Person, approve: bool) -> Result<(), Objection> {
        self.count.may(person, approve)
    }

    /// A person is for it. Its time begins with the last who must be.
    ///
    /// # Errors
    /// An [`Objection`]: it does not count.
    pub fn approve(&mut self, person: &Person, now: Timestamp) -> Result<Reply, Objection> {
        let missing = self.count.approve(person)?;
        if missing > 0 {
            return Ok(Reply::Waiting { missing });
        }
        let until = after(now, self.lift.lasts);
        Ok(Reply::Lifted(Lifted { lift: self.lift.clone(), until }))
    }
}

impl Lifted {
    /// What for.
    pub fn lift(&self) -> &Lift {
        &self.lift
    }

    /// Until when.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// The mask that is lifted for what this run does there now, where one is.
    pub fn of(
        &self,
        agent: &AgentName,
        run: &str,
        target: &TargetName,
        now: Timestamp,
    ) -> Option<&Arc<str>> {
        let Lift { mask, agent: its, run: of, target: at, lasts: _ } = &self.lift;
        let meant = its == agent && **of == *run && at.as_ref().is_none_or(|at| at == target);
        (meant && now < self.until).then_some(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bind, Wait};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn terms(quorum: u32) -> Arc<Terms> {
        Arc::new(Terms {
            rule: "mail".into(),
            approvers: vec!["group:dpo".parse().expect("an approver")],
            deadline: Duration::from_mins(1),
            quorum,
            wait: Wait::Stay,
            lifetime: Duration::from_mins(5),
            uses: None,
            bind: Bind::Run,
            also: Vec::new(),
        })
    }

    fn lift(target: Option<&str>, lasts: Duration) -> Lift {
        Lift {
            mask: "mail".into(),
            agent: AgentName("cleaner".into()),
            run: "r1".into(),
            target: target.map(|name| TargetName(name.into())),
            lasts,
        }
    }

    fn person(uid: u32, name: &str, group: &str) -> Person {
        Person { uid, name: name.into(), groups: vec![group.into()] }
    }

    fn lifted(target: Option<&str>) -> Lifted {
        let lift = lift(target, Duration::from_mins(1));
        let mut petition = Petition::new(terms(1), lift, vec![]).expect("it may");
        match petition.approve(&person(7, "anna", "dpo"), NOW) {
            Ok(Reply::Lifted(lifted)) => lifted,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn p5_a_mask_is_lifted_for_one_run_on_its_targets_until_its_time() {
        let minute = Timestamp(NOW.0 + 60_000_000);
        for (given, agent, run, target, now, expected) in [
            (None, "cleaner", "r1", "prod", NOW, true),
            (None, "cleaner", "r1", "test", NOW, true),
            (Some("prod"), "cleaner", "r1", "prod", NOW, true),
            (Some("prod"), "cleaner", "r1", "test", NOW, false),
            (None, "other", "r1", "prod", NOW, false),
            (None, "cleaner", "r2", "prod", NOW, false),
            (None, "cleaner", "r1", "prod", Timestamp(minute.0 - 1), true),
            (None, "cleaner", "r1", "prod", minute, false),
        ] {
            let lifted = lifted(given);
            let found = lifted.of(&AgentName(agent.into()), run, &TargetName(target.into()), now);
            assert_eq!(found.is_some(), expected, "{given:?} {agent} {run} {target} {now:?}");
        }
    }

    #[test]
    fn p5_it_takes_those_who_are_named_and_never_who_started_the_agent() {
        let lift = || lift(None, Duration::from_mins(1));
        let mut petition = Petition::new(terms(2), lift(), vec![64001, 1000]).expect("it may");
        for (who, why) in [
            (person(9, "eve", "dba"), "none of its approvers"),
            (person(64001, "svc", "dpo"), "somebody else's eyes"),
            (person(1000, "carl", "dpo"), "somebody else's eyes"),
        ] {
            let told = petition.approve(&who, NOW).expect_err(why).to_string();
            assert!(told.contains(why), "{told}");
        }
        let anna = person(7, "anna", "dpo");
        assert!(matches!(petition.approve(&anna, NOW), Ok(Reply::Waiting { missing: 1 })));
        assert!(matches!(petition.approve(&anna, NOW), Err(Objection::Again(_))));
        let later = Timestamp(NOW.0 + 5);
        match petition.approve(&person(8, "ben", "dpo"), later) {
            Ok(Reply::Lifted(lifted)) => assert_eq!(lifted.until().0, later.0 + 60_000_000),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn p5_nobody_lifts_a_mask_for_longer_than_it_allows() {
        for (lasts, fits) in [(300, true), (301, false), (0, false)] {
            let lift = lift(None, Duration::from_secs(lasts));
            assert_eq!(Petition::new(terms(1), lift, vec![]).is_some(), fits, "{lasts}");
        }
    }
}
