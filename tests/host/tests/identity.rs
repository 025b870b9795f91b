//! P3: who it was, on the kernel's word, whatever the agent does to be taken for another.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, compile_agent, sha256, wait_for, wait_until};
use serde_json::Value;

/// A user who is no agent.
const STRANGER: u32 = 64_010;

fn agent(host: &Host, name: &str) -> Result<PathBuf> {
    compile_agent(&host.folder().join(name), name)
}

/// Runs the agent in C, and answers its one command's row.
fn row_of(host: &Host, program: &Path, steps: &[&str]) -> Result<Value> {
    let address = host.address().to_string();
    let args: Vec<&str> = std::iter::once(address.as_str()).chain(steps.iter().copied()).collect();
    host.agent(&program.display().to_string(), &args)?.ok()?;
    host.commands()?.pop().context("no command")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn session(host: &Host, row: &Value) -> Result<Value> {
    Ok(host.command(&row["id"])?["session"].clone())
}

fn write(path: &Path, content: &str, mode: u32) -> Result<()> {
    fs::write(path, content)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[test]
fn p3_a_program_is_known_by_its_hash_and_its_process() -> Result<()> {
    let host = Host::start()?;
    let program = agent(&host, "direct")?;
    let row = row_of(&host, &program, &["connect", "query=SELECT %p"])?;
    assert_eq!(text(&row["executable"]), program.display().to_string());
    assert_eq!(text(&row["binary"]), sha256(&program)?);
    assert_eq!(row["statement"], format!("SELECT {}", row["pid"]));
    assert_eq!(row["agent"], "cleaner");
    assert_eq!(row["doubts"], Value::Null);
    let session = session(&host, &row)?;
    let line = format!("{} {} connect query=SELECT %p", program.display(), host.address());
    assert_eq!(text(&session["command_line"]), line);
    assert_eq!(session["folder"], "/");
    assert!(text(&session["run"]).contains('.'), "{session}");
    // It began as the harness's shell, which became the agent by setpriv.
    assert_eq!(text(&row["lineage"]).rsplit(" → ").next(), Some("direct"));
    Ok(())
}

#[test]
fn p3_a_thread_is_its_process() -> Result<()> {
    let host = Host::start()?;
    let program = agent(&host, "threads")?;
    let row = row_of(&host, &program, &["thread", "connect", "query=SELECT %p"])?;
    assert_eq!(row["statement"], format!("SELECT {}", row["pid"]));
    Ok(())
}

#[test]
fn p3_lineage_reaches_up_to_the_agents_first_process() -> Result<()> {
    let host = Host::start()?;
    let program = agent(&host, "tool")?;
    let script = host.folder().join("agent.py");
    let source = format!(
        "#!/usr/bin/python3\nimport subprocess\nsubprocess.run(['/bin/bash', '-c', \
         '{} {} connect query=SELECT%p; true'], check=True)\n",
        program.display(),
        host.address()
    );
    write(&script, &source.replace("SELECT%p", "'\"SELECT %p\"'"), 0o755)?;
    host.agent(&script.display().to_string(), &[])?.ok()?;
    let row = host.commands()?.pop().context("no command")?;
    assert!(text(&row["lineage"]).ends_with("agent.py → bash → tool"), "{row}");
    // Each of them is a row of its own, with its program.
    let processes = sql(
        &host,
        "SELECT coalesce(script, executable) || ' ' || coalesce(script_digest, binary) FROM processes ORDER BY id",
    )?;
    assert!(
        processes.contains(&format!("{} {}", script.display(), sha256(&script)?)),
        "{processes:?}"
    );
    assert!(processes.contains(&format!("{} {}", program.display(), sha256(&program)?)));
    let bash = fs::canonicalize("/bin/bash")?;
    assert!(processes.contains(&format!("{} {}", bash.display(), sha256(&bash)?)), "{processes:?}");
    Ok(())
}

#[test]
fn p3_a_double_fork_whose_parents_are_gone_keeps_its_lineage() -> Result<()> {
    let host = Host::start()?;
    let (first, second) = (agent(&host, "first")?, agent(&host, "second")?);
    let address = host.address().to_string();
    let exec = format!("exec={}", second.display());
    // Nobody waits for the orphan: the log tells when it is done.
    host.agent(
        &first.display().to_string(),
        &[&address, "orphan", &exec, "connect", "query=SELECT %p"],
    )?;
    wait_until("it is there", || host.commands().is_ok_and(|rows| !rows.is_empty()))?;
    let row = host.commands()?.pop().context("no command")?;
    assert!(text(&row["lineage"]).ends_with("first → second"), "{row}");
    assert_eq!(text(&row["binary"]), sha256(&second)?);
    assert_eq!(row["statement"], format!("SELECT {}", row["pid"]));
    Ok(())
}

#[test]
fn p3_an_exec_with_the_connection_kept_is_told_and_may_end_the_session() -> Result<()> {
    for (answer, ends) in [("mark", false), ("refuse", true)] {
        let host = Scene::default().agent(&format!("doubt = {{ exec = \"{answer}\" }}")).start()?;
        let (first, second) = (agent(&host, "first")?, agent(&host, "second")?);
        let exec = format!("exec={}", second.display());
        let address = host.address().to_string();
        let out = host.agent(
            &first.display().to_string(),
            &[&address, "connect", "query=SELECT 'before'", &exec, "query=SELECT 'after'"],
        )?;
        assert_eq!(out.code == Some(0), !ends, "{answer}: {out:?}");
        assert_eq!(out.err.contains("runs"), ends, "{}", out.err);
        let rows = host.commands()?;
        assert_eq!(rows.len(), if ends { 1 } else { 2 }, "{answer}: {rows:?}");
        // Who connected is who is recorded, and the log says what came after.
        assert_eq!(text(&rows[0]["binary"]), sha256(&first)?);
        let closed = host.closed_sessions()?.pop().context("a session")?;
        assert_eq!(closed["closed_by"], if ends { "daemon" } else { "agent" });
        let said = format!("the process runs {} since it opened the connection", second.display());
        let events = host.events()?;
        let told = events.iter().filter(|e| e["kind"] == "doubt" && e["detail"] == said.as_str());
        assert_eq!(told.count(), 1, "{events:?}");
    }
    Ok(())
}

#[test]
fn p3_a_process_that_becomes_another_user_is_still_the_agents() -> Result<()> {
    let host = Host::start()?;
    let program = agent(&host, "changes")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
    let set = format!("setuid={STRANGER}");
    let row = row_of(&host, &program, &[&set, "connect", "query=SELECT 1"])?;
    assert_eq!(row["agent"], "cleaner");
    assert_eq!(row["uid"], STRANGER);
    // And what it starts from there is, too.
    let exec = format!("exec={}", program.display());
    let row = row_of(&host, &program, &[&set, "fork", &exec, "connect", "query=SELECT 2"])?;
    assert_eq!((&row["agent"], &row["uid"]), (&"cleaner".into(), &STRANGER.into()));
    // The user as such is nobody's.
    host.other(STRANGER, "psql", &["-X", "-c", "SELECT 'direct'"])?.ok()?;
    assert_eq!(host.commands()?.len(), 2);
    Ok(())
}

#[test]
fn p3_subordinate_users_are_the_accounts() -> Result<()> {
    let host =
        Scene::default().etc("subuid", "64001:710000:65536\nsomebody:900000:65536\n").start()?;
    for (uid, is) in [(710_000, true), (775_535, true), (775_536, false), (900_000, false)] {
        host.other(uid, "psql", &["-X", "-c", &format!("SELECT {uid}")])?.ok()?;
        let found =
            host.commands()?.iter().any(|row| row["uid"] == uid && row["agent"] == "cleaner");
        assert_eq!(found, is, "{uid}");
    }
    Ok(())
}

#[test]
fn p3_a_process_that_becomes_the_agents_user_without_an_exec_is_known() -> Result<()> {
    let host = Host::start()?;
    // As a service that begins as root and forks workers.
    let code = format!(
        "import os, psycopg\nif os.fork() == 0:\n    os.setgid({0}); os.setuid({0})\n    \
         psycopg.connect('', autocommit=True).execute('SELECT 1'); os._exit(0)\nos.wait()\n",
        host.uid()
    );
    let script = host.folder().join("service.py");
    write(&script, &code, 0o755)?;
    host.other(0, "/usr/bin/python3", &[&script.display().to_string()])?.ok()?;
    let row = host.commands()?.pop().context("no command")?;
    let python = fs::canonicalize("/usr/bin/python3")?;
    assert_eq!(text(&row["executable"]), python.display().to_string());
    assert_eq!(text(&row["binary"]), sha256(&python)?);
    assert_eq!(text(&row["script"]), script.display().to_string());
    assert_eq!(row["uid"], host.uid());
    Ok(())
}

#[test]
fn p3_a_process_that_is_moved_to_another_cgroup_is_still_the_agents() -> Result<()> {
    let host = Scene::default().select("{ cgroup = \"/{cgroup}/agents\" }").start()?;
    let (inside, outside) = (host.cgroup().join("agents"), host.cgroup().join("others"));
    // It comes into scope as it is made.
    fs::create_dir(&inside)?;
    fs::create_dir(&outside)?;
    let program = agent(&host, "moves")?;
    let address = host.address().to_string();
    // The shell goes over by itself: groups are the agent's own here.
    for file in [&inside, &outside] {
        let procs = file.join("cgroup.procs");
        chown(&procs, Some(host.uid()), None)?;
    }
    chown(host.cgroup().join("cgroup.procs"), Some(host.uid()), None)?;
    let go = format!(
        "echo $$ > {}/cgroup.procs && exec {} {address} connect 'query=SELECT 1'",
        outside.display(),
        program.display()
    );
    host.agent_in(&inside, host.uid(), "/bin/sh", &["-c", &go])?.ok()?;
    let row = host.commands()?.pop().context("no command")?;
    assert_eq!(row["agent"], "cleaner");
    let session = session(&host, &row)?;
    assert!(text(&session["cgroup"]).ends_with("/others"), "{session}");
    // Who begins there is nobody's.
    host.agent_in(&outside, host.uid(), "psql", &["-X", "-c", "SELECT 'direct'"])?.ok()?;
    assert_eq!(host.commands()?.len(), 1);
    Ok(())
}

#[test]
fn p3_a_units_first_process_is_in_scope_from_its_first_moment() -> Result<()> {
    let unit = format!("cleaner{}.service", std::process::id());
    let host = Scene::default().select(&format!("{{ unit = \"{unit}\" }}")).start()?;
    let program = agent(&host, "starts")?;
    let address = host.address().to_string();
    let run = |cgroup: &Path| {
        host.agent_in(
            cgroup,
            STRANGER,
            &program.display().to_string(),
            &[&address, "connect", "query=SELECT 1"],
        )
    };
    // Twice, as a service that is started again: another group under the same name.
    for round in 1..=2 {
        let group = host.cgroup().join(&unit);
        fs::create_dir(&group)?;
        run(&group)?.ok()?;
        wait_until("the group is empty", || fs::remove_dir(&group).is_ok())?;
        let rows = host.commands()?;
        assert_eq!(rows.len(), round);
        assert_eq!(session(&host, &rows[round - 1])?["unit"], unit.as_str());
    }
    // In a slice below, too; but not where somebody else than the service manager makes groups.
    let slice = host.cgroup().join("inner.slice");
    fs::create_dir(&slice)?;
    fs::create_dir(slice.join(&unit))?;
    run(&slice.join(&unit))?.ok()?;
    assert_eq!(host.commands()?.len(), 3);
    let users = host.cgroup().join("user@1.service");
    fs::create_dir(&users)?;
    fs::create_dir(users.join(&unit))?;
    run(&users.join(&unit))?.ok()?;
    assert_eq!(host.commands()?.len(), 3, "a user's own group of that name is no unit");
    Ok(())
}

#[test]
fn p3_a_run_is_what_the_service_manager_calls_it() -> Result<()> {
    let unit = format!("named{}.service", std::process::id());
    let host = Scene::default().select(&format!("{{ unit = \"{unit}\" }}")).start()?;
    let group = host.cgroup().join(&unit);
    fs::create_dir(&group)?;
    let program = agent(&host, "named")?;
    let address = host.address().to_string();
    // What systemd notes on a unit's group, and what a login leaves in a process.
    let note = |invocation: &str| -> Result<()> {
        let code = "import os, sys; os.setxattr(sys.argv[1], 'trusted.invocation_id', sys.argv[2].encode())";
        let status = Command::new("/usr/bin/python3")
            .args(["-c", code, &group.display().to_string(), invocation])
            .status()?;
        anyhow::ensure!(status.success(), "the group takes no note");
        Ok(())
    };
    let runs = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"];
    for run in runs {
        note(run)?;
        let inner = format!(
            "echo {STRANGER} > /proc/self/loginuid; exec {} {address} connect 'query=SELECT 1'",
            program.display()
        );
        host.agent_in(&group, 0, "/bin/sh", &["-c", &inner])?.ok()?;
        let row = host.commands()?.pop().context("no command")?;
        assert_eq!(row["run"], run);
        let session = session(&host, &row)?;
        assert_eq!(
            (text(&session["unit"]), &session["login_uid"]),
            (unit.as_str(), &STRANGER.into())
        );
    }
    assert_eq!(sql(&host, "SELECT run FROM runs ORDER BY id")?, runs);
    Ok(())
}

#[test]
fn p8_a_new_program_that_takes_long_to_hash_holds_up_nobody() -> Result<()> {
    let host = Host::start()?;
    let (small, large) = (agent(&host, "small")?, agent(&host, "large")?);
    row_of(&host, &small, &["connect", "query=SELECT 'known'"])?;
    // A program does not mind what stands behind it.
    fs::OpenOptions::new().write(true).open(&large)?.set_len(3 << 29)?;
    let address = host.address().to_string();
    let slow = host
        .start_agent(&large.display().to_string(), &[&address, "connect", "query=SELECT 'slow'"])?;
    wait_until("it waits", || host.counter("accepted").is_ok_and(|count| count == 2))?;
    row_of(&host, &small, &["connect", "query=SELECT 'quick'"])?;
    slow.finish()?.ok()?;
    let rows = host.commands()?;
    let texts: Vec<_> = rows.iter().map(|row| text(&row["statement"])).collect();
    assert_eq!(texts, ["SELECT 'known'", "SELECT 'quick'", "SELECT 'slow'"]);
    assert_eq!(text(&rows[2]["binary"]), sha256(&large)?);
    Ok(())
}

#[test]
fn p3_another_name_and_command_line_deceive_nobody() -> Result<()> {
    let host = Host::start()?;
    let program = agent(&host, "disguised")?;
    let row = row_of(&host, &program, &["disguise", "connect", "query=SELECT 1"])?;
    let session = session(&host, &row)?;
    assert_eq!(session["comm"], "postgres", "what it says of itself is kept as that");
    assert_eq!(text(&row["executable"]), program.display().to_string());
    assert_eq!(text(&row["binary"]), sha256(&program)?);
    assert!(text(&session["command_line"]).contains("disguise"), "as it was at the exec");
    Ok(())
}

#[test]
fn p3_a_binary_that_is_replaced_while_it_runs_is_the_one_that_runs() -> Result<()> {
    let host = Host::start()?;
    let program = agent(&host, "old")?;
    let old = sha256(&program)?;
    let address = host.address().to_string();
    let path = program.display().to_string();
    let mut running =
        host.start_agent(&path, &[&address, "wait", "connect", "query=SELECT 'old'"])?;
    wait_until("it runs", || {
        fs::read_link(format!("/proc/{}/exe", running.id())).is_ok_and(|exe| exe == program)
    })?;
    let replacement = agent(&host, "new")?;
    fs::rename(&replacement, &program)?;
    running.say("go")?;
    running.finish()?.ok()?;
    let row = host.commands()?.pop().context("no command")?;
    assert_eq!(text(&row["binary"]), old);
    // The same path, another inode.
    let row = row_of(&host, &program, &["connect", "query=SELECT 'new'"])?;
    assert_eq!(text(&row["binary"]), sha256(&program)?);
    assert_ne!(text(&row["binary"]), old);
    Ok(())
}

#[test]
fn p3_scripts_are_known_however_they_are_started() -> Result<()> {
    let host = Host::start()?;
    let folder = host.folder().display().to_string();
    let python = "#!/usr/bin/python3\nimport psycopg\npsycopg.connect('', autocommit=True).execute('SELECT 1')\n";
    let bash = "#!/bin/bash\npsql -X -c 'SELECT 1'\ntrue\n";
    let node = "require('child_process').execFileSync('psql', ['-X', '-c', 'SELECT 1']);\n";
    for (name, source) in [("a.py", python), ("b.sh", bash), ("c.js", node)] {
        write(&host.folder().join(name), source, 0o755)?;
    }
    for (name, program, args) in [
        ("a.py", format!("{folder}/a.py"), vec![]),
        ("a.py", "/usr/bin/python3".into(), vec!["-u".into(), format!("{folder}/a.py")]),
        ("a.py", "/bin/sh".into(), vec!["-c".into(), format!("cd {folder} && ./a.py; true")]),
        ("b.sh", format!("{folder}/b.sh"), vec![]),
        ("b.sh", "bash".into(), vec!["-e".into(), format!("{folder}/b.sh")]),
        ("c.js", "node".into(), vec![format!("{folder}/c.js")]),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        host.agent(&program, &args)?.ok()?;
        let row = host.commands()?.pop().context("no command")?;
        let path = host.folder().join(name);
        let lineage = text(&row["lineage"]).to_owned();
        assert!(lineage.contains(name), "{program}: {lineage}");
        let known = sql(
            &host,
            &format!(
                "SELECT DISTINCT script_digest FROM processes WHERE script = '{}'",
                path.display()
            ),
        )?;
        assert_eq!(known, [sha256(&path)?], "{program} {args:?}");
        // What stands above it is code on a command line once.
        let inline = program == "/bin/sh";
        assert_eq!(text(&row["doubts"]).contains("no file holds"), inline, "{row}");
        assert!(inline || row["doubts"].is_null(), "{row}");
    }
    Ok(())
}

#[test]
fn p3_a_script_that_is_changed_after_it_started_is_doubted() -> Result<()> {
    for (answer, refused) in [("mark", false), ("refuse", true)] {
        let host =
            Scene::default().agent(&format!("doubt = {{ script = \"{answer}\" }}")).start()?;
        let script = host.folder().join("agent.py");
        write(
            &script,
            "import sys, psycopg\nsys.stdin.readline()\npsycopg.connect('', autocommit=True).execute('SELECT 1')\n",
            0o755,
        )?;
        let path = script.display().to_string();
        let mut running = host.start_agent("/usr/bin/python3", &[&path])?;
        let seen = format!("/proc/{}/cmdline", running.id());
        wait_until("it runs", || {
            fs::read_to_string(&seen).is_ok_and(|line| line.starts_with("/usr/bin/python3"))
        })?;
        // What is changed within a tick of the kernel's clock passes for what was started.
        thread::sleep(Duration::from_millis(100));
        let text_now = fs::read_to_string(&script)?;
        write(&script, &format!("{text_now}# and now it is innocent\n"), 0o755)?;
        running.say("go")?;
        let out = running.finish()?;
        assert_eq!(out.code == Some(0), !refused, "{answer}: {out:?}");
        let sessions = host.closed_sessions()?;
        let doubt = format!("{path} was changed or removed after it was started");
        assert!(text(&sessions[0]["doubts"]).contains(&doubt), "{sessions:?}");
        assert_eq!(out.err.contains(&doubt), refused, "{}", out.err);
        assert!(
            host.events()?.iter().any(|e| e["kind"] == "doubt" && e["detail"] == doubt.as_str())
        );
        assert_eq!(host.commands()?.len(), usize::from(!refused));
    }
    Ok(())
}

#[test]
fn p3_code_that_no_file_holds_is_doubted() -> Result<()> {
    for (answer, refused) in [("mark", false), ("refuse", true)] {
        let host =
            Scene::default().agent(&format!("doubt = {{ inline = \"{answer}\" }}")).start()?;
        let decoy = host.folder().join("agent.py");
        write(&decoy, "", 0o755)?;
        let code = "import psycopg; psycopg.connect('', autocommit=True).execute('SELECT 1')";
        let glued = format!("-c{code}");
        // What stands behind it is not taken for what runs.
        let out = host.agent("/usr/bin/python3", &[&glued, &decoy.display().to_string()])?;
        assert_eq!(out.code == Some(0), !refused, "{out:?}");
        let session = host.closed_sessions()?.pop().context("a session")?;
        assert!(text(&session["doubts"]).contains("runs code that no file holds"), "{session}");
        assert_eq!(session["script"], Value::Null);
        assert_eq!(out.err.contains("runs code that no file holds"), refused, "{}", out.err);
    }
    Ok(())
}

#[test]
fn p3_two_versions_of_an_agent_at_once_are_told_apart() -> Result<()> {
    let mut host = Scene::default().prepare()?;
    let (old, new) = (agent(&host, "old")?, agent(&host, "new")?);
    let config = fs::read_to_string(host.config())?;
    let version = format!(
        "version = {{ sha256 = {{ \"{}\" = \"1.4.2\", \"{}\" = \"2.0.0\" }} }}\nversions = \">=1, <2\"\n\
         doubt = {{ version = \"mark\" }}\n\n[[target]]",
        sha256(&old)?,
        sha256(&new)?
    );
    fs::write(host.config(), config.replacen("[[target]]", &version, 1))?;
    host.start_daemon()?;
    let address = host.address().to_string();
    let start = |program: &Path, text: &str| {
        let query = format!("query=SELECT '{text}'");
        host.start_agent(&program.display().to_string(), &[&address, "connect", "wait", &query])
    };
    let (mut first, mut second) = (start(&old, "old")?, start(&new, "new")?);
    first.say("go")?;
    second.say("go")?;
    first.finish()?.ok()?;
    second.finish()?.ok()?;
    let said = |version: &str| {
        sql(
            &host,
            &format!(
                "SELECT statement FROM commands WHERE agent = 'cleaner' AND agent_version = '{version}'"
            ),
        )
    };
    assert_eq!(said("1.4.2")?, ["SELECT 'old'"]);
    assert_eq!(said("2.0.0")?, ["SELECT 'new'"]);
    let doubts = sql(&host, "SELECT DISTINCT doubts FROM commands WHERE doubts IS NOT NULL")?;
    assert_eq!(doubts, [r#"["version 2.0.0 is not allowed"]"#]);
    let runs = sql(&host, "SELECT DISTINCT run FROM runs WHERE sessions > 0")?;
    assert_eq!(runs.len(), 2, "{runs:?}");
    Ok(())
}

#[test]
fn p3_two_agents_of_one_account_are_told_apart_by_their_programs() -> Result<()> {
    let mut host = Scene::default().prepare()?;
    let (known, other) = (agent(&host, "known")?, agent(&host, "other")?);
    let config = fs::read_to_string(host.config())?;
    let select =
        format!("select = {{ user = {}, programs = [\"{}\"] }}", host.uid(), sha256(&known)?);
    fs::write(
        host.config(),
        config.replacen(&format!("select = {{ user = {} }}", host.uid()), &select, 1),
    )?;
    host.start_daemon()?;
    let row = row_of(&host, &known, &["connect", "query=SELECT 1"])?;
    assert_eq!(row["agent"], "cleaner");
    let address = host.address().to_string();
    let out = host.agent(&other.display().to_string(), &[&address, "connect"])?;
    assert!(out.err.contains("no agent of the configuration runs these programs"), "{}", out.err);
    Ok(())
}

#[test]
fn p2_p3_an_unenrolled_program_is_refused_with_its_hash_until_it_is_enrolled() -> Result<()> {
    let host = Scene::default().agent("binaries = \"enrolled\"").start()?;
    let program = agent(&host, "tool")?;
    let path = program.display().to_string();
    let address = host.address().to_string();
    let run = || host.agent(&path, &[&address, "connect", "query=SELECT 1"]);
    let out = run()?;
    // What started it is not enrolled either; the agent is told of the first.
    assert!(out.err.contains("C28000"), "{}", out.err);
    assert!(out.err.contains("is not enrolled (SHA-256 "), "{}", out.err);
    assert!(out.err.contains("chaperone agents enroll cleaner /"), "{}", out.err);
    assert_eq!(host.commands()?.len(), 0);
    let doubts = text(&host.closed_sessions()?[0]["doubts"]).to_owned();
    assert!(doubts.contains(&sha256(&program)?), "{doubts}");
    // Everything that was seen of it.
    let out = host.chaperone(&["agents", "enroll", "cleaner"])?.ok()?;
    assert!(out.contains(&path), "{out}");
    wait_until("the daemon reads the list", || run().is_ok_and(|out| out.code == Some(0)))?;
    assert_eq!(host.chaperone(&["agents", "diff"])?.code, Some(0));
    // Another program under the same name.
    agent(&host, "evil")?;
    fs::rename(host.folder().join("evil"), &program)?;
    let out = run()?;
    assert!(
        out.err.contains(&format!("{path} is not enrolled (SHA-256 {})", sha256(&program)?)),
        "{}",
        out.err
    );
    let out = host.chaperone(&["agents", "diff"])?;
    assert_eq!(out.code, Some(3));
    assert!(out.out.contains(&path) && out.out.contains("changed"), "{}", out.out);
    host.chaperone(&["agents", "enroll", "cleaner", &path])?.ok()?;
    wait_until("the daemon reads the list", || run().is_ok_and(|out| out.code == Some(0)))?;
    let out = host.chaperone(&["agents"])?.ok()?;
    assert!(out.contains("cleaner") && out.contains(&path), "{out}");
    Ok(())
}

#[test]
fn p2_p3_every_program_and_script_above_must_be_enrolled() -> Result<()> {
    let host = Scene::default().agent("binaries = \"enrolled\"").start()?;
    let psql = host.postgres().bin().join("psql").display().to_string();
    let script = |name: &str, text: String| -> Result<String> {
        let path = host.folder().join(name);
        write(&path, &text, 0o755)?;
        Ok(path.display().to_string())
    };
    let good = script("good.sh", format!("#!/bin/bash\nexec {psql} -X -c 'SELECT 1'\n"))?;
    let run = |path: &str| host.agent(path, &[]);
    // Debian's own psql is a script, too, and gone when the client that it becomes connects.
    for program in ["psql", good.as_str()] {
        let out = host.agent(program, &["-X", "-c", "SELECT 1"])?;
        assert!(out.err.contains("is not enrolled"), "{program}: {}", out.err);
    }
    host.chaperone(&["agents", "enroll", "cleaner"])?.ok()?;
    wait_until("the daemon reads the list", || run(&good).is_ok_and(|out| out.code == Some(0)))?;
    host.agent("psql", &["-X", "-c", "SELECT 2"])?.ok()?;
    // All of these become an enrolled client, and were none before.
    for (name, text) in [
        ("evil.sh", format!("#!/bin/bash\nexec {psql} -X -c 'SELECT 666'\n")),
        ("evil2.sh", format!("#!/bin/bash -e\n({psql} -X -c 'SELECT 666')\n")),
        (
            "evil.py",
            format!(
                "#!/usr/bin/python3\nimport os\nos.execv('{psql}', ['psql', '-X', '-c', 'SELECT 666'])\n"
            ),
        ),
    ] {
        let path = script(name, text)?;
        let out = run(&path)?;
        assert!(out.err.contains("is not enrolled"), "{name}: {}", out.err);
        let session = host.closed_sessions()?.pop().context("a session")?;
        let hash = sha256(Path::new(&path))?;
        assert!(
            text_has(&session["doubts"], &path) && text_has(&session["doubts"], &hash),
            "{session}"
        );
    }
    let statements = host.statements()?;
    assert!(!statements.iter().any(|statement| statement.contains("666")), "{statements:?}");
    // What runs is told apart from what was executed.
    let bash = fs::canonicalize("/bin/bash")?;
    let rows = sql(
        &host,
        &format!(
            "SELECT DISTINCT binary || ' ' || script_digest FROM processes WHERE script = '{good}'"
        ),
    )?;
    assert_eq!(rows, [format!("{} {}", sha256(&bash)?, sha256(Path::new(&good))?)]);
    Ok(())
}

fn text_has(value: &Value, part: &str) -> bool {
    text(value).contains(part)
}

#[test]
fn p3_programs_of_any_name_are_known() -> Result<()> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let host = Host::start()?;
    let program = agent(&host, "plain")?;
    let odd = host.folder().join(OsStr::from_bytes(b"w\xff odd"));
    fs::copy(&program, &odd)?;
    let link = host.folder().join("link");
    std::os::unix::fs::symlink(&odd, &link)?;
    let row = row_of(&host, &link, &["connect", "query=SELECT 1"])?;
    assert_eq!(text(&row["binary"]), sha256(&program)?);
    Ok(())
}

#[test]
fn p3_an_agent_that_runs_already_is_known_with_what_it_started() -> Result<()> {
    let mut host = Scene::default().prepare()?;
    let program = agent(&host, "early")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
    let address = host.address().to_string();
    let set = format!("setuid={STRANGER}");
    let path = program.display().to_string();
    // Of the agent's account no longer, and known by what forked it.
    let mut running =
        host.start_agent(&path, &[&address, "fork", &set, "wait", "connect", "query=SELECT 1"])?;
    wait_until("it is another user", || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.id()));
        children.is_ok_and(|children| {
            let status = fs::read_to_string(format!("/proc/{}/status", children.trim()));
            status.is_ok_and(|status| status.contains(&format!("Uid:\t{STRANGER}\t{STRANGER}")))
        })
    })?;
    host.start_daemon()?;
    running.say("go")?;
    running.finish()?.ok()?;
    let row = host.commands()?.pop().context("no command")?;
    assert_eq!((&row["agent"], &row["uid"]), (&"cleaner".into(), &STRANGER.into()));
    assert_eq!(text(&row["binary"]), sha256(&program)?);
    assert!(text(&row["lineage"]).ends_with("early → early"), "{row}");
    Ok(())
}

