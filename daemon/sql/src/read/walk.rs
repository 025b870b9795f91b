//! Everything below a statement: each node type that is listed is looked through whole, and any
//! other makes the statement destructive. Here the queries, in `expression` what they are made of.

use chaperone_model::{Access, Column, QualifiedName, Relation, Rung, Statement};
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        CmdType, CommonTableExpr, CteCycleClause, DeleteStmt, InsertStmt, IntoClause, MergeStmt,
        MergeWhenClause, OnConflictAction, OnConflictClause, RangeVar, ReturningClause, SelectStmt,
        UpdateStmt, WithClause,
    },
};

use super::{
    bounds::{Bounds, Of, text},
    functions,
};

mod expression;

/// One statement, as far as it has been looked through.
pub(super) struct Walk {
    pub(super) statement: Statement,
    /// The names that `WITH` gave to queries, where the walk is.
    queries: Vec<String>,
    /// What stands in `FROM`, level by level: the name by which columns refer to it, and the relation
    /// where it is one.
    levels: Vec<Vec<(String, Option<QualifiedName>)>>,
    /// A literal's value mattered.
    pub(super) literal: bool,
}

impl Walk {
    pub(super) fn new(kind: impl Into<String>) -> Self {
        Self {
            statement: Statement::new(kind, Rung::Read, "it only reads"),
            queries: Vec::new(),
            levels: Vec::new(),
            literal: false,
        }
    }

    pub(super) fn raise(&mut self, rung: Rung, reason: impl Into<String>) {
        if rung > self.statement.rung {
            (self.statement.rung, self.statement.reason) = (rung, reason.into());
        }
    }

    fn unknown(&mut self, what: &str) {
        self.raise(Rung::Destructive, format!("{what} is not known to be harmless"));
        self.statement.opaque = true;
    }

    pub(super) fn touch(&mut self, relation: Option<&RangeVar>, access: Access) {
        let Some(relation) = relation else { return };
        let name = name_of(relation);
        let touched = Relation { name, access };
        if !self.statement.relations.contains(&touched) {
            self.statement.relations.push(touched);
        }
    }

    fn level(&mut self) -> Option<&mut Vec<(String, Option<QualifiedName>)>> {
        self.levels.last_mut()
    }

    /// A statement that can stand within another.
    pub(super) fn query(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::SelectStmt(select) => self.select(select),
            NodeEnum::InsertStmt(insert) => self.insert(insert),
            NodeEnum::UpdateStmt(update) => self.update(update),
            NodeEnum::DeleteStmt(delete) => self.delete(delete),
            NodeEnum::MergeStmt(merge) => self.merge(merge),
            _ => self.unknown("a statement within it"),
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
        let queries = self.queries.len();
        self.with(with_clause.as_ref());
        self.levels.push(Vec::new());
        if let Some(into) = into_clause {
            self.into(into);
        }
        // What columns refer to comes first.
        self.all(from_clause);
        self.distinct(distinct_clause);
        self.all(target_list);
        self.maybe(where_clause.as_deref());
        self.all(group_clause);
        self.maybe(having_clause.as_deref());
        self.all(window_clause);
        self.all(values_lists);
        self.all(sort_clause);
        self.maybe(limit_offset.as_deref());
        self.maybe(limit_count.as_deref());
        if !locking_clause.is_empty() {
            self.raise(Rung::Write, "it locks rows");
        }
        for half in [larg, rarg].into_iter().flatten() {
            self.select(half);
        }
        self.levels.pop();
        self.queries.truncate(queries);
    }

    pub(super) fn into(&mut self, into: &IntoClause) {
        self.raise(Rung::Destructive, "it makes a table");
        self.touch(into.rel.as_ref(), Access::Write);
    }

