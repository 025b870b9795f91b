//! A statement whose columns were followed: what it may do, and what becomes of its results.

use std::sync::Arc;

use chaperone_model::{How, Lineage, Origin, Outputs};
use chaperone_policy::mask::{Format, Masked};
use chaperone_wire::postgres::{Field, Masks, Plan};

use super::{Columns, Loaded, OfSession, WHOLE};

/// See the module's comment.
#[derive(Clone, Debug)]
pub(crate) struct Traced {
    masks: Arc<OfSession>,
    pub(crate) columns: Arc<Columns>,
    pub(crate) lineage: Arc<Vec<Lineage>>,
}

/// What becomes of the results of what is run by a name that is not known.
#[derive(Debug)]
pub(crate) struct Blind;

/// What a statement does that a mask does not let it do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Guess {
    /// Which mask; `None` where it cannot be said of which column it is.
    pub(crate) mask: Option<Arc<str>>,
    /// In words that follow "it".
    pub(crate) what: &'static str,
}

impl Traced {
    pub(crate) fn new(
        masks: Arc<OfSession>,
        columns: Arc<Columns>,
        lineage: Arc<Vec<Lineage>>,
    ) -> Self {
        Self { masks, columns, lineage }
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

    /// What it does that is not allowed.
    pub(crate) fn guess(&self) -> Option<Guess> {
        for lineage in &*self.lineage {
            for one in &lineage.uses {
                let what = match one.how {
                    How::Written | How::Equality => continue,
                    How::Condition => "lets a masked column decide what comes",
                    How::Order => "puts rows in the order of a masked column",
                    How::Group => "puts rows together by a masked column",
                    How::Computed => "computes with a masked column",
                    How::Copied => "writes a masked column elsewhere",
                };
                let mask = one.column.map(|column| self.mask_of(column.table, column.column));
                match mask {
                    Some(Some(loaded)) if loaded.mask.guessing => {}
                    Some(Some(loaded)) => {
                        return Some(Guess { mask: Some(loaded.mask.name.clone()), what });
                    }
                    _ => return Some(Guess { mask: None, what }),
                }
            }
            if lineage.copies && !is_clear(&lineage.outputs) {
                let what = "copies a masked column out: SELECT shows what may be seen of it";
                return Some(Guess { mask: None, what });
            }
        }
        None
    }

    /// How many statements a minute may compare a masked column with a value, where this does.
    pub(crate) fn equality(&self) -> Option<(u64, Option<Arc<str>>)> {
        let uses = self.lineage.iter().flat_map(|lineage| &lineage.uses);
        let equal = uses.filter(|one| one.how == How::Equality);
        let most = equal.map(|one| {
            let column = one.column?;
            self.mask_of(column.table, column.column)
        });
        most.map(|loaded| match loaded {
            Some(loaded) => (loaded.mask.equality, Some(loaded.mask.name.clone())),
            None => (0, None),
        })
        .min_by_key(|(most, _)| *most)
    }

    /// Whether its text and parameters may hold values of masked columns.
    pub(crate) fn holds_values(&self) -> bool {
        self.lineage.iter().any(|lineage| !lineage.uses.is_empty())
    }

    fn mask_of(&self, table: u32, column: u32) -> Option<&Arc<Loaded>> {
        self.masks.way(self.way_of(table, column)?)
    }

    fn way_of(&self, table: u32, column: u32) -> Option<u16> {
        let table = self.columns.tables.get(usize::try_from(table).ok()?)?;
        table.columns.get(usize::try_from(column).ok()?)?.1
    }

    /// What is done with a column, by what the server says of it and by what the text says: it passes
    /// where both say that it is not masked.
    fn way(&self, field: Field, origin: &Origin) -> Option<u16> {
        let table = self.columns.tables.iter().find(|table| table.oid == field.table);
        let passes = match table {
            // An expression, or a column of a union: the text alone tells.
            None if field.table == 0 => true,
            // Of something else than what the text was taken to name.
            None => false,
            Some(table) if table.is_view => true,
            Some(table) => match table.columns.iter().find(|(n, _)| *n == field.number) {
                Some((_, Some(way))) => return Some(*way),
                Some((_, None)) => true,
                // System columns; 0 is the whole row.
                None => field.number < 0,
            },
        };
        match origin {
            Origin::Clear if passes => None,
            Origin::Column(column) => {
                Some(self.way_of(column.table, column.column).unwrap_or(WHOLE))
            }
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

impl Masks for Traced {
    fn plan(&self, part: u32, fields: Option<&[Field]>, count: usize) -> Plan {
        let lineage = usize::try_from(part).ok().and_then(|part| self.lineage.get(part));
        let (Some(Outputs::Columns(origins)), Some(fields)) =
            (lineage.map(|lineage| &lineage.outputs), fields)
        else {
            return whole(count);
        };
        if origins.len() != count || fields.len() != count {
            return whole(count);
        }
        let ways = fields.iter().zip(origins).map(|(field, origin)| self.way(*field, origin));
        let ways: Vec<_> = ways.collect();
        if ways.iter().all(Option::is_none) { Plan::Pass } else { Plan::Each(ways) }
    }

    fn value(
        &self,
        way: u16,
        type_oid: u32,
        binary: bool,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(loaded) = self.masks.way(way) else { return false };
        let format = if binary { Format::Binary } else { Format::Text };
        let form = &loaded.mask.form;
        form.apply(loaded.key.as_ref(), type_oid, format, value, out) == Masked::Value
    }

    fn copies(&self, part: u32) -> bool {
        let lineage = usize::try_from(part).ok().and_then(|part| self.lineage.get(part));
        lineage.is_some_and(|lineage| is_clear(&lineage.outputs))
    }

    fn hides_messages(&self) -> bool {
        true
    }

    fn report(&self, masked: &[u64]) -> String {
        let mut report = serde_json::Map::new();
        for (way, count) in masked.iter().enumerate().filter(|(_, count)| **count > 0) {
            let loaded = u16::try_from(way).ok().and_then(|way| self.masks.way(way));
            let name = loaded.map_or(UNCERTAIN, |loaded| &loaded.mask.name);
            report.insert(name.to_owned(), (*count).into());
        }
        serde_json::Value::Object(report).to_string()
    }
}

/// What values are recorded under that are NULL because it is not sure where they come from.
const UNCERTAIN: &str = "(of unknown origin)";

impl Masks for Blind {
    fn plan(&self, _: u32, _: Option<&[Field]>, count: usize) -> Plan {
        whole(count)
    }

    fn value(&self, _: u16, _: u32, _: bool, _: &[u8], _: &mut Vec<u8>) -> bool {
        false
    }

    fn copies(&self, _: u32) -> bool {
        false
    }

    fn hides_messages(&self) -> bool {
        true
    }

    fn report(&self, masked: &[u64]) -> String {
        let count: u64 = masked.iter().sum();
        serde_json::json!({ UNCERTAIN: count }).to_string()
    }
}

fn whole(count: usize) -> Plan {
    Plan::Each(vec![Some(WHOLE); count])
}
