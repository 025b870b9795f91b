//! Sends the log's checkpoints to places that this host's root cannot rewrite, so that what lies
//! before them is beyond its reach.
//!
//! Each anchor has a thread of its own and takes one checkpoint at a time: the newest, not each.
//! What it took last is kept beside the log, so that a restart goes on from there. One that takes
//! none for too long raises an alarm, and so does one that says that the log is not the one it was.
//!
//! Does not belong here: making checkpoints (`chaperone-audit`), verifying them (`verify.rs`).

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use chaperone_audit::{Log, Sealed};
use chaperone_control::AnchorStatus;
use chaperone_model::EventKind;

use crate::{
    clock,
    config::{Anchor, Config, Destination},
    outbound::Backoff,
    shared::Shared,
};

mod folder;
mod journal;
mod progress;
mod store;
mod witness;

pub(crate) use folder::same_file_system;
use progress::Progress;
pub(crate) use progress::kept_notes;

/// How often it is looked whether an anchor lags.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why an anchor did not take a checkpoint.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Another time it may.
    #[error("{0}")]
    Later(String),
    /// The log is not the one that was anchored before: no other time will do.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    fn later(error: impl std::fmt::Display) -> Self {
        Self::Later(error.to_string())
    }
}

/// A place that takes checkpoints.
trait Place: Send {
    /// Gives it one; `last` is the size of the one that it took last, as far as is known. Answers
    /// the note as it is to be kept, with what the place added to it.
    fn take(&mut self, head: &Sealed, last: u64) -> Result<String, Failure>;
}

/// All anchors. When it is dropped they end.
pub(crate) struct Anchors {
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
    /// What was found when they were started.
    alarms: Vec<String>,
}

struct Board {
    anchors: Vec<Anchor>,
    /// Where it is kept what they took.
    folder: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    newest: Option<Sealed>,
    ended: bool,
    /// In the order of the anchors.
    progress: Vec<Progress>,
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Anchors {
    /// Starts them; they send nothing before [`Anchors::watch`] tells them of a checkpoint.
    pub(crate) fn start(config: &Config, opened: &Log) -> Result<Self> {
        let log = &config.daemon.log;
        let folder = progress::folder(log);
        let now = clock::wall();
        let restore = |anchor: &Anchor| Progress::restore(&folder, anchor, now);
        let state = State {
            newest: None,
            ended: false,
            progress: config.anchors.iter().map(restore).collect(),
        };
        let board = Arc::new(Board {
            anchors: config.anchors.clone(),
            folder,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        // Made first: where a thread cannot be started the others end.
        let mut anchors = Self { board: board.clone(), threads: Vec::new(), alarms: Vec::new() };
        // Before this start's own records, which could make up for what is missing.
        if let Some(newest) = &*opened.sealed().borrow() {
            anchors.alarms = anchors.set_back(newest, opened.stats().last.0);
        }
        for (index, anchor) in config.anchors.iter().enumerate() {
            let place = place(anchor, log).with_context(|| format!("anchor {}", anchor.name))?;
            let board = board.clone();
            let run = move || Sender { board, index, place }.run();
            anchors.threads.push(thread::Builder::new().name("anchor".into()).spawn(run)?);
        }
        Ok(anchors)
    }

    /// Tells the anchors of new checkpoints, and the log of anchors that lag.
    pub(crate) async fn watch(self: Arc<Self>, shared: Arc<Shared>) {
        if self.board.anchors.is_empty() {
            return;
        }
        let alarm = |alarm: String| {
            tracing::warn!("{alarm}");
            shared.event(None, EventKind::AnchorLags, alarm);
        };
        let mut sealed = shared.log.sealed();
        self.alarms.iter().cloned().for_each(alarm);
        sealed.mark_changed();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                changed = sealed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let newest = sealed.borrow_and_update().clone();
                    self.offer(newest);
                }
                _ = look.tick() => {
                    self.due().into_iter().for_each(alarm);
                }
            }
        }
    }

    fn offer(&self, newest: Option<Sealed>) {
        let Some(newest) = newest else { return };
        let mut state = self.board.state();
        let now = clock::wall();
        for progress in &mut state.progress {
            progress.offered(newest.size, now);
        }
        state.newest = Some(newest);
        self.board.changed.notify_all();
    }

