//! Rules and verdicts: pure functions of (policy, identity, command, circumstances).
//!
//! The only place where a [`Permit`] is made. Does not belong here: I/O, clocks, how the rules are
//! written down, and the other proof, the log's receipt.

use std::{collections::HashMap, sync::Arc};

use chaperone_model::{
    CommandKind, Identity, Reading, Rung, Statement, TargetName, UNREADABLE, VerdictKind,
};

pub mod approval;
pub mod lifting;
pub mod mask;
mod rule;
mod terms;
mod when;

pub use rule::{Limits, Rule, Then};
pub use terms::{Approver, Bind, Panel, Terms, Wait};
pub use when::{ColumnGlob, NameGlob, Span, Versions, When};
pub use wildmatch::WildMatch;

/// The proof that a command may go on. Neither made elsewhere nor copied; forwarding consumes it.
#[derive(Debug)]
#[must_use = "a permit that is dropped forwards nothing"]
pub struct Permit(());

/// What policy says of a command.
#[derive(Debug)]
pub enum Verdict {
    /// It may be forwarded.
    Allow(Permit),
    /// It may not; with the rule's own words, where it has some.
    Deny(Option<Arc<str>>),
    /// It may, once a person has said so.
    Hold(Arc<Terms>),
}

/// A verdict and the rule that it comes from.
#[derive(Debug)]
pub struct Decision {
    /// What it says.
    pub verdict: Verdict,
    /// Which rule says it.
    pub rule: Arc<str>,
    /// What it would say if the target was not only observed.
    pub would: Option<VerdictKind>,
    /// Which statement of the reading decided.
    pub statement: Option<usize>,
}

/// A moment as rules speak of it, in the host's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// 1 is Monday, 7 Sunday (ISO 8601).
    pub weekday: u8,
    /// Of the day, from 0.
    pub minute: u16,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where it would go.
    pub target: &'a TargetName,
    /// Who asks.
    pub identity: &'a Identity,
    /// In which database, where that is known.
    pub database: Option<&'a str>,
    /// As which account at the target, where that is known.
    pub user: Option<&'a str>,
    /// As what it came.
    pub kind: CommandKind,
    /// What was read out of it. `None` is a statement that nobody could read, but for `Cancel`.
    pub reading: Option<&'a Reading>,
    /// Where the server looks for names without a schema, where that is known.
    pub search_path: Option<&'a [String]>,
    /// When.
    pub moment: Moment,
    /// This agent's commands on this target in the last minute, with this one.
    pub rate: u64,
}

impl<'a> Asked<'a> {
    /// About a session as a whole.
    pub fn of_session(
        target: &'a TargetName,
        identity: &'a Identity,
        database: Option<&'a str>,
        user: Option<&'a str>,
    ) -> Self {
        Self {
            target,
            identity,
            database,
            user,
            kind: CommandKind::Query,
            reading: None,
            search_path: None,
            moment: Moment { weekday: 1, minute: 0 },
            rate: 0,
        }
    }
}

/// What a target says where no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Let it through.
    Allow,
    /// Refuse it.
    Deny,
}

/// Whether verdicts are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are only recorded.
    Observe,
}

/// The policy in force.
#[derive(Clone, Debug)]
pub struct Policy {
    hash: String,
    targets: HashMap<TargetName, (Fallback, Mode, Arc<str>)>,
    rules: Vec<Rule>,
    unknown: Arc<str>,
    forbidden: Arc<str>,
    needs_rate: bool,
}

/// How strict an answer is, and what it is.
enum Answer<'a> {
    Allow,
    Hold(Vec<&'a Arc<Terms>>),
    Deny(Option<Arc<str>>),
}

impl Answer<'_> {
    fn strictness(&self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Hold(_) => 1,
            Self::Deny(_) => 2,
        }
    }
}

impl<'a> Answer<'a> {
    /// Adds whom it asks.
    fn ask(self, all: &mut Vec<&'a Arc<Terms>>) {
        if let Self::Hold(terms) = self {
            all.extend(
                terms
                    .into_iter()
                    .filter(|one| !all.iter().any(|known| Arc::ptr_eq(known, one)))
                    .collect::<Vec<_>>(),
            );
        }
    }
}

impl Policy {
    /// A policy of targets and rules. `hash` names the configuration that it was read from.
    pub fn new(
        hash: String,
        targets: impl IntoIterator<Item = (TargetName, Fallback, Mode)>,
        rules: Vec<Rule>,
    ) -> Self {
        let targets = targets
            .into_iter()
            .map(|(name, fallback, mode)| {
                let rule = format!("default of target {name}").into();
                (name, (fallback, mode, rule))
            })
            .collect();
        let needs_rate = rules.iter().any(Rule::needs_rate);
        Self {
            hash,
            targets,
            rules,
            unknown: "unknown target".into(),
            forbidden: "forbidden unless a rule allows it".into(),
            needs_rate,
        }
    }

    /// SHA-256 of what the policy was read from, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether [`Asked::rate`] matters.
    pub fn needs_rate(&self) -> bool {
        self.needs_rate
    }

    /// All who may approve something.
    pub fn approvers(&self) -> impl Iterator<Item = &Approver> {
        self.rules.iter().filter_map(Rule::terms).flat_map(|terms| &terms.approvers)
    }

