use chaperone_model::{Access, NameUse, Rung, Statement, UNREADABLE};

use super::{LONGEST, lay_out, read, read_with_slots};
use crate::template::SlotKind;

fn one(text: &str) -> Statement {
    let reading = read(text);
    assert_eq!(reading.statements.len(), 1, "{text}");
    reading.statements[0].clone()
}

fn all_are(rung: Rung, texts: &[&str]) {
    for text in texts {
        let reading = read(text);
        assert_eq!(reading.rung(), rung, "{text}: {:?}", reading.statements);
    }
}

fn relations(text: &str) -> Vec<(String, Access)> {
    one(text).relations.iter().map(|one| (one.name.to_string(), one.access)).collect()
}

fn columns(text: &str) -> Vec<String> {
    let shown = |column: &chaperone_model::Column| {
        let of = column.relation.as_ref().map_or("?".to_owned(), ToString::to_string);
        format!("{of}.{}{}", column.name, if column.access == Access::Write { "!" } else { "" })
    };
    one(text).columns.iter().map(shown).collect()
}

#[test]
fn p2_known_differentials_are_read_as_the_server_does() {
    let drops = [
        "SELECT 1 END; DROP TABLE x",
        "SELECT a ||-- '\n a; DROP TABLE x; -- '",
        "SELECT a ->-- '\n a; DROP TABLE x; -- '",
        "COPY t FROM STDIN; DROP TABLE x",
    ];
    for text in drops {
        let reading = read(text);
        assert_eq!(reading.statements[1].kind, "DROP TABLE", "{text}");
        assert_eq!(reading.rung(), Rung::Destructive, "{text}");
    }
    assert_eq!(columns("SELECT U&\"\\0070assword\" FROM t"), ["t.password"]);
    assert_eq!(one("WITH d AS (DELETE FROM t RETURNING 1) SELECT 1").rung, Rung::Destructive);
    assert_eq!(one("EXPLAIN (ANALYZE) DELETE FROM t").rung, Rung::Destructive);
}

#[test]
fn p2_what_cannot_be_read_is_destructive() {
    let comments = format!("{} SELECT 1", "/*".repeat(1000));
    let long = format!("SELECT 1 --{}", "x".repeat(LONGEST));
    for text in ["SELECT FROM WHERE", "SELECT 'x", "SELECT 1\0", &comments, &long] {
        let reading = read(text);
        assert_eq!(reading.statements[0].kind, UNREADABLE);
        assert_eq!(reading.rung(), Rung::Destructive);
        assert!(reading.statements[0].opaque && reading.statements[0].reason.len() < 300);
    }
    assert!(one("SELECT FROM WHERE").reason.contains("syntax error"));
    assert!(read("").statements.is_empty() && read(" ;; -- x\n /* y */").statements.is_empty());
}

