//! Names in PostgreSQL's tree. Its lexer has folded them and cut them to 63 bytes; what it makes of
//! a string (`U&"…"`, `LANGUAGE 'c'`) is cut as well where it is used as a name.

use chaperone_model::QualifiedName;
use pg_query::{Node, NodeEnum, protobuf::RangeVar};

/// Longest name, in bytes (`NAMEDATALEN` less one).
const LONGEST: usize = 63;

/// The text of a part of a name.
pub(crate) fn text(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::String(string)) => Some(&string.sval),
        _ => None,
    }
}

/// The parts of a name; a list of names as well.
pub(crate) fn parts(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().filter_map(text).collect()
}

/// A name of parts: the last is the name, the one before it the schema. A database before that can
/// only be the session's own.
pub(crate) fn qualified(parts: &[&str]) -> Option<QualifiedName> {
    match parts {
        [] => None,
        [name] => Some(QualifiedName { schema: None, name: cut(name) }),
        [.., schema, name] => Some(QualifiedName { schema: Some(cut(schema)), name: cut(name) }),
    }
}

/// The name of a relation.
pub(crate) fn relation(range: &RangeVar) -> QualifiedName {
    let schema = Some(&range.schemaname).filter(|schema| !schema.is_empty());
    QualifiedName { schema: schema.map(|schema| cut(schema)), name: cut(&range.relname) }
}

/// The name by which columns refer to a relation.
pub(crate) fn alias(range: &RangeVar) -> String {
    cut(range.alias.as_ref().map_or(&range.relname, |alias| &alias.aliasname))
}

/// As the server cuts a name: between characters (`truncate_identifier`,
/// src/backend/parser/scansup.c).
pub(crate) fn cut(name: &str) -> String {
    let mut end = name.len().min(LONGEST);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default().to_owned()
}

/// Whether the server keeps its own state there, which changes by other ways than rows do.
pub(crate) fn is_of_the_system(name: &QualifiedName) -> bool {
    match &name.schema {
        Some(schema) => schema.starts_with("pg_") || schema == "information_schema",
        None => name.name.starts_with("pg_"),
    }
}
