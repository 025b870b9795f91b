//! Values that do not reach the client as the server sent them.
//!
//! Which column is masked, and by what, the daemon says ([`Masks`]), and what is looked for in all
//! others ([`Screens`]); here rows are taken apart and put together again. What cannot be told is asked
//! of it as such, and it decides for the worst. Does not belong here: forms, detectors, and where a
//! column comes from.

use std::{collections::BTreeMap, fmt::Debug, rc::Rc};

use chaperone_model::CopyLayout;

use super::{
    frame::Violation,
    response::{Columns, Formats},
    statements::Description,
};

mod copied;
mod rows;
pub(crate) mod said;

/// A column of a result, as its description says it (`RowDescription`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The table that it is of; 0 where it is of none.
    pub table: u32,
    /// Its number there; 0 where it is of none.
    pub number: i16,
    /// The type of its values.
    pub type_oid: u32,
}

/// What is to be done with the values of a result, column by column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// No column is masked.
    Pass,
    /// A value passes where there is nothing; it is masked by this way of [`Masks::value`]
    /// elsewhere.
    Each(Vec<Option<u16>>),
}

/// What is to be done with what COPY writes to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copies {
    /// It passes where nothing is looked for in values.
    Pass,
    /// It does not pass: the session ends.
    Not,
    /// It is written so, and its columns are these.
    Rows(CopyLayout, CopiedColumns),
}

/// The columns of a COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopiedColumns {
    /// Whichever there are, by this way; none is masked where there is none.
    All(Option<u16>),
    /// Each with its type's number, 0 where that is not known.
    Each(Vec<(Option<u16>, u32)>),
}

/// What stands in a value's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// The value itself. Nothing was appended.
    Same,
    /// What was appended.
    Value,
    /// NULL. Nothing was appended.
    Null,
}

/// What has to be looked at of values of a type to know that nothing is found in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Never,
    /// Their bytes.
    Bytes,
    /// Their bytes, and where a backslash is among them the value as such.
    Escaped,
    /// Each value as such.
    Value,
}

/// How many values were masked by each way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<u16, u64>);

impl Counts {
    /// One more.
    pub fn add(&mut self, way: u16) {
        *self.0.entry(way).or_default() += 1;
    }

    pub(crate) fn join(&mut self, others: &Self) {
        for (way, count) in &others.0 {
            *self.0.entry(*way).or_default() += count;
        }
    }
}

/// What becomes of the values of a command's results.
pub trait Masks: Debug {
    /// What to do with the result of the statement at this place of the command's text. `fields` is
    /// `None` where the result was never described; it has `count` columns.
    fn plan(&self, part: u32, fields: Option<&[Field]>, count: usize) -> Plan;

    /// What a value becomes by one of the ways that were planned.
    fn value(
        &self,
        way: u16,
        type_oid: u32,
        binary: bool,
        value: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Became;

    /// What to do with what is copied out by the statement at this place.
    fn copies(&self, part: u32) -> Copies;

    /// Whether messages of the server may hold values that the client must not see: from then on
    /// errors and notices keep their code alone.
    fn hides_messages(&self) -> bool;

    /// What becomes of the values that the client gets, where that is another thing than what is
    /// recorded. It masks no more than this does.
    fn shown(&self) -> Option<Rc<dyn Masks>> {
        None
    }

    /// What a way is called in the record.
    fn name(&self, way: u16) -> String;
}

/// What is looked for in all that a session gets, wherever it comes from. Its ways are those of the
/// session's [`Masks`].
pub trait Screens: Debug {
    /// What has to be looked at of values of a type.
    fn look(&self, type_oid: u32, binary: bool) -> Look;

    /// Whether something is in these bytes. A byte that is 0 parts them.
    fn finds(&self, bytes: &[u8]) -> bool;

    /// What a value becomes.
    fn value(
        &self,
        type_oid: u32,
        binary: bool,
        value: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Became;

    /// Appends a text without what is found in it. `false`: nothing is, and nothing was appended.
    fn text(&self, text: &[u8], out: &mut Vec<u8>, counts: &mut Counts) -> bool;

    /// What a way is called in the record.
    fn name(&self, way: u16) -> String;
}

/// The masks of a command that runs, and where they stand.
#[derive(Debug)]
pub(crate) struct Masking {
    masks: Option<Rc<dyn Masks>>,
    screens: Option<Rc<dyn Screens>>,
    /// As the statement is described, now or later.
    description: Option<Description>,
    /// The formats that were asked for by `Bind`.
    formats: Option<Formats>,
    /// As the current result was described.
    columns: Option<Rc<Columns>>,
    plan: Option<rows::Rows>,
    copy: Option<copied::Copied>,
    counts: Counts,
    room: rows::Room,
    /// What the client gets, where that is another thing than what is recorded.
    shown: Option<Box<Self>>,
}

impl Masking {
    /// Of results that are described before they come; `None` where nothing is masked.
    pub(crate) fn new(
        masks: Option<Rc<dyn Masks>>,
        screens: Option<Rc<dyn Screens>>,
    ) -> Option<Box<Self>> {
        (masks.is_some() || screens.is_some())
            .then(|| Box::new(Self::with(masks, screens, None, None)))
    }

