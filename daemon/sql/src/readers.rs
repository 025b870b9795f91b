//! What one thread of the daemon has read: what is known already, else by processes that can be lost.
//!
//! There are few processes, and a text may keep one until the deadline, or take it along. So those who
//! wait go in order; one agent has at most all but one of the processes, so that others get through;
//! and one that is lost is replaced at once. Nothing leaves the thread: the kernel ends a process with
//! the thread that started it. `lines` has command lines, which the same processes read. Does not
//! belong here: how a process is made and locked in (`sandbox`).

mod lines;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::OsString,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use chaperone_model::{Lineage, Reading, Schema};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time,
};

use crate::{
    cache::Cache,
    sandbox::{
        Asked,
        frame::{Answer, SCHEMA_MOST, TEXT_MOST},
        process::Process,
    },
    template::Template,
};

/// How long nothing is started after a process could not be.
const PAUSE: Duration = Duration::from_secs(1);
/// A text that is longer may leave a process with hundreds of MiB: it is ended, and another started.
const GROWS: usize = 32 << 10;
/// Texts of which it is remembered where their columns come from, and the longest of them.
const LINEAGES: usize = 256;
const LONGEST_KEPT: usize = 16 << 10;
/// Who has statements laid out. No agent's name is empty.
const LAYING_OUT: &str = "";

/// How a thread's readers are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program whose `main` is [`crate::sandbox::worker`], or one of [`crate::sandbox::run`], when
    /// it is started with the argument.
    pub program: PathBuf,
    /// That argument.
    pub argument: OsString,
    /// How many processes there are at most, two or more.
    pub workers: usize,
    /// How long one may take for a text.
    pub deadline: Duration,
    /// How many texts of one agent may wait.
    pub waiting: usize,
    /// What is kept of earlier readings, in bytes.
    pub cache_bytes: usize,
}

impl Options {
    /// What is usual, of this program.
    pub fn new(program: PathBuf, argument: OsString) -> Self {
        Self {
            program,
            argument,
            workers: 3,
            deadline: Duration::from_secs(1),
            waiting: 1024,
            cache_bytes: 16 << 20,
        }
    }
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Stats {
    /// Readings that were known by their text.
    pub cache_hits: Cell<u64>,
    /// Readings that were known by a text that differs in literals alone.
    pub template_hits: Cell<u64>,
    /// Tasks that went to a process.
    pub trips: Cell<u64>,
    /// Processes that ended, or answered what is no answer.
    pub deaths: Cell<u64>,
    /// Deadlines that were missed: the process was ended.
    pub deadlines: Cell<u64>,
    /// Processes that were started.
    pub starts: Cell<u64>,
}

/// The readers of one thread.
pub struct Readers {
    options: Options,
    cache: RefCell<Cache>,
    lineages: RefCell<Lineages>,
    lines: RefCell<lines::Kept>,
    /// Those that nobody has asked. The last is asked next: it is warm.
    idle: RefCell<Vec<Process>>,
    /// How many there are, with those that are asked.
    running: Cell<usize>,
    /// One for each process that may run.
    turns: Semaphore,
    /// By agent: the configuration bounds how many there are.
    shares: RefCell<HashMap<Box<str>, Rc<Share>>>,
    failed: RefCell<Option<(Instant, Arc<str>)>>,
    stats: Stats,
}

/// By text and what is known of relations.
type Lineages = HashMap<(String, Arc<Schema>), Arc<Vec<Lineage>>>;

/// What one agent has of the processes.
struct Share {
    turns: Semaphore,
    waiting: Cell<usize>,
}

/// The right to ask a process.
struct Turn<'a> {
    _own: SemaphorePermit<'a>,
    _all: SemaphorePermit<'a>,
}

/// What a text did to a process.
#[derive(Clone, Copy)]
enum Struck {
    Ended,
    Late,
}

impl Struck {
    fn of_sql(self) -> &'static str {
        match self {
            Self::Ended => "the reader of SQL ended while it read it",
            Self::Late => "the reader of SQL did not read it in time",
        }
    }

    fn of_lines(self) -> &'static str {
        match self {
            Self::Ended => "the reader of command lines ended while it read it",
            Self::Late => "the reader of command lines did not read it in time",
        }
    }
}

/// Why there is no answer.
enum Lost {
    /// The text took the process along, or what it needs to answer in time.
    Struck(Struck),
    /// It was asked of nobody.
    Unasked(String),
}

