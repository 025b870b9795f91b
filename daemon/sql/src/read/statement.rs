//! All statements of a text: what each is, and how the parts of the reader work together.

use chaperone_model::{Reading, Rung, Statement};
use pg_query::{
    Node, NodeEnum,
    protobuf::{ParseResult, RawStmt, SelectStmt},
};

use super::{literals::Literals, second, walk::Walk};

/// Reads all statements, and tells which literals mattered.
pub(super) fn all(text: &str, parsed: &ParseResult) -> (Reading, Vec<Literals>) {
    let mut reading = Reading::default();
    let mut literals = Vec::new();
    for RawStmt { stmt, stmt_location: _, stmt_len: _ } in &parsed.stmts {
        let (statement, looked_at) = one(stmt.as_deref());
        reading.statements.push(statement);
        literals.push(looked_at);
    }
    second::object(text, &mut reading);
    (reading, literals)
}

fn one(node: Option<&Node>) -> (Statement, Literals) {
    let mut walk = Walk::new();
    walk.statement.kind = walk.statement(node);
    walk.finish()
}

impl Walk {
    /// Looks through a statement and returns its kind.
    pub(super) fn statement(&mut self, node: Option<&Node>) -> String {
        let Some(statement) = node.and_then(|node| node.node.as_ref()) else {
            self.unknown("is a statement");
            return "UNKNOWN".into();
        };
        let kind = match statement {
            NodeEnum::SelectStmt(select) if makes_table(select) => "SELECT INTO",
            NodeEnum::SelectStmt(_) => "SELECT",
            NodeEnum::InsertStmt(_) => "INSERT",
            NodeEnum::UpdateStmt(_) => "UPDATE",
            NodeEnum::DeleteStmt(_) => "DELETE",
            NodeEnum::MergeStmt(_) => "MERGE",
            statement => return self.utility(statement),
        };
        self.query(node);
        kind.into()
    }

    /// A statement that changes what there is, or who may do what.
    pub(super) fn defines(&mut self) {
        self.raise(Rung::Destructive, "it changes what there is or who may do what");
    }
}

/// Whether a query writes its rows into a new table: `INTO` stands in the leftmost part.
pub(crate) fn makes_table(select: &SelectStmt) -> bool {
    let mut select = select;
    while let Some(left) = select.larg.as_deref() {
        if select.into_clause.is_some() {
            return true;
        }
        select = left;
    }
    select.into_clause.is_some()
}
