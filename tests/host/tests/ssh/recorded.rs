//! P5 and P7 over SSH: what programs say is masked on its way and in the log, and terminals are recorded
//! so that they can be played again.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Ssh, UID, Way, words};

const MASK: &str = "[[mask]]\nname = \"keys\"\ndetect = [\"aws-key-id\", \"email\", \"card\"]\n\
    with = \"constant\"\ntext = \"(masked)\"";
const SHELLS: &str = "[[rule]]\nname = \"shells\"\nwhen = { kind = [\"SHELL\"] }\nthen = \"allow\"";

#[test]
fn p5_a_secret_that_a_program_says_in_two_pieces_does_not_leave() -> Result<()> {
    let ssh = Ssh::start(MASK)?;
    for (line, out, err) in [
        ("a=ann; echo write to $a@example.com now", "write to (masked) now\n", ""),
        ("a=ann; echo $a@example.com >&2", "", "(masked)\n"),
        ("printf 'ann@exa'; sleep 0.3; printf 'mple.com\\n'", "(masked)\n", ""),
        ("printf '41111111'; sleep 0.4; printf '11111111'", "(masked)", ""),
        ("printf 'no end of line'; exit 3", "no end of line", ""),
        ("printf 'a question? '; head -c 3", "a question? yes", ""),
        ("a=ann; cat; echo $a@example.com | tee /dev/stderr", "yes (masked)\n", "(masked)\n"),
    ] {
        let done = ssh.client(Way::Through, &[], &[line], "yes ")?;
        assert_eq!((done.out.as_str(), done.err.as_str()), (out, err), "{line}: {done:?}");
    }
    // What it says is counted, and nowhere in the log.
    let commands = ssh.commands("exec", 7)?;
    let masked: Vec<_> = commands.iter().map(|one| one["masked"].to_string()).collect();
    assert_eq!(masked[4], "null", "{masked:?}");
    assert!(masked[0].contains("keys") && masked[0].contains('1'), "{masked:?}");
    assert!(masked[6].contains('2'), "{masked:?}");
    for one in &commands {
        let whole = ssh.host.command(&one["id"])?.to_string();
        assert!(
            !whole.contains("ann@example.com") && !whole.contains("4111111111111111"),
            "{whole}"
        );
    }
    for file in ssh.host.log_files()? {
        let bytes = fs::read(&file).unwrap_or_default();
        let has = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!has(b"ann@example.com"), "{}", file.display());
    }
    // Nor what an agent writes into a command line, or gives to a program.
    let done =
        ssh.client(Way::Through, &[], &["cat >/dev/null; : bob@example.com"], "carl@example.com")?;
    assert_eq!(done.code, Some(0), "{done:?}");
    let last = ssh.commands("exec", 8)?.pop().context("the last")?;
    assert_eq!(last["statement"], "cat >/dev/null; : (masked)");
    let whole = ssh.host.command(&last["id"])?;
    assert!(!whole["parts"].to_string().contains("example.com"), "{whole}");
    // A lot of it, and nothing that is masked, is the same.
    let line = "head -c 30000000 /dev/zero | tr '\\0' 'x' | sha256sum; seq 1000000 | sha256sum; seq 300000";
    let done = ssh.client(Way::Through, &[], &[line], "")?;
    let direct = ssh.client(Way::Direct, &[], &[line], "")?;
    assert!(done.out == direct.out, "it differs");
    Ok(())
}

#[test]
fn p5_a_prompt_on_a_terminal_is_shown_at_once() -> Result<()> {
    let ssh = Ssh::start(&format!("{MASK}\n{SHELLS}"))?;
    let line = ssh.line(Way::Through, &["-tt"], &["stty -echo; printf 'who? '; read who; echo \"hello $who@example.com\"; printf 'x'; sleep 4"]);
    let mut client = ssh.begin(Way::Through, "ssh", &words(&line))?;
    let began = std::time::Instant::now();
    std::thread::sleep(Duration::from_millis(2500));
    client.say("ann")?;
    let done = client.finish()?;
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(done.out.starts_with("who? hello (masked)\r\nx"), "{done:?}");
    // The record says when: the prompt came long before the answer, a key on its own at once.
    let shown = ssh.one("exec")?;
    let text = shown.to_string();
    assert!(!text.contains("ann@example.com"), "{text}");
    let rows = rows(&shown)?;
    let at = |what: &str| rows.iter().find(|row| row.2.contains(what)).map(|row| row.0);
    let (prompt, answer) = (at("who? ").context("the prompt")?, at("hello").context("it")?);
    assert!(answer > prompt + 500_000, "{rows:?}");
    let last = rows.iter().rev().find(|row| row.1 == "out").context("a row")?;
    assert_eq!(last.2, "x", "{rows:?}");
    assert!(last.0 < answer + 2_000_000, "{rows:?}");
    Ok(())
}

