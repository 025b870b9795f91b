//! The columns of a table of commands, in their order: documented in `docs/auditors.md`.
//!
//! Does not belong here: the forms of tables (`csv`, `parquet`).

use std::borrow::Cow;

use super::item::{Item, hex};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// A time as the views show it: RFC 3339 in UTC, with microseconds.
    Time,
    Number,
    Real,
    Flag,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Number(u64),
    Real(f64),
    Flag(bool),
}

/// A column.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) value: for<'a> fn(&'a Item) -> Cell<'a>,
}

/// New ones are added behind, so that readers by place go on.
pub(crate) const COLUMNS: &[Column] = &[
    text("host", |i| said(&i.host)),
    number("id", |i| Cell::Number(i.part.command.id)),
    number("part", |i| Cell::Number(i.part.command.part.into())),
    number("outcome", |i| count(i.part.command.outcome)),
    Column { name: "time", kind: Kind::Time, value: |i| said(&i.part.command.time) },
    number("session", |i| Cell::Number(i.part.command.session)),
    text("agent", |i| some(i.part.command.agent.as_ref())),
    text("agent_version", |i| some(i.part.command.agent_version.as_ref())),
    text("run", |i| some(i.part.command.run.as_ref())),
    text("unit", |i| some(i.session.as_ref().and_then(|s| s.unit.as_ref()))),
    text("container", |i| some(i.session.as_ref().and_then(|s| s.container.as_ref()))),
    text("lineage", |i| some(i.part.command.lineage.as_ref())),
    number("uid", |i| count(i.part.command.uid)),
    number("login_uid", |i| count(i.session.as_ref().and_then(|s| s.login_uid))),
    number("pid", |i| count(i.part.command.pid)),
    text("executable", |i| some(i.part.command.executable.as_ref())),
    text("binary", |i| some(i.part.command.binary.as_ref())),
    text("script", |i| some(i.part.command.script.as_ref())),
    text("script_digest", |i| some(i.part.command.script_digest.as_ref())),
    text("command_line", |i| some(i.session.as_ref().and_then(|s| s.command_line.as_ref()))),
    text("doubts", |i| some(i.part.command.doubts.as_ref())),
    text("target", |i| some(i.part.command.target.as_ref())),
    text("protocol", |i| some(i.session.as_ref().map(|s| &s.protocol))),
    text("server", |i| some(i.session.as_ref().map(|s| &s.server))),
    text("user", |i| some(i.part.command.user.as_ref())),
    text("asked_user", |i| some(i.session.as_ref().and_then(|s| s.asked_user.as_ref()))),
    text("database", |i| some(i.part.command.database.as_ref())),
    text("application", |i| some(i.session.as_ref().and_then(|s| s.application.as_ref()))),
    text("kind", |i| said(&i.part.command.kind)),
    text("statement", |i| some(i.part.command.statement.as_ref())),
    text("parameters", |i| some(i.part.command.parameters.as_ref())),
    flag("parameters_cut", |i| Cell::Flag(i.part.command.parameters_cut)),
    text("class", |i| some(i.part.command.class.as_ref())),
    text("summary", |i| some(i.part.command.summary.as_ref())),
    text("verdict", |i| said(&i.part.command.verdict)),
    text("rule", |i| said(&i.part.command.rule)),
    text("policy", |i| some(i.part.command.policy.as_ref())),
    number("approval", |i| count(i.part.command.approval)),
    text("approved_by", |i| i.approved_by().map_or(Cell::Null, |by| Cell::Text(by.into()))),
    text("status", |i| said(&i.part.command.status)),
    text("tag", |i| some(i.part.command.tag.as_ref())),
    text("error_code", |i| some(i.part.command.error_code.as_ref())),
    text("error_message", |i| some(i.part.command.error_message.as_ref())),
    number("rows", |i| count(i.part.command.rows)),
    number("bytes", |i| count(i.part.command.bytes)),
    number("bytes_in", |i| count(i.part.command.bytes_in)),
    Column {
        name: "duration_ms",
        kind: Kind::Real,
        value: |i| i.part.command.duration_ms.map_or(Cell::Null, Cell::Real),
    },
    text("transaction_state", |i| some(i.part.command.transaction_state.as_ref())),
    text("columns", |i| some(i.part.columns.as_ref())),
    text("response", |i| some(i.part.response.as_ref())),
    number("kept", |i| count(i.part.kept)),
    flag("truncated", |i| Cell::Flag(i.part.truncated)),
    text("notices", |i| some(i.part.notices.as_ref())),
    text("intent_leaf", |i| {
        i.intent_leaf.as_ref().map_or(Cell::Null, |leaf| Cell::Text(hex(leaf).into()))
    }),
    text("outcome_leaf", |i| {
        i.outcome_leaf.as_ref().map_or(Cell::Null, |leaf| Cell::Text(hex(leaf).into()))
    }),
    text("masked", |i| some(i.part.command.masked.as_ref())),
    text("unmasked", |i| some(i.part.command.unmasked.as_ref())),
    number("inside", |i| count(i.session.as_ref().and_then(|s| s.inside))),
];

type Value = for<'a> fn(&'a Item) -> Cell<'a>;

const fn text(name: &'static str, value: Value) -> Column {
    Column { name, kind: Kind::Text, value }
}

const fn number(name: &'static str, value: Value) -> Column {
    Column { name, kind: Kind::Number, value }
}

const fn flag(name: &'static str, value: Value) -> Column {
    Column { name, kind: Kind::Flag, value }
}

fn said(text: &str) -> Cell<'_> {
    Cell::Text(text.into())
}

fn some(text: Option<&String>) -> Cell<'_> {
    text.map_or(Cell::Null, |text| said(text))
}

fn count<'a>(number: Option<impl Into<u64>>) -> Cell<'a> {
    number.map_or(Cell::Null, |number| Cell::Number(number.into()))
}