impl Readers {
    /// Starts the first process ahead where a runtime is there already.
    pub fn new(options: Options) -> Self {
        let workers = options.workers.max(2);
        let readers = Self {
            cache: RefCell::new(Cache::new(options.cache_bytes)),
            lineages: RefCell::default(),
            lines: RefCell::new(lines::Kept::new(options.cache_bytes / 8)),
            idle: RefCell::default(),
            running: Cell::new(0),
            turns: Semaphore::new(workers),
            shares: RefCell::default(),
            failed: RefCell::default(),
            stats: Stats::default(),
            options: Options { workers, ..options },
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            readers.start_ahead();
        }
        readers
    }

    /// The reading of a text that was read before, or of one that differs in literals alone.
    pub fn known(&self, text: &str) -> Option<Arc<Reading>> {
        if let Some(reading) = self.cache.borrow().text(text) {
            count(&self.stats.cache_hits);
            return Some(reading);
        }
        if text.len() > TEXT_MOST {
            return None;
        }
        let reading = self.cache.borrow_mut().template(text)?;
        count(&self.stats.template_hits);
        Some(reading)
    }

    /// Reads a text for an agent. What cannot be read is a reading that says so.
    pub async fn read(&self, text: &str, whose: &str) -> Arc<Reading> {
        if let Some(reading) = self.known(text) {
            return reading;
        }
        if text.len() > TEXT_MOST {
            let why = format!("it is longer than {} KiB", TEXT_MOST >> 10);
            return Arc::new(Reading::unreadable(why));
        }
        let share = self.share(whose);
        let Some(_turn) = self.turn(&share).await else {
            return Arc::new(Reading::unreadable(
                "too many statements of its agent wait to be read",
            ));
        };
        // Others may have waited with the same text.
        if let Some(reading) = self.known(text) {
            return reading;
        }
        match self.ask::<Answer>(Asked::Reading, text.as_bytes()).await {
            Ok(Answer { reading, slots }) => {
                let reading = Arc::new(reading);
                let mut cache = self.cache.borrow_mut();
                cache.keep(text, &reading);
                if let Some(template) = slots.and_then(|slots| Template::new(text, &slots)) {
                    cache.keep_template(template, &reading);
                }
                reading
            }
            Err(Lost::Struck(how)) => {
                let why = how.of_sql();
                tracing::warn!(agent = whose, bytes = text.len(), "a statement is not read: {why}");
                let reading = Arc::new(Reading::unreadable(why));
                self.cache.borrow_mut().keep_struck(text, &reading);
                reading
            }
            Err(Lost::Unasked(why)) => Arc::new(Reading::unreadable(why)),
        }
    }

    /// A statement laid out for a person, where it can be.
    pub async fn lay_out(&self, text: &str) -> Option<String> {
        if text.len() > TEXT_MOST {
            return None;
        }
        let share = self.share(LAYING_OUT);
        let _turn = self.turn(&share).await?;
        self.ask(Asked::Layout, text.as_bytes()).await.ok().flatten()
    }

    /// A statement with parameters in place of its values, where nothing of them is left.
    pub async fn without_values(&self, text: &str, whose: &str) -> Option<String> {
        if text.len() > TEXT_MOST {
            return None;
        }
        let share = self.share(whose);
        let _turn = self.turn(&share).await?;
        self.ask(Asked::WithoutValues, text.as_bytes()).await.ok().flatten()
    }

    /// Where the columns of a text's results come from, statement by statement; `None` where that
    /// cannot be said.
    pub async fn lineage(
        &self,
        text: &str,
        schema: &Arc<Schema>,
        whose: &str,
    ) -> Option<Arc<Vec<Lineage>>> {
        if text.len() > TEXT_MOST {
            return None;
        }
        let key = (text.to_owned(), schema.clone());
        if let Some(found) = self.lineages.borrow().get(&key) {
            return Some(found.clone());
        }
        let asked = serde_json::to_string(&(text, &**schema)).ok()?;
        if asked.len() > SCHEMA_MOST {
            return None;
        }
        let share = self.share(whose);
        let _turn = self.turn(&share).await?;
        let found = self
            .ask::<Option<Vec<Lineage>>>(Asked::Lineage, asked.as_bytes())
            .await
            .ok()
            .flatten()?;
        let found = Arc::new(found);
        let mut lineages = self.lineages.borrow_mut();
        if lineages.len() >= LINEAGES {
            lineages.clear();
        }
        if text.len() <= LONGEST_KEPT {
            lineages.insert(key, found.clone());
        }
        Some(found)
    }

