//! P1, P2: rules speak of what a name stands for in the target, and of what is behind it.

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Release, Scene, wait_until};
use serde_json::Value;

use crate::{
    holds::{held, waiting, with_rows},
    protocol::raw,
};

/// A scene in which the daemon can ask, and nobody touches `public.customers` or
/// `public.order_lines`.
fn guarded() -> Scene {
    Scene::default().target("credential = { user = \"postgres\" }").more(
        "[[rule]]\nname = \"no\"\nwhen = { relation = [\"public.customers\", \"public.order_lines\"] }\n\
         then = \"deny\"\nmessage = \"hands off\"",
    )
}

fn shop(scene: &Scene) -> Result<Host> {
    let host = scene.start()?;
    host.postgres().sql(
        "CREATE SCHEMA app; \
         CREATE TABLE public.customers (id int PRIMARY KEY, name text); \
         CREATE TABLE app.notes (id int); CREATE TABLE public.others (id int); \
         CREATE TABLE app.customers (id int)",
    )?;
    Ok(host)
}

/// Whether a statement, after others of one session, is denied.
fn denied(host: &Host, statements: &[&str]) -> Result<bool> {
    let out = host.psql(statements)?;
    let refused = out.err.contains("hands off");
    assert!(refused || out.code == Some(0), "{statements:?}: {}", out.err);
    Ok(refused)
}

fn last_summary(host: &Host) -> Result<Value> {
    let commands = host.commands()?;
    let summary = commands.last().context("a command")?["summary"].as_str().context("a summary")?;
    Ok(serde_json::from_str(summary)?)
}

#[test]
fn p2_a_rule_is_of_the_relation_that_a_name_stands_for() -> Result<()> {
    let host = shop(&guarded())?;
    assert!(denied(&host, &["SELECT * FROM customers"])?);
    let summary = last_summary(&host)?;
    assert_eq!(summary["statements"][0]["reads"][0], "public.customers", "{summary}");
    assert!(!denied(&host, &["SELECT * FROM app.customers"])?);
    // Where nothing is known of a name, it may be any.
    assert!(denied(&host, &["SET search_path = app, public", "SELECT * FROM customers"])?);
    assert!(denied(&host, &["SET search_path = app, public; SELECT * FROM customers"])?);
    Ok(())
}

#[test]
fn p2_names_are_looked_for_where_the_account_looks() -> Result<()> {
    let host = shop(&guarded().target("parameters = [\"search_path\"]"))?;
    host.postgres().sql("ALTER ROLE postgres SET search_path = app, public")?;
    assert!(!denied(&host, &["SELECT * FROM customers"])?);
    let summary = last_summary(&host)?;
    assert_eq!(summary["statements"][0]["reads"][0], "app.customers", "{summary}");
    // The start-up message says otherwise.
    let out = host.connect("options=-csearch_path=public", &["SELECT * FROM customers"])?;
    assert!(out.err.contains("hands off"), "{}", out.err);
    Ok(())
}

#[test]
fn p2_a_search_path_that_is_changed_counts_for_new_sessions_and_not_for_those_that_are_open()
-> Result<()> {
    let host = shop(&guarded())?;
    let code = "
import psycopg
old = psycopg.connect('', autocommit=True)
old.execute('SELECT 1 FROM others')
psycopg.connect('', autocommit=True).execute('ALTER ROLE postgres SET search_path = app, public')
psycopg.connect('', autocommit=True).execute('SELECT * FROM customers')
try:
    old.execute('SELECT * FROM customers')
    print('read')
except psycopg.Error as error:
    print(error)
";
    let out = host.python(code)?.ok()?;
    assert!(out.contains("hands off"), "{out}");
    Ok(())
}

