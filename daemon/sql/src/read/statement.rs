//! Which kind of statement it is, and on which rung its kind stands.

use chaperone_model::{Access, NameUse, QualifiedName, Reading, Relation, Rung, Statement};
use pg_query::{
    Node, NodeEnum,
    protobuf::{
        CopyStmt, DefElem, DiscardMode, DropBehavior, DropStmt, ExplainStmt, ObjectType,
        ParseResult, TransactionStmtKind, VariableSetKind, VariableSetStmt, a_const::Val,
    },
};

use super::{
    bounds::text,
    walk::{Walk, cut, name_of},
};

/// All statements of a text, and whether a literal's value mattered.
pub(super) fn read(parsed: &ParseResult) -> (Reading, bool) {
    let mut literal = false;
    let mut statements = Vec::new();
    for raw in &parsed.stmts {
        let Some(node) = raw.stmt.as_deref().and_then(|node| node.node.as_ref()) else { continue };
        let (statement, by_literal) = of(node);
        literal |= by_literal;
        statements.push(statement);
    }
    (Reading { statements, disagreement: None }, literal)
}

/// Settings that change how a session shows and plans things, and nothing that anybody relies on.
const SETTINGS: [&str; 40] = [
    "application_name",
    "backslash_quote",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "default_statistics_target",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "extra_float_digits",
    "from_collapse_limit",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "join_collapse_limit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "maintenance_work_mem",
    "plan_cache_mode",
    "random_page_cost",
    "seed",
    "seq_page_cost",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "work_mem",
    "xmloption",
];

fn of(node: &NodeEnum) -> (Statement, bool) {
    let mut walk = Walk::new("");
    statement(node, &mut walk);
    (walk.statement, walk.literal)
}

