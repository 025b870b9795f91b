//! A session on the terminal.
//!
//! Does not belong here: waiting, and what is said of a command (`step`).

use std::fmt::Write as _;

use chaperone_audit::SessionRow;
use comfy_table::{ContentArrangement, Table, presets};

use super::step::{Step, clock, ending, error, outcome, rows};
use crate::show::{clean, printable};

/// Rows that are shown of a result; the HTML file and `log show` have all that were kept.
const ROWS: usize = 20;
/// Longest value in a table.
const CELL: usize = 60;

/// Whose session it is.
pub(super) fn head(session: &SessionRow) -> String {
    let mut out = String::new();
    let version = session.agent_version.as_ref().map(|v| format!("@{v}")).unwrap_or_default();
    let lineage = session.lineage.as_deref().unwrap_or("lineage not known");
    let _ = writeln!(
        out,
        "session {}: {} ({}), process {} of uid {}",
        session.id,
        clean(&format!("{}{version}", session.agent)),
        clean(lineage),
        session.pid,
        session.uid
    );
    let _ = writeln!(
        out,
        "{} at {}, database {} as {}, opened {}",
        clean(&session.target),
        clean(&session.server),
        clean(session.database.as_deref().unwrap_or("(none)")),
        clean(session.user.as_deref().unwrap_or("(nobody)")),
        session.opened
    );
    out
}

/// A command.
pub(super) fn step(step: &Step, laid_out: Option<&str>) -> String {
    let mut out = String::new();
    let id = step.parts.first().map_or(0, |first| first.command.id);
    let _ = writeln!(out, "\n+{}  {id}  {}", clock(step.offset), clean(&step.verdict()));
    let statement = laid_out.or(step.statement()).unwrap_or("(text not known)");
    indented(&mut out, "    ", statement);
    if let Some(parameters) = step.parameters() {
        indented(&mut out, "    ", &format!("parameters {parameters}"));
    }
    for line in step.asked() {
        indented(&mut out, "  ? ", &clean(&line));
    }
    for part in &step.parts {
        indented(&mut out, "  = ", &clean(&outcome(part)));
        if let Some(error) = error(part) {
            indented(&mut out, "  ! ", &error);
        }
        if let Some(notices) = part.notices.as_deref() {
            indented(&mut out, "    ", &format!("notices {notices}"));
        }
        if let Some(rows) = rows(part) {
            let mut table = Table::new();
            table
                .load_style(presets::ASCII_MARKDOWN)
                .set_content_arrangement(ContentArrangement::Disabled);
            table.set_header(rows.columns.iter().map(|name| cell(name)));
            for row in rows.rows.iter().take(ROWS) {
                let cells = row.iter().map(|value| value.as_deref().map_or("NULL".into(), cell));
                table.add_row(cells);
            }
            indented(&mut out, "    ", &table.to_string());
            let more = rows.rows.len().saturating_sub(ROWS);
            if more > 0 || rows.cut {
                let beyond = if rows.cut { ", and some that were not kept" } else { "" };
                indented(&mut out, "    ", &format!("({more} more rows{beyond})"));
            }
        }
    }
    out
}

/// How it ended.
pub(super) fn foot(session: &SessionRow) -> String {
    format!("\n{}\n", clean(&ending(session)))
}

fn cell(text: &str) -> String {
    let text = clean(text);
    if text.chars().count() <= CELL {
        return text;
    }
    text.chars().take(CELL - 1).chain(['…']).collect()
}

fn indented(out: &mut String, mark: &str, text: &str) {
    let mut mark = mark;
    for line in printable(text).lines() {
        let _ = writeln!(out, "{mark}{line}");
        mark = "    ";
    }
}

#[cfg(test)]
mod tests {
    use super::{super::step::tests, *};

    #[test]
    fn p8_nothing_of_a_session_writes_on_the_terminal_beyond_its_place() {
        let hostile = "SELECT '\u{1b}[2J\n+00:00.000  9  read, allow (default)\u{202e}'";
        let rows = r#"[["\u001b]0;x\u0007\n+00:00.000"], [null]]"#;
        let shown = step(&tests::step(hostile, rows), None);
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
        // A line that begins in the first column is ours.
        let first: Vec<&str> = shown.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(first, ["", "+01:02.003  7  not read, allow (default)"]);
        assert!(shown.contains("NULL"), "{shown}");
    }

    #[test]
    fn a_statement_of_several_has_each_outcome() {
        let mut both = tests::step("SELECT 1; SELECT 1/0", "[[\"1\"]]");
        let mut second = both.parts[0].clone();
        second.command.part = 1;
        second.command.status = "error".into();
        second.command.error_code = Some("22012".into());
        second.command.error_message = Some("division by zero".into());
        second.command.transaction_state = Some("failed".into());
        second.response = None;
        both.parts.push(second);
        let shown = step(&both, Some("SELECT 1;\nSELECT 1 / 0"));
        assert!(shown.contains("    SELECT 1;\n    SELECT 1 / 0\n  = ok, SELECT 1\n"), "{shown}");
        assert!(
            shown.contains("  = error, SELECT 1, transaction failed\n  ! 22012 division by zero")
        );
    }
}
