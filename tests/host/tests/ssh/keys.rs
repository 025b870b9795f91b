//! P6 of host keys: first use, and plain lines for clients that know no certificates.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use anyhow::Result;
use chaperone_host_tests::Finished;

use super::{Ssh, Way};

const FIRST: &str = "host_keys = \"first-use\"\n\
    credential = { user = \"root\", key = \"file:{folder}/ssh/key\" }";

#[test]
fn p6_a_host_key_is_pinned_at_first_use_and_another_is_refused() -> Result<()> {
    let mut ssh = Ssh::set(FIRST, "", "")?;
    assert_eq!(ssh.ssh(&["echo in"])?.out, "in\n", "{}", ssh.host.daemon_output());
    let events = ssh.host.events()?;
    let pinned = |event: &&serde_json::Value| event["kind"] == "host-key-pinned";
    assert_eq!(events.iter().filter(pinned).count(), 1, "{events:?}");
    assert!(events.iter().find(pinned).is_some_and(|one| one.to_string().contains("SHA256:")));
    let file = ssh.host.folder().join("authority/ssh_first_use");
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let kept = fs::read_to_string(&file)?;
    let address = ssh.host.address();
    assert!(kept.starts_with(&format!("[{address}]:2222 ssh-ed25519 AAAA")), "{kept}");
    // It counts for the next start, and is not told again.
    ssh.host.stop_daemon()?;
    ssh.host.start_daemon()?;
    assert_eq!(ssh.ssh(&["echo in"])?.ok()?, "in");
    assert_eq!(ssh.host.events()?.iter().filter(pinned).count(), 1);
    // Another key, as if another server had come: refused with what to do.
    let other = fs::read_to_string(ssh.host.folder().join("ssh/key.pub"))?;
    fs::write(&file, format!("[{address}]:2222 {other}"))?;
    ssh.host.stop_daemon()?;
    ssh.host.start_daemon()?;
    let done = ssh.ssh(&["echo in"])?;
    assert_eq!(done.code, Some(255), "{done:?}");
    assert!(done.err.contains("pinned at first use"), "{done:?}");
    assert!(done.err.contains("ssh_first_use"), "{done:?}");
    assert_eq!(fs::read_to_string(&file)?, format!("[{address}]:2222 {other}"));
    Ok(())
}

#[test]
fn p4_plain_lines_are_installed_where_they_are_asked_for_and_taken_away() -> Result<()> {
    let ssh = Ssh::start("")?;
    let address = ssh.host.address();
    // What would change is a copy.
    let script = r#"
set -eu
mount --make-rprivate /
mkdir -p "$FOLDER/copy" "$FOLDER/certs" "$FOLDER/local"
mount --bind "$FOLDER/copy" /etc/ssh
mount --bind "$FOLDER/certs" /etc/ssl/certs
mount --bind "$FOLDER/local" /usr/local/share/ca-certificates
mount -t tmpfs tmpfs /root
chaperone() { "$CHAPERONE_BIN" --config "$CONFIG" "$@" >/dev/null; }
chaperone trust install
! grep -q '^\[' /etc/ssh/ssh_known_hosts
chaperone trust install --plain
cp /etc/ssh/ssh_known_hosts "$FOLDER/system"
install -d -m 700 /root/.ssh; echo '# mine' > /root/.ssh/known_hosts; chmod 600 /root/.ssh/known_hosts
chaperone trust install --user root --plain
cp -p /root/.ssh/known_hosts "$FOLDER/own"
test ! -e /root/.postgresql
chaperone trust remove --user root
cat /root/.ssh/known_hosts
"#;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", script])
        .env("CONFIG", ssh.host.config())
        .env("FOLDER", ssh.host.folder())
        .env("CHAPERONE_LOG", "warn")
        .output()?;
    let done = Finished::from(output);
    assert_eq!((done.code, done.out.as_str()), (Some(0), "# mine\n"), "{done:?}");
    let system = fs::read_to_string(ssh.host.folder().join("system"))?;
    assert!(system.contains("@cert-authority * ssh-ed25519 "), "{system}");
    let plain = format!("[{address}]:2222 ssh-ed25519 ");
    assert!(system.lines().any(|line| line.starts_with(&plain)), "{system}");
    // A client believes it by that alone.
    let own = ssh.host.folder().join("own");
    let kept = fs::read_to_string(&own)?;
    assert!(kept.starts_with("# mine\n") && !kept.contains("@cert"), "{kept}");
    assert_eq!(fs::metadata(&own)?.permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&own, fs::Permissions::from_mode(0o644))?;
    let known = format!("UserKnownHostsFile={}", own.display());
    let place = format!("root@{address}");
    let words = [
        "-F",
        "none",
        "-o",
        &known,
        "-o",
        "GlobalKnownHostsFile=none",
        "-o",
        "BatchMode=yes",
        "-p",
        "2222",
        &place,
        "echo in",
    ];
    let done = ssh.run(Way::Through, "ssh", &words, "")?;
    assert_eq!(done.out, "in\n", "{done:?}");
    Ok(())
}
