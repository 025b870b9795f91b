//! What rules say, for those who write them.

use std::fmt::Write as _;

use anyhow::Result;
use chaperone_model::{Access, ProgramUse, Statement};

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
        if let Some(program) = &one.program {
            let _ = writeln!(out, "  {} is run", self::program(program));
        }
        for (path, access) in files(one) {
            let how = match access {
                Access::Read => "may be read",
                Access::Write => "may be changed",
            };
            let _ = writeln!(out, "  {path} {how}");
        }
        if one.other_files.is_some() {
            let _ = writeln!(out, "  other files may be touched");
        }
        if one.opaque {
            let _ = writeln!(out, "  it may do what its text does not show");
        }
        for relation in &one.relations {
            let _ = writeln!(
                out,
                "  {} {}",
                relation.name,
                match relation.access {
                    Access::Read => "is read",
                    Access::Write => "is changed",
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

/// The files that a statement names, each for the most that is done with it.
pub(super) fn files(statement: &Statement) -> Vec<(String, Access)> {
    let mut found: Vec<(String, Access)> = Vec::new();
    for one in &statement.paths {
        let path = format!("{}{}", one.path, if one.below { " and what is below" } else { "" });
        match found.iter_mut().find(|(known, _)| *known == path) {
            Some((_, access)) => *access = one.access.max(*access),
            None => found.push((path, one.access)),
        }
    }
    found
}

/// A program with its words, and what runs it.
pub(super) fn program(program: &ProgramUse) -> String {
    let name = if program.name.is_empty() { "(not known)" } else { &program.name };
    let words = program.arguments.iter().map(|word| word.text.as_str());
    let line: Vec<&str> = std::iter::once(name).chain(words).collect();
    let mut shown = line.join(" ");
    if !program.context.is_empty() {
        let _ = write!(shown, " (by {})", program.context.join(", "));
    }
    shown
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
