//! Statements that are no queries and define nothing: sessions, transactions, prepared statements and
//! cursors, copies, maintenance, and code.

use chaperone_model::{Access, NameUse, Rung};
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        CallStmt, ClosePortalStmt, ConstraintsSetStmt, CopyStmt, DeallocateStmt, DeclareCursorStmt,
        DefElem, DiscardMode, DoStmt, ExecuteStmt, ExplainStmt, FetchStmt, LockStmt, NotifyStmt,
        PrepareStmt, TransactionStmt, TransactionStmtKind, VacuumRelation, VacuumStmt, a_const,
    },
};

use super::{names, walk::Walk};

impl Walk {
    pub(super) fn utility(&mut self, statement: &NodeEnum) -> String {
        let kind = match statement {
            NodeEnum::TransactionStmt(transaction) => self.transaction(transaction),
            NodeEnum::VariableSetStmt(set) => self.set(set),
            NodeEnum::VariableShowStmt(_) => "SHOW",
            NodeEnum::ConstraintsSetStmt(ConstraintsSetStmt { constraints: _, deferred: _ }) => {
                // When they are checked, and not whether.
                "SET CONSTRAINTS"
            }
            NodeEnum::DiscardStmt(discard) => self.discard(discard.target),
            NodeEnum::ListenStmt(_) => "LISTEN",
            NodeEnum::UnlistenStmt(_) => "UNLISTEN",
            NodeEnum::NotifyStmt(NotifyStmt {
                conditionname: _,
                payload: _,
                payload_location: _,
            }) => {
                self.raise(Rung::Write, "it notifies other sessions");
                "NOTIFY"
            }
            NodeEnum::PrepareStmt(prepare) => {
                let PrepareStmt { name, argtypes: _, query } = &**prepare;
                self.query(query.as_deref());
                self.statement.name = Some(NameUse::Prepares(names::cut(name)));
                "PREPARE"
            }
            NodeEnum::ExecuteStmt(execute) => {
                self.execute(execute);
                "EXECUTE"
            }
            NodeEnum::DeallocateStmt(DeallocateStmt { name: _, isall, location: _ }) => {
                if *isall {
                    "DEALLOCATE ALL"
                } else {
                    "DEALLOCATE"
                }
            }
            NodeEnum::DeclareCursorStmt(declare) => {
                let DeclareCursorStmt { portalname, options: _, query } = &**declare;
                self.query(query.as_deref());
                self.statement.name = Some(NameUse::Declares(names::cut(portalname)));
                "DECLARE CURSOR"
            }
            NodeEnum::FetchStmt(FetchStmt { direction: _, how_many: _, portalname, ismove }) => {
                self.statement.name = Some(NameUse::Fetches(names::cut(portalname)));
                self.statement.reason = "it is as its cursor".into();
                if *ismove { "MOVE" } else { "FETCH" }
            }
            NodeEnum::ClosePortalStmt(ClosePortalStmt { portalname }) => {
                if portalname.is_empty() {
                    "CLOSE CURSOR ALL"
                } else {
                    "CLOSE CURSOR"
                }
            }
            NodeEnum::ExplainStmt(explain) => {
                self.explain(explain);
                "EXPLAIN"
            }
            NodeEnum::CopyStmt(copy) => {
                self.copy(copy);
                "COPY"
            }
            NodeEnum::VacuumStmt(vacuum) => self.vacuum(vacuum),
            NodeEnum::LockStmt(LockStmt { relations, mode: _, nowait: _ }) => {
                self.changes_all(relations);
                self.raise(Rung::Destructive, "it locks whole tables");
                "LOCK TABLE"
            }
            NodeEnum::CheckPointStmt(_) => {
                self.raise(
                    Rung::Destructive,
                    "it makes the server write all its memory to the disk",
                );
                "CHECKPOINT"
            }
            NodeEnum::LoadStmt(_) => {
                self.raise(Rung::Forbidden, "it loads code into the server");
                "LOAD"
            }
            NodeEnum::DoStmt(DoStmt { args }) => {
                self.do_block(args);
                "DO"
            }
            NodeEnum::CallStmt(call) => {
                let CallStmt { funccall, funcexpr: _, outargs: _ } = &**call;
                if let Some(call) = funccall {
                    self.function_call(call);
                }
                self.statement.opaque = true;
                self.raise(Rung::Destructive, "it calls a procedure");
                "CALL"
            }
            statement => return self.definition(statement),
        };
        kind.into()
    }

