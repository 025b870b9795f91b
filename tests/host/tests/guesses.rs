//! P5: a statement that tells something of a masked column waits for a person, where the mask says so.

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene};
use serde_json::Value;

use crate::holds::{ended, ids, past, waiting};

/// A scene whose mask has these further lines, and asks root about guesses.
fn guessed(lines: &str) -> Scene {
    Scene::default().target("credential = { user = \"postgres\" }").more(&format!(
        "[[mask]]\nname = \"mail\"\ncolumns = [\"public.customers.email\"]\nwith = \"null\"\n\
         guessing = \"hold\"\napprovers = [\"user:root\"]\n{lines}"
    ))
}

fn with_customers(scene: &Scene) -> Result<Host> {
    let host = scene.start()?;
    host.postgres().sql(
        "CREATE TABLE customers (id int PRIMARY KEY, email text, phone text);
         INSERT INTO customers VALUES (1, 'zoe@secret.example', '111'), (2, 'ada@secret.example', '222')",
    )?;
    Ok(host)
}

const VERBOSE: [&str; 4] = ["-X", "-At", "-v", "VERBOSITY=verbose"];

fn args<'a>(statements: &[&'a str]) -> Vec<&'a str> {
    let mut args = VERBOSE.to_vec();
    args.extend(statements.iter().flat_map(|statement| ["-c", statement]));
    args
}

#[test]
fn p5_a_guess_runs_once_a_person_approved_it_and_stays_masked() -> Result<()> {
    let host = with_customers(&guessed(""))?;
    let text = "SELECT id, email FROM customers ORDER BY email";
    let psql = host.start_agent("psql", &args(&[text, "SELECT 7"]))?;
    let id = ids(&host, 1)?.remove(0);
    let hold = waiting(&host)?.remove(0);
    let guess = "it puts rows in the order of a masked column (public.customers.email): mask mail";
    assert_eq!(hold["guesses"], serde_json::json!([guess]));
    assert_eq!((&hold["rule"], &hold["quorum"]), (&"mail".into(), &1.into()));
    assert!(host.chaperone(&["holds", &id])?.ok()?.contains(guess));
    host.chaperone(&["approve", &id])?.ok()?;
    let out = psql.finish()?;
    assert!(out.err.contains("waits") || out.err.contains("holds this statement"), "{}", out.err);
    assert!(out.err.contains(guess), "the agent is told, too: {}", out.err);
    assert_eq!(out.ok()?, "2|\n1|\n7", "in order, and masked");
    let commands = host.commands()?;
    let command = commands.iter().find(|c| c["statement"] == text).context("it")?;
    assert_eq!(
        (&command["verdict"], &command["rule"], &command["status"]),
        (&"hold".into(), &"mail".into(), &"ok".into())
    );
    assert_eq!(past(&host)?[0]["state"], "approved");
    Ok(())
}

#[test]
fn p5_a_guess_that_nobody_approves_does_not_run() -> Result<()> {
    let host = with_customers(&guessed(""))?;
    let text = "SELECT id FROM customers WHERE email LIKE 'ada%'";
    let psql = host.start_agent("psql", &args(&[text, "SELECT 7"]))?;
    let id = ids(&host, 1)?.remove(0);
    host.chaperone(&["deny", &id, "--reason", "no need"])?.ok()?;
    let out = psql.finish()?;
    assert!(out.err.contains("42501: root denied this statement: no need"), "{}", out.err);
    assert_eq!(out.out.trim(), "7");
    let commands = host.commands()?;
    let command =
        commands.iter().find(|c| c["id"] == id.parse::<u64>().unwrap_or(0)).context("it")?;
    assert_eq!(command["statement"], "SELECT id FROM customers WHERE email LIKE $1");

    let host = with_customers(&guessed("deadline = \"1s\""))?;
    let out = host.agent("psql", &args(&[text, "SELECT 7"]))?;
    assert!(out.err.contains("YH002: nobody approved this statement in time"), "{}", out.err);
    assert_eq!(out.out.trim(), "7");
    assert_eq!(ended(&host)?.0, "expired");
    Ok(())
}

#[test]
fn p5_an_approved_guess_is_for_its_values_though_they_are_not_recorded() -> Result<()> {
    let lines = "wait = \"retry\"\nbind = \"version\"";
    let host = with_customers(&guessed(lines).version("\"1.4.2\""))?;
    let run = |pattern: &str| {
        let text = format!("SELECT id FROM customers WHERE email LIKE '{pattern}'");
        host.agent("psql", &args(&[&text]))
    };
    assert!(run("a%")?.err.contains("YH001"));
    let id = ids(&host, 1)?.remove(0);
    host.chaperone(&["approve", &id])?.ok()?;
    assert!(run("z%")?.err.contains("YH001"), "another guess is asked about anew");
    assert_eq!(run("a%")?.ok()?, "2");
    assert!(run("a%")?.err.contains("YH001"), "it is used up");
    Ok(())
}