fn statement(node: &NodeEnum, walk: &mut Walk) {
    let mut is = |kind: &str, rung: Rung, reason: &str| {
        walk.statement.kind = kind.into();
        walk.raise(rung, reason);
    };
    // Utility statements take their details from constants.
    let ddl = "it changes what there is, or who may do what";
    match node {
        NodeEnum::SelectStmt(select) => {
            walk.statement.kind =
                if select.into_clause.is_some() { "SELECT INTO" } else { "SELECT" }.into();
            walk.select(select);
        }
        NodeEnum::InsertStmt(_) => query("INSERT", node, walk),
        NodeEnum::UpdateStmt(_) => query("UPDATE", node, walk),
        NodeEnum::DeleteStmt(_) => query("DELETE", node, walk),
        NodeEnum::MergeStmt(_) => query("MERGE", node, walk),
        NodeEnum::CopyStmt(copy) => copies(copy, walk),
        NodeEnum::ExplainStmt(explain) => explains(explain, walk),
        NodeEnum::PrepareStmt(prepare) => {
            inner(prepare.query.as_deref(), walk);
            walk.all(&prepare.argtypes);
            walk.statement.kind = "PREPARE".into();
            walk.statement.name = Some(NameUse::Prepares(cut(&prepare.name)));
        }
        NodeEnum::ExecuteStmt(execute) => {
            is("EXECUTE", Rung::Read, "");
            walk.all(&execute.params);
            walk.statement.name = Some(NameUse::Executes(cut(&execute.name)));
        }
        NodeEnum::DeclareCursorStmt(declare) => {
            inner(declare.query.as_deref(), walk);
            walk.statement.kind = "DECLARE CURSOR".into();
            walk.statement.name = Some(NameUse::Declares(cut(&declare.portalname)));
        }
        NodeEnum::FetchStmt(fetch) => {
            is(if fetch.ismove { "MOVE" } else { "FETCH" }, Rung::Read, "");
            walk.statement.name = Some(NameUse::Fetches(cut(&fetch.portalname)));
        }
        NodeEnum::TransactionStmt(transaction) => {
            use TransactionStmtKind as Kind;
            match Kind::try_from(transaction.kind) {
                Ok(Kind::TransStmtBegin) => is("BEGIN", Rung::Read, ""),
                Ok(Kind::TransStmtStart) => is("START TRANSACTION", Rung::Read, ""),
                Ok(Kind::TransStmtCommit) => is("COMMIT", Rung::Read, ""),
                Ok(Kind::TransStmtRollback | Kind::TransStmtRollbackTo) => {
                    is("ROLLBACK", Rung::Read, "");
                }
                Ok(Kind::TransStmtSavepoint) => is("SAVEPOINT", Rung::Read, ""),
                Ok(Kind::TransStmtRelease) => is("RELEASE", Rung::Read, ""),
                Ok(Kind::TransStmtPrepare) => two_phase("PREPARE TRANSACTION", walk),
                Ok(Kind::TransStmtCommitPrepared) => two_phase("COMMIT PREPARED", walk),
                Ok(Kind::TransStmtRollbackPrepared) => two_phase("ROLLBACK PREPARED", walk),
                _ => is("unreadable", Rung::Destructive, "it is not known what it does"),
            }
        }
        NodeEnum::VariableSetStmt(set) => sets(set, walk),
        NodeEnum::VariableShowStmt(_) => is("SHOW", Rung::Read, ""),
        NodeEnum::DeallocateStmt(deallocate) => {
            is(if deallocate.isall { "DEALLOCATE ALL" } else { "DEALLOCATE" }, Rung::Read, "");
        }
        NodeEnum::ClosePortalStmt(close) => {
            let all = close.portalname.is_empty();
            is(if all { "CLOSE CURSOR ALL" } else { "CLOSE CURSOR" }, Rung::Read, "");
        }
        NodeEnum::DiscardStmt(discard) => match DiscardMode::try_from(discard.target) {
            Ok(DiscardMode::DiscardPlans) => is("DISCARD PLANS", Rung::Read, ""),
            Ok(DiscardMode::DiscardSequences) => is("DISCARD SEQUENCES", Rung::Read, ""),
            Ok(DiscardMode::DiscardTemp) => {
                is("DISCARD TEMP", Rung::Write, "it drops the session's own temporary tables");
            }
            _ => is("DISCARD ALL", Rung::Write, "it drops the session's own temporary tables"),
        },
        NodeEnum::ListenStmt(_) => is("LISTEN", Rung::Read, ""),
        NodeEnum::UnlistenStmt(_) => is("UNLISTEN", Rung::Read, ""),
        NodeEnum::NotifyStmt(_) => is("NOTIFY", Rung::Write, "it tells other sessions something"),
        NodeEnum::ConstraintsSetStmt(_) => {
            is("SET CONSTRAINTS", Rung::Read, "");
        }
        NodeEnum::VacuumStmt(vacuum) => {
            let full = vacuum.options.iter().any(|option| option_is_on(option, "full"));
            let kind = if vacuum.is_vacuumcmd { "VACUUM" } else { "ANALYZE" };
            if full {
                is(kind, Rung::Destructive, "it rewrites tables and locks them meanwhile");
            } else {
                is(kind, Rung::Write, "it changes a table's storage or statistics");
            }
        }
        NodeEnum::DropStmt(drop) => drops(drop, walk),
        NodeEnum::TruncateStmt(truncate) => {
            is("TRUNCATE TABLE", Rung::Destructive, "it empties tables");
            walk.statement.cascade = truncate.behavior == DropBehavior::DropCascade as i32;
            touch_all(&truncate.relations, walk);
        }
        NodeEnum::LockStmt(lock) => {
            is("LOCK TABLE", Rung::Destructive, "it keeps others out of tables");
            touch_all(&lock.relations, walk);
        }
        NodeEnum::CreateTableAsStmt(create) => {
            inner(create.query.as_deref(), walk);
            walk.statement.kind = if create.objtype == ObjectType::ObjectMatview as i32 {
                "CREATE MATERIALIZED VIEW".into()
            } else {
                "CREATE TABLE AS".into()
            };
            match &create.into {
                Some(into) => walk.into(into),
                None => walk.raise(Rung::Destructive, "it makes a table"),
            }
        }
        NodeEnum::RefreshMatViewStmt(refresh) => {
            is(
                "REFRESH MATERIALIZED VIEW",
                Rung::Destructive,
                "it runs a view's query and replaces its rows",
            );
            walk.touch(refresh.relation.as_ref(), Access::Write);
        }
        NodeEnum::DoStmt(_) => code("DO", "it runs code", walk),
        NodeEnum::CallStmt(call) => {
            code("CALL", "it runs a procedure", walk);
            if let Some(call) = &call.funccall {
                let names: Vec<&str> = call.funcname.iter().filter_map(text).collect();
                walk.function(&names);
            }
        }
        NodeEnum::CreateFunctionStmt(create) => {
            let kind = if create.is_procedure { "CREATE PROCEDURE" } else { "CREATE FUNCTION" };
            is(kind, Rung::Destructive, ddl);
            let trusted = ["sql", "plpgsql", "pltcl", "plperl"];
            let untrusted = create.options.iter().any(|option| match &option.node {
                Some(NodeEnum::DefElem(option)) if option.defname == "language" => option
                    .arg
                    .as_deref()
                    .and_then(text)
                    .is_none_or(|name| !trusted.contains(&name.to_lowercase().as_str())),
                _ => false,
            });
            if untrusted {
                walk.raise(
                    Rung::Forbidden,
                    "it makes a function of a language that can do anything",
                );
            }
        }
        NodeEnum::AlterSystemStmt(_) => {
            is("ALTER SYSTEM", Rung::Forbidden, "it changes the server's configuration");
        }
        NodeEnum::LoadStmt(_) => is("LOAD", Rung::Forbidden, "it loads code into the server"),
        NodeEnum::CreateExtensionStmt(_) => is("CREATE EXTENSION", Rung::Forbidden, FORBIDDEN),
        NodeEnum::AlterExtensionStmt(_) | NodeEnum::AlterExtensionContentsStmt(_) => {
            is("ALTER EXTENSION", Rung::Forbidden, FORBIDDEN);
        }
        NodeEnum::CreatePlangStmt(_) => is("CREATE LANGUAGE", Rung::Forbidden, FORBIDDEN),
        NodeEnum::CreateFdwStmt(_) => is("CREATE FOREIGN DATA WRAPPER", Rung::Forbidden, FORBIDDEN),
        NodeEnum::AlterFdwStmt(_) => is("ALTER FOREIGN DATA WRAPPER", Rung::Forbidden, FORBIDDEN),
        NodeEnum::CreateForeignServerStmt(_) => is("CREATE SERVER", Rung::Forbidden, FORBIDDEN),
        NodeEnum::AlterForeignServerStmt(_) => is("ALTER SERVER", Rung::Forbidden, FORBIDDEN),
        NodeEnum::CreateUserMappingStmt(_) => is("CREATE USER MAPPING", Rung::Forbidden, FORBIDDEN),
        NodeEnum::AlterUserMappingStmt(_) => is("ALTER USER MAPPING", Rung::Forbidden, FORBIDDEN),
        NodeEnum::CreateSubscriptionStmt(_) => {
            is("CREATE SUBSCRIPTION", Rung::Forbidden, FORBIDDEN);
        }
        NodeEnum::AlterSubscriptionStmt(_) => is("ALTER SUBSCRIPTION", Rung::Forbidden, FORBIDDEN),
        NodeEnum::AlterTableStmt(alter) => {
            is(&format!("ALTER {}", object(alter.objtype)), Rung::Destructive, ddl);
            walk.touch(alter.relation.as_ref(), Access::Write);
        }
        NodeEnum::CreateStmt(create) => {
            is("CREATE TABLE", Rung::Destructive, ddl);
            walk.touch(create.relation.as_ref(), Access::Write);
        }
        NodeEnum::ViewStmt(view) => {
            is("CREATE VIEW", Rung::Destructive, ddl);
            walk.touch(view.view.as_ref(), Access::Write);
            inner(view.query.as_deref(), walk);
            walk.statement.kind = "CREATE VIEW".into();
        }
        NodeEnum::IndexStmt(index) => {
            is("CREATE INDEX", Rung::Destructive, ddl);
            walk.touch(index.relation.as_ref(), Access::Write);
        }
        NodeEnum::RenameStmt(rename) => {
            is(&format!("ALTER {}", object(rename.rename_type)), Rung::Destructive, ddl);
            walk.touch(rename.relation.as_ref(), Access::Write);
        }
        NodeEnum::AlterOwnerStmt(owner) => {
            is(&format!("ALTER {}", object(owner.object_type)), Rung::Destructive, ddl);
            walk.touch(owner.relation.as_ref(), Access::Write);
        }
        NodeEnum::CreateTrigStmt(create) => {
            is("CREATE TRIGGER", Rung::Destructive, ddl);
            walk.touch(create.relation.as_ref(), Access::Write);
        }
        NodeEnum::RuleStmt(rule) => {
            is("CREATE RULE", Rung::Destructive, ddl);
            walk.touch(rule.relation.as_ref(), Access::Write);
        }
        NodeEnum::GrantStmt(grant) => {
            let kind = if grant.is_grant { "GRANT" } else { "REVOKE" };
            is(kind, Rung::Destructive, ddl);
            walk.statement.cascade = grant.behavior == DropBehavior::DropCascade as i32;
            touch_all(&grant.objects, walk);
        }
        NodeEnum::GrantRoleStmt(grant) => {
            let kind = if grant.is_grant { "GRANT ROLE" } else { "REVOKE ROLE" };
            is(kind, Rung::Destructive, ddl);
        }
        NodeEnum::ReindexStmt(reindex) => {
            is("REINDEX", Rung::Destructive, "it rebuilds indexes and locks tables meanwhile");
            walk.touch(reindex.relation.as_ref(), Access::Write);
        }
        NodeEnum::ClusterStmt(cluster) => {
            is("CLUSTER", Rung::Destructive, "it rewrites tables and locks them meanwhile");
            walk.touch(cluster.relation.as_ref(), Access::Write);
        }
        NodeEnum::CommentStmt(_) => is("COMMENT", Rung::Destructive, ddl),
        NodeEnum::DropOwnedStmt(drop) => {
            is("DROP OWNED", Rung::Destructive, "it drops all that a role owns");
            walk.statement.cascade = drop.behavior == DropBehavior::DropCascade as i32;
        }
        NodeEnum::ReassignOwnedStmt(_) => is("REASSIGN OWNED", Rung::Destructive, ddl),
        NodeEnum::CheckPointStmt(_) => {
            is("CHECKPOINT", Rung::Destructive, "it makes the server write all at once");
        }
        other => {
            // Their node's name says it: CreateRoleStmt is CREATE ROLE.
            let kind = kind_of(other);
            is(&kind, Rung::Destructive, ddl);
        }
    }
}

