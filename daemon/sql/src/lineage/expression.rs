//! Expressions: what a value is made of, and what is done with masked columns on the way.

use chaperone_model::{How, Origin, Rung};
use pg_query::{
    Node, NodeEnum,
    protobuf::{AExpr, AExprKind, ColumnRef, FuncCall, SubLink, SubLinkType, TypeName, WindowDef},
};

use super::{Item, Walk, is_masked, made};
use crate::read::{functions, names};

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
const JOINING: [&str; 5] = ["array_agg", "concat", "concat_ws", "json_agg", "string_agg"];

/// Those that put the values of all rows together.
const GATHERING: [&str; 4] = ["array_agg", "json_agg", "jsonb_agg", "string_agg"];

/// Columns that every table has, and of which none is masked (ddl-system-columns).
const SYSTEM: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// Types of one value, which neither holds others nor is made of parts (`pg_type.dat`): joining them
/// fails for none.
const PLAIN: [u32; 25] = [
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
    /// Which rows come depends on it.
    pub(super) fn condition(&mut self, node: &Node) {
        match &node.node {
            Some(NodeEnum::BoolExpr(all)) => {
                for node in &all.args {
                    self.condition(node);
                }
            }
            Some(NodeEnum::AExpr(expression)) if is_equality(expression) => {
                self.a_expression(expression);
            }
            _ => {
                let origin = self.expression(node);
                self.used(&origin, How::Condition);
            }
        }
    }

    pub(super) fn expressions(&mut self, nodes: &[Node]) -> Origin {
        let origins: Vec<_> = nodes.iter().map(|node| self.expression(node)).collect();
        made(&origins)
    }

    /// Where a value comes from.
    pub(super) fn expression(&mut self, node: &Node) -> Origin {
        let Some(node) = &node.node else { return Origin::Clear };
        match node {
            NodeEnum::ColumnRef(column) => {
                let origin = self.column(column);
                self.reads |= is_masked(&origin);
                origin
            }
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::GroupingFunc(_)
            | NodeEnum::CurrentOfExpr(_) => Origin::Clear,
            NodeEnum::List(list) => self.expressions(&list.items),
            NodeEnum::AExpr(expression) => self.a_expression(expression),
            NodeEnum::BoolExpr(all) => self.expressions(&all.args),
            NodeEnum::TypeCast(cast) => {
                let origin = cast.arg.as_ref().map_or(Origin::Clear, |arg| self.expression(arg));
                self.cast(&origin, cast.type_name.as_ref())
            }
            NodeEnum::CollateClause(clause) => {
                clause.arg.as_ref().map_or(Origin::Clear, |arg| self.expression(arg))
            }
            NodeEnum::NamedArgExpr(named) => {
                named.arg.as_ref().map_or(Origin::Clear, |arg| self.expression(arg))
            }
            NodeEnum::FuncCall(call) => self.call(call),
            NodeEnum::SubLink(link) => self.sub_link(link),
            NodeEnum::CaseExpr(case) => {
                let mut origins = Vec::new();
                if let Some(arg) = &case.arg {
                    let origin = self.expression(arg);
                    self.used(&origin, How::Condition);
                }
                for node in &case.args {
                    let Some(NodeEnum::CaseWhen(when)) = &node.node else {
                        return self.lost();
                    };
                    if let Some(condition) = &when.expr {
                        self.condition(condition);
                    }
                    if let Some(result) = &when.result {
                        origins.push(self.expression(result));
                    }
                }
                if let Some(other) = &case.defresult {
                    origins.push(self.expression(other));
                }
                made(&origins)
            }
            NodeEnum::CoalesceExpr(all) => self.expressions(&all.args),
            NodeEnum::MinMaxExpr(all) => self.expressions(&all.args),
            NodeEnum::AArrayExpr(array) => self.expressions(&array.elements),
            NodeEnum::RowExpr(row) => self.expressions(&row.args),
            NodeEnum::AIndirection(indirection) => {
                let arg = indirection.arg.as_ref();
                let origin = arg.map_or(Origin::Clear, |arg| self.expression(arg));
                for node in &indirection.indirection {
                    match &node.node {
                        Some(NodeEnum::AIndices(indices)) => {
                            for bound in [&indices.lidx, &indices.uidx].into_iter().flatten() {
                                let place = self.expression(bound);
                                self.used(&place, How::Computed);
                            }
                        }
                        Some(NodeEnum::String(_) | NodeEnum::AStar(_)) => {}
                        _ => return self.lost(),
                    }
                }
                made([&origin])
            }
            NodeEnum::NullTest(test) => {
                let origin = test.arg.as_ref().map_or(Origin::Clear, |arg| self.expression(arg));
                self.used(&origin, How::Condition);
                made([&origin])
            }
            NodeEnum::BooleanTest(test) => {
                let origin = test.arg.as_ref().map_or(Origin::Clear, |arg| self.expression(arg));
                self.used(&origin, How::Condition);
                made([&origin])
            }
            _ => self.lost(),
        }
    }

    fn cast(&mut self, origin: &Origin, to: Option<&TypeName>) -> Origin {
        let name = to.map(|to| names::parts(&to.names)).unwrap_or_default();
        let array = to.is_some_and(|to| !to.array_bounds.is_empty());
        let is_text = match name.as_slice() {
            ["text"] => self.schema.text_is_own && !array,
            ["pg_catalog", "text" | "varchar" | "bpchar"] => !array,
            _ => false,
        };
        if is_text || !is_masked(origin) {
            return made([origin]);
        }
        self.used(origin, How::Computed);
        made([origin])
    }

    fn a_expression(&mut self, expression: &AExpr) -> Origin {
        let equality = is_equality(expression);
        let AExpr { kind, name, lexpr, rexpr, .. } = expression;
        let sides = [lexpr, rexpr].into_iter().flatten();
        let origins: Vec<_> = sides.map(|node| self.expression(node)).collect();
        let origin = made(&origins);
        if !is_masked(&origin) {
            return origin;
        }
        let comparisons = ["=", "<>", "<", ">", "<=", ">="];
        let parts = names::parts(name);
        let operator = parts.last().copied().unwrap_or_default();
        let how = if equality
            && matches!(origins.as_slice(), [Origin::Column(_), _] | [_, Origin::Column(_)])
        {
            Some(How::Equality)
        } else if *kind != AExprKind::AexprOp as i32 || comparisons.contains(&operator) {
            Some(How::Condition)
        } else if operator == "||"
            && parts.len() == 1
            && ![lexpr, rexpr].into_iter().flatten().any(|node| self.may_be_long(node, false))
            && self.are(&origin, |column| PLAIN.contains(&column.type_oid))
        {
            None
        } else {
            Some(How::Computed)
        };
        if let Some(how) = how {
            self.used(&origin, how);
            self.compared += u64::from(how == How::Equality);
        }
        origin
    }

    fn call(&mut self, call: &FuncCall) -> Origin {
        let FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group,
            agg_star: _,
            agg_distinct,
            func_variadic: _,
            funcformat: _,
            location: _,
        } = call;
        let origins: Vec<_> = args.iter().map(|node| self.expression(node)).collect();
        let mut origin = made(&origins);
        for node in agg_order {
            let by = match &node.node {
                Some(NodeEnum::SortBy(by)) => by.node.as_ref(),
                _ => None,
            };
            let key = match by {
                Some(node) => self.expression(node),
                None => self.lost(),
            };
            self.used(&key, How::Order);
            if *agg_within_group {
                origin = made([&origin, &key]);
            }
        }
        if let Some(condition) = agg_filter {
            self.condition(condition);
        }
        if let Some(window) = over {
            self.window(window);
        }
        if *agg_distinct {
            self.used(&origin, How::Group);
        }
        let parts = names::parts(funcname);
        let Some(function) = names::qualified(&parts) else { return self.lost() };
        self.grows |= gives_rows(&function.name);
        let harmless = functions::rung(&function) == Some(Rung::Read);
        if !harmless {
            self.used(&origin, How::Computed);
            let clear = self.schema.code_shows && !is_masked(&origin);
            // What it gives may come from anywhere.
            return if clear { Origin::Clear } else { Origin::Unknown };
        }
        if !is_masked(&origin) {
            return Origin::Clear;
        }
        let own = function.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        if JOINING.contains(&function.name.as_str())
            && args.iter().any(|node| self.may_be_long(node, false))
        {
            self.used(&origin, How::Computed);
        }
        if GATHERING.contains(&function.name.as_str()) {
            self.gathered.push(origin.clone());
        }
        let plain = matches!(origins.as_slice(), [Origin::Column(_)]);
        if own && function.name == "count" && plain && !agg_distinct {
            return Origin::Clear;
        }
        if !own || !self.is_total(&function.name, &origins) {
            self.used(&origin, How::Computed);
        }
        origin
    }

    /// Whether a function of PostgreSQL's fails for no values of these origins.
    fn is_total(&self, name: &str, origins: &[Origin]) -> bool {
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

    pub(super) fn window(&mut self, window: &WindowDef) {
        for node in &window.partition_clause {
            let origin = self.expression(node);
            self.used(&origin, How::Group);
        }
        for node in &window.order_clause {
            let origin = match &node.node {
                Some(NodeEnum::SortBy(by)) => {
                    by.node.as_ref().map_or(Origin::Clear, |node| self.expression(node))
                }
                _ => self.lost(),
            };
            self.used(&origin, How::Order);
        }
        for node in [&window.start_offset, &window.end_offset].into_iter().flatten() {
            let origin = self.expression(node);
            self.used(&origin, How::Condition);
        }
    }

    fn sub_link(&mut self, link: &SubLink) -> Origin {
        let tested = link.testexpr.as_ref().map(|node| self.expression(node));
        let outs = self.subquery(link.subselect.as_deref());
        let origin = match &outs {
            Some(outs) => match outs.as_slice() {
                [out] => out.origin.clone(),
                outs => made(outs.iter().map(|out| &out.origin)),
            },
            None => Origin::Unknown,
        };
        let kind = SubLinkType::try_from(link.sub_link_type).unwrap_or(SubLinkType::Undefined);
        match kind {
            SubLinkType::ExistsSublink => Origin::Clear,
            SubLinkType::ExprSublink => origin,
            SubLinkType::ArraySublink => made([&origin]),
            _ => {
                let both = made([&origin, &tested.unwrap_or(Origin::Clear)]);
                self.used(&both, How::Condition);
                both
            }
        }
    }

    fn column(&mut self, column: &ColumnRef) -> Origin {
        let last = column.fields.last().and_then(|field| field.node.as_ref());
        let path: Vec<String> = names::parts(&column.fields).into_iter().map(names::cut).collect();
        if matches!(last, Some(NodeEnum::AStar(_))) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            return if path.is_empty() {
                let items = self.levels.last().into_iter().flatten();
                let items: Vec<_> = items.filter(|item| !item.by_name).map(Item::whole).collect();
                made(&items)
            } else {
                self.item(&path).map_or(Origin::Unknown, |item| item.whole())
            };
        }
        match path.as_slice() {
            [] => self.lost(),
            [name] => self.bare(name),
            [of @ .., name] => {
                let of: Vec<&str> = of.iter().map(String::as_str).collect();
                // A field of a column that is a row has parentheses around the column.
                let Some(item) = self.item(&of) else { return self.lost() };
                if item.unknown {
                    return self.lost();
                }
                let found: Vec<_> = item.columns.iter().filter(|c| c.may_be(name)).collect();
                match found.as_slice() {
                    [column] => column.origin.clone(),
                    [_, ..] => item.whole(),
                    [] if SYSTEM.contains(&name.as_str()) => Origin::Clear,
                    // `row.function`, or a column that is not known.
                    [] => {
                        let whole = item.whole();
                        self.used(&whole, How::Computed);
                        if is_masked(&whole) { Origin::Unknown } else { Origin::Clear }
                    }
                }
            }
        }
    }

    /// A column with nothing before it, or a whole row.
    fn bare(&mut self, name: &str) -> Origin {
        match self.found(name) {
            Some(origin) => origin,
            None => self.lost(),
        }
    }

    /// The same; `None` where nothing in `FROM` has the name. The server looks for a column in all
    /// that is around before it looks for a relation of that name (`colNameToVar`, `parse_expr.c`).
    pub(super) fn found(&mut self, name: &str) -> Option<Origin> {
        let (mut open, mut sure) = (false, false);
        let mut meant: Vec<Origin> = Vec::new();
        for level in self.levels.iter().rev() {
            if level.iter().any(|item| item.unknown) {
                return Some(self.lost());
            }
            // Where something else may have it, too, the server takes the one that there is. Both
            // sides of a join have it as one column.
            for item in level.iter().filter(|item| !item.by_name) {
                for column in item.columns.iter().filter(|column| column.may_be(name)) {
                    sure |= !item.maybe && column.name == name;
                    meant.push(column.origin.clone());
                }
            }
            if sure {
                break;
            }
            // It may be of that, or of something around it.
            open |= level.iter().any(|item| item.open);
        }
        if !sure && let Some(item) = self.item(&[name]) {
            meant.push(item.whole());
        }
        match meant.as_slice() {
            [] => (open || SYSTEM.contains(&name)).then_some(Origin::Clear),
            [one] => Some(one.clone()),
            several => Some(made(several)),
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

    /// What goes by a name. A name with a schema is of what has no alias
    /// (`scanNameSpaceForRelid`, `parse_relation.c`).
    pub(super) fn item(&self, path: &[&str]) -> Option<Item> {
        let all = || self.levels.iter().rev().flatten();
        let (schema, name) = match path {
            [name] => {
                let name = names::cut(name);
                return all().find(|item| item.name == name).cloned();
            }
            [.., schema, name] => (*schema, *name),
            [] => return None,
        };
        let is_it =
            |item: &Item| item.table.as_ref().is_some_and(|(s, n)| s == schema && n == name);
        let mut may_be = all().filter(|item| is_it(item) || item.loose && item.name == name);
        let first = may_be.next()?;
        // One of several.
        if !is_it(first) && may_be.next().is_some() {
            return Some(Item::unknown(name));
        }
        Some(first.clone())
    }
}

/// Whether a column is compared with one constant.
fn is_equality(expression: &AExpr) -> bool {
    let sides = (expression.lexpr.as_deref(), expression.rexpr.as_deref());
    let (Some(left), Some(right)) = sides else { return false };
    expression.kind == AExprKind::AexprOp as i32
        && matches!(names::parts(&expression.name).as_slice(), ["="] | ["pg_catalog", "="])
        && (is_column(left) && is_constant(right) || is_constant(left) && is_column(right))
}

/// Whether a function of PostgreSQL's may give any number of rows.
fn gives_rows(name: &str) -> bool {
    const ENDS: [&str; 6] =
        ["_series", "_to_table", "_elements", "_elements_text", "_each", "_each_text"];
    ENDS.iter().any(|end| name.ends_with(end)) || ["unnest", "generate_subscripts"].contains(&name)
}

fn is_column(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::ColumnRef(_)))
}

/// A literal or a parameter, perhaps cast.
pub(super) fn is_constant(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_ref().is_some_and(|arg| is_constant(arg)),
        _ => false,
    }
}
