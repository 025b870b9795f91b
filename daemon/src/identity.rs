//! Settles who opened a connection: the kernel's note, its table of processes and what it told of
//! their execs, completed from `/proc` where the process still is what it was.
//!
//! Belongs here: putting it together, recording each process once, and what is doubtful about it.
//! What is told to the agent is the session's business.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use chaperone_audit::{AuditError, Log};
use chaperone_kernel::{Events, KernelError, Note, ProcessKey, ProcessTable};
use chaperone_model::{
    AgentName, Digest, Event, EventKind, Identity, Process, ProcessSeen, Record, Ref, RunSeen,
    STEP, Seq, SessionOpened, Version,
};

pub(crate) mod digest;
mod doubts;
pub(crate) mod enrolled;
mod facts;
mod files;
mod image;
mod kept;
pub(crate) mod proc;
mod run;
mod scan;
mod script;
mod tracker;
mod version;

use self::{
    digest::Digests, enrolled::Enrolled, facts::Fact, image::Images, tracker::Lineage,
    tracker::Tracker, version::Packages,
};
pub(crate) use self::{
    scan::Owners,
    tracker::{Id, Watch},
    version::read as read_version,
};
use crate::{
    clock,
    config::{Agent, Config, VersionRule},
};

/// Runs that are remembered as recorded.
const RUNS: usize = 4096;

/// A run of an agent in a version and an image, which is recorded once.
type RunKey = (AgentName, Option<Version>, Arc<str>, Option<Digest>);

/// A version, where the configuration says how to know it; else why it is not known.
type Known = Result<Option<Version>, String>;

/// Knows agents' processes. One for the daemon.
pub(crate) struct Identities {
    tracking: Mutex<Tracking>,
    facts: Mutex<HashMap<ProcessKey, Fact>>,
    runs: Mutex<HashMap<RunKey, Seq>>,
    /// Versions that stay for a run, by its first process.
    versions: Mutex<HashMap<(Id, AgentName), Version>>,
    digests: Digests,
    packages: Packages,
    images: Images,
    enrolled: RwLock<Arc<Enrolled>>,
    /// What was last said of a list that cannot be read.
    complained: Mutex<Option<String>>,
    place: Place,
    log: Log,
}

/// What the kernel told and holds.
struct Tracking {
    events: Events,
    table: ProcessTable,
    tracker: Tracker,
}

/// Where things are on this host.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where the cgroup v2 tree is mounted.
    pub(crate) cgroups: PathBuf,
    /// The boot's id.
    pub(crate) boot: String,
    /// The list of enrolled files.
    pub(crate) enrolled: PathBuf,
}

/// Who opened a connection, before it is recorded.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) identity: Identity,
    /// The doubt for which it is to be refused.
    pub(crate) refused: Option<chaperone_model::Doubt>,
    /// Of the processes of the lineage.
    keys: Vec<ProcessKey>,
}

impl Identities {
    pub(crate) fn new(events: Events, table: ProcessTable, place: Place, log: Log) -> Self {
        Self {
            tracking: Mutex::new(Tracking { events, table, tracker: Tracker::default() }),
            facts: Mutex::default(),
            runs: Mutex::default(),
            versions: Mutex::default(),
            digests: Digests::default(),
            packages: Packages::default(),
            images: Images::default(),
            enrolled: RwLock::default(),
            complained: Mutex::default(),
            place,
            log,
        }
    }

    /// Takes in what the kernel told. Cheap where it told nothing.
    pub(crate) fn drain(&self) {
        self.tracking().drain(&self.log);
    }