#[test]
fn p2_a_search_path_that_others_change_counts_while_the_daemon_keeps_its_connection() -> Result<()>
{
    let host = shop(&guarded().server("log_connections = on"))?;
    host.postgres().sql("ALTER ROLE postgres SET search_path = app, public")?;
    let code = "
import psycopg, sys
one = psycopg.connect('', autocommit=True)
for n in range(40):
    one.execute(f'CREATE TABLE made{n} (id int)')
    one.execute(f'SELECT 1 FROM made{n}')
print('made', flush=True)
sys.stdin.readline()
try:
    psycopg.connect('', autocommit=True).execute('SELECT 2 FROM customers')
    print('let through')
except psycopg.Error as e:
    print(e.diag.message_primary)
";
    let mut running = host.start_agent("/usr/bin/python3", &["-c", code])?;
    assert_eq!(running.hear()?, "made");
    // Eighty questions, and a connection counts for ten seconds.
    let connections = host.postgres().log().matches("application_name=chaperone (catalog)").count();
    assert!((1..20).contains(&connections), "{connections} connections");
    // Not by an agent's session, which would be seen.
    host.postgres().sql("ALTER ROLE postgres SET search_path = public")?;
    running.say("go on")?;
    assert!(running.hear()?.contains("hands off"), "customers are those of public now");
    running.finish()?.ok()?;
    Ok(())
}

#[test]
fn p1_an_approval_is_for_what_the_names_stood_for_when_it_was_asked_for() -> Result<()> {
    let scene = held("").target("credential = { user = \"postgres\" }");
    for changes in [false, true] {
        let host = with_rows(&scene)?;
        host.postgres().sql("CREATE TABLE victims AS SELECT 1 AS a")?;
        let psql =
            host.start_agent("psql", &["-X", "-At", "-c", "DELETE FROM t", "-c", "SELECT 7"])?;
        let mut id = String::new();
        wait_until("it waits", || {
            let holds = waiting(&host).unwrap_or_default();
            id = holds.first().map_or_else(String::new, |hold| hold["id"].to_string());
            !id.is_empty()
        })?;
        if changes {
            // Not through the daemon: nothing tells it.
            host.postgres()
                .sql("ALTER TABLE t RENAME TO was_t; CREATE VIEW t AS SELECT a FROM victims")?;
        }
        host.chaperone(&["approve", &id])?.ok()?;
        let out = psql.finish()?;
        assert!(out.out.contains('7'), "the session goes on: {}{}", out.out, out.err);
        assert_eq!(
            out.err.contains("what its names stand for has changed"),
            changes,
            "{}",
            out.err
        );
        let victims = host.postgres().sql("SELECT count(*) FROM victims")?;
        assert_eq!(victims, "1");
        let state = host.chaperone(&["holds", "--all", "--json"])?.ok()?;
        assert!(state.contains(if changes { "withdrawn" } else { "approved" }), "{state}");
    }
    Ok(())
}

#[test]
fn p2_what_is_behind_a_name_is_touched_as_well() -> Result<()> {
    let host = shop(&guarded())?;
    host.postgres().sql(
        "CREATE VIEW app.v AS SELECT name FROM customers; CREATE VIEW public.vv AS SELECT * FROM app.v; \
         CREATE MATERIALIZED VIEW app.m AS SELECT * FROM customers; \
         CREATE TABLE app.part () INHERITS (public.customers); \
         CREATE TABLE public.orders (id int PRIMARY KEY, note text); \
         CREATE TABLE public.order_lines (id int REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE); \
         CREATE VIEW app.files AS SELECT pg_read_file('PG_VERSION'); \
         CREATE TABLE app.ruled (id int); \
         CREATE RULE r AS ON INSERT TO app.ruled DO INSTEAD DELETE FROM public.customers; \
         CREATE VIEW app.plain AS SELECT * FROM app.notes",
    )?;
    for statement in [
        "SELECT * FROM vv",
        "UPDATE vv SET name = 'x' WHERE name = 'y'",
        "SELECT * FROM app.m",
        "SELECT * FROM app.part",
        "DELETE FROM orders WHERE id = 1",
        "WITH d AS (DELETE FROM orders WHERE id = 1) SELECT 1",
        "UPDATE orders SET id = 2 WHERE id = 1",
        "TRUNCATE orders CASCADE",
        "INSERT INTO app.ruled VALUES (1)",
        "EXPLAIN SELECT * FROM vv",
        "PREPARE p AS SELECT * FROM vv",
    ] {
        assert!(denied(&host, &[statement])?, "{statement}");
    }
    for statement in [
        "SELECT * FROM app.plain",
        "UPDATE orders SET note = 'x' WHERE id = 1",
        "INSERT INTO orders VALUES (1)",
        "SELECT * FROM orders",
    ] {
        assert!(!denied(&host, &[statement])?, "{statement}");
    }
    denied(&host, &["DELETE FROM orders WHERE id = 1"])?;
    let summary = last_summary(&host)?.to_string();
    for part in ["\"public.order_lines\"", "deleting rows of public.orders deletes rows of"] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
    // A view does what its query does.
    let out = host.psql(&["SELECT * FROM app.files"])?;
    assert!(out.err.contains("does not allow"), "{}", out.err);
    // The extended protocol, too.
    let out = raw(
        &host,
        r#"
s = connect()
s.sendall(P(b"", b"SELECT * FROM vv") + B(b"", b"") + E() + S)
print(tags(read_to(s, b"Z")).decode())
"#,
    )?;
    assert_eq!(out, "EZ");
    Ok(())
}

