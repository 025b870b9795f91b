//! A statement whose columns were followed: what it may do, and what becomes of its results.

use std::{rc::Rc, sync::Arc};

use chaperone_model::{
    ColumnRef, CopyFormat, CopyLayout, How, Lineage, MaskedUse, Origin, Outputs, Table, TableColumn,
};
use chaperone_policy::{
    Terms,
    mask::{Format, Masked},
};
use chaperone_wire::postgres::{Became, CopiedColumns, Copies, Counts, Field, Masks, Plan};

use super::{Columns, Lift, Loaded, NumberedColumn, OfSession, WHOLE};
use crate::config::Guessing;

/// See the module's comment.
#[derive(Clone, Debug)]
pub(crate) struct Traced {
    pub(super) masks: Arc<OfSession>,
    pub(crate) columns: Arc<Columns>,
    pub(crate) lineage: Arc<Vec<Lineage>>,
    /// What is lifted of the masks.
    pub(super) lift: Option<Arc<Lift>>,
}

/// What becomes of the results of what is run by a name that is not known.
#[derive(Debug)]
pub(crate) struct Blind(pub(crate) Arc<OfSession>);

/// What a statement does that a mask does not let it do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guess {
    /// Which mask; `None` where it cannot be said of which column it is.
    pub(crate) mask: Option<Arc<str>>,
    /// In words that follow "it".
    pub(crate) what: &'static str,
    /// Which column, where that can be said.
    pub(crate) column: Option<String>,
}

/// A guess that a person is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) guess: Guess,
    pub(crate) terms: Arc<Terms>,
}

impl Guess {
    /// For people: what it does, with which column, and of which mask that is.
    pub(crate) fn sentence(&self) -> String {
        let Self { mask, what, column } = self;
        let column = column.as_ref().map_or_else(String::new, |column| format!(" ({column})"));
        let mask = mask.as_ref().map_or_else(String::new, |mask| format!(": mask {mask}"));
        format!("it {what}{column}{mask}")
    }
}

/// What a statement tells of masked columns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Guesses {
    /// So much may not be told.
    Refused(Guess),
    /// So much may be told once people have said so; nothing where it is empty.
    Held(Vec<Held>),
}

impl Traced {
    pub(crate) fn new(
        masks: Arc<OfSession>,
        columns: Arc<Columns>,
        lineage: Arc<Vec<Lineage>>,
    ) -> Self {
        Self { masks, columns, lineage, lift: None }
    }

    /// One statement of the text alone.
    pub(crate) fn only(&self, place: usize) -> Self {
        let lineage = self.lineage.get(place).cloned().into_iter().collect();
        Self { lineage: Arc::new(lineage), ..self.clone() }
    }

