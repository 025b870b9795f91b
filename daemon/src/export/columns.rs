//! The columns of tables that are handed on (CSV, Parquet), in their order; documented in
//! `docs/auditors.md`.
//!
//! Does not belong here: how a table is written.

use super::item::Item;

/// A value in a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Text(Option<String>),
    Integer(Option<i64>),
    Real(Option<f64>),
    Boolean(bool),
}

/// A column: its name, and its value in an item. The value's kind is the same for all items.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) value: fn(&Item) -> Cell,
}

macro_rules! columns {
    ($($name:literal = $kind:ident $value:expr;)*) => {
        /// All of them.
        pub(crate) const COLUMNS: &[Column] = &[$(Column {
            name: $name,
            value: |item| Cell::$kind(($value)(item)),
        }),*];
    };
}

macro_rules! text {
    ($field:ident) => {
        |item: &Item| item.command().$field.clone()
    };
}

macro_rules! number {
    ($field:ident) => {
        |item: &Item| item.command().$field.and_then(|number| i64::try_from(number).ok())
    };
}

columns! {
    "host" = Text |item: &Item| Some(item.host.to_string());
    "id" = Integer |item: &Item| i64::try_from(item.command().id).ok();
    "part" = Integer |item: &Item| Some(i64::from(item.command().part));
    "outcome" = Integer number!(outcome);
    "time" = Text |item: &Item| Some(item.command().time.clone());
    "time_us" = Integer |item: &Item| Some(item.at_us());
    "session" = Integer |item: &Item| i64::try_from(item.command().session).ok();
    "agent" = Text text!(agent);
    "agent_version" = Text text!(agent_version);
    "run" = Text text!(run);
    "lineage" = Text text!(lineage);
    "target" = Text text!(target);
    "server" = Text |item: &Item| item.session.as_ref().map(|session| session.server.clone());
    "user" = Text text!(user);
    "database" = Text text!(database);
    "kind" = Text |item: &Item| Some(item.command().kind.clone());
    "statement" = Text text!(statement);
    "parameters" = Text text!(parameters);
    "parameters_cut" = Boolean |item: &Item| item.command().parameters_cut;
    "class" = Text text!(class);
    "summary" = Text text!(summary);
    "verdict" = Text |item: &Item| Some(item.command().verdict.clone());
    "rule" = Text |item: &Item| Some(item.command().rule.clone());
    "policy" = Text text!(policy);
    "approval" = Integer number!(approval);
    "hold_state" = Text |item: &Item| item.hold.as_ref().map(|hold| hold.state.clone());
    "approved_by" = Text |item: &Item| {
        let names = item.approved_by();
        (!names.is_empty()).then(|| names.join(" "))
    };
    "status" = Text |item: &Item| Some(item.command().status.clone());
    "tag" = Text text!(tag);
    "error_code" = Text text!(error_code);
    "error_message" = Text text!(error_message);
    "transaction_state" = Text text!(transaction_state);
    "rows" = Integer number!(rows);
    "bytes" = Integer number!(bytes);
    "bytes_in" = Integer number!(bytes_in);
    "duration_ms" = Real |item: &Item| item.command().duration_ms;
    "columns" = Text |item: &Item| item.finished.part.columns.clone();
    "response" = Text |item: &Item| item.finished.part.response.clone();
    "response_truncated" = Boolean |item: &Item| item.finished.part.truncated;
    "notices" = Text |item: &Item| item.finished.part.notices.clone();
    "uid" = Integer |item: &Item| item.command().uid.map(i64::from);
    "pid" = Integer |item: &Item| item.command().pid.map(i64::from);
    "executable" = Text text!(executable);
    "binary" = Text text!(binary);
    "script" = Text text!(script);
    "script_digest" = Text text!(script_digest);
    "doubts" = Text text!(doubts);
    "intent_leaf" = Text |item: &Item| item.leaf(0);
    "outcome_leaf" = Text |item: &Item| item.leaf(1);
}

#[cfg(test)]
mod tests {
    use super::{super::item::tests::item, *};

    #[test]
    fn the_order_is_the_documented_one() {
        let docs = include_str!("../../../docs/auditors.md");
        let names: Vec<_> = COLUMNS.iter().map(|column| format!("`{}`", column.name)).collect();
        assert!(docs.contains(&names.join(", ")), "{}", names.join(", "));
    }

    #[test]
    fn values_are_those_of_the_item() {
        let item = item();
        let value = |name: &str| {
            let column = COLUMNS.iter().find(|column| column.name == name).expect("a column");
            (column.value)(&item)
        };
        assert_eq!(value("approved_by"), Cell::Text(Some("ada".into())));
        assert_eq!(value("outcome"), Cell::Integer(Some(44)));
        assert_eq!(value("script"), Cell::Text(None));
        assert_eq!(value("server"), Cell::Text(Some("10.0.0.9:5432".into())));
    }
}
