//! What the daemon needs to reach a target, read and checked once: files, keys, passwords.

use std::sync::Arc;

use chaperone_model::Protocol;
use chaperone_wire::{
    postgres::{Account, Method, NONCE, SignOn, SignOnError, SignOnStep},
    ssh::PublicKey,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
};

use crate::{
    config::{Credential, Target},
    secret::{SecretError, Source},
    ssh::upstream::{SshPrepareError, SshUpstream},
    tls::{
        Stream, provider,
        target::{self, Connector, PrepareError, end_point},
    },
};

/// How to reach a target.
pub(crate) struct Upstream {
    /// Where agents sign on themselves.
    pub(crate) relayed: Connector,
    /// In the order of the target's credentials.
    pub(crate) held: Vec<Held>,
    /// Of a target that speaks SSH.
    pub(crate) ssh: Option<SshUpstream>,
}

/// A credential.
pub(crate) struct Held {
    pub(crate) connector: Connector,
    pub(crate) account: Account,
}

impl Upstream {
    /// Reads all that a target's configuration names. `own` is the public key of this host's own
    /// authority.
    pub(crate) fn prepare(
        target: &Target,
        own: Option<&[u8]>,
        own_ssh: Option<&PublicKey>,
    ) -> Result<Self, PrepareError> {
        if target.protocol == Protocol::Ssh {
            return Ok(Self {
                relayed: Connector::prepare(target, None, None)?,
                held: Vec::new(),
                ssh: Some(SshUpstream::prepare(target, own_ssh)?),
            });
        }
        let identity = target.tls.identity.as_ref();
        let held = |credential: &Credential| {
            Ok(Held {
                connector: Connector::prepare(
                    target,
                    credential.identity.as_ref().or(identity),
                    own,
                )?,
                account: Account {
                    user: credential.user.clone(),
                    password: credential.password.as_ref().map(Source::read).transpose()?,
                    methods: credential.methods.clone(),
                    keys: Arc::default(),
                    verified: target.tls.mode.verifies(),
                    channel: None,
                },
            })
        };
        Ok(Self {
            relayed: Connector::prepare(target, identity, own)?,
            held: target.credentials.iter().map(held).collect::<Result<_, PrepareError>>()?,
            ssh: None,
        })
    }
}

/// Reads all that a target's configuration names, for those who only check it. Answers what is
/// there for nobody but the daemon's unit.
pub(crate) fn examine(
    target: &Target,
    own: Option<&[u8]>,
) -> Result<Vec<SecretError>, PrepareError> {
    if target.protocol == Protocol::Ssh {
        return match SshUpstream::prepare(target, None) {
            Err(SshPrepareError::Secret(error @ SecretError::NoCredentials(_))) => Ok(vec![error]),
            prepared => Ok(prepared.map(|_| Vec::new())?),
        };
    }
    let identity = target.tls.identity.as_ref();
    let others = target.credentials.iter().filter_map(|credential| credential.identity.as_ref());
    let connectors = std::iter::once(identity)
        .chain(others.map(Some))
        .map(|identity| Connector::prepare(target, identity, own).map(drop));
    let passwords = target.credentials.iter().filter_map(|credential| credential.password.as_ref());
    let passwords = passwords.map(|password| Ok(password.read().map(drop)?));
    let mut elsewhere = Vec::new();
    for read in connectors.chain(passwords) {
        match read {
            Err(PrepareError::Secret(error @ SecretError::NoCredentials(_))) => {
                elsewhere.push(error);
            }
            read => read?,
        }
    }
    Ok(elsewhere)
}

/// A server has accepted a sign-on.
pub(crate) struct SignedOn {
    /// What the server said for the client, from `AuthenticationOk` on or before.
    pub(crate) said: Vec<u8>,
    /// By which method it was convinced, where it asked for a password.
    pub(crate) how: Option<&'static str>,
}

/// Why it has not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignOnFailure {
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error(transparent)]
    Refused(#[from] SignOnError),
}

/// A server that was told the password may repeat it in its error, which is shown and recorded.
fn kept_quiet(error: SignOnError, password: Option<&SecretString>) -> SignOnError {
    match (error, password) {
        (SignOnError::Server(mut said), Some(password)) => {
            let hide = |text: String| text.replace(password.expose_secret(), "…");
            said.message = said.message.map(hide);
            said.code = said.code.map(hide);
            SignOnError::Server(said)
        }
        (error, _) => error,
    }
}

/// Signs on; the start-up message has been sent. `identified`: the server asked for a client
/// certificate and was shown one. `deriving` are the keys that may be derived at a time.
pub(crate) async fn sign_on(
    server: &mut Stream,
    account: &Account,
    identified: bool,
    deriving: &Semaphore,
) -> Result<SignedOn, SignOnFailure> {
    let lost = |error: std::io::Error| SignOnFailure::Lost(target::lost(&error));
    let mut nonce = [0; NONCE];
    if provider().secure_random.fill(&mut nonce).is_err() {
        return Err(SignOnFailure::Lost("there is no randomness".into()));
    }
    let password = account.password.clone();
    let mut account = Account { channel: end_point(server), ..account.clone() };
    if identified {
        // It has asked, and need not ask for more.
        account.methods.push(Method::None);
    }
    let mut sign_on = SignOn::new(account, nonce);
    let mut bytes = Vec::new();
    loop {
        // A key takes thousands of hashes: others on this thread do not wait for that, and only so
        // many cores are kept busy by it, whatever servers ask for.
        if let Some(derivation) = sign_on.derivation(&bytes) {
            let _permit = deriving.acquire().await;
            let derived = tokio::task::spawn_blocking(move || derivation.run())
                .await
                .map_err(|error| SignOnFailure::Lost(error.to_string()))?;
            sign_on.derived(derived);
        }
        let step = sign_on.server(&bytes);
        match step.map_err(|error| kept_quiet(error, password.as_ref()))? {
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
