//! What was read out of a command, as the log keeps it.

use chaperone_model::{Access, Reading};
use serde_json::{Map, Value, json};

/// Names of each kind that are kept: the text has all of them.
const MOST: usize = 64;

/// A JSON object: what each statement is, why it is on its rung, and what it touches.
pub(crate) fn of(reading: &Reading) -> String {
    let statements: Vec<Value> = reading
        .statements
        .iter()
        .take(MOST)
        .map(|statement| {
            let mut shown = Map::new();
            shown.insert("kind".into(), statement.kind.as_str().into());
            shown.insert("class".into(), statement.rung.as_str().into());
            shown.insert("reason".into(), statement.reason.as_str().into());
            let relations = |access| -> Vec<Value> {
                let of = statement.relations.iter().filter(|relation| relation.access == access);
                of.take(MOST).map(|relation| relation.name.to_string().into()).collect()
            };
            for (name, access) in [("reads", Access::Read), ("writes", Access::Write)] {
                let relations = relations(access);
                if !relations.is_empty() {
                    shown.insert(name.into(), relations.into());
                }
            }
            if !statement.paths.is_empty() {
                let mut paths: Vec<&str> =
                    statement.paths.iter().map(|one| one.path.as_str()).collect();
                paths.dedup();
                paths.truncate(MOST);
                shown.insert("paths".into(), paths.into());
            }
            if let Some(program) = &statement.program {
                shown.insert("program".into(), program.name.as_str().into());
                if !program.context.is_empty() {
                    shown.insert("within".into(), program.context.clone().into());
                }
            }
            if statement.opaque && statement.program.is_some() {
                shown.insert("hidden".into(), true.into());
            }
            if !statement.functions.is_empty() {
                let calls: Vec<Value> = statement
                    .functions
                    .iter()
                    .take(MOST)
                    .map(|function| function.to_string().into())
                    .collect();
                shown.insert("calls".into(), calls.into());
            }
            if let Some(selective) = statement.selective {
                shown.insert("selective".into(), selective.into());
            }
            if statement.cascade {
                shown.insert("cascade".into(), true.into());
            }
            if !statement.catalog.is_empty() {
                shown.insert("catalog".into(), statement.catalog.clone().into());
            }
            shown.into()
        })
        .collect();
    let mut summary = json!({ "statements": statements });
    if let (Some(more @ 1..), Some(summary)) =
        (reading.statements.len().checked_sub(MOST), summary.as_object_mut())
    {
        summary.insert("more".into(), more.into());
    }
    if let (Some(disagreement), Some(summary)) = (&reading.disagreement, summary.as_object_mut()) {
        summary.insert("disagreement".into(), disagreement.as_str().into());
    }
    summary.to_string()
}