    /// Settles who made a connection. `None` where no agent of the configuration can be meant.
    pub(crate) async fn settle(&self, config: &Config, note: &Note) -> Option<Settled> {
        let candidates: Vec<&Agent> =
            config.agents.iter().filter(|agent| agent.select.number() == note.agent).collect();
        let Lineage { links, cut, topmost } = {
            let mut tracking = self.tracking();
            tracking.drain(&self.log);
            tracking.lineage(note.process)
        };
        let mut lineage: Vec<Arc<Process>> = Vec::with_capacity(links.len());
        let last = links.len().saturating_sub(1);
        for (at, link) in links.iter().enumerate() {
            let of = (at == last).then_some(note);
            let above = lineage.last().cloned();
            lineage.push(self.fact(link, of, above).await);
        }
        let lineage: Arc<[Arc<Process>]> = lineage.into();
        let first = first_cgroup(&lineage);
        let mut run = run::of(&topmost, first, &self.place.cgroups, &self.place.boot);
        let image = match run::surely(first, &lineage, &self.place.cgroups) {
            Ok(id) => self.images.of(id, &config.daemon.container_stores, &self.digests).await,
            Err(why) => Err(why),
        };
        run.image = image.as_ref().ok().map(|image| image.digest);
        let (agent, known) = doubts::choose(&candidates, &lineage, &image)?;
        let version = self.version(agent, &lineage, Id::from(&topmost), &image).await;
        let mut identity = Identity {
            agent: agent.name.clone(),
            version: version.as_ref().ok().cloned().flatten(),
            run,
            comm: comm(&note.comm),
            doubts: Vec::new(),
            lineage,
        };
        let enrolled = self.enrolled.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut found = self.found(&links, cut).await;
        found.no_version = version.err();
        found.image = Some(image);
        identity.doubts = doubts::of(agent, known, &identity, &enrolled, found);
        let refused = identity.doubts.iter().find(|doubt| agent.answers.refuses(doubt)).cloned();
        Some(Settled { identity, refused, keys: links.iter().map(|link| link.key).collect() })
    }

    /// Records a session: with it, in one commit, its run and the processes of its lineage that are
    /// not recorded yet.
    pub(crate) fn record(
        &self,
        settled: &Settled,
        session: impl FnOnce(Ref) -> SessionOpened,
    ) -> Result<Seq, AuditError> {
        let identity = &settled.identity;
        let at = clock::wall();
        let mut batch = Vec::new();
        let add = |batch: &mut Vec<Record>, record| {
            batch.push(record);
            Ref::InBatch(u32::try_from(batch.len() - 1).unwrap_or(u32::MAX))
        };
        // Held while it is written: two connections of a process must not record it twice.
        let mut facts = lock(&self.facts);
        let mut runs = lock(&self.runs);
        let run_key = (
            identity.agent.clone(),
            identity.version.clone(),
            identity.run.name.clone(),
            identity.run.image,
        );
        let known = runs.get(&run_key).copied();
        let run = known.map_or_else(
            || {
                let (agent, version) = (identity.agent.clone(), identity.version.clone());
                let run = identity.run.clone();
                add(&mut batch, Record::RunSeen(RunSeen { at, agent, version, run }))
            },
            Ref::To,
        );
        let mut parent = None;
        let mut lineage = String::new();
        let mut new = Vec::new();
        for (key, process) in settled.keys.iter().zip(identity.lineage.iter()) {
            if !lineage.is_empty() {
                lineage.push_str(STEP);
            }
            lineage.push_str(&process.name());
            let recorded = known
                .and_then(|run| facts.get(key).and_then(|fact| fact.recorded_as(process, run)));
            parent = Some(recorded.map_or_else(
                || {
                    let seen = ProcessSeen {
                        at,
                        run,
                        parent,
                        process: process.clone(),
                        lineage: lineage.clone(),
                    };
                    let place = add(&mut batch, Record::ProcessSeen(seen));
                    new.push((*key, process.clone(), place));
                    place
                },
                Ref::To,
            ));
        }
        // A lineage is never empty: at the least it is the process that connected.
        batch.push(Record::SessionOpened(session(parent.unwrap_or(run))));
        let receipts = self.log.commit(batch)?.receipts();
        let (Some(first), Some(last)) = (receipts.first(), receipts.last()) else {
            return Ok(Seq(0));
        };
        let run = run.resolve(first.seq());
        if known.is_none() {
            if runs.len() >= RUNS {
                runs.clear();
            }
            runs.insert(run_key, run);
        }
        for (key, process, place) in new {
            if let Some(fact) = facts.get_mut(&key) {
                fact.set_recorded(&process, run, place.resolve(first.seq()));
            }
        }
        Ok(last.seq())
    }