    /// Whether the same comes of both.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.columns == other.columns && self.lineage == other.lineage
    }

    /// What it tells of masked columns. `later`: of a statement at such a place that is asked when it
    /// runs.
    pub(crate) fn guesses(&self, later: impl Fn(usize) -> bool) -> Guesses {
        let mut held: Vec<Held> = Vec::new();
        for (place, lineage) in self.lineage.iter().enumerate() {
            for one in &lineage.uses {
                let what = match one.how {
                    How::Written | How::Equality => continue,
                    How::Condition => "lets a masked column decide what comes",
                    How::Order => "puts rows in the order of a masked column",
                    How::Group => "puts rows together by a masked column",
                    How::Computed => "computes with a masked column",
                    How::Copied => "writes a masked column elsewhere",
                };
                if one.column.is_some_and(|column| self.lifts(column)) {
                    continue;
                }
                let loaded = one.column.and_then(|column| self.mask_of(column));
                let guess = Guess {
                    mask: loaded.map(|loaded| loaded.mask.name.clone()),
                    what,
                    column: one.column.and_then(|column| self.name_of(column)),
                };
                match loaded.map(|loaded| &loaded.mask.guessing) {
                    Some(Guessing::Allow) => {}
                    Some(Guessing::Hold(terms)) => {
                        let one = Held { guess, terms: terms.clone() };
                        if !later(place) && !held.contains(&one) {
                            held.push(one);
                        }
                    }
                    Some(Guessing::Refuse) | None => return Guesses::Refused(guess),
                }
            }
            let what = match &lineage.copies {
                _ if !self.is_of_columns() || is_clear(&lineage.outputs) => continue,
                chaperone_model::Copies::Elsewhere => {
                    "writes a masked column to the server's files"
                }
                chaperone_model::Copies::Unclear(_) => {
                    "copies a masked column out, in a way that cannot be followed"
                }
                // A value that is the same would look like it.
                chaperone_model::Copies::Out(layout) if !is_told_from_values(layout) => {
                    "lets a word stand for NULL that a masked column may hold"
                }
                chaperone_model::Copies::No | chaperone_model::Copies::Out(_) => continue,
            };
            return Guesses::Refused(Guess { mask: None, what, column: None });
        }
        Guesses::Held(held)
    }

    /// With how many values a minute a masked column may be compared, and with how many this does,
    /// where it does.
    pub(crate) fn equality(&self) -> Option<(u64, Option<Arc<str>>, u64)> {
        let uses = self.lineage.iter().flat_map(|lineage| &lineage.uses);
        let compares = |one: &&MaskedUse| match (one.how, one.column) {
            (How::Equality, column) => !column.is_some_and(|column| self.lifts(column)),
            (How::Written, Some(column)) => self.checks(column) && !self.lifts(column),
            _ => false,
        };
        let equal = uses.filter(compares);
        let most = equal.map(|one| one.column.and_then(|column| self.mask_of(column)));
        most.map(|loaded| match loaded {
            Some(loaded) => (loaded.mask.equality, Some(loaded.mask.name.clone())),
            None => (0, None),
        })
        .min_by_key(|(most, _)| *most)
        .map(|(most, mask)| {
            let values = self.lineage.iter().map(|lineage| lineage.compared);
            (most, mask, values.fold(0, u64::saturating_add).max(1))
        })
    }

    /// Whether masked columns were looked for in it, and not only how it copies.
    pub(super) fn is_of_columns(&self) -> bool {
        !self.columns.tables.is_empty()
    }

    /// Whether what the server says of it may hold masked values. Checks, indexes, policies and
    /// triggers of a table tell of columns that a statement does not name; the server's own
    /// relations have none, and only what is made of them, in a view perhaps, can fail by a value.
    pub(super) fn may_tell(&self) -> bool {
        let columns = self.columns.tables.iter().flat_map(|table| &table.columns);
        let has_view = |table: &Table| table.query.is_some() || table.unknown;
        columns.filter_map(|column| column.way).any(|way| way != WHOLE)
            || self.columns.schema.tables.iter().any(has_view)
            || self.is_of_columns() && self.lineage.iter().any(|one| !one.uses.is_empty())
    }

    /// Whether masked columns may be in what it copies out.
    pub(crate) fn copies_out(&self) -> bool {
        let copies = |lineage: &Lineage| lineage.copies != chaperone_model::Copies::No;
        self.is_of_columns() && self.lineage.iter().any(copies)
    }

    /// Why what it copies out cannot be looked into.
    pub(crate) fn unclear_copy(&self) -> Option<&str> {
        self.lineage.iter().find_map(|lineage| match &lineage.copies {
            chaperone_model::Copies::Unclear(why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// Whether its text and parameters may hold values of masked columns.
    pub(crate) fn holds_values(&self) -> bool {
        self.lineage.iter().any(|lineage| !lineage.uses.is_empty())
    }

    pub(super) fn mask_of(&self, column: ColumnRef) -> Option<&Arc<Loaded>> {
        self.masks.way(self.way_of(column)?)
    }

    fn way_of(&self, column: ColumnRef) -> Option<u16> {
        self.numbered(column)?.way
    }

    /// A column, as people call it.
    pub(super) fn name_of(&self, column: ColumnRef) -> Option<String> {
        let (table, column) = self.known(column)?;
        Some(format!("{}.{}.{}", table.schema, table.name, column.name))
    }

    /// Whether what is written into a column is compared with what is there.
    fn checks(&self, column: ColumnRef) -> bool {
        self.known(column).is_some_and(|(_, column)| column.checked)
    }

    fn known(&self, column: ColumnRef) -> Option<(&Table, &TableColumn)> {
        let table = self.columns.schema.tables.get(usize::try_from(column.table).ok()?)?;
        Some((table, table.columns.get(usize::try_from(column.column).ok()?)?))
    }

    /// What is done with a column, by what the server says of it and by what the text says: it passes
    /// where both say that it is not masked.
    pub(super) fn way(&self, field: Field, origin: &Origin) -> Option<u16> {
        let table = self.columns.tables.iter().find(|table| table.oid == field.table);
        let passes = match table {
            // An expression, or a column of a union: the text alone tells.
            None if field.table == 0 => true,
            // Of something else than what the text was taken to name.
            None => false,
            Some(table) if table.is_view => true,
            Some(table) => match table.columns.iter().find(|one| one.number == field.number) {
                Some(NumberedColumn { way: Some(way), .. }) => return Some(*way),
                Some(_) => true,
                // System columns; 0 is the whole row.
                None => field.number < 0,
            },
        };
        match origin {
            Origin::Clear if passes => None,
            Origin::Column(column) => Some(self.way_of(*column).unwrap_or(WHOLE)),
            Origin::Clear | Origin::Made(_) | Origin::Unknown => Some(WHOLE),
        }
    }
}

fn is_clear(outputs: &Outputs) -> bool {
    match outputs {
        Outputs::Columns(columns) => columns.iter().all(|origin| *origin == Origin::Clear),
        Outputs::None => true,
        Outputs::Unknown | Outputs::Of(_) => false,
    }
}

/// Whether what stands for NULL in a COPY says no more than that, or nearly so.
fn is_told_from_values(layout: &CopyLayout) -> bool {
    layout.format != CopyFormat::Text
        || ["", "\\N"].contains(&layout.null.as_str())
        || layout.null.eq_ignore_ascii_case("null")
}

impl Traced {
    /// What is copied out by the statement at this place. `shows`: the columns that pass though they
    /// are masked.
    pub(super) fn copies_but(&self, part: u32, shows: impl Fn(ColumnRef) -> bool) -> Copies {
        let lineage = usize::try_from(part).ok().and_then(|part| self.lineage.get(part));
        let Some(lineage) = lineage else { return Copies::Not };
        let layout = match &lineage.copies {
            chaperone_model::Copies::Out(layout) => layout.clone(),
            // Nothing of it is masked: it was decided so.
            _ if is_clear(&lineage.outputs) && self.is_of_columns() => return Copies::Pass,
            _ => return Copies::Not,
        };
        let columns = match &lineage.outputs {
            _ if !self.is_of_columns() => CopiedColumns::All(None),
            outputs if is_clear(outputs) => CopiedColumns::All(None),
            Outputs::Columns(origins) => {
                let column = |origin: &Origin| match origin {
                    Origin::Clear => (None, 0),
                    Origin::Column(column) if shows(*column) => {
                        (None, self.numbered(*column).map_or(0, |column| column.type_oid))
                    }
                    Origin::Column(column) => match self.numbered(*column) {
                        Some(column) => (Some(column.way.unwrap_or(WHOLE)), column.type_oid),
                        None => (Some(WHOLE), 0),
                    },
                    Origin::Made(_) | Origin::Unknown => (Some(WHOLE), 0),
                };
                CopiedColumns::Each(origins.iter().map(column).collect())
            }
            Outputs::None | Outputs::Unknown | Outputs::Of(_) => CopiedColumns::All(Some(WHOLE)),
        };
        Copies::Rows(layout, columns)
    }
}

impl Masks for Traced {
    fn plan(&self, part: u32, fields: Option<&[Field]>, count: usize) -> Plan {
        if !self.is_of_columns() {
            return Plan::Pass;
        }
        plan(&self.lineage, part, fields, count, |field, origin| self.way(field, origin))
    }

    fn value(
        &self,
        way: u16,
        type_oid: u32,
        binary: bool,
        value: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Became {
        let format = if binary { Format::Binary } else { Format::Text };
        let Some(loaded) = self.masks.way(way) else {
            counts.add(WHOLE);
            return Became::Null;
        };
        if !loaded.mask.detect.is_empty() {
            return match self.masks.within.get(usize::from(way - 1)) {
                Some(screens) => super::found::value(screens, type_oid, format, value, out, counts),
                None => Became::Null,
            };
        }
        counts.add(way);
        match loaded.mask.form.apply(loaded.key.as_ref(), type_oid, format, value, out) {
            Masked::Value => Became::Value,
            Masked::Null => Became::Null,
        }
    }

    fn copies(&self, part: u32) -> Copies {
        self.copies_but(part, |_| false)
    }

    fn hides_messages(&self) -> bool {
        self.may_tell()
    }

    fn shown(&self) -> Option<Rc<dyn Masks>> {
        self.for_client()
    }

    fn name(&self, way: u16) -> String {
        self.masks.name(way)
    }
}

impl Masks for Blind {
    fn plan(&self, _: u32, _: Option<&[Field]>, count: usize) -> Plan {
        whole(count)
    }

    fn value(
        &self,
        _: u16,
        _: u32,
        _: bool,
        _: &[u8],
        _: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Became {
        counts.add(WHOLE);
        Became::Null
    }

    fn copies(&self, _: u32) -> Copies {
        Copies::Not
    }

    fn hides_messages(&self) -> bool {
        true
    }

    fn name(&self, way: u16) -> String {
        self.0.name(way)
    }
}

fn whole(count: usize) -> Plan {
    Plan::Each(vec![Some(WHOLE); count])
}

/// What is done with the columns of a result, each by its own way.
pub(super) fn plan(
    lineage: &[Lineage],
    part: u32,
    fields: Option<&[Field]>,
    count: usize,
    way: impl Fn(Field, &Origin) -> Option<u16>,
) -> Plan {
    let lineage = usize::try_from(part).ok().and_then(|part| lineage.get(part));
    let (Some(Outputs::Columns(origins)), Some(fields)) =
        (lineage.map(|lineage| &lineage.outputs), fields)
    else {
        return whole(count);
    };
    if origins.len() != count || fields.len() != count {
        return whole(count);
    }
    let ways = fields.iter().zip(origins).map(|(field, origin)| way(*field, origin));
    let ways: Vec<_> = ways.collect();
    if ways.iter().all(Option::is_none) { Plan::Pass } else { Plan::Each(ways) }
}
