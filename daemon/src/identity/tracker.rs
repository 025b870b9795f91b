//! What is known of agents' processes: who forked whom, and what each began to run.
//!
//! Filled by what the kernel tells, in its order; asked when a connection is settled. A process that
//! is gone stays as long as one that lives came of it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use chaperone_kernel::{Executed, Happened, Image, Process, ProcessKey};
use chaperone_model::Seq;

/// `USER_HZ` is 100 on every architecture that this runs on (proc(5), `starttime`).
pub(crate) const TICK_NS: u64 = 1_000_000_000 / 100;

/// Longest lineage that is followed.
const DEEPEST: usize = 64;
/// Programs of one process that are kept: the first and the last of them.
const PROGRAMS: usize = 32;
/// How long a process that is gone stays: its connection may not have been accepted yet.
const LINGER: Duration = Duration::from_mins(1);

/// A process, whatever it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) pid: u32,
    /// Its start, in ticks since boot: as exact as `/proc` shows it.
    pub(crate) ticks: u64,
}

impl From<&ProcessKey> for Id {
    fn from(key: &ProcessKey) -> Self {
        Self { pid: key.tgid, ticks: key.started_ns / TICK_NS }
    }
}

impl From<&chaperone_model::Process> for Id {
    fn from(process: &chaperone_model::Process) -> Self {
        Self { pid: process.pid, ticks: process.started_ns / TICK_NS }
    }
}

/// What a process began to run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) exec_id: u64,
    /// Nanoseconds since boot.
    pub(crate) at_ns: u64,
    pub(crate) filename: Box<[u8]>,
    pub(crate) arguments: Box<[u8]>,
    pub(crate) image: Image,
    /// As whom.
    pub(crate) process: Process,
}

/// One link of a lineage.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) key: ProcessKey,
    /// What it runs, where its exec was seen.
    pub(crate) program: Option<Arc<Program>>,
    /// As the kernel had it last, where it did.
    pub(crate) process: Option<Process>,
}

/// Whether the process of a session began to run something else.
#[derive(Debug)]
pub(crate) struct Watch {
    session: Seq,
    moved: OnceLock<String>,
}

impl Watch {
    /// What it runs now.
    pub(crate) fn moved(&self) -> Option<&str> {
        self.moved.get().map(String::as_str)
    }
}

#[derive(Debug)]
struct Life {
    process: Process,
    programs: Vec<Arc<Program>>,
    /// Programs of it are not kept.
    cut: bool,
    ended: Option<Instant>,
}

/// The lineage of a process.
#[derive(Debug)]
pub(crate) struct Lineage {
    /// From the agent's first process down.
    pub(crate) links: Vec<Link>,
    /// Something of it is not kept.
    pub(crate) cut: bool,
    /// The agent's first process, also where that is not kept.
    pub(crate) topmost: ProcessKey,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    lives: HashMap<Id, Life>,
    watches: HashMap<Id, Vec<Weak<Watch>>>,
}

impl Tracker {
    /// Takes what the kernel told. Answers the sessions whose process began to run a program, for
    /// each once, and the program.
    pub(crate) fn learn(&mut self, happened: Happened) -> Vec<(Seq, String)> {
        match happened {
            Happened::Exit(process) => {
                let life = self.life(process);
                life.ended = Some(Instant::now());
                self.watches.remove(&Id::from(&process.key));
                Vec::new()
            }
            Happened::Exec(executed) => {
                let Executed { at_ns, process, image, filename, arguments } = executed;
                let id = Id::from(&process.key);
                let exec_id = process.key.exec_id;
                let life = self.life(process);
                life.process = process;
                // Told twice while one daemon's programs take over from another's.
                if life.programs.last().is_some_and(|last| last.exec_id == exec_id) {
                    return Vec::new();
                }
                if life.programs.len() >= PROGRAMS {
                    life.programs.remove(PROGRAMS / 2);
                    life.cut = true;
                }
                let name = String::from_utf8_lossy(&filename).into_owned();
                life.programs.push(Arc::new(Program {
                    exec_id,
                    at_ns,
                    filename,
                    arguments,
                    image,
                    process,
                }));
                let watches = self.watches.get(&id).map(Vec::as_slice).unwrap_or_default();
                let watches = watches.iter().filter_map(Weak::upgrade);
                watches
                    .filter(|watch| watch.moved.set(name.clone()).is_ok())
                    .map(|watch| (watch.session, name.clone()))
                    .collect()
            }
        }
    }

    /// Adds a process that was found, where nothing is known of it.
    pub(crate) fn found(&mut self, process: Process) {
        self.life(process);
    }

    /// Whether the process is known.
    pub(crate) fn knows(&self, id: Id) -> bool {
        self.lives.contains_key(&id)
    }

