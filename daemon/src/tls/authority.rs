//! The host's authority: it vouches for targets towards this host's agents, and for nothing else.
//!
//! Two files in a folder of its own: `ca.pem`, which everybody may read and agents trust, and
//! `ca.key`, which never leaves. Certificates for single names are made when they are asked for.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::{CertifiedKey, SigningKey},
};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

/// How long the authority lives, in days: as long as a host.
const AUTHORITY_DAYS: i64 = 3650;
/// How long a certificate that it gives lives. It is made anew before.
const LEAF: Duration = Duration::days(7);
const RENEW: Duration = Duration::days(6);
/// Clocks that are a little slow must not find a certificate too young.
const BACK: Duration = Duration::hours(1);
/// Certificates that are kept; an agent can ask for any name.
const KEPT: usize = 512;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error("there is no authority in {}: `chaperone trust create` makes one", .0.display())]
    Missing(PathBuf),
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("others than its owner may read {} (mode {mode:04o}): make a new authority", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} and its key do not belong together, or are damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

/// See the module's comment.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    path: PathBuf,
    /// One key for all certificates of this process; it is nowhere else.
    leaf_key: KeyPair,
    /// What signs with it.
    signer: Arc<dyn SigningKey>,
    leaves: Mutex<HashMap<Names, Leaf>>,
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    /// The name that the client asked for (SNI).
    pub(crate) host: Option<String>,
    /// The address that it connected to.
    pub(crate) address: IpAddr,
}

struct Leaf {
    key: Arc<CertifiedKey>,
    renew: OffsetDateTime,
}

impl Authority {
    /// Opens the one in this folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let (path, key_path) = (certificate_path(folder), folder.join("ca.key"));
        let pem = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => AuthorityError::Missing(folder.into()),
            _ => file("read", &path)(source),
        })?;
        let about = fs::metadata(&key_path).map_err(file("read", &key_path))?;
        let mode = about.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(AuthorityError::Open { path: key_path, mode });
        }
        let key = fs::read_to_string(&key_path).map_err(file("read", &key_path))?;
        let key = Zeroizing::new(key);
        let damaged = |reason: String| AuthorityError::Damaged { path: path.clone(), reason };
        let key = KeyPair::from_pem(&key).map_err(|e| damaged(e.to_string()))?;
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| damaged(e.to_string()))?;
        let public = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|e| damaged(e.to_string()))?
            .1
            .subject_pki
            .subject_public_key
            .data
            .to_vec();
        if public != key.public_key_raw() {
            return Err(damaged("the key is another's".into()));
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|e| damaged(e.to_string()))?;
        let leaf_key = KeyPair::generate().map_err(|e| damaged(e.to_string()))?;
        // Borrowed, because copies would not be wiped.
        let signer = PrivatePkcs8KeyDer::from(leaf_key.serialized_der()).into();
        let signer = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&signer)
            .map_err(|e| damaged(e.to_string()))?;
        Ok(Self { issuer, certificate, path, leaf_key, signer, leaves: Mutex::default() })
    }

    /// Opens the one in this folder, or makes it. Answers whether it was made.
    pub(crate) fn open_or_create(
        folder: &Path,
        host: &str,
    ) -> Result<(Self, bool), AuthorityError> {
        match Self::open(folder) {
            Err(AuthorityError::Missing(_)) => {}
            found => return found.map(|authority| (authority, false)),
        }
        create(folder, host)?;
        Self::open(folder).map(|authority| (authority, true))
    }

    /// The certificate that agents trust, as a file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its public key: who shows a certificate with it, or one that it signed, is this daemon.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.issuer.key().public_key_raw()
    }

    /// SHA-256 of the certificate, as other tools show it.
    pub(crate) fn fingerprint(&self) -> String {
        let bytes = Sha256::digest(&self.certificate);
        bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// The end of its life, in seconds since 1970.
    pub(crate) fn expires(&self) -> i64 {
        x509_parser::parse_x509_certificate(&self.certificate)
            .map_or(0, |(_, found)| found.validity().not_after.timestamp())
    }

    /// A certificate for these names.
    pub(crate) fn leaf(&self, names: &Names) -> Result<Arc<CertifiedKey>, rcgen::Error> {
        let now = OffsetDateTime::now_utc();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(names)
            && now < leaf.renew
        {
            return Ok(leaf.key.clone());
        }
        if leaves.len() >= KEPT {
            leaves.clear();
        }
        let key = Arc::new(self.make(names, now)?);
        leaves.insert(names.clone(), Leaf { key: key.clone(), renew: now + RENEW });
        Ok(key)
    }

    fn make(&self, names: &Names, now: OffsetDateTime) -> Result<CertifiedKey, rcgen::Error> {
        let mut params = CertificateParams::default();
        let address = names.address.to_string();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, common_name(names, &address));
        params.subject_alt_names.push(SanType::IpAddress(names.address));
        if let Some(host) = &names.host {
            params.subject_alt_names.push(SanType::DnsName(host.as_str().try_into()?));
        }
        params.not_before = now - BACK;
        params.not_after = now + LEAF;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&self.leaf_key, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok(CertifiedKey::new(chain, self.signer.clone()))
    }
}