    /// Watches whether the process of a session begins to run something else.
    pub(crate) fn watch(&self, note: &Note, session: Seq) -> Arc<Watch> {
        let mut tracking = self.tracking();
        tracking.drain(&self.log);
        let watch = tracking.tracker.watch(Id::from(&note.process), session);
        // It may have done so since it connected.
        if tracking.has_moved(&note.process) {
            tracking.tell_moved(&note.process, &watch, &self.log);
        }
        watch
    }

    /// Looks whether a session's process began to run something else: takes in what the kernel told,
    /// and where it matters asks its table as well, which knows also where the news was lost.
    pub(crate) fn look_after(&self, process: &ProcessKey, watch: &Watch, surely: bool) {
        let mut tracking = self.tracking();
        tracking.drain(&self.log);
        if surely && watch.moved().is_none() && tracking.has_moved(process) {
            tracking.tell_moved(process, watch, &self.log);
        }
    }

    /// Whether this process is an agent's.
    pub(crate) fn is_agents(&self, pid: u32) -> bool {
        let found = self.tracking().current(pid);
        found.is_some_and(|found| proc::started(pid) == Some(Id::from(&found.key).ticks))
    }

    /// Whether a process lives that came of this one, which was an agent's first.
    pub(crate) fn any_of(&self, first: Id) -> bool {
        let processes = self.tracking().table.all();
        let of = |key: &ProcessKey| Id::from(key) == first;
        processes.iter().any(|process| of(&process.key) || of(&process.topmost))
    }

    /// Reads the list of enrolled files again, where it changed. Where it cannot be read it stays as
    /// it was.
    pub(crate) fn reread(&self) {
        let held = self.enrolled.read().unwrap_or_else(PoisonError::into_inner).clone();
        match held.reread(&self.place.enrolled) {
            Ok(None) => {}
            Ok(Some(new)) => {
                let detail =
                    format!("the list of what is enrolled was read: {} entries", new.len());
                let event =
                    Event { at: clock::wall(), session: None, kind: EventKind::Enrolled, detail };
                self.log.ride_along(Record::Event(event));
                *self.enrolled.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
            }
            Err(error) => {
                let detail = format!("the list of enrolled programs stays as it was: {error}");
                if lock(&self.complained).replace(detail.clone()).as_ref() == Some(&detail) {
                    return;
                }
                tracing::error!(detail);
                let event =
                    Event { at: clock::wall(), session: None, kind: EventKind::Enrolled, detail };
                self.log.ride_along(Record::Event(event));
            }
        }
    }

    /// Forgets processes that are gone and of which none came that lives.
    pub(crate) fn prune(&self) {
        let mut tracking = self.tracking();
        tracking.drain(&self.log);
        // One that has run nothing of its own was not told of, and its ancestors are needed.
        for process in tracking.table.all() {
            tracking.tracker.found(process);
        }
        tracking.tracker.prune();
        let tracker = &tracking.tracker;
        lock(&self.facts).retain(|key, _| tracker.knows(Id::from(key)));
        lock(&self.versions).retain(|(id, _), _| tracker.knows(*id));
    }

    /// A version that can change while the agent runs is the one that it had when the run was first
    /// seen.
    async fn version(
        &self,
        agent: &Agent,
        lineage: &[Arc<Process>],
        topmost: Id,
        image: &image::Found,
    ) -> Known {
        let Some(rule) = agent.version.as_ref() else { return Ok(None) };
        let stays = !matches!(
            rule,
            VersionRule::Literal(_) | VersionRule::Digest(_) | VersionRule::Image(_)
        );
        let key = (topmost, agent.name.clone());
        if stays && let Some(version) = lock(&self.versions).get(&key) {
            return Ok(Some(version.clone()));
        }
        let version = version::of(rule, lineage, topmost, image, &self.packages).await?;
        if stays {
            lock(&self.versions).insert(key, version.clone());
        }
        Ok(Some(version))
    }

