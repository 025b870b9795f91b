//! What a target itself says of a statement that waits for a person: how many rows the planner
//! expects, and which foreign keys reach further. Asked over the daemon's own connection, where the
//! target has a credential, in a transaction that can change nothing.
//!
//! Does not belong here: deciding anything by it.

use std::time::Duration;

use chaperone_control::{Hold, Inspection};
use chaperone_model::{AgentName, OriginalAddr, QualifiedName, Rung};
use chaperone_wire::postgres::Row;
use tokio::time::timeout;

use crate::{asking::Asking, shared::Shared, socket::Route, upstream::Held};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Relations that are looked up.
const RELATIONS: usize = 8;

/// Where a statement would have gone.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// The target's place in the configuration.
    pub(crate) target: usize,
    pub(crate) server: OriginalAddr,
    /// The way there, where it is none of this host's own.
    pub(crate) route: Option<Route>,
    pub(crate) agent: AgentName,
    pub(crate) database: Option<String>,
}

/// Finds out what can be found out.
pub(crate) async fn inspect(shared: &Shared, place: &Destination, waiting: &Hold) -> Inspection {
    let unknown = |why: String| Inspection { unknown: Some(why), ..Inspection::default() };
    let target = &shared.config.targets[place.target];
    let held = match target.credential(&place.agent) {
        Ok(Some(index)) => shared.upstreams[place.target].held.get(index),
        _ => None,
    };
    let Some(held) = held else {
        return unknown("the target has no credential with which the daemon could ask it".into());
    };
    match timeout(PATIENCE, ask(shared, place, held, waiting)).await {
        Ok(Ok(inspection)) => inspection,
        Ok(Err(why)) => unknown(why),
        Err(_) => unknown("the target did not answer in time".into()),
    }
}

async fn ask(
    shared: &Shared,
    place: &Destination,
    held: &Held,
    waiting: &Hold,
) -> Result<Inspection, String> {
    let mut asking =
        Asking::connect(&shared.deriving, place, held, "chaperone (looking into a held statement)")
            .await?;
    for text in
        ["BEGIN READ ONLY", "SET LOCAL statement_timeout = '2s'", "SET LOCAL lock_timeout = '1s'"]
    {
        asking.ask(text).await?;
    }
    let mut found = Inspection::default();
    let statements = waiting.reading.as_ref().map(|reading| reading.statements.as_slice());
    let mut names: Vec<&QualifiedName> = Vec::new();
    for statement in statements.unwrap_or_default() {
        for relation in &statement.relations {
            if !names.contains(&&relation.name) && names.len() < RELATIONS {
                names.push(&relation.name);
            }
        }
    }
    for name in names {
        let regclass = literal(&quoted(name));
        let rows = asking
            .ask(&format!("SELECT greatest(reltuples, 0)::bigint FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({regclass})"))
            .await?;
        if let Some(count) = number(&rows) {
            found.relations.push((name.to_string(), count));
        }
        let rows = asking.ask(&cascades(&regclass)).await?;
        for row in rows {
            if let [Some(from), Some(to), Some(what), Some(key)] = row.as_slice() {
                found.cascades.push(format!(
                    "removing rows of {from} {what} rows of {to} that refer to them ({key})"
                ));
            }
        }
    }
    // Planning runs functions that say that they change nothing: only those that are known to.
    let plannable = match statements {
        Some([one]) => {
            !one.opaque
                && one.rung < Rung::Forbidden
                && ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"].contains(&one.kind.as_str())
        }
        _ => false,
    };
    match &waiting.statement {
        Some(text) if plannable && waiting.parameters.as_deref().is_none_or(|p| p == "[]") => {
            match asking.ask(&format!("EXPLAIN (FORMAT JSON) {text}")).await {
                Ok(rows) => found.estimated_rows = estimate(&rows),
                Err(why) => found.unknown = Some(format!("no estimate: {why}")),
            }
        }
        _ => {
            found.unknown =
                Some("no estimate: it has parameters, or is no statement that is planned".into());
        }
    }
    asking.goodbye().await;
    Ok(found)
}

/// Foreign keys that act when rows of a relation are removed, and those behind them.
fn cascades(regclass: &str) -> String {
    format!(
        "WITH RECURSIVE reached (relation, depth) AS (
             SELECT pg_catalog.to_regclass({regclass})::oid, 0
             UNION SELECT c.conrelid, r.depth + 1 FROM pg_catalog.pg_constraint c
                   JOIN reached r ON c.confrelid = r.relation
                   WHERE c.contype = 'f' AND c.confdeltype = 'c' AND r.depth < 8)
         SELECT c.confrelid::regclass::text, c.conrelid::regclass::text,
                CASE c.confdeltype WHEN 'c' THEN 'removes' ELSE 'changes' END, c.conname::text
         FROM pg_catalog.pg_constraint c
         WHERE c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd')
               AND c.confrelid IN (SELECT relation FROM reached)
         ORDER BY 1, 2, 4 LIMIT 32"
    )
}

fn quoted(name: &QualifiedName) -> String {
    let quote = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
    match &name.schema {
        Some(schema) => format!("{}.{}", quote(schema), quote(&name.name)),
        None => quote(&name.name),
    }
}

pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn number(rows: &[Row]) -> Option<u64> {
    rows.first()?.first()?.as_deref()?.parse().ok()
}

/// Rows of the plan, or of what it changes: a node that changes rows yields none itself.
fn estimate(rows: &[Row]) -> Option<u64> {
    let text: String = rows.iter().filter_map(|row| row.first()?.as_deref()).collect();
    let plan: serde_json::Value = serde_json::from_str(&text).ok()?;
    let plan = plan.get(0)?.get("Plan")?;
    let of = |plan: &serde_json::Value| plan.get("Plan Rows").and_then(serde_json::Value::as_u64);
    if plan.get("Node Type").and_then(serde_json::Value::as_str) == Some("ModifyTable") {
        return of(plan.get("Plans")?.get(0)?);
    }
    of(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        let name = QualifiedName { schema: Some("a\"b".into()), name: "c'd".into() };
        assert_eq!(literal(&quoted(&name)), r#"'"a""b"."c''d"'"#);
    }

    #[test]
    fn the_estimate_is_of_the_rows_that_are_changed() {
        let plan = r#"[{"Plan": {"Node Type": "ModifyTable", "Plan Rows": 0, "Plans": [{"Plan Rows": 42}]}}]"#;
        let rows = |text: &str| vec![vec![Some(text.to_owned())]];
        assert_eq!(estimate(&rows(plan)), Some(42));
        assert_eq!(
            estimate(&rows(r#"[{"Plan": {"Node Type": "Seq Scan", "Plan Rows": 7}}]"#)),
            Some(7)
        );
        assert_eq!(estimate(&[]), None);
    }
}