#[test]
fn p2_code_that_is_not_listed_is_destructive_wherever_it_stands() {
    let places = [
        "SELECT {}",
        "VALUES ({})",
        "SELECT 1 FROM t WHERE {}",
        "SELECT a::numeric({}) FROM t",
        "SELECT 1 FROM t ORDER BY {}",
        "SELECT 1 FROM t LIMIT {}",
        "SELECT 1 OFFSET {}",
        "SELECT DISTINCT ON ({}) a FROM t",
        "SELECT 1 FROM t GROUP BY CUBE ({})",
        "SELECT 1 FROM t HAVING {}",
        "SELECT 1 FROM t WINDOW w AS (ORDER BY {})",
        "SELECT sum(a) OVER (ROWS {} PRECEDING) FROM t",
        "SELECT sum(a) FILTER (WHERE {}) FROM t",
        "SELECT mode() WITHIN GROUP (ORDER BY {}) FROM t",
        "SELECT a[1:{}] FROM t",
        "SELECT CASE {} WHEN 1 THEN 1 END",
        "SELECT CASE WHEN true THEN 1 ELSE {} END",
        "SELECT coalesce({}), greatest(1, {}), nullif(1, {}), ROW({}), ARRAY[{}]",
        "SELECT {} IS NULL",
        "SELECT {} IS TRUE",
        "SELECT 1 IN (1, {})",
        "SELECT ARRAY(SELECT {})",
        "SELECT 1 BETWEEN 0 AND {}",
        "SELECT 'a' LIKE {}",
        "SELECT NOT {}",
        "SELECT {} COLLATE \"C\"",
        "SELECT EXISTS (SELECT 1 WHERE {})",
        "SELECT ({}).a",
        "SELECT lower(x => {})",
        "SELECT * FROM {} AS f",
        "SELECT * FROM ROWS FROM (now(), {}) AS f",
        "SELECT 1 UNION SELECT {}",
        "SELECT 1 FROM t JOIN u ON {}",
        "SELECT 1 FROM t, LATERAL (SELECT {}) s",
        "SELECT 1 FROM t TABLESAMPLE bernoulli ({})",
        "WITH a AS (SELECT {}) SELECT 1",
        "SELECT xmlelement(name a, xmlattributes({} AS b), {})",
        "SELECT xmlserialize(CONTENT {} AS text)",
        "SELECT * FROM xmltable({} PASSING {} COLUMNS a int PATH {} DEFAULT {}) x",
        "SELECT json_value('{{}}', '$' DEFAULT {} ON EMPTY)",
        "SELECT json_object('a': {})",
        "SELECT json_array({})",
        "SELECT json_array(SELECT {})",
        "SELECT json_arrayagg({} ORDER BY {})",
        "SELECT json_objectagg('a': {})",
        "SELECT json_scalar({}), json({}), json_serialize({})",
        "SELECT {} IS JSON",
        "SELECT json_exists({}, '$' PASSING {} AS x)",
        "SELECT * FROM json_table({}, '$' COLUMNS (a int)) j",
        "SELECT * FROM json_table('1', '$' COLUMNS (NESTED '$' COLUMNS (a int DEFAULT {} ON ERROR))) j",
        "INSERT INTO t VALUES ({})",
        "INSERT INTO t SELECT {}",
        "INSERT INTO t (a[{}]) VALUES (1)",
        "INSERT INTO t VALUES (1) ON CONFLICT (({})) WHERE {} DO NOTHING",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = {} WHERE {}",
        "INSERT INTO t VALUES (1) RETURNING {}",
        "UPDATE t SET a = {} WHERE id = 1",
        "UPDATE t SET (a, b) = (SELECT {}, 1) WHERE id = 1",
        "UPDATE t SET a[{}] = 1 WHERE id = 1",
        "UPDATE t SET a = 1 WHERE id = 1 AND {}",
        "DELETE FROM t USING {} f WHERE t.id = 1",
        "MERGE INTO t USING s ON t.id = 1 WHEN MATCHED AND {} THEN DELETE",
        "MERGE INTO t USING s ON t.id = 1 WHEN NOT MATCHED THEN INSERT VALUES ({})",
        "COPY (SELECT {}) TO STDOUT",
        "COPY t FROM STDIN WHERE {}",
        "PREPARE p AS SELECT {}",
        "EXECUTE p ({})",
        "DECLARE c CURSOR FOR SELECT {}",
        "EXPLAIN SELECT {}",
        "EXPLAIN (ANALYZE) SELECT {}",
    ];
    for place in places {
        for call in ["evil()", "app.lower('x')", "set_config('role', 'x', true)"] {
            let text = place.replace("{{}}", "1").replace("{}", call);
            let reading = read(&text);
            assert_eq!(reading.rung(), Rung::Destructive, "{text}");
            let [statement] = reading.statements.as_slice() else { panic!("{text}") };
            assert_ne!(statement.kind, UNREADABLE, "{text}: {}", statement.reason);
            assert!(statement.opaque, "{text}");
        }
        let text = place.replace("{{}}", "1").replace("{}", "pg_read_file('x')");
        assert_eq!(read(&text).rung(), Rung::Forbidden, "{text}");
    }
    all_are(
        Rung::Destructive,
        &[
            "SELECT 1 OPERATOR(app.=) 2",
            "SELECT 1 OPERATOR(app.=) ANY (SELECT 1)",
            "SELECT 1 FROM t ORDER BY a USING OPERATOR(app.<)",
            "SELECT 1 FROM t TABLESAMPLE app.mine (1)",
            "SELECT merge_action()",
        ],
    );
    all_are(
        Rung::Forbidden,
        &[
            "CREATE TABLE t (a text DEFAULT pg_read_file('x'))",
            "CREATE TABLE t AS SELECT pg_read_file('x')",
            "ALTER TABLE t ADD COLUMN a text DEFAULT pg_read_file('x')",
            "ALTER TABLE t ALTER a TYPE text USING pg_read_file('x')",
            "CREATE INDEX ON t (a) WHERE pg_read_file('x') = a",
            "CREATE VIEW v AS SELECT pg_read_file('x')",
            "CREATE FUNCTION f() RETURNS text LANGUAGE sql RETURN pg_read_file('x')",
            "CREATE FUNCTION f() RETURNS int LANGUAGE C AS 'x', 'y'",
            "DO LANGUAGE plpython3u 'x'",
            "CALL f(pg_read_file('x'))",
            "SELECT public.dblink('x', 'y')",
        ],
    );
}

