//! `chaperone mask test`: it says what masks do to a statement, and the daemon does the same.

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene};
use serde_json::{Value, json};

const MASKS: &str = r#"
[[mask]]
name = "mail"
columns = ["public.customers.email"]
with = "partial"
last = 4

[[mask]]
name = "phone"
columns = ["public.customers.phone"]
with = "null"
guessing = "hold"
approvers = ["group:dba"]
equality = 0
"#;

fn host() -> Result<Host> {
    let host =
        Scene::default().target("credential = { user = \"postgres\" }").more(MASKS).start()?;
    host.postgres().sql(
        "CREATE TABLE customers (id int PRIMARY KEY, email text, phone text);
         INSERT INTO customers VALUES (1, 'zoe@secret.example', '111');
         CREATE VIEW people AS SELECT id, email AS address FROM customers",
    )?;
    Ok(host)
}

/// The exit code and what is said of a text.
fn test(host: &Host, text: &str) -> Result<(Option<i32>, Value)> {
    let mut args = vec!["mask", "test", "--agent", "cleaner", "--target", "prod"];
    args.extend(["--database", "postgres", "--json", text]);
    let out = host.chaperone(&args)?;
    let said = serde_json::from_str(&out.out).with_context(|| format!("{text}: {}", out.err))?;
    Ok((out.code, said))
}

fn columns(said: &Value) -> Vec<(Value, Value, Value, Value)> {
    let columns = said["statements"][0]["columns"].as_array().cloned().unwrap_or_default();
    let of =
        |c: &Value| (c["name"].clone(), c["shown"].clone(), c["mask"].clone(), c["from"].clone());
    columns.iter().map(of).collect()
}

#[test]
fn p5_it_says_what_becomes_of_each_column_and_why() -> Result<()> {
    let host = host()?;
    let mail = json!(["public.customers.email"]);
    for (text, expected) in [
        (
            "SELECT id, email AS e, phone FROM customers",
            vec![
                (json!("id"), json!("as it is"), Value::Null, json!([])),
                (json!("e"), json!("masked"), json!("mail"), mail.clone()),
                (json!("phone"), json!("NULL"), json!("phone"), json!(["public.customers.phone"])),
            ],
        ),
        (
            "SELECT address FROM people",
            vec![(json!("address"), json!("masked"), json!("mail"), mail.clone())],
        ),
        (
            "SELECT upper(email) AS u, count(*) OVER () AS n FROM customers",
            vec![
                (json!("u"), json!("NULL"), Value::Null, mail),
                (json!("n"), json!("as it is"), Value::Null, json!([])),
            ],
        ),
    ] {
        let (code, said) = test(&host, text)?;
        assert_eq!((code, &said["outcome"]), (Some(0), &json!("passes")), "{text}: {said}");
        assert_eq!(columns(&said), expected, "{text}");
        // The daemon does as it says.
        let shown = host.psql(&[text])?.ok()?;
        assert!(!shown.contains("zoe"), "{shown}");
    }
    let (_, said) = test(&host, "SELECT address FROM people")?;
    assert_eq!(said["views"], json!(["public.people"]));
    let (code, said) = test(&host, "SELECT 1 AS one")?;
    assert_eq!((code, &said["outcome"]), (Some(0), &json!("passes")));
    assert_eq!(said["masks"], json!(["mail", "phone"]));
    Ok(())
}

#[test]
fn p5_it_says_what_is_held_or_refused_as_the_daemon_does() -> Result<()> {
    let host = host()?;
    for (text, outcome, why) in [
        (
            "SELECT id FROM customers ORDER BY email",
            "refused",
            "(public.customers.email): mask mail",
        ),
        ("SELECT id FROM customers ORDER BY phone", "held", "(public.customers.phone): mask phone"),
        ("SELECT id FROM customers WHERE phone = '111'", "refused", "compares a masked column"),
        ("DO $$ BEGIN END $$", "refused", "code that nobody reads"),
        ("EXECUTE x", "refused", "code that nobody reads"),
        ("ALTER SCHEMA public RENAME TO other", "refused", "schema public keeps its name"),
    ] {
        let (code, said) = test(&host, text)?;
        assert_eq!((code, &said["outcome"]), (Some(3), &json!(outcome)), "{text}: {said}");
        let told = said["why"][0].as_str().unwrap_or_default();
        assert!(told.contains(why), "{text}: {said}");
        if outcome == "refused" {
            let out = host.psql(&[text])?;
            assert_ne!(out.code, Some(0), "{text}: the daemon refuses it, too");
        }
    }
    let (_, said) = test(&host, "SELECT id FROM customers ORDER BY phone")?;
    assert_eq!(said["approvers"], json!(["phone: 1 of group:dba"]));
    // A person reads it as well.
    let shown = host.chaperone(&[
        "mask",
        "test",
        "--agent",
        "cleaner",
        "--target",
        "prod",
        "SELECT email FROM customers",
    ])?;
    let shown = shown.ok()?;
    for part in ["it passes", "masked", "partial, last 4", "it is public.customers.email"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // Nothing of it was run, and nothing of it is in the log but what the agent sent.
    assert!(host.statements()?.iter().all(|text| !text.contains("SELECT email FROM")));
    Ok(())
}

#[test]
fn mistakes_are_told_in_a_sentence() -> Result<()> {
    let host = host()?;
    for (args, why) in [
        (["--agent", "x", "--target", "prod"], "no agent named \"x\""),
        (["--agent", "cleaner", "--target", "x"], "no target named \"x\""),
    ] {
        let mut all = vec!["mask", "test"];
        all.extend(args);
        all.push("SELECT 1");
        let out = host.chaperone(&all)?;
        assert_eq!(out.code, Some(1));
        assert!(out.err.contains(why), "{}", out.err);
    }
    let mut args = vec!["mask", "test", "--agent", "cleaner", "--target", "prod"];
    args.extend(["--server", "127.0.0.1:1", "SELECT email FROM customers"]);
    let out = host.chaperone(&args)?;
    assert!(out.err.contains("no address of target prod"), "{}", out.err);
    Ok(())
}