#[test]
fn p3_scope_is_inherited_also_while_the_daemon_is_down() -> Result<()> {
    let mut host = Host::start()?;
    let program = agent(&host, "later")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
    host.kill_daemon()?;
    let address = host.address().to_string();
    let (set, exec) = (format!("setuid={STRANGER}"), format!("exec={}", program.display()));
    let path = program.display().to_string();
    let steps = [&address, "fork", &set, &exec, "wait", "connect", "query=SELECT %p"];
    let mut running = host.start_agent(&path, &steps)?;
    // Nothing goes round meanwhile.
    let out = host.agent(&path, &[&address, &set, "connect"])?;
    assert!(out.err.contains("Connection refused"), "{}", out.err);
    host.start_daemon()?;
    running.say("go")?;
    running.finish()?.ok()?;
    let row = host.commands()?.pop().context("no command")?;
    assert_eq!((&row["agent"], &row["uid"]), (&"cleaner".into(), &STRANGER.into()));
    assert_eq!(row["statement"], format!("SELECT {}", row["pid"]));
    Ok(())
}

#[test]
fn p3_five_thousand_short_lives_are_all_told_apart() -> Result<()> {
    let host = Scene::default().daemon("durability = \"committed\"").start()?;
    let (one, two) = (agent(&host, "one")?, agent(&host, "two")?);
    let address = host.address().to_string();
    let script = format!(
        "seq 2500 | xargs -P 4 -I% sh -c '{} {address} connect \"query=SELECT $$, 1\"; \
         exec {} {address} connect \"query=SELECT $$, 2\"'",
        one.display(),
        two.display()
    );
    host.agent("bash", &["-c", &script])?.ok()?;
    let rows = host.commands()?;
    assert_eq!(rows.len(), 5000);
    assert_eq!(host.closed_sessions()?.len(), 5000);
    let (one, two) = (sha256(&one)?, sha256(&two)?);
    let mut processes = HashSet::new();
    for row in &rows {
        let statement = text(&row["statement"]);
        let (shell, number) = statement
            .strip_prefix("SELECT ")
            .and_then(|rest| rest.split_once(", "))
            .context("a statement")?;
        // The first is the shell's child, the second is the shell's own process.
        let (binary, name) = if number == "1" { (&one, "one") } else { (&two, "two") };
        assert_eq!(text(&row["binary"]), binary, "{row}");
        assert!(text(&row["lineage"]).ends_with(&format!("xargs → dash → {name}")), "{row}");
        let pid = row["pid"].to_string();
        assert_eq!(pid == shell, number == "2", "{row}");
        assert!(processes.insert((pid, number.to_owned(), shell.to_owned())));
    }
    assert_eq!(host.counter("stale_note")? + host.counter("no_note")?, 0);
    assert_eq!(host.counter("kernel_events_lost")?, 0);
    Ok(())
}

