//! Statements that change what there is, or who may do what. All are destructive at least; they are
//! looked through for what they touch and for what their parts would call.

use chaperone_model::{Access, QualifiedName, Relation};
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        AlterTableStmt, CreateFunctionStmt, CreateTableAsStmt, DropStmt, GrantStmt,
        GrantTargetType, ObjectType, PublicationObjSpec, RangeVar, RuleStmt,
    },
};

use super::{kinds, names, scope::Item, utility::string, walk::Walk};

impl Walk {
    pub(super) fn definition(&mut self, statement: &NodeEnum) -> String {
        self.statement.makes_code |= kinds::makes_code(statement);
        if let Some((kind, rung)) = kinds::plain(statement) {
            self.defines();
            self.raise(rung, "it reaches beyond the database, or lets others do so");
            if let NodeEnum::DropSubscriptionStmt(drop) = statement {
                self.behavior(drop.behavior);
            }
            return kind.into();
        }
        self.defines();
        let kind = match statement {
            NodeEnum::CreateTableAsStmt(create) => self.create_table_as(create),
            NodeEnum::CreateStmt(create) => {
                self.create_table(create);
                "CREATE TABLE"
            }
            NodeEnum::CreateForeignTableStmt(create) => {
                if let Some(base) = &create.base_stmt {
                    self.create_table(base);
                }
                "CREATE FOREIGN TABLE"
            }
            NodeEnum::AlterTableStmt(alter) => return self.alter_table(alter),
            NodeEnum::DropStmt(drop) => return self.drop(drop),
            NodeEnum::TruncateStmt(truncate) => {
                self.changes_all(&truncate.relations);
                self.behavior(truncate.behavior);
                self.statement.reason = "it removes all rows".into();
                "TRUNCATE TABLE"
            }
            NodeEnum::ViewStmt(view) => {
                self.relation(view.view.as_ref(), Access::Write);
                self.query(view.query.as_deref());
                "CREATE VIEW"
            }
            NodeEnum::RefreshMatViewStmt(refresh) => {
                self.relation(refresh.relation.as_ref(), Access::Write);
                self.statement.opaque = true;
                "REFRESH MATERIALIZED VIEW"
            }
            NodeEnum::IndexStmt(index) => {
                self.index(index);
                "CREATE INDEX"
            }
            NodeEnum::ReindexStmt(reindex) => {
                self.relation(reindex.relation.as_ref(), Access::Write);
                "REINDEX"
            }
            NodeEnum::ClusterStmt(cluster) => {
                self.relation(cluster.relation.as_ref(), Access::Write);
                "CLUSTER"
            }
            NodeEnum::CreateSeqStmt(create) => {
                self.relation(create.sequence.as_ref(), Access::Write);
                "CREATE SEQUENCE"
            }
            NodeEnum::AlterSeqStmt(alter) => {
                self.relation(alter.sequence.as_ref(), Access::Write);
                "ALTER SEQUENCE"
            }
            NodeEnum::CreateStatsStmt(create) => {
                self.sources(&create.relations);
                self.loose(&create.exprs);
                "CREATE STATISTICS"
            }
            NodeEnum::CreateSchemaStmt(create) => {
                for element in &create.schema_elts {
                    self.statement(Some(element));
                }
                "CREATE SCHEMA"
            }
            NodeEnum::CreateFunctionStmt(create) => self.create_function(create),
            NodeEnum::CreateTrigStmt(create) => {
                self.within(create.relation.as_ref(), Access::Write, |walk| {
                    walk.maybe(create.when_clause.as_deref());
                });
                self.names_function(&create.funcname);
                "CREATE TRIGGER"
            }
            NodeEnum::RuleStmt(rule) => {
                self.rule(rule);
                "CREATE RULE"
            }
            NodeEnum::CreatePolicyStmt(create) => {
                self.within(create.table.as_ref(), Access::Write, |walk| {
                    walk.maybe(create.qual.as_deref());
                    walk.maybe(create.with_check.as_deref());
                });
                "CREATE POLICY"
            }
            NodeEnum::AlterPolicyStmt(alter) => {
                self.within(alter.table.as_ref(), Access::Write, |walk| {
                    walk.maybe(alter.qual.as_deref());
                    walk.maybe(alter.with_check.as_deref());
                });
                "ALTER POLICY"
            }
            NodeEnum::CreateDomainStmt(create) => {
                self.constraints(&create.constraints);
                "CREATE DOMAIN"
            }
            NodeEnum::AlterDomainStmt(alter) => {
                self.behavior(alter.behavior);
                self.part(alter.def.as_deref());
                "ALTER DOMAIN"
            }
            NodeEnum::CreatePublicationStmt(create) => {
                self.publication(&create.pubobjects);
                "CREATE PUBLICATION"
            }
            NodeEnum::AlterPublicationStmt(alter) => {
                self.publication(&alter.pubobjects);
                "ALTER PUBLICATION"
            }
            NodeEnum::GrantStmt(grant) => self.grant(grant),
            NodeEnum::DropOwnedStmt(drop) => {
                self.behavior(drop.behavior);
                "DROP OWNED"
            }
            NodeEnum::CommentStmt(comment) => {
                self.object(comment.objtype, comment.object.as_deref());
                "COMMENT"
            }
            NodeEnum::SecLabelStmt(label) => {
                self.object(label.objtype, label.object.as_deref());
                "SECURITY LABEL"
            }
            NodeEnum::AlterTableMoveAllStmt(alter) => {
                return format!("ALTER {}", kinds::object(alter.objtype));
            }
            NodeEnum::DefineStmt(define) => {
                return format!("CREATE {}", kinds::object(define.kind));
            }
            NodeEnum::RenameStmt(rename) => {
                self.relation(rename.relation.as_ref(), Access::Write);
                self.behavior(rename.behavior);
                if rename.rename_type == ObjectType::ObjectSchema as i32 {
                    let both = (names::cut(&rename.subname), names::cut(&rename.newname));
                    self.statement.renames = Some(both);
                }
                let column = [ObjectType::ObjectColumn as i32, ObjectType::ObjectAttribute as i32]
                    .contains(&rename.rename_type);
                let kind = if column { rename.relation_type } else { rename.rename_type };
                return format!("ALTER {}", kinds::object(kind));
            }
            NodeEnum::AlterObjectSchemaStmt(alter) => {
                self.relation(alter.relation.as_ref(), Access::Write);
                return format!("ALTER {}", kinds::object(alter.object_type));
            }
            NodeEnum::AlterObjectDependsStmt(alter) => {
                self.relation(alter.relation.as_ref(), Access::Write);
                return format!("ALTER {}", kinds::object(alter.object_type));
            }
            NodeEnum::AlterOwnerStmt(alter) => {
                self.relation(alter.relation.as_ref(), Access::Write);
                return format!("ALTER {}", kinds::object(alter.object_type));
            }
            _ => {
                self.unknown("is a statement");
                "UNKNOWN"
            }
        };
        kind.into()
    }

