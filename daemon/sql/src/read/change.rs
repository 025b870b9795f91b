//! `INSERT`, `UPDATE`, `DELETE` and `MERGE`.

use chaperone_model::{Access, QualifiedName, Rung};
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        CmdType, DeleteStmt, InferClause, InsertStmt, MergeMatchKind, MergeStmt, MergeWhenClause,
        OnConflictClause, RangeVar, ResTarget, ReturningClause, ReturningOption, UpdateStmt,
    },
};

use super::{names, scope::Item, selective::Condition, walk::Walk};

impl Walk {
    pub(super) fn insert(&mut self, insert: &InsertStmt) {
        let InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = insert;
        self.raise(Rung::Write, "it adds rows");
        let queries = self.scope.queries();
        self.with(with_clause.as_ref());
        if let Some(select) = select_stmt.as_deref() {
            self.query(Some(select));
        }
        let target = self.target(relation.as_ref());
        if cols.is_empty() {
            self.column(target.clone(), "*", Access::Write);
        }
        self.assignments(cols, target.as_ref());
        if let Some(conflict) = on_conflict_clause {
            let OnConflictClause { action: _, infer, target_list, where_clause, location: _ } =
                &**conflict;
            if let Some(infer) = infer {
                let InferClause { index_elems, where_clause, conname: _, location: _ } = &**infer;
                self.expressions(index_elems);
                self.maybe(where_clause.as_deref());
            }
            self.statement.updates |= !target_list.is_empty();
            self.scope.add(Item { name: "excluded".into(), relation: target.clone() });
            self.assignments(target_list, target.as_ref());
            self.maybe(where_clause.as_deref());
        }
        self.returning(returning_clause.as_ref(), target.as_ref());
        self.scope.close();
        self.scope.forget(queries);
    }

    pub(super) fn update(&mut self, update: &UpdateStmt) {
        let UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = update;
        self.statement.updates = true;
        let queries = self.scope.queries();
        self.with(with_clause.as_ref());
        let target = self.target(relation.as_ref());
        self.sources(from_clause);
        let selective = self.is_selective(relation.as_ref(), from_clause, where_clause.as_deref());
        self.bounded(
            selective,
            "it changes rows that it names",
            "it changes rows without saying which",
        );
        self.assignments(target_list, target.as_ref());
        self.maybe(where_clause.as_deref());
        self.returning(returning_clause.as_ref(), target.as_ref());
        self.scope.close();
        self.scope.forget(queries);
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt) {
        let DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } =
            delete;
        self.statement.deletes = true;
        let queries = self.scope.queries();
        self.with(with_clause.as_ref());
        let target = self.target(relation.as_ref());
        self.sources(using_clause);
        let selective = self.is_selective(relation.as_ref(), using_clause, where_clause.as_deref());
        self.bounded(
            selective,
            "it deletes rows that it names",
            "it deletes rows without saying which",
        );
        self.maybe(where_clause.as_deref());
        self.returning(returning_clause.as_ref(), target.as_ref());
        self.scope.close();
        self.scope.forget(queries);
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt) {
        let MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = merge;
        (self.statement.deletes, self.statement.updates) = (true, true);
        let queries = self.scope.queries();
        self.with(with_clause.as_ref());
        let target = self.target(relation.as_ref());
        let source = source_relation.as_deref().map(std::slice::from_ref).unwrap_or_default();
        self.sources(source);
        self.maybe(join_condition.as_deref());

        let joined = self.is_selective(relation.as_ref(), source, join_condition.as_deref());
        let (mut changes, mut selective) = (false, true);
        for node in merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(clause)) = &node.node else {
                self.unknown("holds a part");
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
            self.maybe(condition.as_deref());
            self.assignments(target_list, target.as_ref());
            self.expressions(values);
            if [CmdType::CmdInsert, CmdType::CmdNothing]
                .map(|kind| kind as i32)
                .contains(command_type)
            {
                continue;
            }
            changes = true;
            // The join does not bound the rows that have no match.
            let matched = *match_kind == MergeMatchKind::MergeWhenMatched as i32;
            selective &= (matched && joined)
                || self.is_selective(relation.as_ref(), source, condition.as_deref());
        }
        // What adds rows alone is on the ladder with the others, which name no bound.
        let selective = if changes { selective } else { joined };
        self.bounded(
            selective,
            "it merges rows that it names",
            "it merges rows without saying which",
        );
        let outer = std::mem::replace(&mut self.in_merge, true);
        self.returning(returning_clause.as_ref(), target.as_ref());
        self.in_merge = outer;
        self.scope.close();
        self.scope.forget(queries);
    }

    fn is_selective(
        &mut self,
        target: Option<&RangeVar>,
        from: &[Node],
        condition: Option<&Node>,
    ) -> bool {
        let Self { scope, literals, .. } = self;
        target
            .is_some_and(|target| Condition::new(scope, literals, target, from).selects(condition))
    }

    fn bounded(&mut self, selective: bool, bounded: &str, unbounded: &str) {
        self.selects(selective);
        if selective {
            self.raise(Rung::Write, bounded);
        } else {
            self.raise(Rung::Destructive, unbounded);
        }
    }

    /// Opens the scope of what is changed. No name of `WITH` hides it.
    fn target(&mut self, range: Option<&RangeVar>) -> Option<QualifiedName> {
        self.scope.open();
        let Some(range) = range else {
            self.unknown("changes something");
            return None;
        };
        let relation = names::relation(range);
        self.relation(Some(range), Access::Write);
        // Rules there make other things of it: an update of pg_settings sets settings.
        if names::is_of_the_system(&relation) {
            self.raise(
                Rung::Destructive,
                format!("it changes {relation}, which is the server's own"),
            );
        }
        self.scope.add(Item { name: names::alias(range), relation: Some(relation.clone()) });
        Some(relation)
    }

    /// Columns that are set, and to what.
    fn assignments(&mut self, targets: &[Node], target: Option<&QualifiedName>) {
        for node in targets {
            let Some(NodeEnum::ResTarget(assignment)) = &node.node else {
                self.unknown("sets something");
                continue;
            };
            let ResTarget { name, indirection, val, location: _ } = &**assignment;
            self.column(target.cloned(), name, Access::Write);
            self.indirection(indirection);
            self.maybe(val.as_deref());
        }
    }

    /// `OLD` and `NEW`, or what they are called, are rows of the target.
    fn returning(&mut self, clause: Option<&ReturningClause>, target: Option<&QualifiedName>) {
        let Some(ReturningClause { options, exprs }) = clause else { return };
        for name in ["old", "new"] {
            if self.scope.find(name).is_none() {
                self.scope.add(Item { name: name.into(), relation: target.cloned() });
            }
        }
        for node in options {
            match &node.node {
                Some(NodeEnum::ReturningOption(ReturningOption {
                    option: _,
                    value,
                    location: _,
                })) => {
                    self.scope.add(Item { name: names::cut(value), relation: target.cloned() });
                }
                _ => self.unknown("returns something"),
            }
        }
        self.expressions(exprs);
    }
}
