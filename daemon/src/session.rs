//! One intercepted PostgreSQL connection, from accept to close: read → identify → open → relay.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use chaperone_audit::AuditError;
use chaperone_kernel::Note;
use chaperone_model::{
    AgentAddr, Closing, Command, CommandKind, CommandStatus, EventKind, Identity, Intent,
    OriginalAddr, Outcome, Record, Seq, SessionClosed, SessionOpened, SessionStarted, TargetName,
    VerdictKind,
};
use chaperone_policy::Verdict;
use chaperone_wire::postgres::{
    CancelKey, First, Refusal, Severity, Startup, Violation, backend_error, first_packet,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    clock,
    committer::Committer,
    identify::identify,
    relay::{Ended, Relay},
    shared::{Counter, Live, Shared, Stage},
};

/// How long a client may take for its first packets. The server's own `authentication_timeout`.
const START_UP: Duration = Duration::from_mins(1);
/// How long a target may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// How long an answer to a refused connection may take to be written.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is known of a connection when its session opens.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: Seq,
    pub(crate) identity: Identity,
    pub(crate) target: TargetName,
    pub(crate) original: OriginalAddr,
    /// Commands so far.
    pub(crate) commands: Arc<Counter>,
    pub(crate) committer: Rc<Committer>,
}

/// Serves one connection whose note was taken.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    committer: Rc<Committer>,
    mut client: TcpStream,
    from: AgentAddr,
    note: Note,
) {
    let config = &shared.config;
    let (Some(agent), Some(target)) =
        (config.agents.get(note.agent as usize), config.targets.get(note.target as usize))
    else {
        shared.counters.stale_note.up();
        return;
    };
    let original = chaperone_kernel::original(&note);
    let identity = identify(agent.name.clone(), &note);
    let opened = SessionOpened {
        at: clock::wall(),
        identity: identity.clone(),
        target: target.name.clone(),
        protocol: target.protocol,
        original,
        agent_addr: from,
    };
    let id = match record(&shared, Record::SessionOpened(opened)) {
        Ok(seq) => seq,
        Err(error) => return refuse_unopened(&shared, client, &error).await,
    };
    let commands = Arc::new(Counter::default());
    shared.sessions().insert(
        id,
        Live {
            since: clock::wall(),
            identity: identity.clone(),
            target: target.name.clone(),
            original,
            user: None,
            database: None,
            commands: commands.clone(),
        },
    );
    let session = Session {
        shared: shared.clone(),
        id,
        identity,
        target: target.name.clone(),
        original,
        commands,
        committer,
    };
    let _removed = Leaving(&session);
    let ended = session.run(&mut client).await;
    session.close(ended);
}

impl Session {
    /// Reads what the client wants first, and does it.
    async fn run(&self, client: &mut TcpStream) -> Ended {
        let mut bytes = Vec::new();
        let (first, ahead) = match timeout(START_UP, self.first(client, &mut bytes)).await {
            Ok(Ok(found)) => found,
            Ok(Err(ended)) => return ended,
            Err(_) => {
                return Ended::by(Closing::Daemon, "the client sent no start-up packet in time");
            }
        };
        match first {
            First::Startup(startup) => match self.start(client, &bytes, ahead, startup).await {
                Ok(relay) => relay.run(client).await,
                Err((refusal, ended)) => {
                    say(client, &refusal).await;
                    ended
                }
            },
            First::Cancel(key) => self.cancel(&bytes, key).await,
            First::Ssl | First::GssEnc => Ended::by(Closing::Daemon, "no start-up packet"),
        }
    }

    /// Answers requests for encryption until the start-up or a cancel request comes. `bytes` holds
    /// exactly that packet afterwards; what a client sent ahead of the answer comes with it.
    async fn first(
        &self,
        client: &mut TcpStream,
        bytes: &mut Vec<u8>,
    ) -> Result<(First, Vec<u8>), Ended> {
        // Each kind of encryption can be asked for once.
        for _ in 0..3 {
            let (length, first) = loop {
                match first_packet(bytes) {
                    Ok(Some(found)) => break found,
                    Ok(None) => {}
                    Err(violation) => return Err(self.violated(client, &violation).await),
                }
                match client.read_buf(bytes).await {
                    Ok(0) => {
                        return Err(Ended::by(Closing::Agent, "closed before a start-up packet"));
                    }
                    Ok(_) => {}
                    Err(error) => return Err(Ended::by(Closing::Agent, error.to_string())),
                }
            };
            let ahead = bytes.split_off(length);
            // What comes before an answer to these would count as encrypted once it is
            // (CVE-2021-23214).
            if !ahead.is_empty() && !matches!(first, First::Startup(_)) {
                let violation = Violation::Startup("more was sent before it was answered".into());
                return Err(self.violated(client, &violation).await);
            }
            match first {
                First::Ssl | First::GssEnc => {
                    bytes.clear();
                    if let Err(error) = client.write_all(b"N").await {
                        return Err(Ended::by(Closing::Agent, error.to_string()));
                    }
                }
                first => return Ok((first, ahead)),
            }
        }
        let violation = Violation::Startup("encryption was asked for again and again".into());
        Err(self.violated(client, &violation).await)
    }

    async fn violated(&self, client: &mut TcpStream, violation: &Violation) -> Ended {
        self.shared.counters.client_violations.up();
        self.shared.event(Some(self.id), EventKind::Violation, format!("client: {violation}"));
        say(client, &Refusal::new("08P01", format!("chaperone ends this session: {violation}")))
            .await;
        Ended::by(Closing::Daemon, format!("the client broke the protocol: {violation}"))
    }

