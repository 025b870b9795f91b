//! One intercepted connection, from accept to close: read → identify → open → relay.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use chaperone_audit::AuditError;
use chaperone_kernel::Note;
use chaperone_model::{
    AgentAddr, AgentName, Closing, Doubt, EventKind, Identity, OriginalAddr, Protocol, Record, Seq,
    SessionClosed, SessionOpened, TargetName,
};
use chaperone_wire::postgres::{First, Refusal, Severity, Violation, backend_error};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use crate::{
    addresses::TargetAddress,
    catalog::{Changes, Key, Place as Catalog},
    clock,
    config::{Agent, NoCredential, Target},
    identity::{Settled, Watch},
    inspect::Destination,
    local::Local,
    masks::OfSession,
    naming::UNKNOWN,
    places::{Full, Place},
    relay::{Account, Ended},
    serve::reset,
    shared::{Counter, Live, Shared, Stage},
    socket::Socket,
    ssh::{self, upstream::SshUpstream},
    tls::{Stream, target::Connector},
    upstream::Held,
};

mod cancel;
mod first;
mod start;
mod tunnel;

use first::{Opening, listen_for_reason};
pub(crate) use tunnel::{NoSession, Tunnel};

/// How long a client may take for its first packets. The server's own `authentication_timeout`.
pub(crate) const START_UP: Duration = Duration::from_mins(1);
/// How long it may take to settle who connected: files may have to be read for it.
const SETTLING: Duration = Duration::from_secs(30);
/// How long an answer to a refused connection may take to be written.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// What is known of a connection when its session opens.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: Seq,
    pub(crate) identity: Identity,
    pub(crate) target: TargetName,
    /// Its place in the configuration.
    target_index: usize,
    pub(crate) original: OriginalAddr,
    /// Commands so far.
    pub(crate) commands: Arc<Counter>,
    pub(crate) local: Rc<Local>,
    /// Who connected, from where, and what the kernel noted of it.
    settled: Rc<Settled>,
    from: AgentAddr,
    note: Note,
    watch: Arc<Watch>,
    /// The tunnel that it is in.
    pub(crate) tunnel: Option<Tunnel>,
}

/// Serves one connection whose note was taken.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    local: Rc<Local>,
    client: TcpStream,
    from: AgentAddr,
    note: Note,
    mut place: Place,
) {
    let config = &shared.config;
    let Some(target) = target_of(&shared, &note) else {
        shared.counters.stale_note.up();
        return;
    };
    let original = chaperone_kernel::original(&note);
    let before = shared.clock.now().monotonic;
    // An agent that the configuration no longer has, whose processes live on.
    let settled = match timeout(SETTLING, shared.identities.settle(config, &note)).await {
        Ok(Some(settled)) => settled,
        Ok(None) => {
            shared.counters.stale_note.up();
            return;
        }
        Err(_) => {
            shared.counters.unsettled.up();
            let why = "a connection was refused: who made it could not be settled in time";
            shared.event(None, EventKind::Doubt, why);
            return;
        }
    };
    if !place.give(&settled.identity.agent) {
        let agent = settled.identity.agent;
        // It must not be in others' way by being refused.
        drop(place);
        return too_many(shared, client, note, Full::Agent, Some(agent)).await;
    }
    let opening = New {
        shared: shared.clone(),
        local,
        settled: Rc::new(settled),
        from,
        note,
        target: (note.target & !UNKNOWN) as usize,
        original,
        tunnel: None,
    };
    let client = Socket::Tcp(client);
    let session = match opening.open() {
        Ok(session) => session,
        Err(error) => {
            return refuse_unopened(&shared, client, original.0.ip(), target, &error).await;
        }
    };
    let took = shared.clock.now().monotonic.saturating_sub(before).as_micros();
    shared.counters.settled.up();
    shared.counters.settling_us.add(u64::try_from(took).unwrap_or(u64::MAX));
    session.take(client).await;
}

/// A session that is to be opened.
struct New {
    shared: Arc<Shared>,
    local: Rc<Local>,
    settled: Rc<Settled>,
    from: AgentAddr,
    note: Note,
    target: usize,
    original: OriginalAddr,
    tunnel: Option<Tunnel>,
}

