//! What a condition can tell something of: the target, and what else stands in `FROM`.

use chaperone_model::QualifiedName;
use pg_query::{
    Node, NodeEnum,
    protobuf::{JoinExpr, JoinType, RangeVar},
};

use super::{
    super::{names, scope::Scope},
    By, Told,
    comparison::is_value,
};

/// What the rows of a source are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Those of a relation.
    Table,
    /// Values that the text gives.
    Values,
    /// Something else: a column may be the same in all of them, whatever it is compared with.
    Unknown,
}

#[derive(Clone, Debug)]
pub(super) struct Source {
    name: Option<String>,
    relation: Option<QualifiedName>,
    pub(super) rows: Rows,
}

impl Source {
    pub(super) fn table(range: &RangeVar) -> Self {
        let relation = range.alias.is_none().then(|| names::relation(range));
        Self { name: Some(names::alias(range)), relation, rows: Rows::Table }
    }
}

/// A column of a source.
pub(super) struct Column {
    pub(super) source: usize,
    name: String,
}

impl Column {
    pub(super) fn told(self, wide: bool) -> Told {
        Told { source: self.source, by: vec![By { column: Some(self.name), wide }] }
    }
}

/// All that a condition can tell of.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources<'a> {
    pub(super) all: Vec<Source>,
    /// Conditions of joins that remove rows as `WHERE` does.
    pub(super) join_conditions: Vec<&'a Node>,
    /// Whether a column with nothing before it is that of the only source.
    pub(super) bare_columns: bool,
}

impl<'a> Sources<'a> {
    pub(super) fn new(target: Source) -> Self {
        Self { all: vec![target], join_conditions: Vec::new(), bare_columns: true }
    }

    pub(super) fn without_conditions<'b>(&self) -> Sources<'b> {
        Sources { all: self.all.clone(), join_conditions: Vec::new(), bare_columns: false }
    }

    pub(super) fn add_all(&mut self, from: &'a [Node], scope: &Scope) {
        for node in from {
            self.add(node, scope, true);
        }
        self.bare_columns = self.all.len() == 1;
    }

    fn add(&mut self, node: &'a Node, scope: &Scope, removes: bool) {
        let unknown = |alias: Option<&pg_query::protobuf::Alias>| Source {
            name: alias.map(|alias| names::cut(&alias.aliasname)),
            relation: None,
            rows: Rows::Unknown,
        };
        let source = match &node.node {
            Some(NodeEnum::RangeVar(range)) => {
                let mut source = Source::table(range);
                let renames = range.alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty());
                if renames || scope.is_query(&names::relation(range)) {
                    source.rows = Rows::Unknown;
                    source.relation = None;
                }
                source
            }
            Some(NodeEnum::JoinExpr(join)) if join.alias.is_none() => {
                return self.add_join(join, scope, removes);
            }
            Some(NodeEnum::JoinExpr(join)) => unknown(join.alias.as_ref()),
            Some(NodeEnum::RangeSubselect(select)) => {
                let rows = match select.subquery.as_deref().and_then(|query| query.node.as_ref()) {
                    Some(NodeEnum::SelectStmt(query))
                        if !query.values_lists.is_empty()
                            && query.with_clause.is_none()
                            && query.values_lists.iter().all(is_value) =>
                    {
                        Rows::Values
                    }
                    _ => Rows::Unknown,
                };
                Source { rows, ..unknown(select.alias.as_ref()) }
            }
            Some(NodeEnum::RangeFunction(function)) => {
                // Each is a list of the call and the definitions of its columns.
                let is_of_values = |pair: &Node| match &pair.node {
                    Some(NodeEnum::List(pair)) => pair.items.first().is_some_and(is_unnested_value),
                    _ => false,
                };
                let rows = if function.functions.iter().all(is_of_values) {
                    Rows::Values
                } else {
                    Rows::Unknown
                };
                Source { rows, ..unknown(function.alias.as_ref()) }
            }
            _ => unknown(None),
        };
        self.all.push(source);
    }

    fn add_join(&mut self, join: &'a JoinExpr, scope: &Scope, removes: bool) {
        let removes = removes && join.jointype == JoinType::JoinInner as i32;
        for side in [&join.larg, &join.rarg].into_iter().flatten() {
            self.add(side, scope, removes);
        }
        if removes {
            self.join_conditions.extend(join.quals.as_deref());
        }
    }

    /// A column of a source that may be named for what it is compared with.
    pub(super) fn column(&self, node: &Node) -> Option<Column> {
        let Some(NodeEnum::ColumnRef(column)) = &node.node else { return None };
        let parts = names::parts(&column.fields);
        if parts.len() != column.fields.len() {
            return None;
        }
        let (name, before) = parts.split_last()?;
        // The same in all rows, or nearly.
        if ["tableoid", "xmin", "xmax", "cmin", "cmax"].contains(name) {
            return None;
        }
        let source = match before {
            [] if self.bare_columns => {
                // The name of a source is its whole row.
                let of_row = self.all.iter().any(|source| source.name.as_deref() == Some(*name));
                (!of_row).then_some(0)?
            }
            [] => return None,
            [alias] => {
                self.all.iter().rposition(|source| source.name.as_deref() == Some(*alias))?
            }
            _ => {
                let relation = names::qualified(before);
                self.all
                    .iter()
                    .rposition(|source| source.relation.is_some() && source.relation == relation)?
            }
        };
        let rows = self.all.get(source)?.rows;
        (rows != Rows::Unknown).then(|| Column { source, name: (*name).to_owned() })
    }

    /// The source of a column that is qualified.
    pub(super) fn qualified_column(&self, node: &Node) -> Option<usize> {
        match &node.node {
            Some(NodeEnum::ColumnRef(column)) if column.fields.len() > 1 => {
                self.column(node).map(|column| column.source)
            }
            _ => None,
        }
    }
}

/// `unnest` of values, as parameters that hold many rows are used.
fn is_unnested_value(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::FuncCall(call)) => {
            names::parts(&call.funcname).last() == Some(&"unnest") && call.args.iter().all(is_value)
        }
        _ => false,
    }
}
