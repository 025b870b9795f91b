//! What a reading names: relations, columns, functions, statements and cursors.

use chaperone_model::{Access, NameUse, Rung, Statement};

use super::*;

fn one(text: &str) -> Statement {
    let mut reading = read(text);
    assert_eq!(reading.statements.len(), 1, "{text}");
    reading.statements.remove(0)
}

fn relations(text: &str) -> Vec<String> {
    let relations = one(text).relations;
    let mut shown: Vec<String> = relations
        .iter()
        .map(|relation| match relation.access {
            Access::Read => format!("r {}", relation.name),
            Access::Write => format!("w {}", relation.name),
        })
        .collect();
    shown.sort();
    shown
}

fn columns(text: &str) -> Vec<String> {
    let mut shown: Vec<String> = one(text)
        .columns
        .iter()
        .map(|column| match &column.relation {
            Some(relation) => format!("{relation}.{}", column.name),
            None => column.name.clone(),
        })
        .collect();
    shown.sort();
    shown
}

#[test]
fn relations_are_those_that_are_read_and_changed() {
    for (text, expected) in [
        ("SELECT * FROM a JOIN s.b ON true", vec!["r a", "r s.b"]),
        ("INSERT INTO a SELECT * FROM b", vec!["r b", "w a"]),
        ("UPDATE a SET x = 1 FROM b WHERE a.id = 1", vec!["r b", "w a"]),
        ("DELETE FROM a USING b WHERE a.id = 1", vec!["r b", "w a"]),
        ("DROP TABLE a, s.b", vec!["w a", "w s.b"]),
        ("TRUNCATE a", vec!["w a"]),
        ("COPY a TO STDOUT", vec!["r a"]),
        ("COPY a FROM STDIN", vec!["w a"]),
        ("SELECT (SELECT max(x) FROM b) FROM a WHERE EXISTS (TABLE c)", vec!["r a", "r b", "r c"]),
        // A query of WITH is none, where its name is in scope.
        ("WITH a AS (SELECT * FROM b) SELECT * FROM a", vec!["r b"]),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", vec!["r a"]),
        ("WITH RECURSIVE a AS (SELECT 1 UNION SELECT * FROM a) TABLE a", vec![]),
        ("SELECT * FROM (WITH a AS (SELECT 1) TABLE a) x, a", vec!["r a"]),
        ("WITH a AS (SELECT 1) SELECT * FROM public.a", vec!["r public.a"]),
        ("WITH a AS (SELECT 1) DELETE FROM a WHERE id = 1", vec!["w a"]),
        ("SELECT * FROM \"Weird Name\"", vec!["r Weird Name"]),
    ] {
        assert_eq!(relations(text), expected, "{text}");
    }
    let long = "x".repeat(70);
    assert_eq!(relations(&format!("SELECT * FROM {long}")), [format!("r {}", "x".repeat(63))]);
}

#[test]
fn columns_belong_to_what_their_alias_stands_for() {
    for (text, expected) in [
        ("SELECT name FROM customers", vec!["customers.name"]),
        ("SELECT c.name FROM shop.customers c", vec!["shop.customers.name"]),
        ("SELECT c.name, o.id FROM customers c, orders AS o", vec!["customers.name", "orders.id"]),
        ("SELECT name FROM customers, orders", vec!["name"]),
        ("SELECT c.* FROM customers c", vec!["customers.*"]),
        ("SELECT b FROM customers AS c (a, b)", vec!["customers.*", "customers.b"]),
        ("COPY customers (id, email) TO STDOUT", vec!["customers.email", "customers.id"]),
        ("SELECT x.name FROM (SELECT 1 AS name) x", vec!["name"]),
        ("UPDATE customers SET email = 'x' WHERE id = 1", vec!["customers.email", "customers.id"]),
    ] {
        assert_eq!(columns(text), expected, "{text}");
    }
}

#[test]
fn names_of_statements_and_cursors_are_told() {
    assert_eq!(one("PREPARE s AS SELECT 1").name, Some(NameUse::Prepares("s".into())));
    assert_eq!(one("EXECUTE s (1)").name, Some(NameUse::Executes("s".into())));
    assert_eq!(one("DECLARE c CURSOR FOR SELECT 1").name, Some(NameUse::Declares("c".into())));
    assert_eq!(one("FETCH 5 FROM c").name, Some(NameUse::Fetches("c".into())));
    assert_eq!(one("EXPLAIN ANALYZE EXECUTE s").name, Some(NameUse::Executes("s".into())));
}

#[test]
fn p2_where_two_readers_differ_it_is_told() {
    let reading = read("SELECT 1 END; DROP TABLE x");
    assert_eq!((reading.rung(), reading.statements.len()), (Rung::Destructive, 2));
    assert!(reading.disagreement.is_some());
    assert_eq!(read("SELECT 1; SELECT 2").disagreement, None);
}

#[test]
fn p2_what_cannot_be_read_is_destructive_and_says_why() {
    for (text, why) in [
        ("DROP", "syntax error"),
        (&"(".repeat(LONGEST + 1), "longer than 256 KiB"),
        ("SELECT '\0'", "NUL"),
    ] {
        let reading = read(text);
        assert_eq!(reading.rung(), Rung::Destructive);
        let statement = &reading.statements[0];
        assert!(statement.opaque && statement.reason.contains(why), "{}", statement.reason);
    }
    assert_eq!(read(" -- nothing\n").statements, []);
}
