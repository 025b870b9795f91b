//! One intercepted SSH connection, from its first line to its end: the agent's SSH ends here, the
//! target's begins with the daemon's own credential, and what passes is decided and recorded.
//!
//! Does not belong here: the protocol itself (`chaperone_wire::ssh`).

use std::{rc::Rc, sync::Arc};

use chaperone_model::{Closing, EventKind, Record, SessionSignedOn, SessionStarted};
use chaperone_wire::ssh::{self, Method, Request, Transport, Violation, answer};
use secrecy::SecretString;
use tokio::time::timeout;

use crate::{
    clock,
    relay::{Account, Ended},
    session::{FAREWELL, START_UP, Session},
    socket::Socket,
};
use link::{Link, LinkError};
use relay::Relay;
use upstream::Reached;

pub(crate) mod authority;
mod deciding;
mod ends;
mod files;
mod line;
mod link;
mod masking;
mod pins;
pub(crate) mod reading;
mod recording;
mod relay;
mod tunnel;
pub(crate) mod upstream;

/// `SSH_DISCONNECT_BY_APPLICATION` (RFC 4253, section 11.1).
const BY_APPLICATION: u32 = 11;
/// `SSH_DISCONNECT_PROTOCOL_ERROR`.
const PROTOCOL_ERROR: u32 = 2;
/// Passwords that an agent may try.
const TRIES: u32 = 3;
/// Messages of a client that is not in yet.
const MESSAGES: u32 = 64;

/// Tells a client why it is not let in, before anything else is said.
pub(crate) async fn tell(client: Socket, why: &str) {
    let Ok((key, _)) = ssh::SecretKey::generate() else { return };
    let Ok(transport) = Transport::server(Arc::new(key), None) else { return };
    let mut link = Link::new(client, transport);
    link.transport.disconnect(BY_APPLICATION, why);
    let _ = timeout(FAREWELL, link.farewell()).await;
}

/// A client that is let in, and the server that it speaks with.
struct In {
    user: String,
    reached: Reached,
}

/// Serves one connection.
pub(crate) async fn run(session: &Session, client: Socket) -> Ended {
    client.set_nodelay();
    let names = names(session);
    let transport = match session.shared.ssh_host.transport(&names, &session.target.0) {
        Ok(transport) => transport,
        Err(error) => return Ended::by(Closing::Daemon, error.to_string()),
    };
    let mut agent = Link::new(client, transport);
    let inside = match timeout(START_UP, let_in(session, &mut agent)).await {
        Ok(Ok(inside)) => inside,
        Ok(Err(ended)) => {
            let _ = timeout(FAREWELL, agent.farewell()).await;
            return ended;
        }
        Err(_) => return Ended::by(Closing::Daemon, "the client did not sign on in time"),
    };
    let account = Account { user: Some(inside.user), database: None, own_path: false };
    Relay::new(session, agent, inside.reached.link, Rc::new(account)).run().await
}

/// Every name under which the agent may have asked for the server.
fn names(session: &Session) -> Vec<String> {
    let mut names = vec![session.original.0.ip().to_string()];
    names.extend(session.tunnel.as_ref().map(|tunnel| tunnel.host().to_lowercase()));
    let configured = session.target().addresses.iter().filter_map(|address| address.name());
    names.extend(configured.map(str::to_lowercase));
    // What the client was called with: the certificate says no more than the client asked for.
    if let Some(process) = session.identity.lineage.last() {
        let line = process.command_line.as_deref().unwrap_or_default();
        for word in line.split([' ', '=', ',', '\'', '"']) {
            let host = word.rsplit('@').next().unwrap_or(word);
            let host = host.split('/').next().unwrap_or(host).trim_matches(['[', ']']);
            let host = host.split_once("]:").map_or(host, |(host, _)| host).to_lowercase();
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:".contains(&b);
            let fits = !host.is_empty() && host.len() < 256 && host.bytes().all(plain);
            if fits && !host.starts_with('-') && names.len() < 200 && !names.contains(&host) {
                if let Some((name, _)) = host.split_once(':') {
                    names.push(name.to_owned());
                }
                names.push(host);
            }
        }
    }
    names
}

