//! P4: PostgreSQL's own regression suite sees through the daemon what it sees without, and P5: so it
//! does while values that it never reads are masked.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use chaperone_host_tests::{Host, Scene};
use serde_json::Value;
use tempfile::TempDir;

/// Who goes there directly, and is no test's agent: a daemon that starts ends what an agent has open to
/// its target, and targets of tests beside this one are of any address.
const DIRECT: u32 = 64_090;

/// In the suite, and not in its schedule.
const UNSCHEDULED: [&str; 2] = ["numeric_big", "reindex_catalog"];

/// What a statement with a backslash gets while `standard_conforming_strings` is off: where its
/// strings end is not for the daemon to guess.
const REFUSAL: &str = "\
ERROR:  chaperone does not read backslashes while standard_conforming_strings is off
HINT:  Set standard_conforming_strings to on, or send the text as a parameter.
";
/// What comes of such a refusal: the statement would have made the function.
const NO_FUNCTION: &str = "\
ERROR:  function strtest() does not exist
LINE 1: select strtest();
               ^
HINT:  No function matches the given name and argument types. You might need to add explicit type casts.
";
/// An answer that may differ: the file, what it is through the daemon, and how often.
type Exception = (&'static str, &'static str, usize);

/// The only answers that may differ, all of them for [`REFUSAL`]'s reason.
const EXCEPTIONS: [Exception; 3] =
    [("strings.out", REFUSAL, 8), ("plpgsql.out", REFUSAL, 2), ("plpgsql.out", NO_FUNCTION, 2)];

/// What the server's statistics tell of values is masked while any mask is for the session, of which
/// table ever they are: these statements make something of it, and are refused.
const DECIDES: &str = "\
ERROR:  chaperone does not allow this statement: it lets a masked column decide what comes
HINT:  Do it without that column, or ask operations to change the mask.
";
const ORDERS: &str = "\
ERROR:  chaperone does not allow this statement: it puts rows in the order of a masked column
HINT:  Do it without that column, or ask operations to change the mask.
";
const COMPUTES: &str = "\
ERROR:  chaperone does not allow this statement: it computes with a masked column
HINT:  Do it without that column, or ask operations to change the mask.
";
/// Nor can it be told what a view is made of while a transaction has it locked.
const LOCKED: &str = "\
ERROR:  chaperone cannot tell which masked columns this statement shows: more is behind what it names than is looked at
HINT:  Write it in a simpler way, or ask operations to change the masks.
";
const ABORTED: &str =
    "ERROR:  current transaction is aborted, commands ignored until end of transaction block\n";
/// The answers that may differ besides, with masks.
const WITH_MASKS: [Exception; 9] = [
    ("alter_table.out", LOCKED, 2),
    ("alter_table.out", ABORTED, 2),
    ("fast_default.out", DECIDES, 1),
    ("plpgsql.out", COMPUTES, 2),
    ("polymorphism.out", COMPUTES, 2),
    ("polymorphism.out", DECIDES, 1),
    ("stats_ext.out", DECIDES, 1),
    ("stats_ext.out", COMPUTES, 2),
    ("stats_ext.out", ORDERS, 4),
];
/// And these show it: the file, lines without masks, and the same with the values NULL.
const SHOWN: [(&str, &str, &str); 5] = [
    (
        "fast_default.out",
        "      2 | b       | t             | t         | {3}\n",
        "      2 | b       | t             | t         | \n",
    ),
    (
        "fast_default.out",
        " attnum | attname | atthasmissing | atthasdef |           attmissingval           \n\
         --------+---------+---------------+-----------+-----------------------------------\n\
         \x20     1 | a       | f             | f         | \n\
         \x20     2 | b       | f             | t         | \n\
         \x20     3 | c       | f             | t         | \n\
         \x20     4 | d       | t             | f         | {\"{This,is,abcd,the,real,world}\"}\n",
        " attnum | attname | atthasmissing | atthasdef | attmissingval \n\
         --------+---------+---------------+-----------+---------------\n\
         \x20     1 | a       | f             | f         | \n\
         \x20     2 | b       | f             | t         | \n\
         \x20     3 | c       | f             | t         | \n\
         \x20     4 | d       | t             | f         | \n",
    ),
    (
        "json.out",
        " attname |    histogram_bounds    \n---------+------------------------\n x       | [1,2,3]\n y       | [\"txt1\",\"txt2\",\"txt3\"]\n",
        " attname | histogram_bounds \n---------+------------------\n x       | \n y       | \n",
    ),
    (
        "jsonb.out",
        " attname |     histogram_bounds     \n---------+--------------------------\n x       | [1, 2, 3]\n y       | [\"txt1\", \"txt2\", \"txt3\"]\n",
        " attname | histogram_bounds \n---------+------------------\n x       | \n y       | \n",
    ),
    (
        "rowsecurity.out",
        "  attname  | most_common_vals  \n-----------+-------------------\n currentid | \n payload   | \n rlsuser   | {regress_rls_bob}\n",
        "  attname  | most_common_vals \n-----------+------------------\n currentid | \n payload   | \n rlsuser   | \n",
    ),
];