#[test]
fn p2_a_change_is_bounded_by_a_comparison_with_a_value_alone() {
    let bounded = [
        "id = 1",
        "1 = id",
        "t.id = 1",
        "id = $1",
        "id IN (1, 2)",
        "id = ANY ($1)",
        "id > 0",
        "id BETWEEN 1 AND 9",
        "name LIKE 'a%'",
        "lower(name) = 'x'",
        "at::date = '2024-01-01'",
        "at < now() - interval '1 day'",
        "(a, b) = (1, 2)",
        "(a, b) IN ((1, 2))",
        "a IS NULL",
        "id = 1 AND true",
        "id = 1 OR id = 2",
        "id = 1 OR at < '2024-01-01'",
        "meta ->> 'a' = 'b'",
        "(id = 1 AND a = a) OR b = 2",
        "id IN (SELECT c.id FROM c WHERE c.x = 1)",
        "id = (SELECT c.id FROM c WHERE x = 1)",
        "id IN (VALUES (1), (2))",
        "done IS TRUE",
        "EXISTS (SELECT 1 FROM c WHERE c.id = t.id AND c.x = 1)",
        "id IS NOT DISTINCT FROM 1",
    ];
    let unbounded = [
        "true",
        "1 = 1",
        "id = id",
        "t.id = id",
        "id = 1 OR true",
        "NOT false",
        "NOT (id = 1)",
        "id IS NOT NULL",
        "id = coalesce(id, 0)",
        "a <> a",
        "name LIKE '%'",
        "name LIKE '%_%'",
        "name LIKE $1",
        "name NOT LIKE 'x'",
        "name ~ 'x'",
        "id = 1 OR id <> 1",
        "id <> 1",
        "id IS DISTINCT FROM 1",
        "id NOT IN (1, 2)",
        "id < 1 OR id >= 1",
        "done = true OR done = false",
        "done IN (true, false)",
        "done = ANY (ARRAY[true, false])",
        "done IS TRUE OR done IS FALSE",
        "id = ALL ($1)",
        "id <> ANY ($1)",
        "at > '-infinity'",
        "id >= -2147483648",
        "name > ''",
        "length(name) >= 0",
        "id * 0 = 0",
        "tableoid = 1",
        "t = t",
        "t IS NULL",
        "id IN (SELECT id FROM c WHERE x = 1)",
        "id IN (SELECT t.id FROM c WHERE c.x = 1)",
        "id IN (SELECT d.id FROM c, d WHERE c.x = 1)",
        "id NOT IN (SELECT c.id FROM c WHERE c.x = 1)",
        "id IN (SELECT c.id FROM (SELECT id, 1 AS x FROM t) c WHERE c.x = 1)",
        "id IN (WITH c AS (SELECT id, 1 AS x FROM t) SELECT c.id FROM c WHERE c.x = 1)",
        "EXISTS (SELECT 1 FROM c WHERE c.x = 1)",
        "EXISTS (SELECT 1 FROM c WHERE c.id = t.id)",
        "EXISTS (SELECT count(*) FROM c WHERE c.id = t.id AND c.x = 1)",
        "CURRENT OF c",
        "other.id = 1",
        "date_trunc('century', at) < now()",
        "now() > '2000-01-01'",
        "$1 = 3",
    ];
    for (conditions, rung) in [(&bounded[..], Rung::Write), (&unbounded[..], Rung::Destructive)] {
        for condition in conditions {
            for change in ["DELETE FROM t", "UPDATE t SET a = 1"] {
                let statement = one(&format!("{change} WHERE {condition}"));
                assert_eq!(statement.rung, rung, "{change} WHERE {condition}");
                assert_eq!(statement.selective, Some(rung == Rung::Write));
            }
        }
    }
    all_are(
        Rung::Write,
        &[
            "DELETE FROM t USING c WHERE t.id = c.id AND c.x = 1",
            "DELETE FROM t USING c JOIN d ON d.c = c.id AND d.x = 1 WHERE c.id = t.id",
            "UPDATE t SET a = v.a FROM (VALUES (1, 2)) v(id, a) WHERE t.id = v.id",
            "UPDATE t SET a = 1 FROM unnest($1::int[]) u(id) WHERE t.id = u.id",
            "MERGE INTO t USING (VALUES (1)) s(id) ON t.id = s.id WHEN MATCHED THEN DELETE",
            "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED AND t.a = 1 THEN UPDATE SET a = 2",
        ],
    );
    all_are(
        Rung::Destructive,
        &[
            "DELETE FROM t",
            "DELETE FROM t USING c WHERE t.id = c.id",
            "DELETE FROM t USING c WHERE c.x = 1",
            "DELETE FROM t USING c WHERE x = 1",
            "DELETE FROM t USING c LEFT JOIN d ON d.x = 1 WHERE c.id = t.id",
            "WITH c AS (SELECT id, 1 AS x FROM t) DELETE FROM t USING c WHERE c.id = t.id AND c.x = 1",
            "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE",
            "MERGE INTO t USING s ON t.id = s.id AND t.a = 1 WHEN NOT MATCHED BY SOURCE THEN DELETE",
            "UPDATE pg_settings SET setting = 'x' WHERE name = 'search_path'",
        ],
    );
}

