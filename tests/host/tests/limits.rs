//! How many sessions there are at a time: no agent takes what others need.

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Running, Scene, wait_until};

const REPORTER: u32 = 64_002;

/// A session that stays.
fn one(host: &Host, forwarded: u64) -> Result<Running> {
    let mut running = host.start_agent("psql", &["-X", "-At", "sslmode=disable"])?;
    running.say("SELECT 1;")?;
    wait_until("it is there", || host.counter("forwarded").is_ok_and(|n| n >= forwarded))?;
    Ok(running)
}

#[test]
fn p8_an_agent_has_only_its_part_of_the_sessions() -> Result<()> {
    let host = Scene::default()
        .daemon("max_sessions = 3\nmax_sessions_per_agent = 2")
        .other_agent("reporter", REPORTER)
        .start()?;
    let first = one(&host, 1)?;
    let second = one(&host, 2)?;
    let sessions = host.chaperone(&["sessions", "--json"])?.ok()?.lines().count();
    for mode in ["disable", "require"] {
        let out = host.connect(&format!("sslmode={mode}"), &["SELECT 1"])?;
        assert_eq!(out.code, Some(2), "{mode}: {}", out.out);
        let said = "FATAL:  agent cleaner has its 2 sessions, and chaperone takes no more";
        assert!(out.err.contains(said), "{mode}: {}", out.err);
        assert!(out.err.contains("HINT:  Close some first"), "{mode}: {}", out.err);
    }
    assert_eq!(host.counter("too_many_of_agent")?, 2);
    assert_eq!(host.counter("too_many")?, 0);
    let events = host.events()?;
    let event = events.iter().find(|event| event["kind"] == "too-many").context("an event")?;
    let detail = event["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("refused: agent cleaner has its 2 sessions"), "{detail}");
    let now = host.chaperone(&["sessions", "--json"])?.ok()?.lines().count();
    assert_eq!((sessions, now), (2, 2), "what is refused is no session");

    // Another agent has its place, and the one has it again.
    host.connect_as(REPORTER, "sslmode=disable", &["SELECT 2"])?.ok()?;
    second.finish()?.ok()?;
    wait_until("its place is free", || {
        host.connect("sslmode=disable", &["SELECT 3"]).is_ok_and(|out| out.code == Some(0))
    })?;
    first.finish()?.ok()?;
    Ok(())
}

#[test]
fn p8_an_agent_that_is_refused_again_and_again_is_in_nobodys_way() -> Result<()> {
    let host = Scene::default()
        .daemon("max_sessions = 8\nmax_sessions_per_agent = 1")
        .other_agent("reporter", REPORTER)
        .start()?;
    // They say nothing, and stay as long as they are let. Some are reset at once.
    let code = r#"
import os, socket, sys
held = []
for _ in range(200):
    try: held.append(socket.create_connection((os.environ["PGHOST"], 5432), timeout=20))
    except ConnectionError: pass
sys.stdin.readline()
"#;
    let mut silent = host.start_agent("/usr/bin/python3", &["-c", code])?;
    wait_until("they are refused", || host.counter("too_many_of_agent").is_ok_and(|n| n == 199))?;
    assert_eq!(host.counter("too_many")?, 0);
    host.connect_as(REPORTER, "sslmode=disable", &["SELECT 2"])?.ok()?;
    silent.say("go")?;
    silent.finish()?;
    Ok(())
}
