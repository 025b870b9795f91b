//! P4: clients that were told nothing work, and what they do is in the log.

use std::fs;

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene};

#[test]
fn p1_p4_an_agents_psql_is_recorded() -> Result<()> {
    let host = Host::start()?;
    let out = host.psql(&["SELECT 1 AS one, 'two' AS two", "SELECT 3"])?.ok()?;
    assert_eq!(out, "1|two\n3");
    assert_eq!(host.statements()?, ["SELECT 1 AS one, 'two' AS two", "SELECT 3"]);

    let rows = host.commands()?;
    let first = &rows[0];
    for (field, value) in [
        ("agent", "cleaner"),
        ("target", "prod"),
        ("user", "postgres"),
        ("database", "postgres"),
        ("kind", "query"),
        ("verdict", "allow"),
        ("status", "ok"),
        ("tag", "SELECT 1"),
        ("transaction_state", "idle"),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    assert_eq!(first["uid"], host.uid());
    let program = first["executable"].as_str().context("no program")?;
    assert!(program.ends_with("/psql") || program.contains("perl"), "{program}");
    let shown = host.command(&first["id"])?;
    let part = &shown["parts"][0];
    assert_eq!(part["columns"], r#"["one","two"]"#);
    assert_eq!(part["response"], r#"[["1","two"]]"#);
    assert_eq!(part["truncated"], false);
    Ok(())
}

#[test]
fn p4_pgbench_works_in_every_mode_and_every_execution_is_recorded() -> Result<()> {
    let host = Scene::default()
        .server("shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.track = 'top'")
        .start()?;
    host.agent("pgbench", &["-i", "-q", "-s", "1"])?.ok()?;
    host.postgres().sql("CREATE EXTENSION pg_stat_statements")?;
    for mode in ["simple", "extended", "prepared"] {
        host.postgres().sql("SELECT pg_stat_statements_reset()")?;
        let before = selects(&host)?;
        host.agent("pgbench", &["-n", "-S", "-M", mode, "-c", "4", "-j", "2", "-t", "100"])?
            .ok()?;
        // The ordinary script writes, and does so inside transactions.
        host.agent("pgbench", &["-n", "-M", mode, "-c", "2", "-t", "20"])?.ok()?;
        let server = host.postgres().sql(
            "SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE 'SELECT abalance FROM%'",
        )?;
        assert_eq!(server, "440", "{mode}");
        assert_eq!(selects(&host)? - before, 440, "{mode}");
    }
    Ok(())
}

fn selects(host: &Host) -> Result<usize> {
    let ran = |row: &&serde_json::Value| {
        row["status"] == "ok"
            && row["statement"].as_str().is_some_and(|s| s.starts_with("SELECT abalance FROM"))
    };
    Ok(host.commands()?.iter().filter(ran).count())
}

const PSYCOPG: &str = r#"
import psycopg
with psycopg.connect("") as c:
    cur = c.cursor()
    cur.execute("CREATE TABLE t (a int, b text, c numeric, d timestamptz)")
    for n in range(7):
        cur.execute("INSERT INTO t VALUES (%s, %s, %s, '2024-02-29 12:00+00')", (n, f"row {n}", 12.5))
    c.commit()
    cur.execute("SELECT a, b FROM t WHERE a = %s", (3,), prepare=True)
    assert cur.fetchone() == (3, "row 3")
    cur.execute("SELECT a, b FROM t WHERE a = %s", (4,), prepare=True)
    assert cur.fetchone() == (4, "row 4")
    with c.cursor(binary=True) as b:
        b.execute("SELECT a, c, d, true FROM t ORDER BY a")
        assert len(b.fetchall()) == 7
    with cur.copy("COPY t (a, b) FROM STDIN") as copy:
        copy.write_row((100, "copied"))
    with cur.copy("COPY (SELECT a, b FROM t WHERE a = 100) TO STDOUT") as copy:
        assert [bytes(x) for x in copy] == [b"100\tcopied\n"]
    c.commit()
    try:
        cur.execute("SELECT nothing FROM t")
        raise SystemExit("it should have failed")
    except psycopg.errors.UndefinedColumn:
        c.rollback()
    with c.pipeline():
        cur.execute("SELECT 10")
        cur.execute("SELECT 11")
    assert cur.fetchone() == (10,)
print("done")
"#;

#[test]
fn p4_psycopg_works() -> Result<()> {
    let host = Host::start()?;
    assert_eq!(host.python(PSYCOPG)?.ok()?, "done");
    let rows = host.commands()?;
    let find = |text: &str| {
        rows.iter()
            .find(|row| row["statement"].as_str().is_some_and(|s| s.starts_with(text)))
            .with_context(|| format!("{text} is not in the log"))
    };
    assert_eq!(find("CREATE TABLE")?["status"], "ok");
    let inserts = |row: &&serde_json::Value| {
        row["statement"].as_str().is_some_and(|s| s.starts_with("INSERT")) && row["status"] == "ok"
    };
    assert_eq!(rows.iter().filter(inserts).count(), 7, "also once it is prepared");
    assert_eq!(
        rows.iter().find(inserts).context("an insert")?["parameters"],
        r#"["0","row 0","12.5"]"#
    );
    assert_eq!(find("SELECT nothing")?["error_code"], "42703");
    assert_eq!(find("COPY t (a, b) FROM")?["tag"], "COPY 1");
    let out = host.command(&find("COPY (SELECT")?["id"])?;
    assert_eq!(out["parts"][0]["response"], r#"["100\tcopied\n"]"#);
    let binary = host.command(&find("SELECT a, c, d, true")?["id"])?;
    let response = binary["parts"][0]["response"].as_str().context("rows")?;
    assert!(response.starts_with(r#"[["0","12.5","2024-02-29 12:00:00+00","t"]"#), "{response}");
    assert_eq!(find("SELECT 11")?["status"], "ok");
    Ok(())
}

const ASYNCPG: &str = r#"
import asyncio, asyncpg
async def main():
    c = await asyncpg.connect(timeout=20)
    await c.execute("CREATE TABLE t (a int, b text)")
    await c.executemany("INSERT INTO t VALUES ($1, $2)", [(n, str(n)) for n in range(5)])
    assert await c.fetchval("SELECT count(*) FROM t WHERE a >= $1", 2) == 3
    async with c.transaction():
        got = [r["a"] async for r in c.cursor("SELECT a FROM t ORDER BY a", prefetch=2)]
        assert got == [0, 1, 2, 3, 4], got
    try:
        async with c.transaction():
            await c.execute("INSERT INTO t VALUES (9, 'gone')")
            await c.fetch("SELECT 1/0")
    except asyncpg.DivisionByZeroError:
        pass
    assert await c.fetchval("SELECT count(*) FROM t") == 5
    await c.copy_records_to_table("t", records=[(7, "x"), (8, "y")])
    got = []
    async def sink(data): got.append(data)
    await c.copy_from_query("SELECT a FROM t WHERE a > 6 ORDER BY a", output=sink)
    assert b"".join(got) == b"7\n8\n", got
    heard = asyncio.get_running_loop().create_future()
    await c.add_listener("news", lambda *a: heard.done() or heard.set_result(a[3]))
    await c.execute("NOTIFY news, 'hello'")
    assert await asyncio.wait_for(heard, 10) == "hello"
    try:
        await c.fetch("SELECT pg_sleep(30)", timeout=0.5)
        raise SystemExit("the cancel did not work")
    except asyncio.TimeoutError:
        pass
    assert await c.fetchval("SELECT 42") == 42
    await c.close()
    print("done")
asyncio.run(main())
"#;

#[test]
fn p4_asyncpg_works() -> Result<()> {
    let host = Host::start()?;
    assert_eq!(host.python(ASYNCPG)?.ok()?, "done");
    let rows = host.commands()?;
    let of = |text: &str| -> Vec<_> {
        rows.iter()
            .filter(|r| r["statement"].as_str().is_some_and(|s| s.starts_with(text)))
            .collect()
    };
    let inserts = of("INSERT INTO t VALUES ($1, $2)");
    assert_eq!(inserts.len(), 5);
    assert_eq!(inserts[3]["parameters"], r#"["3","3"]"#, "binary parameters are read");
    let cursor = of("SELECT a FROM t ORDER BY a");
    assert_eq!(cursor[0]["kind"], "execute");
    assert_eq!(cursor[0]["status"], "suspended");
    assert!(cursor[1..].iter().all(|r| r["kind"] == "fetch"), "{cursor:?}");
    let slept = of("SELECT pg_sleep(30)");
    assert_eq!(slept[0]["error_code"], "57014");
    let cancels: Vec<_> = rows.iter().filter(|r| r["kind"] == "cancel").collect();
    assert_eq!(cancels.len(), 1);
    assert_eq!(cancels[0]["status"], "ok");
    Ok(())
}

const JDBC: &str = r#"
import java.sql.*;
public class Agent {
    public static void main(String[] args) throws Exception {
        try (Connection c = DriverManager.getConnection("jdbc:postgresql://" + args[0] + "/postgres?sslmode=prefer", "postgres", "")) {
            try (Statement s = c.createStatement()) { s.execute("CREATE TABLE t (a int, b text)"); }
            try (PreparedStatement p = c.prepareStatement("INSERT INTO t VALUES (?, ?)")) {
                for (int i = 0; i < 20; i++) { p.setInt(1, i); p.setString(2, "row " + i); p.addBatch(); }
                p.executeBatch();
            }
            c.setAutoCommit(false);
            try (PreparedStatement p = c.prepareStatement("SELECT a, b FROM t WHERE a >= ? ORDER BY a")) {
                p.setFetchSize(5);
                for (int round = 0; round < 8; round++) {
                    p.setInt(1, 3);
                    int n = 0;
                    try (ResultSet r = p.executeQuery()) { while (r.next()) n++; }
                    if (n != 17) throw new Exception("rows: " + n);
                }
            }
            try (Statement s = c.createStatement()) { s.execute("SELECT 1/0"); throw new Exception("no error"); }
            catch (SQLException e) { if (!"22012".equals(e.getSQLState())) throw e; }
            c.rollback();
            try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT 5")) { r.next(); System.out.println("done " + r.getInt(1)); }
            c.commit();
        }
    }
}
"#;

#[test]
fn p4_jdbc_works() -> Result<()> {
    let host = Host::start()?;
    let source = host.folder().join("Agent.java");
    fs::write(&source, JDBC)?;
    let address = host.address().to_string();
    let args = [
        "-cp",
        "/usr/share/java/postgresql.jar",
        &source.display().to_string(),
        &format!("{address}:5432"),
    ];
    assert_eq!(host.agent("java", &args)?.ok()?, "done 5");
    let rows = host.commands()?;
    let count = |text: &str| {
        rows.iter().filter(|r| r["statement"].as_str().is_some_and(|s| s.starts_with(text))).count()
    };
    assert_eq!(count("INSERT INTO t VALUES ($1, $2)"), 20);
    assert!(count("SELECT a, b FROM t WHERE a >= $1") >= 8 * 3, "fetches are there, too");
    assert!(rows.iter().any(|r| r["error_code"] == "22012"));
    assert!(rows.iter().all(|r| !r["statement"].is_null()), "every text is known");
    Ok(())
}
