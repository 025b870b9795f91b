//! What fails for no value, and what fails for some: by the value beside it, by its type, or by how
//! long it gets.

use chaperone_model::Origin;
use pg_query::{Node, NodeEnum, protobuf::ColumnRef};

use super::{Item, Walk, is_masked};
use crate::read::names;

/// Functions that fail for no value that they are given, and give one value for one: what is made by
/// them of a masked column is not shown, and tells nothing else. Some do so on a condition
/// ([`Walk::is_total`]).
const TOTAL: &[&str] = &[
    "array_agg",
    "array_to_json",
    "ascii",
    "bit_length",
    "bool_and",
    "bool_or",
    "btrim",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "every",
    "first_value",
    "hashtext",
    "host",
    "initcap",
    "json_agg",
    "json_build_array",
    "json_typeof",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_pretty",
    "jsonb_strip_nulls",
    "jsonb_typeof",
    "lag",
    "last_value",
    "lead",
    "left",
    "length",
    "lower",
    "ltrim",
    "max",
    "md5",
    "min",
    "nth_value",
    "num_nonnulls",
    "num_nulls",
    "octet_length",
    "pg_column_size",
    "pg_typeof",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "reverse",
    "right",
    "row_to_json",
    "rtrim",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "split_part",
    "starts_with",
    "string_agg",
    "strpos",
    "to_json",
    "to_jsonb",
    "upper",
];

/// Those of them that put values together, and fail where that is too long.
pub(super) const JOINING: [&str; 5] =
    ["array_agg", "concat", "concat_ws", "json_agg", "string_agg"];

/// Those that put the values of all rows together.
pub(super) const GATHERING: [&str; 4] = ["array_agg", "json_agg", "jsonb_agg", "string_agg"];

/// Types of one value, which neither holds others nor is made of parts (`pg_type.dat`): joining them
/// fails for none.
pub(super) const PLAIN: [u32; 25] = [
    16, 17, 18, 19, 20, 21, 23, 25, 26, 650, 700, 701, 790, 829, 869, 1042, 1043, 1082, 1083, 1114,
    1184, 1186, 1266, 1700, 2950,
];
/// `jsonb` (`pg_type.dat`).
const JSONB: u32 = 3802;
/// Types that have JSON as it was written, which `jsonb` may not take: `json`, `json[]` and rows.
const WRITTEN_JSON: [u32; 4] = [114, 199, 2249, 2287];
/// The first type that is not PostgreSQL's own (`FirstNormalObjectId`, `transam.h`): it may be a row.
const FIRST_OF_USERS: u32 = 16_384;

impl Walk<'_> {
    /// Whether a function of PostgreSQL's fails for no values of these origins.
    pub(super) fn is_total(&self, name: &str, origins: &[Origin]) -> bool {
        let clear = |at: usize| origins.get(at).is_none_or(|origin| !is_masked(origin));
        let are = |is: &dyn Fn(u32) -> bool| {
            origins.iter().all(|origin| self.are(origin, |column| is(column.type_oid)))
        };
        TOTAL.contains(&name)
            && match name {
                // Which one there is none of.
                "nth_value" => clear(1),
                "split_part" => clear(2),
                // The other argument is an encoding, in which the first may not be.
                "length" => origins.len() == 1,
                // Arrays must be of the same size.
                "array_agg" => are(&|of| PLAIN.contains(&of) || of == JSONB),
                "jsonb_agg" | "jsonb_build_array" | "to_jsonb" => {
                    are(&|of| of != 0 && of < FIRST_OF_USERS && !WRITTEN_JSON.contains(&of))
                }
                _ => true,
            }
    }

    /// Whether a value may be made as long as values can be, so that joining it to another fails by the
    /// length of that. `joined`: what is joined of several may be joined again.
    pub(super) fn may_be_long(&self, node: &Node, joined: bool) -> bool {
        let any = |nodes: &[Node]| nodes.iter().any(|node| self.may_be_long(node, joined));
        let one = |node: Option<&Node>| node.is_some_and(|node| self.may_be_long(node, joined));
        let Some(node) = &node.node else { return false };
        match node {
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::GroupingFunc(_)
            | NodeEnum::BoolExpr(_)
            | NodeEnum::NullTest(_)
            | NodeEnum::BooleanTest(_) => false,
            NodeEnum::ColumnRef(column) => self.is_long(column),
            NodeEnum::List(list) => any(&list.items),
            NodeEnum::TypeCast(cast) => one(cast.arg.as_deref()),
            NodeEnum::CollateClause(clause) => one(clause.arg.as_deref()),
            NodeEnum::NamedArgExpr(named) => one(named.arg.as_deref()),
            NodeEnum::CoalesceExpr(all) => any(&all.args),
            NodeEnum::MinMaxExpr(all) => any(&all.args),
            NodeEnum::AArrayExpr(array) => any(&array.elements),
            NodeEnum::RowExpr(row) => any(&row.args),
            NodeEnum::AIndirection(indirection) => one(indirection.arg.as_deref()),
            NodeEnum::CaseExpr(case) => {
                one(case.defresult.as_deref())
                    || case.args.iter().any(|node| match &node.node {
                        Some(NodeEnum::CaseWhen(when)) => one(when.result.as_deref()),
                        _ => true,
                    })
            }
            NodeEnum::AExpr(expression) => {
                let is_joined = names::parts(&expression.name).last() == Some(&"||");
                joined && is_joined
                    || one(expression.lexpr.as_deref())
                    || one(expression.rexpr.as_deref())
            }
            NodeEnum::FuncCall(call) => {
                let name = names::parts(&call.funcname).last().copied().unwrap_or_default();
                !TOTAL.contains(&name)
                    || GATHERING.contains(&name)
                    || joined && JOINING.contains(&name)
                    || any(&call.args)
            }
            // What a query gives is not looked into.
            _ => true,
        }
    }

    /// Whether a column is, or may be, one that the statement makes as long as it likes.
    fn is_long(&self, column: &ColumnRef) -> bool {
        let path: Vec<String> = names::parts(&column.fields).into_iter().map(names::cut).collect();
        let Some((name, of)) = path.split_last() else { return true };
        let of: Vec<&str> = of.iter().map(String::as_str).collect();
        let is_long = |item: &Item| {
            let found: Vec<_> = item.columns.iter().filter(|column| column.may_be(name)).collect();
            // What a function gives has no columns that are known.
            if found.is_empty() { !item.is_table } else { found.iter().any(|column| column.long) }
        };
        if of.is_empty() {
            let has = |item: &&Item| {
                item.open || item.unknown || item.columns.iter().any(|column| column.may_be(name))
            };
            let level = self.levels.iter().rev().find(|level| level.iter().any(|item| has(&item)));
            let Some(level) = level else { return true };
            let is_of = |item: &&Item| item.columns.iter().any(|column| column.name == *name);
            return if level.iter().any(|item| is_of(&item)) {
                level.iter().filter(is_of).any(is_long)
            } else {
                level.iter().filter(has).any(is_long)
            };
        }
        self.item(&of).as_ref().is_none_or(is_long)
    }
}

/// Whether a function of PostgreSQL's may give any number of rows.
pub(super) fn gives_rows(name: &str) -> bool {
    const ENDS: [&str; 6] =
        ["_series", "_to_table", "_elements", "_elements_text", "_each", "_each_text"];
    ENDS.iter().any(|end| name.ends_with(end)) || ["unnest", "generate_subscripts"].contains(&name)
}
