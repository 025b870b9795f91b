//! A command on its way through the decisions, what it waits for, and what is recorded together.

use std::{future::Future, pin::Pin, rc::Rc, sync::Arc};

use chaperone_model::{Command, Reading, Record, Rung, Seq};
use chaperone_wire::postgres::Refusal;

use super::{
    holding::{Approved, Holding, Reference},
    looking::Looked,
    masking::{Followed, Followup, Said},
};
use crate::{
    approvals::Word,
    catalog::Known,
    config::{Durability, Safe},
    masks::{Columns, Traced},
};

/// What the command at the front waits for.
pub(super) enum Turn {
    /// There is none.
    Free,
    /// To be read.
    Reading(Pending, Pin<Box<dyn Future<Output = Arc<Reading>>>>),
    /// For the target's catalog to say what it names.
    Looking(Pending, Pin<Box<dyn Future<Output = Option<Arc<Known>>>>>),
    /// For where its columns come from; where it is refused already, for its text without values.
    Following(Pending, Option<Arc<Columns>>, Pin<Box<dyn Future<Output = Followup>>>),
    /// It has been read.
    Read(Pending),
    /// To be recorded as held, then for a person.
    Holding(Pending, Holding),
    /// A person, or the lack of one, has decided.
    Heard(Pending, Reference, Word),
}

/// A command at the front of the lane.
pub(super) struct Pending {
    pub(super) length: usize,
    pub(super) command: Command,
    /// Why it cannot be allowed whatever policy says.
    pub(super) objection: Option<Refusal>,
    /// What was read out of its text alone. The command's own reading has what the catalog says.
    pub(super) raw: Option<Arc<Reading>>,
    /// Both together, for what runs by a name later.
    pub(super) kept: Option<Arc<Reading>>,
    pub(super) looked: Looked,
    /// Says where names without a schema are looked for, where that is known.
    pub(super) path: Option<Arc<Known>>,
    /// A person let it go on: what it names is looked up once more.
    pub(super) approved: Option<Box<Approved>>,
    /// What the catalog said of it, and whether it was to be asked at all.
    pub(super) known: Option<Arc<Known>>,
    pub(super) asked: bool,
    pub(super) path_is_known: bool,
    /// How far following its columns has come, and what came of it.
    pub(super) followed: Followed,
    pub(super) said: Said,
    /// Its text as it came, where it is kept without values.
    pub(super) original: Option<String>,
    /// What was found of the prepared statement that it runs.
    pub(super) prepared: Option<Rc<Traced>>,
}

impl Pending {
    pub(super) fn new(length: usize, command: Command, objection: Option<Refusal>) -> Self {
        Self {
            length,
            command,
            objection,
            raw: None,
            kept: None,
            looked: Looked::No,
            path: None,
            approved: None,
            known: None,
            asked: true,
            path_is_known: false,
            followed: Followed::No,
            said: Said::default(),
            original: None,
            prepared: None,
        }
    }

    /// What was found out may no longer be so.
    pub(super) fn look_anew(&mut self) {
        (self.known, self.asked, self.path_is_known) = (None, true, false);
        self.followed = Followed::No;
        self.said.forget();
    }
}

/// What is recorded together.
#[derive(Default)]
pub(super) struct Batch {
    records: Vec<Record>,
    /// Which command a record is about, where it is not one itself.
    of: Vec<Option<Seq>>,
    rungs: Vec<Rung>,
}

impl Batch {
    pub(super) fn add(&mut self, record: Record, of: Option<Seq>, rung: Rung) {
        self.records.push(record);
        self.of.push(of);
        if !self.rungs.contains(&rung) {
            self.rungs.push(rung);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.records.len() as u64
    }

    pub(super) fn into_parts(
        self,
        durability: Durability,
    ) -> (Vec<Record>, Vec<Option<Seq>>, Safe) {
        let safest = self.rungs.iter().map(|rung| durability.of(*rung)).max();
        let safe = safest.unwrap_or(Safe::FromCrash);
        (self.records, self.of, safe)
    }
}
