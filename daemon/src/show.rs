//! Tables for people, JSON for programs.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Result;
use chaperone_audit::{CommandDetail, CommandRow, EventRow, HoldRow, SessionRow};
use chaperone_control::{AnchorStatus, Hold, LiveSession, LogReader, Status};
use chaperone_model::Timestamp;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::{
    agents::Seen,
    config::{Agent, Config},
    daemon,
};

mod exceptions;
mod holds;
mod masks;
mod policy;

pub(crate) use exceptions::{exceptions, past_exceptions};
pub(crate) use holds::{hold, holds, past_holds};
pub(crate) use masks::masks_tested;
pub(crate) use policy::{replayed, tested};

/// Longest statement in a table; the whole of it is in `log show` and in JSON.
const STATEMENT: usize = 80;

pub(crate) fn commands(rows: &[CommandRow], json: bool) -> Result<()> {
    if json {
        return json_lines(rows);
    }
    let mut table =
        table(&["ID", "TIME", "AGENT", "LINEAGE", "TARGET", "STATUS", "ROWS", "MS", "STATEMENT"]);
    for row in rows {
        table.add_row(command_cells(row));
    }
    print(&table.to_string())
}

/// More of the same, without a head.
pub(crate) fn more_commands(rows: &[CommandRow], json: bool) -> Result<()> {
    if json {
        return json_lines(rows);
    }
    let lines: Vec<String> = rows.iter().map(|row| command_cells(row).join("  ")).collect();
    print(&lines.join("\n"))
}

fn command_cells(row: &CommandRow) -> [String; 9] {
    let id = if row.part == 0 { row.id.to_string() } else { format!("{}.{}", row.id, row.part) };
    let line = statement_line(row.statement.as_deref(), row.parameters.as_deref());
    let status = match &row.error_code {
        Some(code) => format!("{} {code}", row.status),
        None => row.status.clone(),
    };
    [
        id,
        row.time.clone(),
        agent(row.agent.as_deref(), row.agent_version.as_deref()),
        text(row.lineage.as_ref()),
        text(row.target.as_ref()),
        status,
        text(row.rows.as_ref()),
        row.duration_ms.map_or_else(String::new, |ms| format!("{ms:.1}")),
        line,
    ]
}

/// A statement with its parameters, short, in a line.
fn statement_line(statement: Option<&str>, parameters: Option<&str>) -> String {
    let statement = statement.unwrap_or("(text not known)");
    let mut line: String = clean(statement).chars().take(STATEMENT).collect();
    if statement.chars().count() > STATEMENT {
        line.push('…');
    }
    if let Some(parameters) = parameters.filter(|p| *p != "[]") {
        let short: String = clean(parameters).chars().take(STATEMENT / 2).collect();
        line = format!("{line}  {short}");
    }
    line
}

pub(crate) fn command(detail: &CommandDetail, json: bool) -> Result<()> {
    if json {
        return json_line(detail);
    }
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<12} {}", printable(value));
        }
    };
    if let Some(first) = detail.parts.first() {
        let c = &first.command;
        line("command", &c.id.to_string());
        line("time", &c.time);
        if let Some(session) = &detail.session {
            line("agent", &session.agent);
            line("version", &text(session.agent_version.as_ref()));
            line("run", &text(session.run.as_ref()));
            line("unit", &text(session.unit.as_ref()));
            line("container", &text(session.container.as_ref()));
            line("image", &text(session.image.as_ref()));
            line("lineage", &text(session.lineage.as_ref()));
            line("process", &format!("{} (uid {})", session.pid, session.uid));
            line("executable", &text(session.executable.as_ref()));
            line("SHA-256", &text(session.binary.as_ref()));
            line("script", &text(session.script.as_ref()));
            line("its SHA-256", &text(session.script_digest.as_ref()));
            line("doubts", &text(session.doubts.as_ref()));
            line("command line", &text(session.command_line.as_ref()));
            line("cgroup", &text(session.cgroup.as_ref()));
            line("target", &format!("{} at {}", session.target, session.server));
            line("session", &session.id.to_string());
            line("inside", &text(session.inside.map(|outer| format!("session {outer}")).as_ref()));
            line("sign-on", &text(session.sign_on.as_ref()));
            line("agent's TLS", &text(session.agent_tls.as_ref()));
            line("target's TLS", &text(session.target_tls.as_ref()));
        }
        line("user", &text(c.user.as_ref()));
        line("database", &text(c.database.as_ref()));
        line("class", &text(c.class.as_ref()));
        line("verdict", &format!("{} ({})", c.verdict, c.rule));
        line("approval", &text(c.approval.as_ref()));
        line("policy", &text(c.policy.as_ref()));
        line("reading", &text(c.summary.as_ref()));
        line("statement", c.statement.as_deref().unwrap_or("(text not known)"));
        line("parameters", &text(c.parameters.as_ref()));
        if c.parameters_cut {
            line("", "(more parameters were sent than are kept)");
        }
    }
    for part in &detail.parts {
        let c = &part.command;
        let tag = c.tag.as_deref().map(|tag| format!(": {tag}")).unwrap_or_default();
        line("outcome", &format!("{}{tag}", c.status));
        line(
            "error",
            [text(c.error_code.as_ref()), text(c.error_message.as_ref())].join(" ").trim(),
        );
        let took = c.duration_ms.map(|ms| format!("{ms:.3} ms")).unwrap_or_default();
        line("took", &took);
        if let (Some(rows), Some(bytes)) = (c.rows, c.bytes) {
            line("response", &format!("{rows} rows, {bytes} bytes"));
        }
        line("notices", &text(part.notices.as_ref()));
        line("masked", &text(c.masked.as_ref()));
        line("unmasked", &text(c.unmasked.as_ref()));
        line("columns", &text(part.columns.as_ref()));
        line("rows", &text(part.response.as_ref()));
        if part.truncated {
            line("", &format!("(the first {} rows are kept)", part.kept.unwrap_or(0)));
        }
    }
    print(out.trim_end())
}

