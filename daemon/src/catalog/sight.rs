//! What a session did by which it may see other things under a name than the daemon does.
//!
//! Temporary relations are a session's own, and so is all that it has not committed. Nothing here is
//! forgotten before the session ends: what it makes may be there until then.

use std::collections::HashMap;

use chaperone_model::{Access, Relation, Rung, Statement};

/// Names that a session may make before none means what it means to others.
const MADE: usize = 256;

/// What a session did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    /// The names that it made or dropped, and what the statements touched that did it.
    made: HashMap<String, Vec<Relation>>,
    /// Any name may mean something else.
    lost: bool,
    /// Schemas may have other names.
    moved: bool,
    /// Counts what was learned.
    version: u64,
}

impl Sight {
    /// A statement is sent on.
    pub(crate) fn learn(&mut self, statement: &Statement) {
        if !self.moved && (statement.renames.is_some() || statement.opaque) {
            self.moved = true;
            self.version += 1;
        }
        let sets = SETS.contains(&statement.kind.as_str()) && statement.rung >= Rung::Destructive;
        if !(sets || changes_schema(statement)) {
            return;
        }
        let names_all = makes_only_what_it_names(&statement.kind);
        if statement.opaque || statement.cascade || !names_all {
            if !self.lost {
                self.lose();
            }
            return;
        }
        self.version += 1;
        let of = |access| statement.relations.iter().filter(move |one| one.access == access);
        for made in of(Access::Write) {
            let behind = self.made.entry(made.name.name.clone()).or_default();
            behind.extend(of(Access::Read).cloned());
            behind.sort();
            behind.dedup();
        }
        if self.made.len() > MADE || self.made.values().any(|behind| behind.len() > MADE) {
            self.made.clear();
            self.lose();
        }
    }

    /// No name without a schema is sure any more. What it made and makes from here on is still known
    /// where others do not see it.
    fn lose(&mut self) {
        self.lost = true;
        self.version += 1;
    }

    /// Something is sent on of which nothing was read.
    pub(crate) fn lose_all(&mut self) {
        self.lose();
        self.moved = true;
    }

    /// As it is once the statements of a text have run.
    pub(crate) fn behind(&self, text: &[Statement]) -> Self {
        let mut sight = self.clone();
        for statement in text {
            sight.learn(statement);
        }
        sight
    }

    /// Whether schemas may have other names.
    pub(crate) fn has_moved(&self) -> bool {
        self.moved
    }

    /// Whether any name may mean something else.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// What stands behind a name that the session made itself. `known`: others see a relation of that
    /// name; where no name is sure, that is what it may be, as any other may.
    pub(crate) fn made(&self, name: &str, known: bool) -> Option<&[Relation]> {
        if self.lost && known {
            return None;
        }
        self.made.get(name).map(Vec::as_slice)
    }

    /// Changes whenever something was learned.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }
}

/// What is the session's alone: where it looks for names is followed apart from this, but another
/// role looks elsewhere, too.
const SETS: [&str; 3] = ["SET", "RESET", "DISCARD ALL"];

/// Whether names may mean something else after a statement, for others as well.
pub(crate) fn changes_schema(statement: &Statement) -> bool {
    const ROWS_ONLY: [&str; 14] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "MERGE",
        "TRUNCATE TABLE",
        "COPY",
        "LOCK TABLE",
        "VACUUM",
        "ANALYZE",
        "REINDEX",
        "CLUSTER",
        "REFRESH MATERIALIZED VIEW",
        "EXPLAIN",
    ];
    let kind = statement.kind.as_str();
    statement.opaque
        || statement.rung >= Rung::Destructive
            && !ROWS_ONLY.contains(&kind)
            && !SETS.contains(&kind)
        || statement.rung == Rung::Forbidden
}

/// Whether what a kind of statement makes or drops is what it names.
fn makes_only_what_it_names(kind: &str) -> bool {
    const KINDS: [&str; 12] = [
        "CREATE TABLE",
        "CREATE TABLE AS",
        "SELECT INTO",
        "CREATE VIEW",
        "CREATE MATERIALIZED VIEW",
        "CREATE SEQUENCE",
        "CREATE INDEX",
        "DROP TABLE",
        "DROP VIEW",
        "DROP MATERIALIZED VIEW",
        "DROP SEQUENCE",
        "DROP INDEX",
    ];
    KINDS.contains(&kind)
}

#[cfg(test)]
mod tests {
    use chaperone_model::QualifiedName;

    use super::*;

    fn statement(kind: &str, rung: Rung, names: &[(&str, Access)]) -> Statement {
        let relation = |(name, access): &(&str, Access)| Relation {
            name: QualifiedName { schema: None, name: (*name).into() },
            access: *access,
        };
        Statement {
            relations: names.iter().map(relation).collect(),
            ..Statement::new(kind, rung, "")
        }
    }

    #[test]
    fn p2_what_a_session_made_is_its_own() {
        let mut sight = Sight::default();
        let makes = [("copy", Access::Write), ("customers", Access::Read)];
        sight.learn(&statement("CREATE TABLE AS", Rung::Destructive, &makes));
        assert_eq!(sight.made("copy", true).map(<[_]>::len), Some(1));
        assert_eq!((sight.made("customers", true), sight.is_lost()), (None, false));
        sight.learn(&statement("DELETE", Rung::Destructive, &[("x", Access::Write)]));
        assert_eq!((sight.made("x", false), sight.version()), (None, 1));
        sight.learn(&statement("ALTER TABLE", Rung::Destructive, &[("copy", Access::Write)]));
        assert!(sight.is_lost(), "it may have been renamed");
        let version = sight.version();
        let makes = [("later", Access::Write), ("customers", Access::Read)];
        sight.learn(&statement("SELECT INTO", Rung::Destructive, &makes));
        for name in ["copy", "later"] {
            assert!(sight.made(name, false).is_some() && sight.made(name, true).is_none());
        }
        assert!(sight.version() > version);
    }

    #[test]
    fn p2_after_code_that_nobody_read_no_name_is_sure() {
        let mut sight = Sight::default();
        let code = Statement { opaque: true, ..statement("SELECT", Rung::Destructive, &[]) };
        sight.learn(&code);
        assert!(sight.is_lost() && changes_schema(&code));
        let mut sight = Sight::default();
        for number in 0..=MADE {
            let name = number.to_string();
            sight.learn(&statement("CREATE TABLE", Rung::Destructive, &[(&name, Access::Write)]));
        }
        assert!(sight.is_lost());
    }
}