    /// Tells when this process begins to run something else.
    pub(crate) fn watch(&mut self, id: Id, session: Seq) -> Arc<Watch> {
        let watch = Arc::new(Watch { session, moved: OnceLock::new() });
        let watches = self.watches.entry(id).or_default();
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&watch));
        watch
    }

    /// It did so before it was watched: what it runs now, where it was not told yet.
    pub(crate) fn moved_already(&self, key: &ProcessKey, watch: &Watch) -> Option<(Seq, String)> {
        let last = self.lives.get(&Id::from(key)).and_then(|life| life.programs.last());
        let name = last.map_or_else(
            || "another program".to_owned(),
            |program| String::from_utf8_lossy(&program.filename).into_owned(),
        );
        watch.moved.set(name.clone()).is_ok().then_some((watch.session, name))
    }

    /// The lineage of a process. `unknown` is asked for what this does not know.
    pub(crate) fn lineage(
        &self,
        key: ProcessKey,
        unknown: impl Fn(&ProcessKey) -> Option<Process>,
    ) -> Lineage {
        let mut links = Vec::new();
        let mut topmost = None;
        let mut cut = false;
        let mut at = Some(key);
        while let Some(key) = at {
            if links.len() >= DEEPEST {
                cut = true;
                break;
            }
            let life = self.lives.get(&Id::from(&key));
            let process = life.map(|life| life.process).or_else(|| unknown(&key));
            let programs = life.map(|life| life.programs.as_slice()).unwrap_or_default();
            cut |= life.is_some_and(|life| life.cut);
            topmost = topmost.or(process.map(|process| process.topmost));
            // The program that it ran at that point, and those that it ran before.
            let earlier: Vec<_> = programs
                .iter()
                .rev()
                .filter(|program| key.exec_id == 0 || program.exec_id <= key.exec_id)
                .collect();
            let seen = earlier
                .first()
                .is_some_and(|program| key.exec_id == 0 || program.exec_id == key.exec_id);
            if !seen {
                // It runs what forked it runs, or its exec was not told.
                links.push(Link { key, program: None, process });
            }
            for program in earlier {
                if links.len() >= DEEPEST {
                    cut = true;
                    break;
                }
                let key = ProcessKey { exec_id: program.exec_id, ..key };
                links.push(Link { key, program: Some(program.clone()), process });
            }
            at = process.map(|process| process.parent).filter(|parent| parent.tgid != 0);
        }
        links.reverse();
        let first = links.first().map_or(key, |link| link.key);
        let topmost = topmost.filter(|topmost| topmost.tgid != 0).unwrap_or(first);
        Lineage { links, cut, topmost }
    }

    /// Marks those as ended that the kernel does not have; the news of their end was lost.
    pub(crate) fn retain(&mut self, lives: impl Fn(&ProcessKey) -> bool) {
        for life in self.lives.values_mut().filter(|life| life.ended.is_none()) {
            if !lives(&life.process.key) {
                life.ended = Some(Instant::now());
            }
        }
    }

    /// Forgets what nothing that lives came of.
    pub(crate) fn prune(&mut self) {
        let mut needed = HashSet::new();
        for (id, life) in &self.lives {
            if life.ended.is_some_and(|ended| ended.elapsed() > LINGER) {
                continue;
            }
            let mut at = *id;
            for _ in 0..DEEPEST {
                if !needed.insert(at) {
                    break;
                }
                let Some(life) = self.lives.get(&at).filter(|l| l.process.parent.tgid != 0) else {
                    break;
                };
                at = Id::from(&life.process.parent);
            }
        }
        self.lives.retain(|id, _| needed.contains(id));
        self.watches.retain(|_, watches| {
            watches.retain(|watch| watch.strong_count() > 0);
            !watches.is_empty()
        });
    }

    fn life(&mut self, process: Process) -> &mut Life {
        self.lives.entry(Id::from(&process.key)).or_insert_with(|| Life {
            process,
            programs: Vec::new(),
            cut: false,
            ended: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tgid: u32, exec_id: u64) -> ProcessKey {
        ProcessKey { started_ns: u64::from(tgid) * TICK_NS, exec_id, tgid, reserved: 0 }
    }

    fn process(at: ProcessKey, parent: ProcessKey) -> Process {
        Process { key: at, parent, topmost: key(10, 1), ..Process::default() }
    }

    fn exec(key: ProcessKey, parent: ProcessKey, name: &str) -> Happened {
        Happened::Exec(Executed {
            at_ns: 1,
            process: process(key, parent),
            image: Image::default(),
            filename: name.as_bytes().into(),
            arguments: [].into(),
        })
    }

    fn names(lineage: &Lineage) -> Vec<String> {
        let name = |link: &Link| {
            let program = link.program.as_ref();
            program.map_or("?".into(), |p| String::from_utf8_lossy(&p.filename).into_owned())
        };
        lineage.links.iter().map(name).collect()
    }

    #[test]
    fn p3_a_double_fork_with_the_parent_gone_keeps_its_lineage() {
        let mut tracker = Tracker::default();
        let none = ProcessKey::default();
        tracker.learn(exec(key(10, 1), none, "agent"));
        // It forks 11, which runs a shell; that forks 12 and ends; 12 runs psql.
        tracker.learn(exec(key(11, 2), key(10, 1), "sh"));
        tracker.learn(Happened::Exit(process(key(11, 2), key(10, 1))));
        tracker.learn(exec(key(12, 3), key(11, 2), "psql"));
        tracker.learn(Happened::Exit(process(key(10, 1), none)));
        let links = tracker.lineage(key(12, 3), |_| None);
        assert_eq!(names(&links), ["agent", "sh", "psql"]);
        tracker.prune();
        assert_eq!(names(&tracker.lineage(key(12, 3), |_| None)), ["agent", "sh", "psql"]);
    }

    #[test]
    fn p3_a_program_that_is_replaced_stays_in_the_lineage() {
        let mut tracker = Tracker::default();
        let none = ProcessKey::default();
        tracker.learn(exec(key(10, 1), none, "agent"));
        tracker.learn(exec(key(11, 2), key(10, 1), "bash"));
        tracker.learn(exec(key(11, 3), key(10, 1), "psql"));
        assert_eq!(names(&tracker.lineage(key(11, 3), |_| None)), ["agent", "bash", "psql"]);
        assert_eq!(
            names(&tracker.lineage(key(11, 2), |_| None)),
            ["agent", "bash"],
            "as it was when it connected"
        );
        // What the parent ran after it had forked does not count.
        tracker.learn(exec(key(10, 9), none, "other"));
        assert_eq!(names(&tracker.lineage(key(11, 3), |_| None)), ["agent", "bash", "psql"]);
    }

    #[test]
    fn p3_an_exec_that_was_not_told_is_not_taken_for_the_one_before() {
        let mut tracker = Tracker::default();
        tracker.learn(exec(key(10, 1), ProcessKey::default(), "bash"));
        assert_eq!(names(&tracker.lineage(key(10, 2), |_| None)), ["bash", "?"]);
        let child = |at: &ProcessKey| Some(process(*at, key(10, 1)));
        assert_eq!(names(&tracker.lineage(key(11, 1), child)), ["bash", "?"], "forked");
    }

    #[test]
    fn p3_a_watched_process_that_runs_something_else_is_told_once() {
        let mut tracker = Tracker::default();
        let none = ProcessKey::default();
        tracker.learn(exec(key(10, 1), none, "agent"));
        let watch = tracker.watch(Id::from(&key(10, 1)), Seq(5));
        assert_eq!(tracker.learn(exec(key(10, 2), none, "evil")), [(Seq(5), "evil".into())]);
        assert_eq!(watch.moved(), Some("evil"));
        assert_eq!(tracker.learn(exec(key(10, 3), none, "worse")), []);
        drop(watch);
        assert_eq!(tracker.learn(exec(key(10, 4), none, "x")), []);
    }

    #[test]
    fn p3_a_lineage_that_is_too_long_says_so_and_keeps_its_first_process() {
        let mut tracker = Tracker::default();
        tracker.learn(exec(key(10, 1), ProcessKey::default(), "agent"));
        for pid in 11..200 {
            tracker.learn(exec(key(pid, 2), key(pid - 1, 2), "shell"));
        }
        let lineage = tracker.lineage(key(199, 2), |_| None);
        assert!(lineage.cut);
        assert_eq!(lineage.topmost, key(10, 1));
        tracker.prune();
        assert_eq!(tracker.lineage(key(199, 2), |_| None).topmost, key(10, 1));
    }

    #[test]
    fn p8_a_circle_of_parents_ends() {
        let mut tracker = Tracker::default();
        tracker.found(process(key(1, 1), key(2, 1)));
        tracker.found(process(key(2, 1), key(1, 1)));
        let lineage = tracker.lineage(key(1, 1), |_| None);
        assert!(lineage.links.len() <= DEEPEST && lineage.cut);
        tracker.prune();
    }

    #[test]
    fn p8_a_process_that_runs_one_program_after_another_is_bounded() {
        let mut tracker = Tracker::default();
        for n in 1..1000 {
            tracker.learn(exec(key(10, n), ProcessKey::default(), &n.to_string()));
        }
        let links = tracker.lineage(key(10, 999), |_| None);
        assert!(links.links.len() <= PROGRAMS && links.cut, "and it says so");
        assert_eq!(names(&links).first().map(String::as_str), Some("1"), "the first is kept");
        assert_eq!(names(&links).last().map(String::as_str), Some("999"));
    }
}
