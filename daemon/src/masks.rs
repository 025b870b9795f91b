//! What of a session's statements is masked: which masks are for it, what a statement does with the
//! columns that they name, and what becomes of its results.
//!
//! Everything that is not sure is refused or NULL. Does not belong here: forms
//! (`chaperone_policy::mask`), taking rows apart (`wire`), lineage (`sql`), and when it is asked
//! (`relay::masking`).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chaperone_model::{QualifiedName, Reading, Schema, Seq, Table, TableColumn, UNREADABLE};
use chaperone_policy::{
    Asked,
    mask::{Key, Screens},
};
use secrecy::ExposeSecret;

use crate::{
    catalog::{Attribute, Described, Known, Oid, Sight},
    config::Mask,
    rates::Rates,
    secret::SecretError,
};

mod explain;
mod found;
mod lift;
mod traced;

pub(crate) use explain::Explained;
pub(crate) use found::Found;
pub(crate) use lift::Lift;
pub(crate) use traced::{Blind, Guess, Guesses, Held, Traced};

/// Tables that a statement may be about, with those behind its views.
const TABLES: usize = 256;

/// All masks, with their keys.
pub(crate) struct Masks {
    all: Vec<Arc<Loaded>>,
    /// Statements that compare masked columns with values.
    pub(crate) equalities: Rates,
}

/// A mask and its key.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) mask: Mask,
    pub(crate) key: Option<Key>,
}

/// Why a mask cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MaskError {
    #[error("mask {mask}: {source}")]
    Secret { mask: Arc<str>, source: SecretError },
    #[error("mask {0}: its key is shorter than 32 bytes: make one with `openssl rand -hex 32`")]
    Short(Arc<str>),
}

impl MaskError {
    /// Whether what is missing is there for nobody but the daemon's unit.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Secret { source: SecretError::NoCredentials(_), .. })
    }
}

impl Masks {
    /// Reads the keys.
    pub(crate) fn load(masks: &[Mask]) -> Result<Self, MaskError> {
        let load = |mask: &Mask| {
            let key = match &mask.key {
                None => None,
                Some(source) => {
                    let secret = source
                        .read()
                        .map_err(|source| MaskError::Secret { mask: mask.name.clone(), source })?;
                    let key = Key::new(secret.expose_secret().as_bytes());
                    Some(key.map_err(|_| MaskError::Short(mask.name.clone()))?)
                }
            };
            Ok(Arc::new(Loaded { mask: mask.clone(), key }))
        };
        let all = masks.iter().map(load).collect::<Result<_, _>>()?;
        Ok(Self { all, equalities: Rates::start() })
    }

    /// Without keys: for those who only ask what is masked.
    pub(crate) fn without_keys(masks: &[Mask]) -> Self {
        let all = masks.iter().map(|mask| Arc::new(Loaded { mask: mask.clone(), key: None }));
        Self { all: all.collect(), equalities: Rates::start() }
    }

    /// Those that are for a session; `None` where none is.
    pub(crate) fn of_session(&self, asked: &Asked<'_>) -> Option<Arc<OfSession>> {
        let all = self.all.iter().filter(|one| one.mask.when.may_match_session(asked));
        let masks: Vec<_> = all.cloned().collect();
        (!masks.is_empty()).then(|| Arc::new(OfSession::new(masks)))
    }
}

/// The masks of a session.
#[derive(Debug, Default)]
pub(crate) struct OfSession {
    masks: Vec<Arc<Loaded>>,
    /// What is looked for in all values.
    screens: Screens,
    /// What is looked for in files.
    files: Screens,
    /// By mask, what is looked for in the columns that it names: what is looked for in all comes
    /// behind it.
    within: Vec<Screens>,
}

/// What a statement has to do with masked columns.
#[derive(Clone, Debug)]
pub(crate) enum Concern {
    /// Nothing.
    None,
    /// Perhaps something: where its columns come from must be followed.
    Follow(Arc<Columns>),
    /// It cannot be told: it is refused for this reason.
    Unclear(String),
}

/// The columns of the relations that a statement may be about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) schema: Arc<Schema>,
    /// As the tables of the schema.
    tables: Vec<Numbered>,
}

/// A table by the server's numbers.
#[derive(Debug, PartialEq, Eq)]
struct Numbered {
    oid: Oid,
    is_view: bool,
    columns: Vec<NumberedColumn>,
}

/// A column by its number.
#[derive(Debug, PartialEq, Eq)]
struct NumberedColumn {
    number: i16,
    /// The way it is masked.
    way: Option<u16>,
    /// All ways in which what stands in it is masked anywhere: all of them must be lifted before it
    /// is shown.
    all: BTreeSet<u16>,
    type_oid: Oid,
}

