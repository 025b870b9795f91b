//! P4: PostgreSQL's own regression suite sees through the daemon what it sees without.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use chaperone_host_tests::{Host, Scene};
use tempfile::TempDir;

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
/// The only answers that may differ, all of them for [`REFUSAL`]'s reason: the file, the answer
/// through the daemon, and how often.
const EXCEPTIONS: [(&str, &str, usize); 3] =
    [("strings.out", REFUSAL, 8), ("plpgsql.out", REFUSAL, 2), ("plpgsql.out", NO_FUNCTION, 2)];

#[test]
fn p4_postgresqls_regression_suite_gives_the_same_output_through_the_daemon() -> Result<()> {
    let suite = Suite::new()?;
    let scene = Scene::default()
        .allow_all()
        .server("max_prepared_transactions = 2")
        .daemon("durability = \"committed\"");
    let direct = suite.run(&scene.prepare()?, "direct")?;
    let host = scene.start()?;
    let through = suite.run(&host, "through")?;
    let names = files(&direct)?;
    assert_eq!(names, files(&through)?);
    let outputs = names.iter().filter(|name| name.extension().is_some_and(|e| e == "out")).count();
    assert_eq!(outputs, files(&suite.folder("suite/sql"))?.len(), "one for each file of the suite");
    let mut differ = Vec::new();
    for name in &names {
        if !same(&suite, name)? {
            differ.push(name);
            Command::new("diff")
                .arg("-U3")
                .args([direct.join(name), through.join(name)])
                .status()?;
        }
    }
    assert!(differ.is_empty(), "{differ:?}");
    the_log_has_all_of_it(&host)
}

/// Whether a file is what it should be: the same in both runs, but for the exceptions.
fn same(suite: &Suite, name: &Path) -> Result<bool> {
    let read = |run: &str| fs::read(suite.folder(run).join("results").join(name));
    let (direct, through) = (read("direct")?, read("through")?);
    let exceptions: Vec<_> =
        EXCEPTIONS.iter().filter(|(file, ..)| Path::new(file) == name).collect();
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

fn the_log_has_all_of_it(host: &Host) -> Result<()> {
    for session in host.closed_sessions()? {
        assert_eq!(session["closed_by"], "agent", "{session}");
        assert!(session["detail"].is_null(), "{session}");
    }
    let rows = host.commands()?;
    assert!(rows.len() > 40_000, "{} commands", rows.len());
    let mut refused = 0;
    for row in &rows {
        match row["status"].as_str() {
            Some("ok" | "error") => {}
            Some("refused") => {
                refused += 1;
                assert!(row["statement"].as_str().is_some_and(|s| s.contains('\\')), "{row}");
            }
            _ => panic!("{row}"),
        }
    }
    let expected = EXCEPTIONS.iter().filter(|(_, answer, _)| *answer == REFUSAL);
    assert_eq!(refused, expected.map(|(.., times)| times).sum::<usize>());
    for event in host.events()? {
        assert_eq!(event["kind"], "daemon-started", "{event}");
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

    /// Runs it as the agent; answers the folder of what came out.
    fn run(&self, host: &Host, name: &str) -> Result<PathBuf> {
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
        ];
        let mut arguments: Vec<&str> = options.iter().map(String::as_str).collect();
        arguments.extend(UNSCHEDULED);
        let finished = host.agent(driver.to_str().context("a path")?, &arguments)?;
        // Where tests fail by the suite's own measure it answers 1: what counts here is whether
        // they do so in both runs.
        ensure!(matches!(finished.code, Some(0 | 1)), "{name}: {}{}", finished.out, finished.err);
        println!("{name}: {}", finished.out);
        let to = self.folder(name);
        fs::rename(&out, &to)?;
        Ok(to.join("results"))
    }
}

/// The names of what is in a folder.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    folder.read_dir()?.map(|entry| Ok(entry?.file_name().into())).collect()
}
