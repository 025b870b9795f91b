//! What is known of a database's catalog, as one account sees it.
//!
//! Does not belong here: asking for it, and what it means for a statement.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use chaperone_model::{QualifiedName, Reading};

/// Relations of which something is kept.
const RELATIONS: usize = 8192;
/// Names of which something is kept, with those that no relation has.
const NAMES: usize = 8192;

/// PostgreSQL's own object identifier.
pub(crate) type Oid = u32;

/// What is known so far.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// How far the changes of sessions had come.
    pub(super) generation: u64,
    /// Since when.
    pub(super) at: Instant,
    /// Where names without a schema are looked for when nothing was said of it, in order.
    pub(crate) path: Vec<String>,
    /// Functions that are not PostgreSQL's own and no extension's, but have the name of one that
    /// is: with their schemas.
    pub(super) functions: Others,
    /// Functions that can be written like a column of a row.
    pub(super) of_rows: Others,
    /// Operators that are not PostgreSQL's own and no extension's.
    pub(super) operators: Others,
    /// Types to which a cast calls a function that is not PostgreSQL's own and no extension's.
    pub(super) casts: Others,
    /// Relations of each name that was asked for, in any schema.
    pub(super) names: HashMap<String, Vec<Oid>>,
    pub(super) relations: HashMap<Oid, Node>,
}

/// Names, and the schemas that have one.
pub(super) type Others = HashMap<String, Vec<String>>;

/// A relation, and what is behind it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: QualifiedName,
    /// `pg_class.relkind`.
    pub(super) kind: char,
    pub(super) edges: Vec<Edge>,
    /// Its columns, in order.
    pub(super) columns: Vec<Attribute>,
    /// Of a view: what its query is.
    pub(super) query: Option<Arc<Reading>>,
    /// Of a view or materialized view: its query.
    pub(super) text: Option<Arc<str>>,
    /// There is more behind it than was looked at.
    pub(super) cut: bool,
    /// Of a view: the names of what its query reads. The server does not keep which of its own
    /// relations those are.
    pub(super) reads: Vec<String>,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) number: i16,
    pub(crate) name: String,
    /// The type of its values; of a domain, what it is a domain of.
    pub(crate) type_oid: Oid,
    /// It is computed of the others.
    pub(crate) generated: bool,
    /// A unique index, an exclusion or a foreign key is of it: what is written is compared.
    pub(crate) checked: bool,
}

/// What a statement on a relation does beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// The query of a view reads that one; what is changed in the view is changed there.
    Reads(Oid),
    /// A rule makes something else of a change, perhaps with that one.
    Rule(Option<Oid>),
    /// A part: an inheriting table, a partition, or a table of a type.
    Child(Oid),
    /// What it is a part of.
    Parent(Oid),
    /// What an index is of.
    Of(Oid),
    /// When rows are deleted, those that refer to them are deleted there (`true`), or changed.
    Deletes(Oid, bool),
    /// When these columns are changed, rows that refer to them are changed there.
    Updates(Oid, Vec<String>),
    /// That one refers to it: it is emptied with it.
    References(Oid),
    /// A trigger calls a function.
    Trigger(QualifiedName),
}

/// What is known of a relation.
pub(crate) struct Described<'a> {
    pub(crate) name: &'a QualifiedName,
    pub(crate) is_view: bool,
    /// In order.
    pub(crate) columns: &'a [Attribute],
    /// Of a view: its query.
    pub(crate) text: Option<&'a str>,
    /// Of a view: the names of what its query reads.
    pub(crate) reads: &'a [String],
    /// What it is a part of, and its parts.
    pub(crate) kin: Vec<Oid>,
}

impl Known {
    /// Nothing yet.
    pub(super) fn new(generation: u64) -> Self {
        Self {
            generation,
            at: Instant::now(),
            path: Vec::new(),
            functions: Others::new(),
            of_rows: Others::new(),
            operators: Others::new(),
            casts: Others::new(),
            names: HashMap::new(),
            relations: HashMap::new(),
        }
    }

    /// Whether all of these names were asked for.
    pub(crate) fn covers(&self, names: &BTreeSet<String>) -> bool {
        !self.path.is_empty() && names.iter().all(|name| self.names.contains_key(name))
    }

    /// Whether more can be kept.
    pub(super) fn has_room(&self) -> bool {
        self.relations.len() < RELATIONS && self.names.len() < NAMES
    }

    /// All that relations of these names may be, and what is behind them; `None` where more is
    /// behind one of them than was looked at.
    pub(crate) fn family<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<Vec<Oid>> {
        let mut found: Vec<Oid> =
            names.flat_map(|name| self.of_name(name)).map(|(oid, _)| oid).collect();
        found.sort_unstable();
        found.dedup();
        let mut at = 0;
        while let Some(oid) = found.get(at) {
            let node = self.relations.get(oid)?;
            if node.cut {
                return None;
            }
            for edge in &node.edges {
                let (Edge::Reads(to) | Edge::Child(to) | Edge::Parent(to) | Edge::Of(to)) = edge
                else {
                    continue;
                };
                if !found.contains(to) {
                    found.push(*to);
                }
            }
            at += 1;
        }
        Some(found)
    }

    /// A relation that is known.
    pub(crate) fn relation(&self, oid: Oid) -> Option<Described<'_>> {
        let node = self.relations.get(&oid)?;
        let wholes = |edge: &Edge| match edge {
            Edge::Child(to) | Edge::Parent(to) => Some(*to),
            _ => None,
        };
        Some(Described {
            name: &node.name,
            is_view: matches!(node.kind, 'v' | 'm'),
            columns: &node.columns,
            text: node.text.as_deref(),
            reads: &node.reads,
            kin: node.edges.iter().filter_map(wholes).collect(),
        })
    }

    /// Whether there is a relation of a name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.of_name(name).next().is_some()
    }

    /// The relations of a name.
    pub(super) fn of_name(&self, name: &str) -> impl Iterator<Item = (Oid, &Node)> {
        let oids = self.names.get(name).into_iter().flatten();
        oids.filter_map(|oid| Some((*oid, self.relations.get(oid)?)))
    }
}
