//! Masks that are lifted for a session at this moment, and what of a statement is shown by that.
//!
//! The log goes on holding what the masks leave: what is lifted counts for the client alone. Does not
//! belong here: who lifts them, and until when (`exceptions`).

use std::{collections::BTreeSet, rc::Rc, sync::Arc};

use chaperone_model::{ColumnRef, How, Origin, Outputs, Seq};
use chaperone_wire::postgres::{Became, Copies, Counts, Field, Masks, Plan};

use super::{NumberedColumn, Traced, WHOLE, traced::plan};

/// The exception that lifts each of a session's masks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lift {
    by: Vec<Option<Seq>>,
}

impl Lift {
    /// `None` where nothing is lifted.
    pub(super) fn new(by: Vec<Option<Seq>>) -> Option<Self> {
        by.iter().any(Option::is_some).then_some(Self { by })
    }

    fn of(&self, way: u16) -> Option<Seq> {
        self.by.get(usize::from(way).checked_sub(1)?).copied().flatten()
    }

    /// Whether what stands in a column is shown: every mask that is of it is lifted.
    fn shows(&self, column: &NumberedColumn) -> bool {
        !column.all.is_empty()
            && column.all.iter().all(|way| *way != WHOLE && self.of(*way).is_some())
    }
}

impl Traced {
    /// With masks that are lifted now.
    pub(crate) fn lifting(&self, lift: Option<Arc<Lift>>) -> Self {
        Self { lift, ..self.clone() }
    }

    pub(super) fn numbered(&self, column: ColumnRef) -> Option<&NumberedColumn> {
        let table = self.columns.tables.get(usize::try_from(column.table).ok()?)?;
        table.columns.get(usize::try_from(column.column).ok()?)
    }

    /// Whether a column's masks are lifted.
    pub(super) fn lifts(&self, column: ColumnRef) -> bool {
        let Some(lift) = &self.lift else { return false };
        self.numbered(column).is_some_and(|column| lift.shows(column))
    }

    /// The masks that are lifted for what it does, and by which exception. `shows`: its results are
    /// shown by it as well.
    pub(crate) fn lifted(&self, shows: bool) -> Vec<(Arc<str>, Seq)> {
        let Some(lift) = &self.lift else { return Vec::new() };
        let mut columns = BTreeSet::new();
        for lineage in &*self.lineage {
            let used = lineage.uses.iter().filter(|one| one.how != How::Written);
            columns.extend(used.filter_map(|one| one.column));
            let Outputs::Columns(outputs) = &lineage.outputs else { continue };
            for origin in outputs.iter().filter(|_| shows) {
                match origin {
                    Origin::Column(column) => {
                        columns.insert(*column);
                    }
                    Origin::Made(all) if all.iter().all(|column| self.lifts(*column)) => {
                        columns.extend(all);
                    }
                    Origin::Made(_) | Origin::Clear | Origin::Unknown => {}
                }
            }
        }
        columns.retain(|column| self.lifts(*column));
        let columns = columns.into_iter().filter_map(|column| self.numbered(column));
        let ways: BTreeSet<u16> = columns.flat_map(|column| &column.all).copied().collect();
        let named = ways
            .into_iter()
            .filter_map(|way| Some((self.masks.way(way)?.mask.name.clone(), lift.of(way)?)));
        named.collect()
    }

    /// What masks what the client gets, where something is lifted.
    pub(super) fn for_client(&self) -> Option<Rc<dyn Masks>> {
        self.lift.is_some().then(|| Rc::new(Shown(self.clone())) as Rc<dyn Masks>)
    }
}

/// What the client gets where masks are lifted.
#[derive(Debug)]
struct Shown(Traced);

impl Shown {
    /// What is lifted passes where the text and the server both say that it is of that column.
    fn way(&self, field: Field, origin: &Origin) -> Option<u16> {
        let traced = &self.0;
        let way = traced.way(field, origin)?;
        let lifted = match origin {
            Origin::Column(column) => traced.lifts(*column),
            Origin::Made(columns) => {
                !columns.is_empty() && columns.iter().all(|column| traced.lifts(*column))
            }
            Origin::Clear | Origin::Unknown => false,
        };
        let table = traced.columns.tables.iter().find(|table| table.oid == field.table);
        let passes = match table {
            None => field.table == 0,
            Some(table) if table.is_view => true,
            Some(table) => match table.columns.iter().find(|one| one.number == field.number) {
                Some(column) => {
                    column.way.is_none()
                        || traced.lift.as_ref().is_some_and(|lift| lift.shows(column))
                }
                None => field.number < 0,
            },
        };
        (!(lifted && passes)).then_some(way)
    }
}

impl Masks for Shown {
    fn plan(&self, part: u32, fields: Option<&[Field]>, count: usize) -> Plan {
        if !self.0.is_of_columns() {
            return Plan::Pass;
        }
        plan(&self.0.lineage, part, fields, count, |field, origin| self.way(field, origin))
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
        self.0.value(way, type_oid, binary, value, out, counts)
    }

    fn copies(&self, part: u32) -> Copies {
        self.0.copies_but(part, |column| self.0.lifts(column))
    }

    fn hides_messages(&self) -> bool {
        self.0.may_tell()
    }

    fn name(&self, way: u16) -> String {
        self.0.name(way)
    }
}
