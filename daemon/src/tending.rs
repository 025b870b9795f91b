//! Looks again and again whether agents' connections still come to the daemon: whether the programs
//! are attached as they were, and whether a canary arrives. Root can detach them, and nobody can keep
//! it from that; it is to be noticed, recorded and undone.
//!
//! A daemon that loaded the programs itself attaches them again. One that serves what another process
//! loaded may not: it ends, and the service manager starts it anew, with loading before it.

use std::sync::{Arc, Mutex, PoisonError};

use chaperone_control::InterceptionStatus;
use chaperone_kernel::{Fault, Interception};
use chaperone_model::EventKind;
use tokio::sync::oneshot;

use crate::{
    canary::{Canary, Trouble},
    clock,
    notify::Notifier,
    shared::Shared,
};

/// A canary that does not arrive is sent once more before it counts: the host may have been busy.
const TRIES: u32 = 2;

/// What is known of it now.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<InterceptionStatus>);

impl Health {
    pub(crate) fn status(&self) -> InterceptionStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what was found; answers whether that is news.
    fn set(&self, problem: Option<String>) -> bool {
        let mut status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        status.checked = Some(clock::wall());
        let is_new = status.problem != problem;
        status.problem = problem;
        is_new
    }
}

/// See the module's comment.
pub(crate) struct Tending {
    pub(crate) shared: Arc<Shared>,
    pub(crate) interception: Arc<Mutex<Interception>>,
    pub(crate) canary: Canary,
    pub(crate) notifier: Arc<Notifier>,
    /// Told where only loading anew can help.
    pub(crate) reload: Option<oneshot::Sender<()>>,
}

impl Tending {
    /// Goes on until the daemon ends.
    pub(crate) async fn run(mut self) {
        let every = self.shared.config.daemon.canary;
        let mut was_well = false;
        let mut turn = tokio::time::interval(every);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        turn.tick().await;
        loop {
            turn.tick().await;
            let problem = match self.look() {
                Some(problem) => Some(problem),
                None => self.fly(was_well).await,
            };
            was_well |= problem.is_none();
            if self.shared.health.set(problem.clone()) {
                let line = problem.as_deref().unwrap_or("serving");
                self.notifier.status(line);
            }
        }
    }

    /// Looks after what is attached; answers what is wrong and stays so.
    fn look(&mut self) -> Option<String> {
        let mut kernel = self.interception.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match kernel.look() {
            Ok(found) => found,
            Err(error) => {
                let problem =
                    format!("it cannot be told whether the programs are attached: {error}");
                drop(kernel);
                self.alarm(&problem);
                return Some(problem);
            }
        };
        if found.is_empty() {
            return None;
        }
        let mut lost = false;
        let mut said = Vec::new();
        for (name, fault) in found {
            lost |= fault != Fault::Unpinned;
            said.push(match fault {
                Fault::Unpinned => format!("the pin of {name} was removed, and was made anew"),
                Fault::Detached => format!("{name} was detached"),
                Fault::Replaced => format!("the program of {name} was replaced"),
            });
        }
        let mended = if lost { kernel.mend() } else { Ok(true) };
        drop(kernel);
        let said = said.join("; ");
        match mended {
            Ok(true) if lost => {
                self.alarm(&format!("{said}: the programs were attached again"));
                None
            }
            Ok(true) => {
                self.alarm(&said);
                None
            }
            Ok(false) => {
                self.alarm(&format!("{said}: the daemon ends, so that they are loaded anew"));
                if let Some(reload) = self.reload.take() {
                    let _ = reload.send(());
                }
                Some(said)
            }
            Err(error) => {
                let problem = format!("{said}, and could not be attached again: {error}");
                self.alarm(&problem);
                Some(problem)
            }
        }
    }

    /// Sends a canary; answers what is wrong.
    async fn fly(&mut self, was_well: bool) -> Option<String> {
        let mut last = None;
        for _ in 0..TRIES {
            match self.canary.send(&self.shared).await {
                Ok(()) => {
                    last = None;
                    break;
                }
                Err(trouble) => last = Some(trouble),
            }
        }
        let trouble = last?;
        let mut problem = match &trouble {
            Trouble::NotSent(why) => format!("a canary could not be sent: {why}"),
            Trouble::Missed(why) => {
                format!(
                    "a canary's connection did not come to the daemon, so that agents' may not either: {why}"
                )
            }
        };
        if self.shared.health.status().problem.as_ref() == Some(&problem) {
            return Some(problem);
        }
        if matches!(trouble, Trouble::Missed(_)) {
            let mended = {
                let mut kernel = self.interception.lock().unwrap_or_else(PoisonError::into_inner);
                kernel.mend()
            };
            match mended {
                Ok(true) => {
                    if self.canary.send(&self.shared).await.is_ok() {
                        self.alarm(&format!("{problem}: attaching again helped"));
                        return None;
                    }
                }
                // Once it had come, loading may help. Where it never did it will not either.
                Ok(false) if was_well => {
                    self.alarm(&format!(
                        "{problem}: the daemon ends, so that they are loaded anew"
                    ));
                    if let Some(reload) = self.reload.take() {
                        let _ = reload.send(());
                    }
                    return Some(problem);
                }
                Ok(false) => {}
                Err(error) => problem = format!("{problem}; attaching again failed: {error}"),
            }
        }
        self.alarm(&problem);
        Some(problem)
    }

    fn alarm(&self, what: &str) {
        tracing::error!("{what}");
        self.shared.event(None, EventKind::Tampered, what);
    }
}