impl New {
    /// Records it.
    fn open(self) -> Result<Session, AuditError> {
        let Self { shared, local, settled, from, note, target: target_index, original, tunnel } =
            self;
        let target = &shared.config.targets[target_index];
        let identity = settled.identity.clone();
        let opened = |process| SessionOpened {
            at: clock::wall(),
            process,
            comm: identity.comm.clone(),
            doubts: doubts_json(&identity),
            target: target.name.clone(),
            protocol: target.protocol,
            original,
            agent_addr: from,
            inside: tunnel.as_ref().map(Tunnel::inside),
        };
        let id = shared.identities.record(&settled, opened)?;
        let watch = shared.identities.watch(&note, id);
        for doubt in &identity.doubts {
            // A shell with its command on its line is an everyday thing: the session says so.
            if settled.refused.as_ref() == Some(doubt) || !matches!(doubt, Doubt::Inline(_)) {
                shared.event(Some(id), EventKind::Doubt, doubt.to_string());
            }
        }
        let session = Session {
            id,
            identity,
            target: target.name.clone(),
            target_index,
            original,
            commands: Arc::new(Counter::default()),
            local,
            settled,
            from,
            note,
            watch,
            tunnel,
            shared: shared.clone(),
        };
        let live = Live {
            since: clock::wall(),
            identity: session.identity.clone(),
            target: session.target.clone(),
            server: session.server(),
            user: None,
            database: None,
            commands: session.commands.clone(),
        };
        shared.sessions().insert(id, live);
        Ok(session)
    }
}

impl Session {
    /// Serves a client, from its first bytes to its end.
    async fn take(self, client: Socket) {
        let _removed = Leaving(&self);
        // What is in a tunnel has a target that is known.
        let is_unknown = self.tunnel.is_none() && self.note.target & UNKNOWN != 0;
        let ended = match self.settled.refused.clone() {
            None if is_unknown => self.refuse_unknown(client).await,
            None if self.target().protocol == Protocol::Ssh => ssh::run(&self, client).await,
            None => self.run(client).await,
            Some(doubt) => self.refuse(client, &doubt).await,
        };
        self.close(ended);
    }

    /// Reads what the client wants first, and does it.
    async fn run(&self, client: Socket) -> Ended {
        let Opening { mut client, first, packet, ahead } =
            match timeout(START_UP, self.first(client)).await {
                Ok(Ok(opening)) => opening,
                Ok(Err(ended)) => return ended,
                Err(_) => {
                    return Ended::by(
                        Closing::Daemon,
                        "the client sent no start-up packet in time",
                    );
                }
            };
        let ended = match first {
            First::Startup(startup) => match self.start(&client, &ahead, startup).await {
                Ok(relay) => relay.run(&mut client).await,
                Err(refused) => {
                    let (refusal, ended) = *refused;
                    say(&mut client, &refusal).await;
                    return ended;
                }
            },
            First::Cancel(key) => self.cancel(&packet, key, client.cipher().is_some()).await,
            First::Ssl | First::GssEnc => Ended::by(Closing::Daemon, "no start-up packet"),
        };
        // TLS has a good-bye of its own, without which some clients report an attack.
        if matches!(client, Stream::Tls(_)) {
            let _ = timeout(FAREWELL, client.shutdown()).await;
        }
        ended
    }

    /// It is doubtful who connected, and the agent's entry says that this is not enough.
    async fn refuse(&self, client: Socket, doubt: &Doubt) -> Ended {
        let refusal = doubted(&self.identity.agent, doubt);
        self.shared.counters.doubted.up();
        let ended = Ended::by(Closing::Daemon, refusal.message.clone());
        tell(&self.shared, client, self.original.0.ip(), self.target(), &refusal, START_UP).await;
        ended
    }

    /// It may be to a name of the target's of which no address is known yet, or to what is no target.
    async fn refuse_unknown(&self, client: Socket) -> Ended {
        let port = self.original.0.port();
        let at_port = self.target().addresses.iter().filter_map(|address| match address {
            TargetAddress::Name(name, at) if *at == port => Some(name.as_str()),
            _ => None,
        });
        let names = at_port.collect::<Vec<_>>().join(", ");
        let message = format!(
            "where target {} is not known yet ({names} has no address): chaperone refuses all connections to port {port} until it is",
            self.target
        );
        let refusal = Refusal::new("08001", message)
            .hint("Look whether this host's name service answers, and come again.");
        self.shared.counters.unreachable.up();
        let ended = Ended::by(Closing::Daemon, refusal.message.clone());
        tell(&self.shared, client, self.original.0.ip(), self.target(), &refusal, START_UP).await;
        ended
    }

    /// Whether the process began to run something else since it connected, where the agent's entry
    /// says that this ends the session. It is looked at before what the client sent is: what the
    /// process ran before it sent it has been told by then.
    pub(crate) fn moved(&self) -> Option<Refusal> {
        let exec = |program: &str| Doubt::Exec(program.to_owned());
        let agents = &self.shared.config.agents;
        let agent = agents.iter().find(|agent| agent.name == self.identity.agent)?;
        let refuses = agent.answers.refuses(&exec(""));
        self.shared.identities.look_after(&self.note.process, &self.watch, refuses);
        let doubt = exec(self.watch.moved().filter(|_| refuses)?);
        Some(doubted(&agent.name, &doubt))
    }