#[test]
fn p3_process_ids_that_are_used_again_are_not_mixed_up() -> Result<()> {
    let outside = fs::read_to_string("/proc/sys/kernel/pid_max")?;
    let host = Scene::default().daemon("durability = \"committed\"").start()?;
    let program = agent(&host, "again")?;
    let address = host.address().to_string();
    // A pid namespace of its own with room for few: the ids in it come round several times.
    let inner = format!(
        "echo 400 > /proc/sys/kernel/pid_max && exec setpriv --reuid={uid} --regid={uid} --clear-groups \
         bash -c 'for n in $(seq 500); do {program} {address} connect \"query=SELECT %p, $n\"; done; true'",
        uid = host.uid(),
        program = program.display(),
    );
    host.other(0, "unshare", &["--pid", "--fork", "--mount-proc", "bash", "-c", &inner])?.ok()?;
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/pid_max")?,
        outside,
        "it was the namespace's own"
    );
    let rows = host.commands()?;
    assert_eq!(rows.len(), 500);
    let inside: Vec<&str> =
        rows.iter().map(|row| text(&row["statement"]).split(',').next().unwrap_or("")).collect();
    let distinct: HashSet<_> = inside.iter().collect();
    assert!(distinct.len() < 500, "no id was used again");
    let processes = sql(&host, "SELECT DISTINCT process FROM sessions")?;
    assert_eq!(processes.len(), 500, "each is a process of its own");
    assert!(
        rows.iter().all(|row| text(&row["lineage"]).ends_with("bash → again")),
        "{}",
        rows[499]
    );
    Ok(())
}

