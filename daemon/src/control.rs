//! The control socket: who may ask, and what is answered.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chaperone_control::{Action, LiveSession, LogStatus, Reply, Status, decode, encode};
use chaperone_kernel::Counters;
use chaperone_model::Timestamp;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::UCred},
    time::timeout,
};

use crate::{
    clock,
    config::{Agent, Scope},
    shared::Shared,
};

/// Longest request, in bytes.
const LONGEST: u64 = 64 << 10;
/// How long a caller may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the socket: for root and the folder's group.
pub(crate) fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
        }
        fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers until the daemon ends.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: std::os::unix::net::UnixListener,
    attach: PathBuf,
    counters: Counters,
) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the control socket cannot be used"),
    };
    let desk = Desk { shared, attach, counters, since: clock::wall() };
    loop {
        // One at a time: every action is short, and a caller who dawdles is sent away.
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = timeout(PATIENCE, desk.answer(stream)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

struct Desk {
    shared: Arc<Shared>,
    attach: PathBuf,
    counters: Counters,
    since: Timestamp,
}

impl Desk {
    async fn answer(&self, mut stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?;
        let mut line = String::new();
        BufReader::new((&mut stream).take(LONGEST)).read_line(&mut line).await?;
        let reply = match decode(&line) {
            Ok(action) if self.may(&peer, &action) => self.act(&action),
            Ok(_) => Reply::Refused("an agent's account may not ask the daemon".into()),
            Err(error) => Reply::Refused(error),
        };
        stream.write_all(&encode(&reply)).await
    }

    /// The one place where an action is authorised. The socket's mode lets in root and its group;
    /// an agent is not heard even there.
    fn may(&self, peer: &UCred, action: &Action) -> bool {
        match action {
            // Also one that runs as somebody else by now.
            Action::Status | Action::Sessions => {
                let config = &self.shared.config;
                let by_user = |agent: &Agent| agent.select.scope == Scope::User(peer.uid());
                let is_agents = |pid: i32| {
                    u32::try_from(pid).is_ok_and(|pid| self.shared.identities.is_agents(pid))
                };
                !config.agents.iter().any(by_user) && !peer.pid().is_some_and(is_agents)
            }
        }
    }

    fn act(&self, action: &Action) -> Reply {
        match action {
            Action::Status => self.status(),
            Action::Sessions => Reply::Sessions(self.sessions()),
        }
    }

    fn status(&self) -> Reply {
        let kernel = match self.counters.read() {
            Ok(counters) => counters,
            Err(error) => return Reply::Refused(error.to_string()),
        };
        let stats = self.shared.log.stats();
        let kernel = kernel.into_iter().map(|(name, count)| (format!("kernel_{name}"), count));
        Reply::Status(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            since: self.since,
            pid: std::process::id(),
            attach: self.attach.clone(),
            policy: self.shared.config.policy.hash().into(),
            sessions: self.shared.sessions().len() as u64,
            log: LogStatus {
                path: self.shared.log.path().into(),
                last: stats.last.0,
                queued_bytes: stats.queued_bytes as u64,
                lost: stats.lost,
                error: stats.error,
            },
            counters: kernel.chain(self.shared.counters.read()).collect(),
        })
    }

    fn sessions(&self) -> Vec<LiveSession> {
        let mut sessions: Vec<_> = self
            .shared
            .sessions()
            .iter()
            .map(|(id, live)| LiveSession {
                id: *id,
                since: live.since,
                agent: live.identity.agent.to_string(),
                version: live.identity.version.as_ref().map(|version| version.text.clone()),
                run: live.identity.run.name.to_string(),
                lineage: live.identity.lineage_line(),
                uid: live.identity.process().map_or(0, |process| process.uid),
                pid: live.identity.process().map_or(0, |process| process.pid),
                executable: live.identity.process().and_then(|p| p.executable.clone()),
                target: live.target.to_string(),
                server: live.original.to_string(),
                user: live.user.clone(),
                database: live.database.clone(),
                commands: live.commands.get(),
            })
            .collect();
        sessions.sort_by_key(|session| session.id);
        sessions
    }
}