    fn with(&mut self, with: Option<&WithClause>) {
        let Some(WithClause { ctes, recursive, location: _ }) = with else { return };
        let names = ctes.iter().filter_map(|cte| match &cte.node {
            Some(NodeEnum::CommonTableExpr(cte)) => Some(cte.ctename.clone()),
            _ => None,
        });
        if *recursive {
            self.queries.extend(names);
        }
        for cte in ctes {
            let Some(NodeEnum::CommonTableExpr(cte)) = &cte.node else {
                self.unknown("a query within it");
                continue;
            };
            let CommonTableExpr {
                ctename,
                aliascolnames: _,
                ctematerialized: _,
                ctequery,
                search_clause: _,
                cycle_clause,
                location: _,
                cterecursive: _,
                cterefcount: _,
                ctecolnames: _,
                ctecoltypes: _,
                ctecoltypmods: _,
                ctecolcollations: _,
            } = &**cte;
            // It sees what its statement sees, and none of its columns.
            let levels = std::mem::take(&mut self.levels);
            match ctequery.as_deref().and_then(|query| query.node.as_ref()) {
                Some(query) => self.query(query),
                None => self.unknown("a query within it"),
            }
            self.levels = levels;
            if let Some(cycle) = cycle_clause {
                let CteCycleClause { cycle_mark_value, cycle_mark_default, .. } = &**cycle;
                self.maybe(cycle_mark_value.as_deref());
                self.maybe(cycle_mark_default.as_deref());
            }
            if !recursive {
                self.queries.push(ctename.clone());
            }
        }
    }

    fn insert(&mut self, insert: &InsertStmt) {
        let InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = insert;
        let queries = self.queries.len();
        self.raise(Rung::Write, "it adds rows");
        self.with(with_clause.as_ref());
        self.target(relation.as_ref());
        self.targets(cols);
        if let Some(select) = select_stmt.as_deref().and_then(|node| node.node.as_ref()) {
            // It does not see the target's columns.
            let levels = std::mem::take(&mut self.levels);
            self.query(select);
            self.levels = levels;
        }
        if let Some(conflict) = on_conflict_clause {
            let OnConflictClause { action, infer, target_list, where_clause, location: _ } =
                &**conflict;
            if *action == OnConflictAction::OnconflictUpdate as i32 {
                self.raise(Rung::Write, "it adds or changes rows");
            }
            if let Some(infer) = infer {
                self.all(&infer.index_elems);
                self.maybe(infer.where_clause.as_deref());
            }
            self.targets(target_list);
            self.maybe(where_clause.as_deref());
        }
        self.returning(returning_clause.as_ref());
        self.levels.pop();
        self.queries.truncate(queries);
    }

    fn update(&mut self, update: &UpdateStmt) {
        let UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = update;
        let queries = self.queries.len();
        self.with(with_clause.as_ref());
        let of = of(relation.as_ref(), !from_clause.is_empty());
        let bounded = ("it changes rows", "it changes rows that it does not bound");
        self.bounded(bounded, of.as_ref(), where_clause.as_deref());
        self.target(relation.as_ref());
        self.all(from_clause);
        self.targets(target_list);
        self.maybe(where_clause.as_deref());
        self.returning(returning_clause.as_ref());
        self.levels.pop();
        self.queries.truncate(queries);
    }

