//! Where the columns of a statement's result come from, and what it does with masked columns.
//!
//! A pure function of a text and of what is known of the relations that it names. Names are resolved
//! as the server does it. What is not listed here is not followed: such a result is of unknown
//! origin, and such an expression counts as one that computes with masked columns. Does not belong
//! here: which columns are masked for whom, and what follows from it.

use std::{collections::BTreeSet, rc::Rc};

use chaperone_model::{
    ColumnRef, How, Lineage, MaskedUse, Origin, Outputs, Schema, Table, TableColumn,
};
use pg_query::{Node, NodeEnum, protobuf::RangeVar};

use crate::read;

mod change;
mod column;
mod copy;
mod expression;
mod figure;
mod query;
mod source;
mod statement;
mod total;

#[cfg(test)]
mod tests;

/// Views within views that are followed.
const DEEPEST_VIEW: usize = 16;

/// What is found of each statement of a text; `None` where it cannot be read.
pub fn lineage(text: &str, schema: &Schema) -> Option<Vec<Lineage>> {
    let parsed = read::parse(text).ok()?;
    let statements = parsed.protobuf.stmts.iter();
    let statements = statements.filter_map(|raw| raw.stmt.as_ref()?.node.as_ref());
    Some(statements.map(|node| Walk::new(schema, 0).all(node)).collect())
}

/// A column of something in `FROM`, or of a result.
#[derive(Clone, Debug)]
struct Out {
    /// Empty where it is not told here what the server calls it: it may be any.
    name: String,
    origin: Origin,
    /// Its values may be as long as the statement likes.
    long: bool,
}

impl Out {
    fn new(name: impl Into<String>, origin: Origin) -> Self {
        Self { name: name.into(), origin, long: false }
    }

    fn may_be(&self, name: &str) -> bool {
        self.name == name || self.name.is_empty()
    }
}

/// Something that columns can be of.
#[derive(Clone, Debug)]
struct Item {
    /// The name by which columns refer to it.
    name: String,
    /// The relation's own name, where it goes by that.
    table: Option<(String, String)>,
    columns: Vec<Out>,
    /// It may have others, which are not masked.
    open: bool,
    /// It may be another relation, which does not have these.
    maybe: bool,
    /// It goes by a relation's name and not by an alias, and of which schema that is is not sure.
    loose: bool,
    /// It is a relation, and neither made by the statement nor given by a function.
    is_table: bool,
    /// Its columns are found by its name alone.
    by_name: bool,
    /// Any of it may be masked.
    unknown: bool,
    /// Its columns are those of others in `FROM`, put together: `*` is not followed.
    joined: bool,
    /// Which of its columns are computed of the others.
    generated: Vec<String>,
}

impl Item {
    fn of(name: impl Into<String>, columns: Vec<Out>) -> Self {
        Self {
            name: name.into(),
            table: None,
            columns,
            open: false,
            maybe: false,
            loose: false,
            is_table: false,
            by_name: false,
            unknown: false,
            joined: false,
            generated: Vec::new(),
        }
    }

    /// One of which nothing is masked and nothing else is known.
    fn open(name: impl Into<String>) -> Self {
        Self { open: true, ..Self::of(name, Vec::new()) }
    }

    fn unknown(name: impl Into<String>) -> Self {
        Self { unknown: true, ..Self::of(name, Vec::new()) }
    }

    /// All of it as one value.
    fn whole(&self) -> Origin {
        if self.unknown {
            return Origin::Unknown;
        }
        made(self.columns.iter().map(|column| &column.origin))
    }
}

/// A query that `WITH` names.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    /// `None`: unknown.
    columns: Option<Rc<Vec<Out>>>,
}

/// A statement, as far as it was followed.
struct Walk<'a> {
    schema: &'a Schema,
    /// How many views deep.
    depth: usize,
    uses: BTreeSet<MaskedUse>,
    /// With how many values masked columns are compared.
    compared: u64,
    /// A value is written where others are looked for that are the same.
    checked: bool,
    /// Masked columns that are put together over all rows.
    gathered: Vec<Origin>,
    /// There are as many rows as the statement likes.
    grows: bool,
    /// It reads a masked column, whatever comes of it.
    reads: bool,
    queries: Vec<Named>,
    /// What columns can be of, level by level; the innermost is the last.
    levels: Vec<Vec<Item>>,
}

