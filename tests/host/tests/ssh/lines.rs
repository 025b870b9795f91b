//! P1, P2: what a command line does is read before it is decided, and rules speak of its programs.

use std::fs;

use anyhow::{Context as _, Result};
use chaperone_host_tests::{Finished, wait_until};
use serde_json::Value;

use super::{Ssh, UID, writable};

const DENY: &str = "[[rule]]\nname = \"no\"\nwhen = { class = \"destructive\" }\nthen = \"deny\"\n";

/// A folder of the server's with a file that is to stay.
fn folder(ssh: &Ssh) -> Result<(String, std::path::PathBuf)> {
    let folder = ssh.host.folder().join("files");
    fs::create_dir(&folder)?;
    writable(&folder)?;
    let kept = folder.join("kept");
    fs::write(&kept, "kept\n")?;
    Ok((folder.display().to_string(), kept))
}

#[test]
fn p2_what_reads_passes_and_what_removes_does_not_however_it_is_written() -> Result<()> {
    let ssh = Ssh::start(DENY)?;
    let (at, kept) = folder(&ssh)?;
    for (line, out) in [
        ("echo in".to_owned(), "in\n"),
        (format!("cat {at}/kept | wc -l"), "1\n"),
        (format!("sh -c 'cd {at} && ls'"), "kept\n"),
        ("cat <<'END'\n$(rm x)\nEND\n".to_owned(), "$(rm x)\n"),
        (format!("find {at} -name kept -exec cat {{}} +"), "kept\n"),
        (format!("echo written > {at}/new && cat {at}/new"), "written\n"),
    ] {
        let done = ssh.ssh(&[&line])?;
        assert_eq!((done.out.as_str(), done.code), (out, Some(0)), "{line}: {done:?}");
    }
    for line in [
        "rm -rf KEPT",
        "r''m KEPT",
        "r\\m KEPT",
        "$'\\x72m' KEPT",
        "{rm,-f,KEPT}",
        "/bin/rm KEPT",
        "ls; rm KEPT",
        "ls\nrm KEPT",
        "echo $(rm KEPT)",
        "echo `rm KEPT`",
        "x=rm; $x KEPT",
        "sudo rm KEPT",
        "env X=1 rm KEPT",
        "sh -c 'rm KEPT'",
        "sh -c \"sh -c 'rm KEPT'\"",
        "echo KEPT | xargs rm",
        "find KEPT -delete",
        "sh <<END\nrm KEPT\nEND",
        "echo 'rm KEPT' | sh",
        "eval 'rm KEPT'",
        "nohup rm KEPT &",
        "python3 -c 'import os; os.remove(\"KEPT\")'",
        "f() { rm KEPT; }; f",
        "ls > /dev/null || rm KEPT; false && rm KEPT",
        "rm KEPT '",
    ] {
        let line = line.replace("KEPT", &kept.display().to_string());
        let done = ssh.ssh(&[&line])?;
        assert_eq!(done.code, Some(126), "{line}: {done:?}");
        assert!(done.err.contains("is destructive: "), "{line}: {done:?}");
        assert!(kept.exists(), "{line}");
    }
    // A script on its standard input is as good as a shell.
    let place = ssh.place();
    let mut args = ssh.options();
    args.extend(["-p", "2222", &place, "bash -s"].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let script = format!("rm {}\n", kept.display());
    let done = ssh.host.other_with(UID, "ssh", &args, &script)?;
    assert_eq!(done.code, Some(126), "{done:?}");
    assert!(kept.exists());
    Ok(())
}

#[test]
fn p7_the_log_says_which_programs_a_line_runs_and_why() -> Result<()> {
    let ssh = Ssh::start(DENY)?;
    ssh.ssh(&["sudo -u web sh -c 'ls /srv; rm -rf /srv/x'"])?;
    let record = ssh.commands("exec", 1)?.swap_remove(0);
    assert_eq!((&record["class"], &record["status"]), (&"destructive".into(), &"refused".into()));
    let summary = match &record["summary"] {
        Value::String(text) => serde_json::from_str(text)?,
        other => other.clone(),
    };
    let programs: Vec<&Value> = summary["statements"]
        .as_array()
        .context("statements")?
        .iter()
        .map(|s| &s["program"])
        .collect();
    assert_eq!(programs, ["sudo", "sh", "ls", "rm"]);
    let rm = &summary["statements"][3];
    assert_eq!((&rm["reason"], &rm["within"][1]), (&"it removes files".into(), &"sh -c".into()));
    assert!(record.to_string().contains("EXEC `rm` is destructive: it removes files."), "{record}");
    ssh.ssh(&["ls /srv"])?;
    ssh.commands("exec", 2)?;
    let shown = ssh.host.chaperone(&["log", "show", &record["id"].to_string()])?.ok()?;
    assert!(shown.contains("it removes files"), "{shown}");
    for (program, count) in [("rm", 1), ("ls", 2), ("r", 0)] {
        let found = ssh.host.chaperone(&["log", "search", "--program", program, "--json"])?.ok()?;
        assert_eq!(found.lines().count(), count, "{program}: {found}");
    }
    Ok(())
}

#[test]
fn p2_rules_speak_of_programs_and_their_words() -> Result<()> {
    let ssh = Ssh::start(
        "[[rule]]\nname = \"no cats\"\nwhen = { program = \"cat\", argument = \"*kept\" }\nthen = \"deny\"\n",
    )?;
    let (at, kept) = folder(&ssh)?;
    fs::write(format!("{at}/other"), "other\n")?;
    let kept = kept.display().to_string();
    for (line, passes) in [
        (format!("cat {at}/other"), true),
        (format!("wc -l {kept}"), true),
        (format!("cat {kept}"), false),
        (format!("env X=1 cat {kept}"), false),
        (format!("echo $(cat {at}/'ke'pt)"), false),
        (format!("cat {at}/k*"), false),
        (format!("echo {kept} | xargs cat"), false),
        (format!("sh -c 'cat {kept}'"), false),
        (format!("echo 'cat {kept}' | sh"), false),
        ("./unknown".to_owned(), false),
    ] {
        let done = ssh.ssh(&[&line])?;
        assert_eq!(done.code == Some(0), passes, "{line}: {done:?}");
        assert!(passes || done.err.contains("no cats"), "{line}: {done:?}");
    }
    // What is allowed alone.
    let known = "host_keys = [\"{folder}/ssh/known\"]\ndefault = \"deny\"";
    let ssh = Ssh::with(
        known,
        "[[rule]]\nname = \"a few\"\nwhen = { program = [\"echo\", \"wc\", \"sh\"] }\nthen = \"allow\"\n",
    )?;
    for (line, passes) in [
        ("echo a | wc -l", true),
        ("sh -c 'echo a'", true),
        ("echo a; id", false),
        ("echo $(id)", false),
        ("sh -c 'id'", false),
        ("echo id | sh", false),
        ("sh -c \"$X\"", false),
        ("/tmp/echo a", false),
        ("echo 'a", false),
    ] {
        let done = ssh.ssh(&[line])?;
        assert_eq!(done.code == Some(0), passes, "{line}: {done:?}");
    }
    Ok(())
}

#[test]
fn p2_files_of_a_line_count_for_rules_with_a_path() -> Result<()> {
    let ssh =
        Ssh::start("[[rule]]\nname = \"kept\"\nwhen = { path = \"*/kept\" }\nthen = \"deny\"\n")?;
    let (at, kept) = folder(&ssh)?;
    let ok =
        Ssh::start("[[rule]]\nname = \"etc\"\nwhen = { path = \"/etc/*\" }\nthen = \"deny\"\n")?;
    for (line, passes) in [
        ("echo in".to_owned(), true),
        (format!("cat < {}", kept.display()), false),
        (format!("echo x > {at}/kept"), false),
        // What begins with a star may be anywhere below.
        (format!("cat {at}/other"), false),
    ] {
        let done = ssh.ssh(&[&line])?;
        assert_eq!(done.code == Some(0), passes, "{line}: {done:?}");
    }
    assert_eq!(fs::read_to_string(&kept)?, "kept\n");
    for (line, passes) in [
        (format!("cat {}", kept.display()), true),
        ("cat /etc/hostname".to_owned(), false),
        ("cat ../etc/hostname".to_owned(), false),
        ("cd /etc && cat hostname".to_owned(), false),
        ("ls -R / > /dev/null".to_owned(), false),
    ] {
        let done = ok.ssh(&[&line])?;
        assert_eq!(done.code == Some(0), passes, "{line}: {done:?}");
    }
    Ok(())
}

#[test]
fn p2_a_line_that_is_no_text_is_read_by_its_bytes() -> Result<()> {
    let ssh = Ssh::start(DENY)?;
    let (_, kept) = folder(&ssh)?;
    // The client is given the bytes by a program that can write them.
    let run = |line: &str| {
        let program = r#"
import os, sys
line = sys.argv[1].encode().decode("unicode_escape").encode("latin-1")
os.execvp("ssh", [os.fsencode(a) for a in sys.argv[2:]] + [line])
"#;
        let place = ssh.place();
        let mut args = vec!["-c".to_owned(), program.to_owned(), line.to_owned(), "ssh".to_owned()];
        args.extend(ssh.options());
        args.extend(["-p".to_owned(), "2222".to_owned(), place]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        ssh.host.other(UID, "/usr/bin/python3", &args)
    };
    let done = run("echo \\xff | wc -c")?;
    assert_eq!(done.out, "2\n", "{done:?}");
    for line in [format!("rm \\xff {}", kept.display()), format!("r\\xffm; rm {}", kept.display())]
    {
        let done = run(&line)?;
        assert_eq!(done.code, Some(126), "{line}: {done:?}");
        assert!(kept.exists());
    }
    Ok(())
}

#[test]
fn p1_a_server_for_sftp_that_a_line_starts_is_read_as_one() -> Result<()> {
    let ssh = Ssh::start(
        "[[rule]]\nname = \"nothing goes\"\nwhen = { kind = \"SFTP REMOVE\" }\nthen = \"deny\"\n",
    )?;
    let (at, kept) = folder(&ssh)?;
    let batch = ssh.host.folder().join("batch");
    fs::write(&batch, format!("-rm {at}/kept\nget {at}/kept {at}/back\n"))?;
    let place = ssh.place();
    // A path instead of a name makes sftp(1) run it as a command.
    let server = "/usr/lib/openssh/sftp-server";
    let batch = batch.display().to_string();
    let done = ssh.agent("sftp", &["-P", "2222", "-b", &batch, "-s", server, &place])?;
    assert_eq!(done.code, Some(0), "{done:?}\n{}", ssh.host.daemon_output());
    assert!(kept.exists());
    assert_eq!(fs::read_to_string(format!("{at}/back"))?, "kept\n");
    let commands = ssh.commands("sftp", 2)?;
    assert!(commands.iter().any(|one| one["rule"] == "nothing goes"), "{commands:?}");
    assert_eq!(ssh.commands("exec", 1)?[0]["class"], "read");
    Ok(())
}

#[test]
fn p2_a_shell_in_a_terminal_is_one_however_it_is_started() -> Result<()> {
    let ssh = Ssh::start("")?;
    for line in ["bash", "sudo -i", "sh -c \"$X\""] {
        let done = ssh.ssh(&["-tt", "--", line])?;
        assert_eq!(done.code, Some(126), "{line}: {done:?}");
        assert!(done.err.contains("SHELL"), "{line}: {done:?}");
    }
    let done = ssh.ssh(&["-tt", "--", "echo in"])?;
    assert_eq!((done.code, done.out.trim()), (Some(0), "in"), "{done:?}");
    let record = ssh.commands("exec", 4)?;
    let record = ssh.host.command(&record[3]["id"])?;
    assert!(record.to_string().contains("terminal"), "{record}");
    Ok(())
}

#[test]
fn p2_a_variable_that_the_client_sets_can_make_a_line_another() -> Result<()> {
    let ssh = Ssh::start(DENY)?;
    let set = ["-o", "SetEnv=TOLD=x", "--", "echo in"];
    let done = ssh.ssh(&set)?;
    assert_eq!(done.code, Some(126), "{done:?}");
    assert!(done.err.contains("the variable `TOLD`"), "{done:?}");
    let done = ssh.ssh(&["-o", "SetEnv=LC_TIME=C", "--", "echo in"])?;
    assert_eq!(done.out, "in\n", "{done:?}");
    Ok(())
}

#[test]
fn p1_an_approver_sees_what_a_line_runs() -> Result<()> {
    let ssh = Ssh::start(
        "[[rule]]\nname = \"ask\"\nwhen = { program = \"rm\" }\nthen = \"hold\"\napprovers = [\"user:root\"]\n",
    )?;
    let (_, kept) = folder(&ssh)?;
    let line = format!("echo now; sh -c 'rm {}'", kept.display());
    let place = ssh.place();
    let mut args = ssh.options();
    args.extend(["-p", "2222", &place, &line].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let agent = ssh.host.start_other(UID, "ssh", &args)?;
    let mut id = String::new();
    wait_until("the command to wait", || {
        let out = ssh.host.chaperone(&["holds", "--json"]).and_then(Finished::ok);
        let hold: Option<Value> =
            out.ok().and_then(|out| serde_json::from_str(out.lines().next()?).ok());
        id = hold.map_or_else(String::new, |hold| hold["id"].to_string());
        !id.is_empty()
    })?;
    let shown = ssh.host.chaperone(&["holds", &id])?.ok()?;
    assert!(shown.contains(&format!("rm {} (by sh -c)", kept.display())), "{shown}");
    assert!(shown.contains("it removes files"), "{shown}");
    assert!(kept.exists());
    ssh.host.chaperone(&["approve", &id])?.ok()?;
    let done = agent.finish()?;
    assert_eq!((done.code, done.out.as_str()), (Some(0), "now\n"), "{done:?}");
    assert!(!kept.exists());
    Ok(())
}

#[test]
fn policy_test_says_what_would_happen_to_a_line() -> Result<()> {
    let ssh = Ssh::start(&format!(
        "{DENY}[[rule]]\nname = \"no db\"\nwhen = {{ program = \"systemctl\", argument = \"postgresql\" }}\nthen = \"deny\"\n"
    ))?;
    let test = |args: &[&str]| {
        let mut all = vec!["policy", "test", "--agent", "cleaner", "--target", "web"];
        all.extend(args);
        ssh.host.chaperone(&all)
    };
    let done = test(&["rm -rf /srv"])?;
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.out.contains("deny: no\n"), "{done:?}");
    assert!(done.out.contains("rm -rf /srv is run"), "{done:?}");
    let done = test(&["systemctl restart postgresql"])?;
    assert!(done.out.contains("deny: no db\n"), "{done:?}");
    assert_eq!(test(&["ls /srv | wc -l"])?.code, Some(0));
    assert_eq!(test(&["--kind", "shell"])?.code, Some(3));
    assert_eq!(test(&["--kind", "sftp"])?.code, Some(0));
    assert_eq!(test(&["--kind", "forward", "db:5432"])?.code, Some(3));
    let done = test(&["--terminal", "bash", "--json"])?;
    let tested: Value = serde_json::from_str(&done.out)?;
    assert_eq!(tested["verdict"], "deny");
    let done = test(&["--kind", "forward", "db"])?;
    assert!(done.err.contains("host:port"), "{done:?}");
    // And what other rules would have said of lines that were run.
    for line in ["ls /", "rm -f /srv/none", "mv a b"] {
        ssh.ssh(&[line])?;
    }
    ssh.commands("exec", 3)?;
    let draft = ssh.host.folder().join("draft.toml");
    let rules = fs::read_to_string(ssh.host.config())?;
    fs::write(&draft, rules.replace("class = \"destructive\"", "program = \"mv\""))?;
    let draft = draft.display().to_string();
    let out = ssh.host.chaperone(&["policy", "replay", "--draft", &draft, "--json"])?.ok()?;
    let changed: Vec<Value> = out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(changed.len(), 1, "{out}");
    assert_eq!(
        (&changed[0]["statement"], &changed[0]["would_be"]),
        (&"rm -f /srv/none".into(), &"allow".into())
    );
    Ok(())
}

#[test]
fn p8_a_line_that_takes_a_reader_along_costs_itself_alone() -> Result<()> {
    let ssh = Ssh::start(DENY)?;
    let long = format!("echo {}", "a".repeat(100_000));
    let deep = format!("echo {}{}", "$(echo ".repeat(60), ")".repeat(60));
    let many = "ls;".repeat(5000);
    for line in [&deep, &many, &"(".repeat(10_000), &"{a,".repeat(2000)] {
        let done = ssh.ssh(&[line])?;
        assert_eq!(done.code, Some(126), "{}: {done:?}", line.get(..20).unwrap_or_default());
    }
    let done = ssh.ssh(&[&long])?;
    assert_eq!((done.code, done.out.len()), (Some(0), 100_001));
    assert_eq!(ssh.ssh(&["echo still"])?.out, "still\n");
    let peak = ssh.host.daemon_peak_kib()?;
    assert!(peak < 256 * 1024, "{peak} KiB");
    Ok(())
}
