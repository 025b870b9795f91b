//! P5: a mask is lifted by people who may, for one run, until a time; and the log stays masked.

use std::fs;

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Running, Scene, wait_until};
use serde_json::Value;

const SECRET: &str = "zoe@unmistakable.example";

/// A mask that root may lift, with these further lines.
fn lifted(unmask: &str) -> Scene {
    Scene::default().target("credential = { user = \"postgres\" }").more(&format!(
        "[[mask]]\nname = \"mail\"\ncolumns = [\"public.customers.email\"]\nwith = \"constant\"\n\
         text = \"hidden\"\n{unmask}"
    ))
}

const ROOT: &str = "unmask = { approvers = [\"user:root\"], lasts = \"1h\" }";

fn with_customers(scene: &Scene) -> Result<Host> {
    let host = scene.start()?;
    host.postgres().sql(&format!(
        "CREATE TABLE customers (id int PRIMARY KEY, email text, phone text);
         INSERT INTO customers VALUES (1, '{SECRET}', '111');
         CREATE VIEW people AS SELECT id, email AS address FROM customers"
    ))?;
    Ok(host)
}

/// An agent that runs what it is told on one connection; what begins with `P` as a prepared statement.
const TOLD: &str = r#"
import psycopg, sys
c = psycopg.connect("", autocommit=True)
print("ready", flush=True)
for line in sys.stdin:
    line = line.strip()
    try:
        prepare = line.startswith("P ")
        rows = c.execute(line[2:] if prepare else line, prepare=prepare or False).fetchall()
        print("; ".join(", ".join(str(v) for v in row) for row in rows), flush=True)
    except psycopg.Error as e:
        print(e.sqlstate, flush=True)
"#;

fn agent(host: &Host) -> Result<Running> {
    let mut agent = host.start_agent("/usr/bin/python3", &["-c", TOLD])?;
    assert_eq!(agent.hear()?, "ready");
    Ok(agent)
}

fn tell(agent: &mut Running, statement: &str) -> Result<String> {
    agent.say(statement)?;
    agent.hear()
}

const ASK: [&str; 9] =
    ["unmask", "--mask", "mail", "--agent", "cleaner", "--reason", "ticket 7", "--for", "30m"];

fn unmask(host: &Host, more: &[&str]) -> Result<String> {
    let mut args = ASK.to_vec();
    args.extend(more);
    args.push("--json");
    let out = host.chaperone(&args)?.ok()?;
    let said: Value = serde_json::from_str(&out)?;
    assert!(said["done"].as_str().is_some_and(|done| done.contains("is lifted")), "{said}");
    Ok(said["id"].to_string())
}