/// Masks of a table that the suite has nothing to do with. Much of it is code that nobody reads, which
/// masks would refuse otherwise.
const MASKS: &str = r#"
[[mask]]
name = "apart"
columns = ["apart.kept_people.*"]
with = "constant"
text = "0"
unread = "allow"
"#;

/// The suite's database, made as its driver makes it, with that table.
const DATABASE: [&str; 7] = [
    "CREATE DATABASE regression TEMPLATE = template0",
    "ALTER DATABASE regression SET lc_messages TO 'C'",
    "ALTER DATABASE regression SET lc_monetary TO 'C'",
    "ALTER DATABASE regression SET lc_numeric TO 'C'",
    "ALTER DATABASE regression SET lc_time TO 'C'",
    "ALTER DATABASE regression SET bytea_output TO 'hex'",
    "ALTER DATABASE regression SET timezone_abbreviations TO 'Default'",
];
const APART: &str = "CREATE SCHEMA apart; CREATE TABLE apart.kept_people (name text, born date); \
     INSERT INTO apart.kept_people VALUES ('Ada', '1815-12-10'); ANALYZE apart.kept_people";

#[test]
fn p4_p5_postgresqls_regression_suite_gives_the_same_output_through_the_daemon_and_with_masks_elsewhere()
-> Result<()> {
    let suite = Suite::new()?;
    let scene = Scene::default()
        .allow_all()
        .server("max_prepared_transactions = 2")
        .daemon("durability = \"committed\"");
    suite.run(&scene.prepare()?, "direct")?;
    let host = scene.start()?;
    suite.run(&host, "through")?;
    suite.is_as_direct("through", &EXCEPTIONS, false)?;
    the_log_has_all_of_it(&host, &EXCEPTIONS)?;
    drop(host);
    let host = scene.target("credential = { user = \"postgres\" }").more(MASKS).start()?;
    suite.run(&host, "masked")?;
    let all = [&EXCEPTIONS[..], &WITH_MASKS[..]].concat();
    suite.is_as_direct("masked", &all, true)?;
    the_log_has_all_of_it(&host, &all)?;
    // The masks were there.
    let seen = host.agent(
        psql(&host)?.to_str().context("a path")?,
        &[
            "-X",
            "-At",
            "-h",
            &host.address().to_string(),
            "-U",
            "postgres",
            "-d",
            "regression",
            "-c",
            "SELECT name FROM apart.kept_people",
        ],
    )?;
    assert_eq!(seen.ok()?.trim(), "0");
    Ok(())
}

fn psql(host: &Host) -> Result<PathBuf> {
    let program = host.postgres().bin().join("psql");
    ensure!(program.exists(), "no psql beside the server");
    Ok(program)
}