/// PostgreSQL's own relations that have other relations' values, and the columns that have them.
const STATISTICS: [(&str, &[&str]); 8] = [
    ("pg_statistic", &["stavalues1", "stavalues2", "stavalues3", "stavalues4", "stavalues5"]),
    ("pg_statistic_ext_data", &["stxdmcv", "stxdexpr"]),
    (
        "pg_stats",
        &[
            "most_common_vals",
            "histogram_bounds",
            "most_common_elems",
            "range_length_histogram",
            "range_bounds_histogram",
        ],
    ),
    ("pg_stats_ext", &["most_common_vals", "most_common_val_nulls"]),
    (
        "pg_stats_ext_exprs",
        &[
            "most_common_vals",
            "histogram_bounds",
            "most_common_elems",
            "range_length_histogram",
            "range_bounds_histogram",
        ],
    ),
    ("pg_stat_activity", &["query"]),
    ("pg_stat_statements", &["query"]),
    ("pg_attribute", &["attmissingval"]),
];

/// NULL, whatever the mask.
const WHOLE: u16 = 0;
/// What values are recorded under that are NULL because it is not sure where they come from.
const UNCERTAIN: &str = "(of unknown origin)";

impl OfSession {
    fn new(masks: Vec<Arc<Loaded>>) -> Self {
        let add = |screens: &mut Screens, place: usize, one: &Loaded| {
            // No configuration has more masks than that.
            let way = u16::try_from(place + 1).unwrap_or(u16::MAX);
            screens.add(way, one.mask.detect, one.mask.form.clone(), one.key.clone());
        };
        let everywhere = |screens: &mut Screens| {
            for (place, one) in masks.iter().enumerate() {
                if one.mask.columns.is_empty() {
                    add(screens, place, one);
                }
            }
        };
        let mut screens = Screens::default();
        everywhere(&mut screens);
        let mut files = Screens::default();
        for (place, one) in masks.iter().enumerate().filter(|(_, one)| one.mask.files) {
            add(&mut files, place, one);
        }
        let mut within = Vec::new();
        for (place, one) in masks.iter().enumerate() {
            let mut own = Screens::default();
            if !one.mask.detect.is_empty() && !one.mask.columns.is_empty() {
                add(&mut own, place, one);
                everywhere(&mut own);
            }
            within.push(own);
        }
        Self { masks, screens, files, within }
    }

    /// Whether one of them names columns.
    pub(crate) fn has_columns(&self) -> bool {
        self.masks.iter().any(|one| !one.mask.columns.is_empty())
    }

    /// What is looked for in all that the session gets, where something is.
    pub(crate) fn found(self: &Arc<Self>) -> Option<Found> {
        (!self.screens.detectors().is_empty()).then(|| Found::new(self.clone()))
    }

    /// What a way is called in the record.
    fn name(&self, way: u16) -> String {
        self.way(way).map_or(UNCERTAIN, |loaded| &loaded.mask.name).to_owned()
    }

    /// The mask of a way; way 0 is none of them.
    fn way(&self, way: u16) -> Option<&Arc<Loaded>> {
        self.masks.get(usize::from(way).checked_sub(1)?)
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.masks.iter().map(|one| one.mask.name.to_string()).collect()
    }

    /// Whether code that nobody reads may run.
    fn lets_code_run(&self) -> bool {
        self.masks.iter().all(|one| one.mask.unread || one.mask.columns.is_empty())
    }

    /// The same of a text that names nothing that is in a catalog.
    pub(crate) fn without_catalog(&self, read: &Reading) -> Concern {
        match self.objection(read, read) {
            Some(why) => Concern::Unclear(why),
            None => Concern::None,
        }
    }

    /// Why it cannot be told what a text shows.
    fn objection(&self, read: &Reading, resolved: &Reading) -> Option<String> {
        read.statements.iter().zip(&resolved.statements).find_map(|(read, resolved)| {
            if read.kind == UNREADABLE && !self.lets_code_run() {
                return Some("it cannot be read".into());
            }
            if resolved.opaque && !self.lets_code_run() {
                return Some(format!("it may run code that nobody reads: {}", resolved.reason));
            }
            if read.makes_code && !self.lets_code_run() {
                // What runs it need not say so: a cast, a trigger, an operator.
                return Some("it makes code that nobody reads when it runs".into());
            }
            if read.relations.iter().any(|one| keeps_values(&one.name)) {
                return Some("it names what the server keeps long values in".into());
            }
            // Masks speak of schemas by name.
            let (schema, renamed) = read.renames.as_ref()?;
            let globs = || self.masks.iter().flat_map(|one| &one.mask.columns);
            let is_named = |schema: &&String| globs().any(|glob| glob.is_in(schema));
            [schema, renamed].into_iter().find(is_named).map(|schema| {
                format!("schema {schema} keeps its name while a mask may name columns in it")
            })
        })
    }