    /// It is the run of a portal.
    pub(crate) fn of(self, description: Description, formats: Formats) -> Box<Self> {
        Box::new(Self::with(self.masks, self.screens, Some(description), Some(formats)))
    }

    fn with(
        masks: Option<Rc<dyn Masks>>,
        screens: Option<Rc<dyn Screens>>,
        description: Option<Description>,
        formats: Option<Formats>,
    ) -> Self {
        let shown = masks.as_ref().and_then(|masks| masks.shown()).map(|shown| {
            let (description, formats) = (description.clone(), formats.clone());
            Box::new(Self::with(Some(shown), screens.clone(), description, formats))
        });
        Self {
            masks,
            screens,
            description,
            formats,
            columns: None,
            plan: None,
            copy: None,
            counts: Counts::default(),
            room: rows::Room::default(),
            shown,
        }
    }

    /// Others count.
    pub(crate) fn replace(&mut self, masks: Rc<dyn Masks>) {
        let (screens, description) = (self.screens.take(), self.description.take());
        let new = Self::with(Some(masks), screens, description, self.formats.take());
        let columns = self.columns.take();
        *self = Self { counts: std::mem::take(&mut self.counts), ..new };
        if let Some(columns) = columns {
            self.set_columns(columns);
        }
    }

    pub(crate) fn set_columns(&mut self, columns: Rc<Columns>) {
        if let Some(shown) = &mut self.shown {
            shown.set_columns(columns.clone());
        }
        (self.columns, self.plan) = (Some(columns), None);
    }

    pub(crate) fn hides_messages(&self) -> bool {
        self.masks.as_ref().is_some_and(|masks| masks.hides_messages())
    }

    /// What was masked outside of rows counts, too.
    pub(crate) fn count(&mut self, counts: &Counts) {
        self.counts.join(counts);
    }

    /// The statement is done: what was masked in it, and the next one begins.
    pub(crate) fn finish(&mut self) -> Option<String> {
        // A portal's description stands for all of its runs.
        (self.columns, self.plan, self.copy) = (None, None, None);
        if let Some(shown) = &mut self.shown {
            let _ = shown.finish();
        }
        let counts = std::mem::take(&mut self.counts);
        let mut report: BTreeMap<String, u64> = BTreeMap::new();
        for (way, count) in counts.0 {
            let name = match (&self.masks, &self.screens) {
                (Some(masks), _) => masks.name(way),
                (None, Some(screens)) => screens.name(way),
                (None, None) => continue,
            };
            *report.entry(name).or_default() += count;
        }
        // A map of texts and numbers is always JSON.
        (!report.is_empty()).then(|| serde_json::to_string(&report).unwrap_or_default())
    }

    /// The names of a result's columns, as JSON, as they may be recorded.
    pub(crate) fn names(&self, names: String) -> String {
        /// `pg_type.dat`.
        const JSON: u32 = 114;
        let Some(screens) = &self.screens else { return names };
        let mut out = Vec::new();
        match screens.value(JSON, false, names.as_bytes(), &mut out, &mut Counts::default()) {
            Became::Same => names,
            Became::Value => String::from_utf8(out).unwrap_or_default(),
            Became::Null => String::new(),
        }
    }

    /// Whether rows of the current result pass as they are, without being looked at. `None`: that
    /// cannot be said before the first.
    pub(crate) fn passes(&self) -> Option<bool> {
        self.plan.as_ref().map(rows::Rows::pass)
    }

    /// What goes to the client in a whole `DataRow`'s stead, if anything does; `kept` is what is
    /// recorded in its stead.
    pub(crate) fn shown_row(
        &mut self,
        part: u32,
        message: &[u8],
        kept: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, Violation> {
        match &mut self.shown {
            Some(shown) => shown.row(part, message),
            None => Ok(kept),
        }
    }

    /// As [`Masking::shown_row`], of a whole `CopyData`.
    pub(crate) fn shown_copy(
        &mut self,
        message: &[u8],
        kept: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, Violation> {
        match &mut self.shown {
            Some(shown) if shown.copy_passes() => Ok(None),
            Some(shown) => shown.copied(message),
            None => Ok(kept),
        }
    }
}

#[cfg(test)]
mod tests;