impl<'a> Walk<'a> {
    fn new(schema: &'a Schema, depth: usize) -> Self {
        let (uses, queries, levels) = (BTreeSet::new(), Vec::new(), Vec::new());
        let (compared, checked, grows, reads) = (0, false, false, false);
        let gathered = Vec::new();
        Self { schema, depth, uses, compared, checked, gathered, grows, reads, queries, levels }
    }

    fn all(mut self, node: &NodeEnum) -> Lineage {
        let (outputs, copies) = self.statement(node);
        self.overflow();
        // Whether a statement fails by what it writes is one answer.
        let compared = self.compared.max(u64::from(self.checked));
        Lineage { outputs, uses: self.uses.into_iter().collect(), compared, copies }
    }

    /// What is put together of as many rows as the statement likes fails by how long each value is.
    fn overflow(&mut self) {
        for origin in std::mem::take(&mut self.gathered) {
            if self.grows {
                self.used(&origin, How::Computed);
            }
        }
    }

    /// What has this origin is used so.
    fn used(&mut self, origin: &Origin, how: How) {
        match origin {
            Origin::Clear => {}
            Origin::Column(column) => {
                self.uses.insert(MaskedUse { column: Some(*column), how });
            }
            Origin::Made(columns) => {
                for column in columns {
                    self.uses.insert(MaskedUse { column: Some(*column), how });
                }
            }
            Origin::Unknown => {
                self.uses.insert(MaskedUse { column: None, how });
            }
        }
    }

    /// Values are written into what has this origin.
    fn written(&mut self, origin: &Origin) {
        self.used(origin, How::Written);
        self.checked |= is_masked(origin) && !self.are(origin, |column| !column.checked);
    }

    /// Whether the masked columns that something is made of are known, and all of them such.
    fn are(&self, origin: &Origin, is: impl Fn(&TableColumn) -> bool) -> bool {
        let of = |column: &ColumnRef| {
            let table = self.schema.tables.get(usize::try_from(column.table).ok()?)?;
            table.columns.get(usize::try_from(column.column).ok()?)
        };
        match origin {
            Origin::Clear => true,
            Origin::Column(column) => of(column).is_some_and(is),
            Origin::Made(columns) => columns.iter().all(|column| of(column).is_some_and(&is)),
            Origin::Unknown => false,
        }
    }

    /// Something that is not followed.
    fn lost(&mut self) -> Origin {
        self.uses.insert(MaskedUse { column: None, how: How::Computed });
        Origin::Unknown
    }

