//! What the catalogs of targets say of the names in statements: which schema a name is of, what is
//! behind a view, what goes along when rows are removed.
//!
//! It is asked over the daemon's own connection, where the target has a credential, and kept for a
//! short time: others change a schema as well, and the daemon does not see them do it. What a session
//! of the daemon's own changes makes all of that target be asked again. An answer that does not come
//! leaves what is known without it, which is never less strict. Does not belong here: what policy
//! says of it, and what is shown to people who approve (`inspect`).

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chaperone_model::{Reading, Seq};
use chaperone_sql::readers::Readers;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{inspect::Destination, local::Local, shared::Shared, upstream::Held};

mod ask;
mod known;
mod resolve;
mod sight;

use ask::Open;
pub(crate) use known::{Attribute, Described, Known, Oid};
pub(crate) use resolve::resolve;
pub(crate) use sight::{Sight, changes_schema};

/// How long an answer counts.
const LIFETIME: Duration = Duration::from_mins(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a question may wait for its turn: others are answered meanwhile, so that nothing has failed.
const TURN: Duration = Duration::from_secs(15);
/// How long nothing is asked after no answer came: statements do not wait for it again and again.
const PAUSE: Duration = Duration::from_secs(5);
/// Databases, as accounts see them, of which something is kept: agents choose their names.
const PLACES: usize = 64;

/// What is kept of all targets.
pub(crate) struct Catalog {
    places: Mutex<HashMap<Key, Arc<Place>>>,
    /// By the target's place in the configuration.
    changes: Vec<Arc<Changes>>,
}

/// Which database, as which account sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) target: usize,
    pub(crate) server: SocketAddr,
    /// The SSH session through which it is reached: the same address is another server's there.
    pub(crate) inside: Option<Seq>,
    pub(crate) credential: usize,
    pub(crate) database: Option<String>,
}

/// What sessions of the daemon's own did to the schemas of a target.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    generation: AtomicU64,
    /// Sessions that changed something and have not come to rest since: only they see it.
    open: AtomicU64,
}

impl Changes {
    /// A session is about to change something.
    pub(crate) fn begin(self: &Arc<Self>) -> Unsettled {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::SeqCst);
        Unsettled(self.clone())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn is_settled(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0
    }
}

/// A session has changed something, and may not have committed it. Nothing is kept meanwhile.
#[derive(Debug)]
pub(crate) struct Unsettled(Arc<Changes>);

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is kept of one database, as one account sees it.
pub(crate) struct Place {
    key: Key,
    changes: Arc<Changes>,
    known: Mutex<Option<Arc<Known>>>,
    /// One connection at a time: who waits for it may find the answer there.
    asking: tokio::sync::Mutex<Turn>,
    failed: Mutex<Option<Instant>>,
}

/// Whose turn it is to ask.
#[derive(Default)]
struct Turn {
    /// A connection that has asked a moment ago: most of what an answer takes is a new one's beginning.
    open: Option<Open>,
    /// Somebody sees to it that it is closed.
    attended: bool,
}

impl Catalog {
    /// Of so many targets.
    pub(crate) fn new(targets: usize) -> Self {
        Self { places: Mutex::default(), changes: (0..targets).map(|_| Arc::default()).collect() }
    }

    /// What sessions did to a target.
    pub(crate) fn changes(&self, target: usize) -> Arc<Changes> {
        self.changes.get(target).cloned().unwrap_or_default()
    }

    /// What is kept of a database. `None` where there is no room for one more.
    pub(crate) fn place(&self, key: Key) -> Option<Arc<Place>> {
        let mut places = lock(&self.places);
        if let Some(place) = places.get(&key) {
            return Some(place.clone());
        }
        if places.len() >= PLACES {
            // Those that no session uses.
            places.retain(|_, place| Arc::strong_count(place) > 1);
        }
        if places.len() >= PLACES {
            return None;
        }
        let place = Arc::new(Place {
            changes: self.changes(key.target),
            key: key.clone(),
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
        });
        places.insert(key, place.clone());
        Some(place)
    }
}

impl Place {
    /// What is known, where it still counts.
    pub(crate) fn known(&self) -> Option<Arc<Known>> {
        let known = lock(&self.known).clone()?;
        let counts = self.changes.is_settled()
            && known.generation == self.changes.generation()
            && known.at.elapsed() < LIFETIME;
        counts.then_some(known)
    }

    /// Whether nothing is asked at present, because no answer came the last time.
    pub(crate) fn rests(&self) -> bool {
        lock(&self.failed).is_some_and(|at| at.elapsed() < PAUSE)
    }

    /// Asks for what a statement names, and answers with all that is known then. `anew`: what is
    /// known already does not count.
    pub(crate) async fn look_up(
        self: &Arc<Self>,
        shared: &Shared,
        local: &Local,
        place: &Destination,
        names: &BTreeSet<String>,
        anew: bool,
    ) -> Option<Arc<Known>> {
        if self.rests() {
            return None;
        }
        let why = match timeout(TURN, self.asking.lock()).await {
            Err(_) => "too many ask at once".into(),
            // It may have failed for those before.
            Ok(_) if self.rests() => return None,
            Ok(turn) => {
                let ask = self.ask(turn, shared, local, place, names, anew);
                let why = match timeout(PATIENCE, ask).await {
                    Ok(Ok(known)) => return Some(known),
                    Ok(Err(why)) => why,
                    Err(_) => "the target did not answer in time".into(),
                };
                *lock(&self.failed) = Some(Instant::now());
                why
            }
        };
        shared.counters.catalog_failed.up();
        tracing::warn!(
            target_server = %self.key.server,
            database = self.key.database.as_deref().unwrap_or_default(),
            "the catalog could not be asked, and names are decided without it: {why}"
        );
        None
    }

