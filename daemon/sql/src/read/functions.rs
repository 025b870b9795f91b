//! Which functions do what: lists of PostgreSQL's own, by name. What is on none may do anything.

use std::{collections::HashSet, sync::LazyLock};

use chaperone_model::{QualifiedName, Rung};

type Names = LazyLock<HashSet<&'static str>>;

static READ: Names = LazyLock::new(|| names(include_str!("../functions/read.txt")));
static WRITE: Names = LazyLock::new(|| names(include_str!("../functions/write.txt")));
static FORBIDDEN: Names = LazyLock::new(|| names(include_str!("../functions/forbidden.txt")));

fn names(list: &'static str) -> HashSet<&'static str> {
    list.lines().map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#')).collect()
}

/// The rung of calling a function; `None` where it is not known what it does.
pub(crate) fn rung(function: &QualifiedName) -> Option<Rung> {
    let name = function.name.as_str();
    // Extensions go into any schema. Their next versions may have more of the same.
    let reaches_out = ["dblink", "pg_read_", "pg_ls_", "lo_import", "lo_export"];
    if FORBIDDEN.contains(name) || reaches_out.iter().any(|prefix| name.starts_with(prefix)) {
        return Some(Rung::Forbidden);
    }
    // Without a schema it is PostgreSQL's own, unless an owner of the schemas on the search path has
    // made one of the name that fits its arguments better. The agent could not: that is DDL.
    if function.schema.as_ref().is_some_and(|schema| schema != "pg_catalog") {
        return None;
    }
    [(&*READ, Rung::Read), (&*WRITE, Rung::Write)]
        .into_iter()
        .find_map(|(list, rung)| list.contains(name).then_some(rung))
}

/// Whether a name, used as a column of a row, could be a call that does more than read.
pub(crate) fn does_harm(name: &str) -> Option<Rung> {
    let function = QualifiedName { schema: None, name: name.to_owned() };
    rung(&function).filter(|rung| *rung > Rung::Read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p2_no_name_is_on_two_lists() {
        for (a, b) in [(&READ, &WRITE), (&READ, &FORBIDDEN), (&WRITE, &FORBIDDEN)] {
            let both: Vec<_> = a.intersection(b).collect();
            assert!(both.is_empty(), "{both:?}");
        }
    }

    #[test]
    fn p2_what_runs_text_or_reaches_out_is_not_on_the_list_of_readers() {
        let of = |name: &str| rung(&QualifiedName { schema: None, name: name.into() });
        let runs_text = [
            "query_to_xml",
            "query_to_xmlschema",
            "query_to_xml_and_xmlschema",
            "table_to_xml",
            "schema_to_xml",
            "database_to_xml",
            "cursor_to_xml",
            "ts_stat",
            "ts_rewrite",
            "set_config",
            "lo_unlink",
            "no_such_function",
        ];
        for name in runs_text {
            assert_eq!(of(name), None, "{name}");
        }
        for name in ["pg_read_file", "lo_import", "pg_ls_waldir", "dblink", "dblink_connect_u"] {
            assert_eq!(of(name), Some(Rung::Forbidden), "{name}");
        }
        assert_eq!(of("nextval"), Some(Rung::Write));
        assert_eq!(of("lower"), Some(Rung::Read));
        let elsewhere =
            |name: &str| rung(&QualifiedName { schema: Some("app".into()), name: name.into() });
        assert_eq!(elsewhere("lower"), None);
        assert_eq!(elsewhere("dblink_exec"), Some(Rung::Forbidden));
    }
}
