//! The target's end: what the daemon needs to reach it, and reaching it.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chaperone_model::EventKind;
use chaperone_wire::ssh::{
    Certify, Credential as Shown, HostKey, KeyError, Known, PublicKey, SecretKey, SignOn,
    SignOnStep, Transport, Violation, is_account,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::{
    authority::seconds,
    link::{Link, LinkError},
};
use crate::{
    config::{Credential, HostKeys, Target},
    near,
    secret::SecretError,
    session::{Session, Tunnel},
    socket::Socket,
};

/// How long a server may take to answer, and to let us in.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a certificate for a person's account is valid: it is used at once.
const VALID: u64 = 5 * 60;
const BACK: u64 = 60;
/// What such a certificate may be used for (PROTOCOL.certkeys); forwards are decided here.
const EXTENSIONS: [&str; 5] = [
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
];

/// How to reach an SSH target.
pub(crate) struct SshUpstream {
    known: Known,
    /// Whether a key of which nothing is known is believed when it is first seen.
    first_use: bool,
    /// What is no target's key: this host's own.
    own: Option<PublicKey>,
    /// In the order of the target's credentials.
    held: Vec<Held>,
}

/// A credential.
struct Held {
    user: String,
    key: Option<Arc<SecretKey>>,
    authority: Option<SecretKey>,
    password: Option<SecretString>,
}

/// What cannot be used of a target's entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SshPrepareError {
    #[error("cannot read the host keys {path}: {reason}")]
    HostKeys { path: String, reason: String },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{what}: {error}")]
    Key { what: String, error: KeyError },
}

impl SshUpstream {
    /// Reads all that a target's configuration names. `own`: this host's own authority, which vouches
    /// for every host towards agents and must vouch for none towards us.
    pub(crate) fn prepare(
        target: &Target,
        own: Option<&PublicKey>,
    ) -> Result<Self, SshPrepareError> {
        let mut known = Known::default();
        let mut first_use = false;
        for from in &target.host_keys {
            let (path, added) = match from {
                HostKeys::FirstUse => {
                    first_use = true;
                    continue;
                }
                HostKeys::Key(text) => (text.clone(), known.add_key(text)),
                HostKeys::File(path) => {
                    let text = fs::read_to_string(path).map_err(|error| error.to_string());
                    let added = text.and_then(|text| known.add_file(&text));
                    let path = path.display().to_string();
                    for line in added.iter().flatten() {
                        tracing::warn!("{path}: {line}: it makes no host key known");
                    }
                    (path, added.map(drop))
                }
            };
            added.map_err(|reason| SshPrepareError::HostKeys { path, reason })?;
        }
        if let Some(own) = own {
            known.forget(own);
        }
        let held = target.credentials.iter().map(Held::read).collect::<Result<_, _>>()?;
        Ok(Self { known, first_use, own: own.cloned(), held })
    }
}

impl Held {
    fn read(credential: &Credential) -> Result<Self, SshPrepareError> {
        let key = |source: &crate::secret::Source| {
            let mut text = zeroize::Zeroizing::new(source.read()?.expose_secret().to_owned());
            text.push('\n');
            SecretKey::from_openssh(&text)
                .map_err(|error| SshPrepareError::Key { what: source.to_string(), error })
        };
        Ok(Self {
            user: credential.user.clone(),
            key: credential.key.as_ref().map(key).transpose()?.map(Arc::new),
            authority: credential.authority.as_ref().map(key).transpose()?,
            password: credential.password.as_ref().map(crate::secret::Source::read).transpose()?,
        })
    }

    /// What a server is shown.
    fn shown(&self, session: &Session, user: &str) -> Result<Vec<Shown>, KeyError> {
        let mut shown = Vec::new();
        if let Some(key) = &self.key {
            shown.push(Shown::Key(key.clone(), None));
        }
        if let Some(authority) = &self.authority {
            let (key, _) = SecretKey::generate()?;
            let identity = &session.identity;
            let version = identity.version.as_ref().map_or("?", |version| &version.text);
            let now = seconds();
            let certificate = Certify {
                key: key.public(),
                is_host: false,
                key_id: &format!("{}@{version}/{}", identity.agent, identity.run.name),
                principals: &[user.to_owned()],
                valid_after: now.saturating_sub(BACK),
                valid_before: now + VALID,
                extensions: &EXTENSIONS,
            };
            let certificate = certificate.by(authority)?;
            shown.push(Shown::Key(Arc::new(key), Some(certificate)));
        }
        shown.extend(self.password.clone().map(Shown::Password));
        Ok(shown)
    }
}

