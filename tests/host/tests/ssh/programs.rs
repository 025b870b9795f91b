//! P4: what OpenSSH's client runs ends and says the same as without the daemon.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use chaperone_host_tests::wait_until;

use super::{Ssh, WAYS, Way, words, writable};

#[test]
fn p4_programs_end_and_say_the_same() -> Result<()> {
    let ssh = Ssh::start("")?;
    let input = "of one line and another\n".repeat(50_000);
    for line in [
        "cat; echo err >&2; exit 7",
        "exit 0",
        "exit 255",
        "kill -TERM $$",
        "kill -SEGV $$",
        "sha256sum",
        "head -c 10",
        "head -c 3000000 /dev/zero | tr '\\0' z >&2; echo out",
        "for n in 1 2 3 4 5; do echo $n; echo e$n >&2; sleep 0.02; done | cat",
        // What it leaves behind goes on saying something.
        "(sleep 0.3; echo late) & exit 3",
        "printf 'no end of line'",
        "there-is-no-such-program",
        "exec 1>&- 2>&-; sleep 0.1; exit 4",
    ] {
        let done = ssh.both(&[], &[line], &input)?;
        ensure!(done.code != Some(126), "{line}: {done:?}");
    }
    for (before, line) in [
        (&["-n"][..], "cat; echo behind"),
        (&["-C"], "sha256sum"),
        (&["-tt"], "stty size; tty >/dev/null && echo has one; exit 9"),
        (&["-o", "Ciphers=chacha20-poly1305@openssh.com"], "sha256sum"),
        (&["-o", "Ciphers=aes128-ctr", "-o", "MACs=hmac-sha2-512"], "sha256sum"),
        (&["-o", "Ciphers=aes128-gcm@openssh.com"], "sha256sum"),
        (&["-s"], "no-such-subsystem"),
    ] {
        let done = ssh.both(before, &[line], if before == ["-tt"] { "" } else { &input })?;
        ensure!(done.code != Some(126), "{before:?} {line}: {done:?}");
    }
    let commands = ssh.commands("exec", 19)?;
    for (line, status, tag) in [
        ("exit 0", "ok", "exit 0"),
        ("exit 255", "error", "exit 255"),
        ("kill -TERM $$", "error", "signal TERM"),
        ("sha256sum", "ok", "exit 0"),
    ] {
        let found = commands.iter().find(|one| one["statement"] == line).expect(line);
        assert_eq!((&found["status"], &found["tag"]), (&status.into(), &tag.into()), "{found}");
    }
    Ok(())
}

#[test]
fn p4_a_big_environment_and_bytes_that_are_no_text_arrive() -> Result<()> {
    let ssh = Ssh::start("")?;
    let told = format!("TOLD={}", "big ".repeat(25_000));
    let mut said = Vec::new();
    for way in WAYS {
        let line = ssh.line(way, &["-o", "SendEnv=TOLD"], &["printf %s \"$TOLD\" | sha256sum"]);
        let mut all = vec![told.as_str(), "ssh"];
        all.extend(words(&line));
        said.push(ssh.run(way, "env", &all, "")?.ok()?);
    }
    assert_eq!(said[0], said[1]);
    assert!(!said[1].starts_with("e3b0c442"), "nothing came: {said:?}");

    let mut said = Vec::new();
    for way in WAYS {
        // The shell makes the bytes: arguments of a test are text.
        let script = "exec ssh \"$@\" $'printf %s \"\\xff\\xfe\\x80\" | od -An -tx1; # \\xc3('";
        let line = ssh.line(way, &[], &[]);
        let mut all = vec!["-c", script, "bash"];
        all.extend(words(&line));
        said.push(ssh.run(way, "bash", &all, "")?.ok()?);
    }
    assert_eq!(said, [" ff fe 80", " ff fe 80"]);
    let commands = ssh.commands("exec", 2)?;
    let kept = commands[1]["statement"].as_str().unwrap_or_default();
    assert!(kept.contains("\\xff\\xfe\\x80") && kept.contains("\\xc3("), "{kept}");
    Ok(())
}

