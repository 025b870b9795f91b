//! P5: ways to a masked value, each tried by psql and by drivers in text and binary, by the simple and the
//! extended protocol. What the agent and the log get is searched for the values in any clothes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};
use chaperone_host_tests::{Host, Release, Scene};
use serde_json::Value;

/// Parts of the values that no agent may see, as texts, reversed, in hexadecimal, in base64, as
/// drivers show them, and as they are on the wire.
const SECRETS: [&str; 47] = [
    "secretmail",
    "liamterces",
    "7365637265746d61696c",
    "enE3c2VjcmV0",
    "d3Y4c2VjcmV0",
    "secretone",
    "secrettwo",
    "secretthree",
    "tagsecret",
    "terceSgat",
    "docsecret",
    "plainsecret",
    "pagesecret",
    "746167736563726574",
    "646f63736563726574",
    "5551234",
    "5555678",
    "49297777123",
    "49298888123",
    "34393239373737",
    "918273645",
    "827364519",
    "000907230e3d",
    "7713.25",
    "8814.36",
    "40be2140",
    "40c1372e",
    "7788990011",
    "8899001122",
    "001bac0b",
    "001f9d9d",
    "feedfacedeadbeef",
    "cafebabe0badf00d",
    "a3b1c2d4",
    "b4c2d3e5",
    "203.0.113",
    "198.51.100",
    "cb00714d",
    "c6336458",
    "1961-07",
    "1962-08",
    "1961, 7",
    "1962, 8",
    "1999-08-17",
    "2001-09-18",
    "934888953",
    "1999, 8, 17",
];

/// The masks of the suite.
const MASKS: &str = r#"
[[mask]]
name = "mail"
columns = ["public.*.email"]
with = "pseudonym"
prefix = "p-"
key = "file:KEY"

[[mask]]
name = "numbers"
columns = ["public.customers.phone", "public.customers.pan"]
with = "partial"
last = 2

[[mask]]
name = "dates"
columns = ["public.customers.born", "public.customers.seen"]
with = "year"

[[mask]]
name = "all else"
columns = [
    "public.customers.tags", "public.customers.doc", "public.customers.plain",
    "public.customers.balance", "public.customers.score", "public.customers.serial",
    "public.customers.raw", "public.customers.key", "public.customers.ip", "public.customers.page",
]
with = "constant"
text = "0"
"#;

/// A host with masks, and people to be masked.
fn masked(masks: &str) -> Result<Host> {
    masked_in(Scene::default(), masks)
}

fn masked_in(scene: Scene, masks: &str) -> Result<Host> {
    masked_at(scene.target("credential = { user = \"postgres\" }"), masks)
}

fn masked_at(scene: Scene, masks: &str) -> Result<Host> {
    let folder = tempfile::tempdir()?.keep();
    let key = folder.join("key");
    fs::write(&key, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let masks = masks.replace("KEY", &key.display().to_string());
    let host = scene.more(&masks).start()?;
    host.postgres().sql(include_str!("leaks/schema.sql"))?;
    Ok(host)
}

/// What each way shows, by a driver.
fn shown(host: &Host, folder: &Path, driver: &str, direct: bool) -> Result<Vec<(String, String)>> {
    let place = |name: &str, content: &str| {
        let path = folder.join(name);
        fs::write(&path, content)?;
        Ok::<_, anyhow::Error>(path.display().to_string())
    };
    let program = place("read.py", include_str!("leaks/read.py"))?;
    let ways = place("ways.txt", include_str!("leaks/ways.txt"))?;
    let python = host.newer_python()?;
    let out = if direct {
        let schema = place("schema.sql", include_str!("leaks/schema.sql"))?;
        host.outside(&python, &[&program, driver, &ways, &schema])?
    } else {
        host.agent(&python, &[&program, driver, &ways])?
    };
    out.ok()?
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line)?;
            let seen = line["seen"].as_array().context("what was seen")?;
            let seen: Vec<&str> = seen.iter().filter_map(Value::as_str).collect();
            Ok((line["way"].as_str().context("a way")?.to_owned(), seen.join("\n")))
        })
        .collect()
}

