//! `chaperone trust`: makes this host's authority known to agents' clients, and unknown again.
//!
//! The places: the system's own store, for all programs that use it, the file that libpq reads for one
//! account (libpq-ssl, `~/.postgresql/root.crt`), and the `known_hosts` of SSH clients (sshd(8)).

use std::{
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use chaperone_model::Protocol;
use clap::{Args, Subcommand};
use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
use serde_json::json;

use crate::{
    addresses::TargetAddress,
    config::Config,
    daemon::{HOST_NAME, read_line},
    ssh::authority::{SshAuthority, SshAuthorityError},
    tls::authority::{Authority, AuthorityError},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Show the authority, its fingerprint, and whether the system trusts it
    Show,
    /// Make the authority, where there is none
    Create,
    /// Make the authority known to the system, or to one account's libpq
    Install(Install),
    /// Take it away again
    Remove(Whose),
}

#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// Of this account's libpq (~/.postgresql/root.crt), not of the system
    #[arg(long, value_name = "ACCOUNT")]
    user: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    #[command(flatten)]
    whose: Whose,
    /// Write the plain host key of every SSH target too, for clients that know no host certificates;
    /// with --user into the account's own `known_hosts` alone
    #[arg(long)]
    plain: bool,
}

/// Where a system keeps the authorities that its administrator trusts.
struct Store {
    folder: &'static str,
    file: &'static str,
    /// What makes the system look.
    update: &'static str,
    /// What the update leaves as it is, where it is there already.
    link: Option<&'static str>,
}

const STORES: [Store; 2] = [
    Store {
        folder: "/usr/local/share/ca-certificates",
        file: "chaperone.crt",
        update: "update-ca-certificates",
        link: Some("/etc/ssl/certs/chaperone.pem"),
    },
    Store {
        folder: "/etc/pki/ca-trust/source/anchors",
        file: "chaperone.pem",
        update: "update-ca-trust",
        link: None,
    },
];

impl Store {
    fn path(&self) -> PathBuf {
        Path::new(self.folder).join(self.file)
    }

    /// Makes the system look at what has changed.
    fn update(&self) -> Result<()> {
        // A link that stays would hide from the update that there is something new behind it.
        if let Some(link) = self.link.map(Path::new)
            && fs::read_link(link).is_ok_and(|to| to == self.path())
        {
            fs::remove_file(link).with_context(|| cannot("remove", link))?;
        }
        call(self.update)
    }
}

/// OpenSSH's file for all accounts (ssh(1), `GlobalKnownHostsFile`).
const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";

const BEGIN: &str = "# chaperone's authority of this host begins";
const END: &str = "# chaperone's authority of this host ends";

/// Does it; answers whether what was asked for is there.
pub(crate) fn run(config: &Config, what: &Trust, json: bool) -> Result<bool> {
    let folder = &config.daemon.authority;
    let open_or_create = || -> Result<Authority> {
        let (authority, made) = Authority::open_or_create(folder, &read_line(HOST_NAME))?;
        if made {
            say(&format!("made the authority {}", authority.path().display()))?;
        }
        Ok(authority)
    };
    match what {
        Trust::Show => match Authority::open(folder) {
            Err(AuthorityError::Missing(_)) => {
                if json {
                    say(&json!({ "certificate": null }).to_string())?;
                } else {
                    say(&AuthorityError::Missing(folder.clone()).to_string())?;
                }
                Ok(false)
            }
            authority => show(&authority?, folder, json).map(|()| true),
        },
        Trust::Create => {
            let authority = open_or_create()?;
            SshAuthority::open_or_create(folder)?;
            show(&authority, folder, json).map(|()| true)
        }
        Trust::Install(Install { whose: Whose { user: None }, plain }) => {
            let authority = open_or_create()?;
            install_for_system(&authority)?;
            install_for_ssh(config, *plain)?;
            show(&authority, folder, json).map(|()| true)
        }
        Trust::Install(Install { whose: Whose { user: Some(account) }, plain: true }) => {
            let lines = plain_lines(config, &SshAuthority::open_or_create(folder)?)?;
            let path = become_account(account)?.join(".ssh/known_hosts");
            edit(&path, Some(&lines), 0o700)?;
            say(&format!("SSH clients of {account} know the key: {}", path.display()))?;
            Ok(true)
        }
        Trust::Install(Install { whose: Whose { user: Some(account) }, plain: false }) => {
            let authority = open_or_create()?;
            let pem = fs::read_to_string(authority.path())
                .with_context(|| format!("cannot read {}", authority.path().display()))?;
            let path = libpq_file(&become_account(account)?);
            let was = path.exists();
            edit(&path, Some(&pem), 0o755)?;
            say(&format!("libpq trusts it for {account}: {}", path.display()))?;
            if !was {
                say(
                    "libpq verifies every server with TLS once this file is there: add the authorities of servers that are not watched",
                )?;
            }
            Ok(true)
        }
        Trust::Remove(Whose { user: None }) => {
            let store = store()?;
            let path = store.path();
            if Path::new(KNOWN_HOSTS).exists() {
                edit(Path::new(KNOWN_HOSTS), None, 0o755)?;
            }
            let was = path.exists();
            if was {
                fs::remove_file(&path).with_context(|| cannot("remove", &path))?;
                store.update()?;
            }
            say(if was {
                "the system no longer trusts it"
            } else {
                "the system did not trust it"
            })?;
            Ok(true)
        }
        Trust::Remove(Whose { user: Some(account) }) => {
            let home = become_account(account)?;
            edit(&libpq_file(&home), None, 0o755)?;
            edit(&home.join(".ssh/known_hosts"), None, 0o700)?;
            say(&format!("libpq and SSH clients of {account} no longer trust it"))?;
            Ok(true)
        }
    }
}

