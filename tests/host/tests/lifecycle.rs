//! Starting, ending, crashing, and what stands in the way of it.

use std::{fs, net::TcpListener, thread, time::Duration};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};
use nix::sys::signal::Signal;

#[test]
fn p2_while_the_daemon_is_down_connections_are_refused_and_never_direct() -> Result<()> {
    let mut host = Scene::default().server("log_connections = on").start()?;
    host.psql(&["SELECT 1"])?.ok()?;
    let direct = || host_connections(&host);
    let before = direct();
    host.kill_daemon()?;
    let out = host.psql(&["SELECT 2"])?;
    assert!(out.err.contains("Connection refused"), "{}", out.err);
    assert_eq!(host_connections(&host), before, "the server saw nobody");
    // The next daemon takes over what is pinned.
    host.start_daemon()?;
    host.psql(&["SELECT 3"])?.ok()?;
    assert_eq!(host.statements()?, ["SELECT 1", "SELECT 3"]);
    // And so does one that follows an orderly end.
    assert_eq!(host.stop_daemon()?, Some(0));
    assert!(host.psql(&["SELECT 4"])?.err.contains("Connection refused"));
    host.start_daemon()?;
    host.psql(&["SELECT 5"])?.ok()?;
    Ok(())
}

fn host_connections(host: &Host) -> usize {
    host.postgres().log().matches("connection authorized").count()
}

#[test]
fn p1_a_killed_daemon_leaves_every_forwarded_command_in_the_log() -> Result<()> {
    let mut host = Host::start()?;
    let running = host.start_agent("psql", &["-X", "-c", "SELECT pg_sleep(60)"])?;
    wait_until("it sleeps", || host.counter("forwarded").is_ok_and(|n| n > 0))?;
    host.kill_daemon()?;
    let out = running.finish()?;
    assert!(out.err.contains("connection to server was lost"), "{}", out.err);
    host.start_daemon()?;
    let rows = host.commands()?;
    assert_eq!(rows[0]["statement"], "SELECT pg_sleep(60)");
    assert_eq!(rows[0]["status"], "unknown", "nobody can say what came of it");
    let session = host.closed_sessions()?.remove(0);
    assert_eq!(session["detail"], "the daemon ended before the session did");
    Ok(())
}

#[test]
fn a_shutdown_lets_running_statements_finish() -> Result<()> {
    let mut host = Host::start()?;
    let busy = host.start_agent(
        "psql",
        &["-X", "-At", "-c", "SELECT pg_sleep(2), 'finished'", "-c", "SELECT 'next'"],
    )?;
    let mut idle = host.start_agent("psql", &["-X", "-At"])?;
    idle.say("SELECT 'idle';")?;
    wait_until("both are there", || host.counter("forwarded").is_ok_and(|n| n >= 2))?;
    assert_eq!(host.stop_daemon()?, Some(0));
    // It came to its end: the second statement was sent as soon as the first was done.
    let out = busy.finish()?.ok()?;
    assert!(out.contains("finished") && out.contains("next"), "{out}");
    idle.say("SELECT 'after';")?;
    let out = idle.finish()?;
    assert!(out.err.contains("the daemon stops"), "{}", out.err);
    host.start_daemon()?;
    assert_eq!(host.statements()?.len(), 3);
    let rows = host.commands()?;
    assert!(rows.iter().all(|row| row["status"] == "ok"), "{rows:?}");
    let sessions = host.closed_sessions()?;
    let ended = sessions.iter().filter(|s| s["detail"] == "the daemon stopped");
    assert_eq!(ended.count(), 1, "{sessions:?}");
    Ok(())
}

#[test]
fn a_shutdown_lets_a_session_that_was_just_opened_come_to_its_command() -> Result<()> {
    let mut host = Scene::default().server("log_connections = on").start()?;
    let before = host_connections(&host);
    let mut late = host.start_agent("psql", &["-X", "-At"])?;
    wait_until("it is signed on", || host_connections(&host) > before)?;
    host.signal_daemon(Signal::SIGTERM);
    late.say("SELECT 'in time';")?;
    assert_eq!(late.hear()?, "in time");
    assert_eq!(host.stop_daemon()?, Some(0));
    late.say("SELECT 'after';")?;
    let out = late.finish()?;
    assert!(out.err.contains("the daemon stops"), "{}", out.err);
    Ok(())
}