const FORBIDDEN: &str = "it brings in code or reaches other servers";

fn query(kind: &str, node: &NodeEnum, walk: &mut Walk) {
    walk.statement.kind = kind.into();
    walk.query(node);
}

/// A statement within another: its rung is the other's.
fn inner(node: Option<&Node>, walk: &mut Walk) {
    match node.and_then(|node| node.node.as_ref()) {
        Some(node) => statement(node, walk),
        None => walk.raise(Rung::Destructive, "what it holds cannot be read"),
    }
}

fn code(kind: &str, reason: &str, walk: &mut Walk) {
    walk.statement.kind = kind.into();
    walk.raise(Rung::Destructive, reason);
    walk.statement.opaque = true;
}

fn two_phase(kind: &str, walk: &mut Walk) {
    walk.statement.kind = kind.into();
    walk.raise(Rung::Destructive, "a transaction outlives its session by it");
}

fn copies(copy: &CopyStmt, walk: &mut Walk) {
    walk.statement.kind = "COPY".into();
    let access = if copy.is_from { Access::Write } else { Access::Read };
    walk.touch(copy.relation.as_ref(), access);
    let relation = copy.relation.as_ref().map(name_of);
    for name in copy.attlist.iter().filter_map(text) {
        walk.column(relation.clone(), name.to_owned(), access);
    }
    if copy.is_program {
        walk.raise(Rung::Forbidden, "it runs a program on the server");
    } else if !copy.filename.is_empty() {
        walk.raise(Rung::Forbidden, "it reaches a file of the server");
    } else if copy.is_from {
        walk.raise(Rung::Write, "it adds rows");
    }
    if let Some(query) = copy.query.as_deref().and_then(|query| query.node.as_ref()) {
        walk.query(query);
    }
    walk.maybe(copy.where_clause.as_deref());
    if copy.is_from
        && let Some(relation) = &copy.relation
        && (relation.schemaname == "pg_catalog"
            || relation.schemaname.is_empty() && relation.relname.starts_with("pg_"))
    {
        walk.raise(Rung::Destructive, "it changes the system's own catalog");
    }
}