/// Whether a file is what it should be: the same in both runs, but for the exceptions.
fn same(suite: &Suite, name: &Path, run: &str, all: &[Exception], masked: bool) -> Result<bool> {
    let read = |run: &str| fs::read(suite.folder(run).join("results").join(name));
    let (mut direct, through) = (read("direct")?, read(run)?);
    for (_, without, with) in SHOWN.iter().filter(|(file, ..)| masked && Path::new(file) == name) {
        let text = String::from_utf8(direct)?;
        ensure!(text.matches(without).count() == 1, "{}: {without}", name.display());
        direct = text.replace(without, with).into_bytes();
    }
    let exceptions: Vec<_> = all.iter().filter(|(file, ..)| Path::new(file) == name).collect();
    if exceptions.is_empty() {
        return Ok(direct == through);
    }
    let script = suite.folder("suite/sql").join(name).with_extension("sql");
    let sql = fs::read_to_string(script)?;
    let (direct, through) = (String::from_utf8(direct)?, String::from_utf8(through)?);
    let (direct, through) = (answers(&sql, &direct)?, answers(&sql, &through)?);
    let differ: Vec<_> = direct.iter().zip(&through).filter(|(one, other)| one != other).collect();
    let met = |answer: &str| differ.iter().filter(|(_, other)| other.1 == answer).count();
    Ok(exceptions.iter().all(|(_, answer, times)| met(answer) == *times)
        && exceptions.iter().map(|(.., times)| times).sum::<usize>() == differ.len())
}

/// Each line of a script with what psql, which shows the lines of its input, shows between it and
/// the next. It does not show data for COPY, and not every empty line.
fn answers<'a>(sql: &'a str, output: &str) -> Result<Vec<(&'a str, String)>> {
    let mut data = false;
    let shown = |line: &&str| {
        let was_data = data;
        data = if data { *line != "\\." } else { line.ends_with(" from stdin;") };
        !was_data && !line.trim().is_empty()
    };
    let mut lines = sql.lines().filter(shown).peekable();
    let mut found = vec![("", String::new())];
    for line in output.lines() {
        if lines.peek() == Some(&line) {
            found.extend(lines.next().map(|line| (line, String::new())));
        } else if let Some((_, answer)) = found.last_mut() {
            *answer += line;
            *answer += "\n";
        }
    }
    ensure!(lines.next().is_none(), "the output ends before its script");
    Ok(found)
}

fn the_log_has_all_of_it(host: &Host, exceptions: &[Exception]) -> Result<()> {
    for session in host.closed_sessions()? {
        assert_eq!(session["closed_by"], "agent", "{session}");
        assert!(session["detail"].is_null(), "{session}");
    }
    let rows = host.commands()?;
    assert!(rows.len() > 40_000, "{} commands", rows.len());
    let status = |row: &Value| row["status"].as_str().unwrap_or_default().to_owned();
    let known = |row: &&Value| ["ok", "error", "refused"].contains(&status(row).as_str());
    assert!(rows.iter().all(|row| known(&row)), "{:?}", rows.iter().find(|row| !known(row)));
    let refused: Vec<_> = rows.iter().filter(|row| status(row) == "refused").collect();
    let expected = exceptions.iter().filter(|(_, answer, _)| answer.contains("chaperone"));
    assert_eq!(refused.len(), expected.map(|(.., times)| times).sum::<usize>(), "{refused:#?}");
    for event in host.events()? {
        // Tests beside this one may try any port.
        let known = ["daemon-started", "no-note"].map(|kind| event["kind"] == kind);
        assert!(known.contains(&true), "{event}");
    }
    for counter in ["unrecorded", "client_violations", "server_violations"] {
        assert_eq!(host.counter(counter)?, 0, "{counter}");
    }
    assert!(!host.daemon_output().contains("panicked"), "{}", host.daemon_output());
    Ok(())
}

/// The suite in a folder that agent and server can both read. Its place is the same in both runs:
/// some outputs tell it.
struct Suite(TempDir);