    /// What a statement has to do with masked columns. `read`: what its text says; `resolved`: with
    /// what the catalog says.
    pub(crate) fn concern(
        &self,
        read: &Reading,
        resolved: &Reading,
        known: &Known,
        sight: &Sight,
        path_is_known: bool,
    ) -> Concern {
        if let Some(why) = self.objection(read, resolved) {
            return Concern::Unclear(why);
        }
        let statements = || read.statements.iter().zip(&resolved.statements);
        let relations = statements().flat_map(|(a, b)| a.relations.iter().chain(&b.relations));
        let names: BTreeSet<&str> = relations.map(|one| one.name.name.as_str()).collect();
        let Some(family) = known.family(names.iter().copied()) else {
            return Concern::Unclear("more is behind what it names than is looked at".into());
        };
        // What a statement finds depends on those before it in its text.
        let before = read.statements.split_last().map_or(&[][..], |(_, before)| before);
        let sight = &sight.behind(before);
        let path_is_known = path_is_known && !sight.is_lost();
        let Some(columns) = self.columns(known, &family, sight, path_is_known) else {
            return Concern::None;
        };
        if columns.tables.len() > TABLES {
            return Concern::Unclear("it names more relations than are followed".into());
        }
        if let Some(name) = names.iter().find(|name| sight.made(name, known.has(name)).is_some()) {
            // It may be its own, or the one that others see.
            return Concern::Unclear(format!("this session itself made or dropped {name}"));
        }
        Concern::Follow(Arc::new(columns))
    }

