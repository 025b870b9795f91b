//! The target's side: connecting, asking for TLS, and why that failed. Whom to believe is in
//! `verify`.

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chaperone_wire::postgres::{ALPN, tls_request};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, InconsistentKeys, RootCertStore,
    SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::{
    Stream, provider, tls_error,
    verify::{self, Verifier},
};
use crate::{
    addresses::TargetAddress,
    config::{ClientIdentity, Roots, Target, TlsMode},
    near,
    secret::SecretError,
    socket::{Route, Socket},
};

/// How long a target may take to accept a connection and to end a handshake.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is wrong with the files that TLS needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("cannot read {}: {reason}", path.display())]
    Read { path: PathBuf, reason: String },
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
    #[error("the system has no certificates of authorities: name a `ca` file")]
    NoRoots,
    #[error(
        "{} has no authority but this host's own, which vouches for targets towards agents and not towards chaperone", .0.display()
    )]
    OnlyOwn(PathBuf),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Ssh(#[from] crate::ssh::upstream::SshPrepareError),
    #[error("the key of {} does not fit: {reason}", path.display())]
    Key { path: PathBuf, reason: String },
}

/// Why there is no connection to a target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Connect(#[from] io::Error),
    #[error("the server does not speak TLS, and the target's mode is {0:?}")]
    NoTls(&'static str),
    #[error("the server answered the request for TLS with something else")]
    Answer,
    #[error("the server is not believed: {0}")]
    NotBelieved(String),
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
}

/// How to reach a target.
pub(crate) struct Connector {
    mode: TlsMode,
    config: Option<Arc<ClientConfig>>,
    name: Option<ServerName<'static>>,
    /// As the configuration lists them.
    addresses: Vec<TargetAddress>,
}

impl Connector {
    /// Reads what it needs. `identity` is shown to servers that ask for a client certificate, and
    /// `own` is the public key of this host's own authority.
    pub(crate) fn prepare(
        target: &Target,
        identity: Option<&ClientIdentity>,
        own: Option<&[u8]>,
    ) -> Result<Self, PrepareError> {
        let mode = target.tls.mode;
        let config = (mode != TlsMode::Disable)
            .then(|| client_config(mode, &target.tls.roots, identity, own).map(Arc::new))
            .transpose()?;
        let name = target.tls.name.clone().or_else(|| sole_name(&target.addresses));
        Ok(Self { mode, config, name, addresses: target.addresses.clone() })
    }

    /// Connects, in the clear or not, as the target's mode says; by a route where there is one.
    pub(crate) async fn connect(
        &self,
        to: SocketAddr,
        route: Option<&Route>,
    ) -> Result<Connected, ConnectError> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time");
        let connecting = async {
            if let Some(route) = route {
                return Ok((route.connect().await?, to));
            }
            let tcp = near::connect(to, &self.addresses).await?;
            let to = tcp.peer_addr().unwrap_or(to);
            Ok((Socket::Tcp(tcp), to))
        };
        let connected = timeout(PATIENCE, connecting).await;
        let (mut socket, to) = connected.unwrap_or_else(|_| Err(late()))?;
        socket.set_nodelay();
        let plain = |socket| Connected { stream: Stream::Plain(socket), identified: false };
        let Some(config) = &self.config else { return Ok(plain(socket)) };
        let handshake = async {
            socket.write_all(&tls_request()).await?;
            // One byte and no more: what comes behind it must be TLS (CVE-2021-23222).
            match socket.read_u8().await? {
                b'S' => self.encrypt(socket, config, to).await,
                b'N' if self.mode == TlsMode::Prefer => Ok(plain(socket)),
                b'N' => Err(ConnectError::NoTls(self.mode.as_str())),
                _ => Err(ConnectError::Answer),
            }
        };
        timeout(PATIENCE, handshake).await.unwrap_or_else(|_| Err(late().into()))
    }

    async fn encrypt(
        &self,
        socket: Socket,
        config: &Arc<ClientConfig>,
        to: SocketAddr,
    ) -> Result<Connected, ConnectError> {
        let shown = Arc::new(Shown::of(config));
        let mut config = ClientConfig::clone(config);
        config.client_auth_cert_resolver = shown.clone();
        let name = self.name.clone().unwrap_or_else(|| ServerName::IpAddress(to.ip().into()));
        let tls = TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await
            .map_err(|error| explain(&error))?;
        let identified = shown.shown.load(Ordering::Relaxed);
        Ok(Connected { stream: Stream::Tls(Box::new(tls.into())), identified })
    }
}

/// A connection to a target.
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    /// The server asked for a client certificate, and was shown one.
    pub(crate) identified: bool,
}

/// The client certificate for one connection: remembers whether it was shown.
#[derive(Debug)]
struct Shown {
    certificate: Arc<dyn ResolvesClientCert>,
    shown: AtomicBool,
}