    /// An older copy of the log in its place has less than what was anchored, whatever the anchors
    /// themselves can tell.
    fn set_back(&self, newest: &Sealed, last: u64) -> Vec<String> {
        let state = self.board.state();
        let both = self.board.anchors.iter().zip(&state.progress);
        both.filter_map(|(anchor, progress)| {
            let size = progress.last_size(newest);
            (size > last).then(|| {
                format!(
                    "the anchor {} took a checkpoint over {size} records, and the log has {last}: it was set back",
                    anchor.name
                )
            })
        })
        .collect()
    }

    fn due(&self) -> Vec<String> {
        let mut state = self.board.state();
        let now = clock::wall();
        let size = state.newest.as_ref().map_or(0, |newest| newest.size);
        let both = self.board.anchors.iter().zip(&mut state.progress);
        both.filter_map(|(anchor, progress)| progress.alarm(anchor, size, now)).collect()
    }

    /// How they are, where the log has so many records.
    pub(crate) fn status(&self, last: u64) -> Vec<AnchorStatus> {
        let state = self.board.state();
        let now = clock::wall();
        let both = self.board.anchors.iter().zip(&state.progress);
        both.map(|(anchor, progress)| progress.status(anchor, last, now)).collect()
    }
}

impl Drop for Anchors {
    fn drop(&mut self) {
        self.board.state().ended = true;
        self.board.changed.notify_all();
        // A place that is slow is not waited for: it has the checkpoint after the next start.
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

fn place(anchor: &Anchor, log: &Path) -> Result<Box<dyn Place>> {
    Ok(match &anchor.destination {
        Destination::Journald(path) => Box::new(journal::Journald::new(path)),
        Destination::Syslog(how) => Box::new(journal::SyslogServer::new(how)),
        Destination::Folder(path) => Box::new(folder::Folder::new(path, log)),
        Destination::Witness { prefix, key } => {
            Box::new(witness::Witness::new(prefix, key.clone(), log))
        }
        Destination::ObjectStore(store) => Box::new(store::Store::new(store)?),
    })
}

struct Sender {
    board: Arc<Board>,
    index: usize,
    place: Box<dyn Place>,
}

impl Sender {
    fn run(mut self) {
        let anchor = self.board.anchors[self.index].clone();
        let mut backoff = Backoff::default();
        let mut due = Instant::now();
        while let Some((head, last)) = self.next(due) {
            let taken = self.place.take(&head, last);
            let mut state = self.board.state();
            let newest = state.newest.as_ref().map_or(0, |newest| newest.size);
            let progress = &mut state.progress[self.index];
            let (saved, late) = match taken {
                Ok(note) => {
                    backoff.reset();
                    due = Instant::now() + anchor.every;
                    if progress.taken(&head, newest, clock::wall()) {
                        tracing::info!(anchor = anchor.name, "takes checkpoints again");
                    }
                    (progress.saved(), Some(note))
                }
                Err(failure) => {
                    due = Instant::now() + backoff.next().min(anchor.lag);
                    let fresh = progress.failed(&failure, clock::wall());
                    if fresh {
                        tracing::warn!(anchor = anchor.name, %failure, "a checkpoint was not taken; it is sent again");
                    }
                    (progress.saved(), None)
                }
            };
            drop(state);
            // A crash before this sends the checkpoint once more, which every place bears.
            if let Err(error) = saved.write(&self.board.folder, &anchor.name, late.as_deref()) {
                tracing::warn!(anchor = anchor.name, %error, "what the anchor took could not be kept");
            }
        }
    }

    /// Waits for a checkpoint that was not taken, and for its time.
    fn next(&self, due: Instant) -> Option<(Sealed, u64)> {
        let mut state = self.board.state();
        loop {
            if state.ended {
                return None;
            }
            let left = due.saturating_duration_since(Instant::now());
            let progress = &state.progress[self.index];
            let new = state.newest.as_ref().filter(|newest| progress.wants(newest));
            state = match new {
                Some(newest) if left.is_zero() => {
                    return Some((newest.clone(), progress.last_size(newest)));
                }
                Some(_) => {
                    let waited = self.board.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.board.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