/// Which secrets are in something, whatever the case.
fn secrets(text: &str) -> Vec<&'static str> {
    let text = text.to_lowercase();
    SECRETS.into_iter().filter(|secret| text.contains(&secret.to_lowercase())).collect()
}

#[test]
fn p5_no_way_leads_to_a_masked_value() -> Result<()> {
    no_way_leads_there(&masked(MASKS)?, &["text", "binary", "asyncpg", "psql"])
}

/// There are more ways to write something there.
#[test]
fn p5_no_way_leads_to_a_masked_value_of_a_newer_server() -> Result<()> {
    no_way_leads_there(&masked_in(Scene::default().release(Release::Eighteen), MASKS)?, &["text"])
}

fn no_way_leads_there(host: &Host, drivers: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let mut leaks = Vec::new();
    for driver in drivers {
        let ways = shown(host, folder.path(), driver, false)?;
        ensure!(ways.len() > 200, "all ways were tried: {}", ways.len());
        for (way, seen) in ways {
            ensure!(!seen.starts_with("broken"), "{driver}: {way}: {seen}");
            let found = secrets(&seen);
            if !found.is_empty() {
                leaks.push(format!("{driver}: {way}: {found:?}"));
            }
        }
    }
    ensure!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    for command in host.commands()? {
        let command = host.command(&command["id"])?.to_string();
        let found = secrets(&command);
        ensure!(found.is_empty(), "{found:?}: {command}");
    }
    for file in host.log_files()? {
        let bytes = fs::read(&file).unwrap_or_default();
        let found = secrets(&String::from_utf8_lossy(&bytes));
        ensure!(found.is_empty(), "{}: {found:?}", file.display());
    }
    Ok(())
}

#[test]
fn without_masks_the_ways_lead_there() -> Result<()> {
    let host = masked("")?;
    let folder = tempfile::tempdir()?;
    let ways = shown(&host, folder.path(), "text", true)?;
    let (leak, none): (Vec<_>, Vec<_>) =
        ways.into_iter().partition(|(_, seen)| !secrets(seen).is_empty());
    let others: Vec<&str> = none.iter().map(|(way, _)| way.as_str()).collect();
    ensure!(
        leak.len() >= 170,
        "only {} lead there; these do not:\n{}",
        leak.len(),
        others.join("\n")
    );
    Ok(())
}

/// What psql shows of statements, each in a message of its own.
fn psql(host: &Host, statements: &[&str]) -> Result<String> {
    let out = host.psql(statements)?;
    ensure!(out.code == Some(0), "{statements:?}: {}", out.err);
    Ok(out.out.trim_end().to_owned())
}

