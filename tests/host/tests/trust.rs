//! `chaperone trust`: this host's authority is made, shown, made known and forgotten.
//!
//! What it would change on this machine is a copy, in a mount namespace of the test's own.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use chaperone_host_tests::{Finished, Host, Scene};
use serde_json::Value;

/// Puts copies over what a system keeps of authorities and accounts. Java's own store takes long
/// to be written.
const PRIVATE: &str = r#"
set -eu
chaperone() { "$CHAPERONE_BIN" --config "$CONFIG" "$@"; }
as_agent() {
    # The shell around it stays out of the agent's cgroup.
    (echo $BASHPID > "$CGROUP/cgroup.procs"
     exec setpriv --reuid="$AGENT" --regid="$AGENT" --clear-groups -- \
         env -i PATH=/usr/bin:/bin HOME=/home/tester PGHOST="$ADDRESS" PGUSER=postgres PGDATABASE=postgres "$@")
}
mount --make-rprivate /
mkdir -p "$FOLDER/copy/ssh" "$FOLDER/copy/certs" "$FOLDER/copy/local" "$FOLDER/copy/hooks" "$FOLDER/copy/home"
find /etc/ssl/certs -maxdepth 1 -name 'ISRG*' -exec cp -a {} "$FOLDER/copy/certs" \;
printf 'mozilla/ISRG_Root_X1.crt\n' > "$FOLDER/copy/ca-certificates.conf"
cp /etc/passwd "$FOLDER/copy/passwd"
echo "tester:x:$AGENT:$AGENT::/home/tester:/bin/sh" >> "$FOLDER/copy/passwd"
mount --bind "$FOLDER/copy/certs" /etc/ssl/certs
mount --bind "$FOLDER/copy/local" /usr/local/share/ca-certificates
mount --bind "$FOLDER/copy/ssh" /etc/ssh
mount --bind "$FOLDER/copy/hooks" /etc/ca-certificates/update.d
mount --bind "$FOLDER/copy/ca-certificates.conf" /etc/ca-certificates.conf
mount --bind "$FOLDER/copy/passwd" /etc/passwd
mount -t tmpfs tmpfs /home
mkdir /home/tester
chown "$AGENT:$AGENT" /home/tester
"#;

fn privately(host: &Host, script: &str) -> Result<Finished> {
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c"])
        .arg(format!("{PRIVATE}\n{script}"))
        .env("CONFIG", host.config())
        .env("FOLDER", host.folder())
        .env("CGROUP", host.cgroup())
        .env("AGENT", host.uid().to_string())
        .env("ADDRESS", host.address().to_string())
        .env("AUTHORITY", host.authority())
        .env("CHAPERONE_LOG", "warn")
        .output()?;
    Ok(output.into())
}

/// What the machine itself has, in a form that shows any change.
fn machine() -> Result<String> {
    let output = Command::new("bash")
        .args([
            "-c",
            "ls -la --time-style=full-iso /etc/ssl/certs /usr/local/share/ca-certificates /etc/ssh /home; \
             cat /etc/ssl/certs/ca-certificates.crt /etc/passwd | sha256sum",
        ])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn fingerprint(certificate: &Path) -> Result<String> {
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(certificate)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.trim().split_once('=').context("a fingerprint")?.1.to_owned())
}

#[test]
fn the_authority_is_made_once_and_shown_as_other_tools_show_it() -> Result<()> {
    let mut host = Scene::default().without_postgres().prepare()?;
    let out = host.chaperone(&["trust"])?;
    assert_eq!(out.code, Some(3), "{out:?}");
    assert!(out.out.contains("there is no authority in"), "{}", out.out);
    let out = host.chaperone(&["trust", "show", "--json"])?;
    assert_eq!(serde_json::from_str::<Value>(&out.out)?["certificate"], Value::Null);

    let out = host.chaperone(&["trust", "create"])?.ok()?;
    assert!(out.starts_with("made the authority "), "{out}");
    let made = fs::read(host.authority())?;
    let expected = fingerprint(&host.authority())?;
    let again = host.chaperone(&["trust", "create"])?.ok()?;
    assert!(!again.contains("made"), "{again}");
    assert!(again.contains(&expected), "{again}");
    assert!(again.contains("does not trust it"), "{again}");
    // The daemon uses what is there.
    host.start_daemon()?;
    assert_eq!(fs::read(host.authority())?, made);
    assert!(!host.daemon_output().contains("made this host's authority"));
    let shown: Value = serde_json::from_str(&host.chaperone(&["trust", "show", "--json"])?.ok()?)?;
    assert_eq!(shown["sha256"], expected);
    assert_eq!(shown["certificate"], host.authority().display().to_string());
    assert_eq!(shown["system"], false);
    Ok(())
}

