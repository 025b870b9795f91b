//! The control socket: who may ask, and what is answered.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chaperone_audit::{AuditError, Filter, Reader};
use chaperone_control::{
    Action, Before, Hold, LiveSession, LogStatus, Reply, Status, decode, encode,
};
use chaperone_kernel::Counters;
use chaperone_model::{Erased, Seq, Timestamp};
use chaperone_policy::{Approver, approval::Person};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::UCred},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    anchors::Anchors,
    attending::Attending,
    clock,
    config::{Agent, Scope},
    inspect::{Destination, inspect},
    shared::Shared,
};

/// Longest request, in bytes.
const LONGEST: u64 = 64 << 10;
/// How long a caller may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Callers who are served at a time: nobody who dawdles is in another's way.
const CALLERS: usize = 32;
/// How long a caller who is not heard may go on talking, so that it hears why.
const FAREWELL: Duration = Duration::from_secs(1);
/// Commands that are shown of what a run did before one of its commands was held.
const BEFORE: u32 = 5;

/// Makes the socket. Everybody may connect: who is heard is decided by who they are, as the kernel
/// says, because approvers are of other groups than operations.
pub(crate) fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
        }
        fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers until the daemon ends.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: std::os::unix::net::UnixListener,
    attach: PathBuf,
    counters: Counters,
    anchors: Arc<Anchors>,
    attending: Attending,
) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the control socket cannot be used"),
    };
    let since = clock::wall();
    let desk = Arc::new(Desk { shared, attach, counters, anchors, attending, since });
    let places = Arc::new(Semaphore::new(CALLERS));
    // Who finds no place here does not hear why.
    let farewells = Arc::new(Semaphore::new(CALLERS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let (desk, farewells) = (desk.clone(), farewells.clone());
                tokio::spawn(async move {
                    let answered = timeout(PATIENCE, desk.answer(stream)).await;
                    drop(place);
                    if let Ok(Ok(Some(refused))) = answered
                        && let Ok(_place) = farewells.try_acquire()
                    {
                        let _ = timeout(FAREWELL, hear_out(refused)).await;
                    }
                });
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
    anchors: Arc<Anchors>,
    attending: Attending,
    since: Timestamp,
}

impl Desk {
    /// Answers a caller; gives back the connection of one who is not heard.
    async fn answer(&self, mut stream: UnixStream) -> io::Result<Option<UnixStream>> {
        let peer = stream.peer_cred()?;
        // Before anything is read: an agent must not be in anybody's way here.
        let Some(caller) = self.caller(&peer).await else {
            let reply = Reply::Refused(
                "this account may not ask the daemon: root, the socket's group and the approvers of rules and masks may, agents never".into(),
            );
            stream.write_all(&encode(&reply)).await?;
            return Ok(Some(stream));
        };
        let mut line = String::new();
        BufReader::new((&mut stream).take(LONGEST)).read_line(&mut line).await?;
        let reply = match decode(&line) {
            Ok(action) => self.act(action, &caller).await,
            Err(error) => Reply::Refused(error),
        };
        stream.write_all(&encode(&reply)).await?;
        Ok(None)
    }

    /// The one place where it is said who is heard: not an agent, nor what an agent started, and of
    /// the others root, the group of the socket's folder, and approvers.
    async fn caller(&self, peer: &UCred) -> Option<Person> {
        let config = &self.shared.config;
        let by_user = |agent: &Agent| agent.select.scope == Scope::User(peer.uid());
        let is_agents =
            |pid: i32| u32::try_from(pid).is_ok_and(|pid| self.shared.identities.is_agents(pid));
        // Also one that runs as somebody else by now.
        if config.agents.iter().any(by_user) || peer.pid().is_none_or(is_agents) {
            return None;
        }
        let uid = peer.uid();
        let folder = config.daemon.control.parent().map(Path::to_owned);
        // The user database may be somewhere else, and slow.
        let (person, gids) = tokio::task::spawn_blocking(move || person(uid)).await.ok()?;
        let group = folder.and_then(|folder| fs::metadata(folder).ok()).map(|folder| folder.gid());
        let operates = uid == 0 || group.is_some_and(|group| gids.contains(&group));
        let approves = config.approvers().any(|approver| match approver {
            Approver::User(name) => *name == person.name,
            Approver::Group(name) => person.groups.contains(name),
        });
        (operates || approves).then_some(person)
    }

    async fn act(&self, action: Action, caller: &Person) -> Reply {
        let approvals = &self.shared.approvals;
        match action {
            Action::Status => self.status(),
            Action::Sessions => Reply::Sessions(self.sessions()),
            Action::Holds => Reply::Holds(approvals.list()),
            Action::Hold(id) => match approvals.get(id) {
                Some((hold, place)) => Reply::Hold(Box::new(self.with_more(hold, &place).await)),
                None => Reply::Refused(format!("nothing waits under {}", id.0)),
            },
            // Whether the caller is one of the rule's approvers is the policy's to say.
            Action::Decide { hold, approve, reason } if self.shared.exceptions.has(hold) => {
                let reason = reason.as_deref();
                decided(self.shared.exceptions.decide(hold, caller, approve, reason))
            }
            Action::Decide { hold, approve, reason } => {
                decided(approvals.decide(hold, caller, approve, reason))
            }
            Action::Unmask(asked) => {
                match self.shared.exceptions.ask(&self.shared, &asked, caller) {
                    Ok((id, done)) => Reply::Unmasked { id, done },
                    Err(why) => Reply::Refused(why),
                }
            }
            Action::Exceptions => Reply::Exceptions(self.shared.exceptions.list()),
            Action::Revoke { exception, reason } => {
                decided(self.shared.exceptions.revoke(exception, caller, reason.as_deref()))
            }
            Action::Erase { .. } | Action::Turn if caller.uid != 0 => {
                Reply::Refused("only root may do this to the log".into())
            }
            Action::Erase { commands, reason } => self.erase(commands, reason, caller).await,
            Action::Turn => self.turn().await,
        }
    }

    /// Erases the content of commands; each is recorded with who asked for it.
    async fn erase(&self, commands: Vec<Seq>, reason: String, caller: &Person) -> Reply {
        let (log, uid, person) = (self.shared.log.clone(), caller.uid, caller.name.clone());
        let erase = move || {
            let mut gone = Vec::new();
            for command in commands {
                gone.extend(log.erase(Erased {
                    at: clock::wall(),
                    command,
                    records: String::new(),
                    uid,
                    person: person.clone(),
                    reason: reason.clone(),
                })?);
            }
            Ok::<_, AuditError>(gone)
        };
        match tokio::task::spawn_blocking(erase).await {
            Ok(Ok(gone)) => Reply::Erased(gone),
            Ok(Err(error)) => Reply::Refused(error.to_string()),
            Err(_) => Reply::Refused("the daemon failed".into()),
        }
    }

    async fn turn(&self) -> Reply {
        let log = self.shared.log.clone();
        match tokio::task::spawn_blocking(move || log.turn()).await {
            Ok(Ok(())) => Reply::Turned,
            Ok(Err(error)) => Reply::Refused(error.to_string()),
            Err(_) => Reply::Refused("the daemon failed".into()),
        }
    }

    /// With what its target says of it, and what the log knows that the same run did before.
    async fn with_more(&self, mut hold: Hold, place: &Destination) -> Hold {
        if hold.inspection.is_none() {
            let found = inspect(&self.shared, place, &hold).await;
            self.shared.approvals.inspected(hold.id, found.clone());
            hold.inspection = Some(found);
        }
        let (path, id) = (self.shared.log.path().to_owned(), hold.id);
        let filter = Filter {
            agent: Some(hold.agent.clone()),
            run: Some(hold.run.clone()),
            before: Some(id),
            limit: Some(BEFORE),
            ..Filter::default()
        };
        let read = move || Reader::open(&path).and_then(|reader| reader.commands(&filter));
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(rows)) => {
                let before = rows.into_iter().map(|row| Before {
                    id: Seq(row.id),
                    time: row.time,
                    statement: row.statement,
                    status: row.status,
                });
                hold.before = before.collect();
            }
            Ok(Err(error)) => tracing::warn!(%error, "the log could not be read for an approver"),
            Err(_) => {}
        }
        hold
    }

    fn status(&self) -> Reply {
        let kernel = match self.counters.read() {
            Ok(counters) => counters,
            Err(error) => return Reply::Refused(error.to_string()),
        };
        let stats = self.shared.log.stats();
        let kernel = kernel.into_iter().map(|(name, count)| (format!("kernel_{name}"), count));
        Reply::Status(Box::new(Status {
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
                index: self.attending.index(),
                readers: self.attending.readers(),
            },
            counters: kernel.chain(self.shared.counters.read()).collect(),
            anchors: self.anchors.status(stats.last.0),
            interception: self.shared.health.status(),
        }))
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
                server: live.server.clone(),
                user: live.user.clone(),
                database: live.database.clone(),
                commands: live.commands.get(),
            })
            .collect();
        sessions.sort_by_key(|session| session.id);
        sessions
    }
}

fn decided(came: Result<String, String>) -> Reply {
    came.map_or_else(Reply::Refused, Reply::Decided)
}

/// Takes what a caller still says: it would miss its answer if the connection was closed meanwhile.
async fn hear_out(mut stream: UnixStream) {
    let _ = stream.shutdown().await;
    let mut bytes = [0; 1024];
    let mut left = LONGEST;
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        left = left.saturating_sub(count as u64);
        if left == 0 {
            break;
        }
    }
}

/// An account as the user database has it, and its groups' ids. One without a name goes by its
/// number.
fn person(uid: u32) -> (Person, Vec<u32>) {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let gids: Vec<Gid> = user
        .as_ref()
        .and_then(|user| {
            let name = std::ffi::CString::new(user.name.as_str()).ok()?;
            getgrouplist(&name, user.gid).ok()
        })
        .unwrap_or_default();
    let names = gids.iter().filter_map(|gid| Group::from_gid(*gid).ok().flatten());
    let groups = names.map(|group| group.name).collect();
    let name = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
    (Person { uid, name, groups }, gids.iter().map(|gid| gid.as_raw()).collect())
}
