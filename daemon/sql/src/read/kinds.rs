//! Kinds of statements, as the server's completion tags name them (`CreateCommandTag`,
//! src/backend/tcop/utility.c): those that are told by the type of the node alone, and the names of
//! kinds of objects.

use chaperone_model::Rung;
use pg_query::{NodeEnum, protobuf::ObjectType};

/// What a kind of object is called in a tag.
pub(super) fn object(kind: i32) -> &'static str {
    match ObjectType::try_from(kind).unwrap_or(ObjectType::Undefined) {
        ObjectType::ObjectAccessMethod => "ACCESS METHOD",
        ObjectType::ObjectAggregate => "AGGREGATE",
        ObjectType::ObjectCast => "CAST",
        ObjectType::ObjectCollation => "COLLATION",
        ObjectType::ObjectColumn | ObjectType::ObjectTable | ObjectType::ObjectTabconstraint => {
            "TABLE"
        }
        ObjectType::ObjectConversion => "CONVERSION",
        ObjectType::ObjectDatabase => "DATABASE",
        ObjectType::ObjectDefacl => "DEFAULT PRIVILEGES",
        ObjectType::ObjectDomain | ObjectType::ObjectDomconstraint => "DOMAIN",
        ObjectType::ObjectEventTrigger => "EVENT TRIGGER",
        ObjectType::ObjectExtension => "EXTENSION",
        ObjectType::ObjectFdw => "FOREIGN DATA WRAPPER",
        ObjectType::ObjectForeignServer => "SERVER",
        ObjectType::ObjectForeignTable => "FOREIGN TABLE",
        ObjectType::ObjectFunction => "FUNCTION",
        ObjectType::ObjectIndex => "INDEX",
        ObjectType::ObjectLanguage => "LANGUAGE",
        ObjectType::ObjectLargeobject => "LARGE OBJECT",
        ObjectType::ObjectMatview => "MATERIALIZED VIEW",
        ObjectType::ObjectOpclass => "OPERATOR CLASS",
        ObjectType::ObjectOperator => "OPERATOR",
        ObjectType::ObjectOpfamily => "OPERATOR FAMILY",
        ObjectType::ObjectPolicy => "POLICY",
        ObjectType::ObjectProcedure => "PROCEDURE",
        ObjectType::ObjectPublication => "PUBLICATION",
        ObjectType::ObjectRole => "ROLE",
        ObjectType::ObjectRoutine => "ROUTINE",
        ObjectType::ObjectRule => "RULE",
        ObjectType::ObjectSchema => "SCHEMA",
        ObjectType::ObjectSequence => "SEQUENCE",
        ObjectType::ObjectStatisticExt => "STATISTICS",
        ObjectType::ObjectSubscription => "SUBSCRIPTION",
        ObjectType::ObjectTablespace => "TABLESPACE",
        ObjectType::ObjectTransform => "TRANSFORM",
        ObjectType::ObjectTrigger => "TRIGGER",
        ObjectType::ObjectTsconfiguration => "TEXT SEARCH CONFIGURATION",
        ObjectType::ObjectTsdictionary => "TEXT SEARCH DICTIONARY",
        ObjectType::ObjectTsparser => "TEXT SEARCH PARSER",
        ObjectType::ObjectTstemplate => "TEXT SEARCH TEMPLATE",
        ObjectType::ObjectType | ObjectType::ObjectAttribute => "TYPE",
        ObjectType::ObjectUserMapping => "USER MAPPING",
        ObjectType::ObjectView => "VIEW",
        ObjectType::Undefined
        | ObjectType::ObjectAmop
        | ObjectType::ObjectAmproc
        | ObjectType::ObjectDefault
        | ObjectType::ObjectParameterAcl
        | ObjectType::ObjectPublicationNamespace
        | ObjectType::ObjectPublicationRel => "OBJECT",
    }
}

