//! What a session asks its target's catalog about a command, and what is decided with the answer.
//!
//! Does not belong here: what the catalog says (`catalog`).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chaperone_model::Reading;

use super::{
    Relay,
    pending::{Pending, Turn},
};
use crate::{
    catalog::{Changes, Known, Place, Sight, Unsettled, asked_about, changes_schema, resolve},
    names::add,
};

/// Readings of which it is remembered what they are in this session.
const RESOLVED: usize = 64;

/// What a session knows of its target's catalog.
pub(super) struct Looking {
    /// Where the daemon can ask.
    place: Option<Arc<Place>>,
    changes: Arc<Changes>,
    sight: Sight,
    /// Where names were looked for when that was first asked: a role's own search path counts from
    /// the sign-on, whatever becomes of it later.
    path: Option<Vec<String>>,
    /// It changed something, and has not come to rest since.
    unsettled: Option<Unsettled>,
    resolved: HashMap<usize, Resolved>,
}

/// What a reading was found to be.
struct Resolved {
    /// Held so that no other gets its address.
    reading: Arc<Reading>,
    known: Arc<Known>,
    version: u64,
    path_is_known: bool,
    is: Arc<Reading>,
    kept: Arc<Reading>,
}

/// What a command names, as far as it was looked up.
#[derive(Default)]
pub(super) enum Looked {
    /// It was not.
    #[default]
    No,
    /// There was no answer: it is decided without.
    Without,
    /// By this.
    At(Arc<Known>),
}

impl Looking {
    pub(super) fn new(place: Option<Arc<Place>>, changes: Arc<Changes>) -> Self {
        let (sight, resolved) = (Sight::default(), HashMap::new());
        let path = place.as_ref().and_then(|place| place.known()).map(|known| known.path.clone());
        Self { place, changes, sight, path, unsettled: None, resolved }
    }

    /// A command is sent on: what it may change, nobody knows from here on.
    pub(super) fn learn(&mut self, reading: Option<&Reading>) {
        let Some(reading) = reading else {
            self.sight.lose_all();
            self.unsettled.get_or_insert_with(|| self.changes.begin());
            return;
        };
        for statement in &reading.statements {
            self.sight.learn(statement);
        }
        if reading.statements.iter().any(changes_schema) && self.unsettled.is_none() {
            self.unsettled = Some(self.changes.begin());
        }
    }

    pub(super) fn sight(&self) -> &Sight {
        &self.sight
    }

    /// The session is at rest: what it changed is there for all, or is not.
    pub(super) fn settle(&mut self) {
        self.unsettled = None;
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    /// What a reading was found to be before, by the same.
    fn seen(
        &self,
        reading: &Arc<Reading>,
        known: &Arc<Known>,
        path_is_known: bool,
    ) -> Option<[Arc<Reading>; 2]> {
        let one = self.resolved.get(&address(reading))?;
        let same = Arc::ptr_eq(&one.reading, reading)
            && Arc::ptr_eq(&one.known, known)
            && (one.version, one.path_is_known) == (self.sight.version(), path_is_known);
        same.then(|| [one.is.clone(), one.kept.clone()])
    }

    /// What a reading is, and what is kept of it for what runs by a name later: that may be bound to
    /// what its names stand for now, and may be bound anew.
    fn resolve(
        &mut self,
        reading: &Arc<Reading>,
        known: &Arc<Known>,
        path_is_known: bool,
    ) -> [Arc<Reading>; 2] {
        if let Some(seen) = self.seen(reading, known, path_is_known) {
            return seen;
        }
        let is = Arc::new(resolve(reading, known, &self.sight, path_is_known));
        let mut kept = Reading::clone(reading);
        for (kept, is) in kept.statements.iter_mut().zip(&is.statements) {
            add(kept, is, is.reason.clone());
        }
        let kept = Arc::new(kept);
        if self.resolved.len() >= RESOLVED {
            self.resolved.clear();
        }
        let one = Resolved {
            reading: reading.clone(),
            known: known.clone(),
            version: self.sight.version(),
            path_is_known,
            is: is.clone(),
            kept: kept.clone(),
        };
        self.resolved.insert(address(reading), one);
        [is, kept]
    }
}

impl Relay<'_> {
    /// Adds to a command's reading what the catalog says. Gives it back where that has to be asked
    /// first: then it is the session's turn to wait.
    pub(super) fn look(&mut self, mut pending: Pending) -> Option<Pending> {
        let Some(raw) = pending.raw.clone() else { return Some(pending) };
        let Some(place) = self.deciding.looking.place.clone() else { return Some(pending) };
        let path_is_known = self.path_is_known(&pending);
        let looking = &mut self.deciding.looking;
        let known = match std::mem::take(&mut pending.looked) {
            Looked::At(known) => Some(known),
            Looked::Without => return Some(pending),
            // What a person approved may have waited for long.
            Looked::No => place.known().filter(|_| pending.approved.is_none()),
        };
        let path_is_known = path_is_known
            && known.as_ref().is_none_or(|known| {
                looking.path.get_or_insert_with(|| known.path.clone()) == &known.path
            });
        // A command that was seen before costs no more than this.
        let seen = known.as_ref().and_then(|known| looking.seen(&raw, known, path_is_known));
        let Some(names) = (if seen.is_some() { Some(BTreeSet::new()) } else { asked_about(&raw) })
        else {
            // It names nothing.
            pending.asked = false;
            return Some(pending);
        };
        if let Some(known) = known.filter(|known| known.covers(&names)) {
            let lost = looking.sight.is_lost();
            let [is, kept] = seen.unwrap_or_else(|| looking.resolve(&raw, &known, path_is_known));
            (pending.command.reading, pending.kept) = (Some(is), Some(kept));
            (pending.known, pending.path_is_known) = (Some(known.clone()), path_is_known && !lost);
            // Where the text itself makes something, the path is not what it was behind that.
            let one = raw.statements.len() == 1;
            pending.path = (path_is_known && !lost && one).then_some(known);
            return Some(pending);
        }
        if place.rests() {
            return Some(pending);
        }
        let (local, shared) = (self.session.local.clone(), self.shared.clone());
        let destination = self.session.place(self.deciding.account.database.as_deref());
        let anew = pending.approved.is_some();
        let asking =
            async move { place.look_up(&shared, &local, &destination, &names, anew).await };
        self.deciding.turn = Turn::Looking(pending, Box::pin(asking));
        None
    }

    /// Whether names are looked for where they are when nothing was said of it, also while this
    /// command runs.
    fn path_is_known(&self, pending: &Pending) -> bool {
        let deciding = &self.deciding;
        !deciding.account.own_path
            && deciding.path.is_none()
            && pending.raw.as_ref().is_some_and(|raw| !super::deciding::sets(raw))
    }

    /// Nobody but the session saw what it changed, up to here.
    pub(super) fn settle_catalog(&mut self) {
        if self.deciding.looking.is_unsettled()
            && self.recording.is_none()
            && !self.up.has_cleared()
            && !self.up.has_scanned()
            && self.conversation.is_at_rest()
        {
            self.deciding.looking.settle();
        }
    }
}

fn address(reading: &Arc<Reading>) -> usize {
    Arc::as_ptr(reading) as usize
}