    /// What has happened so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn share(&self, whose: &str) -> Rc<Share> {
        let mut shares = self.shares.borrow_mut();
        if let Some(share) = shares.get(whose) {
            return share.clone();
        }
        let turns = Semaphore::new(self.options.workers - 1);
        let share = Rc::new(Share { turns, waiting: Cell::new(0) });
        shares.insert(whose.into(), share.clone());
        share
    }

    /// Waits for a process to be free, or answers that too many wait already.
    async fn turn<'a>(&'a self, share: &'a Share) -> Option<Turn<'a>> {
        let _waiting = Waiting::new(&share.waiting, self.options.waiting)?;
        // Its own first: who waits for that is in nobody else's way. Neither is ever closed.
        let own = share.turns.acquire().await.ok()?;
        let all = self.turns.acquire().await.ok()?;
        Some(Turn { _own: own, _all: all })
    }

    /// Asks a process, with the right to do so.
    async fn ask<T: DeserializeOwned>(&self, asked: Asked, text: &[u8]) -> Result<T, Lost> {
        let mut process = self.take().await?;
        count(&self.stats.trips);
        let exchange = async {
            process.get().send(asked, text).await?;
            // While that one works, the next is made ready.
            self.start_ahead();
            let answer = process.get().receive().await?;
            Ok::<T, std::io::Error>(serde_json::from_slice(answer)?)
        };
        let answer = time::timeout(self.options.deadline, exchange).await;
        let (why, counter) = match answer {
            Ok(Ok(answer)) => {
                if text.len() <= GROWS {
                    process.give_back();
                }
                return Ok(answer);
            }
            Ok(Err(_)) => (Struck::Ended, &self.stats.deaths),
            Err(_) => (Struck::Late, &self.stats.deadlines),
        };
        count(counter);
        drop(process);
        self.start_ahead();
        Err(Lost::Struck(why))
    }

    /// A process that is locked in and has nothing to do.
    async fn take(&self) -> Result<Taken<'_>, Lost> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            let fresh = idle.is_none();
            let process = match idle {
                Some(process) => process,
                None => self.start().map_err(Lost::Unasked)?,
            };
            let mut taken = Taken { readers: self, process: Some(process) };
            match taken.get().ready().await {
                Ok(()) if !taken.get().is_spent() => return Ok(taken),
                // It ended on its own, or was ended: no text is to blame.
                Ok(()) => count(&self.stats.deaths),
                Err(_) if !fresh => count(&self.stats.deaths),
                Err(why) => return Err(Lost::Unasked(self.fail(&why))),
            }
        }
    }

    /// Starts a process for the next text where none is idle. Errors come again when it is needed.
    fn start_ahead(&self) {
        if self.idle.borrow().is_empty()
            && self.running.get() < self.options.workers
            && let Ok(process) = self.start()
        {
            self.idle.borrow_mut().push(process);
        }
    }

    fn start(&self) -> Result<Process, String> {
        if let Some((when, why)) = &*self.failed.borrow()
            && when.elapsed() < PAUSE
        {
            return Err(why.to_string());
        }
        match Process::start(&self.options.program, &self.options.argument) {
            Ok(process) => {
                self.running.set(self.running.get() + 1);
                count(&self.stats.starts);
                Ok(process)
            }
            Err(error) => Err(self.fail(&error.to_string())),
        }
    }

    /// Remembers that no process can be had for now.
    fn fail(&self, why: &str) -> String {
        let why = format!("no reader can be started: {why}");
        tracing::error!(
            "{why}; statements and command lines that are not known are taken as unreadable"
        );
        *self.failed.borrow_mut() = Some((Instant::now(), why.as_str().into()));
        why
    }
}

/// A process that is asked. Unless it is given back it is ended: what it would say next is not known
/// where the session that asked is gone.
struct Taken<'a> {
    readers: &'a Readers,
    process: Option<Process>,
}

impl Taken<'_> {
    fn get(&mut self) -> &mut Process {
        self.process.as_mut().expect("it is there until it is given back")
    }

    fn give_back(mut self) {
        self.readers.idle.borrow_mut().extend(self.process.take());
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            self.readers.running.set(self.readers.running.get() - 1);
            process.end();
        }
    }
}

/// Counts who waits.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>, most: usize) -> Option<Self> {
        (count.get() < most).then(|| {
            count.set(count.get() + 1);
            Self(count)
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}
