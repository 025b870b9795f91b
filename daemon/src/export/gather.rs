//! Reads items out of the log, in the order of their outcomes and in bounded memory.
//!
//! Does not belong here: where they go to.

use std::{collections::VecDeque, path::Path, rc::Rc};

use anyhow::Result;
use chaperone_audit::{Filter, HoldRow, Proofs, Reader, SessionRow, tree::Hash};
use chaperone_model::Seq;

use super::item::{Exported, Hold, Item, Numbered, Session};

/// Commands that are read at a time.
const PAGE: usize = 256;
/// Sessions that are remembered: one is exported again where it comes back after so many others.
const SESSIONS: usize = 1024;

/// What items carry beside the row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carry {
    /// The leaves of their two records.
    Leaves,
    /// The records themselves as well.
    Records,
}

/// A log that items are read out of.
pub(crate) struct Gatherer<'a> {
    path: &'a Path,
    reader: Reader,
    proofs: Proofs,
    filter: Filter,
    carry: Carry,
    host: Rc<str>,
    /// The newest last.
    sessions: VecDeque<Rc<SessionRow>>,
}

impl<'a> Gatherer<'a> {
    pub(crate) fn open(path: &'a Path, filter: Filter, carry: Carry) -> Result<Self> {
        let reader = Reader::open(path)?;
        let host = reader.host()?.unwrap_or_default().into();
        let proofs = Proofs::open(path)?;
        Ok(Self { path, reader, proofs, filter, carry, host, sessions: VecDeque::new() })
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    pub(crate) fn proofs(&self) -> &Proofs {
        &self.proofs
    }

    /// The host that the log is of.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Gives the items whose outcome is after the record `after` and not after `last`: at most a
    /// page of them. Answers where the next page begins.
    pub(crate) fn page(
        &mut self,
        after: Seq,
        last: Seq,
        each: &mut dyn FnMut(Exported) -> Result<()>,
    ) -> Result<Seq> {
        if self.host.is_empty() {
            self.host = self.reader.host()?.unwrap_or_default().into();
        }
        let page = self.reader.finished(after, last, &self.filter, PAGE)?;
        for command in page.rows {
            let sources = self.reader.made_of(Seq(command.id), command.outcome.map(Seq))?;
            let session = self.session(Seq(command.session), each)?;
            let asked = command.approval.or((command.verdict == "hold").then_some(command.id));
            let hold = match asked {
                Some(hold) => self.hold(Seq(hold), each)?,
                None => None,
            };
            let intent_leaf = self.leaf(Seq(command.id))?;
            let outcome_leaf =
                command.outcome.map(|seq| self.leaf(Seq(seq))).transpose()?.flatten();
            let records = self.records(&sources)?;
            let part = self.reader.with_response(command)?;
            let host = self.host.clone();
            each(Exported::Command(Box::new(Item {
                host,
                part,
                session,
                hold,
                intent_leaf,
                outcome_leaf,
                records,
            })))?;
        }
        Ok(page.next)
    }

    /// A session; one that is new is exported.
    fn session(
        &mut self,
        id: Seq,
        each: &mut dyn FnMut(Exported) -> Result<()>,
    ) -> Result<Option<Rc<SessionRow>>> {
        if let Some(place) = self.sessions.iter().rposition(|known| known.id == id.0) {
            return Ok(self.sessions.get(place).cloned());
        }
        let Some(row) = self.reader.session(id)?.map(Rc::new) else { return Ok(None) };
        let sources = self.reader.session_made_of(id)?;
        let records = self.records(&sources)?;
        each(Exported::Session(Session { host: self.host.clone(), row: row.clone(), records }))?;
        self.sessions.push_back(row.clone());
        if self.sessions.len() > SESSIONS {
            self.sessions.pop_front();
        }
        Ok(Some(row))
    }

    fn hold(
        &mut self,
        id: Seq,
        each: &mut dyn FnMut(Exported) -> Result<()>,
    ) -> Result<Option<Rc<HoldRow>>> {
        let Some(row) = self.reader.hold(id)?.map(Rc::new) else { return Ok(None) };
        if let Some(session) = self.reader.session_of(id)? {
            self.session(session, each)?;
        }
        let mut sources = self.reader.hold_made_of(id)?;
        sources.extend(self.reader.made_of(id, None)?);
        let records = self.records(&sources)?;
        each(Exported::Hold(Hold { host: self.host.clone(), row: row.clone(), records }))?;
        Ok(Some(row))
    }

    fn leaf(&mut self, seq: Seq) -> Result<Option<Hash>> {
        if let Some(leaf) = self.proofs.leaf(seq)? {
            return Ok(Some(leaf));
        }
        // Another file may have begun since.
        self.proofs = Proofs::open(self.path)?;
        Ok(self.proofs.leaf(seq)?)
    }

    fn records(&mut self, numbers: &[Seq]) -> Result<Vec<Numbered>> {
        let mut records = Vec::new();
        if self.carry == Carry::Records {
            for seq in numbers {
                if self.leaf(*seq)?.is_some()
                    && let Some(record) = self.proofs.record(*seq)?
                {
                    records.push(Numbered::new(seq.0, record));
                }
            }
        }
        Ok(records)
    }
}