pub(crate) fn sessions(rows: &[SessionRow], json: bool) -> Result<()> {
    if json {
        return json_lines(rows);
    }
    let mut table = table(&[
        "ID",
        "OPENED",
        "CLOSED",
        "AGENT",
        "RUN",
        "LINEAGE",
        "UID",
        "PID",
        "TARGET",
        "SERVER",
        "USER",
        "DATABASE",
        "COMMANDS",
        "CLOSED BY",
        "DETAIL",
    ]);
    for row in rows {
        table.add_row([
            row.id.to_string(),
            row.opened.clone(),
            text(row.closed.as_ref()),
            agent(Some(&row.agent), row.agent_version.as_deref()),
            text(row.run.as_ref()),
            text(row.lineage.as_ref()),
            row.uid.to_string(),
            row.pid.to_string(),
            row.target.clone(),
            match row.inside {
                Some(outer) => format!("{} (inside {outer})", row.server),
                None => row.server.clone(),
            },
            text(row.user.as_ref()),
            text(row.database.as_ref()),
            row.commands.to_string(),
            text(row.closed_by.as_ref()),
            text(row.detail.as_ref()),
        ]);
    }
    print(&table.to_string())
}

pub(crate) fn live_sessions(rows: &[LiveSession], json: bool) -> Result<()> {
    if json {
        return json_lines(rows);
    }
    let mut table = table(&[
        "ID", "SINCE", "AGENT", "RUN", "LINEAGE", "UID", "PID", "TARGET", "SERVER", "USER",
        "DATABASE", "COMMANDS",
    ]);
    for row in rows {
        table.add_row([
            row.id.0.to_string(),
            time(row.since),
            agent(Some(&row.agent), row.version.as_deref()),
            clean(&row.run),
            clean(&row.lineage),
            row.uid.to_string(),
            row.pid.to_string(),
            row.target.clone(),
            row.server.clone(),
            text(row.user.as_ref()),
            text(row.database.as_ref()),
            row.commands.to_string(),
        ]);
    }
    print(&table.to_string())
}

pub(crate) fn events(rows: &[EventRow], json: bool) -> Result<()> {
    if json {
        return json_lines(rows);
    }
    let mut table = table(&["ID", "TIME", "SESSION", "KIND", "DETAIL"]);
    for row in rows {
        table.add_row([
            row.id.to_string(),
            row.time.clone(),
            text(row.session.as_ref()),
            row.kind.clone(),
            printable(&row.detail),
        ]);
    }
    print(&table.to_string())
}

pub(crate) fn agents(configured: &[Agent], seen: &Seen, json: bool) -> Result<()> {
    if json {
        return json_line(seen);
    }
    let mut runs =
        table(&["AGENT", "RUN", "UNIT", "FIRST SEEN", "LAST SESSION", "SESSIONS", "TARGETS"]);
    for row in &seen.runs {
        runs.add_row([
            agent(Some(&row.agent), row.agent_version.as_deref()),
            clean(&row.run),
            text(row.unit.as_ref()),
            row.first_seen.clone(),
            text(row.last_session.as_ref()),
            row.sessions.to_string(),
            text(row.targets.as_ref()),
        ]);
    }
    for known in configured {
        if !seen.runs.iter().any(|row| row.agent == *known.name.0) {
            let name = known.name.to_string();
            runs.add_row([name, "not seen".into(), String::new(), String::new()]);
        }
    }
    let mut programs =
        table(&["AGENT", "PROGRAM", "SHA-256", "ENROLLED", "TARGET", "SESSIONS", "LAST SESSION"]);
    for program in &seen.programs {
        let row = &program.row;
        programs.add_row([
            agent(Some(&row.agent), row.agent_version.as_deref()),
            text(row.path.as_ref()),
            text(row.digest.as_ref()),
            if program.enrolled { "yes" } else { "no" }.into(),
            row.target.clone(),
            row.sessions.to_string(),
            row.last_session.clone(),
        ]);
    }
    print(&runs.to_string())?;
    if !seen.images.is_empty() {
        let mut images = table(&["AGENT", "IMAGE", "ENROLLED"]);
        for seen in &seen.images {
            let enrolled = if seen.enrolled { "yes" } else { "no" };
            images.add_row([clean(&seen.agent), clean(&seen.image), enrolled.into()]);
        }
        print(&format!("\n{images}"))?;
    }
    if seen.programs.is_empty() {
        return Ok(());
    }
    print(&format!("\n{programs}"))
}

