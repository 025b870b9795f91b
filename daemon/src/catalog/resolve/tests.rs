//! What becomes of readings, without a server.

use std::sync::Arc;

use super::*;

/// Something known: relations by number and name, and what is behind them.
fn known(relations: &[(Oid, &str, char, &[Edge])]) -> Known {
    let mut known = Known::new(0);
    known.path = ["pg_catalog", "app", "public"].map(str::to_owned).into();
    for (oid, name, kind, edges) in relations {
        let name = named(name);
        known.names.entry(name.name.clone()).or_default().push(*oid);
        let node = Node {
            name,
            kind: *kind,
            edges: edges.to_vec(),
            columns: Vec::new(),
            query: None,
            text: None,
            cut: false,
            reads: Vec::new(),
        };
        known.relations.insert(*oid, node);
    }
    known
}

fn named(name: &str) -> QualifiedName {
    match name.split_once('.') {
        Some((schema, name)) => QualifiedName { schema: Some(schema.into()), name: name.into() },
        None => QualifiedName { schema: None, name: name.into() },
    }
}

fn statement(kind: &str, rung: Rung, names: &[(&str, Access)]) -> Statement {
    let relation =
        |(name, access): &(&str, Access)| Relation { name: named(name), access: *access };
    Statement { relations: names.iter().map(relation).collect(), ..Statement::new(kind, rung, "") }
}

fn select(name: &str) -> Statement {
    statement("SELECT", Rung::Read, &[(name, Access::Read)])
}

fn delete(name: &str) -> Statement {
    Statement { deletes: true, ..statement("DELETE", Rung::Write, &[(name, Access::Write)]) }
}

fn all(known: &Known, statements: Vec<Statement>, path_is_known: bool) -> Vec<Statement> {
    let reading = Reading { statements, disagreement: None };
    resolve(&reading, known, &Sight::default(), path_is_known).statements
}

fn touched(known: &Known, statement: Statement) -> Vec<String> {
    let shown = |relation: &Relation| match relation.access {
        Access::Read => format!("r {}", relation.name),
        Access::Write => format!("w {}", relation.name),
    };
    let mut shown: Vec<_> =
        all(known, vec![statement], true)[0].relations.iter().map(shown).collect();
    shown.sort();
    shown
}

#[test]
fn p2_the_first_schema_of_the_path_that_has_it_counts_where_the_path_is_known() {
    let known = known(&[(1, "public.t", 'r', &[]), (2, "app.t", 'r', &[]), (3, "x.u", 'r', &[])]);
    assert_eq!(touched(&known, select("t")), ["r app.t"]);
    assert_eq!(touched(&known, select("public.t")), ["r public.t"]);
    // It is nowhere on the path, or nowhere at all.
    assert_eq!(touched(&known, select("u")), ["r u"]);
    assert_eq!(touched(&known, select("v")), ["r v"]);
    assert_eq!(all(&known, vec![select("t")], false)[0].relations[0].name, named("t"));
    // What is made is made elsewhere.
    let create = statement("CREATE TABLE", Rung::Destructive, &[("t", Access::Write)]);
    assert_eq!(touched(&known, create.clone()), ["w t"]);
    // And what it stands for behind that is not sure.
    assert_eq!(all(&known, vec![create, select("t")], true)[1].relations[0].name, named("t"));
}

#[test]
fn p2_columns_go_with_their_relation() {
    let known = known(&[(1, "app.t", 'r', &[])]);
    let column = Column { relation: Some(named("t")), name: "a".into(), access: Access::Read };
    let one = Statement { columns: vec![column], ..select("t") };
    assert_eq!(all(&known, vec![one], true)[0].columns[0].relation, Some(named("app.t")));
}

