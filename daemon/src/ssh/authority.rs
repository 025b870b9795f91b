//! The host's SSH authority: it vouches for targets towards this host's agents (OpenSSH's
//! PROTOCOL.certkeys), and for agents towards targets that trust a key of their own.
//!
//! Two files beside the authority for TLS: `ssh_ca`, whose public half stands in
//! `/etc/ssh/ssh_known_hosts` once `chaperone trust install` has put it there, and `ssh_host`, the key
//! that all targets seem to have, for clients that know no certificates. Does not belong here: which
//! keys targets really have (`upstream`, `pins`).

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chaperone_wire::ssh::{Certify, KeyError, PublicKey, SecretKey, Transport, Violation};
use zeroize::Zeroizing;

use super::pins::Pins;
use crate::{clock, tls::authority};

/// How long a host's certificate is valid: each connection has one of its own.
const VALID: u64 = 24 * 60 * 60;
/// Clocks may differ.
const BACK: u64 = 60 * 60;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SshAuthorityError {
    #[error("there is no SSH authority in {}: `chaperone trust create` makes one", .0.display())]
    Missing(PathBuf),
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("others than its owner may read {} (mode {mode:04o}): make a new authority", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} is damaged", .0.display())]
    Damaged(PathBuf),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Transport(#[from] Violation),
}

/// See the module's comment.
pub(crate) struct SshAuthority {
    key: SecretKey,
    /// The one key that all targets seem to have.
    host: Arc<SecretKey>,
    /// Keys of targets that were believed when they were first seen.
    pub(super) pins: Arc<Pins>,
}

/// The names of its files.
const FILES: [&str; 2] = ["ssh_ca", "ssh_host"];

impl SshAuthority {
    /// Opens the one in this folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, SshAuthorityError> {
        let [key, host] = FILES;
        let (key, host) = (read(folder, key)?, Arc::new(read(folder, host)?));
        let pins = Pins::open(folder).map_err(|source| SshAuthorityError::File {
            what: "read the host keys of first use in",
            path: folder.into(),
            source,
        })?;
        Ok(Self { key, host, pins: Arc::new(pins) })
    }

    /// Opens it, or makes what is not there of it.
    pub(crate) fn open_or_create(folder: &Path) -> Result<Self, SshAuthorityError> {
        for name in FILES {
            match read(folder, name) {
                Err(SshAuthorityError::Missing(_)) => create(&folder.join(name))?,
                found => drop(found?),
            }
        }
        Self::open(folder)
    }

    /// Its key.
    pub(crate) fn key(&self) -> &SecretKey {
        &self.key
    }

    /// The line that makes clients believe it (sshd(8), `known_hosts`).
    pub(crate) fn line(&self) -> String {
        format!("@cert-authority * {}", text(self.key.public()))
    }

    /// The public half of the key that all targets seem to have.
    pub(crate) fn host(&self) -> &PublicKey {
        self.host.public()
    }

    /// The line by which clients that know no certificates believe it under these names.
    pub(crate) fn plain_line(&self, names: &[String]) -> String {
        format!("{} {}", names.join(","), text(self.host()))
    }

    /// The server's side of a connection whose client knows the server by these names.
    pub(crate) fn transport(
        &self,
        names: &[String],
        target: &str,
    ) -> Result<Transport, SshAuthorityError> {
        let now = seconds();
        let certificate = Certify {
            key: self.host.public(),
            is_host: true,
            key_id: &format!("chaperone for target {target}"),
            principals: names,
            valid_after: now.saturating_sub(BACK),
            valid_before: now + VALID,
            extensions: &[],
        };
        let certificate = certificate.by(&self.key)?;
        Ok(Transport::server(self.host.clone(), Some(certificate))?)
    }
}

fn read(folder: &Path, name: &str) -> Result<SecretKey, SshAuthorityError> {
    let path = folder.join(name);
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => SshAuthorityError::Missing(folder.into()),
        _ => SshAuthorityError::File { what: "read", path: path.clone(), source },
    };
    let mode = fs::metadata(&path).map_err(fail)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SshAuthorityError::Open { path, mode });
    }
    let text = Zeroizing::new(fs::read_to_string(&path).map_err(fail)?);
    let damaged = || SshAuthorityError::Damaged(path.clone());
    let seed = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| damaged())?);
    let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| damaged())?;
    Ok(SecretKey::from_seed(seed)?)
}

fn create(path: &Path) -> Result<(), SshAuthorityError> {
    let (_, seed) = SecretKey::generate()?;
    let text = Zeroizing::new(STANDARD.encode(*seed) + "\n");
    match authority::write(path, 0o600, text.as_bytes()) {
        Ok(()) => Ok(()),
        // Who comes second uses what is there.
        Err(authority::AuthorityError::File { source, .. })
            if source.kind() == io::ErrorKind::AlreadyExists =>
        {
            Ok(())
        }
        Err(authority::AuthorityError::File { what, path, source }) => {
            Err(SshAuthorityError::File { what, path, source })
        }
        Err(_) => Err(SshAuthorityError::Damaged(path.into())),
    }
}

/// A key as it stands in files.
pub(super) fn text(key: &PublicKey) -> String {
    format!("{} {}", key.kind(), STANDARD.encode(key.blob()))
}

/// Seconds since 1970.
pub(super) fn seconds() -> u64 {
    u64::try_from(clock::wall().0 / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_its_key_is_nobody_elses() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(SshAuthority::open(folder.path()), Err(SshAuthorityError::Missing(_))));
        let made = SshAuthority::open_or_create(folder.path()).expect("made");
        let found = SshAuthority::open_or_create(folder.path()).expect("found");
        assert_eq!(made.line(), found.line());
        assert!(made.line().starts_with("@cert-authority * ssh-ed25519 AAAA"));
        let names = ["web".to_owned(), "[10.0.0.7]:2222".to_owned()];
        assert_eq!(made.plain_line(&names), found.plain_line(&names));
        assert!(made.plain_line(&names).starts_with("web,[10.0.0.7]:2222 ssh-ed25519 AAAA"));
        assert_ne!(made.key().public(), made.host());
        for name in FILES {
            let path = folder.path().join(name);
            fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("set");
            let found = SshAuthority::open(folder.path());
            assert!(matches!(found, Err(SshAuthorityError::Open { .. })), "{name}");
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("set");
        }
    }
}
