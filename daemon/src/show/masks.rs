//! What masks would do to a statement, for those who write them.

use std::fmt::Write as _;

use anyhow::Result;

use super::{json_line, print, printable, table, text};
use crate::mask::Tested;

pub(crate) fn masks_tested(tested: &Tested, json: bool) -> Result<()> {
    if json {
        return json_line(tested);
    }
    let mut out = String::from(match tested.outcome {
        "passes" => "it passes\n",
        "held" => "it waits for a person\n",
        _ => "it is refused\n",
    });
    for why in &tested.why {
        let _ = writeln!(out, "  {why}");
    }
    for approvers in &tested.approvers {
        let _ = writeln!(out, "  approvers for {approvers}");
    }
    if tested.masks.is_empty() {
        let _ = writeln!(out, "no mask is for this session");
    } else {
        let _ = writeln!(out, "masks for this session: {}", tested.masks.join(", "));
    }
    for statement in &tested.statements {
        let Some(columns) = &statement.columns else {
            let _ = writeln!(out, "{}: no column of it is masked", statement.kind);
            continue;
        };
        let _ = writeln!(out, "{}:", statement.kind);
        let mut table = table(&["COLUMN", "SHOWN", "MASK", "FORM", "WHY"]);
        for (place, column) in columns.iter().enumerate() {
            table.add_row([
                column.name.clone().unwrap_or_else(|| format!("({})", place + 1)),
                column.shown.to_owned(),
                text(column.mask.as_ref()),
                text(column.form.as_ref()),
                column.why.clone(),
            ]);
        }
        let _ = writeln!(out, "{table}");
    }
    if !tested.views.is_empty() {
        let _ = writeln!(out, "views that were followed: {}", tested.views.join(", "));
    }
    if tested.withheld {
        let _ = writeln!(out, "the log has it without its values and parameters");
    }
    if let Some(unknown) = &tested.unknown {
        let _ = writeln!(out, "by its text alone: {unknown}");
    }
    print(printable(&out).trim_end())
}
