//! P7: the log proves what happened, to people who have nothing but it, a checkpoint that was kept
//! and the public key.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};
use serde_json::Value;

/// A folder on "another machine": the log's files as they lie, and no configuration.
fn copy(host: &Host, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["-a", "--no-target-directory"])
        .args([host.log().parent().context("a folder")?, to])
        .status()?;
    anyhow::ensure!(status.success(), "cp");
    for file in fs::read_dir(to)? {
        let file = file?.path();
        if file.extension().is_some_and(|end| ["key", "lock"].iter().any(|e| end == *e)) {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// `chaperone` with nothing of this host's.
pub(super) fn elsewhere(args: &[&str]) -> Result<(Option<i32>, String)> {
    let binary = std::env::var_os("CHAPERONE_BIN").context("CHAPERONE_BIN")?;
    let output = Command::new(binary)
        .args(["--config", "/nonexistent.toml", "log"])
        .args(args)
        .env_remove("CHAPERONE_CONFIG")
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

pub(super) fn sealed_over(host: &Host, record: u64) -> Result<String> {
    let mut note = String::new();
    wait_until("a checkpoint covers it", || {
        let shown = host.chaperone(&["log", "checkpoint"]);
        note = shown.map(|shown| shown.out).unwrap_or_default();
        let size = note.lines().nth(1).and_then(|size| size.parse().ok());
        size.is_some_and(|size: u64| size >= record)
    })?;
    Ok(note)
}

fn newest_id(host: &Host) -> Result<u64> {
    let rows = host.commands()?;
    rows.last().and_then(|row| row["id"].as_u64()).context("a command")
}

#[test]
fn p7_the_log_is_verified_elsewhere_with_the_file_a_kept_checkpoint_and_the_public_key()
-> Result<()> {
    let mut host = Scene::default().more("[log]\ncheckpoint = \"100ms\"").start()?;
    host.psql(&["SELECT 'first'"])?.ok()?;
    let first = newest_id(&host)?;
    let kept = sealed_over(&host, first)?;
    let key = host.chaperone(&["log", "key"])?.ok()?;
    let key = key.trim();
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("kept"), &kept)?;
    // A crash, a restart, and a month that ends.
    host.kill_daemon()?;
    host.start_daemon()?;
    host.psql(&["SELECT 'second'"])?.ok()?;
    host.chaperone(&["log", "turn"])?.ok()?;
    host.psql(&["SELECT 'third'", "SELECT 1/0"])?;
    let last = newest_id(&host)?;
    sealed_over(&host, last)?;
    host.chaperone(&["log", "verify", "--since", &path("kept")])?.ok()?;
    host.chaperone(&["log", "proof", &first.to_string(), "-o", &path("proof")])?.ok()?;
    let goes_on = path("goes-on");
    host.chaperone(&["log", "proof", "--since", &path("kept"), "-o", &goes_on])?.ok()?;
    host.stop_daemon()?;
    copy(&host, &folder.path().join("copy"))?;
    let log = path("copy/log.sqlite");
    let verify = ["verify", "--key", key, "--since", &path("kept"), "--log", &log, "--json"];
    let (code, text) = elsewhere(&verify)?;
    assert_eq!(code, Some(0), "{text}");
    let report: Value = serde_json::from_str(&text)?;
    assert_eq!(report["files"].as_array().map(Vec::len), Some(2), "{report}");
    assert_eq!(report["records"], report["sealed"], "a clean end seals all: {report}");
    // Proofs need nothing but themselves.
    let (code, text) = elsewhere(&["verify", "--key", key, "--proof", &path("proof")])?;
    assert!(code == Some(0) && text.contains("\"record\":\"intent\""), "{text}");
    let since = path("kept");
    let consistent = ["verify", "--key", key, "--proof", &path("goes-on"), "--since", &since];
    let (code, text) = elsewhere(&consistent)?;
    assert!(code == Some(0) && text.contains("goes on from"), "{text}");
    fs::write(path("forged"), fs::read_to_string(path("proof"))?.replace("index ", "index 1"))?;
    assert_eq!(elsewhere(&["verify", "--key", key, "--proof", &path("forged")])?.0, Some(3));
    // And nothing that was altered passes.
    let sql = "DROP TRIGGER intent_u; UPDATE intent SET verdict = 'deny' WHERE kind = 'query'";
    let file = fs::canonicalize(&log)?;
    let status = Command::new("sqlite3").arg(&file).arg(sql).status()?;
    assert!(status.success());
    let (code, text) = elsewhere(&verify)?;
    assert_eq!(code, Some(3), "{text}");
    let report: Value = serde_json::from_str(&text)?;
    assert_eq!(report["finding"]["what"], "it was altered", "{report}");
    Ok(())
}

#[test]
fn p7_the_key_is_the_configurations_where_it_names_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("log.pem").display().to_string();
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out", &key])
        .status()?;
    assert!(made.success());
    let lines = format!("[log]\norigin = \"db1.example.com/log\"\nkey = \"file:{key}\"");
    let host = Scene::default().more(&lines).start()?;
    let shown = host.chaperone(&["log", "key"])?.ok()?;
    assert!(shown.starts_with("db1.example.com/log+"), "{shown}");
    let public = Command::new("openssl")
        .args(["pkey", "-in", &key, "-pubout", "-outform", "DER"])
        .output()?
        .stdout;
    // The last 32 bytes of the document are the key (RFC 8410, section 4).
    let typed = [&[1][..], &public[public.len() - 32..]].concat();
    let raw = folder.path().join("typed");
    fs::write(&raw, typed)?;
    let encoded = Command::new("base64").arg("-w0").arg(&raw).output()?.stdout;
    let encoded = String::from_utf8(encoded)?;
    assert!(shown.trim().ends_with(&encoded), "{shown} {encoded}");
    assert!(!host.log().with_extension("sqlite.key").exists());
    Ok(())
}

#[test]
fn p7_what_a_command_says_can_be_erased_by_root_and_the_log_proves_the_rest() -> Result<()> {
    let host = Scene::default().more("[log]\ncheckpoint = \"100ms\"").start()?;
    host.psql(&["SELECT 'Jane Doe lives here'", "SELECT 'other'"])?.ok()?;
    let rows = host.commands()?;
    let jane = rows.iter().find(|row| row["statement"].to_string().contains("Jane"));
    let id = jane.and_then(|row| row["id"].as_u64()).context("the command")?;
    sealed_over(&host, newest_id(&host)?)?;
    let erase =
        |args: &[&str]| host.chaperone(&[&["log", "erase", "--reason", "asked"], args].concat());
    erase(&["--text", "jane doe"])?.ok()?;
    let left = host.commands()?;
    let row = left.iter().find(|row| row["id"] == id).context("the row")?;
    assert_eq!(row["statement"], Value::Null);
    assert_eq!(row["status"], "ok");
    assert!(!host.command(&row["id"])?.to_string().contains("Jane"));
    for file in host.log_files()? {
        let bytes = fs::read(&file)?;
        assert!(!String::from_utf8_lossy(&bytes).contains("Jane Doe"), "{}", file.display());
    }
    let report = host.chaperone(&["log", "verify", "--json"])?.ok()?;
    let report: Value = serde_json::from_str(&report)?;
    assert_eq!(
        (&report["finding"], report["erased"].as_u64() >= Some(2)),
        (&Value::Null, true),
        "{report}"
    );
    let again = erase(&[&id.to_string()])?;
    assert_eq!(again.code, Some(3), "nothing is left to erase");
    Ok(())
}

#[test]
fn p7_a_verifier_that_was_written_from_the_documentation_alone_agrees() -> Result<()> {
    let mut host = Scene::default().more("[log]\ncheckpoint = \"100ms\"").start()?;
    let odd = "SELECT E'a\\tb\\\\ \u{fc} \u{1f980}', U&'\\0007', 1/0";
    host.psql(&["SELECT 'first'", odd, "CREATE TABLE t (a int)", "SELECT 'erased'"])?;
    let id = newest_id(&host)?;
    sealed_over(&host, id)?;
    host.chaperone(&["log", "erase", "--reason", "asked", &id.to_string()])?.ok()?;
    let key = host.chaperone(&["log", "key"])?.ok()?;
    host.stop_daemon()?;
    let verify = || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/evidence/verify.py");
        Command::new("python3").arg(script).arg(host.log()).arg(&key).output()
    };
    let output = verify()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let counts: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(counts[0] >= 2 && counts[1] == counts[2], "a clean end seals all: {said}");
    let sql = "DROP TRIGGER event_u; UPDATE event SET detail = 'x' WHERE seq = (SELECT max(seq) FROM event)";
    let status = Command::new("sqlite3").arg(host.log_files()?[0].as_os_str()).arg(sql).status()?;
    assert!(status.success() && !verify()?.status.success());
    Ok(())
}
