//! What all sessions share: the configuration, the log, the live sessions, the counters.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chaperone_audit::Log;
use chaperone_kernel::Watch;
use chaperone_model::{AgentName, Event, EventKind, Identity, Record, Seq, TargetName, Timestamp};
use chaperone_wire::postgres::CancelKey;
use tokio::sync::{Semaphore, watch};

use crate::{
    addresses::nearest,
    approvals::Approvals,
    canary::Awaited,
    catalog::Catalog,
    clock::{self, Clock},
    config::Config,
    exceptions::Exceptions,
    identity::Identities,
    masks::Masks,
    places::{Full, Places},
    rates::Rates,
    ssh::authority::SshAuthority,
    tending::Health,
    tls::agent::Acceptor,
    upstream::Upstream,
};

/// How long nothing of a session has been under way before the daemon, when it ends, ends the session.
/// One that has just been opened comes to its first command within that, and one that sends command
/// after command to its end: neither fails for an upgrade.
pub(crate) const QUIET: Duration = Duration::from_secs(1);

/// How far the daemon has got with ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It serves.
    Serving,
    /// Sessions end as soon as nothing of theirs has been under way for [`QUIET`].
    Draining,
    /// Sessions end now.
    Ending,
    /// Nothing is waited for any more.
    Over,
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) log: Log,
    /// Vouches for SSH targets towards agents.
    pub(crate) ssh_host: SshAuthority,
    /// Takes agents' encrypted connections.
    pub(crate) acceptor: Acceptor,
    /// Knows agents' processes.
    pub(crate) identities: Identities,
    /// Commands that wait for a person.
    pub(crate) approvals: Arc<Approvals>,
    /// Masks that people lifted.
    pub(crate) exceptions: Exceptions,
    pub(crate) rates: Rates,
    /// How to reach the targets, in the order of the configuration.
    pub(crate) upstreams: Vec<Upstream>,
    /// What agents may not see.
    pub(crate) masks: Masks,
    /// What the targets' catalogs said.
    pub(crate) catalog: Catalog,
    pub(crate) clock: Clock,
    /// Which start of the daemon notes must belong to.
    pub(crate) generation: u32,
    pub(crate) counters: Counters,
    pub(crate) stage: watch::Receiver<Stage>,
    /// The process that shows whether connections still are taken.
    pub(crate) canary: Awaited,
    /// Whether they are.
    pub(crate) health: Health,
    /// Targets' addresses, with the targets' places in the configuration.
    watched: Mutex<Vec<(Watch, u32)>>,
    sessions: Mutex<HashMap<Seq, Live>>,
    cancels: Mutex<HashMap<(SocketAddr, CancelKey), Cancellable>>,
    /// When it was last recorded that an agent has too many, or that all have.
    last_too_many: Mutex<HashMap<Option<u32>, Instant>>,
    /// For connections.
    pub(crate) places: Arc<Places>,
    /// Connections beyond these that are told so: each is soon gone, and more are reset.
    pub(crate) told: Semaphore,
    /// Keys that are derived from passwords at a time.
    pub(crate) deriving: Semaphore,
}

/// A refused connection is recorded at most so often; all are counted.
const RECORD_TOO_MANY: Duration = Duration::from_secs(1);
/// Connections that are told at a time that there are too many.
const TOLD: usize = 64;

/// A live session, for those who ask.
pub(crate) struct Live {
    pub(crate) since: Timestamp,
    pub(crate) identity: Identity,
    pub(crate) target: TargetName,
    pub(crate) server: String,
    pub(crate) user: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) commands: Arc<Counter>,
}