#[test]
fn p5_masked_columns_have_their_form_and_the_others_are_as_they_are() -> Result<()> {
    let host = masked(MASKS)?;
    let shown = psql(&host, &["SELECT id, note, phone, born, serial FROM customers WHERE id = 1"])?;
    assert_eq!(shown, "1|first note|*************45|1961-01-01|0");
    // Equal values stay equal, also through views.
    let mail = psql(&host, &["SELECT email FROM customers WHERE id = 1"])?;
    assert!(mail.starts_with("p-") && !mail.contains('@'), "{mail}");
    for same in [
        "SELECT address FROM people WHERE id = 1",
        "SELECT e FROM (SELECT email AS e, id FROM customers) x WHERE id = 1",
        "WITH c AS (SELECT * FROM customers) SELECT email FROM c WHERE id = 1",
        "SELECT email FROM parted_1",
        "UPDATE customers SET note = 'first note' WHERE id = 1 RETURNING email",
    ] {
        assert_eq!(psql(&host, &[same])?, mail, "{same}");
    }
    let cursor = [
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT email, note FROM customers WHERE id = 1",
        "FETCH ALL FROM c",
        "COMMIT",
    ];
    assert_eq!(psql(&host, &cursor)?, format!("{mail}|first note"));
    let twice = [&cursor[..], &cursor[..]].concat();
    assert_eq!(psql(&host, &twice)?, format!("{mail}|first note\n{mail}|first note"));
    // What is made of a masked column is not shown.
    assert_eq!(
        psql(&host, &["SELECT upper(email), note FROM customers WHERE id = 1"])?,
        "|first note"
    );
    // What has nothing to do with one is.
    assert_eq!(
        psql(
            &host,
            &[
                "SELECT o.id, what, note FROM orders o JOIN customers c ON c.id = o.customer WHERE o.id = 1"
            ]
        )?,
        "1|a lamp|first note"
    );
    assert_eq!(psql(&host, &["COPY orders TO STDOUT"])?, "1\t1\ta lamp\n2\t2\ta chair");
    // Rows that are copied out are masked as those of SELECT, in every format and order.
    let line = format!("{mail}\tfirst note\t0");
    for copy in [
        "COPY (SELECT email, note, serial FROM customers WHERE id = 1) TO STDOUT",
        "COPY (SELECT email AS a, note, serial FROM customers WHERE id = 1) TO STDOUT (DELIMITER E'\t')",
    ] {
        assert_eq!(psql(&host, &[copy])?, line, "{copy}");
    }
    let csv =
        "COPY customers (serial, note, phone, id) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)";
    let copied = psql(&host, &[csv])?;
    for line in [
        "serial,note,phone,id",
        "\"0\",\"first note\",\"*************45\",\"1\"",
        "\"0\",\"second note\",\"*************90\",\"2\"",
    ] {
        assert!(copied.lines().any(|other| other == line), "{line}: {copied}");
    }
    let made = psql(
        &host,
        &["COPY (SELECT upper(email), note FROM customers WHERE id = 1) TO STDOUT CSV"],
    )?;
    assert_eq!(made, ",first note");
    let binary =
        psql(&host, &["COPY (SELECT note FROM customers WHERE id = 1) TO STDOUT (FORMAT binary)"])?;
    assert!(binary.contains("first note"), "{binary}");
    for (copy, why) in [
        ("COPY customers TO STDOUT (NULL 'zq7secretmail@leak.example')", "stand for NULL"),
        ("COPY customers TO STDOUT (ENCODING 'SJIS')", "cannot be followed"),
        ("COPY customers TO '/tmp/never'", "server"),
    ] {
        let out = host.psql(&[copy])?;
        assert!(out.code != Some(0) && out.err.contains(why), "{copy}: {}", out.err);
    }
    let count = psql(&host, &["SELECT count(*), count(email) FROM customers"])?;
    assert_eq!(count, "2|2");
    Ok(())
}

#[test]
fn p5_what_was_masked_stands_in_the_log_and_nothing_else() -> Result<()> {
    let host = masked(MASKS)?;
    psql(&host, &["SELECT id, email, phone FROM customers ORDER BY id"])?;
    psql(&host, &["SELECT id FROM customers WHERE email = 'zq7secretmail@leak.example'"])?;
    psql(&host, &["INSERT INTO customers (id, email) VALUES (7, 'newsecretmail@leak.example')"])?;
    let commands = host.commands()?;
    let last = commands.len() - 3;
    let masked: Value = serde_json::from_str(commands[last]["masked"].as_str().context("masks")?)?;
    assert_eq!(masked, serde_json::json!({ "mail": 2, "numbers": 2 }));
    assert_eq!(commands[last + 1]["statement"], "SELECT id FROM customers WHERE email = $1");
    assert_eq!(
        commands[last + 2]["statement"],
        "INSERT INTO customers (id, email) VALUES ($1, $2)"
    );
    assert_eq!(commands[last + 2]["status"], "ok");
    Ok(())
}

