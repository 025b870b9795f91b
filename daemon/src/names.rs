//! What a session's own names stand for: statements of SQL's `PREPARE`, and cursors.
//!
//! A name stands for all that was ever sent under it: whether the server took the last change is not
//! waited for, and the strictest counts. What this session did not see made counts as the worst.

use std::{collections::HashMap, sync::Arc};

use chaperone_model::{NameUse, Reading, Rung, Statement};
use chaperone_wire::postgres::Named;

/// Names of each kind that a session may use before none is known any more.
const MOST: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct Names {
    prepared: HashMap<String, Statement>,
    cursors: HashMap<String, Statement>,
    /// Code that nobody read ran, and may have given the names to others; or there are too many.
    lost: bool,
}

impl Names {
    /// A reading in which what is run by name has the rung of what the name stands for. `taken`: a
    /// name that was ever taken by the protocol may be any.
    pub(crate) fn settle(&self, reading: Arc<Reading>, taken: Named) -> Arc<Reading> {
        if !reading.statements.iter().any(|statement| statement.name.is_some()) {
            return reading;
        }
        let mut settled = Reading::clone(&reading);
        // Those that the text itself makes on the way.
        let mut own = Self { lost: self.lost, ..Self::default() };
        for statement in &mut settled.statements {
            let (kind, taken, name, known) = match &statement.name {
                Some(NameUse::Executes(name)) => {
                    let known = [self.prepared.get(name), own.prepared.get(name)];
                    ("statement", taken.statements, name, known)
                }
                Some(NameUse::Fetches(name)) => {
                    let known = [self.cursors.get(name), own.cursors.get(name)];
                    ("cursor", taken.portals, name, known)
                }
                _ => {
                    own.learn_one(statement);
                    continue;
                }
            };
            if own.lost || taken || known == [None, None] {
                let reason = format!("it is not known what the {kind} {name} stands for");
                statement.rung = statement.rung.max(Rung::Destructive);
                (statement.reason, statement.opaque) = (reason, true);
                continue;
            }
            let name = name.clone();
            for known in known.into_iter().flatten() {
                let reason = format!("of the {kind} {name}: {}", known.reason);
                add(statement, known, reason);
            }
            own.learn_one(statement);
        }
        Arc::new(settled)
    }

    /// A command is sent on.
    pub(crate) fn learn(&mut self, reading: &Reading) {
        for statement in &reading.statements {
            self.learn_one(statement);
        }
    }

    /// Something is sent on of which nothing was read.
    pub(crate) fn lose(&mut self) {
        *self = Self { lost: true, ..Self::default() };
    }

    fn learn_one(&mut self, statement: &Statement) {
        if statement.opaque && !matches!(statement.name, Some(NameUse::Prepares(_))) {
            self.lose();
        }
        let (names, name) = match &statement.name {
            Some(NameUse::Prepares(name)) => (&mut self.prepared, name),
            Some(NameUse::Declares(name)) => (&mut self.cursors, name),
            _ => return,
        };
        if let Some(known) = names.get_mut(name) {
            let reason = statement.reason.clone();
            add(known, statement, reason);
            if known.relations.len() + known.columns.len() + known.functions.len() > MOST {
                self.lose();
            }
        } else if names.len() < MOST {
            names.insert(name.clone(), statement.clone());
        } else {
            self.lose();
        }
    }
}

/// The stricter of both, with what both touch.
pub(crate) fn add(to: &mut Statement, other: &Statement, reason: String) {
    if other.rung >= to.rung {
        (to.rung, to.reason) = (other.rung, reason);
    }
    to.relations.extend(other.relations.iter().cloned());
    to.columns.extend(other.columns.iter().cloned());
    to.functions.extend(other.functions.iter().cloned());
    to.relations.sort();
    to.relations.dedup();
    to.columns.sort();
    to.columns.dedup();
    to.functions.sort();
    to.functions.dedup();
    to.types.extend(other.types.iter().cloned());
    to.types.sort();
    to.types.dedup();
    to.selective = match (to.selective, other.selective) {
        (Some(a), Some(b)) => Some(a && b),
        (a, b) => a.or(b),
    };
    to.deletes |= other.deletes;
    to.updates |= other.updates;
    to.operators.extend(other.operators.iter().cloned());
    to.operators.sort();
    to.operators.dedup();
    to.cascade |= other.cascade;
    to.opaque |= other.opaque;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(names: &Names, reading: Arc<Reading>) -> Arc<Reading> {
        names.settle(reading, Named::default())
    }

    fn statement(rung: Rung, name: Option<NameUse>) -> Statement {
        Statement { name, ..Statement::new("X", rung, "it says so") }
    }

    fn reading(statements: Vec<Statement>) -> Arc<Reading> {
        Arc::new(Reading { statements, disagreement: None })
    }

    fn prepares(rung: Rung) -> Statement {
        statement(rung, Some(NameUse::Prepares("s".into())))
    }

    fn executes() -> Statement {
        statement(Rung::Read, Some(NameUse::Executes("s".into())))
    }

    #[test]
    fn p2_a_name_that_was_not_seen_made_counts_as_the_worst() {
        let names = Names::default();
        assert_eq!(settle(&names, reading(vec![executes()])).rung(), Rung::Destructive);
        let fetch = statement(Rung::Read, Some(NameUse::Fetches("s".into())));
        assert_eq!(
            settle(&names, reading(vec![prepares(Rung::Read), fetch])).rung(),
            Rung::Destructive
        );
    }

    #[test]
    fn p1_what_runs_by_name_has_the_rung_of_what_was_prepared() {
        let mut names = Names::default();
        names.learn(&reading(vec![prepares(Rung::Write)]));
        assert_eq!(settle(&names, reading(vec![executes()])).rung(), Rung::Write);
        // Whether this replaced it is for the server to say.
        names.learn(&reading(vec![prepares(Rung::Read)]));
        assert_eq!(settle(&names, reading(vec![executes()])).rung(), Rung::Write);
        // In one text.
        let both = reading(vec![prepares(Rung::Destructive), executes()]);
        assert_eq!(settle(&names, both).statements[1].rung, Rung::Destructive);
    }

    #[test]
    fn p2_after_code_that_nobody_read_no_name_is_known() {
        let mut names = Names::default();
        names.learn(&reading(vec![prepares(Rung::Read)]));
        let code = Statement { opaque: true, ..statement(Rung::Destructive, None) };
        names.learn(&reading(vec![code.clone()]));
        assert_eq!(settle(&names, reading(vec![executes()])).rung(), Rung::Destructive);
        let mut names = Names::default();
        names.learn(&reading(vec![prepares(Rung::Read)]));
        let text = reading(vec![code, executes()]);
        assert_eq!(settle(&names, text).statements[1].rung, Rung::Destructive);
    }

    #[test]
    fn p8_names_are_bounded() {
        let mut names = Names::default();
        for number in 0..=MOST {
            let name = Some(NameUse::Prepares(number.to_string()));
            names.learn(&reading(vec![statement(Rung::Read, name)]));
        }
        assert!(names.lost && names.prepared.is_empty());
    }

    #[test]
    fn p1_a_name_that_the_protocol_may_have_taken_counts_as_the_worst() {
        let mut names = Names::default();
        names.learn(&reading(vec![prepares(Rung::Read)]));
        let taken = Named { statements: true, portals: false };
        assert_eq!(names.settle(reading(vec![executes()]), taken).rung(), Rung::Destructive);
        assert_eq!(settle(&names, reading(vec![executes()])).rung(), Rung::Read);
    }
}