    fn transaction(&mut self, transaction: &TransactionStmt) -> &'static str {
        let TransactionStmt { kind, options: _, savepoint_name: _, gid: _, chain: _, location: _ } =
            transaction;
        let two_phases = "it leaves a transaction to be ended by another session";
        match TransactionStmtKind::try_from(*kind) {
            Ok(TransactionStmtKind::TransStmtBegin) => "BEGIN",
            Ok(TransactionStmtKind::TransStmtStart) => "START TRANSACTION",
            Ok(TransactionStmtKind::TransStmtCommit) => "COMMIT",
            Ok(
                TransactionStmtKind::TransStmtRollback | TransactionStmtKind::TransStmtRollbackTo,
            ) => "ROLLBACK",
            Ok(TransactionStmtKind::TransStmtSavepoint) => "SAVEPOINT",
            Ok(TransactionStmtKind::TransStmtRelease) => "RELEASE",
            Ok(TransactionStmtKind::TransStmtPrepare) => {
                self.raise(Rung::Destructive, two_phases);
                "PREPARE TRANSACTION"
            }
            Ok(TransactionStmtKind::TransStmtCommitPrepared) => {
                self.raise(Rung::Destructive, "it commits another session's transaction");
                "COMMIT PREPARED"
            }
            Ok(TransactionStmtKind::TransStmtRollbackPrepared) => {
                self.raise(Rung::Destructive, "it undoes another session's transaction");
                "ROLLBACK PREPARED"
            }
            Ok(TransactionStmtKind::Undefined) | Err(_) => {
                self.unknown("is a statement");
                "UNKNOWN"
            }
        }
    }

    fn discard(&mut self, target: i32) -> &'static str {
        let temporary = "it drops the session's temporary tables";
        match DiscardMode::try_from(target) {
            Ok(DiscardMode::DiscardPlans) => "DISCARD PLANS",
            Ok(DiscardMode::DiscardSequences) => "DISCARD SEQUENCES",
            Ok(DiscardMode::DiscardTemp) => {
                self.raise(Rung::Write, temporary);
                "DISCARD TEMP"
            }
            // As pools send it between two clients.
            Ok(DiscardMode::DiscardAll) => {
                self.raise(Rung::Write, temporary);
                "DISCARD ALL"
            }
            Ok(DiscardMode::Undefined) | Err(_) => {
                self.unknown("is a statement");
                "UNKNOWN"
            }
        }
    }

    pub(super) fn execute(&mut self, execute: &ExecuteStmt) {
        let ExecuteStmt { name, params } = execute;
        self.expressions(params);
        self.statement.name = Some(NameUse::Executes(names::cut(name)));
        if self.statement.rung == Rung::Read {
            self.statement.reason = "it is as what was prepared".into();
        }
    }

    /// Without ANALYZE it is planned alone, which runs functions to learn their values.
    fn explain(&mut self, explain: &ExplainStmt) {
        let ExplainStmt { query, options } = explain;
        // Of several the last holds. To take any for it is strict, and no more to the point.
        let executes = options.iter().any(|option| match &option.node {
            Some(NodeEnum::DefElem(option)) => {
                option.defname.eq_ignore_ascii_case("analyze") && is_on(option)
            }
            _ => true,
        });
        self.statement(query.as_deref());
        // The cursor is not made.
        if matches!(self.statement.name, Some(NameUse::Declares(_))) {
            self.statement.name = None;
        }
        if !executes {
            self.is_planned();
        }
    }

    fn copy(&mut self, copy: &CopyStmt) {
        let CopyStmt {
            relation,
            query,
            attlist,
            is_from,
            is_program,
            filename,
            // Names and constants.
            options: _,
            where_clause,
        } = copy;
        if query.is_some() {
            self.query(query.as_deref());
        }
        self.scope.open();
        if let Some(range) = relation {
            let access = if *is_from { Access::Write } else { Access::Read };
            let name = names::relation(range);
            self.relation(Some(range), access);
            if *is_from && names::is_of_the_system(&name) {
                self.raise(
                    Rung::Destructive,
                    format!("it changes {name}, which is the server's own"),
                );
            }
            if attlist.is_empty() {
                self.column(Some(name.clone()), "*", access);
            }
            for column in names::parts(attlist) {
                self.column(Some(name.clone()), column, access);
            }
            let alias = names::alias(range);
            self.scope.add(super::scope::Item { name: alias, relation: Some(name) });
        }
        self.maybe(where_clause.as_deref());
        self.scope.close();
        if *is_program {
            self.raise(Rung::Forbidden, "it runs a program on the server");
        } else if !filename.is_empty() {
            self.raise(Rung::Forbidden, "it reaches a file of the server");
        } else if *is_from {
            self.raise(Rung::Write, "it adds rows");
        }
    }

    fn vacuum(&mut self, vacuum: &VacuumStmt) -> &'static str {
        let VacuumStmt { options, rels, is_vacuumcmd } = vacuum;
        for node in rels {
            match &node.node {
                Some(NodeEnum::VacuumRelation(VacuumRelation { relation, oid: _, va_cols: _ })) => {
                    self.relation(relation.as_ref(), Access::Write);
                }
                _ => self.unknown("tends something"),
            }
        }
        let is_full = options.iter().any(|option| match &option.node {
            Some(NodeEnum::DefElem(option)) => {
                option.defname.eq_ignore_ascii_case("full") && is_on(option)
            }
            _ => true,
        });
        if is_full {
            self.raise(Rung::Destructive, "it writes tables anew and locks them meanwhile");
        }
        self.raise(Rung::Write, "it tends tables");
        if *is_vacuumcmd { "VACUUM" } else { "ANALYZE" }
    }

    fn do_block(&mut self, args: &[Node]) {
        self.statement.opaque = true;
        self.raise(Rung::Destructive, "it runs a block of code");
        for arg in args {
            if let Some(NodeEnum::DefElem(option)) = &arg.node
                && option.defname == "language"
            {
                self.language(string(option));
            }
        }
    }

    /// Code of a language that reaches beyond the database.
    pub(super) fn language(&mut self, language: Option<&str>) {
        let trusted = ["sql", "plpgsql", "plperl", "pltcl", "plv8", "plcoffee", "plls", "pllua"];
        let name = language.unwrap_or_default();
        if !trusted.contains(&name.to_ascii_lowercase().as_str()) {
            self.raise(
                Rung::Forbidden,
                format!("it brings code of the language {name}, which is not trusted"),
            );
        }
    }
}

/// The string of an option.
pub(super) fn string(option: &DefElem) -> Option<&str> {
    names::text(option.arg.as_deref()?)
}

/// Whether an option is on: by itself, or as `defGetBoolean` reads what is said
/// (src/backend/commands/define.c). What the server would not accept counts as on.
pub(super) fn is_on(option: &DefElem) -> bool {
    let Some(arg) = option.arg.as_deref().and_then(|arg| arg.node.as_ref()) else { return true };
    let off = |word: &str| ["false", "off"].iter().any(|off| word.eq_ignore_ascii_case(off));
    match arg {
        NodeEnum::Integer(number) => number.ival != 0,
        NodeEnum::Boolean(boolean) => boolean.boolval,
        NodeEnum::String(word) => !off(&word.sval),
        NodeEnum::AConst(constant) => match &constant.val {
            Some(a_const::Val::Ival(number)) => number.ival != 0,
            Some(a_const::Val::Boolval(boolean)) => boolean.boolval,
            Some(a_const::Val::Sval(word)) => !off(&word.sval),
            _ => true,
        },
        _ => true,
    }
}