    /// Records the start, connects to the target, and hands the start-up message on.
    async fn start(
        &self,
        client: &TcpStream,
        packet: &[u8],
        ahead: Vec<u8>,
        startup: Startup,
    ) -> Result<Relay<'_>, (Refusal, Ended)> {
        let shared = &self.shared;
        let started = SessionStarted {
            at: clock::wall(),
            session: self.id,
            user: startup.get("user").map(str::to_owned),
            database: startup.get("database").or(startup.get("user")).map(str::to_owned),
            application: startup.get("application_name").map(str::to_owned),
            parameters: startup.to_json(),
        };
        if let Some(live) = shared.sessions().get_mut(&self.id) {
            live.user.clone_from(&started.user);
            live.database.clone_from(&started.database);
        }
        if let Err(error) = record(shared, Record::SessionStarted(started)) {
            let refusal = unrecorded("this session", &error);
            return Err((refusal, self.unrecorded(&error)));
        }
        if let Some(refusal) = startup.objection() {
            shared.counters.refused.up();
            let ended = Ended::by(Closing::Daemon, refusal.message.clone());
            return Err((refusal, ended));
        }
        let mut server = match connect(self.original).await {
            Ok(server) => server,
            Err(error) => {
                shared.counters.unreachable.up();
                let message = format!(
                    "chaperone could not connect to target {} at {}: {error}",
                    self.target, self.original
                );
                let ended = Ended::by(Closing::Target, message.clone());
                return Err((Refusal::new("08001", message), ended));
            }
        };
        // Small messages go at once, on both sides.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        if let Err(error) = server.write_all(packet).await {
            let message = format!("the connection to target {} was lost: {error}", self.target);
            let ended = Ended::by(Closing::Target, message.clone());
            return Err((Refusal::new("08006", message), ended));
        }
        Ok(Relay::new(self, server, &ahead))
    }

    /// A cancel request goes to the server of the session that it is for, and to no other.
    async fn cancel(&self, packet: &[u8], key: CancelKey) -> Ended {
        let shared = &self.shared;
        let of =
            shared.cancellable(self.original.0, &key).filter(|of| of.agent == self.identity.agent);
        let text = of.as_ref().map_or_else(
            || format!("cancel server process {}", key.process),
            |of| format!("cancel the running command of session {}", of.session.0),
        );
        let command = Command {
            kind: CommandKind::Cancel,
            text: Some(text),
            statement: None,
            parameters: None,
            parameters_cut: false,
        };
        let decision = shared.config.policy.decide(&self.target, &self.identity, &command);
        let (permit, rule) = match (&of, decision.verdict) {
            (Some(_), Verdict::Allow(permit)) => (Some(permit), decision.rule),
            (Some(_), Verdict::Deny) => (None, decision.rule),
            (None, _) => (None, "cancel requests reach own sessions only".into()),
        };
        let verdict = if permit.is_some() { VerdictKind::Allow } else { VerdictKind::Deny };
        let intent = Intent { at: clock::wall(), session: self.id, command, verdict, rule };
        let receipt = match self.committer.commit(vec![Record::Intent(intent)]).await {
            Ok(Ok(mut receipts)) => receipts.pop(),
            Ok(Err(error)) => return self.unrecorded(&error),
            Err(_) => None,
        };
        let Some(receipt) = receipt else {
            return Ended::by(Closing::Daemon, "the log gave no receipt");
        };
        let seq = receipt.seq();
        let before = shared.clock.now();
        let status = if let Some(permit) = permit {
            shared.counters.forwarded.up();
            // Both are spent here: this is the command that they are for.
            drop((permit, receipt));
            if send_cancel(self.original, packet).await.is_ok() {
                CommandStatus::Ok
            } else {
                CommandStatus::Error
            }
        } else {
            shared.counters.cancels_refused.up();
            CommandStatus::Refused
        };
        let now = shared.clock.now();
        let took = now.monotonic.saturating_sub(before.monotonic).as_micros();
        shared.log.ride_along(Record::Outcome(Outcome {
            duration_us: u64::try_from(took).unwrap_or(u64::MAX),
            ..Outcome::new(seq, status, now.wall)
        }));
        Ended { closing: Closing::Agent, detail: None, up: packet.len() as u64, down: 0 }
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
async fn refuse_unopened(shared: &Shared, mut client: TcpStream, error: &AuditError) {
    shared.counters.unrecorded.up();
    tracing::error!(%error, "a connection was refused: the log cannot be written");
    let answer = async {
        let mut bytes = Vec::new();
        loop {
            match first_packet(&bytes) {
                Ok(Some((_, First::Ssl | First::GssEnc))) => {
                    bytes.clear();
                    client.write_all(b"N").await?;
                }
                Ok(Some(_)) | Err(_) => break,
                Ok(None) if client.read_buf(&mut bytes).await? == 0 => break,
                Ok(None) => {}
            }
        }
        say(&mut client, &unrecorded("this connection", error)).await;
        io::Result::Ok(())
    };
    let _ = timeout(START_UP, answer).await;
}

/// Tells the client why its session ends.
async fn say(client: &mut TcpStream, refusal: &Refusal) {
    let _ = timeout(FAREWELL, async {
        client.write_all(&backend_error(Severity::Fatal, refusal)).await?;
        client.shutdown().await
    })
    .await;
}

async fn connect(to: OriginalAddr) -> io::Result<TcpStream> {
    timeout(CONNECT, TcpStream::connect(to.0)).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time"))
    })
}

async fn send_cancel(to: OriginalAddr, packet: &[u8]) -> io::Result<()> {
    let mut server = connect(to).await?;
    server.write_all(packet).await?;
    // The server closes when it has dealt with it; libpq waits for that, too.
    let _ = timeout(CONNECT, server.read(&mut [0; 1])).await;
    Ok(())
}