    /// Where its statements go.
    pub(crate) fn place(&self, database: Option<&str>) -> Destination {
        Destination {
            target: self.target_index,
            server: self.original,
            route: self.route().cloned(),
            agent: self.identity.agent.clone(),
            database: database.map(str::to_owned),
        }
    }

    /// What the daemon keeps of the catalog that this session sees, where it can ask, and who tells
    /// that it changes.
    pub(crate) fn catalog(&self, account: &Account) -> (Option<Arc<Catalog>>, Arc<Changes>) {
        let catalog = &self.shared.catalog;
        let changes = catalog.changes(self.target_index);
        let place = match self.target().credential(&self.identity.agent) {
            Ok(Some(credential)) => catalog.place(Key {
                target: self.target_index,
                server: self.original.0,
                inside: self.tunnel.as_ref().map(Tunnel::outer),
                credential,
                database: account.database.clone(),
            }),
            _ => None,
        };
        (place, changes)
    }

    /// What the policy says of sessions as a whole.
    pub(crate) fn bounds(&self, account: &Account) -> chaperone_policy::Limits {
        self.shared.config.policy.limits(
            &self.target,
            &self.identity,
            account.database.as_deref(),
            account.user.as_deref(),
        )
    }

    /// The masks that are for this session.
    pub(crate) fn masks(&self, account: &Account) -> Option<Arc<OfSession>> {
        self.shared.masks.of_session(&chaperone_policy::Asked::of_session(
            &self.target,
            &self.identity,
            account.database.as_deref(),
            account.user.as_deref(),
        ))
    }

    /// The target, as the configuration has it.
    pub(crate) fn target(&self) -> &Target {
        &self.shared.config.targets[self.target_index]
    }

    /// How this agent's sessions reach the target.
    fn upstream(&self) -> Result<(&Connector, Option<&Held>), NoCredential> {
        let upstream = &self.shared.upstreams[self.target_index];
        let credential = self.target().credential(&self.identity.agent)?;
        let held = credential.and_then(|index| upstream.held.get(index));
        Ok((held.map_or(&upstream.relayed, |held| &held.connector), held))
    }

    /// How an SSH target is reached.
    pub(crate) fn ssh_upstream(&self) -> Option<&SshUpstream> {
        self.shared.upstreams[self.target_index].ssh.as_ref()
    }

    fn unrecorded(&self, error: &AuditError) -> Ended {
        self.shared.counters.unrecorded.up();
        tracing::error!(session = self.id.0, %error, "the log cannot be written");
        Ended::by(Closing::Daemon, format!("the log could not be written: {error}"))
    }

    fn close(&self, ended: Ended) {
        self.shared.log.ride_along(Record::SessionClosed(SessionClosed {
            at: clock::wall(),
            session: self.id,
            closing: ended.closing,
            detail: ended.detail,
            bytes_up: ended.up,
            bytes_down: ended.down,
        }));
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.shared.stage.borrow()
    }
}

/// Takes the session off the list whatever happens.
struct Leaving<'a>(&'a Session);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.shared.sessions().remove(&self.0.id);
    }
}

/// What an agent is told when it is not believed to be what it should be.
fn doubted(agent: &AgentName, doubt: &Doubt) -> Refusal {
    let (told, hint) = match doubt {
        // The path is the agent's word, and may be of a file that it cannot read: the log has the
        // hash.
        Doubt::Unenrolled { path, script: true, .. } => (
            format!("the script {path} is not enrolled"),
            format!("{} The log has its hash.", how_to_enrol(agent, path)),
        ),
        Doubt::Unenrolled { path, .. } => (doubt.to_string(), how_to_enrol(agent, path)),
        Doubt::UnenrolledImage(digest) => {
            (doubt.to_string(), how_to_enrol(agent, &format!("sha256:{digest}")))
        }
        Doubt::NoImage(_) => (
            doubt.to_string(),
            "Have it run in a container, and ask operations whether chaperone knows the engine (`container_stores`).".into(),
        ),
        Doubt::Version(_) => (
            doubt.to_string(),
            "Ask operations which versions the configuration allows (`versions`).".into(),
        ),
        Doubt::NoVersion(_) => (
            doubt.to_string(),
            "Ask operations to look where the configuration says that the version stands.".into(),
        ),
        Doubt::Inline(_) => (doubt.to_string(), "Have it run a file.".into()),
        Doubt::ScriptChanged(_) | Doubt::Exec(_) | Doubt::Disguised { .. } | Doubt::Cut => {
            (doubt.to_string(), "Start the agent again.".into())
        }
        Doubt::NoAgent => {
            (doubt.to_string(), "Ask operations to name its programs, or its image, in the configuration.".into())
        }
    };
    Refusal::new("28000", format!("chaperone does not let agent {agent} through: {told}"))
        .hint(hint)
}