    fn tracking(&self) -> MutexGuard<'_, Tracking> {
        lock(&self.tracking)
    }
}

impl Tracking {
    fn drain(&mut self, log: &Log) {
        while let Some(happened) = self.events.take() {
            for (session, program) in self.tracker.learn(happened) {
                tell(log, session, &program);
            }
        }
    }

    fn lineage(&mut self, key: ProcessKey) -> Lineage {
        let table = &self.table;
        let lineage = self.tracker.lineage(key, |key| {
            table.get(key.tgid).ok().flatten().filter(|found| Id::from(&found.key) == Id::from(key))
        });
        // Remembered until its end, so that what is known of it is forgotten then.
        for process in lineage.links.iter().filter_map(|link| link.process) {
            self.tracker.found(process);
        }
        lineage
    }

    /// Whether a process runs something else than it ran.
    fn has_moved(&self, process: &ProcessKey) -> bool {
        let now = self.current(process.tgid);
        now.is_some_and(|now| {
            Id::from(&now.key) == Id::from(process) && now.key.exec_id > process.exec_id
        })
    }

    fn tell_moved(&self, process: &ProcessKey, watch: &Watch, log: &Log) {
        if let Some((session, program)) = self.tracker.moved_already(process, watch) {
            tell(log, session, &program);
        }
    }

    /// A process as the kernel has it now.
    fn current(&self, pid: u32) -> Option<chaperone_kernel::Process> {
        self.table.get(pid).unwrap_or_else(|error: KernelError| {
            tracing::warn!(%error, "the table of processes cannot be read");
            None
        })
    }
}

fn tell(log: &Log, session: Seq, program: &str) {
    let detail = chaperone_model::Doubt::Exec(program.to_owned()).to_string();
    let event = Event { at: clock::wall(), session: Some(session), kind: EventKind::Doubt, detail };
    log.ride_along(Record::Event(event));
}

/// What the server is told as `application_name`: agent, version and run, in the 63 bytes that it
/// keeps (`NAMEDATALEN`). Names give way first, the run last: it is what tells sessions apart.
pub(crate) fn application_name(identity: &Identity) -> String {
    let mut text = clean(&identity.agent.0, 20);
    if let Some(version) = &identity.version {
        text = format!("{text}@{}", clean(&version.text, 16));
    }
    format!("{text}/{}", clean(&identity.run.name, 25))
}

/// The server replaces what is not printable ASCII (`pg_clean_ascii`).
fn clean(text: &str, length: usize) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(length).collect()
}

fn comm(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// The path of the first process's cgroup: of it, or of another that is in the same.
fn first_cgroup(lineage: &[Arc<Process>]) -> Option<&str> {
    let first = lineage.first()?.cgroup_id;
    let mut same = lineage.iter().filter(|process| process.cgroup_id == first);
    same.find_map(|process| process.cgroup.as_deref())
}

/// A thread that panicked holds no half-made change of these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use chaperone_model::{Run, VersionSource};

    use super::*;

    #[test]
    fn the_servers_name_of_a_session_fits_and_tells_runs_apart() {
        let identity = Identity {
            agent: AgentName("a".repeat(63).into()),
            version: Some(Version {
                text: "1.2.3 \u{e9}".into(),
                source: VersionSource::Configuration,
            }),
            run: Run {
                name: "1234567.987654321-0123abcd".into(),
                unit: None,
                container: None,
                image: None,
            },
            lineage: [].into(),
            comm: String::new(),
            doubts: Vec::new(),
        };
        let name = application_name(&identity);
        assert_eq!(name, format!("{}@1.2.3??/1234567.987654321-0123abc", "a".repeat(20)));
        assert!(name.len() <= 63);
    }
}
