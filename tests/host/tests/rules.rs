//! P1, P2: rules decide each statement, whatever it comes as, and say why.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc::sync_channel,
    time::Duration,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};
use serde_json::Value;

use crate::{
    holds::{held, rows, waiting, with_rows},
    protocol::raw,
};

const DENY: &str = "[[rule]]\nname = \"no\"\nwhen = { class = \"destructive\" }\nthen = \"deny\"\nmessage = \"ask first\"\n";

fn denying() -> Scene {
    Scene::default().more(DENY)
}

#[test]
fn p2_a_denial_says_what_and_why_and_what_to_do() -> Result<()> {
    let host = with_rows(&denying())?;
    let out = host.agent(
        "psql",
        &["-X", "-At", "-v", "VERBOSITY=verbose", "-c", "DELETE FROM t", "-c", "SELECT 7"],
    )?;
    for part in [
        "42501: chaperone does not allow this statement: ask first",
        "Rule: no. DELETE is destructive: it deletes rows without saying which.",
        "HINT:",
    ] {
        assert!(out.err.contains(part), "{part}: {}", out.err);
    }
    assert_eq!(out.out.trim(), "7");
    let command = host.commands()?.remove(0);
    assert_eq!(
        (&command["verdict"], &command["class"], &command["rule"], &command["status"]),
        (&"deny".into(), &"destructive".into(), &"no".into(), &"refused".into())
    );
    let summary: Value = serde_json::from_str(command["summary"].as_str().context("summary")?)?;
    assert_eq!(summary["statements"][0]["writes"][0], "t", "{summary}");
    assert_eq!(command["policy"].as_str().map(str::len), Some(64));
    Ok(())
}

/// A text is decided as a whole, and so is what runs by name.
#[test]
fn p1_nothing_of_a_text_is_sent_where_a_part_of_it_is_denied() -> Result<()> {
    let host = with_rows(&denying())?;
    for text in [
        "INSERT INTO t VALUES (4); DELETE FROM t",
        "SELECT 1; INSERT INTO t VALUES (4); SELECT 2; TRUNCATE t",
        "PREPARE d AS DELETE FROM t; EXECUTE d",
        "EXECUTE never_made",
        "FETCH ALL FROM never_made",
        "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
        "EXPLAIN ANALYZE DELETE FROM t",
        "DO $$ BEGIN DELETE FROM t; END $$",
        "SELECT 1 END; DROP TABLE t",
    ] {
        let out = host.psql(&[text])?;
        assert!(out.err.contains("does not allow"), "{text}: {}", out.err);
        assert_eq!(rows(&host)?, "3", "{text}");
    }
    let out = host.psql(&[
        "PREPARE s AS INSERT INTO t VALUES ($1)",
        "EXECUTE s (4)",
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT * FROM t ORDER BY a",
        "FETCH 1 FROM c",
        "COMMIT",
    ])?;
    assert_eq!((out.ok()?.as_str(), rows(&host)?.as_str()), ("1", "4"));
    // By the extended protocol, under a name that SQL made, too.
    let out = raw(
        &host,
        r#"
s = connect()
for flight in (P(b"", b"DELETE FROM t") + B(b"", b"") + E() + S,
               P(b"d", b"SELECT 1") + B(b"p", b"d") + E(b"p") + P(b"", b"TRUNCATE t") + B(b"", b"") + E() + S):
    s.sendall(flight)
    print(tags(read_to(s, b"Z")).decode())
"#,
    )?;
    assert_eq!(out, "EZ\n12DCEZ");
    assert_eq!(rows(&host)?, "4");
    Ok(())
}

#[test]
fn p2_what_is_forbidden_needs_a_rule_that_says_so() -> Result<()> {
    let host = Host::start()?;
    let text = "SELECT pg_read_file('PG_VERSION')";
    let out = host.psql(&[text])?;
    assert!(out.err.contains("does not allow"), "{}", out.err);
    let command = host.commands()?.remove(0);
    assert_eq!(command["rule"], "forbidden unless a rule allows it");
    let host = Scene::default().allow_all().start()?;
    assert!(!host.psql(&[text])?.ok()?.is_empty());
    Ok(())
}