#[test]
fn p3_what_is_lost_in_a_flood_is_counted_told_and_repaired() -> Result<()> {
    let host = Host::start()?;
    let program = agent(&host, "after")?;
    let address = host.address().to_string();
    // The daemon does not read, and the kernel has room for some four thousand execs.
    host.signal_daemon(nix::sys::signal::Signal::SIGSTOP);
    let flood = "for n in $(seq 6000); do /bin/true; done; exec \"$@\"";
    let path = program.display().to_string();
    let mut running = host.start_agent(
        "bash",
        &["-c", flood, "bash", &path, &address, "wait", "connect", "query=SELECT %p"],
    )?;
    wait_for("the flood is over", Duration::from_mins(2), || {
        fs::read_link(format!("/proc/{}/exe", running.id())).is_ok_and(|exe| exe == program)
    })?;
    host.signal_daemon(nix::sys::signal::Signal::SIGCONT);
    wait_until("it is told", || {
        host.events().is_ok_and(|events| events.iter().any(|e| e["kind"] == "processes-lost"))
    })?;
    assert!(host.counter("kernel_events_lost")? > 0);
    running.say("go")?;
    running.finish()?.ok()?;
    let row = host.commands()?.pop().context("no command")?;
    assert_eq!(text(&row["binary"]), sha256(&program)?);
    assert_eq!(text(&row["executable"]), path);
    assert_eq!(row["statement"], format!("SELECT {}", row["pid"]));
    Ok(())
}

