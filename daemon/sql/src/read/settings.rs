//! `SET` and `RESET`: which settings change nothing but how the session's own answers look, how long
//! they may take, and how they are come by.

use chaperone_model::Rung;
use pg_query::{
    Node, NodeEnum,
    protobuf::{VariableSetKind, VariableSetStmt, a_const},
};

use super::walk::Walk;

/// Harmless, whatever the value.
const HARMLESS: [&str; 72] = [
    "application_name",
    "array_nulls",
    "backend_flush_after",
    "bytea_output",
    "check_function_bodies",
    "client_connection_check_interval",
    "client_min_messages",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "default_statistics_target",
    "default_text_search_config",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "effective_io_concurrency",
    "escape_string_warning",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "geqo_effort",
    "geqo_generations",
    "geqo_pool_size",
    "geqo_seed",
    "geqo_selection_bias",
    "geqo_threshold",
    "gin_fuzzy_search_limit",
    "gin_pending_list_limit",
    "hash_mem_multiplier",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "jit_above_cost",
    "jit_inline_above_cost",
    "jit_optimize_above_cost",
    "join_collapse_limit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "logical_decoding_work_mem",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "recursive_worktable_factor",
    "seed",
    "seq_page_cost",
    "statement_timeout",
    "temp_buffers",
    "timezone",
    "timezone_abbreviations",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "work_mem",
    "xmlbinary",
    "xmloption",
];

impl Walk {
    pub(super) fn set(&mut self, set: &VariableSetStmt) -> &'static str {
        let VariableSetStmt { kind, name, args, jumble_args: _, is_local: _, location: _ } = set;
        // Names of settings have no case, quoted or not.
        let name = name.to_ascii_lowercase();
        let values = match VariableSetKind::try_from(*kind) {
            Ok(VariableSetKind::VarSetValue) => Some(args.as_slice()),
            Ok(VariableSetKind::VarSetDefault | VariableSetKind::VarReset) => None,
            // TRANSACTION, SESSION CHARACTERISTICS and TRANSACTION SNAPSHOT: how isolated it is, and
            // whether it may write.
            Ok(VariableSetKind::VarSetMulti) => return "SET",
            // Everything to what the session began with, as pools do; the role stays.
            Ok(VariableSetKind::VarResetAll) => return "RESET",
            _ => {
                self.unknown("sets something");
                return "SET";
            }
        };
        let harmless = HARMLESS.contains(&name.as_str()) || name.starts_with("enable_");
        match (name.as_str(), values) {
            ("session_authorization", _) => {
                self.raise(Rung::Forbidden, "it makes the session somebody else's");
            }
            ("role", _) => self.raise(Rung::Destructive, "it takes another role"),
            // Back to what the session began with, which was settled then; who follows the session
            // sees what it is.
            ("search_path" | "client_encoding" | "standard_conforming_strings", None) => {}
            ("search_path", Some(values)) => self.search_path(values),
            ("client_encoding", Some(values)) => {
                let utf8 = |word: &str| ["utf8", "utf-8", "unicode"].contains(&word);
                if !matches!(words(values).as_deref(), Some([word]) if utf8(&word.to_ascii_lowercase()))
                {
                    self.raise(Rung::Destructive, "strings end elsewhere in another encoding");
                }
            }
            ("standard_conforming_strings", Some(values)) => {
                let on = |word: &str| ["on", "true", "1", "yes"].contains(&word);
                if !matches!(words(values).as_deref(), Some([word]) if on(&word.to_ascii_lowercase()))
                {
                    self.raise(Rung::Destructive, "strings end elsewhere without it");
                }
            }
            _ if harmless => {}
            _ => self.raise(
                Rung::Destructive,
                format!("it sets {name}, which is not known to be harmless"),
            ),
        }
        if *kind == VariableSetKind::VarReset as i32 { "RESET" } else { "SET" }
    }

    /// Names mean what they meant as long as PostgreSQL's own come first, where they are if nothing
    /// is said of them, and only usual schemas follow.
    fn search_path(&mut self, values: &[Node]) {
        let usual = words(values).is_some_and(|schemas| {
            schemas.iter().enumerate().all(|(at, schema)| match schema.as_str() {
                "" | "public" | "$user" => true,
                "pg_catalog" => at == 0,
                _ => false,
            })
        });
        if !usual {
            self.raise(Rung::Destructive, "names mean something else from there on");
        }
    }
}

/// The values, if they are words and numbers.
fn words(values: &[Node]) -> Option<Vec<String>> {
    values
        .iter()
        .map(|value| match &value.node {
            Some(NodeEnum::AConst(constant)) => match &constant.val {
                Some(a_const::Val::Sval(word)) => Some(word.sval.clone()),
                Some(a_const::Val::Ival(number)) => Some(number.ival.to_string()),
                _ => None,
            },
            _ => None,
        })
        .collect()
}
