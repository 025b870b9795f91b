//! Certificates for the tests' servers and clients, of an authority of their own.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

/// An authority with a folder of its own, which goes when this is dropped.
#[derive(Debug)]
pub struct Certificates {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// What is particular about a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: a server's.
    #[default]
    Server,
    /// A server's or a client's whose time is over.
    Expired,
    /// A server's of no authority, without names but the common one, as PostgreSQL's documentation
    /// makes it.
    SelfSigned,
    /// A client's.
    Client,
}

impl Certificates {
    /// Makes an authority; its certificate is `authority.pem`.
    ///
    /// # Errors
    /// Where its file cannot be written.
    pub fn new(name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("chaperone-certificates-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?;
        fs::write(folder.path().join("authority.pem"), certificate.pem())?;
        Ok(Self { folder, issuer: Issuer::new(params, key) })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its own certificate.
    pub fn root(&self) -> PathBuf {
        self.folder().join("authority.pem")
    }

    /// Makes a certificate for these names, `FILE.pem` with `FILE.key`; the key belongs to `owner`.
    ///
    /// # Errors
    /// Where its files cannot be written.
    pub fn issue(&self, file: &str, names: &[&str], kind: Kind, owner: u32) -> Result<PathBuf> {
        let key = KeyPair::generate()?;
        let listed = if kind == Kind::SelfSigned { &[] } else { names };
        let mut params =
            CertificateParams::new(listed.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, *names.first().unwrap_or(&file));
        params.extended_key_usages = match kind {
            Kind::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Kind::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Kind::Expired => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Kind::SelfSigned => Vec::new(),
        };
        if kind == Kind::Expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let certificate = if kind == Kind::SelfSigned {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.self_signed(&key)?
        } else {
            params.signed_by(&key, &self.issuer)?
        };
        let path = self.folder().join(file).with_extension("pem");
        fs::write(&path, certificate.pem())?;
        let secret = path.with_extension("key");
        fs::write(&secret, key.serialize_pem())?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        chown(&secret, Some(owner), None)?;
        Ok(path)
    }
}