    async fn ask(
        self: &Arc<Self>,
        mut turn: tokio::sync::MutexGuard<'_, Turn>,
        shared: &Shared,
        local: &Local,
        place: &Destination,
        names: &BTreeSet<String>,
        anew: bool,
    ) -> Result<Arc<Known>, String> {
        let before = self.known().filter(|_| !anew);
        if let Some(known) = before.clone().filter(|known| known.covers(names)) {
            return Ok(known);
        }
        let generation = self.changes.generation();
        let held = shared.upstreams[self.key.target].held.get(self.key.credential);
        let held = held.ok_or("the target has no such credential")?;
        shared.counters.catalog_asked.up();
        let before = before.filter(|known| known.has_room());
        let begin = || before.as_deref().map_or_else(|| Known::new(generation), Known::clone);
        let mut answer = None;
        if let Some(mut open) = turn.open.take() {
            let mut known = begin();
            let asked = if open.lasts() {
                open.ask(&local.readers, place, names, &mut known).await
            } else {
                Ok(None)
            };
            match asked {
                Ok(Some(whole)) => answer = Some((open, known, whole)),
                // It would not answer as a new one does.
                Ok(None) => open.goodbye().await,
                // The server has closed it, or a new one fails as well and says why.
                Err(_) => {}
            }
        }
        let (open, known, whole) = if let Some(answer) = answer {
            answer
        } else {
            let mut open = Open::connect(&shared.deriving, place, held).await?;
            let mut known = begin();
            let whole = open.ask(&local.readers, place, names, &mut known).await?;
            (open, known, whole.unwrap_or(false))
        };
        turn.open = Some(open);
        if !std::mem::replace(&mut turn.attended, true) {
            tokio::spawn(self.clone().attend());
        }
        let known = Arc::new(known);
        if whole {
            *lock(&self.known) = Some(known.clone());
        }
        Ok(known)
    }

    /// Closes the connection once nobody asks any more.
    async fn attend(self: Arc<Self>) {
        loop {
            sleep(ask::IDLE).await;
            let mut turn = self.asking.lock().await;
            if turn.open.as_ref().is_some_and(|open| open.used.elapsed() < ask::IDLE) {
                continue;
            }
            if let Some(open) = turn.open.take() {
                open.goodbye().await;
            }
            turn.attended = false;
            return;
        }
    }
}

/// Asks for these names once, of a catalog of which nothing is kept.
pub(crate) async fn ask_once(
    deriving: &Semaphore,
    readers: &Readers,
    place: &Destination,
    held: &Held,
    names: &BTreeSet<String>,
) -> Result<Known, String> {
    let mut known = Known::new(0);
    let mut open = Open::connect(deriving, place, held).await?;
    let whole = open.ask(readers, place, names, &mut known).await?;
    open.goodbye().await;
    if whole == Some(true) {
        Ok(known)
    } else {
        Err("somebody is changing what it names just now".into())
    }
}

/// The names that a reading has to be asked about. `None`: nothing in it depends on the catalog.
pub(crate) fn asked_about(reading: &Reading) -> Option<BTreeSet<String>> {
    let statements = &reading.statements;
    let depends = statements.iter().any(|one| {
        // A column may be a function of a row.
        !one.relations.is_empty()
            || !one.functions.is_empty()
            || !one.operators.is_empty()
            || !one.columns.is_empty()
            || !one.types.is_empty()
    });
    let relations = || statements.iter().flat_map(|one| &one.relations);
    depends.then(|| relations().map(|relation| relation.name.name.clone()).collect())
}

/// A thread that panicked holds no half-made change of these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(database: &str) -> Key {
        let server = SocketAddr::from(([127, 0, 0, 1], 5432));
        Key { target: 0, server, inside: None, credential: 0, database: Some(database.into()) }
    }

    #[test]
    fn p2_what_is_known_counts_until_a_session_changes_something() {
        let catalog = Catalog::new(1);
        let place = catalog.place(key("a")).expect("room");
        let know = || {
            let known = Arc::new(Known::new(place.changes.generation()));
            *lock(&place.known) = Some(known);
        };
        know();
        assert!(place.known().is_some());
        let unsettled = catalog.changes(0).begin();
        assert!(place.known().is_none());
        know();
        assert!(place.known().is_none(), "it may not have been committed");
        drop(unsettled);
        assert!(place.known().is_none(), "it was asked before that was committed");
        know();
        assert!(place.known().is_some());
    }

    #[test]
    fn p8_what_is_kept_is_bounded() {
        let catalog = Catalog::new(1);
        let used: Vec<_> = (0..PLACES).map(|n| catalog.place(key(&n.to_string()))).collect();
        assert!(used.iter().all(Option::is_some));
        assert!(catalog.place(key("more")).is_none());
        drop(used);
        assert!(catalog.place(key("more")).is_some());
    }
}