    /// Decides one command. A target that the policy does not know is refused.
    pub fn decide(&self, asked: &Asked<'_>) -> Decision {
        let Some((fallback, mode, default)) = self.targets.get(asked.target) else {
            return Decision {
                verdict: Verdict::Deny(None),
                rule: self.unknown.clone(),
                would: None,
                statement: None,
            };
        };
        let (answer, rule, statement) = self.strictest(asked, *fallback, default);
        let mut rule = rule.clone();
        let (verdict, kind) = match answer {
            Answer::Allow => (Verdict::Allow(Permit(())), None),
            Answer::Deny(message) => (Verdict::Deny(message), Some(VerdictKind::WouldDeny)),
            Answer::Hold(terms) => match Terms::together(&terms) {
                Some(terms) => (Verdict::Hold(terms), Some(VerdictKind::WouldHold)),
                // There is always one.
                None => (Verdict::Deny(None), Some(VerdictKind::WouldDeny)),
            },
        };
        if let Verdict::Hold(terms) = &verdict
            && !terms.also.is_empty()
        {
            rule = terms.rule.clone();
        }
        match (mode, kind) {
            (Mode::Observe, Some(_)) => {
                Decision { verdict: Verdict::Allow(Permit(())), rule, would: kind, statement }
            }
            _ => Decision { verdict, rule, would: None, statement },
        }
    }

    /// The limits of sessions as a whole: of those that match, the strictest.
    pub fn limits(
        &self,
        target: &TargetName,
        identity: &Identity,
        database: Option<&str>,
        user: Option<&str>,
    ) -> Limits {
        let asked = Asked::of_session(target, identity, database, user);
        let mut limits = Limits::default();
        if self.targets.get(target).is_none_or(|(_, mode, _)| *mode == Mode::Observe) {
            return limits;
        }
        for rule in &self.rules {
            if let Then::Limit { rows, session, .. } = &rule.then
                && rule.when.may_match_session(&asked)
            {
                if let Some(rows) = rows
                    && limits.rows.as_ref().is_none_or(|(known, _)| rows < known)
                {
                    limits.rows = Some((*rows, rule.name.clone()));
                }
                if let Some(session) = session
                    && limits.session.as_ref().is_none_or(|(known, _)| session < known)
                {
                    limits.session = Some((*session, rule.name.clone()));
                }
            }
        }
        limits
    }

    fn strictest<'a>(
        &'a self,
        asked: &Asked<'_>,
        fallback: Fallback,
        default: &'a Arc<str>,
    ) -> (Answer<'a>, &'a Arc<str>, Option<usize>) {
        let single = |statement: Statement| {
            let (answer, rule) = self.of_statement(asked, &statement, fallback, default);
            (answer, rule, None)
        };
        let Some(reading) = asked.reading else {
            return single(if asked.kind == CommandKind::Cancel {
                Statement::new("CANCEL", Rung::Read, "it only cancels")
            } else {
                let why = "its text is not known";
                Statement { opaque: true, ..Statement::new(UNREADABLE, Rung::Destructive, why) }
            });
        };
        let mut found: Option<(Answer<'a>, &'a Arc<str>, Option<usize>)> = None;
        for (index, statement) in reading.statements.iter().enumerate() {
            let (answer, rule) = self.of_statement(asked, statement, fallback, default);
            match &mut found {
                Some((known, ..)) if answer.strictness() < known.strictness() => {}
                // All who are asked about any part of it are asked.
                Some((Answer::Hold(all), ..)) if answer.strictness() == 1 => answer.ask(all),
                Some((known, ..)) if answer.strictness() == known.strictness() => {}
                _ => found = Some((answer, rule, Some(index))),
            }
        }
        found.unwrap_or_else(|| single(Statement::new("", Rung::Read, "it holds no statement")))
    }

    /// The strictest matching rule holds; where none matches, the default.
    fn of_statement<'a>(
        &'a self,
        asked: &Asked<'_>,
        statement: &Statement,
        fallback: Fallback,
        default: &'a Arc<str>,
    ) -> (Answer<'a>, &'a Arc<str>) {
        let mut found: Option<(Answer<'a>, &'a Arc<str>)> = None;
        let mut lifted = statement.rung < Rung::Forbidden;
        // What is denied without a rule is not asked about where a rule only may match.
        let denied = !lifted || fallback == Fallback::Deny;
        for rule in &self.rules {
            let Some(answer) = rule.answer(asked, statement, denied) else { continue };
            lifted |= rule.when.classes.contains(&Rung::Forbidden) || rule.when.names(statement);
            match &mut found {
                Some((known, _)) if answer.strictness() < known.strictness() => {}
                Some((Answer::Hold(all), _)) if answer.strictness() == 1 => answer.ask(all),
                Some((known, _)) if answer.strictness() == known.strictness() => {}
                _ => found = Some((answer, &rule.name)),
            }
        }
        match found {
            Some((answer, rule)) if lifted || answer.strictness() == 2 => (answer, rule),
            _ if !lifted => (Answer::Deny(None), &self.forbidden),
            Some(found) => found,
            None => match fallback {
                Fallback::Allow => (Answer::Allow, default),
                Fallback::Deny => (Answer::Deny(None), default),
            },
        }
    }
}

impl Rule {
    /// What it says of a statement, where it matches. `denied`: without it the statement is denied.
    fn answer(&self, asked: &Asked<'_>, statement: &Statement, denied: bool) -> Option<Answer<'_>> {
        let may = || self.when.may_match(asked, statement);
        let surely = || self.when.surely_matches(asked, statement);
        match &self.then {
            Then::Allow => surely().then_some(Answer::Allow),
            Then::Deny(message) => may().then(|| Answer::Deny(message.clone())),
            Then::Hold(terms) => {
                (if denied { surely() } else { may() }).then(|| Answer::Hold(vec![terms]))
            }
            Then::Limit { statements: Some(most), .. } => (asked.rate > *most
                && self.when.may_match(asked, statement))
            .then(|| {
                Answer::Deny(Some(format!("at most {most} statements a minute are allowed").into()))
            }),
            Then::Limit { statements: None, .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