    /// What a relation in `FROM`, or one that is changed, has.
    fn relation(&mut self, range: &RangeVar) -> Item {
        let name = read::names::alias(range);
        let relation = read::names::relation(range);
        if relation.schema.is_none()
            && let Some(query) = self.queries.iter().rev().find(|q| q.name == relation.name)
        {
            return match &query.columns {
                Some(columns) => Item::of(name, columns.to_vec()),
                None => Item::unknown(name),
            };
        }
        let schema: &'a Schema = self.schema;
        let of_name = schema.tables.iter().enumerate();
        let of_name: Vec<(usize, &'a Table)> =
            of_name.filter(|(_, table)| table.name == relation.name).collect();
        let within = |schema: &String| of_name.iter().find(|(_, t)| t.schema == *schema).copied();
        let found: Vec<_> = match (&relation.schema, &schema.path) {
            // Another schema may have that name by now.
            (Some(_), _) if schema.moved => Vec::new(),
            (Some(schema), _) => within(schema).into_iter().collect(),
            (None, Some(path)) => path.iter().filter_map(within).collect(),
            (None, None) => Vec::new(),
        };
        let mut item = match found.as_slice() {
            [(place, table)] => {
                let mut item = self.table(*place, table, name);
                if range.alias.is_none() {
                    item.table = Some((table.schema.clone(), table.name.clone()));
                }
                item
            }
            // All that is behind a view is known.
            [] if self.depth > 0 => return Item::unknown(name),
            [(place, table), ..] if self.depth > 0 => self.table(*place, table, name),
            // Its schema may have been given that name since the catalog was asked, too.
            [] => self.any_of(&of_name, name),
            // The first may be gone when the server looks.
            several => self.any_of(several, name),
        };
        item.is_table = true;
        item.loose = range.alias.is_none() && item.table.is_none();
        if let Some(alias) = &range.alias {
            rename(&mut item, &read::names::parts(&alias.colnames));
        }
        item
    }

    /// One of these tables, or another that is not masked.
    fn any_of(&mut self, tables: &[(usize, &Table)], name: String) -> Item {
        let mut any = Item { maybe: true, ..Item::open(name.clone()) };
        for (place, table) in tables {
            let item = self.table(*place, table, name.clone());
            any.unknown |= item.unknown;
            any.generated.extend(item.generated);
            for column in item.columns {
                match any.columns.iter_mut().find(|known| known.name == column.name) {
                    Some(known) => known.origin = either(&known.origin, &column.origin),
                    None => any.columns.push(column),
                }
            }
        }
        if any.whole() == Origin::Clear {
            return Item::open(name);
        }
        any
    }

    fn table(&mut self, place: usize, table: &Table, name: String) -> Item {
        if table.unknown {
            return Item::unknown(name);
        }
        let behind = table.query.as_ref().map(|query| self.view(query));
        let mut columns = Vec::new();
        for (at, column) in table.columns.iter().enumerate() {
            let origin = if column.masked {
                match (u32::try_from(place), u32::try_from(at)) {
                    (Ok(table), Ok(column)) => Origin::Column(ColumnRef { table, column }),
                    _ => Origin::Unknown,
                }
            } else {
                match &behind {
                    None => Origin::Clear,
                    Some(Some(outs)) if outs.len() == table.columns.len() => {
                        outs.get(at).map_or(Origin::Unknown, |out| out.origin.clone())
                    }
                    Some(_) => Origin::Unknown,
                }
            };
            columns.push(Out::new(&column.name, origin));
        }
        let generated = table.columns.iter().filter(|column| column.generated);
        let generated = generated.map(|column| column.name.clone()).collect();
        Item { generated, ..Item::of(name, columns) }
    }

    /// The columns of a view's query. What it does there, its owner does.
    fn view(&self, query: &str) -> Option<Vec<Out>> {
        if self.depth >= DEEPEST_VIEW {
            return None;
        }
        let parsed = read::parse(query).ok()?;
        let [raw] = parsed.protobuf.stmts.as_slice() else { return None };
        let Some(NodeEnum::SelectStmt(select)) = &raw.stmt.as_ref()?.node else { return None };
        let path = Some(self.schema.view_path.clone());
        // The server has its names by their numbers.
        let schema = Schema { path, moved: false, text_is_own: true, ..self.schema.clone() };
        Walk::new(&schema, self.depth + 1).select(select)
    }

    fn subquery(&mut self, node: Option<&Node>) -> Option<Vec<Out>> {
        if let Some(NodeEnum::SelectStmt(select)) = &node?.node {
            return self.select(select);
        }
        self.lost();
        None
    }
}

/// Gives columns other names.
fn rename(item: &mut Item, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    if item.open || names.len() > item.columns.len() {
        // In which order its columns are is not known.
        if !(item.unknown || item.open && item.columns.is_empty()) {
            *item = Item::unknown(item.name.clone());
        }
        return;
    }
    for (column, name) in item.columns.iter_mut().zip(names) {
        column.name = read::names::cut(name);
    }
}

/// What is made of several.
fn made<'o>(origins: impl IntoIterator<Item = &'o Origin>) -> Origin {
    let mut columns = BTreeSet::new();
    for origin in origins {
        match origin {
            Origin::Clear => {}
            Origin::Column(column) => {
                columns.insert(*column);
            }
            Origin::Made(more) => columns.extend(more),
            Origin::Unknown => return Origin::Unknown,
        }
    }
    if columns.is_empty() { Origin::Clear } else { Origin::Made(columns.into_iter().collect()) }
}

/// Either of two; the same column stays that.
fn either(a: &Origin, b: &Origin) -> Origin {
    if a == b { a.clone() } else { made([a, b]) }
}

fn is_masked(origin: &Origin) -> bool {
    *origin != Origin::Clear
}

fn outputs(outs: Option<Vec<Out>>) -> Outputs {
    outs.map_or(Outputs::Unknown, |outs| {
        Outputs::Columns(outs.into_iter().map(|out| out.origin).collect())
    })
}
