//! What the daemon needs to reach a target, read and checked once: files, keys, passwords.

use chaperone_wire::postgres::{Account, NONCE, SignOn, SignOnError, SignOnStep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    config::{Credential, Target},
    tls::{
        Stream, provider,
        target::{Connector, PrepareError, end_point},
    },
};

/// How to reach a target.
pub(crate) struct Upstream {
    /// Where agents sign on themselves.
    pub(crate) relayed: Connector,
    /// In the order of the target's credentials.
    pub(crate) held: Vec<Held>,
}

/// A credential.
pub(crate) struct Held {
    pub(crate) connector: Connector,
    pub(crate) account: Account,
}

impl Upstream {
    /// Reads all that a target's configuration names.
    pub(crate) fn prepare(target: &Target) -> Result<Self, PrepareError> {
        let identity = target.tls.identity.as_ref();
        let held = |credential: &Credential| {
            Ok(Held {
                connector: Connector::prepare(target, credential.identity.as_ref().or(identity))?,
                account: Account {
                    user: credential.user.clone(),
                    password: credential.password.as_ref().map(|p| p.read()).transpose()?,
                    methods: credential.methods.clone(),
                    channel: None,
                },
            })
        };
        Ok(Self {
            relayed: Connector::prepare(target, identity)?,
            held: target.credentials.iter().map(held).collect::<Result<_, PrepareError>>()?,
        })
    }
}

/// A server has accepted a sign-on.
pub(crate) struct SignedOn {
    /// What the server said for the client, from `AuthenticationOk` on or before.
    pub(crate) said: Vec<u8>,
    /// How it was convinced.
    pub(crate) how: &'static str,
}

/// Why it has not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignOnFailure {
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error(transparent)]
    Refused(#[from] SignOnError),
}

/// Signs on; the start-up message has been sent.
pub(crate) async fn sign_on(
    server: &mut Stream,
    account: &Account,
) -> Result<SignedOn, SignOnFailure> {
    let lost = |error: std::io::Error| SignOnFailure::Lost(error.to_string());
    let mut nonce = [0; NONCE];
    if provider().secure_random.fill(&mut nonce).is_err() {
        return Err(SignOnFailure::Lost("there is no randomness".into()));
    }
    let account = Account { channel: end_point(server), ..account.clone() };
    let mut sign_on = SignOn::new(account, nonce);
    let mut bytes = Vec::new();
    loop {
        // A proof takes thousands of hashes: others on this thread do not wait for that.
        let (step, back) = tokio::task::spawn_blocking(move || {
            let step = sign_on.server(&bytes);
            (step, (sign_on, bytes))
        })
        .await
        .map_err(|error| SignOnFailure::Lost(error.to_string()))?;
        (sign_on, bytes) = back;
        match step? {
            SignOnStep::Need(done, _) => {
                bytes.drain(..done);
                if server.read_buf(&mut bytes).await.map_err(lost)? == 0 {
                    return Err(SignOnFailure::Lost("the server closed it".into()));
                }
            }
            SignOnStep::Send(done, answer) => {
                bytes.drain(..done);
                server.write_all(&answer).await.map_err(lost)?;
                server.flush().await.map_err(lost)?;
            }
            SignOnStep::Done(done) => {
                let mut said = sign_on.take_kept();
                said.extend_from_slice(bytes.get(done..).unwrap_or_default());
                return Ok(SignedOn { said, how: sign_on.how() });
            }
        }
    }
}
