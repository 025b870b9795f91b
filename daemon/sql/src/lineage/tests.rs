use chaperone_model::{How, Lineage, Origin, Outputs, Schema, Table, TableColumn};
use proptest::prelude::*;

use super::lineage;

fn table(name: &str, columns: &[&str], masked: &[&str], query: Option<&str>) -> Table {
    let column = |name: &&str| TableColumn {
        name: (*name).into(),
        masked: masked.contains(name),
        generated: name.starts_with("made"),
        checked: *name == "mail",
        type_oid: match *name {
            "tags" => 1009,
            "plain" => 114,
            "doc" => 3802,
            _ => 25,
        },
    };
    Table {
        schema: "public".into(),
        name: name.into(),
        columns: columns.iter().map(column).collect(),
        query: query.map(str::to_owned),
        unknown: columns.is_empty(),
    }
}

fn schema() -> Schema {
    let path = vec!["pg_catalog".to_owned(), "public".to_owned()];
    Schema {
        path: Some(path.clone()),
        view_path: path,
        moved: false,
        code_shows: false,
        text_is_own: true,
        tables: vec![
            table("people", &["id", "note", "mail", "pan"], &["mail", "pan"], None),
            table("orders", &["id", "person", "what"], &[], None),
            table("seen", &["id", "address"], &[], Some("SELECT id, mail AS address FROM people")),
            table("dark", &[], &[], None),
            table("drawn", &["id", "made", "mail"], &["mail"], None),
            table("many", &["tags", "plain", "doc"], &["tags", "plain", "doc"], None),
        ],
    }
}

/// In short: for each column `.` clear, `m` or `p` exactly that column, `+` made of masked ones, `?`
/// unknown; then the first letters of its uses.
fn short(found: &Lineage) -> String {
    let column = |origin: &Origin| match origin {
        Origin::Clear => '.',
        Origin::Column(column) if column.column == 2 => 'm',
        Origin::Column(_) => 'p',
        Origin::Made(_) => '+',
        Origin::Unknown => '?',
    };
    let outputs = match &found.outputs {
        Outputs::None => "-".to_owned(),
        Outputs::Unknown => "??".to_owned(),
        Outputs::Of(name) => format!("={name}"),
        Outputs::Columns(columns) => columns.iter().map(column).collect(),
    };
    let mut uses: Vec<&str> = found
        .uses
        .iter()
        .map(|one| match one.how {
            How::Written => "W",
            How::Equality => "E",
            How::Condition => "C",
            How::Order => "O",
            How::Group => "G",
            How::Computed => "X",
            How::Copied => "P",
        })
        .collect();
    uses.sort_unstable();
    uses.dedup();
    format!("{outputs} {}", uses.concat()).trim_end().to_owned()
}