/// Whose statement a cancel key cancels.
#[derive(Clone, Debug)]
pub(crate) struct Cancellable {
    pub(crate) session: Seq,
    pub(crate) agent: AgentName,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        log: Log,
        (acceptor, ssh_host): (Acceptor, SshAuthority),
        (upstreams, masks): (Vec<Upstream>, Masks),
        (identities, approvals): (Identities, Approvals),
        generation: u32,
        stage: watch::Receiver<Stage>,
    ) -> Self {
        let daemon = &config.daemon;
        let places = Places::new(daemon.max_sessions, daemon.max_sessions_per_agent);
        // Sessions need the other cores.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            places: Arc::new(places),
            told: Semaphore::new(TOLD),
            deriving: Semaphore::new(cores.div_ceil(2)),
            config,
            approvals: Arc::new(approvals),
            exceptions: Exceptions::new(log.clone()),
            rates: Rates::start(),
            log,
            ssh_host,
            acceptor,
            catalog: Catalog::new(upstreams.len()),
            upstreams,
            masks,
            identities,
            clock: Clock::start(),
            generation,
            counters: Counters::default(),
            stage,
            canary: Awaited::default(),
            health: Health::default(),
            watched: Mutex::default(),
            sessions: Mutex::default(),
            cancels: Mutex::default(),
            last_too_many: Mutex::default(),
        }
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, HashMap<Seq, Live>> {
        lock(&self.sessions)
    }

    /// Learns which addresses the kernel side watches.
    pub(crate) fn set_watched(&self, watched: &[(Watch, u32)]) {
        *lock(&self.watched) = watched.to_vec();
    }

    /// Which addresses the kernel side watches, with the targets' places in the configuration.
    pub(crate) fn watched(&self) -> Vec<(Watch, u32)> {
        lock(&self.watched).clone()
    }

    /// The target at an address, as the kernel side would find it.
    pub(crate) fn target_at(&self, address: SocketAddr) -> Option<u32> {
        nearest(&lock(&self.watched), address)
    }

    /// The session whose statement a cancel request is for.
    pub(crate) fn cancellable(&self, server: SocketAddr, key: &CancelKey) -> Option<Cancellable> {
        lock(&self.cancels).get(&(server, key.clone())).cloned()
    }

    pub(crate) fn learn_cancel_key(&self, server: SocketAddr, key: CancelKey, of: Cancellable) {
        lock(&self.cancels).insert((server, key), of);
    }

    pub(crate) fn forget_cancel_key(&self, server: SocketAddr, key: CancelKey, session: Seq) {
        let mut cancels = lock(&self.cancels);
        // Another server behind the same address may have given out the same key since.
        if let std::collections::hash_map::Entry::Occupied(entry) = cancels.entry((server, key))
            && entry.get().session == session
        {
            entry.remove();
        }
    }

    /// Tells the log, now and then, that connections are refused: all of them, or those of agents
    /// with this number.
    pub(crate) fn record_too_many(&self, full: Full, number: u32, why: &str, counter: &Counter) {
        let of = (full == Full::Agent).then_some(number);
        let mut last = lock(&self.last_too_many);
        if last.get(&of).is_some_and(|at| at.elapsed() < RECORD_TOO_MANY) {
            return;
        }
        last.insert(of, Instant::now());
        drop(last);
        let total = counter.get();
        let detail = format!("a connection was refused: {why} ({total} such since the start)");
        self.event(None, EventKind::TooMany, detail);
    }

    /// Tells the log something that belongs to no command.
    pub(crate) fn event(&self, session: Option<Seq>, kind: EventKind, detail: impl Into<String>) {
        let event = Event { at: clock::wall(), session, kind, detail: detail.into() };
        self.log.ride_along(Record::Event(event));
    }
}

/// A thread that panicked holds no half-made change of these maps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What the daemon counts.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[doc = $doc])+ pub(crate) $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn read(&self) -> Vec<(String, u64)> {
                vec![$((stringify!($name).to_owned(), self.$name.get()),)+]
            }
        }
    };
}

counters! {
    /// Connections taken.
    accepted,
    /// Connections reset because the kernel had no note of them.
    no_note,
    /// Connections reset because their note belongs to an earlier start, and to no target of this one
    /// or to another connection.
    stale_note,
    /// Connections that were made before this start, and waited for it.
    waited,
    /// Connections refused because there are `max_sessions`.
    too_many,
    /// Connections refused because their agent has `max_sessions_per_agent`.
    too_many_of_agent,
    /// Connections of which it was settled who made them.
    settled,
    /// Microseconds that this took, in all.
    settling_us,
    /// Connections refused because it could not be settled in time who made them.
    unsettled,
    /// Sessions refused or ended because it was doubtful who connected.
    doubted,
    /// Sessions ended because a client broke the protocol.
    client_violations,
    /// Sessions ended because a server broke the protocol.
    server_violations,
    /// Agents' connections that could not be encrypted.
    agent_tls_failed,
    /// Servers that could not be reached, or were not believed.
    unreachable,
    /// Servers that did not accept the daemon's own credential.
    sign_ons_failed,
    /// Commands forwarded.
    forwarded,
    /// Commands refused.
    refused,
    /// Commands that waited for a person.
    held,
    /// Look-ups in the catalogs of targets.
    catalog_asked,
    /// Look-ups that had no answer.
    catalog_failed,
    /// Sessions ended because the log could not be written.
    unrecorded,
    /// Cancel requests that belonged to no session of the same agent.
    cancels_refused,
    /// Sessions that were ended by a panic.
    panics,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn up(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
