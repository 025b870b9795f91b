//! What was written lately and need not be written again: texts, summaries and responses that are
//! the same are referred to.
//!
//! Does not belong here: the references' form (`row.rs`).

use chaperone_model::{Record, Seq};
use quick_cache::{Weighter, unsync::Cache};

use crate::row::Known;

/// What is shorter costs less than it would save.
const SHORTEST: usize = 48;
/// What is longer would push too much else out.
const LONGEST: usize = 16 << 10;
/// Bytes that are remembered of each of the three.
const BYTES: u64 = 512 << 10;

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<str>, Seq> for Bytes {
    fn weight(&self, text: &Box<str>, _: &Seq) -> u64 {
        text.len() as u64 + 64
    }
}

type Seen = Cache<Box<str>, Seq, Bytes>;

/// Which record of this file has a text. What a transaction adds is kept apart until it is
/// committed.
pub(crate) struct Interned {
    texts: Seen,
    summaries: Seen,
    responses: Seen,
    added: Vec<(Kind, Box<str>, Seq)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Summary,
    Response,
}

impl Default for Interned {
    fn default() -> Self {
        let seen = || Cache::with_weighter(1000, BYTES, Bytes);
        Self { texts: seen(), summaries: seen(), responses: seen(), added: Vec::new() }
    }
}

impl Interned {
    /// What is known of a record where nothing is.
    pub(crate) fn nothing() -> Known {
        Known { text: None, summary: None, response: None }
    }

    /// What is known of a record's content; what is not is from here on.
    pub(crate) fn look_up(&mut self, seq: Seq, record: &Record) -> Known {
        let mut known = Self::nothing();
        match record {
            Record::Intent(r) => {
                known.text = self.seen(Kind::Text, r.command.text.as_deref(), seq);
                known.summary = self.seen(Kind::Summary, r.summary.as_deref(), seq);
            }
            Record::Outcome(r) => {
                let rows = r.response.as_ref().map(|response| response.rows.as_str());
                known.response = self.seen(Kind::Response, rows, seq);
            }
            _ => {}
        }
        known
    }

    fn seen(&mut self, kind: Kind, text: Option<&str>, seq: Seq) -> Option<Seq> {
        let text = text.filter(|text| (SHORTEST..=LONGEST).contains(&text.len()))?;
        let found = self.of(kind).get(text).copied();
        let found = found.or_else(|| {
            let mut added = self.added.iter();
            added.find(|(of, one, _)| *of == kind && **one == *text).map(|(.., seq)| *seq)
        });
        if found.is_none() {
            self.added.push((kind, text.into(), seq));
        }
        found
    }

    fn of(&mut self, kind: Kind) -> &mut Seen {
        match kind {
            Kind::Text => &mut self.texts,
            Kind::Summary => &mut self.summaries,
            Kind::Response => &mut self.responses,
        }
    }

    /// What was added is committed.
    pub(crate) fn committed(&mut self) {
        for (kind, text, seq) in std::mem::take(&mut self.added) {
            self.of(kind).insert(text, seq);
        }
    }

    /// What was added is not.
    pub(crate) fn rolled_back(&mut self) {
        self.added.clear();
    }

    /// Nothing is known any more: another file begins, or content was erased.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}
