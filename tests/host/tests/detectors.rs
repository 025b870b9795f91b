//! P5: what detectors find is masked wherever it comes out, with no catalog and no column named, and
//! the log has none of it. All values here are made up.

use std::fs;

use anyhow::{Context, Result, ensure};
use chaperone_host_tests::{Host, Scene};
use serde_json::Value;

const MASKS: &str = r#"
[[mask]]
name = "mail"
detect = ["email"]
with = "partial"
last = 4

[[mask]]
name = "cards and keys"
detect = ["card", "ssn", "iban", "jwt", "aws-key-id", "github-token", "private-key"]
with = "constant"
text = "[hidden]"
"#;

const CARD: &str = "4111111111111111";
const MAIL: &str = "ada.lovelace@leak.example";
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const IBAN: &str = "DE89370400440532013000";

/// Parts of the values, as texts, in hexadecimal, and as numbers on the wire.
const SECRETS: [&str; 8] = [
    "ada.lovelace",
    "411111111111",
    "akiaiosfodnn7",
    "de8937040044",
    "6164612e6c6f76656c616365",
    "343131313131313131",
    "000e9af2b1871c7",
    "begin private key",
];

fn secrets(text: &str) -> Vec<&'static str> {
    let text = text.to_lowercase();
    SECRETS.into_iter().filter(|secret| text.contains(secret)).collect()
}

const SCHEMA: &str = r#"
CREATE TABLE people (
    id int PRIMARY KEY, note text, short varchar(60), fixed char(60), doc jsonb, plain json,
    tags text[], number bigint, amount numeric, raw bytea, page xml, plainer text
);
INSERT INTO people VALUES (
    1, 'write to ada.lovelace@leak.example, or pay with 4111 1111 1111 1111.',
    'key AKIAIOSFODNN7EXAMPLE', 'account DE89370400440532013000',
    '{"mail": "ada.lovelace@leak.example", "card": 4111111111111111, "n": 7}',
    '{"mail": "ada.lovelace\u0040leak.example"}',
    '{one,ada.lovelace@leak.example,"two, three"}', 4111111111111111, 4111111111111111,
    'ada.lovelace@leak.example', '<a>ada.lovelace@leak.example</a>', 'nothing to find'
), (2, 'plain', 'plain', 'plain', '{"a": "b\\c"}', '{}', '{a,b}', 12, 12.5, '\x00ff', '<a/>', E'x\ty');
CREATE TYPE pair AS (mail text, number bigint);
CREATE FUNCTION says() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    RAISE NOTICE 'it is %', (SELECT note FROM people WHERE id = 1) USING DETAIL = 'ada.lovelace@leak.example';
END $$;
CREATE FUNCTION fails() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'no %', 'ada.lovelace@leak.example' USING HINT = '4111111111111111', DETAIL = 'AKIAIOSFODNN7EXAMPLE';
END $$;
"#;

