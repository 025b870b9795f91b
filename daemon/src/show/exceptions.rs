//! Masks that are lifted, or asked to be, for people.

use anyhow::Result;
use chaperone_audit::ExceptionRow;
use chaperone_control::Exception;

use super::{json_lines, print, table, text, time};

pub(crate) fn exceptions(all: &[Exception], json: bool) -> Result<()> {
    if json {
        return json_lines(all);
    }
    if all.is_empty() {
        return print("no mask is lifted");
    }
    let mut table = table(&[
        "ID",
        "MASK",
        "AGENT",
        "RUN",
        "TARGET",
        "STATE",
        "UNTIL",
        "ASKED BY",
        "APPROVED BY",
        "REASON",
    ]);
    for one in all {
        let state = match one.until {
            Some(_) => "lifted".to_owned(),
            None => format!("asks {}", one.approvers.join(" and ")),
        };
        table.add_row([
            one.id.0.to_string(),
            one.mask.clone(),
            one.agent.clone(),
            one.run.clone(),
            text(one.target.as_ref()),
            state,
            one.until.or(one.deadline).map_or_else(String::new, time),
            one.asked_by.clone(),
            one.approved_by.join(", "),
            one.reason.clone(),
        ]);
    }
    print(&table.to_string())
}

pub(crate) fn past_exceptions(rows: &[ExceptionRow], json: bool) -> Result<()> {
    if json {
        return json_lines(rows);
    }
    let mut table = table(&[
        "ID", "TIME", "MASK", "AGENT", "RUN", "TARGET", "STATE", "UNTIL", "ENDED", "USES", "REASON",
    ]);
    for row in rows {
        table.add_row([
            row.id.to_string(),
            row.time.clone(),
            row.mask.clone(),
            row.agent.clone(),
            row.run.clone(),
            text(row.target.as_ref()),
            row.state.clone(),
            text(row.until.as_ref()),
            text(row.ended.as_ref()),
            row.uses.to_string(),
            text(row.reason.as_ref()),
        ]);
    }
    print(&table.to_string())
}