    fn create_table_as(&mut self, create: &CreateTableAsStmt) -> &'static str {
        let CreateTableAsStmt { query, into, objtype, is_select_into, if_not_exists: _ } = create;
        match query.as_deref().and_then(|query| query.node.as_ref()) {
            Some(NodeEnum::ExecuteStmt(execute)) => self.execute(execute),
            _ => self.query(query.as_deref()),
        }
        self.into(into.as_deref());
        if *is_select_into {
            "SELECT INTO"
        } else if *objtype == ObjectType::ObjectMatview as i32 {
            "CREATE MATERIALIZED VIEW"
        } else {
            "CREATE TABLE AS"
        }
    }

    fn alter_table(&mut self, alter: &AlterTableStmt) -> String {
        let AlterTableStmt { relation, cmds, objtype, missing_ok: _ } = alter;
        self.within(relation.as_ref(), Access::Write, |walk| {
            for node in cmds {
                if let Some(NodeEnum::AlterTableCmd(command)) = &node.node {
                    walk.alter_command(command);
                }
            }
        });
        format!("ALTER {}", kinds::object(*objtype))
    }

    fn drop(&mut self, drop: &DropStmt) -> String {
        let DropStmt { objects, remove_type, behavior, missing_ok: _, concurrent: _ } = drop;
        self.behavior(*behavior);
        self.statement.reason = "it drops something".into();
        for node in objects {
            self.object(*remove_type, Some(node));
        }
        format!("DROP {}", kinds::object(*remove_type))
    }

    /// The relation of an object, where it is one or is of one.
    fn object(&mut self, kind: i32, node: Option<&Node>) {
        let Some(NodeEnum::List(list)) = node.and_then(|node| node.node.as_ref()) else { return };
        let parts = names::parts(&list.items);
        let parts = match ObjectType::try_from(kind) {
            Ok(
                ObjectType::ObjectTable
                | ObjectType::ObjectView
                | ObjectType::ObjectMatview
                | ObjectType::ObjectForeignTable
                | ObjectType::ObjectSequence
                | ObjectType::ObjectIndex,
            ) => parts.as_slice(),
            // The last is the thing's own name.
            Ok(
                ObjectType::ObjectTrigger
                | ObjectType::ObjectRule
                | ObjectType::ObjectPolicy
                | ObjectType::ObjectTabconstraint
                | ObjectType::ObjectColumn,
            ) => parts.split_last().map(|(_, relation)| relation).unwrap_or_default(),
            _ => return,
        };
        if let Some(name) = names::qualified(parts) {
            self.statement.relations.push(Relation { name, access: Access::Write });
        }
    }

    fn grant(&mut self, grant: &GrantStmt) -> &'static str {
        let GrantStmt {
            is_grant,
            targtype,
            objtype,
            objects,
            privileges: _,
            grantees: _,
            grant_option: _,
            grantor: _,
            behavior,
        } = grant;
        let relations = [ObjectType::ObjectTable as i32, ObjectType::ObjectSequence as i32];
        if *targtype == GrantTargetType::AclTargetObject as i32 && relations.contains(objtype) {
            self.changes_all(objects);
        }
        self.behavior(*behavior);
        if *is_grant { "GRANT" } else { "REVOKE" }
    }

    fn create_function(&mut self, create: &CreateFunctionStmt) -> &'static str {
        let CreateFunctionStmt {
            is_procedure,
            replace: _,
            funcname: _,
            parameters,
            return_type: _,
            options,
            sql_body,
        } = create;
        for parameter in parameters {
            if let Some(NodeEnum::FunctionParameter(parameter)) = &parameter.node {
                self.maybe(parameter.defexpr.as_deref());
            }
        }
        for option in options {
            if let Some(NodeEnum::DefElem(option)) = &option.node
                && option.defname == "language"
            {
                self.language(string(option));
            }
        }
        self.part(sql_body.as_deref());
        if *is_procedure { "CREATE PROCEDURE" } else { "CREATE FUNCTION" }
    }

    fn rule(&mut self, rule: &RuleStmt) {
        let RuleStmt {
            relation,
            rulename: _,
            where_clause,
            event: _,
            instead: _,
            actions,
            replace: _,
        } = rule;
        self.within(relation.as_ref(), Access::Write, |walk| {
            for name in ["old", "new"] {
                walk.scope.add(Item {
                    name: name.into(),
                    relation: relation.as_ref().map(names::relation),
                });
            }
            walk.maybe(where_clause.as_deref());
            for action in actions {
                walk.part(Some(action));
            }
        });
    }

    fn publication(&mut self, objects: &[Node]) {
        for node in objects {
            if let Some(NodeEnum::PublicationObjSpec(object)) = &node.node {
                let PublicationObjSpec { pubobjtype: _, name: _, pubtable, location: _ } =
                    &**object;
                if let Some(table) = pubtable {
                    self.within(table.relation.as_ref(), Access::Read, |walk| {
                        walk.maybe(table.where_clause.as_deref());
                    });
                }
            }
        }
    }

    fn names_function(&mut self, name: &[Node]) {
        if let Some(function) = names::qualified(&names::parts(name)) {
            self.statement.functions.push(function);
        }
    }

    /// Relations that are changed.
    pub(super) fn changes_all(&mut self, relations: &[Node]) {
        for node in relations {
            if let Some(NodeEnum::RangeVar(range)) = &node.node {
                self.relation(Some(range), Access::Write);
            }
        }
    }

    /// Looks through what refers to the columns of one relation.
    pub(super) fn within(
        &mut self,
        range: Option<&RangeVar>,
        access: Access,
        look: impl FnOnce(&mut Self),
    ) {
        self.relation(range, access);
        self.scope.open();
        if let Some(range) = range {
            let relation: Option<QualifiedName> = Some(names::relation(range));
            self.scope.add(Item { name: names::alias(range), relation });
        }
        look(self);
        self.scope.close();
    }
}
