//! What changes rows: `INSERT`, `UPDATE`, `DELETE`.

use chaperone_model::{How, Origin};
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        DeleteStmt, InsertStmt, OnConflictClause, RangeVar, ResTarget, ReturningClause, UpdateStmt,
    },
};

use super::{Item, Out, Walk, expression::is_constant, is_masked};
use crate::read::names;

impl Walk<'_> {
    /// The columns of what comes back; `None` where they cannot be told.
    pub(super) fn change(&mut self, node: &NodeEnum) -> Option<Vec<Out>> {
        let before = self.queries.len();
        self.levels.push(Vec::new());
        let outs = match node {
            NodeEnum::InsertStmt(insert) => self.insert(insert),
            NodeEnum::UpdateStmt(update) => self.update(update),
            NodeEnum::DeleteStmt(delete) => self.delete(delete),
            _ => {
                self.lost();
                None
            }
        };
        self.levels.pop();
        self.queries.truncate(before);
        outs
    }

    /// What is changed: no query of `WITH` can be.
    fn target(&mut self, range: Option<&RangeVar>) -> Item {
        let Some(range) = range else { return Item::unknown("") };
        let queries = std::mem::take(&mut self.queries);
        let item = self.relation(range);
        self.queries = queries;
        item
    }

    /// A value is written into a column.
    fn written_into(&mut self, target: &Item, name: &str) {
        if target.unknown {
            return self.written(&Origin::Unknown);
        }
        let name = names::cut(name);
        for column in target.columns.iter().filter(|column| column.name == name) {
            self.written(&column.origin);
        }
    }

    /// Values are written into columns: what stands behind `SET`.
    fn set(&mut self, target: &Item, targets: &[Node]) {
        for node in targets {
            let Some(NodeEnum::ResTarget(one)) = &node.node else {
                self.lost();
                continue;
            };
            self.written_into(target, &one.name);
            self.place(one);
            let Some(value) = &one.val else { continue };
            let origin = match &value.node {
                // `(a, b) = (SELECT …)`: each gets one of its columns.
                Some(NodeEnum::MultiAssignRef(multi)) => {
                    multi.source.as_ref().map_or(Origin::Clear, |source| self.expression(source))
                }
                _ => self.expression(value),
            };
            self.used(&origin, How::Copied);
        }
    }

    /// Where in a column a value is written.
    fn place(&mut self, target: &ResTarget) {
        for node in &target.indirection {
            if let Some(NodeEnum::AIndices(indices)) = &node.node {
                for bound in [&indices.lidx, &indices.uidx].into_iter().flatten() {
                    let origin = self.expression(bound);
                    self.used(&origin, How::Copied);
                }
            }
        }
    }

    fn insert(&mut self, insert: &InsertStmt) -> Option<Vec<Out>> {
        let InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = insert;
        self.with(with_clause.as_ref());
        let target = self.target(relation.as_ref());
        if cols.is_empty() {
            let whole = target.whole();
            self.written(&whole);
        }
        for node in cols {
            match &node.node {
                Some(NodeEnum::ResTarget(column)) => {
                    self.written_into(&target, &column.name);
                    self.place(column);
                }
                _ => {
                    self.lost();
                }
            }
        }
        if let Some(select) = select_stmt {
            let outs = self.subquery(Some(select));
            self.copied(outs.as_deref());
        }
        if let Some(conflict) = on_conflict_clause {
            self.on_conflict(&target, conflict, rows(select_stmt.as_deref()));
        }
        self.add(target.clone());
        self.returning(&target, returning_clause.as_ref())
    }

    /// `rows`: how many rows it inserts, where its text says that.
    fn on_conflict(&mut self, target: &Item, conflict: &OnConflictClause, rows: Option<u64>) {
        let OnConflictClause { action: _, infer, target_list, where_clause, location: _ } =
            conflict;
        // What was to be inserted is the agent's own word.
        let excluded = Item::open("excluded");
        self.levels.push(vec![target.clone(), excluded]);
        let mut compared = Vec::new();
        // Which columns are compared is not said.
        if infer.as_ref().is_none_or(|infer| infer.index_elems.is_empty()) {
            compared.extend(target.columns.iter().map(|column| column.origin.clone()));
        }
        if let Some(infer) = infer {
            for node in &infer.index_elems {
                match &node.node {
                    Some(NodeEnum::IndexElem(element)) if element.expr.is_none() => {
                        let name = names::cut(&element.name);
                        let of = target.columns.iter().filter(|column| column.name == name);
                        compared.extend(of.map(|column| column.origin.clone()));
                    }
                    _ => {
                        self.lost();
                    }
                }
            }
            if let Some(condition) = &infer.where_clause {
                self.condition(condition);
            }
        }
        // Each row tells whether its values are there. What a query gives may be any number.
        for origin in &compared {
            self.used(origin, if rows.is_some() { How::Equality } else { How::Condition });
        }
        if compared.iter().any(is_masked) {
            self.compared += rows.unwrap_or(1);
        }
        self.set(target, target_list);
        if let Some(condition) = where_clause {
            self.condition(condition);
        }
        self.levels.pop();
    }

    fn update(&mut self, update: &UpdateStmt) -> Option<Vec<Out>> {
        let UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = update;
        self.with(with_clause.as_ref());
        let target = self.target(relation.as_ref());
        self.add(target.clone());
        for node in from_clause {
            self.source(node);
        }
        self.set(&target, target_list);
        if let Some(condition) = where_clause {
            self.condition(condition);
        }
        self.returning(&target, returning_clause.as_ref())
    }

    fn delete(&mut self, delete: &DeleteStmt) -> Option<Vec<Out>> {
        let DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } =
            delete;
        self.with(with_clause.as_ref());
        let target = self.target(relation.as_ref());
        self.add(target.clone());
        for node in using_clause {
            self.source(node);
        }
        if let Some(condition) = where_clause {
            self.condition(condition);
        }
        self.returning(&target, returning_clause.as_ref())
    }

    fn returning(&mut self, target: &Item, clause: Option<&ReturningClause>) -> Option<Vec<Out>> {
        // The row as it was and as it is, where nothing else goes by these names (dml-returning).
        for name in ["old", "new"] {
            if self.item(&[name]).is_none() {
                let row = target.clone();
                self.add(Item { name: name.into(), table: None, by_name: true, ..row });
            }
        }
        match clause {
            None => Some(Vec::new()),
            // Other names for the old and the new row are not followed.
            Some(clause) if !clause.options.is_empty() => {
                self.lost();
                None
            }
            Some(clause) => self.targets(&clause.exprs),
        }
    }
}