#[test]
fn p2_sessions_are_kept_as_they_are() {
    all_are(
        Rung::Read,
        &[
            "BEGIN",
            "COMMIT",
            "SAVEPOINT a",
            "SHOW ALL",
            "SET application_name = 'x'",
            "SET search_path = \"$user\", public",
            "SET search_path = pg_catalog, public",
            "SET NAMES 'UTF8'",
            "SET enable_seqscan = off",
            "RESET ALL",
            "SET TRANSACTION READ ONLY",
            "LISTEN x",
            "CLOSE c",
            "EXPLAIN DELETE FROM t",
            "EXPLAIN (ANALYZE 'off') DELETE FROM t",
            "EXPLAIN (ANALYZE 0) DELETE FROM t",
            "EXECUTE p",
            "FETCH c",
            "COPY t TO STDOUT",
            "SELECT count(*) FROM t",
        ],
    );
    all_are(
        Rung::Write,
        &[
            "NOTIFY x",
            "DISCARD ALL",
            "VACUUM t",
            "ANALYZE",
            "SELECT nextval('s')",
            "SELECT 1 FROM t FOR SHARE",
            "COPY t FROM STDIN",
        ],
    );
    all_are(
        Rung::Destructive,
        &[
            "SET ROLE x",
            "SET \"ROLE\" = x",
            "RESET ROLE",
            "SET search_path = app",
            "SET search_path = public, pg_catalog",
            "SET client_encoding = 'SJIS'",
            "SET standard_conforming_strings = off",
            "SET app.tenant = '5'",
            "SET row_security = off",
            "SET session_replication_role = replica",
            "SET backslash_quote = on",
            "EXPLAIN (ANALYZE 'no') DELETE FROM t",
            "EXPLAIN (ANALYZE 2) DELETE FROM t",
            "EXPLAIN (ANALYZE false, ANALYZE) DELETE FROM t",
            "VACUUM (FULL 1) t",
            "LOCK t",
            "DO 'x'",
            "CALL f()",
            "SELECT 1 INTO x",
            "CREATE TABLE x AS SELECT 1",
            "TRUNCATE t",
            "PREPARE TRANSACTION 'x'",
        ],
    );
    all_are(
        Rung::Forbidden,
        &[
            "SET SESSION AUTHORIZATION x",
            "LOAD 'x'",
            "ALTER SYSTEM SET a = 1",
            "COPY t FROM PROGRAM 'x'",
            "COPY t TO '/x'",
            "CREATE EXTENSION x",
            "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p",
        ],
    );
}

