//! Whether a server is believed: as far as the target's mode asks for (libpq-ssl, "SSL Mode
//! Descriptions").

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::{certificate::X509Certificate, x509::X509Version};

use super::provider;
use crate::config::TlsMode;

/// Believes a server as far as the mode asks for.
pub(super) struct Verifier {
    pub(super) mode: TlsMode,
    /// Who may vouch for a server, where the mode wants that.
    pub(super) roots: RootCertStore,
    /// Certificates that operations named themselves. A server may have one of them.
    pub(super) named: Vec<CertificateDer<'static>>,
    /// The public key of this host's own authority. It vouches towards agents for any name that
    /// they ask for, so that it must not be believed here, whoever else trusts it.
    pub(super) own: Option<Vec<u8>>,
}

/// Why a certificate cannot be verified that may well be in use.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is of X.509 version 1, in which no names and no purpose can be said: issue one of version 3, or name this one itself as `ca` and use verify-ca"
)]
struct Version1;

/// Why a certificate is not believed though its authority may be among those of the system.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is from this host's own authority, which vouches for targets towards agents and not towards chaperone"
)]
struct Own;

/// Takes this host's own authority out of what may vouch for a server.
pub(super) fn without(own: &[u8], store: &mut RootCertStore) {
    // It is the end of what is encoded before it: the algorithm, and that so many bits follow.
    store.roots.retain(|root| !root.subject_public_key_info.ends_with(own));
}

impl Verifier {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let read = read(certificate)?;
        // Also where an authority that is trusted has signed it.
        let own = self.own.as_deref();
        for certificate in std::iter::once(certificate).chain(intermediates) {
            if self::read(certificate)
                .is_ok_and(|read| Some(&*read.public_key().subject_public_key.data) == own)
            {
                return Err(CertificateError::Other(OtherError(Arc::new(Own))).into());
            }
        }
        // A self-signed one, as PostgreSQL's documentation makes it (ssl-tcp, "Creating
        // Certificates"): it is its own authority, which is no path in the sense of RFC 5280.
        let named = self.named.iter().any(|named| named == certificate);
        if named {
            in_its_time(&read, now)?;
        }
        if named && self.mode != TlsMode::VerifyFull {
            return Ok(());
        }
        if read.version() == X509Version::V1 {
            return Err(CertificateError::Other(OtherError(Arc::new(Version1))).into());
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        if !named {
            let algorithms = provider().signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.roots,
                intermediates,
                now,
                algorithms,
            )
            .map_err(|error| match error {
                // What is no path because it ends where it begins.
                rustls::Error::InvalidCertificate(CertificateError::Other(_))
                    if read.issuer() == read.subject() =>
                {
                    CertificateError::UnknownIssuer.into()
                }
                error => error,
            })?;
        }
        if self.mode == TlsMode::VerifyFull {
            verify_server_name(&parsed, name)?;
        }
        Ok(())
    }
}

fn read<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, rustls::Error> {
    x509_parser::parse_x509_certificate(certificate)
        .map(|(_, read)| read)
        .map_err(|_| CertificateError::BadEncoding.into())
}

fn in_its_time(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now > validity.not_after.timestamp() {
        Err(CertificateError::Expired.into())
    } else if now < validity.not_before.timestamp() {
        Err(CertificateError::NotValidYet.into())
    } else {
        Ok(())
    }
}

/// A certificate of version 1. The library does not read these, not even for their keys, and the
/// modes that believe any certificate take them, too.
fn version_1<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    read(certificate).ok().filter(|read| read.version() == X509Version::V1)
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({})", self.mode.as_str())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.mode.verifies() {
            self.verify(end_entity, intermediates, name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        let Some(read) = version_1(certificate) else {
            return verify_tls12_signature(message, certificate, signature, algorithms);
        };
        let key = &read.public_key().subject_public_key.data;
        let of_scheme = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signature.scheme);
        let signed = of_scheme.flat_map(|(_, all)| all.iter()).any(|algorithm| {
            algorithm.verify_signature(key, message, signature.signature()).is_ok()
        });
        if signed {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        match version_1(certificate) {
            None => verify_tls13_signature(message, certificate, signature, algorithms),
            Some(read) => {
                let key = SubjectPublicKeyInfoDer::from(read.public_key().raw);
                verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