#[test]
fn p5_columns_are_followed_to_where_they_come_from() {
    let cases = [
        ("SELECT id, mail, pan FROM people", ".mp"),
        ("SELECT * FROM people", "..mp"),
        ("SELECT p.* FROM people p", "..mp"),
        ("SELECT x.a FROM (SELECT mail FROM people) AS x(a)", "m"),
        ("SELECT note FROM people WHERE id = 1", "."),
        ("WITH c AS (SELECT * FROM people) SELECT mail, id FROM c", "m."),
        ("WITH c(x) AS (SELECT mail FROM people) SELECT x FROM c", "m"),
        ("WITH RECURSIVE c AS (SELECT mail FROM people) SELECT * FROM c", "m"),
        (
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c, people",
            ".",
        ),
        (
            "WITH RECURSIVE c(a, b) AS (SELECT id, mail FROM people UNION ALL SELECT b, a FROM c) SELECT a, b FROM c",
            "++",
        ),
        (
            "WITH RECURSIVE a AS (SELECT id FROM b), b AS (SELECT mail AS id FROM people) SELECT id FROM a",
            "? X",
        ),
        (
            "WITH RECURSIVE c AS (SELECT id FROM people UNION ALL SELECT id FROM c) SEARCH DEPTH FIRST BY id SET o SELECT id FROM c",
            "? X",
        ),
        (
            "WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT 1 FROM people, c WHERE mail LIKE 'z%') SEARCH DEPTH FIRST BY n SET o SELECT count(*) FROM c",
            ". CX",
        ),
        (
            "WITH RECURSIVE c AS (SELECT * FROM generate_series(1, 1) g UNION ALL SELECT 1 FROM people WHERE mail > 'm') SELECT count(*) FROM c",
            ". C",
        ),
        (
            "WITH RECURSIVE c(n, a, b, d, e) AS (SELECT 0, mail, '', '', '' FROM people UNION ALL SELECT n + 1, '', a, b, d FROM c WHERE NOT (e > 'm')) SELECT count(*) FROM c",
            ". C",
        ),
        // The server calls them so.
        (
            "SELECT \"coalesce\" FROM (SELECT coalesce(mail, '') FROM people) s, generate_series(1, 1) g",
            "+",
        ),
        (
            "SELECT \"?column?\" FROM (SELECT mail || '' FROM people) s, generate_series(1, 1) g",
            "+",
        ),
        (
            "SELECT \"array\" FROM (SELECT ARRAY(SELECT mail FROM people)) s, generate_series(1, 1) g",
            "+",
        ),
        (
            "SELECT (SELECT \"coalesce\" FROM (SELECT coalesce(mail, '')::text FROM people) s) FROM (SELECT 1 AS \"coalesce\") z",
            "+",
        ),
        (
            "SELECT \"text\" FROM (SELECT (mail || '')::text FROM people) s, generate_series(1, 1) g",
            "+",
        ),
        (
            "SELECT \"case\" FROM (SELECT CASE WHEN true THEN mail END FROM people) s, generate_series(1, 1) g",
            "+",
        ),
        // Aliases have no schema, and columns come before relations.
        (
            "SELECT (SELECT public.people.mail FROM generate_series(1, 1) people) FROM public.people",
            "m",
        ),
        ("SELECT (SELECT mail FROM (SELECT 1 AS x) mail) FROM people", "m"),
        (
            "UPDATE people SET note = note FROM generate_series(1, 1) g RETURNING old.mail, upper(new.mail), new.id",
            "m+.",
        ),
        ("UPDATE people SET note = note RETURNING row_to_json(old)", "+"),
        ("DELETE FROM people RETURNING new", "+"),
        ("SELECT address, id FROM seen", "m."),
        ("SELECT * FROM dark", "??"),
        ("SELECT upper(mail), note FROM people", "+."),
        ("SELECT mail || 'x' FROM people", "+"),
        ("SELECT people FROM people", "+"),
        ("SELECT (p).mail FROM people p", "+"),
        ("SELECT row_to_json(p) FROM people p", "+"),
        ("SELECT o FROM orders o", "."),
        ("SELECT (SELECT mail FROM people LIMIT 1)", "m"),
        ("SELECT ARRAY(SELECT mail FROM people)", "+"),
        // A column of what is around, by way of something that may have any.
        ("SELECT (SELECT mail FROM generate_series(1, 1) g) FROM people", "m"),
        ("SELECT mail FROM people UNION ALL SELECT what FROM orders", "+"),
        ("SELECT mail FROM people UNION ALL SELECT mail FROM people", "m"),
        ("SELECT l.mail FROM orders o, LATERAL (SELECT mail FROM people) l", "m"),
        ("SELECT count(mail), count(*) FROM people", ".."),
        ("SELECT max(mail) FROM people", "+"),
        ("SELECT lower(note), app.other(id) FROM people", ".?"),
        ("INSERT INTO people (id) VALUES (1) RETURNING mail", "m"),
        ("DELETE FROM orders WHERE id = 1", "-"),
        ("PREPARE s AS SELECT mail FROM people", "m"),
        ("EXECUTE s", "=s"),
        ("FETCH ALL FROM c", "=c"),
        ("COPY people (id, mail) TO STDOUT", ".m"),
        ("COPY people (pan, id) TO STDOUT", "p."),
        ("COPY drawn TO STDOUT", ".m"),
        ("COPY drawn (mail, made) TO STDOUT", "m."),
        ("EXPLAIN SELECT mail FROM people WHERE id = 1", "."),
        // The schema may have that name by now.
        ("SELECT mail, id, other FROM elsewhere.people", "m.."),
        ("SELECT * FROM elsewhere.orders", "??"),
    ];
    for (text, expected) in cases {
        let found = lineage(text, &schema()).expect("it can be read");
        assert_eq!(short(&found[0]), expected, "{text}: {found:?}");
    }
}