pub(crate) fn status(status: &Status, json: bool) -> Result<()> {
    if json {
        return json_line(status);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("version", status.version.clone());
    row("serving since", time(status.since));
    row("process", status.pid.to_string());
    row("attached to", status.attach.display().to_string());
    let interception = &status.interception;
    let found = match (&interception.problem, interception.checked.map(time)) {
        (_, None) => "not looked at yet".into(),
        (Some(problem), Some(at)) => format!("BROKEN: {problem} (looked at {at})"),
        (None, Some(at)) => format!("in force (looked at {at})"),
    };
    row("interception", found);
    row("policy", status.policy.clone());
    row("live sessions", status.sessions.to_string());
    row("log", status.log.path.display().to_string());
    row("last record", status.log.last.to_string());
    row("waiting", format!("{} bytes", status.log.queued_bytes));
    row("lost outcomes", status.log.lost.to_string());
    row("log's error", text(status.log.error.as_ref()));
    for anchor in &status.anchors {
        row(&format!("anchor {}", anchor.name), anchor_line(anchor));
    }
    let index = &status.log.index;
    row("search index", format!("up to {} of {}", index.indexed, index.last));
    row("index's error", text(index.error.as_ref()));
    for reader in &status.log.readers {
        row("long reader", long_reader(reader));
    }
    for (name, count) in &status.counters {
        row(name, count.to_string());
    }
    print(&table.to_string())
}

fn anchor_line(anchor: &AnchorStatus) -> String {
    let mut line = match (anchor.size, anchor.at) {
        (Some(size), Some(at)) => {
            format!("{size} records at {}, behind by {}", time(at), anchor.behind)
        }
        _ => format!("none taken yet, behind by {}", anchor.behind),
    };
    if anchor.lags {
        line.insert_str(0, "LAGS: ");
    }
    if let Some(error) = &anchor.error {
        line = line + "; " + error;
    }
    line
}

fn long_reader(reader: &LogReader) -> String {
    let uid =
        reader.uid.map_or_else(|| "of an unknown user".into(), |uid| format!("user id {uid}"));
    format!(
        "process {} ({}, {uid}) has held a view of {} for {} s; its WAL has {} MiB",
        reader.pid,
        clean(&reader.program),
        clean(&reader.file),
        reader.held_seconds,
        reader.wal_bytes >> 20
    )
}

#[derive(Serialize)]
struct Checked<'a> {
    configuration: &'a Path,
    attach: String,
    agents: usize,
    targets: usize,
    policy: &'a str,
    /// What only the daemon's unit can read.
    elsewhere: &'a [String],
    warnings: &'a [String],
}

pub(crate) fn checked(
    path: &Path,
    config: &Config,
    elsewhere: &[String],
    json: bool,
) -> Result<()> {
    let checked = Checked {
        configuration: path,
        attach: daemon::attach_point(config),
        agents: config.agents.len(),
        targets: config.targets.len(),
        policy: config.policy.hash(),
        elsewhere,
        warnings: &config.warnings,
    };
    if json {
        return json_line(&checked);
    }
    print(&format!(
        "{} is good: {} agents, {} targets, attached to {}",
        path.display(),
        checked.agents,
        checked.targets,
        checked.attach
    ))?;
    config.warnings.iter().try_for_each(|what| print(&format!("warning: {what}")))?;
    elsewhere.iter().try_for_each(|what| print(&format!("not checked here: {what}")))
}

pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.to_vec());
    table
}

pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    for line in text.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

pub(crate) fn json_line(value: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

fn json_lines(values: &[impl Serialize]) -> Result<()> {
    values.iter().try_for_each(json_line)
}

/// `cleaner@1.4.2`.
fn agent(name: Option<&str>, version: Option<&str>) -> String {
    let version = version.map(|version| format!("@{version}")).unwrap_or_default();
    clean(&format!("{}{version}", name.unwrap_or_default()))
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(|value| clean(&value.to_string())).unwrap_or_default()
}

/// One line, and nothing that a terminal would obey: agents choose these texts.
pub(crate) fn clean(text: &str) -> String {
    let spaced: Vec<&str> = text.split_whitespace().collect();
    printable(&spaced.join(" "))
}

pub(crate) fn printable(text: &str) -> String {
    // Marks of direction would show a text in another order than it has (Unicode, TR 36).
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| if (c.is_control() && c != '\n') || turns(c) { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0).map(|t| t.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_a_statement_cannot_write_on_the_auditors_terminal() {
        assert_eq!(clean("SELECT\n\t1 \u{1b}[2J"), "SELECT 1 \u{fffd}[2J");
        assert_eq!(clean("a\u{202e}b"), "a\u{fffd}b");
    }
}