/// What is refused before its columns are followed may hold values for them all the same.
#[test]
fn p5_what_cannot_be_followed_is_recorded_without_values() -> Result<()> {
    let host = masked(MASKS)?;
    let both = "UPDATE customers SET email = 'newsecretmail' WHERE id = 1; SELECT mail_of(1)";
    assert!(host.psql(&[both])?.err.contains("nobody reads"));
    let made = [
        "CREATE TEMP TABLE mine (id int)",
        "UPDATE customers SET email = 'newsecretmail' FROM mine WHERE mine.id = customers.id",
    ];
    let out = host.psql(&made)?;
    assert!(out.err.contains("this session itself made"), "{}", out.err);
    let again = r#"
import psycopg
c = psycopg.connect("", autocommit=True)
for before in ("SELECT 1", "SET search_path = public"):
    c.execute(before)
    try:
        c.execute("UPDATE customers SET email = %s WHERE id = 7", ("newsecretmail",), prepare=True)
        print("ran")
    except psycopg.Error as e:
        print(e.sqlstate)
"#;
    assert_eq!(host.agent("/usr/bin/python3", &["-c", again])?.ok()?.trim(), "ran\n42501");
    let commands = host.commands()?;
    let texts: Vec<_> = commands.iter().map(|command| command["statement"].to_string()).collect();
    let is_there = |text: &str| texts.iter().any(|other| other.contains(text));
    assert!(
        is_there("UPDATE customers SET email = $1 WHERE id = $2; SELECT mail_of($3)"),
        "{texts:?}"
    );
    assert!(is_there("UPDATE customers SET email = $1 FROM mine"), "{texts:?}");
    for command in commands {
        // The session has the programs' own words.
        let parts = host.command(&command["id"])?["parts"].to_string();
        assert!(parts.contains("statement") && !parts.contains("newsecretmail"), "{parts}");
    }
    Ok(())
}

#[test]
fn p5_what_sql_prepared_does_not_run_once_its_names_may_stand_for_something_else() -> Result<()> {
    let host = masked(MASKS)?;
    let prepare = "PREPARE p AS SELECT note, email FROM customers WHERE id = 1";
    let shown = psql(&host, &[prepare, "EXECUTE p", "EXECUTE p"])?;
    assert_eq!(shown.matches("first note|p-").count(), 2, "{shown}");
    let out = host.psql(&[prepare, "SET search_path = public", "EXECUTE p", "SELECT 7"])?;
    assert!(out.err.contains("something else by now"), "{}", out.err);
    assert!(out.out.ends_with("7\n") && !out.out.contains("note"), "{}", out.out);
    let cursor = [
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT note FROM customers WHERE id = 1",
        "SET search_path = public",
        "FETCH c",
    ];
    assert_eq!(psql(&host, &cursor)?, "first note");
    Ok(())
}

#[test]
fn p5_guesses_are_refused_and_comparisons_are_counted() -> Result<()> {
    let host = masked(&MASKS.replace("prefix = \"p-\"", "prefix = \"p-\"\nequality = 3"))?;
    for guess in [
        "SELECT id FROM customers WHERE email LIKE 'zq%'",
        "SELECT id FROM customers WHERE email > 'z'",
        "SELECT id FROM customers WHERE substr(email, 1, 1) = 'z'",
        "SELECT id FROM customers WHERE email IN ('a', 'b')",
        "SELECT id FROM customers ORDER BY email",
        "SELECT count(*) FROM customers GROUP BY email",
        "SELECT DISTINCT email FROM customers",
        "SELECT a.id FROM customers a JOIN customers b ON a.email > b.email",
        "DELETE FROM customers WHERE email LIKE 'zq%'",
        "SELECT 1 / (ascii(email) - 122) FROM customers",
        "SELECT generate_series(1, ascii(email)) FROM customers",
        "SELECT pg_sleep(ascii(email) / 1000) FROM customers",
        "SELECT id FROM customers LIMIT (SELECT ascii(email) FROM customers WHERE id = 1)",
        "SELECT split_part('a', 'b', strpos('abcdefghijklm', left(email, 1))) FROM customers",
        "SELECT length('x'::bytea, btrim('utf8zz', left(email, 1))) FROM customers WHERE id = 1",
        "SELECT length(raw, 'UTF8') FROM customers",
        "SELECT to_jsonb(plain) FROM customers",
        "SELECT tags || ARRAY[['a', 'b']] FROM customers",
    ] {
        let out = host.psql(&[guess])?;
        assert!(out.err.contains("masked column"), "{guess}: {}", out.err);
    }
    for time in 1..=4 {
        let out = host.psql(&["SELECT id FROM customers WHERE email = 'a@b'"])?;
        assert_eq!(out.err.contains("too often"), time > 3, "{time}: {}", out.err);
    }
    Ok(())
}

