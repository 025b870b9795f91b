//! What rules say, for those who write them.

use std::fmt::Write as _;

use anyhow::Result;

use super::{json_line, json_lines, print, printable, statement_line, table, text};
use crate::policy::{Changed, Tested};

pub(crate) fn tested(tested: &Tested, json: bool) -> Result<()> {
    if json {
        return json_line(tested);
    }
    let mut out = format!("{}: {}\n", tested.verdict, tested.rule);
    if let Some(message) = &tested.message {
        let _ = writeln!(out, "message: {message}");
    }
    if !tested.approvers.is_empty() {
        let _ = writeln!(out, "approvers: {}", tested.approvers.join(", "));
    }
    for (index, one) in tested.reading.statements.iter().enumerate() {
        let decides = tested.statement == Some(index) && tested.reading.statements.len() > 1;
        let mark = if decides { " (this one decides)" } else { "" };
        let _ = writeln!(out, "{} is {}: {}{mark}", one.kind, one.rung, one.reason);
        for relation in &one.relations {
            let _ = writeln!(
                out,
                "  {} {}",
                relation.name,
                match relation.access {
                    chaperone_model::Access::Read => "is read",
                    chaperone_model::Access::Write => "is changed",
                }
            );
        }
        for function in &one.functions {
            let _ = writeln!(out, "  {function} is called");
        }
    }
    if let Some(disagreement) = &tested.reading.disagreement {
        let _ = writeln!(out, "two readers disagree: {disagreement}");
    }
    print(&printable(&out))
}

pub(crate) fn replayed(changed: &[Changed], looked_at: u64, json: bool) -> Result<()> {
    if json {
        return json_lines(changed);
    }
    let mut table =
        table(&["ID", "TIME", "AGENT", "TARGET", "WAS", "WOULD BE", "CLASS", "RULE", "STATEMENT"]);
    for one in changed {
        table.add_row([
            one.id.to_string(),
            one.time.clone(),
            text(one.agent.as_ref()),
            text(one.target.as_ref()),
            one.was.clone(),
            one.would_be.to_owned(),
            one.class.to_owned(),
            one.rule.clone(),
            statement_line(one.statement.as_deref(), None),
        ]);
    }
    if !changed.is_empty() {
        print(&table.to_string())?;
    }
    print(&format!(
        "{} of {looked_at} commands would be decided otherwise (limits of rate are not replayed)",
        changed.len()
    ))
}