/// A target that has let the daemon in.
pub(super) struct Reached {
    pub(super) link: Link,
    pub(super) user: String,
    pub(super) method: String,
    pub(super) host_key: String,
}

/// Why it has not.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReachError {
    #[error("{0}")]
    Connect(std::io::Error),
    #[error("it did not answer in time")]
    Late,
    #[error("{0}")]
    Link(LinkError),
    #[error("chaperone holds no credential of it for this agent")]
    NoCredential,
    #[error("the host key that was pinned at first use cannot be read: {0}")]
    Pin(String),
    #[error("it does not let {0}")]
    SignOn(String),
    #[error("it does not take the client's password")]
    Password,
    #[error("there the password has expired: set another one")]
    Expired,
    #[error(
        "{0:?} is no account's name alone: servers read more into such a name, and chaperone does not pass it on"
    )]
    Account(String),
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Session {
    /// Whether the daemon has a credential of the target.
    pub(super) fn ssh_holds(&self) -> bool {
        !self.target().credentials.is_empty()
    }
}

/// Connects to the target that the agent asked for and signs on there.
pub(super) async fn reach(
    session: &Session,
    asked_user: &str,
    password: Option<SecretString>,
) -> Result<Reached, ReachError> {
    let Some(upstream) = session.ssh_upstream() else { return Err(ReachError::NoCredential) };
    let credential = session.target().credential(&session.identity.agent);
    let held = match credential.map_err(|_| ReachError::NoCredential)? {
        Some(index) => Some(upstream.held.get(index).ok_or(ReachError::NoCredential)?),
        None => None,
    };
    let own_user = held.map(|held| held.user.as_str()).filter(|user| *user != "*");
    let user = own_user.unwrap_or(asked_user).to_owned();
    if !is_account(&user) {
        return Err(ReachError::Account(user.chars().take(64).collect()));
    }
    let shown = match (held, password.clone()) {
        (Some(held), _) => held.shown(session, &user)?,
        (None, password) => password.into_iter().map(Shown::Password).collect(),
    };
    timeout(PATIENCE, connect(session, upstream, user, shown, held.is_none()))
        .await
        .unwrap_or(Err(ReachError::Late))
}