fn past(host: &Host) -> Result<Vec<Value>> {
    let out = host.chaperone(&["unmask", "list", "--all", "--json"])?.ok()?;
    out.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The only exception, once it is in this state.
fn comes_to(host: &Host, state: &str) -> Result<Value> {
    let mut last = Value::Null;
    wait_until("the exception to come to it", || {
        last = past(host).ok().and_then(|mut rows| rows.pop()).unwrap_or_default();
        last["state"] == state
    })
    .with_context(|| format!("{state}: {last}"))?;
    Ok(last)
}

#[test]
fn p5_a_lifted_mask_shows_to_its_run_and_the_log_stays_masked() -> Result<()> {
    let host = with_customers(&lifted(ROOT))?;
    let mut one = agent(&host)?;
    let plain = "SELECT email FROM customers";
    let prepared = "P SELECT id, email FROM customers";
    assert_eq!(tell(&mut one, plain)?, "hidden");
    assert_eq!(tell(&mut one, prepared)?, "1, hidden");
    assert_eq!(tell(&mut one, "SELECT id FROM customers ORDER BY email")?, "42501");
    let id = unmask(&host, &[])?;
    assert_eq!(tell(&mut one, plain)?, SECRET);
    assert_eq!(tell(&mut one, prepared)?, format!("1, {SECRET}"), "prepared before");
    assert_eq!(tell(&mut one, "SELECT upper(email) FROM customers")?, SECRET.to_uppercase());
    assert_eq!(tell(&mut one, "SELECT address FROM people")?, SECRET);
    assert_eq!(tell(&mut one, "SELECT id FROM customers ORDER BY email")?, "1", "a guess");
    assert_eq!(tell(&mut one, "SELECT id FROM customers")?, "1");
    let newly = "P SELECT phone, email FROM customers";
    assert_eq!(tell(&mut one, newly)?, format!("111, {SECRET}"));
    // Another run of the same agent.
    assert_eq!(host.psql(&[plain])?.ok()?, "hidden");
    let listed = host.chaperone(&["unmask", "list"])?.ok()?;
    assert!(listed.contains("lifted") && listed.contains("ticket 7"), "{listed}");
    let done = host.chaperone(&["unmask", "revoke", &id, "--reason", "enough"])?.ok()?;
    assert!(done.contains("counts from the next command on"), "{done}");
    assert_eq!(tell(&mut one, plain)?, "hidden");
    assert_eq!(tell(&mut one, prepared)?, "1, hidden");
    assert_eq!(tell(&mut one, newly)?, "111, hidden", "prepared while it was lifted");
    assert_eq!(tell(&mut one, "SELECT id FROM customers ORDER BY email")?, "42501");

    let commands = host.commands()?;
    let by = Value::from(format!("{{\"mail\":{id}}}"));
    let unmasked: Vec<_> = commands.iter().filter(|c| !c["unmasked"].is_null()).collect();
    assert!(unmasked.iter().all(|command| command["unmasked"] == by), "{unmasked:?}");
    assert_eq!(unmasked.len(), 6, "those that showed or used it: {unmasked:?}");
    for command in &commands {
        let whole = host.command(&command["id"])?.to_string();
        assert!(!whole.to_lowercase().contains(SECRET), "{whole}");
    }
    for file in host.log_files()? {
        let bytes = fs::read(&file).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        assert!(!text.contains(SECRET), "{}", file.display());
    }
    let row = comes_to(&host, "revoked")?;
    assert_eq!((&row["uses"], &row["ended_by"]), (&6.into(), &"root".into()));
    assert_eq!((&row["reason"], &row["detail"]), (&"ticket 7".into(), &"enough".into()));
    host.chaperone(&["log", "verify"])?.ok()?;
    Ok(())
}

#[test]
fn p5_an_exception_ends_at_its_time_with_its_run_and_at_a_restart() -> Result<()> {
    let mut host = with_customers(&lifted(ROOT))?;
    let plain = "SELECT email FROM customers";
    let mut one = agent(&host)?;
    let asked = "unmask --mask mail --agent cleaner --reason short --for 2s";
    host.chaperone(&asked.split(' ').collect::<Vec<_>>())?.ok()?;
    assert_eq!(tell(&mut one, plain)?, SECRET);
    let row = comes_to(&host, "expired")?;
    assert_eq!(row["detail"], "its time is over");
    assert_eq!(tell(&mut one, plain)?, "hidden");

    unmask(&host, &[])?;
    one.finish()?;
    assert_eq!(comes_to(&host, "ended")?["detail"], "the run is over");

    let mut one = agent(&host)?;
    unmask(&host, &["--target", "prod"])?;
    assert_eq!(tell(&mut one, plain)?, SECRET);
    host.kill_daemon()?;
    host.start_daemon()?;
    let row = comes_to(&host, "ended")?;
    assert_eq!(row["detail"], "the daemon was restarted");
    assert_eq!(row["target"], "prod");
    assert!(host.chaperone(&["unmask", "list"])?.ok()?.contains("no mask is lifted"));
    assert_eq!(host.psql(&[plain])?.ok()?, "hidden");
    host.chaperone(&["log", "verify"])?.ok()?;
    Ok(())
}

#[test]
fn p5_only_those_whom_the_mask_names_lift_it_and_never_its_agent() -> Result<()> {
    let two = "unmask = { approvers = [\"user:root\", \"user:daemon\"], quorum = 2 }";
    let host = with_customers(&lifted(two))?;
    let socket = host.folder().join("run/control.sock");
    let socket = socket.to_str().context("UTF-8")?.to_owned();
    let binary = std::env::var("CHAPERONE_BIN").unwrap_or_else(|_| "chaperone".into());
    // Where every account can run it.
    let program = host.folder().join("chaperone");
    fs::copy(&binary, &program)?;
    let program = program.to_str().context("UTF-8")?.to_owned();
    let mut one = agent(&host)?;
    let plain = "SELECT email FROM customers";
    let call = |uid: u32, args: &[&str]| {
        let uid = uid.to_string();
        let mut all = vec!["--reuid", &uid, "--clear-groups", &program, "--socket", &socket];
        all.extend(args);
        host.outside("setpriv", &all)
    };
    let mut own = vec!["--socket", socket.as_str()];
    own.extend(ASK);
    let out = host.agent(&program, &own)?;
    assert!(out.err.contains("agents never"), "{}", out.err);
    assert!(call(host.uid(), &ASK)?.err.contains("agents never"));
    assert!(call(2, &ASK)?.err.contains("may not ask the daemon"));
    // Root asks, and that is its word.
    let out = call(0, &ASK)?.ok()?;
    let id = out.split(' ').next().context("an id")?.to_owned();
    assert!(out.contains("waits for 1 more"), "{out}");
    assert_eq!(tell(&mut one, plain)?, "hidden");
    assert!(call(0, &["approve", &id])?.err.contains("different people"));
    assert!(call(2, &["approve", &id])?.err.contains("may not ask the daemon"));
    assert_eq!(tell(&mut one, plain)?, "hidden");
    assert!(host.chaperone(&["holds"])?.ok()?.contains("chaperone unmask list"));
    assert!(call(1, &["approve", &id, "--reason", "seen"])?.ok()?.contains("is lifted"));
    assert_eq!(tell(&mut one, plain)?, SECRET);
    let row = comes_to(&host, "granted")?;
    let words: Value = serde_json::from_str(row["words"].as_str().context("words")?)?;
    assert_eq!((&words[0]["person"], &words[1]["person"]), (&"root".into(), &"daemon".into()));
    assert_eq!(words[1]["reason"], "seen");
    call(1, &["unmask", "revoke", &id])?.ok()?;
    // One who is against it ends it.
    let out = call(1, &ASK)?.ok()?;
    let id = out.split(' ').next().context("an id")?.to_owned();
    host.chaperone(&["deny", &id, "--reason", "not now"])?.ok()?;
    assert!(call(0, &["approve", &id])?.err.contains("nothing"), "it is over");
    assert_eq!(comes_to(&host, "denied")?["detail"], "not now");
    assert_eq!(tell(&mut one, plain)?, "hidden");
    Ok(())
}

#[test]
fn p5_what_cannot_be_lifted_is_told() -> Result<()> {
    let host = with_customers(
        &lifted(ROOT)
            .more("[[mask]]\nname = \"all\"\ncolumns = [\"public.customers.*\"]\nwith = \"null\""),
    )?;
    let none = host.chaperone(&ASK)?;
    assert!(none.err.contains("agent cleaner has no session now"), "{}", none.err);
    let mut one = agent(&host)?;
    let with = |mask: &str, agent: &str, lasts: &str, more: &[&str]| {
        let mut args = vec!["unmask", "--mask", mask, "--agent", agent, "--for", lasts];
        args.extend(["--reason", "x"]);
        args.extend(more);
        host.chaperone(&args)
    };
    for (mask, agent, lasts, more, why) in [
        ("none", "cleaner", "1m", &[][..], "no mask named"),
        ("all", "cleaner", "1m", &[], "says of nobody that they may lift it"),
        ("mail", "other", "1m", &[], "no agent named"),
        ("mail", "cleaner", "2h", &[], "at most 1h"),
        ("mail", "cleaner", "soon", &[], "is no time such as"),
        ("mail", "cleaner", "1m", &["--run", "1.1-nowhere"], "has no session now"),
        ("mail", "cleaner", "1m", &["--target", "other"], "no target named"),
    ] {
        let out = with(mask, agent, lasts, more)?;
        assert!(out.err.contains(why), "{mask} {agent} {lasts} {more:?}: {}", out.err);
    }
    let other = agent(&host)?;
    let several = host.chaperone(&ASK)?;
    assert!(several.err.contains("has several runs"), "{}", several.err);
    drop(other);
    wait_until("one run to be left", || host.chaperone(&ASK).is_ok_and(|out| out.code == Some(0)))?;
    // The other mask of the column is not lifted.
    assert_eq!(tell(&mut one, "SELECT email FROM customers")?, "hidden");
    assert_eq!(tell(&mut one, "SELECT id FROM customers ORDER BY email")?, "42501");
    let commands = host.commands()?;
    assert!(commands.iter().all(|command| command["unmasked"].is_null()), "{commands:?}");
    Ok(())
}