fn show(authority: &Authority, folder: &Path, json: bool) -> Result<()> {
    let ssh = match SshAuthority::open(folder) {
        Ok(ssh) => Some((ssh.line(), ssh.plain_line(&[]).trim().to_owned())),
        Err(SshAuthorityError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let trusted = store().is_ok_and(|store| same(&store.path(), authority.path()));
    let expires = jiff::Timestamp::from_second(authority.expires())?;
    if json {
        return say(&json!({
            "certificate": authority.path(),
            "sha256": authority.fingerprint(),
            "expires": expires.to_string(),
            "system": trusted,
            "known_hosts": ssh.as_ref().map(|(line, _)| line),
            "ssh_host_key": ssh.as_ref().map(|(_, key)| key),
        })
        .to_string());
    }
    say(&format!(
        "certificate  {}\nSHA-256      {}\nexpires      {expires}\nsystem       {}\nknown_hosts  {}\nSSH host key {}",
        authority.path().display(),
        authority.fingerprint(),
        if trusted { "trusts it" } else { "does not trust it: `chaperone trust install`" },
        ssh.as_ref().map_or("-", |(line, _)| line),
        ssh.as_ref().map_or("-", |(_, key)| key),
    ))
}

fn install_for_system(authority: &Authority) -> Result<()> {
    let store = store()?;
    let path = store.path();
    fs::copy(authority.path(), &path).with_context(|| cannot("write", &path))?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644))
        .with_context(|| cannot("write", &path))?;
    store.update()
}

/// Where there is OpenSSH, its clients believe what the SSH authority vouches for.
fn install_for_ssh(config: &Config, plain: bool) -> Result<()> {
    let authority = SshAuthority::open_or_create(&config.daemon.authority)?;
    let mut lines = authority.line();
    if plain {
        lines.push('\n');
        lines.push_str(&plain_lines(config, &authority)?);
    }
    let path = Path::new(KNOWN_HOSTS);
    if !path.parent().is_some_and(Path::is_dir) {
        return say(
            "there is no OpenSSH here: `chaperone trust show` has the line for its known_hosts",
        );
    }
    edit(path, Some(&lines), 0o755)?;
    fs::set_permissions(path, PermissionsExt::from_mode(0o644))
        .with_context(|| cannot("write", path))
}