/// Planning runs functions: even where nothing is run, those that are called count.
fn explains(explain: &ExplainStmt, walk: &mut Walk) {
    let analyze = explain.options.iter().any(|option| option_is_on(option, "analyze"));
    let mut within = Walk::new("");
    match explain.query.as_deref().and_then(|query| query.node.as_ref()) {
        Some(query) => statement(query, &mut within),
        None => within.raise(Rung::Destructive, "what it explains cannot be read"),
    }
    walk.literal |= within.literal || !explain.options.is_empty();
    walk.statement = within.statement;
    walk.statement.kind = "EXPLAIN".into();
    let statement = &mut walk.statement;
    let runs = analyze || statement.opaque || statement.name.is_some();
    if !runs && statement.rung < Rung::Forbidden {
        (statement.rung, statement.reason) = (Rung::Read, "it only plans".into());
        (statement.selective, statement.cascade) = (None, false);
        for relation in &mut statement.relations {
            relation.access = Access::Read;
        }
        for column in &mut statement.columns {
            column.access = Access::Read;
        }
    }
}

/// Whether an option without a value, or with one that says yes, is given. What is not known to say
/// no says yes (`defGetBoolean`, src/backend/commands/define.c).
fn option_is_on(node: &Node, name: &str) -> bool {
    let Some(NodeEnum::DefElem(option)) = &node.node else { return true };
    let DefElem { defname, arg, .. } = &**option;
    if !defname.eq_ignore_ascii_case(name) {
        return false;
    }
    let off = match arg.as_deref().and_then(|arg| arg.node.as_ref()) {
        Some(NodeEnum::Integer(value)) => value.ival == 0,
        Some(NodeEnum::Boolean(value)) => !value.boolval,
        Some(NodeEnum::String(value)) => {
            ["off", "false"].iter().any(|no| value.sval.eq_ignore_ascii_case(no))
        }
        _ => false,
    };
    !off
}