    /// The columns of these relations; `None` where none of them is masked.
    fn columns(
        &self,
        known: &Known,
        family: &[Oid],
        sight: &Sight,
        path_is_known: bool,
    ) -> Option<Columns> {
        // A view over the statistics is not followed to them.
        let tells = |relation: &Described<'_>| {
            let own = |name: &String| STATISTICS.iter().any(|(own, _)| own == name);
            relation.reads.iter().any(own)
        };
        let mut masked: HashMap<(Oid, &str), Ways> = HashMap::new();
        for oid in family {
            let relation = known.relation(*oid)?;
            for Attribute { name, .. } in relation.columns {
                let all = self.ways_of(&relation, name);
                if let Some(way) = all.first().copied() {
                    masked.insert((*oid, name), Ways { way, all });
                }
            }
        }
        let told = || family.iter().filter_map(|oid| known.relation(*oid)).any(|one| tells(&one));
        if masked.is_empty() && !told() {
            return None;
        }
        // What a part has its whole shows, and the other way round.
        loop {
            let mut grown = false;
            for oid in family {
                let Some(relation) = known.relation(*oid) else { continue };
                for Attribute { name, .. } in relation.columns {
                    let kin = relation.kin.iter();
                    let kin = kin.filter_map(|kin| masked.get(&(*kin, name.as_str())));
                    let (mut way, mut all) = (None, BTreeSet::new());
                    for one in kin {
                        way = way.max(Some(one.way));
                        all.extend(&one.all);
                    }
                    let Some(way) = way else { continue };
                    let known = masked
                        .entry((*oid, name))
                        .or_insert_with(|| Ways { way, all: BTreeSet::new() });
                    let before = known.all.len();
                    known.all.append(&mut all);
                    grown |= known.all.len() > before;
                }
            }
            if !grown {
                break;
            }
        }
        // A view that is masked itself is not followed to what is behind it: that may be any of these.
        let is_view = |oid: &Oid| known.relation(*oid).is_some_and(|relation| relation.is_view);
        let behind: BTreeSet<u16> = masked
            .iter()
            .filter(|((oid, _), _)| !is_view(oid))
            .flat_map(|(_, ways)| ways.all.iter().copied())
            .collect();
        for (_, ways) in masked.iter_mut().filter(|((oid, _), _)| is_view(oid)) {
            ways.all.extend(&behind);
        }
        let (mut schema, mut tables) = (Schema::default(), Vec::new());
        schema.path = path_is_known.then(|| known.path.clone());
        schema.view_path.clone_from(&known.path);
        (schema.moved, schema.code_shows) = (sight.has_moved(), self.lets_code_run());
        // Temporary types come before all others, and a table is one as well.
        schema.text_is_own = path_is_known
            && known.path.first().is_some_and(|first| first == "pg_catalog")
            && sight.made("text", false).is_none();
        for oid in family {
            let Some(relation) = known.relation(*oid) else { continue };
            let column = |column: &Attribute| TableColumn {
                name: column.name.clone(),
                // A view's columns are followed to where they come from.
                masked: masked.contains_key(&(*oid, column.name.as_str())),
                generated: column.generated,
                checked: column.checked,
                type_oid: column.type_oid,
            };
            schema.tables.push(Table {
                schema: relation.name.schema.clone().unwrap_or_default(),
                name: relation.name.name.clone(),
                columns: relation.columns.iter().map(column).collect(),
                query: relation.text.map(str::to_owned),
                unknown: relation.columns.is_empty() || tells(&relation),
            });
            let numbered = |column: &Attribute| {
                let ways = masked.get(&(*oid, column.name.as_str()));
                NumberedColumn {
                    number: column.number,
                    way: ways.map(|ways| ways.way),
                    all: ways.map(|ways| ways.all.clone()).unwrap_or_default(),
                    type_oid: column.type_oid,
                }
            };
            let columns = relation.columns.iter().map(numbered).collect();
            tables.push(Numbered { oid: *oid, is_view: relation.is_view, columns });
        }
        Some(Columns { schema: Arc::new(schema), tables })
    }

    /// The ways in which a column is masked by its own name.
    fn ways_of(&self, relation: &Described<'_>, column: &str) -> BTreeSet<u16> {
        let name = relation.name;
        let meant =
            |one: &Arc<Loaded>| one.mask.columns.iter().any(|glob| glob.is_of(name, column));
        let named = self.masks.iter().enumerate().filter(|(_, one)| meant(one));
        let ways: BTreeSet<u16> =
            named.filter_map(|(place, _)| u16::try_from(place + 1).ok()).collect();
        if !ways.is_empty() {
            return ways;
        }
        let own = STATISTICS.iter().any(|(own, columns)| {
            let schema = name.schema.as_deref();
            *own == name.name
                && (schema == Some("pg_catalog") || *own == "pg_stat_statements")
                && columns.contains(&column)
        });
        own.then_some(WHOLE).into_iter().collect()
    }

    /// What of the session's masks is lifted, where something is.
    pub(crate) fn lift(&self, exceptions: &[(Arc<str>, Seq)]) -> Option<Arc<Lift>> {
        let by = self.masks.iter().map(|one| {
            exceptions.iter().find(|(mask, _)| *mask == one.mask.name).map(|(_, id)| *id)
        });
        Lift::new(by.collect()).map(Arc::new)
    }
}

/// Whether a relation is one where the server keeps long values of columns that may be masked. Those
/// of its own relations have none, but for the statistics (`storage-toast`; numbers below 16384 are the
/// server's own, `transam.h`).
fn keeps_values(name: &QualifiedName) -> bool {
    /// `pg_statistic`, `pg_statistic_ext_data`.
    const STATISTICS: [u32; 2] = [2619, 3429];
    let of = name.name.strip_prefix("pg_toast_").map(|of| of.trim_end_matches("_index"));
    match of.and_then(|of| of.parse::<u32>().ok()) {
        Some(of) => of >= 16384 || STATISTICS.contains(&of),
        None => name.schema.as_deref().is_some_and(|schema| schema.starts_with("pg_toast")),
    }
}

/// How a column is masked: see [`NumberedColumn`].
struct Ways {
    way: u16,
    all: BTreeSet<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p5_where_long_values_are_kept_is_told_by_its_name() {
        let keeps = |schema: Option<&str>, name: &str| {
            keeps_values(&QualifiedName { schema: schema.map(str::to_owned), name: name.into() })
        };
        for name in ["pg_toast_16384", "pg_toast_98765_index", "pg_toast_2619", "pg_toast_3429"] {
            assert!(keeps(Some("pg_toast"), name) && keeps(None, name), "{name}");
        }
        assert!(keeps(Some("pg_toast_temp_3"), "pg_toast_40000"));
        assert!(keeps(Some("pg_toast"), "renamed"));
        for name in ["pg_toast_1213", "pg_toast_1260_index"] {
            assert!(!keeps(Some("pg_toast"), name), "{name}");
        }
        assert!(!keeps(None, "pg_toast_of_mine") && !keeps(Some("public"), "people"));
    }
}