impl Suite {
    fn new() -> Result<Self> {
        let cached = std::env::var_os("CHAPERONE_REGRESSION_SUITE").context(
            "CHAPERONE_REGRESSION_SUITE is not set: run the tests by `cargo xtask test`",
        )?;
        let folder = tempfile::Builder::new().prefix("chaperone-regression-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let suite = folder.path().join("suite");
        let copied = Command::new("cp").arg("-r").arg(cached).arg(&suite).status()?;
        ensure!(copied.success(), "the suite could not be copied");
        let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(&suite).status()?;
        ensure!(opened.success(), "the suite cannot be made readable");
        Ok(Self(folder))
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What came out of a run is what came out of the one without the daemon.
    fn is_as_direct(&self, run: &str, exceptions: &[Exception], masked: bool) -> Result<()> {
        let of = |run: &str| self.folder(run).join("results");
        let names = files(&of("direct"))?;
        ensure!(names == files(&of(run))?, "{run}: other files");
        let outputs =
            names.iter().filter(|name| name.extension().is_some_and(|e| e == "out")).count();
        let scripts = files(&self.folder("suite/sql"))?.len();
        ensure!(outputs == scripts, "one output for each file of the suite");
        let mut differ = Vec::new();
        for name in &names {
            if !same(self, name, run, exceptions, masked)? {
                differ.push(name);
                let files = [of("direct").join(name), of(run).join(name)];
                Command::new("diff").arg("-U3").args(files).status()?;
            }
        }
        ensure!(differ.is_empty(), "{run}: {differ:?}");
        Ok(())
    }

    /// Runs it as the agent, and keeps what came out in a folder of this name.
    fn run(&self, host: &Host, name: &str) -> Result<()> {
        for statement in DATABASE {
            host.postgres().sql(statement)?;
        }
        let address = host.address().to_string();
        let program = psql(host)?;
        let to = ["-X", "-q", "-h", &address, "-U", "postgres", "-d", "regression", "-c", APART];
        host.outside(program.to_str().context("a path")?, &to)?.ok()?;
        let bin = host.postgres().bin();
        let libraries = bin.parent().context("no folder of libraries")?.join("lib");
        let (suite, out, ours) = (self.folder("suite"), self.folder("out"), self.folder("lib"));
        if !ours.exists() {
            fs::create_dir(&ours)?;
            symlink(suite.join("regress.so"), ours.join("regress.so"))?;
            for library in ["autoinc.so", "refint.so"] {
                symlink(libraries.join(library), ours.join(library))?;
            }
        }
        // Both the agent and the server write here.
        for folder in [&out, &out.join("results")] {
            fs::create_dir(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
        }
        let driver = libraries.join("pgxs/src/test/regress/pg_regress");
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let options = [
            option("bindir", bin),
            option("inputdir", &suite),
            option("outputdir", &out),
            option("dlpath", &ours),
            option("schedule", &suite.join("parallel_schedule")),
            format!("--host={}", host.address()),
            "--port=5432".into(),
            "--user=postgres".into(),
            "--max-connections=20".into(),
            "--use-existing".into(),
        ];
        let mut arguments: Vec<&str> = options.iter().map(String::as_str).collect();
        arguments.extend(UNSCHEDULED);
        let driver = driver.to_str().context("a path")?;
        let finished = match name {
            "direct" => host.other(DIRECT, driver, &arguments)?,
            _ => host.agent(driver, &arguments)?,
        };
        // Where tests fail by the suite's own measure it answers 1: what counts here is whether
        // they do so in both runs.
        ensure!(matches!(finished.code, Some(0 | 1)), "{name}: {}{}", finished.out, finished.err);
        println!("{name}: {}", finished.out);
        let to = self.folder(name);
        fs::rename(&out, &to)?;
        Ok(())
    }
}

/// The names of what is in a folder.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    folder.read_dir()?.map(|entry| Ok(entry?.file_name().into())).collect()
}
