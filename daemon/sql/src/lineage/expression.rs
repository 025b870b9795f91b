//! Expressions: what a value is made of, and what is done with masked columns on the way.
//!
//! Does not belong here: which column a name is of, and which functions fail for no value.

use chaperone_model::{How, Origin, Rung};
use pg_query::{
    Node, NodeEnum,
    protobuf::{AExpr, AExprKind, FuncCall, SubLink, SubLinkType, TypeName, WindowDef},
};

use super::{
    Walk, is_masked, made,
    total::{GATHERING, JOINING, PLAIN, gives_rows},
};
use crate::read::{functions, names};

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
}

/// Whether a column is compared with one constant.
fn is_equality(expression: &AExpr) -> bool {
    let sides = (expression.lexpr.as_deref(), expression.rexpr.as_deref());
    let (Some(left), Some(right)) = sides else { return false };
    expression.kind == AExprKind::AexprOp as i32
        && matches!(names::parts(&expression.name).as_slice(), ["="] | ["pg_catalog", "="])
        && (is_column(left) && is_constant(right) || is_constant(left) && is_column(right))
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