#[test]
fn p5_a_prepared_guess_waits_with_its_parameters() -> Result<()> {
    let host = with_customers(&guessed("deadline = \"20s\""))?;
    let program = r#"
import psycopg
c = psycopg.connect("", autocommit=True)
for pattern in ("ada%", "zoe%"):
    try:
        print(c.execute("SELECT id, email FROM customers WHERE email LIKE %s", (pattern,), prepare=True).fetchall(), flush=True)
    except psycopg.Error as e:
        print(e.sqlstate, flush=True)
"#;
    let mut agent = host.start_agent("/usr/bin/python3", &["-c", program])?;
    let first = ids(&host, 1)?.remove(0);
    host.chaperone(&["approve", &first])?.ok()?;
    assert_eq!(agent.hear()?, "[(2, None)]");
    let second = ids(&host, 1)?.remove(0);
    assert_ne!(first, second);
    host.chaperone(&["deny", &second])?.ok()?;
    assert_eq!(agent.hear()?, "42501");
    Ok(())
}

/// What SQL prepares is asked about whenever it runs; a cursor, when it is declared.
#[test]
fn p5_names_of_sql_are_no_way_round_a_person() -> Result<()> {
    let host = with_customers(&guessed("deadline = \"1s\""))?;
    let prepared = [
        "PREPARE g AS SELECT id FROM customers WHERE email LIKE $1",
        "EXECUTE g('a%')",
        "EXPLAIN ANALYZE EXECUTE g('a%')",
        "SELECT 7",
    ];
    let out = host.agent("psql", &args(&prepared))?;
    assert_eq!(out.out.trim(), "PREPARE\n7", "{}", out.err);
    assert!(out.err.contains("YH002"), "{}", out.err);

    let cursor = [
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT id, email FROM customers ORDER BY email",
        "FETCH c",
        "FETCH c",
    ];
    let psql = {
        // Time enough for a person.
        let host = with_customers(&guessed(""))?;
        let psql = host.start_agent("psql", &args(&cursor))?;
        let id = ids(&host, 1)?.remove(0);
        host.chaperone(&["approve", &id])?.ok()?;
        let out = psql.finish()?;
        assert_eq!(past(&host)?.len(), 1, "nobody is asked again: {}", out.err);
        out
    };
    assert_eq!(psql.ok()?, "BEGIN\nDECLARE CURSOR\n2|\n1|");
    Ok(())
}

#[test]
fn p5_whom_a_rule_and_a_mask_ask_must_all_be_for_it() -> Result<()> {
    let host = with_customers(&guessed("").more(
        "[[rule]]\nname = \"ask\"\nwhen = { relation = \"public.customers\" }\nthen = \"hold\"\n\
         approvers = [\"user:bin\"]",
    ))?;
    let psql = host.start_agent("psql", &args(&["SELECT id FROM customers ORDER BY email"]))?;
    let id = ids(&host, 1)?.remove(0);
    let hold = waiting(&host)?.remove(0);
    assert_eq!((&hold["rule"], &hold["quorum"]), (&"ask; mail".into(), &2.into()));
    assert!(host.chaperone(&["approve", &id])?.ok()?.contains("waits for 1 more"));
    host.chaperone(&["deny", &id])?.ok()?;
    assert!(psql.finish()?.err.contains("denied this statement"));
    Ok(())
}

#[test]
fn p5_what_is_unclear_or_refused_by_another_mask_is_refused_without_asking() -> Result<()> {
    let other =
        "[[mask]]\nname = \"phone\"\ncolumns = [\"public.customers.phone\"]\nwith = \"null\"";
    let host = with_customers(&guessed("").more(other))?;
    for text in [
        "DO $$ BEGIN PERFORM email FROM customers ORDER BY email; END $$",
        "SELECT id FROM customers ORDER BY email, phone",
        "SELECT id FROM customers WHERE email LIKE 'a%'; SELECT id FROM customers ORDER BY phone",
        "COPY (SELECT email FROM customers) TO '/tmp/x'",
    ] {
        let out = host.agent("psql", &args(&[text]))?;
        assert!(out.err.contains("42501"), "{text}: {}", out.err);
    }
    assert!(past(&host)?.is_empty());
    // On a target that is only observed guesses wait all the same.
    let observed = guessed("deadline = \"1s\"").target("mode = \"observe\"");
    let host = with_customers(&observed)?;
    let out = host.agent("psql", &args(&["SELECT id FROM customers ORDER BY email"]))?;
    assert!(out.err.contains("YH002"), "{}", out.err);
    let _: Vec<Value> = past(&host)?;
    Ok(())
}