#[test]
fn p3_versions_come_from_where_the_configuration_says() -> Result<()> {
    for (version, text_of, source) in [
        ("\"3.1\"", Some("3.1"), Some("configuration")),
        ("{ file = \"{folder}/VERSION\" }", Some("1.4.2"), Some("file")),
        ("{ package = \"bash\" }", None, Some("package")),
        ("{ env = \"AGENT_VERSION\" }", Some("9.9"), Some("said")),
    ] {
        let mut host = Scene::default().prepare()?;
        write(&host.folder().join("VERSION"), "1.4.2\n", 0o644)?;
        let config = fs::read_to_string(host.config())?;
        let version = version.replace("{folder}", &host.folder().display().to_string());
        let line = format!("version = {version}\n\n[[target]]");
        fs::write(host.config(), config.replacen("[[target]]", &line, 1))?;
        host.start_daemon()?;
        let program = agent(&host, "versioned")?;
        let address = host.address().to_string();
        let inner = format!("{} {address} connect 'query=SELECT 1'; true", program.display());
        host.agent("env", &["AGENT_VERSION=9.9", "bash", "-c", &inner])?.ok()?;
        let found = sql(&host, "SELECT agent_version || '|' || version_source FROM runs")?;
        let (found, by) = found[0].split_once('|').context("a version")?;
        assert_eq!(Some(by), source);
        let expected = if let Some(expected) = text_of {
            expected.to_owned()
        } else {
            let output =
                Command::new("dpkg-query").args(["-W", "-f=${Version}", "bash"]).output()?;
            String::from_utf8(output.stdout)?
        };
        assert_eq!(found, expected);
    }
    Ok(())
}

/// Asks the log as an auditor does; one column.
fn sql(host: &Host, text: &str) -> Result<Vec<String>> {
    host.commands()?;
    let file = format!("file:{}?mode=ro", host.log().display());
    let output = Command::new("sqlite3").args([&file, text]).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
