//! The parts of definitions: columns, constraints, indexes, bodies.

use chaperone_model::Access;
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        AlterTableCmd, ColumnDef, Constraint, CreateStmt, IndexStmt, PartitionBoundSpec,
        PartitionCmd, PartitionElem, PartitionRangeDatum, PartitionSpec, ReturnStmt, StatsElem,
        TableLikeClause,
    },
};

use super::walk::Walk;

impl Walk {
    pub(super) fn create_table(&mut self, create: &CreateStmt) {
        let CreateStmt {
            relation,
            table_elts,
            inh_relations,
            partbound,
            partspec,
            of_typename: _,
            constraints,
            nnconstraints,
            // Names and constants.
            options: _,
            oncommit: _,
            tablespacename: _,
            access_method: _,
            if_not_exists: _,
        } = create;
        self.within(relation.as_ref(), Access::Write, |walk| {
            // A partition changes what its table holds.
            walk.changes_all(inh_relations);
            for element in table_elts {
                walk.part(Some(element));
            }
            walk.constraints(constraints);
            walk.constraints(nnconstraints);
            walk.partition_bound(partbound.as_ref());
            if let Some(PartitionSpec { strategy: _, part_params, location: _ }) = partspec {
                for node in part_params {
                    if let Some(NodeEnum::PartitionElem(element)) = &node.node {
                        let PartitionElem { name: _, expr, collation: _, opclass: _, location: _ } =
                            &**element;
                        walk.maybe(expr.as_deref());
                    }
                }
            }
        });
    }

    /// A part of a definition. What is no part that holds an expression is passed over: the statement
    /// is destructive whatever it is.
    pub(super) fn part(&mut self, node: Option<&Node>) {
        match node.and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::ColumnDef(column)) => self.column_definition(column),
            Some(NodeEnum::Constraint(constraint)) => self.constraint(constraint),
            Some(NodeEnum::TableLikeClause(TableLikeClause {
                relation,
                options: _,
                relation_oid: _,
            })) => {
                self.relation(relation.as_ref(), Access::Read);
            }
            Some(NodeEnum::PartitionCmd(PartitionCmd { name, bound, concurrent: _ })) => {
                self.relation(name.as_ref(), Access::Write);
                self.partition_bound(bound.as_ref());
            }
            Some(NodeEnum::List(list)) => {
                for node in &list.items {
                    self.part(Some(node));
                }
            }
            Some(NodeEnum::ReturnStmt(result)) => {
                let ReturnStmt { returnval } = &**result;
                self.maybe(returnval.as_deref());
            }
            Some(
                NodeEnum::SelectStmt(_)
                | NodeEnum::InsertStmt(_)
                | NodeEnum::UpdateStmt(_)
                | NodeEnum::DeleteStmt(_)
                | NodeEnum::MergeStmt(_),
            ) => self.query(node),
            Some(
                NodeEnum::RangeVar(_)
                | NodeEnum::String(_)
                | NodeEnum::DefElem(_)
                | NodeEnum::RoleSpec(_)
                | NodeEnum::ReplicaIdentityStmt(_)
                | NodeEnum::AtalterConstraint(_)
                | NodeEnum::NotifyStmt(_)
                | NodeEnum::TypeName(_),
            )
            | None => {}
            Some(_) => self.maybe(node),
        }
    }

    pub(super) fn column_definitions(&mut self, nodes: &[Node]) {
        for node in nodes {
            match &node.node {
                Some(NodeEnum::ColumnDef(column)) => self.column_definition(column),
                _ => self.unknown("makes a column"),
            }
        }
    }

    fn column_definition(&mut self, column: &ColumnDef) {
        let ColumnDef {
            colname: _,
            type_name,
            compression: _,
            inhcount: _,
            is_local: _,
            is_not_null: _,
            is_from_type: _,
            storage: _,
            storage_name: _,
            raw_default,
            cooked_default,
            identity: _,
            identity_sequence: _,
            generated: _,
            coll_clause,
            coll_oid: _,
            constraints,
            fdwoptions: _,
            location: _,
        } = column;
        self.type_name(type_name.as_ref());
        self.maybe(raw_default.as_deref());
        self.maybe(cooked_default.as_deref());
        if let Some(collate) = coll_clause {
            self.collate(collate);
        }
        self.constraints(constraints);
    }

    pub(super) fn constraints(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.part(Some(node));
        }
    }

    fn constraint(&mut self, constraint: &Constraint) {
        let Constraint { raw_expr, exclusions, where_clause, pktable, .. } = constraint;
        self.maybe(raw_expr.as_deref());
        self.loose(exclusions);
        self.maybe(where_clause.as_deref());
        self.relation(pktable.as_ref(), Access::Read);
    }

    pub(super) fn index(&mut self, index: &IndexStmt) {
        let IndexStmt { relation, index_params, index_including_params, where_clause, .. } = index;
        self.within(relation.as_ref(), Access::Write, |walk| {
            walk.expressions(index_params);
            walk.expressions(index_including_params);
            walk.maybe(where_clause.as_deref());
        });
    }

    pub(super) fn alter_command(&mut self, command: &AlterTableCmd) {
        let AlterTableCmd {
            subtype: _,
            name,
            num: _,
            newowner: _,
            def,
            behavior,
            missing_ok: _,
            recurse: _,
        } = command;
        self.behavior(*behavior);
        if let Some(NodeEnum::RangeVar(parent)) = def.as_deref().and_then(|def| def.node.as_ref()) {
            self.relation(Some(parent), Access::Write);
        }
        if !name.is_empty() && def.as_deref().is_none_or(is_of_column) {
            let relation = self.scope.only().cloned();
            self.column(relation, name, Access::Write);
        }
        self.part(def.as_deref());
    }

    fn partition_bound(&mut self, bound: Option<&PartitionBoundSpec>) {
        let Some(bound) = bound else { return };
        let PartitionBoundSpec {
            strategy: _,
            is_default: _,
            modulus: _,
            remainder: _,
            listdatums,
            lowerdatums,
            upperdatums,
            location: _,
        } = bound;
        self.loose(listdatums);
        self.loose(lowerdatums);
        self.loose(upperdatums);
    }

    /// Expressions, perhaps wrapped in something.
    pub(super) fn loose(&mut self, nodes: &[Node]) {
        for node in nodes {
            match &node.node {
                Some(NodeEnum::PartitionRangeDatum(datum)) => {
                    let PartitionRangeDatum { kind: _, value, location: _ } = &**datum;
                    self.maybe(value.as_deref());
                }
                Some(NodeEnum::StatsElem(element)) => {
                    let StatsElem { name: _, expr } = &**element;
                    self.maybe(expr.as_deref());
                }
                Some(NodeEnum::List(list)) => self.loose(&list.items),
                Some(_) => self.expression(node),
                None => {}
            }
        }
    }
}

/// Whether what a command sets is of the column that it names.
fn is_of_column(node: &Node) -> bool {
    matches!(node.node, Some(NodeEnum::ColumnDef(_)))
}