fn sets(set: &VariableSetStmt, walk: &mut Walk) {
    use VariableSetKind as Kind;
    // What it is set to may matter.
    walk.literal = true;
    let kind = Kind::try_from(set.kind);
    walk.statement.kind =
        if matches!(kind, Ok(Kind::VarReset | Kind::VarResetAll)) { "RESET" } else { "SET" }.into();
    let name = set.name.to_lowercase();
    match (kind, name.as_str()) {
        (Ok(Kind::VarSetValue), "client_encoding") => {
            let same = ["utf8", "utf-8", "unicode"];
            if !set.args.iter().all(|arg| {
                constant(arg).is_some_and(|name| same.contains(&name.to_lowercase().as_str()))
            }) {
                walk.raise(Rung::Destructive, "it changes how statements are read");
            }
        }
        (Ok(Kind::VarSetValue), "standard_conforming_strings") => {
            let on = ["on", "true", "yes", "1"];
            if !set.args.iter().all(|arg| {
                constant(arg).is_some_and(|value| on.contains(&value.to_lowercase().as_str()))
            }) {
                walk.raise(Rung::Destructive, "it changes how statements are read");
            }
        }
        // Settings that guard something are not reset with all (`GUC_NO_RESET_ALL`).
        (Ok(Kind::VarResetAll), _)
        | (Ok(Kind::VarSetMulti), "transaction" | "session characteristics")
        | (Ok(Kind::VarReset | Kind::VarSetDefault), "search_path") => {}
        (_, "session_authorization") => {
            walk.raise(Rung::Forbidden, "it changes whose session it is");
        }
        (Ok(Kind::VarSetValue), "search_path") => {
            let usual = set.args.iter().all(|arg| {
                constant(arg)
                    .is_some_and(|schema| ["public", "\"$user\"", "$user"].contains(&schema))
            });
            if !usual {
                walk.raise(Rung::Destructive, "it changes what names without a schema stand for");
            }
        }
        (Ok(_), name) if SETTINGS.contains(&name) || name.starts_with("enable_") => {}
        (_, name) => {
            let reason = format!("{name} is no setting that is known to be harmless");
            walk.raise(Rung::Destructive, reason);
        }
    }
}

