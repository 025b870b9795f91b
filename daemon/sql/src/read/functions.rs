//! Which of PostgreSQL's own functions do what.

use std::{collections::HashSet, sync::LazyLock};

use chaperone_model::{QualifiedName, Rung};

static READ: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("../functions/read.txt")));
static WRITE: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("../functions/write.txt")));
static FORBIDDEN: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| names(include_str!("../functions/forbidden.txt")));

fn names(text: &'static str) -> HashSet<&'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// The rung of calling a function; `None` where it is not known what it does.
///
/// A name without a schema is taken for PostgreSQL's own: who could put another before it made that
/// by DDL, which is destructive.
pub(super) fn rung(function: &QualifiedName) -> Option<Rung> {
    let name = function.name.as_str();
    // Another extension's schema does not make them harmless.
    if FORBIDDEN.contains(name) || name.starts_with("dblink") {
        return Some(Rung::Forbidden);
    }
    if function.schema.as_deref().is_some_and(|schema| schema != "pg_catalog") {
        return None;
    }
    if READ.contains(name) {
        Some(Rung::Read)
    } else if WRITE.contains(name) {
        Some(Rung::Write)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_on_two_lists() {
        for (a, b) in [(&READ, &WRITE), (&READ, &FORBIDDEN), (&WRITE, &FORBIDDEN)] {
            let both: Vec<_> = a.intersection(b).collect();
            assert!(both.is_empty(), "{both:?}");
        }
    }

    #[test]
    fn p2_what_runs_code_or_reaches_files_does_not_only_read() {
        let of = |name: &str| rung(&QualifiedName { schema: None, name: name.into() });
        for name in [
            "query_to_xml",
            "database_to_xml",
            "ts_stat",
            "ts_rewrite",
            "set_config",
            "lo_unlink",
            "lo_put",
            "pg_advisory_lock",
            "pg_sleep",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
        for name in
            ["pg_read_file", "lo_import", "lo_export", "pg_terminate_backend", "dblink_exec"]
        {
            assert_eq!(of(name), Some(Rung::Forbidden), "{name}");
        }
        for name in ["nextval", "setval", "pg_notify"] {
            assert_eq!(of(name), Some(Rung::Write), "{name}");
        }
        for name in ["count", "now", "lower", "jsonb_agg", "generate_series", "row_number"] {
            assert_eq!(of(name), Some(Rung::Read), "{name}");
        }
        let other = QualifiedName { schema: Some("app".into()), name: "lower".into() };
        assert_eq!(rung(&other), None, "somebody's own");
    }
}