#[test]
fn p5_what_makes_code_is_told() {
    for text in [
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC SELECT 1; END",
        "ALTER FUNCTION f() STABLE",
        "ALTER FUNCTION f() RENAME TO lower",
        "ALTER ROUTINE f() SET SCHEMA s",
        "CREATE CAST (int AS t) WITH FUNCTION f(int)",
        "CREATE OPERATOR === (FUNCTION = f, LEFTARG = int, RIGHTARG = int)",
        "ALTER OPERATOR === (int, int) SET SCHEMA s",
        "CREATE OPERATOR CLASS c FOR TYPE int USING btree AS FUNCTION 1 f(int, int)",
        "CREATE AGGREGATE a (int) (SFUNC = f, STYPE = int)",
        "CREATE TYPE t (INPUT = f, OUTPUT = g)",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE EVENT TRIGGER g ON ddl_command_end EXECUTE FUNCTION f()",
        "CREATE RULE r AS ON INSERT TO t DO ALSO SELECT 1",
        "CREATE SCHEMA s CREATE TABLE t (a int) CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    ] {
        assert!(one(text).makes_code, "{text}");
    }
    for text in [
        "CREATE TABLE t (a int)",
        "CREATE TYPE t AS ENUM ('a')",
        "CREATE DOMAIN d AS int CHECK (value > 0)",
        "DROP FUNCTION f()",
        "ALTER TABLE t RENAME TO u",
        "SELECT f()",
    ] {
        assert!(!one(text).makes_code, "{text}");
    }
}

#[test]
fn a_schema_with_another_name_is_told() {
    let renames = |text: &str| one(text).renames;
    let both = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
    assert_eq!(renames("ALTER SCHEMA Apart RENAME TO \"Other\""), both("apart", "Other"));
    assert_eq!(renames("ALTER SCHEMA apart OWNER TO somebody"), None);
    assert_eq!(renames("ALTER TABLE apart RENAME TO other"), None);
}

#[test]
fn names_are_told() {
    let name = |text: &str| one(text).name;
    assert_eq!(name("PREPARE A AS SELECT 1"), Some(NameUse::Prepares("a".into())));
    assert_eq!(name("EXPLAIN ANALYZE EXECUTE a"), Some(NameUse::Executes("a".into())));
    assert_eq!(name("CREATE TABLE x AS EXECUTE a"), Some(NameUse::Executes("a".into())));
    assert_eq!(name("MOVE 5 IN a"), Some(NameUse::Fetches("a".into())));
    let long = "é".repeat(40);
    assert_eq!(name(&format!("EXECUTE {long}")), Some(NameUse::Executes("é".repeat(31))));
}

#[test]
fn relations_and_columns_are_told() {
    use Access::{Read, Write};
    let told = |text: &str, expected: &[(&str, Access)]| {
        let expected: Vec<_> =
            expected.iter().map(|(name, access)| ((*name).to_owned(), *access)).collect();
        assert_eq!(relations(text), expected, "{text}");
    };
    told("SELECT 1 FROM a, s.b", &[("a", Read), ("s.b", Read)]);
    told("WITH a AS (SELECT 1 FROM a) SELECT 1 FROM a, s.a", &[("a", Read), ("s.a", Read)]);
    told("WITH a AS (SELECT 1) SELECT 1 FROM a", &[]);
    told("SELECT 1 FROM (WITH a AS (SELECT 1) SELECT 1 FROM a) x, a", &[("a", Read)]);
    told("WITH a AS (SELECT 1) DELETE FROM a WHERE id = 1", &[("a", Write)]);
    told("INSERT INTO a SELECT * FROM a JOIN b USING (id)", &[("a", Write), ("b", Read)]);
    told("DROP TABLE a, s.b CASCADE", &[("a", Write), ("s.b", Write)]);
    told("EXPLAIN DELETE FROM a", &[("a", Read)]);
    assert!(one("DROP TABLE a CASCADE").cascade);

    assert_eq!(columns("SELECT x FROM a"), ["a.x"]);
    assert_eq!(columns("SELECT c.x FROM a AS c, b"), ["a.x"]);
    assert_eq!(columns("SELECT x FROM a, b"), ["?.x"]);
    assert_eq!(columns("SELECT * FROM a, s.b"), ["a.*", "s.b.*"]);
    assert_eq!(columns("SELECT a FROM a"), ["a.*", "a.a"]);
    assert_eq!(columns("SELECT c.y FROM a AS c (x, y)"), ["a.*", "a.y"]);
    assert_eq!(columns("SELECT public.a.x FROM public.a"), ["public.a.x"]);
    assert_eq!(
        columns("UPDATE a SET x = y + 1 WHERE z = 1 RETURNING w"),
        ["a.w", "a.x!", "a.y", "a.z"]
    );
    assert_eq!(
        columns("INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET y = excluded.y"),
        ["a.*!", "a.x", "a.y", "a.y!"]
    );
    assert_eq!(columns("COPY a (x) TO STDOUT"), ["a.x"]);
    assert_eq!(
        columns("SELECT (c).x, (f()).y, (c.z)[1].w FROM a c"),
        ["?.w", "?.x", "?.y", "a.*", "a.c", "a.z"]
    );
}