fn constant(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(value)) => Some(&value.sval),
            _ => None,
        },
        _ => None,
    }
}

fn drops(drop: &DropStmt, walk: &mut Walk) {
    let what = object(drop.remove_type);
    walk.statement.kind = format!("DROP {what}");
    walk.raise(Rung::Destructive, "it drops something");
    walk.statement.cascade = drop.behavior == DropBehavior::DropCascade as i32;
    let relations = ["TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "FOREIGN TABLE", "INDEX"];
    if relations.contains(&what.as_str()) {
        for names in &drop.objects {
            let Some(NodeEnum::List(names)) = &names.node else { continue };
            let names: Vec<&str> = names.items.iter().filter_map(text).collect();
            let name = match names.as_slice() {
                [name] => QualifiedName { schema: None, name: cut(name) },
                [.., schema, name] => QualifiedName { schema: Some(cut(schema)), name: cut(name) },
                [] => continue,
            };
            walk.statement.relations.push(Relation { name, access: Access::Write });
        }
    }
}

fn touch_all(nodes: &[Node], walk: &mut Walk) {
    for node in nodes {
        if let Some(NodeEnum::RangeVar(relation)) = &node.node {
            walk.touch(Some(relation), Access::Write);
        }
    }
}

/// The kind of an object, as tags name it.
fn object(kind: i32) -> String {
    let name = ObjectType::try_from(kind).map_or("OBJECT", |kind| kind.as_str_name());
    match name {
        "OBJECT_MATVIEW" => "MATERIALIZED VIEW".into(),
        "OBJECT_LARGEOBJECT" => "LARGE OBJECT".into(),
        "OBJECT_FDW" => "FOREIGN DATA WRAPPER".into(),
        "OBJECT_FOREIGN_SERVER" => "SERVER".into(),
        "OBJECT_COLUMN" | "OBJECT_TABCONSTRAINT" | "OBJECT_ATTRIBUTE" => "TABLE".into(),
        "OBJECT_DOMCONSTRAINT" => "DOMAIN".into(),
        "OBJECT_TSDICTIONARY" => "TEXT SEARCH DICTIONARY".into(),
        "OBJECT_TSCONFIGURATION" => "TEXT SEARCH CONFIGURATION".into(),
        "OBJECT_TSPARSER" => "TEXT SEARCH PARSER".into(),
        "OBJECT_TSTEMPLATE" => "TEXT SEARCH TEMPLATE".into(),
        "OBJECT_OPCLASS" => "OPERATOR CLASS".into(),
        "OBJECT_OPFAMILY" => "OPERATOR FAMILY".into(),
        "OBJECT_STATISTIC_EXT" => "STATISTICS".into(),
        name => name.trim_start_matches("OBJECT_").replace('_', " "),
    }
}

/// `CREATE ROLE` of a `CreateRoleStmt`.
fn kind_of(node: &NodeEnum) -> String {
    let named = match node {
        NodeEnum::CreatedbStmt(_) => "CREATE DATABASE",
        NodeEnum::DropdbStmt(_) => "DROP DATABASE",
        NodeEnum::CreateSeqStmt(_) => "CREATE SEQUENCE",
        NodeEnum::AlterSeqStmt(_) => "ALTER SEQUENCE",
        NodeEnum::CreateEnumStmt(_)
        | NodeEnum::CreateRangeStmt(_)
        | NodeEnum::CompositeTypeStmt(_) => "CREATE TYPE",
        NodeEnum::AlterEnumStmt(_) => "ALTER TYPE",
        NodeEnum::CreateAmStmt(_) => "CREATE ACCESS METHOD",
        NodeEnum::CreateEventTrigStmt(_) => "CREATE EVENT TRIGGER",
        NodeEnum::AlterEventTrigStmt(_) => "ALTER EVENT TRIGGER",
        NodeEnum::SecLabelStmt(_) => "SECURITY LABEL",
        NodeEnum::AlterRoleSetStmt(_) => "ALTER ROLE",
        NodeEnum::AlterDatabaseSetStmt(_) | NodeEnum::AlterDatabaseRefreshCollStmt(_) => {
            "ALTER DATABASE"
        }
        NodeEnum::CreateOpClassStmt(_) => "CREATE OPERATOR CLASS",
        NodeEnum::CreateOpFamilyStmt(_) => "CREATE OPERATOR FAMILY",
        NodeEnum::AlterOpFamilyStmt(_) => "ALTER OPERATOR FAMILY",
        NodeEnum::CreateStatsStmt(_) => "CREATE STATISTICS",
        NodeEnum::AlterStatsStmt(_) => "ALTER STATISTICS",
        NodeEnum::CreateTableSpaceStmt(_) => "CREATE TABLESPACE",
        NodeEnum::DropTableSpaceStmt(_) => "DROP TABLESPACE",
        NodeEnum::AlterTableSpaceOptionsStmt(_) => "ALTER TABLESPACE",
        NodeEnum::AlterTableMoveAllStmt(_) => "ALTER TABLE",
        NodeEnum::AlterTsdictionaryStmt(_) => "ALTER TEXT SEARCH DICTIONARY",
        NodeEnum::AlterTsconfigurationStmt(_) => "ALTER TEXT SEARCH CONFIGURATION",
        NodeEnum::DefineStmt(define) => return format!("CREATE {}", object(define.kind)),
        NodeEnum::AlterObjectSchemaStmt(alter) => {
            return format!("ALTER {}", object(alter.object_type));
        }
        NodeEnum::AlterObjectDependsStmt(alter) => {
            return format!("ALTER {}", object(alter.object_type));
        }
        NodeEnum::AlterFunctionStmt(alter) => return format!("ALTER {}", object(alter.objtype)),
        _ => "",
    };
    if !named.is_empty() {
        return named.into();
    }
    let debug = format!("{node:?}");
    let name: String = debug.chars().take_while(char::is_ascii_alphanumeric).collect();
    let name = name.trim_end_matches("Stmt");
    let mut kind = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            kind.push(' ');
        }
        kind.push(letter.to_ascii_uppercase());
    }
    kind
}