#[test]
fn p2_what_a_session_makes_itself_hides_nothing() -> Result<()> {
    let host = shop(&Scene::default().target("credential = { user = \"postgres\" }").more(
        "[[rule]]\nname = \"no\"\nwhen = { kind = \"SELECT\", relation = \"public.customers\" }\n\
             then = \"deny\"\nmessage = \"hands off\"",
    ))?;
    for statements in [
        &["CREATE TEMP TABLE mine AS TABLE customers", "SELECT * FROM mine"][..],
        // Nobody else sees it yet.
        &["BEGIN", "CREATE VIEW w AS TABLE public.customers", "SELECT * FROM w"],
        &["CREATE TEMP VIEW others AS TABLE public.customers; SELECT * FROM others"],
    ] {
        assert!(denied(&host, statements)?, "{statements:?}");
    }
    let statements = ["CREATE TEMP TABLE mine (id int)", "SELECT * FROM mine, others"];
    assert!(!denied(&host, &statements)?);
    Ok(())
}

#[test]
fn p2_a_temporary_table_shadows() -> Result<()> {
    // Only a rule that allows is of it: what stands there is not sure any more.
    let host = shop(
        &Scene::default().target("credential = { user = \"postgres\" }\ndefault = \"deny\"").more(
            "[[rule]]\nname = \"yes\"\nwhen = { relation = \"public.others\" }\nthen = \"allow\"\n\
                 [[rule]]\nname = \"ddl\"\nwhen = { kind = \"CREATE TABLE\" }\nthen = \"allow\"",
        ),
    )?;
    assert_eq!(host.psql(&["SELECT count(*) FROM others"])?.ok()?, "0");
    let out = host.psql(&["CREATE TEMP TABLE others (id int)", "SELECT count(*) FROM others"])?;
    assert!(out.err.contains("does not allow"), "{} {}", out.out, out.err);
    let out = host.psql(&["CREATE TEMP TABLE x (id int)", "SELECT count(*) FROM others"])?;
    assert_eq!(out.ok()?, "0");
    Ok(())
}

#[test]
fn p2_what_another_session_changes_counts_at_once() -> Result<()> {
    let scene = Scene::default()
        .target("credential = { user = \"postgres\" }")
        .other_agent("migrator", 64_777)
        .more(
            "[[rule]]\nname = \"no\"\nwhen = { agent = \"cleaner\", relation = \"public.customers\" }\n\
             then = \"deny\"\nmessage = \"hands off\"",
        );
    let host = shop(&scene)?;
    assert!(!denied(&host, &["SELECT * FROM others"])?);
    let change = ["DROP TABLE others", "CREATE VIEW others AS SELECT id FROM customers"];
    host.connect_as(64_777, "", &change)?.ok()?;
    assert!(denied(&host, &["SELECT * FROM others"])?);
    Ok(())
}