#[test]
fn p5_what_is_done_with_masked_columns_is_told() {
    let cases = [
        ("SELECT id FROM people WHERE mail = $1", ". E"),
        ("SELECT id FROM people WHERE 'a'::text = mail AND id = 2", ". E"),
        ("SELECT id FROM people WHERE mail LIKE 'a%'", ". C"),
        ("SELECT id FROM people WHERE lower(mail) = 'a'", ". C"),
        ("SELECT id FROM people WHERE mail IN ('a', 'b')", ". C"),
        ("SELECT id FROM people WHERE mail = note", ". C"),
        ("SELECT id FROM people WHERE (mail = 'a') IS TRUE", ". CE"),
        ("SELECT id FROM people WHERE mail IS NULL", ". C"),
        ("SELECT CASE WHEN mail > 'm' THEN 1 ELSE 2 END FROM people", ". C"),
        ("SELECT id FROM people ORDER BY mail", ". O"),
        ("SELECT mail AS x FROM people ORDER BY x", "m O"),
        ("SELECT mail FROM people ORDER BY 1", "m O"),
        ("SELECT row_number() OVER (ORDER BY mail) FROM people", ". O"),
        ("SELECT count(*) FROM people GROUP BY mail", ". G"),
        (
            "SELECT (SELECT count(*) FROM (SELECT '' AS mail) x, orders TABLESAMPLE BERNOULLI (CASE WHEN mail > 'a' THEN 9 ELSE 1 END)) FROM people",
            ". C",
        ),
        (
            "SELECT (SELECT count(*) FROM (SELECT 1 AS pan) x, orders TABLESAMPLE SYSTEM (9) REPEATABLE (pan)) FROM people",
            ". C",
        ),
        (
            "WITH RECURSIVE r(e) AS (SELECT note FROM people UNION ALL SELECT left(c.mail, 1) FROM r, people c) CYCLE e SET y USING p SELECT count(*) FROM r",
            ". G",
        ),
        (
            "WITH RECURSIVE r(e) AS (SELECT id FROM people UNION ALL SELECT id FROM orders) CYCLE e SET y USING p SELECT count(*) FROM r",
            ".",
        ),
        ("SELECT note AS mail FROM people GROUP BY mail", ". G"),
        ("SELECT left(mail, 1), count(*) FROM people GROUP BY (1, 2)", "+. G"),
        (
            "SELECT e, max(g) FROM (SELECT mail, 1 FROM people) x(e, g) GROUP BY (1), ROLLUP((1))",
            "m. G",
        ),
        ("SELECT note AS mail FROM people GROUP BY (mail, id)", ". G"),
        ("SELECT note AS mail FROM people GROUP BY ROLLUP(mail)", ". G"),
        ("SELECT note AS mail FROM people GROUP BY GROUPING SETS ((mail, id), CUBE(id))", ". G"),
        ("SELECT mail, note FROM people GROUP BY (id, 2), GROUPING SETS (ROW(id, 2), ())", "m."),
        ("SELECT lower(note) AS n, count(*) FROM people GROUP BY n ORDER BY count, n", ".."),
        ("SELECT what FROM orders UNION ALL SELECT note FROM people ORDER BY what", "."),
        ("SELECT DISTINCT mail FROM people", "m G"),
        ("SELECT count(DISTINCT mail) FROM people", "+ G"),
        ("SELECT mail FROM people UNION SELECT 'x'", "+ G"),
        ("SELECT a.id FROM people a JOIN people b USING (mail)", ". C"),
        ("SELECT a.id FROM people a NATURAL JOIN people b", ". C"),
        ("SELECT p.id FROM people p NATURAL JOIN json_to_record('{}') x(mail text)", ". C"),
        ("SELECT a.id FROM public.people a NATURAL JOIN (SELECT mail FROM public.people) a", ". C"),
        (
            "SELECT g FROM (SELECT left(mail, 1) AS e FROM people) NATURAL JOIN (SELECT chr(c) AS e, c AS g FROM generate_series(1, 9) c)",
            ". C",
        ),
        (
            "SELECT id, (SELECT count(*) FROM (SELECT '' AS mail) people, ((SELECT 1 x) a JOIN (SELECT 1 y) b ON people.mail LIKE 'z%')) FROM people",
            ".. C",
        ),
        (
            "SELECT id, coalesce(mail, '') FROM people, generate_series(1, 1) g ORDER BY \"coalesce\"",
            ".+ O",
        ),
        ("UPDATE orders SET what[p.mail] = '1' FROM people p RETURNING what", ". P"),
        ("INSERT INTO people (id) VALUES (1) ON CONFLICT DO NOTHING", "- E"),
        ("INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO NOTHING", "-"),
        ("INSERT INTO people (id, mail) VALUES (1, 'a') ON CONFLICT (mail) DO NOTHING", "- EW"),
        (
            "INSERT INTO people (id, mail) VALUES (1, lower($1)) ON CONFLICT (mail) DO NOTHING",
            "- EW",
        ),
        (
            "INSERT INTO people (id, mail) SELECT n, 'u' || n FROM generate_series(1, 9) n ON CONFLICT (mail) DO NOTHING RETURNING id",
            ". CW",
        ),
        (
            "INSERT INTO people (id, mail) VALUES (1, regexp_split_to_table('a b', ' ')) ON CONFLICT (mail) DO NOTHING",
            "- CW",
        ),
        ("EXPLAIN ANALYZE SELECT mail FROM people", "?? X"),
        ("EXPLAIN (ANALYZE, SERIALIZE) SELECT count(left(mail, 1)) FROM people", "?? X"),
        ("EXPLAIN ANALYZE SELECT id FROM people", "."),
        ("SELECT octet_length(concat(repeat('x', 9), mail)) FROM people", "+ X"),
        ("SELECT repeat('x', 9) || mail FROM people", "+ X"),
        ("SELECT replace(mail, 'a', repeat('b', 9)) FROM people", "+ X"),
        ("SELECT concat(x, mail) FROM people, (SELECT repeat('a', 1073741800) AS x) y", "+ X"),
        ("SELECT y.x || mail FROM people, (VALUES (repeat('a', 9))) y(x)", "+ X"),
        ("SELECT x || mail FROM people, repeat('a', 9) x", "+ X"),
        ("WITH y AS (SELECT note || note AS x FROM people) SELECT x || mail FROM people, y", "+ X"),
        (
            "WITH RECURSIVE y(x) AS (SELECT 'a' UNION ALL SELECT x || x FROM y) SELECT mail || x FROM people, y",
            "+ X",
        ),
        ("SELECT mail || (SELECT string_agg(note, '') FROM people) FROM people", "+ X"),
        ("SELECT mail || coalesce(string_agg(what, ''), '') FROM people, orders", "+ X"),
        ("SELECT string_agg(mail, '') FROM people, generate_series(1, 1000000000)", "+ X"),
        ("SELECT array_agg(mail) FROM people, unnest($1::int[]) u", "+ X"),
        (
            "SELECT concat(note, ' ', p.mail), note || what || mail, mail || 'x' || $1, string_agg(mail, ',') FROM people p, orders",
            "++++",
        ),
        ("SELECT x || mail FROM people, (SELECT lower(note) AS x FROM people) y", "+"),
        ("SELECT note || mail FROM people, generate_series(1, 2) g", "+"),
        ("SELECT mail::int FROM people", "+ X"),
        ("SELECT mail::text FROM people", "+"),
        ("SELECT 1 / (length(mail) - 3) FROM people", "+ X"),
        ("SELECT generate_series(1, length(mail)) FROM people", "+ X"),
        ("SELECT app.other(mail) FROM people", "? X"),
        // What fails for some values, by what stands beside them or by their type.
        ("SELECT split_part('a', 'b', strpos('abc', left(mail, 1))) FROM people", "+ X"),
        ("SELECT split_part(mail, '@', 1), nth_value(mail, 2) OVER () FROM people", "++"),
        ("SELECT nth_value(1, strpos(mail, 'z')) OVER () FROM people", "+ X"),
        ("SELECT length('x'::bytea, btrim('utf8zz', left(mail, 1))) FROM people", "+ X"),
        (
            "SELECT length(mail), array_agg(mail), jsonb_agg(pan), to_jsonb(mail) FROM people",
            "++++",
        ),
        ("SELECT array_agg(tags) FROM many", "+ X"),
        ("SELECT tags || ARRAY[['a', 'b']] FROM many", "+ X"),
        ("SELECT doc || '1' FROM many", "+ X"),
        ("SELECT to_jsonb(plain) FROM many", "+ X"),
        ("SELECT jsonb_agg(m) FROM many m", "+ X"),
        ("SELECT jsonb_build_array(tags, doc), to_json(plain), array_agg(doc) FROM many", "+++"),
        ("SELECT id FROM people LIMIT (SELECT length(mail) FROM people)", ". C"),
        (
            "WITH RECURSIVE c AS (SELECT id FROM people UNION ALL SELECT p.id FROM people p, c WHERE p.mail > 'a') SELECT id FROM c",
            ". C",
        ),
        ("CREATE TABLE t AS SELECT mail FROM people", "- P"),
        ("SELECT mail INTO t FROM people", "- P"),
        ("SELECT '' AS x INTO t UNION ALL SELECT mail FROM people", "- P"),
        (
            "SELECT 1 AS x INTO t UNION ALL SELECT 2 UNION ALL (SELECT id FROM orders EXCEPT ALL SELECT pan FROM people)",
            "- GP",
        ),
        ("CREATE VIEW v AS SELECT mail FROM people", "- P"),
        ("INSERT INTO orders SELECT id, id, mail FROM people", "- P"),
        ("UPDATE people SET note = mail", "- P"),
        ("UPDATE orders SET what = p.mail FROM people p", "- P"),
        ("UPDATE people SET mail = 'x' WHERE id = 1", "- W"),
        ("INSERT INTO people VALUES (1, 'n', 'm', 'p')", "- W"),
        ("COPY people FROM STDIN", "- W"),
        ("ALTER TABLE people RENAME TO x", "?? X"),
        ("EXPLAIN SELECT id FROM people WHERE mail > 'a'", "?? CX"),
    ];
    for (text, expected) in cases {
        let found = lineage(text, &schema()).expect("it can be read");
        assert_eq!(short(&found[0]), expected, "{text}: {found:?}");
    }
}