/// The lines of `known_hosts` for the names and addresses of all SSH targets.
fn plain_lines(config: &Config, authority: &SshAuthority) -> Result<String> {
    let mut lines = Vec::new();
    for target in config.targets.iter().filter(|target| target.protocol == Protocol::Ssh) {
        // What another host calls itself is this one's own name as well.
        let is_behind = !target.through.is_empty();
        let fits = |address: &&TargetAddress| !(is_behind && address.is_loopback());
        let addresses: Vec<_> = target.addresses.iter().filter(fits).collect();
        let names: Vec<_> = addresses.iter().filter_map(|address| address.known_as()).collect();
        if names.len() < addresses.len() {
            say(&format!(
                "target {} has addresses of many servers, which no line can name",
                target.name
            ))?;
        }
        if !names.is_empty() {
            lines.push(authority.plain_line(&names));
        }
    }
    ensure!(!lines.is_empty(), "there is no SSH target with an address that a line could name");
    Ok(lines.join("\n"))
}

fn same(a: &Path, b: &Path) -> bool {
    fs::read(a).is_ok_and(|a| fs::read(b).is_ok_and(|b| a == b))
}

fn store() -> Result<&'static Store> {
    STORES.iter().find(|store| Path::new(store.folder).is_dir()).context(
        "this system's store is not known here: add the authority's certificate by its own means",
    )
}

fn call(program: &str) -> Result<()> {
    let output = Command::new(program)
        .output()
        .with_context(|| format!("cannot run {program}, which makes the system look"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// From here on this process is the account: its home may lead anywhere by symbolic links, and
/// root must not follow them.
fn become_account(account: &str) -> Result<PathBuf> {
    let user = User::from_name(account)?
        .with_context(|| format!("there is no account named {account:?}"))?;
    if geteuid() != user.uid {
        ensure!(geteuid().is_root(), "only root, or {account}, may change what {account} trusts");
        let name = std::ffi::CString::new(account)?;
        initgroups(&name, user.gid)?;
        setgid(user.gid)?;
        setuid(user.uid)?;
    }
    if !user.dir.is_dir() {
        bail!(
            "the account {account} has no home folder {}: install for the system (or set PGSSLROOTCERT for it)",
            user.dir.display()
        );
    }
    Ok(user.dir)
}

fn libpq_file(home: &Path) -> PathBuf {
    home.join(".postgresql/root.crt")
}

/// Puts the text between two marks in the file, or takes it out. What others put there stays.
/// `mode`: of its folder, where that is not there.
fn edit(path: &Path, text: Option<&str>, mode: u32) -> Result<()> {
    let old = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| cannot("read", path)),
    };
    let new = with_block(&old, text);
    if new == old {
        return Ok(());
    }
    if new.is_empty() {
        // An empty file would make libpq fail where no file makes it go without.
        return fs::remove_file(path).with_context(|| cannot("remove", path));
    }
    let folder = path.parent().context("a file has a folder")?;
    if !folder.is_dir() {
        DirBuilder::new().mode(mode).create(folder).with_context(|| cannot("make", folder))?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(".chaperone");
    let draft = PathBuf::from(draft);
    fs::write(&draft, new).with_context(|| cannot("write", &draft))?;
    if let Ok(about) = fs::metadata(path) {
        let _ = fs::set_permissions(&draft, about.permissions());
    }
    fs::rename(&draft, path).with_context(|| cannot("write", path))
}

fn with_block(old: &str, new: Option<&str>) -> String {
    let mut inside = false;
    let mut text = String::with_capacity(old.len());
    for line in old.lines() {
        inside |= line == BEGIN;
        if !inside {
            text.push_str(line);
            text.push('\n');
        }
        inside &= line != END;
    }
    if let Some(new) = new {
        for part in [BEGIN, new.trim_end(), END] {
            text.push_str(part);
            text.push('\n');
        }
    }
    text
}

fn cannot(what: &str, path: &Path) -> String {
    format!("cannot {what} {}", path.display())
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_trust_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(".postgresql/root.crt");
        edit(&path, Some("NEW\n"), 0o700).expect("made");
        edit(&path, None, 0o700).expect("removed");
        assert!(!path.exists());

        fs::write(&path, "OTHER\n").expect("written");
        edit(&path, Some("ONE\n"), 0o700).expect("added");
        edit(&path, Some("TWO\n"), 0o700).expect("replaced");
        let text = fs::read_to_string(&path).expect("there");
        assert_eq!(text, format!("OTHER\n{BEGIN}\nTWO\n{END}\n"));
        edit(&path, None, 0o700).expect("removed");
        assert_eq!(fs::read_to_string(&path).expect("there"), "OTHER\n");
    }
}