#[test]
fn p4_a_client_that_goes_away_ends_its_program() -> Result<()> {
    let ssh = Ssh::start("")?;
    for way in WAYS {
        let mark = ssh.host.folder().join(format!("{way:?}"));
        let line = format!("trap 'echo gone > {}' EXIT; yes", mark.display());
        let line = ssh.line(way, &[], &[&line]);
        let mut all = vec!["-c", "ssh \"$@\" | head -c 100000 | wc -c", "bash"];
        all.extend(words(&line));
        let done = ssh.run(way, "bash", &all, "")?;
        assert_eq!(done.out.trim(), "100000", "{done:?}");
        wait_until("the program to end", || mark.exists())?;
    }
    // One that is killed says nothing any more.
    let mark = ssh.host.folder().join("killed");
    let line = format!("trap 'echo gone > {}' EXIT; echo begun; cat", mark.display());
    let line = ssh.line(Way::Through, &[], &[&line]);
    let mut client = ssh.begin(Way::Through, "ssh", &words(&line))?;
    assert_eq!(client.hear()?, "begun");
    client.kill();
    wait_until("the program to end", || mark.exists())?;
    let killed = ssh.commands("exec", 2)?;
    let last = killed.last().expect("the last");
    assert_eq!(last["status"], "unknown", "{last}");
    Ok(())
}

#[test]
fn p4_each_end_is_asked_whether_it_still_lives() -> Result<()> {
    let known = "host_keys = [\"{folder}/ssh/known\"]";
    let key = "credential = { user = \"root\", key = \"file:{folder}/ssh/key\" }";
    let sshd = "ClientAliveInterval 1\nClientAliveCountMax 2";
    let ssh = Ssh::set(&format!("{known}\n{key}"), "", sshd)?;
    let asks = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"];
    let done = ssh.both(&asks, &["sleep 5; echo still here"], "")?;
    assert_eq!(done.out, "still here\n");
    // One that is frozen is found out, although the daemon lives.
    let freeze = "p=$PPID; (sleep 8; kill -CONT $p) & kill -STOP $p; sleep 5";
    let line = ssh.line(Way::Through, &asks, &[freeze]);
    let frozen = ssh.begin(Way::Through, "ssh", &words(&line))?.finish()?;
    assert_eq!(frozen.code, Some(255), "{frozen:?}");
    assert!(frozen.err.contains("not responding"), "{frozen:?}");
    Ok(())
}

#[test]
fn p4_twenty_channels_of_one_connection_do_as_many_things() -> Result<()> {
    let ssh = Ssh::start("")?;
    let control = ssh.host.folder().join("control");
    fs::create_dir(&control)?;
    writable(&control)?;
    for way in WAYS {
        let socket = format!("ControlPath={}/{way:?}", control.display());
        let master = ssh.line(way, &["-o", &socket, "-o", "ControlMaster=yes", "-N"], &[]);
        let _master = ssh.begin(way, "ssh", &words(&master))?;
        let path = control.join(format!("{way:?}"));
        wait_until("the master", || path.exists())?;
        let mut all = Vec::new();
        for number in 0..20 {
            let line = format!("sleep 0.3; head -c {number}00000 /dev/zero | wc -c; exit {number}");
            let line = ssh.line(way, &["-o", &socket], &[&line]);
            all.push(ssh.begin(way, "ssh", &words(&line))?);
        }
        for (number, one) in all.into_iter().enumerate() {
            let done = one.finish()?;
            assert_eq!(done.code, i32::try_from(number).ok(), "{way:?}: {done:?}");
            assert_eq!(done.out, format!("{}\n", number * 100_000), "{way:?}");
            assert_eq!(done.err, "", "{way:?}");
        }
        let line = ssh.line(way, &["-o", &socket, "-O", "exit"], &[]);
        ssh.run(way, "ssh", &words(&line), "")?;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(ssh.commands("exec", 20)?.len(), 20);
    assert_eq!(ssh.host.closed_sessions()?.len(), 1);
    Ok(())
}