#[test]
fn p5_where_the_path_is_not_known_a_name_may_be_any() {
    let schema = Schema { path: None, ..schema() };
    let of = |text: &str| short(&lineage(text, &schema).expect("it can be read")[0]);
    let cases = [
        ("SELECT id FROM people", "."),
        ("SELECT mail FROM people", "m"),
        ("SELECT address FROM seen", "m"),
        ("SELECT mail FROM public.people", "m"),
        ("SELECT id FROM orders", "."),
        // It may be another, which has others.
        ("SELECT other FROM people", "."),
        ("SELECT id FROM dark", "? X"),
        ("SELECT * FROM people", "??"),
        ("SELECT p FROM people p", "+"),
        ("SELECT p.row_to_json FROM people p", "? X"),
        ("SELECT p.a FROM people p(a)", "? X"),
        ("SELECT p.id FROM people p(a)", "? X"),
        ("SELECT q.id FROM people q NATURAL JOIN orders", ". C"),
        ("UPDATE people SET note = note RETURNING upper(old.mail)", "+"),
        ("COPY people TO STDOUT", "??"),
        ("COPY people (id) TO STDOUT", "??"),
        ("COPY orders TO STDOUT", ""),
        ("COPY people FROM STDIN", "- W"),
        ("INSERT INTO people VALUES (1)", "- W"),
        ("UPDATE people SET note = mail", "- P"),
        // Where it is another, the column is of what is around.
        ("SELECT (SELECT id FROM people) FROM (SELECT mail AS id FROM public.people) x", "+"),
        ("SELECT (SELECT q FROM people) FROM public.people q", "+"),
    ];
    for (text, expected) in cases {
        assert_eq!(of(text), expected, "{text}");
    }
    // A schema of the path may be gone, or another have its name, when the server looks.
    let moved = Schema { moved: true, ..schema.clone() };
    let of = |text: &str| short(&lineage(text, &moved).expect("it can be read")[0]);
    assert_eq!(of("SELECT row_to_json(p) FROM elsewhere.people p"), "+");
    assert_eq!(of("SELECT mail FROM public.people"), "m");
    assert_eq!(of("SELECT address FROM public.seen"), "m");
    let mut both = schema.clone();
    both.tables.push(Table {
        schema: "other".into(),
        ..table("people", &["id", "note", "mail"], &["note"], None)
    });
    let of = |text: &str| short(&lineage(text, &both).expect("it can be read")[0]);
    assert_eq!(of("SELECT note, mail, id FROM people"), "++.");
    both.path = Some(vec!["other".into(), "public".into()]);
    let of = |text: &str| short(&lineage(text, &both).expect("it can be read")[0]);
    assert_eq!(of("SELECT note, mail, id FROM people"), "++.");
    assert_eq!(of("SELECT note, mail FROM other.people"), "p.");
}