/// Statements that hold no query and no expression: what they are, and how much they can do.
pub(super) fn plain(statement: &NodeEnum) -> Option<(&'static str, Rung)> {
    let destructive = |kind| Some((kind, Rung::Destructive));
    let forbidden = |kind| Some((kind, Rung::Forbidden));
    match statement {
        NodeEnum::AlterSystemStmt(_) => forbidden("ALTER SYSTEM"),
        NodeEnum::CreateExtensionStmt(_) => forbidden("CREATE EXTENSION"),
        NodeEnum::AlterExtensionStmt(_) | NodeEnum::AlterExtensionContentsStmt(_) => {
            forbidden("ALTER EXTENSION")
        }
        NodeEnum::CreateFdwStmt(_) => forbidden("CREATE FOREIGN DATA WRAPPER"),
        NodeEnum::AlterFdwStmt(_) => forbidden("ALTER FOREIGN DATA WRAPPER"),
        NodeEnum::CreateForeignServerStmt(_) => forbidden("CREATE SERVER"),
        NodeEnum::AlterForeignServerStmt(_) => forbidden("ALTER SERVER"),
        NodeEnum::CreateUserMappingStmt(_) => forbidden("CREATE USER MAPPING"),
        NodeEnum::AlterUserMappingStmt(_) => forbidden("ALTER USER MAPPING"),
        NodeEnum::CreatePlangStmt(_) => forbidden("CREATE LANGUAGE"),
        NodeEnum::CreateSubscriptionStmt(_) => forbidden("CREATE SUBSCRIPTION"),
        NodeEnum::AlterSubscriptionStmt(_) => forbidden("ALTER SUBSCRIPTION"),

        NodeEnum::DropSubscriptionStmt(_) => destructive("DROP SUBSCRIPTION"),
        NodeEnum::DropUserMappingStmt(_) => destructive("DROP USER MAPPING"),
        NodeEnum::ImportForeignSchemaStmt(_) => destructive("IMPORT FOREIGN SCHEMA"),
        NodeEnum::CreateTableSpaceStmt(_) => destructive("CREATE TABLESPACE"),
        NodeEnum::DropTableSpaceStmt(_) => destructive("DROP TABLESPACE"),
        NodeEnum::AlterTableSpaceOptionsStmt(_) => destructive("ALTER TABLESPACE"),
        NodeEnum::CreateAmStmt(_) => destructive("CREATE ACCESS METHOD"),
        NodeEnum::CreateEventTrigStmt(_) => destructive("CREATE EVENT TRIGGER"),
        NodeEnum::AlterEventTrigStmt(_) => destructive("ALTER EVENT TRIGGER"),
        NodeEnum::CreateRoleStmt(_) => destructive("CREATE ROLE"),
        NodeEnum::AlterRoleStmt(_) | NodeEnum::AlterRoleSetStmt(_) => destructive("ALTER ROLE"),
        NodeEnum::DropRoleStmt(_) => destructive("DROP ROLE"),
        NodeEnum::GrantRoleStmt(grant) => {
            destructive(if grant.is_grant { "GRANT ROLE" } else { "REVOKE ROLE" })
        }
        NodeEnum::AlterDefaultPrivilegesStmt(_) => destructive("ALTER DEFAULT PRIVILEGES"),
        NodeEnum::ReassignOwnedStmt(_) => destructive("REASSIGN OWNED"),
        NodeEnum::CreateOpClassStmt(_) => destructive("CREATE OPERATOR CLASS"),
        NodeEnum::CreateOpFamilyStmt(_) => destructive("CREATE OPERATOR FAMILY"),
        NodeEnum::AlterOpFamilyStmt(_) => destructive("ALTER OPERATOR FAMILY"),
        NodeEnum::AlterOperatorStmt(_) => destructive("ALTER OPERATOR"),
        NodeEnum::AlterTypeStmt(_) | NodeEnum::AlterEnumStmt(_) => destructive("ALTER TYPE"),
        NodeEnum::AlterCollationStmt(_) => destructive("ALTER COLLATION"),
        NodeEnum::AlterStatsStmt(_) => destructive("ALTER STATISTICS"),
        NodeEnum::AlterFunctionStmt(alter) => destructive(match object(alter.objtype) {
            "PROCEDURE" => "ALTER PROCEDURE",
            "ROUTINE" => "ALTER ROUTINE",
            _ => "ALTER FUNCTION",
        }),
        NodeEnum::CompositeTypeStmt(_)
        | NodeEnum::CreateEnumStmt(_)
        | NodeEnum::CreateRangeStmt(_) => destructive("CREATE TYPE"),
        NodeEnum::CreatedbStmt(_) => destructive("CREATE DATABASE"),
        NodeEnum::AlterDatabaseStmt(_)
        | NodeEnum::AlterDatabaseRefreshCollStmt(_)
        | NodeEnum::AlterDatabaseSetStmt(_) => destructive("ALTER DATABASE"),
        NodeEnum::DropdbStmt(_) => destructive("DROP DATABASE"),
        NodeEnum::CreateConversionStmt(_) => destructive("CREATE CONVERSION"),
        NodeEnum::CreateCastStmt(_) => destructive("CREATE CAST"),
        NodeEnum::CreateTransformStmt(_) => destructive("CREATE TRANSFORM"),
        NodeEnum::AlterTsdictionaryStmt(_) => destructive("ALTER TEXT SEARCH DICTIONARY"),
        NodeEnum::AlterTsconfigurationStmt(_) => destructive("ALTER TEXT SEARCH CONFIGURATION"),
        _ => None,
    }
}

/// Whether a statement makes code, or gives it another name: what runs it need not name it.
pub(super) fn makes_code(statement: &NodeEnum) -> bool {
    let is_code = |kind: i32| {
        matches!(
            ObjectType::try_from(kind),
            Ok(ObjectType::ObjectAggregate
                | ObjectType::ObjectFunction
                | ObjectType::ObjectOpclass
                | ObjectType::ObjectOperator
                | ObjectType::ObjectOpfamily
                | ObjectType::ObjectProcedure
                | ObjectType::ObjectRoutine)
        )
    };
    match statement {
        NodeEnum::CreateFunctionStmt(_)
        | NodeEnum::AlterFunctionStmt(_)
        | NodeEnum::CreateCastStmt(_)
        | NodeEnum::CreateOpClassStmt(_)
        | NodeEnum::CreateOpFamilyStmt(_)
        | NodeEnum::AlterOpFamilyStmt(_)
        | NodeEnum::AlterOperatorStmt(_)
        | NodeEnum::CreateTrigStmt(_)
        | NodeEnum::CreateEventTrigStmt(_)
        | NodeEnum::AlterEventTrigStmt(_)
        | NodeEnum::RuleStmt(_)
        | NodeEnum::CreateTransformStmt(_)
        | NodeEnum::CreateConversionStmt(_)
        | NodeEnum::CreatePlangStmt(_)
        | NodeEnum::CreateAmStmt(_) => true,
        NodeEnum::DefineStmt(define) => {
            is_code(define.kind) || define.kind == ObjectType::ObjectType as i32
        }
        NodeEnum::RenameStmt(rename) => is_code(rename.rename_type),
        NodeEnum::AlterObjectSchemaStmt(alter) => is_code(alter.object_type),
        _ => false,
    }
}