#[test]
fn p8_limits_of_rows_of_statements_and_of_a_sessions_length() -> Result<()> {
    let limit = |limit: &str| {
        Scene::default().more(&format!("[[rule]]\nname = \"most\"\nlimit = {{ {limit} }}")).start()
    };
    let host = limit("rows = 100")?;
    assert_eq!(host.psql(&["SELECT count(*) FROM generate_series(1, 100)"])?.ok()?, "100");
    let out = host.psql(&["SELECT * FROM generate_series(1, 100000)"])?;
    assert!(out.err.contains("more than 100 rows"), "{}", out.err);
    let host = limit("statements = 5")?;
    let out = host.psql(&["SELECT 1"; 7])?;
    assert_eq!(out.out.matches('1').count(), 5, "{}", out.out);
    assert!(out.err.contains("at most 5 statements a minute"), "{}", out.err);
    let host = limit("session = \"1s\"")?;
    let out = host.psql(&["SELECT pg_sleep(20)"])?;
    assert!(out.err.contains("lasted as long as one may"), "{}", out.err);
    Ok(())
}

#[test]
fn policy_test_and_replay_explain_verdicts() -> Result<()> {
    let host = with_rows(&held(""))?;
    let test = |statement: &str| {
        host.chaperone(&["policy", "test", "--agent", "cleaner", "--target", "prod", statement])
    };
    let out = test("DELETE FROM orders")?;
    assert_eq!(out.code, Some(3));
    for part in ["hold: ask", "user:root", "DELETE is destructive", "orders is changed"] {
        assert!(out.out.contains(part), "{part}: {}", out.out);
    }
    assert!(test("SELECT 1")?.ok()?.starts_with("allow: default of target prod"));
    let wrong =
        host.chaperone(&["policy", "test", "--agent", "x", "--target", "prod", "SELECT 1"])?;
    assert!(wrong.err.contains("no agent named"), "{}", wrong.err);
    host.psql(&["SELECT 1", "INSERT INTO t VALUES (9)"])?.ok()?;
    host.commands()?;
    let draft = host.folder().join("draft.toml");
    let rules = "[[rule]]\nname = \"no writes\"\nwhen = { class = \"write\" }\nthen = \"deny\"\n";
    let config = std::fs::read_to_string(host.config())?;
    std::fs::write(&draft, config + "\n" + rules)?;
    let draft = draft.to_str().context("UTF-8")?;
    let out = host.chaperone(&["policy", "replay", "--since", "1h", "--draft", draft, "--json"])?;
    let changed: Vec<Value> =
        out.ok()?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(
        (&changed[0]["was"], &changed[0]["would_be"], &changed[0]["rule"]),
        (&"allow".into(), &"deny".into(), &"no writes".into())
    );
    let none = host.chaperone(&["policy", "replay"])?.ok()?;
    assert!(none.starts_with("0 of 2 commands"), "{none}");
    Ok(())
}

