//! Starting a session: recorded, connected, signed on.

use chaperone_model::{Closing, EventKind, Record, SessionSignedOn, SessionStarted};
use chaperone_wire::postgres::{Negotiation, Refusal, Rules, SigningOn, Startup, Told};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{FAREWELL, START_UP, Session, record, unrecorded};
use crate::{
    clock,
    config::AgentTls,
    identity::application_name,
    relay::{Account, Ended, Relay},
    tls::{Stream, target::lost, tls_error},
    upstream::{Held, sign_on},
};

/// Settings that say where names without a schema are looked for, or for whom.
const PATH: [&str; 3] = ["search_path", "role", "session_authorization"];

/// What the client is told, and what the log is.
type Refused = Box<(Refusal, Ended)>;

impl Session {
    /// Records the start, connects to the target, and hands the start-up message on.
    pub(super) async fn start(
        &self,
        client: &Stream,
        ahead: &[u8],
        mut startup: Startup,
    ) -> Result<Relay<'_>, Refused> {
        let (shared, target) = (&self.shared, self.target());
        self.record_start(&startup)?;
        if target.agent_tls == AgentTls::Require && client.cipher().is_none() {
            return Err(self.refused(
                Refusal::new(
                    "28000",
                    format!("chaperone takes only encrypted connections to target {}", self.target),
                )
                .hint("Connect with sslmode=require, or verify-full once `chaperone trust` has made this host's authority known."),
            ));
        }
        let Ok((connector, held)) = self.upstream() else {
            return Err(self.refused(
                Refusal::new(
                    "28000",
                    format!(
                        "chaperone holds no credential of target {} for agent {}",
                        self.target, self.identity.agent
                    ),
                )
                .hint("Ask operations to name this agent in one of the target's credentials."),
            ));
        };
        if let Some(refusal) = self.gives_nothing(target, held) {
            return Err(self.refused(refusal));
        }
        if let Some(refusal) = startup.undecided(&target.parameters) {
            return Err(self.refused(refusal));
        }
        // What operations allow may be where names are looked for.
        let others = |name: &&String| !PATH.iter().any(|path| path.eq_ignore_ascii_case(name));
        let others: Vec<String> = target.parameters.iter().filter(others).cloned().collect();
        let own_path = startup.undecided(&others).is_some();
        let negotiation = startup.negotiate();
        if let Some(held) = held {
            as_account(&mut startup, held);
        }
        if target.attribution {
            startup.set("application_name", application_name(&self.identity));
        }
        // As the server will see it: it must not be too long with what was added.
        if let Some(refusal) = startup.objection(target.replication) {
            return Err(self.refused(refusal));
        }
        let connecting = connector.connect(self.original.0, self.route());
        let connected = connecting.await.map_err(|error| {
            shared.counters.unreachable.up();
            let message = format!(
                "chaperone could not connect to target {} at {}: {error}",
                self.target,
                self.server()
            );
            self.unreachable("08001", message)
        })?;
        let mut server = connected.stream;
        // Small messages go at once, on both sides.
        client.socket().set_nodelay();
        let sent = async {
            server.write_all(&startup.encode()).await?;
            server.flush().await
        };
        if let Err(error) = sent.await {
            // A server that does not want the daemon's certificate says so before it goes.
            let said = timeout(FAREWELL, server.read_u8()).await;
            let error = match said {
                Ok(Err(said)) if tls_error(&said).is_some() => said,
                _ => error,
            };
            let why = lost(&error);
            let message = format!("the connection to target {} was lost: {why}", self.target);
            return Err(self.unreachable("08006", message));
        }
        let identified = connected.identified;
        let (mut said, method) = match held {
            None => (Vec::new(), "relayed"),
            Some(held) => match self.sign_on(&mut server, held, identified).await? {
                (said, None) if identified => (said, "client certificate"),
                (said, how) => (said, how.unwrap_or("without a password")),
            },
        };
        if let Some(negotiation) = negotiation {
            said = self.negotiated(&mut server, &negotiation, said).await?;
        }
        let signed_on = SessionSignedOn {
            at: clock::wall(),
            session: self.id,
            user: startup.get("user").map(str::to_owned),
            method: method.into(),
            agent_tls: client.cipher(),
            target_tls: server.cipher(),
            application: startup.get("application_name").map(str::to_owned),
        };
        if let Some(live) = shared.sessions().get_mut(&self.id) {
            live.user.clone_from(&signed_on.user);
        }
        let rules = Rules {
            sign_on: if held.is_some() { SigningOn::Held } else { SigningOn::Relayed },
            replication: target.replication,
        };
        let account = Account {
            user: signed_on.user.clone(),
            database: startup.database().map(str::to_owned),
            own_path,
        };
        Ok(Relay::new(self, server, rules, signed_on, account, ahead, &said))
    }

    /// What the client is to hear first where it asked for more than it gets: in place of what the
    /// server said of that, where it said something.
    async fn negotiated(
        &self,
        server: &mut Stream,
        negotiation: &Negotiation,
        mut said: Vec<u8>,
    ) -> Result<Vec<u8>, Refused> {
        let told = async {
            loop {
                match negotiation.told(&said).map_err(|violation| {
                    self.shared.counters.server_violations.up();
                    format!("the server broke the protocol: {violation}")
                })? {
                    Told::Instead(length, told) => {
                        said.splice(..length, told);
                        return Ok(());
                    }
                    Told::Need(_) => match server.read_buf(&mut said).await {
                        Ok(0) => return Err("the server closed it".into()),
                        Ok(_) => {}
                        Err(error) => return Err(lost(&error)),
                    },
                }
            }
        };
        let told = timeout(START_UP, told).await;
        match told.unwrap_or_else(|_| Err("the server did not answer in time".into())) {
            Ok(()) => Ok(said),
            Err(why) => {
                let message = format!("the connection to target {} was lost: {why}", self.target);
                Err(self.unreachable("08006", message))
            }
        }
    }

    async fn sign_on(
        &self,
        server: &mut Stream,
        held: &Held,
        identified: bool,
    ) -> Result<(Vec<u8>, Option<&'static str>), Refused> {
        let signing_on = sign_on(server, &held.account, identified, &self.shared.deriving);
        let signed_on = timeout(START_UP, signing_on).await;
        let why = match signed_on {
            Ok(Ok(signed_on)) => return Ok((signed_on.said, signed_on.how)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the server did not answer in time".into(),
        };
        self.shared.counters.sign_ons_failed.up();
        let message = format!(
            "chaperone could not sign on to target {} as {}: {why}",
            self.target, held.account.user
        );
        Err(self.unreachable("28000", message))
    }

    fn record_start(&self, startup: &Startup) -> Result<(), Refused> {
        let started = SessionStarted {
            at: clock::wall(),
            session: self.id,
            user: startup.get("user").map(str::to_owned),
            database: startup.database().map(str::to_owned),
            application: startup.get("application_name").map(str::to_owned),
            parameters: startup.to_json(),
        };
        if let Some(live) = self.shared.sessions().get_mut(&self.id) {
            live.user.clone_from(&started.user);
            live.database.clone_from(&started.database);
        }
        record(&self.shared, Record::SessionStarted(started)).map(drop).map_err(|error| {
            Box::new((unrecorded("this session", &error), self.unrecorded(&error)))
        })
    }

    fn refused(&self, refusal: Refusal) -> Refused {
        self.shared.counters.refused.up();
        let ended = Ended::by(Closing::Daemon, refusal.message.clone());
        Box::new((refusal, ended))
    }

    fn unreachable(&self, code: &'static str, message: String) -> Refused {
        self.shared.event(Some(self.id), EventKind::TargetRefused, message.clone());
        let ended = Ended::by(Closing::Target, message.clone());
        let refusal = Refusal::new(code, message)
            .hint("Tell operations; `chaperone log events` has it as well.");
        Box::new((refusal, ended))
    }
}

/// The session is the account's; the database stays the one that the agent asked for, which is the
/// one of its own name where it did not say.
fn as_account(startup: &mut Startup, held: &Held) {
    if let Some(database) = startup.database().map(str::to_owned)
        && startup.get("database") != Some(&database)
    {
        startup.set("database", database);
    }
    startup.set("user", held.account.user.clone());
}
