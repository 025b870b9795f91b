//! What waits for a person, for the person.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    Hold, HoldRow, agent, json_line, json_lines, print, printable, statement_line, table, text,
    time,
};

pub(crate) fn holds(holds: &[Hold], json: bool) -> Result<()> {
    if json {
        return json_lines(holds);
    }
    if holds.is_empty() {
        return print("nothing waits for a person");
    }
    let mut table = table(&[
        "ID",
        "SINCE",
        "UNTIL",
        "AGENT",
        "TARGET",
        "CLASS",
        "RULE",
        "APPROVED",
        "STATEMENT",
    ]);
    for hold in holds {
        let class = hold.reading.as_ref().map(chaperone_model::Reading::rung);
        table.add_row([
            hold.id.0.to_string(),
            time(hold.since),
            time(hold.deadline),
            agent(Some(&hold.agent), hold.version.as_deref()),
            hold.target.clone(),
            text(class.as_ref()),
            hold.rule.clone(),
            format!("{} of {}", hold.approved_by.len(), hold.quorum),
            statement_line(hold.statement.as_deref(), hold.parameters.as_deref()),
        ]);
    }
    print(&table.to_string())
}

pub(crate) fn past_holds(rows: &[HoldRow], json: bool) -> Result<()> {
    if json {
        return json_lines(rows);
    }
    let mut table =
        table(&["ID", "TIME", "AGENT", "TARGET", "CLASS", "RULE", "STATE", "DETAIL", "STATEMENT"]);
    for row in rows {
        table.add_row([
            row.id.to_string(),
            row.time.clone(),
            agent(row.agent.as_deref(), row.agent_version.as_deref()),
            text(row.target.as_ref()),
            text(row.class.as_ref()),
            row.rule.clone(),
            row.state.clone(),
            text(row.detail.as_ref()),
            statement_line(row.statement.as_deref(), row.parameters.as_deref()),
        ]);
    }
    print(&table.to_string())
}

/// One, with all that an approver should know.
pub(crate) fn hold(hold: &Hold, json: bool) -> Result<()> {
    if json {
        return json_line(hold);
    }
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let value = printable(value).replace('\n', "\n             ");
            let _ = writeln!(out, "{name:<12} {value}");
        }
    };
    line("hold", &hold.id.0.to_string());
    line("since", &time(hold.since));
    line("until", &time(hold.deadline));
    line("agent", &agent(Some(&hold.agent), hold.version.as_deref()));
    line("run", &hold.run);
    line("lineage", &hold.lineage);
    line("doubts", &hold.doubts.join("; "));
    line("target", &hold.target);
    line("database", &text(hold.database.as_ref()));
    line("user", &text(hold.user.as_ref()));
    line("session", &hold.session.0.to_string());
    line("transaction", if hold.in_transaction { "it is inside one" } else { "it is in none" });
    line("rule", &hold.rule);
    let asked = match hold.wait.as_str() {
        "stay" => "the agent waits for it",
        _ => "the agent was told to come again",
    };
    line("waiting", asked);
    line("approvers", &hold.approvers.join(" and "));
    line("approved by", &hold.approved_by.join(", "));
    line("lasts", &hold.lasts);
    for guess in &hold.guesses {
        line("guess", guess);
    }
    line("statement", hold.statement.as_deref().unwrap_or("(text not known)"));
    line("laid out", &text(hold.laid_out.as_ref()));
    line("parameters", &text(hold.parameters.as_ref()));
    if let Some(reading) = &hold.reading {
        for one in &reading.statements {
            line("it is", &format!("{}, {}: {}", one.kind, one.rung, one.reason));
            for relation in &one.relations {
                let how = match relation.access {
                    chaperone_model::Access::Read => "reads",
                    chaperone_model::Access::Write => "changes",
                };
                line(how, &relation.name.to_string());
            }
            if let Some(program) = &one.program {
                line("runs", &super::policy::program(program));
            }
            for (path, access) in super::policy::files(one) {
                let how = match access {
                    chaperone_model::Access::Read => "reads file",
                    chaperone_model::Access::Write => "changes file",
                };
                line(how, &path);
            }
            for function in &one.functions {
                line("calls", &function.to_string());
            }
            for sentence in &one.catalog {
                line("catalog", sentence);
            }
        }
        line("disagreement", &text(reading.disagreement.as_ref()));
    }
    if let Some(seen) = &hold.inspection {
        line("estimate", &seen.estimated_rows.map_or_else(String::new, |n| format!("{n} rows")));
        for (name, rows) in &seen.relations {
            line("relation", &format!("{name} has about {rows} rows"));
        }
        for cascade in &seen.cascades {
            line("cascade", cascade);
        }
        line("not known", &text(seen.unknown.as_ref()));
    }
    for before in &hold.before {
        let statement = statement_line(before.statement.as_deref(), None);
        line("before", &format!("{} {} {}: {statement}", before.id.0, before.time, before.status));
    }
    print(out.trim_end())
}
