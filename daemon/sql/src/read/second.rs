//! The second reader: where it reads a text otherwise than PostgreSQL's grammar, the stricter of
//! both holds, and the difference is told.

use chaperone_model::{Reading, Rung};
use sqlparser::{
    ast::{SetExpr, Statement},
    dialect::PostgreSqlDialect,
    parser::Parser,
};

/// Terms that it may go deep: its trees are dropped by recursion.
const DEEPEST: usize = 50;
/// Longest text that it is given, in bytes: what is long is deep, too, and it has no bound of its
/// own where operators are chained.
const LONGEST: usize = 8 << 10;

/// Raises a reading to what the second reader sees.
pub(super) fn compare(text: &str, reading: &mut Reading) {
    if text.len() > LONGEST {
        return;
    }
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEEPEST);
    let Ok(statements) = parser.try_with_sql(text).and_then(|mut p| p.parse_statements()) else {
        return;
    };
    let count = reading.statements.len();
    // Fewer than there are is how it fails on tails: what the grammar sees is what is run.
    if statements.len() > count {
        return raise(
            reading,
            format!(
                "a second reader sees {} statements where the grammar sees {count}",
                statements.len()
            ),
        );
    }
    if statements.len() < count {
        reading.disagreement = Some(format!(
            "a second reader sees {} statements where the grammar sees {count}",
            statements.len()
        ));
        return;
    }
    for (own, other) in reading.statements.iter().zip(&statements) {
        if own.rung == Rung::Read && changes(other) {
            let kind = own.kind.clone();
            return raise(
                reading,
                format!("a second reader sees a change where the grammar sees {kind}"),
            );
        }
    }
}

fn raise(reading: &mut Reading, disagreement: String) {
    for statement in &mut reading.statements {
        if statement.rung < Rung::Destructive {
            statement.rung = Rung::Destructive;
            statement.reason = format!("two readers disagree: {disagreement}");
        }
    }
    reading.disagreement = Some(disagreement);
}

/// Whether it sees a statement that changes something, at its top.
fn changes(statement: &Statement) -> bool {
    match statement {
        Statement::Query(query) => {
            matches!(&*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_))
        }
        Statement::Insert(_)
        | Statement::Update { .. }
        | Statement::Delete(_)
        | Statement::Merge { .. }
        | Statement::Truncate { .. }
        | Statement::Drop { .. }
        | Statement::CreateTable(_)
        | Statement::CreateView { .. }
        | Statement::CreateIndex(_)
        | Statement::CreateFunction(_)
        | Statement::AlterTable { .. }
        | Statement::Grant { .. }
        | Statement::Revoke { .. } => true,
        _ => false,
    }
}