#[test]
fn literals_that_matter_are_no_slots() {
    let slots = |text: &str| -> Option<Vec<String>> {
        let slots = read_with_slots(text).1?;
        let cut = |slot: &crate::template::Slot| {
            let literal = &text[slot.start as usize..slot.end as usize];
            assert_eq!(slot.kind == SlotKind::String, literal.starts_with('\''));
            literal.to_owned()
        };
        Some(slots.iter().map(cut).collect())
    };
    let some =
        |literals: &[&str]| Some(literals.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(
        slots("SELECT 'a', 5, 'it''s', E'x', 1.5, $1, 1234567890 FROM t WHERE a = -7"),
        some(&["'a'", "5", "7"])
    );
    assert_eq!(slots("DELETE FROM t WHERE name LIKE 'a%' AND id = 5"), some(&["5"]));
    assert_eq!(slots("DELETE FROM t WHERE at > date '2024-01-01' AND a = 'x'"), some(&["'x'"]));
    assert_eq!(slots("DELETE FROM t WHERE id > -5"), some(&["5"]));
    assert_eq!(slots("SELECT U&\"!0061\" UESCAPE '!' FROM t WHERE a = 'x'"), None);
    for text in [
        "EXPLAIN (ANALYZE 0) SELECT 1",
        "VACUUM (FULL 0) t",
        "SET a = 'x'",
        "SELECT FROM WHERE",
        "",
    ] {
        assert_eq!(slots(text), None, "{text}");
    }
}

#[test]
fn p2_a_second_reader_may_object() {
    let lost = read("SELECT 1 END; DROP TABLE x");
    assert!(lost.disagreement.is_some());
    assert_eq!(lost.statements[0].rung, Rung::Read, "what it lost it has no say about");
    assert_eq!(read("SELECT 1; SELECT 2").disagreement, None);
}

#[test]
fn statements_are_laid_out() {
    let laid_out = lay_out("select a,b from t where c=1").expect("a layout");
    assert!(laid_out.contains("SELECT") && laid_out.contains('\n'), "{laid_out}");
    assert_eq!(lay_out("SELECT FROM WHERE"), None);
}

#[test]
fn p8_depth_is_bounded() {
    // The worker has a stack of its own; a test's is too small for the decoder's hundred levels.
    let read_all = || {
        let deep = [
            format!("SELECT {}1", "1 + ".repeat(200)),
            format!("{}SELECT 1{}", "SELECT (".repeat(60), ")".repeat(60)),
            vec!["SELECT 1"; 300].join(" UNION ALL "),
        ];
        for text in &deep {
            assert!(one(text).reason.contains("too deep"), "{}", one(text).reason);
        }
        let wide = vec!["id = 1"; 3000].join(" OR ");
        assert_eq!(one(&format!("DELETE FROM t WHERE {wide}")).rung, Rung::Write);
    };
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(read_all);
    thread.expect("a thread").join().expect("no panic");
}

#[test]
fn p5_values_are_left_out_of_a_statement_or_all_of_it_is() {
    let of = |text| crate::read::without_values(text);
    assert_eq!(
        of("SELECT a FROM t WHERE b = 'secret' AND c IN (1, 2.5) LIMIT 3").as_deref(),
        Some("SELECT a FROM t WHERE b = $1 AND c IN ($2, $3) LIMIT $4")
    );
    assert_eq!(
        of("INSERT INTO t VALUES (E'a\\'b', $$c$$, U&'d', x'1f', $1)").as_deref(),
        Some("INSERT INTO t VALUES ($2, $3, $4, $5, $1)")
    );
    for left in
        ["SELECT 1 -- secret", "SELECT /* secret */ 1", "COMMENT ON TABLE t IS 'secret'", "SELEC"]
    {
        assert!(of(left).is_none_or(|rest| !rest.contains("secret")), "{left}: {:?}", of(left));
    }
}
