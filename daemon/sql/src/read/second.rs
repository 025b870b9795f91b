//! The second reader, which may object: where it reads a text otherwise, the stricter of both holds
//! and the difference is told.
//!
//! It is wrong more often than PostgreSQL's grammar is; that it is wrong elsewhere is what it is for.
//! Its trees are neither copied nor printed: both are done by recursion.

use chaperone_model::{Reading, Rung};
use sqlparser::{
    ast::{self, SetExpr},
    dialect::PostgreSqlDialect,
    parser::Parser,
};

/// How deep it may go.
const DEEPEST: usize = 100;
/// Longest text that it is given, in bytes: chains of operators are no depth to it while it reads,
/// and one level each when they are dropped.
const LONGEST: usize = 32 << 10;

/// Raises a reading to what the second reader sees. Where it cannot read the text it has no say.
pub(super) fn object(text: &str, reading: &mut Reading) {
    if text.len() > LONGEST {
        return;
    }
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEEPEST);
    let Ok(others) = parser.try_with_sql(text).and_then(|mut parser| parser.parse_statements())
    else {
        return;
    };
    let count = reading.statements.len();
    if others.len() != count {
        let what = format!(
            "a second reader counts {} where PostgreSQL's grammar counts {count}",
            match others.len() {
                1 => "1 statement".to_owned(),
                many => format!("{many} statements"),
            }
        );
        // Where it counts fewer it has lost some, as it does behind COPY FROM STDIN: what the grammar
        // sees is seen already. Where it counts more, the grammar may have.
        if others.len() > count {
            for statement in &mut reading.statements {
                raise(statement, Rung::Destructive, &what);
            }
        }
        reading.disagreement = Some(what);
        return;
    }
    for (statement, other) in reading.statements.iter_mut().zip(&others) {
        let Some(rung) = rung(other).filter(|rung| *rung > statement.rung) else { continue };
        let what = format!("a second reader sees more than {}", statement.kind);
        raise(statement, rung, &what);
        reading.disagreement = Some(what);
    }
}

fn raise(statement: &mut chaperone_model::Statement, rung: Rung, why: &str) {
    if rung > statement.rung {
        statement.rung = rung;
        why.clone_into(&mut statement.reason);
    }
}

/// The least that a statement is by its first words; `None` where they do not tell.
fn rung(statement: &ast::Statement) -> Option<Rung> {
    use ast::Statement as S;
    match statement {
        S::Query(query) => {
            let with = query.with.iter().flat_map(|with| &with.cte_tables);
            let bodies = with.map(|named| &named.query.body).chain([&query.body]);
            let changes = |body: &SetExpr| {
                matches!(
                    body,
                    SetExpr::Insert(_)
                        | SetExpr::Update(_)
                        | SetExpr::Delete(_)
                        | SetExpr::Merge(_)
                )
            };
            bodies.into_iter().any(|body| changes(body)).then_some(Rung::Write)
        }
        S::Insert(_) | S::Update(_) | S::Delete(_) | S::Merge(_) | S::Copy { to: false, .. } => {
            Some(Rung::Write)
        }
        S::Truncate(_)
        | S::Drop { .. }
        | S::DropFunction(_)
        | S::DropDomain(_)
        | S::DropProcedure { .. }
        | S::DropPolicy(_)
        | S::DropTrigger(_)
        | S::DropExtension(_)
        | S::DropOperator(_)
        | S::CreateTable(_)
        | S::CreateView(_)
        | S::CreateIndex(_)
        | S::CreateRole(_)
        | S::CreateFunction(_)
        | S::CreateProcedure { .. }
        | S::CreateTrigger(_)
        | S::CreatePolicy(_)
        | S::CreateSchema { .. }
        | S::CreateDatabase { .. }
        | S::CreateSequence { .. }
        | S::CreateDomain(_)
        | S::CreateType { .. }
        | S::CreateExtension(_)
        | S::CreateServer(_)
        | S::AlterTable(_)
        | S::AlterIndex { .. }
        | S::AlterView { .. }
        | S::AlterType(_)
        | S::AlterRole { .. }
        | S::AlterPolicy(_)
        | S::Grant(_)
        | S::Revoke(_)
        | S::Call(_) => Some(Rung::Destructive),
        _ => None,
    }
}
