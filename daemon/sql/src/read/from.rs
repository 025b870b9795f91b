//! What stands in `FROM`, `USING` and `MERGE … USING`.

use chaperone_model::{Access, QualifiedName};
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        Alias, JoinExpr, RangeFunction, RangeSubselect, RangeTableFunc, RangeTableFuncCol,
        RangeTableSample, RangeVar,
    },
};

use super::{names, scope::Item, walk::Walk};

impl Walk {
    pub(super) fn sources(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.source(node);
        }
    }

    pub(super) fn source(&mut self, node: &Node) {
        match &node.node {
            Some(NodeEnum::RangeVar(range)) => self.range(range),
            Some(NodeEnum::JoinExpr(join)) => self.join(join),
            Some(NodeEnum::RangeSubselect(select)) => self.range_subselect(select),
            Some(NodeEnum::RangeFunction(function)) => self.range_function(function),
            Some(NodeEnum::RangeTableSample(sample)) => self.table_sample(sample),
            Some(NodeEnum::RangeTableFunc(function)) => self.xml_table(function),
            Some(NodeEnum::JsonTable(table)) => self.json_table(table),
            _ => self.unknown("reads from something"),
        }
    }

    fn range(&mut self, range: &RangeVar) {
        let RangeVar {
            catalogname: _,
            schemaname: _,
            relname: _,
            inh: _,
            relpersistence: _,
            alias,
            location: _,
        } = range;
        let (name, relation) = (names::alias(range), names::relation(range));
        if self.scope.is_query(&relation) {
            return self.scope.add(Item { name, relation: None });
        }
        self.relation(Some(range), Access::Read);
        // Its columns go by other names from here on.
        if alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty()) {
            self.column(Some(relation.clone()), "*", Access::Read);
        }
        self.scope.add(Item { name, relation: Some(relation) });
    }

    fn join(&mut self, join: &JoinExpr) {
        let JoinExpr {
            jointype: _,
            is_natural,
            larg,
            rarg,
            using_clause,
            join_using_alias,
            quals,
            alias,
            rtindex: _,
        } = join;
        for side in [larg, rarg] {
            match side.as_deref() {
                Some(side) => self.source(side),
                None => self.unknown("joins something"),
            }
        }
        if *is_natural || !using_clause.is_empty() {
            self.uses("=");
        }
        for name in names::parts(using_clause) {
            self.column(None, name, Access::Read);
        }
        self.maybe(quals.as_deref());
        let renames = alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty());
        if *is_natural || renames {
            self.whole_rows();
        }
        for alias in [join_using_alias, alias].into_iter().flatten() {
            self.derived(Some(alias));
        }
    }

    /// All columns of all that the query reads from.
    pub(super) fn whole_rows(&mut self) {
        let relations: Vec<QualifiedName> = self.scope.own().cloned().collect();
        for relation in relations {
            self.column(Some(relation), "*", Access::Read);
        }
    }

    /// Something in `FROM` that is no relation: what its columns are of was seen within it.
    pub(super) fn derived(&mut self, alias: Option<&Alias>) {
        if let Some(Alias { aliasname, colnames: _ }) = alias {
            self.scope.add(Item { name: names::cut(aliasname), relation: None });
        } else {
            self.scope.add(Item { name: String::new(), relation: None });
        }
    }

    fn range_subselect(&mut self, select: &RangeSubselect) {
        let RangeSubselect { lateral, subquery, alias } = select;
        if *lateral {
            self.query(subquery.as_deref());
        } else {
            let hidden = self.scope.hide();
            self.query(subquery.as_deref());
            self.scope.show(hidden);
        }
        self.derived(alias.as_ref());
    }

    fn range_function(&mut self, function: &RangeFunction) {
        let RangeFunction {
            lateral: _,
            ordinality: _,
            is_rowsfrom: _,
            functions,
            alias,
            coldeflist,
        } = function;
        for function in functions {
            // A call, and the definitions of its columns.
            match &function.node {
                Some(NodeEnum::List(pair)) => {
                    for (at, part) in pair.items.iter().enumerate() {
                        match &part.node {
                            Some(NodeEnum::List(columns)) if at > 0 => {
                                self.column_definitions(&columns.items);
                            }
                            None if at > 0 => {}
                            _ => self.expression(part),
                        }
                    }
                }
                _ => self.unknown("reads from a function"),
            }
        }
        self.column_definitions(coldeflist);
        self.derived(alias.as_ref());
    }

    fn table_sample(&mut self, sample: &RangeTableSample) {
        let RangeTableSample { relation, method, args, repeatable, location: _ } = sample;
        match relation.as_deref() {
            Some(relation) => self.source(relation),
            None => self.unknown("takes a sample of something"),
        }
        let parts = names::parts(method);
        if !matches!(
            parts.as_slice(),
            ["pg_catalog", "bernoulli" | "system"] | ["bernoulli" | "system"]
        ) {
            self.unknown(&format!("takes a sample by {}", parts.join(".")));
        }
        self.expressions(args);
        self.maybe(repeatable.as_deref());
    }

    fn xml_table(&mut self, table: &RangeTableFunc) {
        let RangeTableFunc {
            lateral: _,
            docexpr,
            rowexpr,
            namespaces,
            columns,
            alias,
            location: _,
        } = table;
        self.maybe(docexpr.as_deref());
        self.maybe(rowexpr.as_deref());
        self.expressions(namespaces);
        for column in columns {
            let Some(NodeEnum::RangeTableFuncCol(column)) = &column.node else {
                self.unknown("makes a column");
                continue;
            };
            let RangeTableFuncCol {
                colname: _,
                type_name,
                for_ordinality: _,
                is_not_null: _,
                colexpr,
                coldefexpr,
                location: _,
            } = &**column;
            self.type_name(type_name.as_ref());
            self.maybe(colexpr.as_deref());
            self.maybe(coldefexpr.as_deref());
        }
        self.derived(alias.as_ref());
    }
}
