//! What is gathered of one statement while its tree is looked through.

use chaperone_model::{Access, Column, QualifiedName, Relation, Rung, Statement};
use pg_query::{
    Node,
    protobuf::{DropBehavior, RangeVar},
};

use super::{functions, literals::Literals, names, scope::Scope};

/// One statement, as far as it has been looked through.
pub(super) struct Walk {
    pub(super) statement: Statement,
    pub(super) scope: Scope,
    pub(super) literals: Literals,
    /// The highest rung of the code that it calls, and why: planning runs it as well.
    calls: Option<(Rung, String)>,
    /// Where `MERGE_ACTION()` may stand.
    pub(super) in_merge: bool,
}

impl Walk {
    pub(super) fn new() -> Self {
        Self {
            statement: Statement::new("", Rung::Read, "it only reads"),
            scope: Scope::default(),
            literals: Literals::default(),
            calls: None,
            in_merge: false,
        }
    }

    /// Raises the statement to a rung. Of several reasons for one rung the first is told.
    pub(super) fn raise(&mut self, rung: Rung, reason: impl Into<String>) {
        if rung > self.statement.rung {
            self.statement.rung = rung;
            self.statement.reason = reason.into();
        }
    }

    /// As [`raise`](Self::raise), for code that the statement calls.
    fn run(&mut self, rung: Rung, reason: String) {
        if self.calls.as_ref().is_none_or(|(highest, _)| rung > *highest) {
            self.calls = Some((rung, reason.clone()));
        }
        self.raise(rung, reason);
    }

    /// Something that is on no list.
    pub(super) fn unknown(&mut self, what: &str) {
        self.statement.opaque = true;
        self.run(Rung::Destructive, format!("it {what}, which is not known to be harmless"));
    }

    /// A function is called.
    pub(super) fn call(&mut self, parts: &[&str]) {
        let Some(function) = names::qualified(parts) else {
            return self.unknown("calls something without a name");
        };
        match functions::rung(&function) {
            Some(Rung::Read) => {}
            Some(rung) => self.run(rung, format!("it calls {function}")),
            None => self.unknown(&format!("calls {function}")),
        }
        self.statement.functions.push(function);
    }

    /// An operator is used. Those that are found by search path the owners of the schema made, and
    /// the agent could not have put another there: DDL and `SET search_path` wait for a person. One
    /// that is asked for by its schema is somebody's own code.
    pub(super) fn operator(&mut self, name: &[Node]) {
        let parts = names::parts(name);
        if parts.len() > 1 && parts.first() != Some(&"pg_catalog") {
            self.unknown(&format!("uses the operator {}", parts.join(".")));
        } else if let [name] = parts.as_slice() {
            self.uses(name);
        }
    }

    /// An operator is looked for by its name, perhaps under a word of the language.
    pub(super) fn uses(&mut self, name: &str) {
        let names: &[&str] = match name {
            "BETWEEN" | "NOT BETWEEN" | "BETWEEN SYMMETRIC" | "NOT BETWEEN SYMMETRIC" => {
                &[">=", "<=", "<", ">"]
            }
            name => &[name],
        };
        self.statement.operators.extend(names.iter().map(|name| (*name).to_owned()));
    }

    /// A relation is named.
    pub(super) fn relation(&mut self, range: Option<&RangeVar>, access: Access) {
        if let Some(range) = range {
            self.statement.relations.push(Relation { name: names::relation(range), access });
        }
    }

    /// A column is named.
    pub(super) fn column(&mut self, relation: Option<QualifiedName>, name: &str, access: Access) {
        self.statement.columns.push(Column { relation, name: names::cut(name), access });
    }

    /// A condition of an update or a deletion is or is not one.
    pub(super) fn selects(&mut self, selective: bool) {
        self.statement.selective = Some(self.statement.selective.unwrap_or(true) && selective);
    }

    pub(super) fn behavior(&mut self, behavior: i32) {
        self.statement.cascade |= behavior == DropBehavior::DropCascade as i32;
    }

    /// What has been gathered is planned and not executed: only the code that planning runs counts.
    pub(super) fn is_planned(&mut self) {
        let (rung, reason) = match self.calls.take() {
            Some((rung, reason)) if rung >= Rung::Destructive => (rung, reason),
            _ => (Rung::Read, "it is planned, not executed".into()),
        };
        self.statement.rung = rung;
        self.statement.reason = reason;
        self.statement.selective = None;
        self.statement.cascade = false;
        (self.statement.deletes, self.statement.updates) = (false, false);
        for relation in &mut self.statement.relations {
            relation.access = Access::Read;
        }
        for column in &mut self.statement.columns {
            column.access = Access::Read;
        }
    }

    /// The statement, with everything in it once.
    pub(super) fn finish(self) -> (Statement, Literals) {
        let Self { mut statement, literals, .. } = self;
        statement.relations.sort();
        statement.relations.dedup();
        // Who changes it may read it as well.
        statement.relations.reverse();
        statement.relations.dedup_by(|next, kept| next.name == kept.name);
        statement.relations.reverse();
        statement.columns.sort();
        statement.columns.dedup();
        statement.functions.sort();
        statement.functions.dedup();
        statement.operators.sort();
        statement.operators.dedup();
        (statement, literals)
    }
}