    fn delete(&mut self, delete: &DeleteStmt) {
        let DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } =
            delete;
        let queries = self.queries.len();
        self.with(with_clause.as_ref());
        let of = of(relation.as_ref(), !using_clause.is_empty());
        let bounded = ("it removes rows", "it removes rows that it does not bound");
        self.bounded(bounded, of.as_ref(), where_clause.as_deref());
        self.target(relation.as_ref());
        self.all(using_clause);
        self.maybe(where_clause.as_deref());
        self.returning(returning_clause.as_ref());
        self.levels.pop();
        self.queries.truncate(queries);
    }

    fn merge(&mut self, merge: &MergeStmt) {
        let MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = merge;
        let queries = self.queries.len();
        self.with(with_clause.as_ref());
        self.raise(Rung::Write, "it merges rows");
        self.target(relation.as_ref());
        self.maybe(source_relation.as_deref());
        self.maybe(join_condition.as_deref());
        let of = of(relation.as_ref(), true);
        let joined = self.bounds(of.as_ref(), join_condition.as_deref());
        for clause in merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(clause)) = &clause.node else {
                self.unknown("a part of it");
                continue;
            };
            let MergeWhenClause {
                match_kind,
                command_type,
                r#override: _,
                condition,
                target_list,
                values,
            } = &**clause;
            let changes =
                [CmdType::CmdUpdate as i32, CmdType::CmdDelete as i32].contains(command_type);
            if changes {
                // Rows that the source does not match are not bounded by how it is joined.
                let matched =
                    *match_kind == pg_query::protobuf::MergeMatchKind::MergeWhenMatched as i32;
                let selective = matched && joined || self.bounds(of.as_ref(), condition.as_deref());
                self.selective(selective, "it merges rows that it does not bound");
            } else if !joined {
                self.raise(Rung::Destructive, "it merges rows that it does not bound");
            }
            self.maybe(condition.as_deref());
            self.targets(target_list);
            self.all(values);
        }
        self.returning(returning_clause.as_ref());
        self.levels.pop();
        self.queries.truncate(queries);
    }

    fn bounded(
        &mut self,
        (bounded, unbounded): (&str, &str),
        of: Option<&(String, bool)>,
        condition: Option<&Node>,
    ) {
        self.raise(Rung::Write, bounded);
        let selective = self.bounds(of, condition);
        self.selective(selective, unbounded);
    }

    fn bounds(&mut self, of: Option<&(String, bool)>, condition: Option<&Node>) -> bool {
        let Some((name, others)) = of else { return false };
        let mut bounds = Bounds::of(Some(Of { name, others: *others }));
        let bounded = bounds.bounds(condition);
        self.literal |= bounds.literal;
        bounded
    }

    fn selective(&mut self, selective: bool, unbounded: &str) {
        let all = self.statement.selective.unwrap_or(true) && selective;
        self.statement.selective = Some(all);
        if !selective {
            self.raise(Rung::Destructive, unbounded);
        }
    }

    /// The relation that rows are changed of; a query of `WITH` cannot be one. Opens a level.
    fn target(&mut self, relation: Option<&RangeVar>) {
        self.touch(relation, Access::Write);
        let Some(relation) = relation else { return self.levels.push(Vec::new()) };
        let name = name_of(relation);
        let system = ["pg_catalog", "information_schema", "pg_toast"];
        let in_system = name.schema.as_deref().is_some_and(|schema| system.contains(&schema));
        if in_system || name.schema.is_none() && name.name.starts_with("pg_") {
            self.raise(Rung::Destructive, "it changes the system's own catalog");
        }
        self.levels.push(vec![(alias(relation), Some(name))]);
    }

    fn returning(&mut self, returning: Option<&ReturningClause>) {
        let Some(ReturningClause { options: _, exprs }) = returning else { return };
        self.all(exprs);
    }

    /// `DISTINCT` without `ON` is a list of one empty node.
    fn distinct(&mut self, nodes: &[Node]) {
        for node in nodes.iter().filter(|node| node.node.is_some()) {
            self.node(node);
        }
    }

    /// Columns that are given values.
    fn targets(&mut self, targets: &[Node]) {
        for target in targets {
            let Some(NodeEnum::ResTarget(target)) = &target.node else {
                self.unknown("a part of it");
                continue;
            };
            if !target.name.is_empty() {
                let of =
                    self.levels.last().and_then(|level| level.first()).and_then(|(_, r)| r.clone());
                self.column(of, target.name.clone(), Access::Write);
            }
            self.all(&target.indirection);
            self.maybe(target.val.as_deref());
        }
    }

    pub(super) fn column(&mut self, relation: Option<QualifiedName>, name: String, access: Access) {
        let column = Column { relation, name, access };
        if !self.statement.columns.contains(&column) {
            self.statement.columns.push(column);
        }
    }

    pub(super) fn all(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.node(node);
        }
    }

    pub(super) fn maybe(&mut self, node: Option<&Node>) {
        if let Some(node) = node {
            self.node(node);
        }
    }
}

/// A relation's name. The database's can only be the session's own.
pub(super) fn name_of(relation: &RangeVar) -> QualifiedName {
    let schema = (!relation.schemaname.is_empty()).then(|| cut(&relation.schemaname));
    QualifiedName { schema, name: cut(&relation.relname) }
}

/// By which name a condition speaks of the rows that are changed, and whether of others as well.
fn of(relation: Option<&RangeVar>, others: bool) -> Option<(String, bool)> {
    relation.map(|relation| (alias(relation), others))
}

fn alias(relation: &RangeVar) -> String {
    relation.alias.as_ref().map_or_else(|| cut(&relation.relname), |alias| alias.aliasname.clone())
}

/// As the server cuts names: to 63 bytes, between characters (`truncate_identifier`,
/// src/backend/parser/scansup.c).
pub(super) fn cut(name: &str) -> String {
    let mut end = name.len().min(63);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or(name).to_owned()
}
