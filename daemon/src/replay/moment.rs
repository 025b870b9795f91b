//! What is shown of a session, one after the other: who sees it does not matter here.

use chaperone_audit::{CommandRow, EventRow};
use serde_json::Value;

use crate::export::Item;

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// Since the session was opened.
    pub(super) offset_us: i64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Command(Box<Command>),
    Event { kind: String, detail: String },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Command {
    /// `40`, or `40.1` of a text of several statements.
    pub(super) id: String,
    pub(super) statement: Option<String>,
    /// The same for people, where it is one long line.
    pub(super) laid_out: Option<String>,
    pub(super) parameters: Option<String>,
    pub(super) class: Option<String>,
    pub(super) verdict: String,
    pub(super) rule: String,
    /// What people said, in sentences.
    pub(super) words: Vec<String>,
    pub(super) status: String,
    /// What came of it, in a line.
    pub(super) outcome: String,
    pub(super) error: Option<String>,
    pub(super) notices: Option<String>,
    pub(super) columns: Vec<String>,
    /// `None` is NULL.
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// How many rows there were, where not all are kept.
    pub(super) more: Option<u64>,
}

/// Microseconds since 1970.
pub(super) fn micros(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_microsecond).unwrap_or_default()
}

impl Moment {
    pub(super) fn event(event: &EventRow, opened: i64) -> Self {
        let what = What::Event { kind: event.kind.clone(), detail: event.detail.clone() };
        Self { offset_us: micros(&event.time) - opened, what }
    }

    /// A command of which it is not known yet what comes of it.
    pub(super) fn pending(row: &CommandRow, opened: i64) -> Self {
        let command = Command { outcome: "the answer is still to come".into(), ..decided(row) };
        Self { offset_us: micros(&row.time) - opened, what: What::Command(Box::new(command)) }
    }

    pub(super) fn command(item: &Item, opened: i64) -> Self {
        let part = &item.finished.part;
        let c = &part.command;
        let mut outcome = vec![c.status.clone()];
        outcome.extend(c.tag.clone());
        outcome.extend(c.duration_ms.map(|ms| format!("{ms:.1} ms")));
        outcome.extend(match c.transaction_state.as_deref() {
            Some("open") => Some("inside a transaction".into()),
            Some("failed") => Some("inside a failed transaction".into()),
            _ => None,
        });
        let error = [c.error_code.as_deref(), c.error_message.as_deref()];
        let error: Vec<&str> = error.into_iter().flatten().collect();
        let rows = rows(part.response.as_deref());
        let kept = part.kept.unwrap_or_default();
        let command = Command {
            words: words(item),
            outcome: outcome.join(", "),
            error: (!error.is_empty()).then(|| error.join(" ")),
            notices: part.notices.clone(),
            columns: part
                .columns
                .as_deref()
                .and_then(|columns| serde_json::from_str(columns).ok())
                .unwrap_or_default(),
            more: c.rows.filter(|total| *total > kept && (part.truncated || !rows.is_empty())),
            rows,
            ..decided(c)
        };
        Self { offset_us: item.at_us() - opened, what: What::Command(Box::new(command)) }
    }
}

fn decided(row: &CommandRow) -> Command {
    Command {
        id: if row.part == 0 { row.id.to_string() } else { format!("{}.{}", row.id, row.part) },
        statement: row.statement.clone(),
        parameters: row.parameters.clone().filter(|parameters| parameters != "[]"),
        class: row.class.clone(),
        verdict: row.verdict.clone(),
        rule: row.rule.clone(),
        status: row.status.clone(),
        ..Command::default()
    }
}

fn words(item: &Item) -> Vec<String> {
    let Some(hold) = &item.hold else { return Vec::new() };
    let said = item.words().into_iter().map(|word| {
        let how = if word.approves { "approved" } else { "denied" };
        let why = word.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{how} by {} at {}{why}", word.person, word.time)
    });
    let mut words: Vec<String> = said.collect();
    if item.command().approval.is_some_and(|approval| approval != item.command().id) {
        words.insert(0, format!("let through by what was said of command {}", hold.id));
    }
    if words.is_empty() || hold.state != "approved" && hold.state != "denied" {
        let detail = hold.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        words.push(format!("{}{detail}", hold.state));
    }
    words
}

/// The rows of a response: an array of arrays, or of strings where it is COPY data.
fn rows(response: Option<&str>) -> Vec<Vec<Option<String>>> {
    let rows: Option<Vec<Value>> = response.and_then(|rows| serde_json::from_str(rows).ok());
    let cell = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    let row = |row| match row {
        Value::Array(cells) => cells.into_iter().map(cell).collect(),
        other => vec![cell(other)],
    };
    rows.unwrap_or_default().into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::item;

    #[test]
    fn a_moment_says_what_came_of_it_and_who_let_it_go_on() {
        let moment = Moment::command(&item(), micros("2026-05-01T11:59:00Z"));
        assert_eq!(moment.offset_us, 60_250_000);
        let What::Command(command) = moment.what else { panic!("a command") };
        assert_eq!(command.outcome, "ok, DELETE 1, 1.5 ms");
        assert_eq!(command.words, ["approved by ada at 2026-05-01T12:00:09.000000Z: ticket 12"]);
        assert_eq!(command.rows, [vec![Some("7".to_owned())], vec![None]]);
    }

    #[test]
    fn what_nobody_decided_says_how_it_ended() {
        let mut item = item();
        let hold = item.hold.as_mut().expect("a hold");
        (hold.state, hold.words) = ("expired".into(), "[]".into());
        assert_eq!(words(&item), ["expired"]);
        item.finished.part.command.approval = Some(7);
        assert!(words(&item)[0].contains("let through"));
    }

    #[test]
    fn rows_of_every_kind_are_read() {
        assert_eq!(rows(Some(r#"["a\tb"]"#)), [vec![Some("a\tb".to_owned())]]);
        let binary = rows(Some(r#"[[{"binary":"00","type":17}]]"#));
        assert_eq!(binary[0][0].as_deref(), Some(r#"{"binary":"00","type":17}"#));
        assert!(rows(None).is_empty() && rows(Some("no JSON")).is_empty());
    }
}