/// A command line for operations, where the path is one that can stand in it as it is: it is the
/// agent's choice.
fn how_to_enrol(agent: &AgentName, path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+-@:,=".contains(&b);
    let whole = path.starts_with('/') || path.starts_with("sha256:");
    if whole && path.bytes().all(plain) {
        format!(
            "If it belongs to the agent, operations can enrol it: `chaperone agents enroll {agent} {path}`."
        )
    } else {
        format!("If it belongs to the agent, operations can enrol its file for agent {agent}.")
    }
}

fn doubts_json(identity: &Identity) -> Option<String> {
    let doubts: Vec<_> = identity.doubts.iter().map(ToString::to_string).collect();
    (!doubts.is_empty()).then(|| serde_json::Value::from(doubts).to_string())
}

/// What an agent is told when its command or session could not be recorded.
pub(crate) fn unrecorded(what: &str, error: &AuditError) -> Refusal {
    Refusal::new("58030", format!("chaperone could not record {what}, so it was not forwarded"))
        .detail(error.to_string())
        .hint("Tell operations; `chaperone status` shows the log's state.")
}

fn record(shared: &Shared, record: Record) -> Result<Seq, AuditError> {
    let receipts = shared.log.commit(vec![record])?.receipts();
    // A commit answers with one receipt a record.
    Ok(receipts.first().map_or(Seq(0), chaperone_audit::Receipt::seq))
}

/// The log took no record of the connection: its start-up is read, so that its client listens, and
/// answered with the reason.
async fn refuse_unopened(
    shared: &Shared,
    client: Socket,
    address: IpAddr,
    target: &Target,
    error: &AuditError,
) {
    shared.counters.unrecorded.up();
    tracing::error!(%error, "a connection was refused: the log cannot be written");
    tell(shared, client, address, target, &unrecorded("this connection", error), START_UP).await;
}

/// The target that the kernel noted.
fn target_of<'a>(shared: &'a Shared, note: &Note) -> Option<&'a Target> {
    shared.config.targets.get((note.target & !UNKNOWN) as usize)
}

/// There is no place for a connection: it is told so, where its client listens soon and not too
/// many others are being told. `agent` is who it is, where that is settled.
pub(crate) async fn too_many(
    shared: Arc<Shared>,
    client: TcpStream,
    note: Note,
    full: Full,
    agent: Option<AgentName>,
) {
    let daemon = &shared.config.daemon;
    let (counter, refusal) = match full {
        Full::All => (
            &shared.counters.too_many,
            Refusal::new(
                "53300",
                format!("chaperone has its {} sessions, and takes no more", daemon.max_sessions),
            )
            .hint("Come again later, or ask operations to set `max_sessions`."),
        ),
        Full::Agent => {
            let of = |agent: &&Agent| agent.select.number() == note.agent;
            let any = || {
                let names = shared.config.agents.iter().filter(of);
                names.map(|agent| agent.name.to_string()).collect::<Vec<_>>().join(" or ")
            };
            let whose = agent.map_or_else(any, |agent| agent.to_string());
            let most = daemon.max_sessions_per_agent;
            (
                &shared.counters.too_many_of_agent,
                Refusal::new(
                    "53300",
                    format!("agent {whose} has its {most} sessions, and chaperone takes no more"),
                )
                .hint("Close some first, or ask operations to set `max_sessions_per_agent`."),
            )
        }
    };
    counter.up();
    shared.record_too_many(full, note.agent, &refusal.message, counter);
    let Some(target) = target_of(&shared, &note) else { return };
    let Ok(_telling) = shared.told.try_acquire() else { return reset(&client) };
    let address = chaperone_kernel::original(&note).0.ip();
    tell(&shared, Socket::Tcp(client), address, target, &refusal, FAREWELL).await;
}

/// Tells a client whose session is not opened why, once its start-up has been read.
async fn tell(
    shared: &Shared,
    client: Socket,
    address: IpAddr,
    target: &Target,
    refusal: &Refusal,
    patience: Duration,
) {
    if target.protocol == Protocol::Ssh {
        let hint = refusal.hint.as_ref().map_or_else(String::new, |hint| format!(". {hint}"));
        return ssh::tell(client, &format!("{}{hint}", refusal.message)).await;
    }
    let listening =
        timeout(patience, listen_for_reason(shared, client, address, target.agent_tls)).await;
    if let Ok(Ok(mut client)) = listening {
        say(&mut client, refusal).await;
    }
}

fn violation_refusal(violation: &Violation) -> Refusal {
    Refusal::new("08P01", format!("chaperone ends this session: {violation}"))
}

/// Tells the client why its session ends.
async fn say(client: &mut Stream, refusal: &Refusal) {
    let _ = timeout(FAREWELL, async {
        client.write_all(&backend_error(Severity::Fatal, refusal)).await?;
        client.flush().await?;
        client.shutdown().await
    })
    .await;
}
