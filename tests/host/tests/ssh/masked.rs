//! P5 of files: what detectors find in files that an agent reads is masked in place, wherever the client's
//! reads begin and end.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Ssh, Way, writable};

const MASK: &str = "[[mask]]\nname = \"mail in files\"\ndetect = [\"email\", \"private-key\"]\n\
    with = \"null\"\nfiles = true\nwhen = { target = \"web\" }\n";

const MAIL: &str = "ada.lovelace@example.org";
const KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOPn\n-----END PRIVATE KEY-----";

/// A large file with addresses across the places where clients' reads end, and a key; the same masked.
fn content() -> (String, String) {
    let mut text = String::new();
    for number in 0..600 {
        let line = format!("{number} {MAIL} {}\n", "x".repeat(number % 700));
        text.push_str(&line);
        // So that reads of 32 KiB end in the middle of one.
        let to = text.len().next_multiple_of(32_768) - 12;
        if to > text.len() && to - text.len() < 800 {
            text.push_str(&" ".repeat(to - text.len() - 1));
            text.push_str(&[" ", MAIL, "\n"].concat());
        }
    }
    text.push_str(KEY);
    text.push_str("\nthe end\n");
    let masked = text.replace(MAIL, &"*".repeat(MAIL.len())).replace(KEY, &"*".repeat(KEY.len()));
    (text, masked)
}

#[test]
fn p5_files_that_are_read_are_masked_in_place() -> Result<()> {
    let ssh = Ssh::start(MASK)?;
    let folder = ssh.host.folder().join("files");
    fs::create_dir(&folder)?;
    writable(&folder)?;
    let path = |name: &str| folder.join(name).display().to_string();
    let (text, masked) = content();
    let count = text.matches(MAIL).count() + 1;
    ensure!(text.len() > 150_000 && masked.len() == text.len() && !masked.contains('@'));
    fs::write(folder.join("there"), &text)?;
    fs::write(folder.join("empty"), "")?;
    fs::write(folder.join("short"), format!("to {MAIL}"))?;
    let place = ssh.place();
    let batch = path("batch");
    let mut lines = String::new();
    for name in ["there", "empty", "short"] {
        let to = path(&["sftp-", name].concat());
        lines.push_str(&["get ", &path(name), " ", &to, "\n"].concat());
    }
    fs::write(&batch, lines)?;
    // One read at a time, many of any size.
    for more in [&[][..], &["-R", "1"], &["-B", "1000"], &["-B", "200000", "-R", "200"]] {
        let args = [more, &["-P", "2222", "-b", &batch, &place]].concat();
        let done = ssh.agent("sftp", &args)?;
        ensure!(done.code == Some(0), "{more:?} {done:?}\n{}", ssh.host.daemon_output());
        ensure!(fs::read_to_string(folder.join("sftp-there"))? == masked, "{more:?}");
        assert_eq!(fs::read_to_string(folder.join("sftp-empty"))?, "", "{more:?}");
        let short = format!("to {}", "*".repeat(MAIL.len()));
        assert_eq!(fs::read_to_string(folder.join("sftp-short"))?, short, "{more:?}");
    }
    for (way, to) in [("-s", "scp-sftp"), ("-O", "scp-legacy")] {
        let from = format!("{place}:{}", path("there"));
        let done = ssh.agent("scp", &[way, "-P", "2222", &from, &path(to)])?;
        ensure!(done.code == Some(0), "{way} {done:?}\n{}", ssh.host.daemon_output());
        ensure!(fs::read_to_string(folder.join(to))? == masked, "{way}");
    }
    // What the agent writes is as it writes it.
    let to = format!("{place}:{}", path("written"));
    for way in ["-s", "-O"] {
        let done = ssh.agent("scp", &[way, "-P", "2222", &path("there"), &to])?;
        ensure!(done.code == Some(0), "{done:?}");
        ensure!(fs::read_to_string(folder.join("written"))? == text, "{way}");
    }
    // The record is of what the agent got, and says how much was masked.
    let hash = chaperone_host_tests::sha256(&folder.join("scp-legacy"))?;
    let mut reads = ssh.commands("sftp", 14)?;
    reads.extend(ssh.commands("copy", 2)?);
    let counted = serde_json::json!({ "mail in files": count }).to_string();
    let whole: Vec<&Value> = reads.iter().filter(|one| one["masked"] == counted).collect();
    ensure!(whole.len() == 6, "{count}: {reads:?}");
    for one in whole {
        let detail = ssh.host.command(&one["id"])?;
        assert!(detail.to_string().contains(&hash), "{detail}");
    }
    let log = fs::read(ssh.host.log())?;
    ensure!(!log.windows(MAIL.len()).any(|part| part == MAIL.as_bytes()), "the log has it");
    Ok(())
}

#[test]
fn p5_reads_by_offset_tell_nothing_of_what_is_masked() -> Result<()> {
    let ssh = Ssh::start(MASK)?;
    let file = ssh.host.folder().join("file");
    let text = format!("{}\n{MAIL}\n{KEY}\n", "y".repeat(20_000));
    fs::write(&file, &text)?;
    let masked = text.replace(MAIL, &"*".repeat(MAIL.len())).replace(KEY, &"*".repeat(KEY.len()));
    // Byte by byte, backwards, and many at once.
    let program = "import sys, paramiko\n\
        c = paramiko.SSHClient(); c.set_missing_host_key_policy(paramiko.AutoAddPolicy())\n\
        c.connect(sys.argv[1], 2222, username='root', password='x', look_for_keys=False, allow_agent=False)\n\
        f = c.open_sftp().open(sys.argv[2], 'rb')\n\
        size = f.stat().st_size\n\
        out = bytearray(size)\n\
        for at in range(size - 1, 19990, -1):\n    f.seek(at); out[at:at+1] = f.read(1)\n\
        assert f.readv([(at, 7) for at in range(0, 19990, 2003)]) is not None\n\
        f.seek(0); out[:19991] = f.read(19991)\n\
        f.seek(size); assert f.read(10) == b''\n\
        sys.stdout.buffer.write(out)\n";
    let python = std::env::var("CHAPERONE_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into());
    let address = ssh.host.address().to_string();
    let path = file.to_str().context("a path")?;
    let done = ssh.run(Way::Through, &python, &["-c", program, &address, path], "")?;
    ensure!(done.out == masked, "{} {}\n{}", done.err, done.out.len(), ssh.host.daemon_output());
    Ok(())
}
