//! The tables of records, and what of each record is content: what can be erased later on.
//!
//! Does not belong here: how the tables are made (`schema/log.sql`), and what is put into them
//! (`row.rs`).

use std::sync::OnceLock;

/// A table of records. The first columns are `seq` and `at`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// In the table's order, without those of `content`.
    pub(crate) columns: &'static [&'static str],
    /// What people and agents wrote, and what came back: behind the others. A table that has such
    /// columns also has `content_key` and `content_digest` behind them.
    pub(crate) content: &'static [&'static str],
    insert: OnceLock<String>,
}

/// The columns behind those of the content.
pub(crate) const KEY: &str = "content_key";
pub(crate) const DIGEST: &str = "content_digest";

macro_rules! tables {
    ($($table:ident = $name:literal [$($column:literal),*] [$($content:literal),*];)*) => {
        $(pub(crate) static $table: Table = Table {
            name: $name,
            columns: &["seq", "at", $($column),*],
            content: &[$($content),*],
            insert: OnceLock::new(),
        };)*
        /// All of them.
        pub(crate) static TABLES: [&Table; [$($name),*].len()] = [$(&$table),*];
    };
}

tables! {
    DAEMON_STARTED = "daemon_started" ["version", "boot_id", "host", "policy"] [];
    RUN = "run" ["agent", "version", "version_source", "name", "unit", "container", "image"] [];
    PROCESS = "process" [
        "run", "parent", "pid", "started_ns", "exec_id", "uid", "gid", "cgroup_id", "cgroup",
        "executable", "binary", "script", "script_digest", "folder", "login_uid", "lineage"
    ] ["command_line"];
    SESSION_OPENED = "session_opened" [
        "process", "comm", "doubts", "target", "protocol", "server", "client", "inside"
    ] [];
    SESSION_STARTED = "session_started" ["session", "user", "database", "application", "parameters"] [];
    SESSION_SIGNED_ON = "session_signed_on" [
        "session", "user", "method", "agent_tls", "target_tls", "application"
    ] [];
    INTENT = "intent" [
        "session", "kind", "statement", "text_of", "parameters_cut", "verdict", "rule", "rung",
        "summary", "summary_of", "approval", "unmasked"
    ] ["text", "parameters"];
    OUTCOME = "outcome" [
        "intent", "part", "status", "tag", "error_code", "duration_us", "rows", "bytes",
        "bytes_in", "columns", "response_of", "kept", "truncated", "transaction_state",
        "masked"
    ] ["error_message", "response", "notices"];
    HOLD_OPENED = "hold_opened" ["hold", "approvers", "quorum", "deadline", "wait", "digest"] [];
    HOLD_VOTED = "hold_voted" ["hold", "approves", "uid", "person", "reason"] [];
    HOLD_ENDED = "hold_ended" ["hold", "how", "detail"] [];
    EXCEPTION = "exception" [
        "exception", "step", "mask", "agent", "run", "target", "approvers", "until", "uid", "person",
        "reason"
    ] [];
    SESSION_CLOSED = "session_closed" ["session", "closed_by", "detail", "bytes_up", "bytes_down"] [];
    EVENT = "event" ["session", "kind", "detail"] [];
    HEARTBEAT = "heartbeat" ["boot_id", "monotonic_us", "clock", "clock_error_us"] [];
    ERASED = "erased" ["command", "records", "uid", "person", "reason"] [];
    CARRIED = "carried" ["record", "leaf"] [];
}

impl Table {
    /// The statement that adds a row, with a parameter a column.
    pub(crate) fn insert(&self) -> &str {
        self.insert.get_or_init(|| {
            let parameters = vec!["?"; self.all_columns().count()].join(", ");
            format!("INSERT INTO {} VALUES ({parameters})", self.name)
        })
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name
    }

    /// All columns, in the table's order.
    pub(crate) fn all_columns(&self) -> impl Iterator<Item = &'static str> {
        let keys: &[&str] = if self.content.is_empty() { &[] } else { &[KEY, DIGEST] };
        self.columns.iter().chain(self.content).chain(keys).copied()
    }
}