/// The recording of a command.
fn rows(command: &Value) -> Result<Vec<(u64, String, String, bool)>> {
    let parts = command["parts"].as_array().context("parts")?;
    let mut all = Vec::new();
    for part in parts {
        let text = part["response"].as_str().unwrap_or("[]");
        all.extend(serde_json::from_str::<Vec<_>>(text)?);
    }
    Ok(all)
}

/// What asciinema itself makes of a file.
const READ: &str = r#"
import asciinema.asciicast as a, sys
with a.open_from_url(sys.argv[1]) as cast:
    print(cast.version, cast.v2_header["width"], cast.v2_header["height"], cast.v2_header["env"])
    out = "".join(e[2] for e in cast.events("o"))
    print(repr(out[:4000]), len(out))
    print([e[2] for e in cast.events() if e[1] == "r"], [e[2] for e in cast.events("i")][:3])
"#;

#[test]
fn p7_a_terminal_is_played_again_and_read_by_asciinema() -> Result<()> {
    let ssh = Ssh::start(SHELLS)?;
    let line = ssh.line(Way::Through, &["-tt"], &[]);
    let mut all = vec!["TERM=xterm", "ssh"];
    all.extend(words(&line));
    let mut shell = ssh.host.start_other(UID, "env", &all)?;
    shell.say(
        "PS1=; stty cols 100 rows 40; printf 'gr\\303'; sleep 0.2; printf '\\274n \\377\\n'",
    )?;
    std::thread::sleep(Duration::from_secs(1));
    // More than a part, and one that comes before the shell ends.
    shell.say("seq 30000; printf '\\033]0;evil\\007\\033[31mred\\033[0m\\n'")?;
    let mut parts = Vec::new();
    chaperone_host_tests::wait_until("parts of it", || {
        let found = ssh.host.chaperone(&["log", "--limit", "1000", "--json"]);
        let out = found.map(|found| found.out).unwrap_or_default();
        parts = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
        parts.iter().filter(|part| part["status"] == "suspended").count() >= 2
    })?;
    shell.say("exit 0")?;
    let done = shell.finish()?;
    assert_eq!(done.code, Some(0), "{done:?}");
    let parts = ssh.commands("shell", 3)?;
    assert_eq!(parts.last().map(|last| &last["status"]), Some(&"ok".into()), "{parts:?}");
    let id = parts[0]["id"].to_string();
    let file = ssh.host.folder().join("cast").display().to_string();
    ssh.host.chaperone(&["log", "export", "--asciicast", &id, &file])?.ok()?;
    let python = ssh.host.newer_python()?;
    let read = ssh.host.outside(&python, &["-c", READ, &file])?.ok()?;
    assert!(read.starts_with("2 "), "{read}");
    assert!(read.contains("'TERM': 'xterm'") && read.contains("grün \u{fffd}"), "{read}");
    let played = ssh.host.chaperone(&["log", "replay", &id])?.ok()?;
    assert!(played.contains("grün") && played.contains("\n30000\r\n"), "{played}");
    assert!(played.contains("\u{1b}[31mred") && !played.contains("evil\u{7}"), "{played}");
    // A session with one terminal stands for it.
    let session = ssh.host.last_session()?["id"].to_string();
    assert_eq!(ssh.host.chaperone(&["log", "replay", &session])?.ok()?, played);
    let none = ssh.host.chaperone(&["log", "replay", "999999"])?;
    assert_eq!(none.code, Some(3), "{none:?}");
    Ok(())
}

#[test]
fn p7_what_a_shell_did_is_in_the_log_where_the_daemon_is_killed() -> Result<()> {
    let mut ssh = Ssh::start(SHELLS)?;
    let line = ssh.line(Way::Through, &["-tt"], &[]);
    let mut shell = ssh.host.start_other(UID, "ssh", &words(&line))?;
    shell.say("echo before the $((40 + 2)) end")?;
    std::thread::sleep(Duration::from_secs(12));
    ssh.host.kill_daemon()?;
    ssh.host.start_daemon()?;
    let out = ssh.host.chaperone(&["log", "--json"])?.ok()?;
    let first: Value = serde_json::from_str(out.lines().next().context("a command")?)?;
    let id = first["id"].to_string();
    let played = ssh.host.chaperone(&["log", "replay", &id])?.ok()?;
    assert!(played.contains("before the 42 end"), "{played}");
    drop(shell);
    Ok(())
}