/// How many rows are inserted; `None` where that is not told by the text: a function in `VALUES` may
/// give several.
fn rows(values: Option<&Node>) -> Option<u64> {
    // `DEFAULT VALUES`.
    let Some(node) = values else { return Some(1) };
    let Some(NodeEnum::SelectStmt(select)) = &node.node else { return None };
    let one = |node: &Node| {
        is_constant(node)
            || matches!(&node.node, Some(NodeEnum::SetToDefault(_) | NodeEnum::SqlvalueFunction(_)))
            || gives_one(node)
    };
    let is_plain =
        |row: &Node| matches!(&row.node, Some(NodeEnum::List(list)) if list.items.iter().all(one));
    let all = !select.values_lists.is_empty() && select.values_lists.iter().all(is_plain);
    u64::try_from(select.values_lists.len()).ok().filter(|_| all)
}

/// The usual functions that give one value for none or for constants.
fn gives_one(node: &Node) -> bool {
    const ONE: [&str; 8] = [
        "now",
        "clock_timestamp",
        "statement_timestamp",
        "transaction_timestamp",
        "nextval",
        "gen_random_uuid",
        "lower",
        "upper",
    ];
    let Some(NodeEnum::FuncCall(call)) = &node.node else { return false };
    let function = names::qualified(&names::parts(&call.funcname));
    function.is_some_and(|function| {
        function.schema.as_deref().is_none_or(|schema| schema == "pg_catalog")
            && ONE.contains(&function.name.as_str())
    }) && call.args.iter().all(is_constant)
}