#[test]
fn p2_views_parts_and_keys_are_followed() {
    let known = known(&[
        (1, "app.v", 'v', &[Edge::Reads(2)]),
        (2, "app.whole", 'r', &[Edge::Child(3), Edge::Child(4), Edge::Deletes(5, true)]),
        (3, "app.p1", 'r', &[Edge::Parent(2)]),
        (4, "app.p2", 'r', &[Edge::Parent(2)]),
        (5, "app.lines", 'r', &[Edge::Deletes(6, false), Edge::Updates(6, vec!["id".into()])]),
        (6, "app.last", 'r', &[]),
    ]);
    assert_eq!(touched(&known, select("v")), ["r app.p1", "r app.p2", "r app.v", "r app.whole"]);
    // Not the other parts of the whole.
    assert_eq!(touched(&known, select("p1")), ["r app.p1", "r app.whole"]);
    let reached = ["w app.last", "w app.lines", "w app.p1", "w app.p2", "w app.v", "w app.whole"];
    assert_eq!(touched(&known, delete("v")), reached);
    let insert = statement("INSERT", Rung::Write, &[("lines", Access::Write)]);
    assert_eq!(touched(&known, insert), ["w app.lines"]);
    let update = |column: &str| Statement {
        updates: true,
        columns: vec![Column { relation: None, name: column.into(), access: Access::Write }],
        ..statement("UPDATE", Rung::Write, &[("lines", Access::Write)])
    };
    assert_eq!(touched(&known, update("id")), ["w app.last", "w app.lines"]);
    assert_eq!(touched(&known, update("note")), ["w app.lines"]);
}

#[test]
fn p2_what_is_not_shown_counts_as_the_worst() {
    let mut known = known(&[
        (1, "app.ruled", 'r', &[Edge::Rule(None)]),
        (2, "app.deep", 'r', &[]),
        (3, "app.v", 'v', &[]),
    ]);
    if let Some(node) = known.relations.get_mut(&2) {
        node.cut = true;
    }
    let opaque = Statement { opaque: true, ..Statement::new("SELECT", Rung::Forbidden, "") };
    if let Some(node) = known.relations.get_mut(&3) {
        node.query = Some(Arc::new(Reading { statements: vec![opaque], disagreement: None }));
    }
    for (one, rung) in [
        (delete("ruled"), Rung::Destructive),
        (select("deep"), Rung::Destructive),
        (select("v"), Rung::Forbidden),
    ] {
        let one = &all(&known, vec![one], true)[0];
        assert_eq!((one.rung, one.opaque), (rung, true), "{one:?}");
        assert!(!one.reason.is_empty());
    }
    assert_eq!(all(&known, vec![select("ruled")], true)[0].rung, Rung::Read);
    // A loop ends.
    known.relations.insert(9, Node { edges: vec![Edge::Reads(9)], ..known.relations[&3].clone() });
    known.names.insert("loop".into(), vec![9]);
    all(&known, vec![select("loop")], true);
}

#[test]
fn p2_others_code_under_a_known_name_counts_as_unknown() {
    let mut known = known(&[]);
    known.functions.insert("lower".into(), vec!["public".into(), "far".into()]);
    known.operators.insert("=".into(), vec!["far".into()]);
    let calls = |name: &str| Statement { functions: vec![named(name)], ..select("t") };
    let uses = || Statement { operators: vec!["=".into()], ..select("t") };
    assert_eq!(all(&known, vec![calls("lower")], true)[0].rung, Rung::Destructive);
    assert_eq!(all(&known, vec![calls("pg_catalog.lower")], true)[0].rung, Rung::Read);
    assert_eq!(all(&known, vec![calls("upper")], true)[0].rung, Rung::Read);
    known.casts.insert("label".into(), vec!["public".into()]);
    let casts = |name: &str| Statement { types: vec![named(name)], ..select("t") };
    assert_eq!(all(&known, vec![casts("label")], true)[0].rung, Rung::Destructive);
    assert_eq!(all(&known, vec![casts("public.label")], true)[0].rung, Rung::Destructive);
    assert_eq!(all(&known, vec![casts("far.label")], true)[0].rung, Rung::Read);
    assert_eq!(all(&known, vec![casts("other")], true)[0].rung, Rung::Read);
    // Not on the path; but where is the path?
    assert_eq!(all(&known, vec![uses()], true)[0].rung, Rung::Read);
    assert_eq!(all(&known, vec![uses()], false)[0].rung, Rung::Destructive);
}