impl Shown {
    fn of(config: &ClientConfig) -> Self {
        let certificate = config.client_auth_cert_resolver.clone();
        Self { certificate, shown: AtomicBool::new(false) }
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(
        &self,
        authorities: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let found = self.certificate.resolve(authorities, schemes)?;
        self.shown.store(true, Ordering::Relaxed);
        Some(found)
    }

    fn has_certs(&self) -> bool {
        self.certificate.has_certs()
    }
}

/// The hash of the server's certificate that SCRAM binds to (RFC 5929, section 4.1).
pub(crate) fn end_point(stream: &Stream) -> Option<Vec<u8>> {
    let Stream::Tls(tls) = stream else { return None };
    let certificate = tls.get_ref().1.peer_certificates()?.first()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let algorithm = parsed.signature_algorithm.algorithm.to_id_string();
    Some(match algorithm.as_str() {
        // ecdsa-with-SHA384, sha384WithRSAEncryption; then the same with SHA-512.
        "1.2.840.10045.4.3.3" | "1.2.840.113549.1.1.12" => Sha384::digest(certificate).to_vec(),
        "1.2.840.10045.4.3.4" | "1.2.840.113549.1.1.13" => Sha512::digest(certificate).to_vec(),
        // MD5 and SHA-1 are replaced by it as well. Ed25519 and RSA-PSS have no single hash that
        // the RFC names: as where the client cannot bind at all.
        "1.3.101.112" | "1.3.101.113" | "1.2.840.113549.1.1.10" => return None,
        _ => Sha256::digest(certificate).to_vec(),
    })
}

/// The target's one host name; with several the configuration has to say which.
fn sole_name(addresses: &[TargetAddress]) -> Option<ServerName<'static>> {
    let mut names = addresses.iter().filter_map(TargetAddress::name);
    let first = names.next()?.to_owned();
    if names.next().is_some() {
        return None;
    }
    ServerName::try_from(first).ok()
}

fn client_config(
    mode: TlsMode,
    roots: &Roots,
    identity: Option<&ClientIdentity>,
    own: Option<&[u8]>,
) -> Result<ClientConfig, PrepareError> {
    let (roots, named) = if mode.verifies() {
        load_roots(roots, own)?
    } else {
        (RootCertStore::empty(), Vec::new())
    };
    let verifier = Verifier { mode, roots, named, own: own.map(<[u8]>::to_vec) };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| PrepareError::Read { path: "TLS".into(), reason: error.to_string() })?
        // `Verifier` looks at all that the mode asks for.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let path = identity.certificate.clone();
            let chain = certificates(&path)?;
            let key = identity.key.read()?;
            let fail = |reason: String| PrepareError::Key { path: path.clone(), reason };
            let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
                .map_err(|error| fail(error.to_string()))?;
            // The library would not wipe it.
            let key = Zeroizing::new(key);
            let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
                .map_err(|error| fail(error.to_string()))?;
            let certified = CertifiedKey::new(chain, signer);
            match certified.keys_match() {
                Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
                Err(error) => return Err(fail(error.to_string())),
            }
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The authorities, and the certificates of the file that named them.
fn load_roots(
    roots: &Roots,
    own: Option<&[u8]>,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), PrepareError> {
    let mut store = RootCertStore::empty();
    let mut named = Vec::new();
    match roots {
        Roots::File(path) => {
            named = certificates(path)?;
            for certificate in &named {
                store.add(certificate.clone()).map_err(|error| PrepareError::Read {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
            }
            if let Some(own) = own {
                verify::without(own, &mut store);
            }
            if store.is_empty() {
                return Err(PrepareError::OnlyOwn(path.clone()));
            }
        }
        Roots::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if let Some(own) = own {
                verify::without(own, &mut store);
            }
            if store.is_empty() {
                return Err(PrepareError::NoRoots);
            }
        }
    }
    Ok((store, named))
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, PrepareError> {
    let read = |reason: String| PrepareError::Read { path: path.clone(), reason };
    let bytes = fs::read(path).map_err(|error| read(error.to_string()))?;
    let found = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| read(error.to_string()))?;
    if found.is_empty() { Err(PrepareError::Empty(path.clone())) } else { Ok(found) }
}

/// Why a connection was lost. In TLS 1.3 a server looks at the client's certificate only when the
/// client's handshake is over.
pub(crate) fn lost(error: &io::Error) -> String {
    if tls_error(error).is_some() { explain(error).to_string() } else { error.to_string() }
}

/// Why a handshake failed, each way that ops can do something about in words of its own.
fn explain(error: &io::Error) -> ConnectError {
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(error)) => ConnectError::NotBelieved(match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".into()
            }
            CertificateError::UnknownIssuer => {
                "its certificate is from an unknown authority".into()
            }
            CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
                "its certificate has no names (subjectAltName), which verify-full looks for".into()
            }
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "its certificate is for {}, not for {}",
                presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", "),
                expected.to_str()
            ),
            CertificateError::NotValidForName => "its certificate is for another name".into(),
            CertificateError::Other(other) => format!("its certificate cannot be used: {other}"),
            other => format!("its certificate cannot be used: {other:?}"),
        }),
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown,
        )) => ConnectError::Handshake(
            "it does not accept the client certificate, or wants one".into(),
        ),
        Some(error) => ConnectError::Handshake(error.to_string()),
        None => ConnectError::Handshake(error.to_string()),
    }
}

/// A name as people write it: the library says `DnsName("db.internal")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}