/// Where the certificate is.
pub(crate) fn certificate_path(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

/// A common name holds 64 characters (RFC 5280, appendix A.1); clients look at the others anyway.
fn common_name<'a>(names: &'a Names, address: &'a str) -> &'a str {
    names.host.as_deref().filter(|host| host.len() <= 64).unwrap_or(address)
}

fn create(folder: &Path, host: &str) -> Result<(), AuthorityError> {
    let path = certificate_path(folder);
    let broken =
        |e: rcgen::Error| AuthorityError::Damaged { path: path.clone(), reason: e.to_string() };
    let key = KeyPair::generate().map_err(broken)?;
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    let name = format!("chaperone on {host}");
    params.distinguished_name.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    // A host that is set up anew has an authority of another name, so that nothing mixes them up.
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(key.public_key_raw()));
    let mark = u32::from_be_bytes([a, b, c, d]);
    params.distinguished_name.push(DnType::OrganizationalUnitName, format!("{mark:08x}"));
    params.not_before = now - BACK;
    params.not_after = now + Duration::days(AUTHORITY_DAYS);
    // It signs certificates for names, and no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(broken)?;

    DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(file("make", folder))?;
    // The key first: a certificate without it would be of no use. Who comes second finds the
    // name taken and uses what is there.
    let secret = Zeroizing::new(key.serialize_pem());
    write(&folder.join("ca.key"), 0o600, secret.as_bytes())?;
    write(&path, 0o644, certificate.pem().as_bytes())?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(file("write", folder))
}

pub(crate) fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), AuthorityError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let write = |path: &Path| {
        let mut out = options.open(path)?;
        out.write_all(bytes)?;
        out.sync_all()
    };
    write(path).map_err(file("write", path))
}

fn file(what: &'static str, path: &Path) -> impl Fn(io::Error) -> AuthorityError {
    let path = path.to_owned();
    move |source| AuthorityError::File { what, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(host: Option<&str>) -> Names {
        Names { host: host.map(Into::into), address: [127, 0, 0, 9].into() }
    }

    #[test]
    fn an_authority_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("authority");
        assert!(matches!(Authority::open(&folder), Err(AuthorityError::Missing(_))));
        let (first, made) = Authority::open_or_create(&folder, "host").expect("made");
        assert!(made);
        let (second, made) = Authority::open_or_create(&folder, "host").expect("found");
        assert!(!made);
        assert_eq!(first.fingerprint(), second.fingerprint());
        let bits = |file: &str| {
            fs::metadata(folder.join(file)).expect("there").permissions().mode() & 0o777
        };
        assert_eq!((bits("ca.key"), bits("ca.pem")), (0o600, 0o644));

        fs::set_permissions(folder.join("ca.key"), PermissionsExt::from_mode(0o644)).expect("set");
        assert!(matches!(Authority::open(&folder), Err(AuthorityError::Open { .. })));
    }

    #[test]
    fn p6_the_key_is_not_copied_for_each_certificate() {
        let folder = tempfile::tempdir().expect("a folder");
        let (authority, _) = Authority::open_or_create(folder.path(), "host").expect("made");
        let leaf = |host| authority.leaf(&names(Some(host))).expect("a certificate");
        let (a, b) = (leaf("a"), leaf("b"));
        assert_ne!(a.cert[0], b.cert[0]);
        assert!(Arc::ptr_eq(&a.key, &b.key));
        assert_eq!(a.keys_match(), Ok(()));
    }

    #[test]
    fn a_key_of_another_authority_is_found_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        Authority::open_or_create(&a, "a").expect("made");
        Authority::open_or_create(&b, "b").expect("made");
        fs::copy(a.join("ca.key"), b.join("ca.key")).expect("copied");
        assert!(matches!(Authority::open(&b), Err(AuthorityError::Damaged { .. })));
    }

    #[test]
    fn a_certificate_is_for_the_name_that_was_asked_for_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let (authority, _) = Authority::open_or_create(folder.path(), "host").expect("made");
        let leaf = authority.leaf(&names(Some("db.internal"))).expect("made");
        let again = authority.leaf(&names(Some("db.internal"))).expect("made");
        assert!(Arc::ptr_eq(&leaf, &again));
        let (_, found) = x509_parser::parse_x509_certificate(&leaf.cert[0]).expect("valid");
        let alternatives = found.subject_alternative_name().expect("valid").expect("there");
        assert_eq!(alternatives.value.general_names.len(), 2);
        assert!(!found.is_ca());
        for number in 0..=KEPT {
            authority.leaf(&names(Some(&format!("a{number}")))).expect("made");
        }
        assert!(authority.leaves.lock().expect("whole").len() <= KEPT);
    }
}