#[test]
fn p4_the_system_trusts_the_authority_from_install_to_remove() -> Result<()> {
    let host = Host::start()?;
    let before = machine()?;
    let out = privately(
        &host,
        r#"
verified() { openssl verify -CApath /etc/ssl/certs "$AUTHORITY" > /dev/null 2>&1 && echo yes || echo no; }
psql_works() { as_agent psql -X -At -c "SELECT 'psql'" "sslmode=verify-full sslrootcert=/etc/ssl/certs/ca-certificates.crt" 2>&1 || true; }
python_works() { as_agent /usr/bin/python3 -c '
import os, socket, ssl, struct
s = socket.create_connection((os.environ["PGHOST"], 5432)); s.sendall(struct.pack("!ii", 8, 80877103)); s.recv(1)
try: ssl.create_default_context().wrap_socket(s, server_hostname="db.internal"); print("python")
except ssl.SSLError as e: print(e.reason)'; }
update-ca-certificates > /dev/null
echo "before: $(verified) $(python_works) $(psql_works | grep -o 'certificate verify failed')"
chaperone trust install | grep '^system'
echo "installed: $(verified) $(python_works) $(psql_works)"
echo "ssh: $(grep -c "^@cert-authority \* ssh-ed25519 " /etc/ssh/ssh_known_hosts)"
# Made anew under the same name, it is known at once.
mv "$(dirname "$AUTHORITY")" "$FOLDER/kept"; chaperone trust create > /dev/null
chaperone trust show | grep '^system' || true
chaperone trust install | grep '^system'
echo "anew: $(verified)"
rm -r "$(dirname "$AUTHORITY")"; mv "$FOLDER/kept" "$(dirname "$AUTHORITY")"; chaperone trust install > /dev/null
echo "and back: $(verified) $(psql_works)"
chaperone trust remove
echo "removed: $(verified) $(python_works) $(psql_works | grep -o 'certificate verify failed')"
find /usr/local/share/ca-certificates /etc/ssl/certs -name 'chaperone*'
find /etc/ssh -type f
chaperone trust remove
"#,
    )?;
    let said: Vec<_> = out.out.lines().collect();
    assert_eq!(
        said,
        [
            "before: no CERTIFICATE_VERIFY_FAILED certificate verify failed",
            "system       trusts it",
            "installed: yes python psql",
            "ssh: 1",
            "system       does not trust it: `chaperone trust install`",
            "system       trusts it",
            "anew: yes",
            "and back: yes psql",
            "the system no longer trusts it",
            "removed: no CERTIFICATE_VERIFY_FAILED certificate verify failed",
            "the system did not trust it",
        ],
        "{}",
        out.err
    );
    assert_eq!(machine()?, before, "this machine is as it was");
    Ok(())
}

#[test]
fn p4_an_accounts_libpq_trusts_the_authority_from_install_to_remove() -> Result<()> {
    let host = Host::start()?;
    let before = machine()?;
    let out = privately(
        &host,
        r#"
psql_works() { as_agent psql -X -At -c "SELECT 'psql'" "sslmode=verify-full" 2>&1 | head -1 | sed 's/.*root certificate file.*/no file/; s/.*certificate verify failed.*/failed/'; }
file=/home/tester/.postgresql/root.crt
echo "before: $(psql_works)"
chaperone trust install --user tester
stat -c '%U %a' "$file" "${file%/*}"
echo "installed: $(psql_works)"
chaperone trust install --user tester > /dev/null
grep -c BEGIN "$file"
chaperone trust remove --user tester
ls -A "${file%/*}"
# What the account trusted before stays.
cp /etc/ssl/certs/ISRG_Root_X1.pem "$file"; cp "$file" "$FOLDER/others"
echo "others: $(psql_works)"
chaperone trust install --user tester
echo "added: $(psql_works)"
chaperone trust remove --user tester > /dev/null
cmp "$file" "$FOLDER/others" && echo "as before"
# The home is the account's: it cannot make root write elsewhere.
rm "$file"; rmdir "${file%/*}"; mkdir "$FOLDER/roots-own"; ln -s "$FOLDER/roots-own" "${file%/*}"
chaperone trust install --user tester 2>&1 | sed 's/ [^ ]*:/ …:/2'
ls -A "$FOLDER/roots-own"
chaperone trust install --user nobody-of-that-name 2>&1
"#,
    )?;
    let said: Vec<_> = out.out.lines().collect();
    let path = "/home/tester/.postgresql/root.crt";
    let verifies = "libpq verifies every server with TLS once this file is there: add the authorities of servers that are not watched";
    assert_eq!(said[0], "before: no file", "{out:?}");
    assert_eq!(
        said[1..13],
        [
            &format!("libpq trusts it for tester: {path}"),
            verifies,
            "tester 644",
            "tester 755",
            "installed: psql",
            "1",
            "libpq and SSH clients of tester no longer trust it",
            "others: failed",
            &format!("libpq trusts it for tester: {path}"),
            "added: psql",
            "as before",
            said[12],
        ],
        "{out:?}"
    );
    assert!(said[12].contains("cannot write"), "{}", said[12]);
    assert!(said[13].contains("there is no account named \"nobody-of-that-name\""), "{out:?}");
    assert_eq!(said.len(), 14, "{out:?}");
    assert_eq!(machine()?, before, "this machine is as it was");
    Ok(())
}
