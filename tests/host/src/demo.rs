//! The demo: an agent's unmodified psql and Python driver are recorded, and the log is shown as an
//! auditor sees it. Ends well only where every statement that ran is in the log.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail, ensure};
use chaperone_host_tests::{Host, Scene};

const PYTHON: &str = r#"
import psycopg
with psycopg.connect("") as db:
    for name, total in [("ada", 120), ("grace", 80)]:
        db.execute("INSERT INTO orders (customer, total) VALUES (%s, %s)", (name, total))
    print("python: orders above 100:", db.execute(
        "SELECT customer, total FROM orders WHERE total > %s", (100,)).fetchall())
    try:
        db.execute("SELECT * FROM salaries")
    except psycopg.errors.UndefinedTable as error:
        print("python: refused by the server:", error.diag.message_primary)
"#;

fn main() -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    // The children get the terminal's Ctrl-C as well and end; what they leave is cleaned up here.
    let handler = ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst));
    let result = handler.context("no handler for Ctrl-C").and_then(|()| demo(&interrupted));
    match result {
        _ if interrupted.load(Ordering::SeqCst) => {
            say("interrupted; everything was cleaned up");
            ExitCode::from(130)
        }
        Ok(()) => {
            say("every statement that ran is in the log; everything was cleaned up");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn demo(interrupted: &AtomicBool) -> Result<()> {
    let go_on = || -> Result<()> {
        ensure!(!interrupted.load(Ordering::SeqCst), "interrupted");
        Ok(())
    };
    step("a PostgreSQL server of its own starts, as if it were far away");
    // The server's own log is the witness: it names every statement that it ran.
    let host = Scene::default()
        .leave_nothing()
        .server("log_statement = 'all'\nlog_line_prefix = '%a|'\nlog_min_duration_statement = -1")
        .start()?;
    go_on()?;
    say(&format!(
        "server at {}:5432, agent is user id {}, its cgroup is {}",
        host.address(),
        host.uid(),
        host.cgroup().display()
    ));

    step("chaperone's configuration");
    print(&std::fs::read_to_string(host.config())?);

    step("the agent runs psql, which was told nothing but the server's address");
    let out = host.psql(&[
        "CREATE TABLE orders (id serial PRIMARY KEY, customer text, total int)",
        "INSERT INTO orders (customer, total) VALUES ('alan', 300)",
        "SELECT customer, total FROM orders",
    ])?;
    print(&out.ok()?);
    go_on()?;

    step("the agent runs a Python program with psycopg");
    print(&host.python(PYTHON)?.ok()?);
    go_on()?;

    step("what the auditor sees: chaperone log");
    let recorded = host.commands()?;
    print(&host.chaperone(&["log"])?.ok()?);
    step("one command in full: chaperone log show");
    let selected = recorded
        .iter()
        .find(|row| {
            row["statement"]
                .as_str()
                .is_some_and(|s| s.starts_with("SELECT customer, total FROM orders WHERE"))
        })
        .context("the Python program's query is not in the log")?;
    print(&host.chaperone(&["log", "show", &selected["id"].to_string()])?.ok()?);
    step("the same log in the plain sqlite3 shell");
    let file = format!("file:{}?mode=ro", host.log().display());
    let sql = "SELECT agent, executable, count(*) FROM commands GROUP BY 1, 2";
    let output =
        std::process::Command::new("sqlite3").args(["-header", "-column", &file, sql]).output()?;
    print(&String::from_utf8_lossy(&output.stdout));

    step("does the log hold what the server ran?");
    let (ran, logged) = (ran(&host), logged(&recorded));
    for (statement, count) in &ran {
        let found = logged.get(statement).copied().unwrap_or(0);
        if found != *count {
            bail!("the server ran {statement:?} {count} times, and the log has it {found} times");
        }
        say(&format!("{count} × {statement}"));
    }
    ensure!(ran.len() >= 6, "the server's log is too short to be a witness: {ran:?}");
    Ok(())
}

/// Statements that the server says it ran, and how often.
fn ran(host: &Host) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for line in host.postgres().log().lines() {
        let text = line.split_once("LOG:  statement: ").map(|(_, text)| text).or_else(|| {
            // `LOG:  execute <unnamed>: SELECT …`
            line.split_once("LOG:  execute ")
                .and_then(|(_, rest)| rest.split_once(": "))
                .map(|(_, text)| text)
        });
        if let Some(text) = text {
            *found.entry(text.to_owned()).or_insert(0) += 1;
        }
    }
    found
}

fn logged(rows: &[serde_json::Value]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for row in rows.iter().filter(|row| row["kind"] != "prepare") {
        if let Some(text) = row["statement"].as_str() {
            *found.entry(text.to_owned()).or_insert(0) += 1;
        }
    }
    found
}

fn step(what: &str) {
    print(&format!("\n── {what}"));
}

fn say(what: &str) {
    print(&format!("   {what}"));
}

fn print(text: &str) {
    println!("{}", text.trim_end());
}

#[expect(clippy::print_stderr, reason = "the demo's own complaint")]
fn complain(error: &anyhow::Error) {
    eprintln!("the demo failed: {error:#}");
}