/// Lets a client in: whom the kernel knows needs no key. Where the target has no credential, the
/// client's own password is tried there.
async fn let_in(session: &Session, agent: &mut Link) -> Result<In, Ended> {
    let (mut tries, mut messages) = (0, 0);
    let mut asking: Option<String> = None;
    loop {
        let payload = agent.next().await.map_err(|error| agent_failed(session, agent, &error))?;
        messages += 1;
        if messages > MESSAGES {
            let broken = Violation::TooMany("messages before the client is let in");
            return Err(agent_failed(session, agent, &LinkError::Violation(broken)));
        }
        let request = Request::read(&payload)
            .map_err(|broken| agent_failed(session, agent, &LinkError::Violation(broken)))?;
        let (user, password) = match request {
            Request::Service => {
                say(session, agent, &answer::service()).await?;
                continue;
            }
            Request::Answers(mut answers) => {
                let Some(user) = asking.take() else {
                    let broken = Violation::Misplaced { number: 61, place: "without a question" };
                    return Err(agent_failed(session, agent, &LinkError::Violation(broken)));
                };
                (user, answers.pop())
            }
            Request::LetIn { user, method } => match method {
                Method::Offer { algorithm, key } if session.ssh_holds() => {
                    say(session, agent, &answer::key_would_do(&algorithm, &key)).await?;
                    continue;
                }
                Method::Interactive => {
                    let ask = if session.ssh_holds() {
                        answer::ask_nothing()
                    } else {
                        answer::ask_password()
                    };
                    asking = Some(user);
                    say(session, agent, &ask).await?;
                    continue;
                }
                Method::Password(password) => (user, Some(password)),
                _ => (user, None),
            },
        };
        if !session.ssh_holds() && password.is_none() {
            say(session, agent, &answer::failure("password,keyboard-interactive")).await?;
            continue;
        }
        if let Some(inside) = enter(session, agent, &user, password).await? {
            return Ok(inside);
        }
        tries += 1;
        if tries >= TRIES {
            let why = format!("target {} did not take the password", session.target);
            return Err(refused(agent, Closing::Target, why));
        }
        say(session, agent, &answer::failure("password,keyboard-interactive")).await?;
    }
}

/// Reaches the target and lets the client in. `None`: the target did not take the client's password.
async fn enter(
    session: &Session,
    agent: &mut Link,
    user: &str,
    password: Option<SecretString>,
) -> Result<Option<In>, Ended> {
    session
        .shared
        .log
        .commit(vec![Record::SessionStarted(SessionStarted {
            at: clock::wall(),
            session: session.id,
            user: Some(user.chars().take(256).collect()),
            database: None,
            application: Some(agent.transport.peer()),
            parameters: "{}".into(),
        })])
        .map(|committed| drop(committed.receipts()))
        .map_err(|error| {
            session.shared.counters.unrecorded.up();
            let why = format!("chaperone could not record this connection: {error}");
            refused(agent, Closing::Daemon, why)
        })?;
    let reached =
        match upstream::reach(session, user, password.filter(|_| !session.ssh_holds())).await {
            Ok(reached) => reached,
            Err(upstream::ReachError::Password) => return Ok(None),
            Err(error) => {
                let counter = match &error {
                    upstream::ReachError::SignOn(_) => &session.shared.counters.sign_ons_failed,
                    _ => &session.shared.counters.unreachable,
                };
                counter.up();
                let why = format!(
                    "chaperone could not connect to target {} at {}: {error}",
                    session.target,
                    session.server()
                );
                session.shared.event(Some(session.id), EventKind::TargetRefused, why.clone());
                return Err(refused(agent, Closing::Target, why));
            }
        };
    let signed_on = SessionSignedOn {
        at: clock::wall(),
        session: session.id,
        user: Some(reached.user.clone()),
        method: reached.method.clone(),
        agent_tls: Some("SSH".into()),
        target_tls: Some(format!("SSH, {}", reached.host_key)),
        application: None,
    };
    session.shared.log.ride_along(Record::SessionSignedOn(signed_on));
    if let Some(live) = session.shared.sessions().get_mut(&session.id) {
        live.user = Some(reached.user.clone());
    }
    say(session, agent, &answer::success()).await?;
    Ok(Some(In { user: reached.user.clone(), reached }))
}

async fn say(session: &Session, agent: &mut Link, payload: &[u8]) -> Result<(), Ended> {
    let sent = agent.transport.send(&[payload]).map_err(LinkError::Violation);
    let flushed = match sent {
        Ok(()) => agent.flush().await,
        Err(error) => Err(error),
    };
    flushed.map_err(|error| agent_failed(session, agent, &error))
}

/// The client is told why it is not let in.
fn refused(agent: &mut Link, closing: Closing, why: String) -> Ended {
    agent.transport.disconnect(BY_APPLICATION, &why);
    Ended::by(closing, why)
}

/// The agent's connection cannot go on.
fn agent_failed(session: &Session, agent: &mut Link, error: &LinkError) -> Ended {
    match error {
        LinkError::Violation(broken) => {
            session.shared.counters.client_violations.up();
            let why = format!("the client broke the protocol: {broken}");
            session.shared.event(Some(session.id), EventKind::Violation, why.clone());
            agent.transport.disconnect(PROTOCOL_ERROR, &format!("chaperone ends this: {broken}"));
            Ended::by(Closing::Daemon, why)
        }
        error => Ended::by(Closing::Agent, error.to_string()),
    }
}