#[test]
fn a_shutdown_ends_what_does_not_finish() -> Result<()> {
    let mut host = Scene::default().daemon("drain = \"1s\"").start()?;
    let busy = host.start_agent("psql", &["-X", "-c", "SELECT pg_sleep(60)"])?;
    wait_until("it sleeps", || host.counter("forwarded").is_ok_and(|n| n > 0))?;
    assert_eq!(host.stop_daemon()?, Some(0));
    assert!(busy.finish()?.err.contains("the daemon stops"));
    host.start_daemon()?;
    assert_eq!(host.commands()?[0]["status"], "unknown");
    Ok(())
}

#[test]
fn detaching_ends_interception_and_is_recorded() -> Result<()> {
    let mut host = Host::start()?;
    host.psql(&["SELECT 1"])?.ok()?;
    host.stop_daemon()?;
    let out = host.chaperone(&["daemon", "--detach"])?.ok()?;
    assert_eq!(out, "detached: connections are no longer intercepted");
    host.psql(&["SELECT 2"])?.ok()?;
    assert_eq!(host.statements()?, ["SELECT 1"]);
    assert!(host.events()?.iter().any(|event| event["kind"] == "detached"));
    let again = host.chaperone(&["daemon", "--detach"])?.ok()?;
    assert_eq!(again, "nothing was attached");
    Ok(())
}

