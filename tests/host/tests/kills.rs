//! The daemon is killed again and again while agents work.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::Duration,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Scene, wait_until};

const OTHER: u32 = 64_002;
const KILLS: u32 = 100;

/// Statements one after the other, each by a connection of its own, until there is a file. What psql
/// says goes to standard output, failures among it.
const WORK: &str = "n=0; while [ ! -e \"$0\" ]; do n=$((n + 1)); \
                    psql -X -q -At -c \"SELECT '$1', $n, pg_sleep(0.02)\" 2>&1; done";

/// What libpq and psql say of a connection that ended or was not made.
const UNDERSTOOD: [&str; 10] = [
    "server closed the connection unexpectedly",
    "This probably means the server terminated abnormally",
    "before or while processing the request.",
    "connection to server was lost",
    "SSL SYSCALL error: EOF detected",
    "SSL connection has been closed unexpectedly",
    "Connection refused",
    "Is the server running on that host and accepting TCP/IP connections?",
    "Connection reset by peer",
    "the daemon stops",
];

#[test]
fn p1_p2_p3_a_hundred_kills_let_nobody_through_and_mix_nobody_up() -> Result<()> {
    let scene = Scene::default().server("log_connections = on").other_agent("second", OTHER);
    let mut host = scene.held().start()?;
    let stop = host.folder().join("stop");
    let stop_name = stop.display().to_string();
    let work = |name| ["-c", WORK, &stop_name, name].map(str::to_owned);
    let mut working = Vec::new();
    for (uid, name) in [(host.uid(), "cleaner"), (OTHER, "second"), (OTHER, "second")] {
        let words = work(name);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        working.push((name, host.start_other(uid, "bash", &words)?));
    }
    for kill in 0..KILLS {
        // Every tenth lives until it has served, the others die at any point of their start.
        if kill % 10 == 0 {
            wait_until("it serves", || host.counter("forwarded").is_ok_and(|n| n >= 3))?;
        } else {
            thread::sleep(Duration::from_millis(u64::from(kill * 37 % 400)));
        }
        host.kill_daemon()?;
        host.spawn_daemon()?;
    }
    host.kill_daemon()?;
    fs::write(&stop, "")?;
    host.start_daemon()?;
    let mut served = BTreeMap::<String, usize>::new();
    let mut odd = BTreeSet::new();
    for (name, running) in working {
        let out = running.finish()?;
        for line in out.out.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(number) = line.strip_prefix(&format!("{name}|")) {
                let number = number.trim_end_matches('|');
                let statement = format!("SELECT '{name}', {number}, pg_sleep(0.02)");
                *served.entry(statement).or_default() += 1;
                continue;
            }
            if !UNDERSTOOD.iter().any(|known| line.contains(known)) {
                odd.insert(line.to_owned());
            }
        }
        assert_eq!(out.err, "");
    }
    assert!(odd.is_empty(), "{odd:#?}");
    let answered: usize = served.values().sum();
    assert!(answered >= KILLS as usize / 10, "only {answered} were served");
    // Each statement is its maker's, and each that was answered is in the log; how it ended is not
    // where the daemon was killed before it could say so.
    let rows = host.commands()?;
    for row in &rows {
        let statement = row["statement"].as_str().context("a statement")?;
        let agent = row["agent"].as_str().context("an agent")?;
        assert!(statement.starts_with(&format!("SELECT '{agent}',")), "{row}");
        let known = ["ok", "error", "unknown"];
        assert!(row["status"].as_str().is_some_and(|status| known.contains(&status)), "{row}");
    }
    for (statement, times) in &served {
        let found = rows.iter().filter(|row| row["statement"] == **statement).count();
        assert!(found >= *times, "{statement}: answered {times} times, recorded {found} times");
    }
    let done = rows.iter().filter(|row| row["status"] == "ok").count();
    assert!(done >= KILLS as usize / 10, "only {done} of {answered} ended");
    // The server never met an agent but by the daemon, which says who it is.
    let log = host.postgres().log();
    // Whether it is up is asked under another name.
    let of_agents = "connection authorized: user=postgres";
    let met: Vec<&str> = log.lines().filter(|line| line.contains(of_agents)).collect();
    assert!(!met.is_empty());
    for line in met {
        let by_daemon = ["cleaner", "second"]
            .iter()
            .any(|agent| line.contains(&format!("application_name={agent}")));
        assert!(by_daemon, "{line}");
    }
    Ok(())
}
