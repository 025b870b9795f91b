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

/// An authority in a folder.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// What is particular about a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: a server's.
    #[default]
    Server,
    /// A server's whose time is over.
    Expired,
    /// A client's.
    Client,
}

impl Certificates {
    /// Makes an authority; its certificate is `NAME.pem`.
    ///
    /// # Errors
    /// Where its file cannot be written.
    pub fn authority(folder: &Path, name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?;
        fs::write(folder.join(name).with_extension("pem"), certificate.pem())?;
        Ok(Self { folder: folder.into(), issuer: Issuer::new(params, key) })
    }

    /// Makes a certificate for these names, `FILE.pem` with `FILE.key`; the key belongs to `owner`.
    ///
    /// # Errors
    /// Where its files cannot be written.
    pub fn issue(&self, file: &str, names: &[&str], kind: Kind, owner: u32) -> Result<PathBuf> {
        let key = KeyPair::generate()?;
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, *names.first().unwrap_or(&file));
        params.extended_key_usages = vec![match kind {
            Kind::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Kind::Server | Kind::Expired => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        if kind == Kind::Expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer)?;
        let path = self.folder.join(file).with_extension("pem");
        fs::write(&path, certificate.pem())?;
        let secret = path.with_extension("key");
        fs::write(&secret, key.serialize_pem())?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        chown(&secret, Some(owner), None)?;
        Ok(path)
    }
}
