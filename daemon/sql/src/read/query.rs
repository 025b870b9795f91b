//! `SELECT` and `VALUES`, and what `WITH` puts before a statement.

use chaperone_model::{Access, Rung};
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        CommonTableExpr, CteCycleClause, CteSearchClause, IntoClause, LockingClause, SelectStmt,
        WithClause,
    },
};

use super::{names, walk::Walk};

impl Walk {
    /// A statement that can stand within another.
    pub(super) fn query(&mut self, node: Option<&Node>) {
        match node.and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => self.select(select),
            Some(NodeEnum::InsertStmt(insert)) => self.insert(insert),
            Some(NodeEnum::UpdateStmt(update)) => self.update(update),
            Some(NodeEnum::DeleteStmt(delete)) => self.delete(delete),
            Some(NodeEnum::MergeStmt(merge)) => self.merge(merge),
            _ => self.unknown("holds a statement"),
        }
    }

    pub(super) fn select(&mut self, select: &SelectStmt) {
        let SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = select;
        let queries = self.scope.queries();
        self.with(with_clause.as_ref());
        for half in [larg, rarg].into_iter().flatten() {
            self.select(half);
        }
        self.scope.open();
        self.sources(from_clause);
        self.into(into_clause.as_deref());
        self.distinct(distinct_clause);
        self.expressions(target_list);
        self.maybe(where_clause.as_deref());
        self.expressions(group_clause);
        self.maybe(having_clause.as_deref());
        self.expressions(window_clause);
        self.expressions(values_lists);
        self.expressions(sort_clause);
        self.maybe(limit_offset.as_deref());
        self.maybe(limit_count.as_deref());
        self.locking(locking_clause);
        self.scope.close();
        self.scope.forget(queries);
    }

    /// `DISTINCT` alone is a list of one empty node.
    fn distinct(&mut self, distinct: &[Node]) {
        for node in distinct.iter().filter(|node| node.node.is_some()) {
            self.expression(node);
        }
    }

    fn locking(&mut self, clauses: &[Node]) {
        for clause in clauses {
            match &clause.node {
                // What it locks stands in FROM.
                Some(NodeEnum::LockingClause(LockingClause {
                    locked_rels: _,
                    strength: _,
                    wait_policy: _,
                })) => self.raise(Rung::Write, "it locks rows"),
                _ => self.unknown("locks something"),
            }
        }
    }

    pub(super) fn into(&mut self, into: Option<&IntoClause>) {
        let Some(into) = into else { return };
        let IntoClause {
            rel,
            col_names: _,
            access_method: _,
            // Storage parameters: names and constants.
            options: _,
            on_commit: _,
            table_space_name: _,
            view_query: _,
            skip_data: _,
        } = into;
        self.raise(Rung::Destructive, "it makes a table");
        self.relation(rel.as_ref(), Access::Write);
    }

    /// The names stay in scope: who calls this forgets them. Each query sees those before it, or,
    /// with `RECURSIVE`, all of them.
    pub(super) fn with(&mut self, with: Option<&WithClause>) {
        let Some(WithClause { ctes, recursive, location: _ }) = with else { return };
        if *recursive {
            for node in ctes {
                if let Some(NodeEnum::CommonTableExpr(named)) = &node.node {
                    self.scope.name_query(names::cut(&named.ctename));
                }
            }
        }
        for node in ctes {
            match &node.node {
                Some(NodeEnum::CommonTableExpr(named)) => self.named_query(named, *recursive),
                _ => self.unknown("names a query"),
            }
        }
    }

    fn named_query(&mut self, named: &CommonTableExpr, recursive: bool) {
        let CommonTableExpr {
            ctename,
            aliascolnames: _,
            ctematerialized: _,
            ctequery,
            search_clause,
            cycle_clause,
            location: _,
            cterecursive: _,
            cterefcount: _,
            // The analyser fills these in.
            ctecolnames: _,
            ctecoltypes: _,
            ctecoltypmods: _,
            ctecolcollations: _,
        } = named;
        self.query(ctequery.as_deref());
        if let Some(search) = search_clause {
            let CteSearchClause {
                search_col_list: _,
                search_breadth_first: _,
                search_seq_column: _,
                location: _,
            } = search;
        }
        if let Some(cycle) = cycle_clause {
            let CteCycleClause {
                cycle_col_list: _,
                cycle_mark_column: _,
                cycle_mark_value,
                cycle_mark_default,
                cycle_path_column: _,
                location: _,
                cycle_mark_type: _,
                cycle_mark_typmod: _,
                cycle_mark_collation: _,
                cycle_mark_neop: _,
            } = &**cycle;
            self.maybe(cycle_mark_value.as_deref());
            self.maybe(cycle_mark_default.as_deref());
        }
        if !recursive {
            self.scope.name_query(names::cut(ctename));
        }
    }
}
