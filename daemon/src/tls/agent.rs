//! The agent's side: TLS ends here, with a certificate for the name that the client asked for.

use std::{fmt, io, net::IpAddr, sync::Arc};

use chaperone_wire::postgres::ALPN;
use rustls::{
    AlertDescription, ServerConfig,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Stream,
    authority::{Authority, Names},
    provider, tls_error,
};
use crate::socket::Socket;

/// Takes agents' encrypted connections.
pub(crate) struct Acceptor {
    authority: Arc<Authority>,
    config: ServerConfig,
}

impl Acceptor {
    pub(crate) fn new(authority: Arc<Authority>) -> Result<Self, rustls::Error> {
        let resolver = Resolver { authority: authority.clone(), address: [0, 0, 0, 0].into() };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // As the server does: sessions are long, and none is taken up again.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { authority, config })
    }

    /// Takes the handshake. `address` is the one that the agent connected to.
    pub(crate) async fn accept(&self, socket: Socket, address: IpAddr) -> io::Result<Stream> {
        let mut config = self.config.clone();
        let authority = self.authority.clone();
        config.cert_resolver = Arc::new(Resolver { authority, address });
        let tls = TlsAcceptor::from(Arc::new(config)).accept(socket).await?;
        Ok(Stream::Tls(Box::new(tls.into())))
    }
}

/// Whether the client chose PostgreSQL's protocol by ALPN. Who begins with TLS unasked must
/// (protocol-flow, "SSL Session Encryption"), so that no other protocol's client is taken for one.
pub(crate) fn has_alpn(stream: &Stream) -> bool {
    matches!(stream, Stream::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(ALPN))
}

/// Why a client's handshake failed, as a sentence for operations.
pub(crate) fn explain(error: &io::Error) -> String {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate,
        )) => "the client does not trust this host's authority: `chaperone trust install` makes it known".into(),
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("the client ended the TLS handshake with the alert {alert:?}")
        }
        Some(error) => format!("the client's TLS handshake failed: {error}"),
        // libpq, where it was told to verify and has no file to do it with.
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the client asked for TLS and went away: it may have no file with this host's authority, which `chaperone trust install` gives it".into(),
        None => format!("the client's connection was lost in the TLS handshake: {error}"),
    }
}

struct Resolver {
    authority: Arc<Authority>,
    address: IpAddr,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolver({})", self.address)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().map(str::to_owned);
        let names = Names { host, address: self.address };
        self.authority
            .leaf(&names)
            .inspect_err(|error| tracing::error!(%error, "no certificate could be made"))
            .ok()
    }
}