#[test]
fn p2_what_is_not_committed_is_asked_for_again() -> Result<()> {
    let scene = Scene::default().target("credential = { user = \"postgres\" }").more(
        "[[rule]]\nname = \"no\"\nwhen = { kind = \"SELECT\", relation = \"public.customers\" }\n\
         then = \"deny\"\nmessage = \"hands off\"",
    );
    let host = shop(&scene)?;
    host.postgres().sql("ALTER ROLE postgres SET search_path = app, public")?;
    let program = r#"
import psycopg
a, b = psycopg.connect("", autocommit=True), psycopg.connect("", autocommit=True)
def see():
    try:
        b.execute("SELECT * FROM others")
        print("yes")
    except psycopg.Error as e:
        print(e.sqlstate)
see()
a.execute("BEGIN")
a.execute("CREATE VIEW app.others AS SELECT id FROM public.customers")
see()
a.execute("COMMIT")
see()
"#;
    assert_eq!(host.python(program)?.ok()?, "yes\nyes\n42501");
    Ok(())
}

/// The server binds a statement's names when it is sent to be parsed.
#[test]
fn p1_a_prepared_statement_is_decided_by_what_its_names_stood_for_as_well() -> Result<()> {
    let scene = Scene::default().target("credential = { user = \"postgres\" }").more(
        "[[rule]]\nname = \"ask\"\nwhen = { kind = \"DELETE\", relation = \"public.others\" }\n\
         then = \"hold\"\nwait = \"retry\"\napprovers = [\"user:root\"]\n\
         [[rule]]\nname = \"no\"\nwhen = { kind = \"EXECUTE\", relation = \"public.others\" }\n\
         then = \"deny\"",
    );
    let host = shop(&scene)?;
    host.postgres().sql("ALTER ROLE postgres SET search_path = app, public")?;
    let out = raw(
        &host,
        r#"
s, t = connect(), connect()
def say(c, flight):
    c.sendall(flight)
    return tags(read_to(c, b"Z")).decode()
query = lambda text: msg(b"Q", text + b"\0")
print(say(s, P(b"s", b"DELETE FROM others WHERE id = 1") + S))
print(say(s, query(b"PREPARE p AS DELETE FROM others WHERE id = 1")))
say(t, query(b"CREATE TABLE app.others (id int)"))
print(say(s, B(b"", b"s") + E() + S))
print(say(s, query(b"EXECUTE p")))
print(say(connect(), P(b"s", b"DELETE FROM others WHERE id = 2") + B(b"", b"s") + E() + S))
"#,
    )?;
    assert_eq!(out, "1Z\nCZ\nEZ\nEZ\n12CZ");
    Ok(())
}

#[test]
fn p2_a_view_that_is_locked_counts_as_the_worst_meanwhile() -> Result<()> {
    let host = shop(&guarded())?;
    host.postgres().sql("CREATE VIEW app.v AS TABLE app.notes")?;
    let program = r#"
import psycopg
a, b = psycopg.connect("", autocommit=True), psycopg.connect("", autocommit=True)
a.execute("BEGIN")
a.execute("ALTER VIEW app.v RENAME TO w; ALTER VIEW app.w RENAME TO v")
for end in (False, True):
    if end:
        a.execute("ROLLBACK")
    try:
        b.execute("SELECT * FROM app.v")
        print("yes")
    except psycopg.Error as e:
        print(e.sqlstate)
"#;
    assert_eq!(host.python(program)?.ok()?, "42501\nyes");
    Ok(())
}

#[test]
fn p2_a_newer_server_is_asked_the_same() -> Result<()> {
    let host = guarded().release(Release::Eighteen).start()?;
    host.postgres().sql(
        "CREATE TABLE customers (id int); CREATE VIEW v AS TABLE customers; \
         CREATE TABLE orders (id int PRIMARY KEY); \
         CREATE TABLE order_lines (id int REFERENCES orders ON DELETE CASCADE)",
    )?;
    for statement in ["TABLE v", "DELETE FROM orders WHERE id = 1", "SELECT * FROM customers"] {
        assert!(denied(&host, &[statement])?, "{statement}");
    }
    assert!(!denied(&host, &["SELECT * FROM orders"])?);
    Ok(())
}