#[test]
fn what_stands_in_the_way_of_a_start_is_told_in_one_sentence() -> Result<()> {
    let refused = |host: &mut Host| -> Result<String> {
        Ok(host.start_daemon().err().context("it started")?.to_string())
    };
    // A port that is taken.
    let mut host = Scene::default().without_postgres().prepare()?;
    let taken = TcpListener::bind(("127.0.0.1", host.port()))?;
    let said = refused(&mut host)?;
    assert!(said.contains(&format!("cannot listen on port {}", host.port())), "{said}");
    assert!(said.contains("Address already in use"), "{said}");
    drop(taken);

    let edit = |host: &Host, from: &str, to: &str| -> Result<()> {
        let text = fs::read_to_string(host.config())?;
        assert!(text.contains(from), "{text}");
        Ok(fs::write(host.config(), text.replace(from, to))?)
    };
    for (from, to, why) in [
        // A log folder that cannot be written.
        ("/log/log.sqlite", "/chaperone.toml/log.sqlite", "making the log's folder"),
        // A configuration that cannot be parsed, with its place.
        ("[daemon]", "[daemon", "chaperone.toml:1:"),
        ("[daemon]", "[deamon]", "did you mean `daemon`?"),
        // An attach point that is none.
        ("attach = \"", "attach = \"/nowhere", "cannot attach to /nowhere"),
        ("attach = \"/sys", "attach = \"/proc/../tmp/../sys/../tmp/x", "cannot attach to"),
        // Pins that are on no BPF file system.
        ("/bpf/chaperone", "/pins", "is not on a BPF file system"),
    ] {
        let mut host = Scene::default().without_postgres().prepare()?;
        edit(&host, from, to)?;
        let said = refused(&mut host)?;
        assert!(said.contains(why), "{to}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    Ok(())
}

#[test]
fn p2_nothing_is_left_attached_by_a_start_that_failed() -> Result<()> {
    let mut host = Host::start()?;
    host.stop_daemon()?;
    host.chaperone(&["daemon", "--detach"])?.ok()?;
    let taken = TcpListener::bind(("127.0.0.1", host.port()))?;
    assert!(host.start_daemon().is_err());
    drop(taken);
    host.psql(&["SELECT 'direct'"])?.ok()?;
    Ok(())
}

#[test]
fn a_second_daemon_is_refused() -> Result<()> {
    let host = Host::start()?;
    let out = host.chaperone(&["daemon"])?;
    assert_eq!(out.code, Some(1));
    assert!(out.err.contains("another daemon writes the log"), "{}", out.err);
    host.psql(&["SELECT 1"])?.ok()?;
    Ok(())
}

#[test]
fn check_doctor_status_and_sessions_answer() -> Result<()> {
    let mut host = Host::start()?;
    let out = host.chaperone(&["check"])?.ok()?;
    assert!(out.contains("is good: 1 agents, 1 targets"), "{out}");
    // The doctor looks at the host's own BPF file system, which a test leaves as it is.
    let out = host.chaperone(&["doctor"])?;
    for what in ["kernel types (BTF)", "cgroup v2", "attach point", "held by the running daemon"] {
        assert!(out.out.contains(what), "{}", out.out);
    }
    let running = host.start_agent("psql", &["-X", "-c", "SELECT pg_sleep(1)"])?;
    wait_until("it sleeps", || host.counter("forwarded").is_ok_and(|n| n > 0))?;
    let out = host.chaperone(&["sessions"])?.ok()?;
    assert!(out.contains("cleaner") && out.contains("postgres"), "{out}");
    let out = host.chaperone(&["status"])?.ok()?;
    assert!(out.contains("kernel_redirected") && out.contains("live sessions"), "{out}");
    running.finish()?;
    // An agent is not heard, even where the socket's mode lets it in.
    let socket = host.folder().join("run/control.sock");
    let code = format!(
        "import os\nos.chmod('{0}', 0o666); os.chmod('{1}', 0o755)",
        socket.display(),
        host.folder().join("run").display()
    );
    host.other(0, "/usr/bin/python3", &["-c", &code])?.ok()?;
    let code = format!(
        "import socket\ns = socket.socket(socket.AF_UNIX); s.connect('{}'); s.send(b'\"status\"\\n'); print(s.recv(1000))",
        socket.display()
    );
    let out = host.python(&code)?.ok()?;
    assert!(out.contains("may not ask"), "{out}");
    host.stop_daemon()?;
    let out = host.chaperone(&["status"])?;
    assert_eq!(out.code, Some(1));
    assert!(out.err.contains("is it running?"), "{}", out.err);
    Ok(())
}

#[test]
fn p2_too_many_sessions_are_refused_and_counted() -> Result<()> {
    let host = Scene::default().daemon("max_sessions = 1").start()?;
    let mut first = host.start_agent("psql", &["-X", "-At"])?;
    first.say("SELECT 1;")?;
    wait_until("it is there", || host.counter("forwarded").is_ok_and(|n| n > 0))?;
    let out = host.connect("sslmode=disable", &["SELECT 2"])?;
    assert_eq!(out.code, Some(2));
    let said = "FATAL:  chaperone has its 1 sessions, and takes no more";
    assert!(out.err.contains(said), "{}", out.err);
    assert_eq!(host.counter("too_many")?, 1);
    // Nobody waits for an event: it is written with what comes next, or a little later.
    wait_until("the event is there", || {
        let told = |event: &serde_json::Value| {
            event["kind"] == "too-many"
                && event["detail"].as_str().is_some_and(|d| d.contains("has its 1"))
        };
        host.events().is_ok_and(|events| events.iter().any(told))
    })?;
    first.finish()?.ok()?;
    host.closed_sessions()?;
    thread::sleep(Duration::from_millis(200));
    host.psql(&["SELECT 3"])?.ok()?;
    host.signal_daemon(Signal::SIGINT);
    Ok(())
}

#[test]
fn programs_that_are_attached_elsewhere_are_told_and_left_as_they_are() -> Result<()> {
    let mut host = Host::start()?;
    host.stop_daemon()?;
    let below = host.cgroup().join("below");
    fs::create_dir(&below)?;
    let text = fs::read_to_string(host.config())?;
    let place = host.cgroup().display().to_string();
    let moved = text
        .replace(&format!("attach = \"{place}\""), &format!("attach = \"{}\"", below.display()));
    fs::write(host.config(), moved)?;
    let said = host.start_daemon().err().context("it started")?.to_string();
    assert!(said.contains("are attached to another cgroup"), "{said}");
    assert!(said.contains("daemon --detach"), "{said}");
    assert!(
        host.psql(&["SELECT 1"])?.err.contains("Connection refused"),
        "still nothing goes round"
    );
    host.chaperone(&["daemon", "--detach"])?.ok()?;
    host.start_daemon()?;
    // Attached below, so that what runs above it is no longer taken.
    host.psql(&["SELECT 2"])?.ok()?;
    assert_eq!(host.statements()?, [""; 0]);
    Ok(())
}
