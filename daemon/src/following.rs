//! Keeps what is known of agents' processes up to date, where no connection asks for it: a thread of
//! its own, because it waits for nobody and nobody waits for it.

use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use chaperone_kernel::{Counters, Events, Interception};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    notify::Wheel,
    scoping::Scoping,
    shared::{Shared, Stage},
    stops::{self, Teller},
};

/// How often what happened is taken in; sooner where much is waiting.
const DRAIN_EVERY: u16 = 100;
/// How often subordinate user ids and the list of enrolled programs are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often processes that are gone are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(30);

/// See the module's comment.
pub(crate) struct Follower {
    pub(crate) shared: Arc<Shared>,
    pub(crate) scoping: Scoping,
    pub(crate) interception: Arc<Mutex<Interception>>,
    pub(crate) counters: Counters,
    /// Only waited for: they are read through [`Shared::identities`].
    pub(crate) events: Events,
    pub(crate) stops: Teller,
    pub(crate) wheel: Wheel,
}

impl Follower {
    /// Starts; ends with the daemon.
    pub(crate) fn start(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("processes".into()).spawn(move || self.run())
    }

    fn run(mut self) {
        let (mut lost, mut full) = (self.count("events_lost"), self.count("processes_full"));
        let mut untold = self.count("stopped_lost");
        let mut sockets = stops::unix_sockets(&self.shared.config);
        let (mut looked, mut pruned) = (Instant::now(), Instant::now());
        while *self.shared.stage.borrow() < Stage::Over {
            self.wait();
            self.wheel.turn();
            let identities = &self.shared.identities;
            identities.drain();
            self.stops.read(&self.shared);
            let now = self.count("events_lost");
            if now > lost {
                identities.repair(&self.scoping, now - lost);
                lost = now;
            }
            let now = self.count("processes_full");
            if now > full {
                identities.tell_processes(format!(
                    "{} processes of agents found no room in the kernel's table: what they fork is in scope by user id and cgroup only",
                    now - full
                ));
                full = now;
            }
            let now = self.count("stopped_lost");
            if now > untold {
                stops::lost(&self.shared, now - untold);
                untold = now;
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                identities.reread();
                self.look();
                // A server that was started again has other files.
                let found = stops::unix_sockets(&self.shared.config);
                if found != sockets {
                    let mut kernel =
                        self.interception.lock().unwrap_or_else(PoisonError::into_inner);
                    match kernel.set_unix_sockets(&found) {
                        Ok(()) => sockets = found,
                        Err(error) => tracing::error!(%error, "Unix sockets stay as they were"),
                    }
                }
            }
            if pruned.elapsed() >= PRUNE_EVERY {
                pruned = Instant::now();
                self.shared.identities.prune();
            }
        }
    }

    fn wait(&self) {
        let wants = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut wanted = [wants(self.events.as_fd()), wants(self.stops.as_fd())];
        let _ = poll(&mut wanted, PollTimeout::from(DRAIN_EVERY));
    }

    fn look(&mut self) {
        if !self.scoping.look() {
            return;
        }
        let mut interception = self.interception.lock().unwrap_or_else(PoisonError::into_inner);
        let scoping = &self.scoping;
        if let Err(error) = interception.set_scope(scoping.scope(), |id| scoping.belongs(id)) {
            tracing::error!(%error, "the scope stays as it was");
        }
    }

    fn count(&self, name: &str) -> u64 {
        let all = self.counters.read().unwrap_or_default();
        all.into_iter().find(|(found, _)| *found == name).map_or(0, |(_, count)| count)
    }
}