#[test]
fn p2_a_function_or_operator_of_others_with_a_known_name_is_not_taken_for_it() -> Result<()> {
    let host = Scene::default()
        .target("credential = { user = \"postgres\" }")
        .more("[[rule]]\nname = \"no\"\nwhen = { class = \"destructive\" }\nthen = \"deny\"\nmessage = \"hands off\"")
        .start()?;
    host.postgres().sql(
        "CREATE TABLE t (a int, b text); \
         CREATE FUNCTION public.lower(int) RETURNS text LANGUAGE sql AS 'SELECT ''x'''; \
         CREATE FUNCTION public.eq(int, text) RETURNS bool LANGUAGE sql AS 'SELECT true'; \
         CREATE OPERATOR public.= (LEFTARG = int, RIGHTARG = text, FUNCTION = public.eq); \
         CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = text, FUNCTION = public.eq); \
         CREATE FUNCTION public.gone(t) RETURNS text LANGUAGE sql AS 'SELECT ''x'''; \
         CREATE FUNCTION public.many(VARIADIC t[]) RETURNS text LANGUAGE sql AS 'SELECT ''x'''; \
         CREATE FUNCTION public.whole(anynonarray) RETURNS text LANGUAGE sql AS 'SELECT ''x'''; \
         CREATE DOMAIN public.td AS t; \
         CREATE FUNCTION public.dom(td) RETURNS text LANGUAGE sql AS 'SELECT ''x'''; \
         CREATE TYPE public.tag AS (a text); CREATE DOMAIN public.tags AS tag; \
         CREATE FUNCTION public.tagged(int) RETURNS tag LANGUAGE sql AS 'SELECT ROW(''x'')::tag'; \
         CREATE CAST (int AS tag) WITH FUNCTION public.tagged(int); \
         CREATE TYPE public.plain AS (a text)",
    )?;
    for statement in [
        "SELECT (x).gone FROM t x",
        "SELECT (ROW(1, 'x')::t).gone",
        "SELECT (x).many FROM t x",
        "SELECT x.whole FROM t x",
        "SELECT (x).dom FROM t x",
        "SELECT 1 === 'x'",
        "SELECT 1::tag",
        "SELECT ARRAY[1]::public.tag[]",
        "SELECT CAST(1 AS tags)",
        "SELECT lower(a) FROM t",
        "SELECT * FROM t WHERE a = b",
        "SELECT * FROM t WHERE a IN (SELECT b FROM t)",
        "SELECT x.a FROM t x JOIN (SELECT b AS a FROM t) y USING (a)",
        "SELECT t.gone FROM t",
    ] {
        assert!(denied(&host, &[statement])?, "{statement}");
    }
    for statement in [
        "SELECT upper(b) FROM t",
        "SELECT pg_catalog.lower(b) FROM t",
        "SELECT a FROM t WHERE a > 1",
        "SELECT (x).a FROM t x",
        "SELECT ROW('x')::plain, '2'::int::text",
    ] {
        assert!(!denied(&host, &[statement])?, "{statement}");
    }
    let out = host.psql(&["SELECT lower(a) FROM t"])?;
    assert!(out.err.contains("it may call public.lower"), "{}", out.err);
    Ok(())
}

#[test]
fn p2_where_the_catalog_cannot_be_asked_names_may_be_any() -> Result<()> {
    let scene = Scene::default().target("credential = { user = \"one\" }").more(
        "[[rule]]\nname = \"no\"\nwhen = { relation = \"public.customers\" }\n\
         then = \"deny\"\nmessage = \"hands off\"",
    );
    let host = shop(&scene)?;
    host.postgres().sql(
        "CREATE ROLE one LOGIN; GRANT ALL ON SCHEMA app TO one; \
         ALTER ROLE one SET search_path = app; GRANT ALL ON app.customers TO one",
    )?;
    assert!(!denied(&host, &["SELECT * FROM customers"])?);
    // The session has the only connection, once the daemon's is closed; and what was known before counts
    // no more.
    let asks =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'chaperone (catalog)'";
    wait_until("the daemon's own connection is closed", || {
        host.postgres().sql(asks).is_ok_and(|count| count == "0")
    })?;
    host.postgres().sql("ALTER ROLE one CONNECTION LIMIT 1; GRANT CREATE ON SCHEMA app TO one")?;
    host.psql(&["CREATE TABLE x (id int)"])?.ok()?;
    assert!(denied(&host, &["SELECT * FROM customers"])?);
    let counters = host.chaperone(&["status", "--json"])?.ok()?;
    let counters: Value = serde_json::from_str(&counters)?;
    assert_ne!(counters["counters"]["catalog_failed"], 0, "{counters}");
    Ok(())
}