#[test]
fn p5_code_that_may_show_what_it_reads_still_shows_nothing_that_it_is_given() {
    let schema = Schema { code_shows: true, ..schema() };
    let cases = [
        ("SELECT app.other(id), note FROM people", ".."),
        ("SELECT app.other(mail) FROM people", "? X"),
        ("SELECT app.other(p) FROM people p", "? X"),
        ("SELECT note FROM people WHERE app.other(mail)", ". CX"),
        ("SELECT note FROM people WHERE app.other(id)", "."),
    ];
    for (text, expected) in cases {
        let found = lineage(text, &schema).expect("it can be read");
        assert_eq!(short(&found[0]), expected, "{text}: {found:?}");
    }
}

#[test]
fn p5_each_value_that_masked_columns_are_compared_with_is_counted() {
    let cases = [
        ("SELECT id FROM people WHERE mail = $1", 1),
        ("SELECT id FROM people WHERE mail = 'a' OR mail = 'b' OR note = 'c' OR pan = $1", 3),
        (
            "SELECT CASE WHEN pan = '1' THEN 1 WHEN pan = '2' THEN 2 WHEN pan = '3' THEN 3 END FROM people",
            3,
        ),
        ("SELECT id FROM people WHERE id = 1", 0),
        ("INSERT INTO people (id, mail) VALUES (1, 'a'), (2, $1) ON CONFLICT (mail) DO NOTHING", 2),
        ("INSERT INTO people DEFAULT VALUES ON CONFLICT DO NOTHING", 1),
        // What is there once, or refers to something.
        ("INSERT INTO people (id, mail) VALUES (1, 'a'), (2, 'b')", 1),
        ("INSERT INTO people SELECT * FROM orders", 1),
        ("UPDATE people SET mail = 'a' WHERE id = 1", 1),
        ("COPY people FROM STDIN", 1),
        ("INSERT INTO people (id, pan) VALUES (1, 'a')", 0),
        ("UPDATE people SET pan = 'a' WHERE id = 1", 0),
        ("INSERT INTO people (id, mail) VALUES (1, 'a') ON CONFLICT (id) DO NOTHING", 1),
    ];
    for (text, expected) in cases {
        let found = lineage(text, &schema()).expect("it can be read");
        assert_eq!(found[0].compared, expected, "{text}: {found:?}");
    }
}

#[test]
fn p5_what_a_session_may_have_made_is_not_taken_for_text() {
    let schema = Schema { text_is_own: false, ..schema() };
    let cases = [
        ("SELECT mail::text FROM people", "+ X"),
        ("SELECT mail::pg_catalog.text, mail::varchar FROM people", "++"),
        ("SELECT note::text FROM people", "."),
    ];
    for (text, expected) in cases {
        let found = lineage(text, &schema).expect("it can be read");
        assert_eq!(short(&found[0]), expected, "{text}: {found:?}");
    }
}

#[test]
fn p8_views_that_read_each_other_end() {
    let mut schema = schema();
    schema.tables.push(table("a", &["x"], &[], Some("SELECT x FROM b")));
    schema.tables.push(table("b", &["x"], &[], Some("SELECT x FROM a")));
    let found = lineage("SELECT x FROM a", &schema).expect("it can be read");
    assert_eq!(short(&found[0]), "?");
}

proptest! {
    #[test]
    fn p8_no_text_panics(text in "(SELECT |FROM |people|mail|\\*|,|\\(|\\)| |WHERE |=|'a'|WITH |AS |UNION ){0,24}") {
        let _ = lineage(&text, &schema());
    }
}
