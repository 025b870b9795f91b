//! One command of a session as it is replayed: what is said of it, before it has a look.
//!
//! Does not belong here: the looks (`terminal`, `html`).

use chaperone_audit::{HoldRow, Part, SessionRow};
use serde_json::Value;

use crate::export::{Word, micros, words};

/// A command.
pub(super) struct Step {
    /// Microseconds since the session was opened.
    pub(super) offset: i64,
    /// Its statements; there is one at least.
    pub(super) parts: Vec<Part>,
    /// What a person was asked.
    pub(super) hold: Option<HoldRow>,
}

impl Step {
    pub(super) fn statement(&self) -> Option<&str> {
        self.parts.first()?.command.statement.as_deref()
    }

    /// Its parameters, where it has some.
    pub(super) fn parameters(&self) -> Option<&str> {
        self.parts.first()?.command.parameters.as_deref().filter(|text| *text != "[]")
    }

    /// What policy said, in a line.
    pub(super) fn verdict(&self) -> String {
        let Some(first) = self.parts.first() else { return String::new() };
        let command = &first.command;
        let class = command.class.as_deref().unwrap_or("not read");
        format!("{}, {} ({})", class, command.verdict, command.rule)
    }

    /// What became of the question to a person, and who said what: each a line.
    pub(super) fn asked(&self) -> Vec<String> {
        let Some(hold) = &self.hold else { return Vec::new() };
        let own = self.parts.first().is_some_and(|first| first.command.id == hold.id);
        let mut lines = vec![if own {
            let waited = hold.ended.as_deref().and_then(micros).zip(micros(&hold.time));
            let waited = waited.map(|(ended, held)| format!(" after {}", clock(ended - held)));
            let detail = hold.detail.as_ref().map(|detail| format!(": {detail}"));
            let (waited, detail) = (waited.unwrap_or_default(), detail.unwrap_or_default());
            format!("held for {}: {}{waited}{detail}", hold.approvers, hold.state)
        } else {
            format!("let through by the approval of {}", hold.id)
        }];
        lines.extend(words(hold).into_iter().map(|Word { person, approves, reason, time }| {
            let what = if approves { "approved" } else { "denied" };
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{person} {what} at {time}{reason}")
        }));
        lines
    }
}

/// What came of a statement, in a line.
pub(super) fn outcome(part: &Part) -> String {
    let command = &part.command;
    let mut said = command.status.clone();
    let mut add = |text: Option<String>| {
        if let Some(text) = text {
            said.push_str(", ");
            said.push_str(&text);
        }
    };
    add(command.tag.clone());
    add(command.rows.filter(|rows| *rows > 0).map(|rows| format!("{rows} rows")));
    add(command.duration_ms.map(|ms| format!("{ms:.1} ms")));
    add(command.transaction_state.as_ref().map(|state| match state.as_str() {
        "idle" => "no transaction open".into(),
        "open" => "in a transaction".into(),
        state => format!("transaction {state}"),
    }));
    said
}

/// The error of a statement, in a line.
pub(super) fn error(part: &Part) -> Option<String> {
    let command = &part.command;
    let both = [command.error_code.as_deref(), command.error_message.as_deref()];
    let both: Vec<&str> = both.into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join(" "))
}

/// The rows that were kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Results {
    pub(super) columns: Vec<String>,
    /// `None` is NULL.
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// Whether there were more.
    pub(super) cut: bool,
}

/// The rows of a statement, where it has some.
pub(super) fn rows(part: &Part) -> Option<Results> {
    let rows: Vec<Vec<Value>> = serde_json::from_str(part.response.as_deref()?).ok()?;
    let columns = part.columns.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let columns: Vec<String> = columns.unwrap_or_default();
    let cell = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    let rows = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
    Some(Results { columns, rows, cut: part.truncated })
}

/// Microseconds from the opening of a session to a time.
pub(super) fn offset(session: &SessionRow, time: &str) -> i64 {
    let both = micros(time).zip(micros(&session.opened));
    both.map_or(0, |(time, opened)| time.saturating_sub(opened).max(0))
}

/// A span in minutes and seconds.
pub(super) fn clock(micros: i64) -> String {
    let millis = micros.max(0) / 1000;
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let seconds = format!("{minutes:02}:{:02}.{:03}", rest / 1000, rest % 1000);
    if hours > 0 { format!("{hours}:{seconds}") } else { seconds }
}

/// How a session ended.
pub(super) fn ending(session: &SessionRow) -> String {
    let Some(closed) = &session.closed else { return "the session goes on".into() };
    let by = session.closed_by.as_deref().unwrap_or("nobody");
    let why = session.detail.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("closed by the {by} at {closed}{why}")
}

#[cfg(test)]
pub(super) mod tests {
    use chaperone_audit::CommandRow;

    use super::*;

    pub(in crate::replay) fn session() -> SessionRow {
        SessionRow {
            id: 1,
            opened: "2026-05-01T12:00:00.000000Z".into(),
            agent: "cleaner".into(),
            lineage: Some("agent.py → psql".into()),
            target: "prod".into(),
            server: "10.0.0.7:5432".into(),
            ..SessionRow::default()
        }
    }

    pub(in crate::replay) fn step(statement: &str, response: &str) -> Step {
        let command = CommandRow {
            id: 7,
            time: "2026-05-01T12:01:02.003000Z".into(),
            session: 1,
            statement: Some(statement.into()),
            verdict: "allow".into(),
            rule: "default".into(),
            status: "ok".into(),
            tag: Some("SELECT 1".into()),
            ..CommandRow::default()
        };
        let part = Part {
            command,
            columns: Some(r#"["name"]"#.into()),
            response: Some(response.into()),
            ..Part::default()
        };
        Step { offset: 62_003_000, parts: vec![part], hold: None }
    }

    #[test]
    fn spans_are_read_as_clocks() {
        assert_eq!(clock(62_003_999), "01:02.003");
        assert_eq!(clock(3_600_000_000), "1:00:00.000");
        assert_eq!(clock(-1), "00:00.000");
        assert_eq!(offset(&session(), "2026-05-01T12:01:02.003000Z"), 62_003_000);
    }

    #[test]
    fn who_was_asked_and_what_was_said_is_told() {
        let mut step = step("DELETE FROM t", "[]");
        step.hold = Some(HoldRow {
            id: 7,
            time: "2026-05-01T12:01:02Z".into(),
            ended: Some("2026-05-01T12:01:14.5Z".into()),
            state: "approved".into(),
            approvers: "group:dba".into(),
            words: r#"[{"person":"alice","uid":1,"approves":true,"reason":"fine","time":"T"}]"#
                .into(),
            ..HoldRow::default()
        });
        assert_eq!(
            step.asked(),
            ["held for group:dba: approved after 00:12.500", "alice approved at T: fine"]
        );
        step.parts[0].command.id = 9;
        assert_eq!(step.asked()[0], "let through by the approval of 7");
    }
}
