//! psql 15, and what it does with large objects.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Release, Scene, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Recorded, encrypted, verified};

const SCRIPT: &str = r"
\set VERBOSITY sqlstate
CREATE TABLE orders (id int, name text);
PREPARE add AS INSERT INTO orders VALUES ($1, $2);
EXECUTE add(0, 'row 0');
EXECUTE add(1, 'row 1');
EXECUTE add(2, 'row 2');
BEGIN;
INSERT INTO orders VALUES (100, 'gone');
SELECT 1/0;
ROLLBACK;
SELECT count(*) FROM orders;
COPY orders FROM STDIN;
7	copied
8	copied
\.
COPY (SELECT id FROM orders WHERE id > 6 ORDER BY id) TO STDOUT;
SELECT name FROM orders WHERE id = $1 \gdesc
\set FETCH_COUNT 2
SELECT id FROM orders ORDER BY id;
LISTEN news;
NOTIFY news, 'hello';
SELECT 42;
";

#[test]
fn p4_psql_works() -> Result<()> {
    works(&Host::start()?)
}

#[test]
fn p4_psql_works_with_postgresql_18() -> Result<()> {
    works(&Scene::default().release(Release::Eighteen).start()?)
}

fn works(host: &Host) -> Result<()> {
    let script = host.folder().join("script.sql");
    fs::write(&script, SCRIPT)?;
    let args = ["-X", "-q", "-At", "-f", &script.display().to_string()];
    let out = verified(host, "psql", &args)?;
    assert!(out.err.contains("22012"), "{out:?}");
    let said = out.ok()?;
    // \gdesc asks for a description by the extended protocol.
    assert!(said.starts_with("3\n7\n8\nname|text\n"), "{said}");
    assert!(said.contains("\n0\n1\n2\n7\n8\n") && said.ends_with("42"), "by a cursor: {said}");
    assert!(said.contains("\"news\" with payload \"hello\""), "{said}");

    let recorded = Recorded::of(host)?;
    let all = recorded.text();
    for n in 0..3 {
        assert_eq!(recorded.ran(&format!("EXECUTE add({n}, 'row {n}');")).len(), 1, "{all}");
    }
    assert_eq!(recorded.failed("SELECT 1/0;"), ["22012"], "{all}");
    assert_eq!(recorded.starting("ROLLBACK")?["status"], "ok", "{all}");
    assert_eq!(recorded.starting("COPY ORDERS")?["tag"], "COPY 2", "{all}");
    assert_eq!(recorded.starting("COPY (SELECT ID")?["tag"], "COPY 2", "{all}");
    encrypted(host)
}

#[test]
fn p4_ctrl_c_in_psql_cancels_over_tls() -> Result<()> {
    let host = Host::start()?;
    let root = format!("PGSSLROOTCERT={}", host.authority().display());
    let psql = ["psql", "-X", "-At", "-c", "SELECT pg_sleep(60)", "-c", "SELECT 42"];
    let args = [&["PGSSLMODE=verify-full", root.as_str()], &psql[..]].concat();
    let running = host.start_agent("env", &args)?;
    wait_until("it sleeps", || host.counter("forwarded").is_ok_and(|n| n >= 1))?;
    thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(i32::try_from(running.id())?), Signal::SIGINT)?;
    let out = running.finish()?;
    assert!(out.err.contains("canceling statement due to user request"), "{}", out.err);
    let recorded = Recorded::of(&host)?;
    recorded.cancelled(true);
    assert_eq!(recorded.failed("SELECT pg_sleep(60)"), ["57014"]);
    encrypted(&host)
}

#[test]
fn p4_psqls_large_objects_pass_and_are_recorded() -> Result<()> {
    let host = Host::start()?;
    let (file, copy) = (host.folder().join("large"), host.folder().join("agents"));
    let data: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&file, &data)?;
    fs::create_dir(&copy)?;
    std::os::unix::fs::chown(&copy, Some(host.uid()), Some(host.uid()))?;
    let copy = copy.join("copy");
    let script = format!(
        "\\lo_import {} 'a large one'\n\\lo_export :LASTOID {}\n\\lo_unlink :LASTOID\nSELECT 42;\n",
        file.display(),
        copy.display()
    );
    let script_file = host.folder().join("script.sql");
    fs::write(&script_file, script)?;
    let args = ["-X", "-q", "-At", "-f", &script_file.display().to_string()];
    let said = verified(&host, "psql", &args)?.ok()?;
    assert!(said.ends_with("42"), "{said}");
    assert!(fs::read(&copy)? == data, "what came back is another");
    let recorded = Recorded::of(&host)?;
    let of = |name: &str| {
        let call = format!("SELECT pg_catalog.{name}(");
        let is = |row: &&serde_json::Value| {
            row["statement"].as_str().is_some_and(|text| text.starts_with(&call))
        };
        let rows: Vec<_> = recorded.0.iter().filter(is).collect();
        assert!(rows.iter().all(|row| row["kind"] == "call" && row["status"] == "ok"), "{rows:?}");
        rows.len()
    };
    assert_eq!(of("lo_creat"), 1, "{}", recorded.text());
    assert!(of("lowrite") > 10, "libpq writes in pieces");
    assert!(of("loread") > 10, "libpq reads in pieces");
    assert_eq!(of("lo_unlink"), 1);
    recorded.ran("SELECT 42;").first().context("it goes on")?;
    Ok(())
}