#[test]
fn a_check_tells_rules_that_never_count_and_people_who_do_not_exist() -> Result<()> {
    let host = Scene::default()
        .more(
            "[[rule]]\nname = \"a\"\nwhen = { class = \"read\", access = \"write\" }\nthen = \"deny\"\n\
             [[rule]]\nname = \"b\"\nwhen = { class = \"write\" }\nthen = \"hold\"\napprovers = [\"group:nobody-at-all\"]\n\
             [[rule]]\nname = \"c\"\nwhen = { class = [\"write\", \"read\"] }\nthen = \"deny\"\n",
        )
        .prepare()?;
    let out = host.chaperone(&["check"])?.ok()?;
    for part in [
        "rule \"a\" can never count",
        "group:nobody-at-all, and this host has none of that name",
        "rule \"b\" never counts: \"c\" is stricter",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    Ok(())
}

#[test]
fn an_approver_sees_what_the_server_expects() -> Result<()> {
    let host = held("").target("credential = { user = \"postgres\" }").start()?;
    host.postgres().sql(
        "CREATE TABLE orders (id int PRIMARY KEY); \
         CREATE TABLE lines (id int REFERENCES orders ON DELETE CASCADE); \
         INSERT INTO orders SELECT generate_series(1, 1000); ANALYZE orders",
    )?;
    let psql =
        host.start_agent("psql", &["-X", "-c", "SELECT 'before'", "-c", "DELETE FROM orders"])?;
    wait_until("it to wait", || waiting(&host).is_ok_and(|holds| holds.len() == 1))?;
    let id = waiting(&host)?[0]["id"].to_string();
    let shown = host.chaperone(&["holds", &id])?.ok()?;
    for part in [
        "1000 rows",
        "orders has about 1000 rows",
        "removing rows of orders removes rows of lines",
        "SELECT 'before'",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    host.chaperone(&["deny", &id])?.ok()?;
    psql.finish()?;
    assert_eq!(host.postgres().sql("SELECT count(*) FROM orders")?, "1000");
    Ok(())
}

#[test]
fn a_webhook_is_told_what_waits_and_what_became_of_it() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    let (told, hears) = sync_channel(16);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Ok(read) = stream.try_clone() else { return };
            let (mut read, mut length, mut head) = (BufReader::new(read), 0, String::new());
            loop {
                let mut line = String::new();
                if read.read_line(&mut line).is_err() || line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                head += &line.to_lowercase();
            }
            let mut body = vec![0; length];
            let _ = read.read_exact(&mut body);
            let _ = stream.write_all(b"HTTP/1.1 204 ok\r\nconnection: close\r\n\r\n");
            let _ = told.send((head, body));
        }
    });
    let secret = "[webhook]\nsecret = \"file:{folder}/secret\"\nqueue = \"{folder}/queue\"\n";
    let scene = held("").more(&format!("{secret}url = \"{url}\""));
    let mut host = scene.prepare()?;
    let path = host.folder().join("secret");
    std::fs::write(&path, "key")?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    host.start_daemon()?;
    host.postgres().sql("CREATE TABLE t (a int)")?;
    let psql = host.start_agent("psql", &["-X", "-c", "DELETE FROM t"])?;
    let hear = || -> Result<Value> {
        let (head, body) = hears.recv_timeout(Duration::from_secs(20))?;
        assert!(head.contains("webhook-id: ") && head.contains("webhook-signature: v1,"), "{head}");
        Ok(serde_json::from_slice(&body)?)
    };
    let opened = hear()?;
    assert_eq!(
        (&opened["type"], &opened["data"]["statement"], &opened["data"]["agent"]),
        (&"hold.opened".into(), &"DELETE FROM t".into(), &"cleaner".into())
    );
    host.chaperone(&["approve", &opened["data"]["id"].to_string()])?.ok()?;
    let approved = hear()?;
    assert_eq!(
        (&approved["type"], &approved["data"]["detail"]),
        (&"hold.approved".into(), &"root".into())
    );
    psql.finish()?.ok()?;
    Ok(())
}

/// Texts that are heavy to read end their own worker.
#[test]
fn p8_a_text_that_ends_its_reader_is_refused_and_nobody_else_notices() -> Result<()> {
    let host = with_rows(&denying())?;
    let deep = format!("SELECT {}1{}", "(".repeat(60_000), ")".repeat(60_000));
    let file = host.folder().join("deep.sql");
    std::fs::write(&file, deep)?;
    let file = file.to_str().context("UTF-8")?.to_owned();
    let attacker = host.start_agent("psql", &["-X", "-At", "-f", &file])?;
    for number in 0..50 {
        let text = format!("SELECT {number}");
        assert_eq!(host.psql(&[&text])?.ok()?, number.to_string());
    }
    let out = attacker.finish()?;
    assert!(out.err.contains("does not allow"), "{}", out.err);
    assert!(out.err.contains("unreadable is destructive"), "{}", out.err);
    Ok(())
}