#[test]
fn p5_each_value_counts_that_a_statement_compares_with_and_what_it_writes_where_others_are_looked_for()
-> Result<()> {
    let host = masked(&MASKS.replace("prefix = \"p-\"", "prefix = \"p-\"\nequality = 3"))?;
    let many = "INSERT INTO customers (id, email) SELECT 1000 + n, 'u' || n FROM generate_series(1, 9) n \
                ON CONFLICT (email) DO NOTHING RETURNING id";
    let out = host.psql(&[many])?;
    assert!(out.err.contains("lets a masked column decide"), "{}", out.err);
    psql(&host, &["INSERT INTO customers (id, email, phone) VALUES (70, 'a@b', '1')"])?;
    psql(&host, &["UPDATE customers SET email = 'c@d' WHERE id = 70"])?;
    // Nothing is looked for there.
    for _ in 0..4 {
        psql(&host, &["UPDATE customers SET phone = '2', note = 'n' WHERE id = 70"])?;
    }
    let two = "SELECT CASE WHEN email = 'a' THEN 1 WHEN email = 'b' THEN 2 END FROM customers";
    let out = host.psql(&[two])?;
    assert!(out.err.contains("too often"), "{}", out.err);
    Ok(())
}

#[test]
fn p5_masks_count_for_a_target_that_is_only_observed() -> Result<()> {
    let target = "credential = { user = \"postgres\" }\nmode = \"observe\"";
    let host = masked_at(Scene::default().target(target), MASKS)?;
    assert_eq!(psql(&host, &["SELECT serial FROM customers WHERE id = 1"])?, "0");
    let out = host.psql(&["SELECT id FROM customers ORDER BY email"])?;
    assert!(out.err.contains("masked column"), "{}", out.err);
    Ok(())
}

#[test]
fn p5_a_name_that_a_text_of_several_statements_makes_stands_for_its_own() -> Result<()> {
    let host = masked(MASKS)?;
    let prepares = "SELECT 1; PREPARE twice AS SELECT upper(email) FROM customers";
    let shown = psql(&host, &[prepares, "EXECUTE twice"])?;
    assert_eq!(secrets(&shown), [""; 0], "{shown}");
    Ok(())
}

#[test]
fn p5_a_type_that_a_session_calls_text_is_not_taken_for_text() -> Result<()> {
    let host = masked(MASKS)?;
    let domain = "CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (value < 'm')";
    for made in [domain, "CREATE TEMP TABLE text (a int)", "CREATE TYPE pg_temp.text AS (a int)"] {
        let out = host.psql(&[made, "SELECT email::text FROM customers WHERE id = 1"])?;
        assert!(out.err.contains("computes with a masked column"), "{made}: {}", out.err);
    }
    let plain = psql(&host, &["SELECT id, email::text FROM customers WHERE id = 1"])?;
    assert!(plain.starts_with("1|p-"), "{plain}");
    Ok(())
}

/// What is not refused for all, by casts, triggers and operators that a statement does not name.
#[test]
fn p5_code_is_made_where_all_masks_let_it_run_and_nowhere_else() -> Result<()> {
    let make = "CREATE FUNCTION public.one() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    let host = masked(MASKS)?;
    let out = host.psql(&[make])?;
    assert!(out.err.contains("it makes code that nobody reads"), "{}", out.err);
    for lets in [MASKS.replace("with =", "unread = \"allow\"\nwith ="), String::new()] {
        let host = masked(&lets)?;
        psql(&host, &[make, "SELECT one()"])?;
    }
    Ok(())
}
