//! What a client wants first: to be encrypted, to cancel, to start a session.

use std::{io, net::IpAddr};

use chaperone_model::{Closing, EventKind};
use chaperone_wire::postgres::{First, Refusal, Violation, first_packet, is_direct_tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Session, say, violation_refusal};
use crate::{
    config::AgentTls,
    relay::Ended,
    shared::Shared,
    socket::Socket,
    tls::{Stream, agent},
};

/// A client, and the first packet that is no request for encryption.
pub(super) struct Opening {
    pub(super) client: Stream,
    pub(super) first: First,
    /// The packet.
    pub(super) packet: Vec<u8>,
    /// What was sent behind it, before any answer.
    pub(super) ahead: Vec<u8>,
}

impl Session {
    /// Answers requests for encryption until the start-up or a cancel request comes.
    pub(super) async fn first(&self, socket: Socket) -> Result<Opening, Ended> {
        let lost = |error: io::Error| Ended::by(Closing::Agent, error.to_string());
        let mut client = Stream::Plain(socket);
        if begins_with_tls(&mut client).await.map_err(lost)? {
            client = self.encrypt(client).await?;
            if !agent::has_alpn(&client) {
                let why = "a connection that begins with TLS must choose the protocol \"postgresql\" by ALPN, and this one did not";
                say(&mut client, &Refusal::new("08P01", why)).await;
                return Err(self.not_encrypted(why));
            }
        }
        let mut packet = Vec::new();
        // Each kind of encryption can be asked for once.
        for _ in 0..3 {
            let (length, first) = loop {
                match first_packet(&packet) {
                    Ok(Some(found)) => break found,
                    Ok(None) => {}
                    Err(violation) => return Err(self.violated(&mut client, &violation).await),
                }
                match client.read_buf(&mut packet).await {
                    Ok(0) => {
                        return Err(Ended::by(Closing::Agent, "closed before a start-up packet"));
                    }
                    Ok(_) => {}
                    Err(error) => return Err(lost(error)),
                }
            };
            let ahead = packet.split_off(length);
            // What comes before an answer to these would count as encrypted once it is
            // (CVE-2021-23214).
            if !ahead.is_empty() && !matches!(first, First::Startup(_)) {
                let violation = Violation::Startup("more was sent before it was answered".into());
                return Err(self.violated(&mut client, &violation).await);
            }
            match first {
                First::Ssl if matches!(client, Stream::Tls(_)) => {
                    let violation = Violation::Startup("TLS was asked for inside TLS".into());
                    return Err(self.violated(&mut client, &violation).await);
                }
                First::Ssl if self.target().agent_tls != AgentTls::Refuse => {
                    client.write_all(b"S").await.map_err(lost)?;
                    client = self.encrypt(client).await?;
                }
                First::Ssl | First::GssEnc => {
                    client.write_all(b"N").await.map_err(lost)?;
                    client.flush().await.map_err(lost)?;
                }
                first => return Ok(Opening { client, first, packet, ahead }),
            }
            packet.clear();
        }
        let violation = Violation::Startup("encryption was asked for again and again".into());
        Err(self.violated(&mut client, &violation).await)
    }

    async fn encrypt(&self, client: Stream) -> Result<Stream, Ended> {
        match (client, self.target().agent_tls) {
            (Stream::Plain(_), AgentTls::Refuse) => Err(self.not_encrypted(
                "the client began with TLS, and the target's agent_tls is \"refuse\"",
            )),
            (Stream::Plain(socket), _) => accept(&self.shared, socket, self.original.0.ip())
                .await
                .map_err(|error| self.not_encrypted(&agent::explain(&error))),
            (encrypted @ Stream::Tls(_), _) => Ok(encrypted),
        }
    }

    fn not_encrypted(&self, why: &str) -> Ended {
        self.shared.counters.agent_tls_failed.up();
        self.shared.event(Some(self.id), EventKind::AgentTls, why);
        Ended::by(Closing::Daemon, why)
    }

    pub(super) async fn violated(&self, client: &mut Stream, violation: &Violation) -> Ended {
        self.shared.counters.client_violations.up();
        self.shared.event(Some(self.id), EventKind::Violation, format!("client: {violation}"));
        say(client, &violation_refusal(violation)).await;
        Ended::by(Closing::Daemon, format!("the client broke the protocol: {violation}"))
    }
}

/// Answers a client whose connection cannot be recorded up to where it listens for the reason.
pub(super) async fn listen_for_reason(
    shared: &Shared,
    socket: Socket,
    address: IpAddr,
    tls: AgentTls,
) -> io::Result<Stream> {
    let mut client = Stream::Plain(socket);
    if begins_with_tls(&mut client).await? {
        client = encrypt_plain(shared, client, address).await?;
    }
    let mut bytes = Vec::new();
    loop {
        match first_packet(&bytes) {
            Ok(Some((_, First::Ssl))) if tls != AgentTls::Refuse => {
                bytes.clear();
                client.write_all(b"S").await?;
                client = encrypt_plain(shared, client, address).await?;
            }
            Ok(Some((_, First::Ssl | First::GssEnc))) => {
                bytes.clear();
                client.write_all(b"N").await?;
            }
            Ok(Some(_)) | Err(_) => return Ok(client),
            Ok(None) if client.read_buf(&mut bytes).await? == 0 => return Ok(client),
            Ok(None) => {}
        }
    }
}

async fn encrypt_plain(shared: &Shared, client: Stream, address: IpAddr) -> io::Result<Stream> {
    match client {
        Stream::Plain(socket) => accept(shared, socket, address).await,
        encrypted @ Stream::Tls(_) => Ok(encrypted),
    }
}

async fn accept(shared: &Shared, socket: Socket, address: IpAddr) -> io::Result<Stream> {
    shared.acceptor.accept(socket, address).await
}

/// Looks at the first byte, which stays where it is.
async fn begins_with_tls(client: &mut Stream) -> io::Result<bool> {
    match client {
        Stream::Plain(socket) => Ok(socket.peek().await?.is_some_and(is_direct_tls)),
        Stream::Tls(_) => Ok(false),
    }
}