async fn connect(
    session: &Session,
    upstream: &SshUpstream,
    user: String,
    shown: Vec<Shown>,
    relayed: bool,
) -> Result<Reached, ReachError> {
    let to = session.original.0;
    let names = known_as(session);
    let listed = &session.target().addresses;
    let connected = match session.route() {
        Some(route) => route.connect().await,
        None => near::connect(to, listed).await.map(Socket::Tcp),
    };
    let socket = connected.map_err(ReachError::Connect)?;
    socket.set_nodelay();
    let mut known = upstream.known.clone();
    let host = &session.shared.ssh_host;
    let name = pinned_as(session);
    // In a tunnel somebody else may have the target's address, and would be believed from then on.
    let is_sure = session.tunnel.as_ref().is_none_or(Tunnel::is_believed);
    let pins = upstream.first_use.then(|| host.pins.clone());
    let pinned = pins.as_ref().and_then(|pins| pins.of(&name));
    if let Some(key) = &pinned {
        known.add_key(key).map_err(|error| ReachError::Pin(error.clone()))?;
    }
    let own = [Some(host.host().clone()), upstream.own.clone()];
    let algorithms = known.algorithms(&names);
    let newly = Arc::new(AtomicBool::new(false));
    let noted = newly.clone();
    let place = name.clone();
    let believes = Box::new(move |key: &HostKey| {
        if own.iter().flatten().any(|own| *own == key.key) {
            return Err("it shows the host key of this daemon, which is no target".into());
        }
        match (known.believes(&names, key, seconds()), &pins) {
            (Err(_), Some(pins)) if is_sure && pinned.is_none() && known.is_silent(&names, key) => {
                noted.store(pins.pin(&place, &key.key)?, Ordering::Relaxed);
                Ok(())
            }
            (Err(why), Some(pins)) if pinned.is_some() => Err(format!(
                "{why}, and was pinned at first use; where the new one is right, take the line of {place} out of {} and start the daemon anew",
                pins.path().display()
            )),
            (believed, _) => believed,
        }
    });
    let violated = |broken: Violation| ReachError::Link(broken.into());
    let transport = Transport::client(algorithms, believes).map_err(violated)?;
    let mut link = Link::new(socket, transport);
    while !link.transport.is_open() {
        link.settle().await.map_err(ReachError::Link)?;
    }
    if newly.load(Ordering::Relaxed)
        && let Some(key) = link.transport.host_key().map(|key| &key.key)
    {
        let kind = key.kind();
        let detail = format!(
            "{name} of target {} shows {kind} {}, which is believed from here on",
            session.target,
            key.fingerprint()
        );
        session.shared.event(Some(session.id), EventKind::HostKeyPinned, detail);
    }
    let mut sign_on = SignOn::new(&user, link.transport.session(), shown);
    link.transport.send(&[&sign_on.begin()]).map_err(violated)?;
    loop {
        link.flush().await.map_err(ReachError::Link)?;
        let payload = link.next().await.map_err(ReachError::Link)?;
        match sign_on.server(&payload).map_err(violated)? {
            SignOnStep::Wait => {}
            SignOnStep::Send(said) => link.transport.send(&[&said]).map_err(violated)?,
            SignOnStep::Done(method) => {
                let key = link.transport.host_key().map(|key| key.key.fingerprint());
                let method = if relayed { "relayed".into() } else { method.to_owned() };
                return Ok(Reached { link, user, method, host_key: key.unwrap_or_default() });
            }
            SignOnStep::Expired => return Err(ReachError::Expired),
            SignOnStep::Refused(_) if relayed => return Err(ReachError::Password),
            SignOnStep::Refused(methods) => {
                return Err(ReachError::SignOn(format!(
                    "{user} in with the daemon's credential (it takes {methods})"
                )));
            }
        }
    }
}

/// The name under which a key is pinned: that of the target's host, where it has one alone, so that
/// another address of it changes nothing; else the address.
fn pinned_as(session: &Session) -> String {
    let addresses = &session.target().addresses;
    let own = match addresses.as_slice() {
        [one] => one.known_as(),
        _ => None,
    };
    let name = own.unwrap_or_else(|| {
        let to = session.original.0;
        let host = to.ip().to_string();
        let host = session.tunnel.as_ref().map_or(host, |tunnel| tunnel.host().to_lowercase());
        if to.port() == 22 { host } else { format!("[{host}]:{}", to.port()) }
    });
    // What lies behind another target is named as that sees it: the same name is another host elsewhere.
    match session.target().through.as_slice() {
        [] => name,
        behind => {
            let behind: Vec<_> = behind.iter().map(ToString::to_string).collect();
            format!("{name}%{}", behind.join("%"))
        }
    }
}

/// The names under which the target's host key may be known.
fn known_as(session: &Session) -> Vec<String> {
    let to = session.original.0;
    let configured = session.target().addresses.iter().filter_map(|address| address.name());
    let mut names = vec![to.ip().to_string()];
    names.extend(configured.map(str::to_lowercase));
    if let Some(tunnel) = &session.tunnel {
        names.push(tunnel.host().to_lowercase());
    } else {
        // On this host a server is one server at all of its addresses.
        let listed = near::listed(to, &session.target().addresses);
        names.extend(listed.iter().map(ToString::to_string));
    }
    // As OpenSSH writes them (sshd(8)): a port of its own belongs to the name.
    if to.port() != 22 {
        let with_port: Vec<_> =
            names.iter().map(|name| format!("[{name}]:{}", to.port())).collect();
        names.extend(with_port);
    }
    names
}