/// Each is a session of its own; statements are parted by ` ;; `.
const WAYS: &str = "\
SELECT * FROM people
SELECT note, id FROM people ORDER BY note
SELECT upper(note) || 'x', array_agg(tags::text) FROM people GROUP BY note
SELECT p FROM people p
SELECT row_to_json(p) FROM people p
SELECT jsonb_agg(doc) FROM people
SELECT ROW('ada.lovelace@leak.example', 4111111111111111)::pair
SELECT ARRAY[ROW('ada.lovelace@leak.example', 4111111111111111)::pair]
SELECT number, amount, number::float8 FROM people
SELECT tags FROM people
SELECT raw, encode(raw, 'escape') FROM people
SELECT says()
SELECT fails()
SELECT note::int FROM people
SELECT '{' || note || '}' FROM people ;; SELECT (note)::date FROM people
INSERT INTO people (id, note) VALUES (1, 'ada.lovelace@leak.example')
LISTEN c ;; NOTIFY c, 'ada.lovelace@leak.example' ;; SELECT 1
LISTEN c ;; SELECT pg_notify('c', note) FROM people ;; SELECT 1
SELECT set_config('application_name', 'ada.lovelace@leak.example', false)
SELECT set_config('application_name', left(note, 60), false) FROM people WHERE id = 1
PREPARE a AS SELECT note FROM people ;; EXECUTE a
BEGIN ;; DECLARE c CURSOR FOR SELECT * FROM people ;; FETCH ALL FROM c
UPDATE people SET plainer = note RETURNING *
COPY people TO STDOUT
COPY people (tags, note, doc, plain) TO STDOUT (FORMAT csv, HEADER)
COPY (SELECT * FROM people) TO STDOUT (FORMAT csv, QUOTE '@')
COPY (SELECT * FROM people) TO STDOUT (FORMAT csv, QUOTE '''', ESCAPE '4', FORCE_QUOTE *)
COPY (SELECT note, tags, doc FROM people) TO STDOUT (DELIMITER '@')
COPY (SELECT note, short, fixed, tags, doc, plain, page FROM people) TO STDOUT (FORMAT binary)
SELECT 'ada.lovelace@leak.example' AS mail
SELECT 1 AS \"ada.lovelace@leak.example\"
DO $$ BEGIN RAISE NOTICE 'ada.lovelace@leak.example'; END $$
EXPLAIN SELECT * FROM people WHERE note = 'ada.lovelace@leak.example'
SELECT nothing_of('ada.lovelace@leak.example', '4111111111111111')
SELECT lo_from_bytea(4242, 'ada.lovelace@leak.example') ;; SELECT lo_get(4242)
";

fn host(masks: &str) -> Result<Host> {
    // No credential: it is not needed.
    let host = Scene::default().more(masks).start()?;
    host.postgres().sql(SCHEMA)?;
    Ok(host)
}

fn shown(host: &Host, driver: &str) -> Result<Vec<(String, String)>> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let place = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content)?;
        Ok::<_, anyhow::Error>(path.display().to_string())
    };
    let program = place("read.py", include_str!("leaks/read.py"))?;
    let ways = place("ways.txt", WAYS)?;
    let out = host.agent(&host.newer_python()?, &[&program, driver, &ways])?;
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

#[test]
fn p5_what_is_found_is_masked_wherever_it_comes_out_and_in_the_log() -> Result<()> {
    let host = host(MASKS)?;
    let mut leaks = Vec::new();
    for driver in ["psql", "text", "binary", "asyncpg"] {
        let ways = shown(&host, driver)?;
        ensure!(ways.len() == WAYS.lines().count(), "all ways were tried: {}", ways.len());
        for (way, seen) in ways {
            ensure!(!seen.starts_with("broken"), "{driver}: {way}: {seen}");
            // The client knows what it wrote itself.
            let own = way.contains(" AS \"ada") || way.contains("nothing_of");
            let found = secrets(&seen);
            if !own && !found.is_empty() {
                leaks.push(format!("{driver}: {way}: {found:?}: {seen}"));
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
        let found = secrets(&String::from_utf8_lossy(&fs::read(&file).unwrap_or_default()));
        ensure!(found.is_empty(), "{}: {found:?}", file.display());
    }
    Ok(())
}

#[test]
fn without_detectors_the_ways_lead_there() -> Result<()> {
    let host = host("")?;
    let ways = shown(&host, "text")?;
    let leak = ways.iter().filter(|(_, seen)| !secrets(seen).is_empty()).count();
    ensure!(leak + 4 >= ways.len(), "only {leak} of {} lead there", ways.len());
    Ok(())
}

fn psql(host: &Host, statements: &[&str]) -> Result<String> {
    let out = host.psql(statements)?;
    ensure!(out.code == Some(0), "{statements:?}: {}", out.err);
    Ok(out.out.trim_end().to_owned())
}

#[test]
fn p5_what_is_found_has_its_form_and_the_rest_stays() -> Result<()> {
    let host = host(MASKS)?;
    let mail = format!("{}mple", "*".repeat(MAIL.len() - 4));
    for (statement, want) in [
        ("SELECT note FROM people WHERE id = 1", format!("write to {mail}, or pay with [hidden].")),
        ("SELECT short FROM people WHERE id = 1", "key [hidden]".into()),
        (
            "SELECT doc FROM people WHERE id = 1",
            format!(r#"{{"n": 7, "card": "[hidden]", "mail": "{mail}"}}"#),
        ),
        ("SELECT tags FROM people WHERE id = 1", format!(r#"{{one,{mail},"two, three"}}"#)),
        ("SELECT number, id FROM people WHERE id = 1", "|1".into()),
        (
            "SELECT note, doc, tags, number, raw FROM people WHERE id = 2",
            r#"plain|{"a": "b\\c"}|{a,b}|12|\x00ff"#.into(),
        ),
        (
            "COPY (SELECT id, note, tags FROM people ORDER BY id) TO STDOUT",
            format!(
                "1\twrite to {mail}, or pay with [hidden].\t{{one,{mail},\"two, three\"}}\n2\tplain\t{{a,b}}"
            ),
        ),
        (
            "COPY (SELECT id, doc FROM people ORDER BY id) TO STDOUT CSV",
            format!(
                "1,\"{{\"\"n\"\": 7, \"\"card\"\": \"\"[hidden]\"\", \"\"mail\"\": \"\"{mail}\"\"}}\"\n2,\"{{\"\"a\"\": \"\"b\\\\c\"\"}}\""
            ),
        ),
    ] {
        assert_eq!(psql(&host, &[statement])?, want, "{statement}");
    }
    // Code that nobody reads, and guesses, are not refused: nothing depends on columns.
    psql(
        &host,
        &["SELECT says()", "SELECT id FROM people WHERE note LIKE 'write%' ORDER BY note"],
    )?;
    let out = host.psql(&["SELECT fails()"])?;
    assert!(out.err.contains(&format!("no {mail}")) && out.err.contains("[hidden]"), "{}", out.err);
    Ok(())
}

#[test]
fn p5_what_was_found_is_counted_and_statements_are_kept_without_it() -> Result<()> {
    let host = host(MASKS)?;
    psql(&host, &["SELECT note, tags FROM people"])?;
    psql(&host, &[&format!("SELECT id FROM people WHERE note = '{MAIL}' AND short = '{KEY}'")])?;
    psql(&host, &["COPY people (note, fixed) TO STDOUT"])?;
    let _ = host.psql(&["SELECT fails()"])?;
    let commands = host.commands()?;
    let of = |at: usize| -> Result<Value> {
        Ok(serde_json::from_str(commands[at]["masked"].as_str().context("masks")?)?)
    };
    let last = commands.len() - 4;
    assert_eq!(of(last)?, serde_json::json!({ "mail": 2, "cards and keys": 1 }));
    let mail = format!("{}mple", "*".repeat(MAIL.len() - 4));
    assert_eq!(
        commands[last + 1]["statement"],
        format!("SELECT id FROM people WHERE note = '{mail}' AND short = '[hidden]'")
    );
    assert_eq!(of(last + 2)?, serde_json::json!({ "mail": 1, "cards and keys": 2 }));
    assert!(of(last + 3)?["mail"].is_u64());
    let shown = host.command(&commands[last + 2]["id"])?.to_string();
    assert!(
        shown.contains("[hidden]") && !shown.contains(CARD) && !shown.contains(IBAN),
        "{shown}"
    );
    Ok(())
}

#[test]
fn p2_what_cannot_be_looked_into_is_refused() -> Result<()> {
    let host = host(MASKS)?;
    let out = host.psql(&["COPY people TO STDOUT (ENCODING 'SJIS')"])?;
    assert!(out.err.contains("cannot look into"), "{}", out.err);
    let out = host.psql(&["SET client_encoding = 'SJIS'", "SELECT 1"])?;
    assert!(out.code != Some(0) && out.err.contains("client_encoding"), "{}", out.err);
    Ok(())
}

#[test]
fn p5_a_mask_of_columns_and_detectors_masks_what_is_found_there_alone() -> Result<()> {
    let masks = r#"
[[mask]]
name = "notes"
columns = ["public.people.note"]
detect = ["email"]
with = "constant"
text = "[mail]"

[[mask]]
name = "cards"
detect = ["card"]
with = "constant"
text = "[card]"
"#;
    let host =
        Scene::default().target("credential = { user = \"postgres\" }").more(masks).start()?;
    host.postgres().sql(SCHEMA)?;
    let shown = psql(&host, &["SELECT note, tags, plainer FROM people WHERE id = 1"])?;
    let want = format!(
        "write to [mail], or pay with [card].|{{one,{MAIL},\"two, three\"}}|nothing to find"
    );
    assert_eq!(shown, want);
    assert_eq!(psql(&host, &["SELECT note FROM people WHERE id = 2"])?, "plain");
    let copied = psql(&host, &["COPY people (tags, note) TO STDOUT"])?;
    assert!(copied.contains("write to [mail], or pay with [card]."), "{copied}");
    let out = host.psql(&["SELECT id FROM people ORDER BY note"])?;
    assert!(out.err.contains("masked column"), "{}", out.err);
    Ok(())
}
