//! Whether a condition says which rows are meant: it compares a column with a value.
//!
//! What cannot be said to is taken not to. Literals are looked at in one case alone, a pattern that
//! matches everything.

use pg_query::{
    Node, NodeEnum,
    protobuf::{AExpr, AExprKind, BoolExprType, SelectStmt, SubLinkType, a_const::Val},
};

/// Which relation's rows a condition is to bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    /// The name by which its columns are referred to.
    pub(super) name: &'a str,
    /// There are others beside it: a column without a qualifier may be theirs.
    pub(super) others: bool,
}

/// Looks at one condition.
pub(super) struct Bounds<'a> {
    /// `None`: of any relation.
    of: Option<Of<'a>>,
    /// It depends on a literal's value.
    pub(super) literal: bool,
}

impl<'a> Bounds<'a> {
    pub(super) fn of(of: Option<Of<'a>>) -> Self {
        Self { of, literal: false }
    }

    /// Whether the condition bounds the rows.
    pub(super) fn bounds(&mut self, node: Option<&Node>) -> bool {
        self.any(node, true)
    }

    /// `ranges`: whether one side of a value is bound enough. Two such make the whole.
    fn any(&mut self, node: Option<&Node>, ranges: bool) -> bool {
        let Some(node) = node.and_then(|node| node.node.as_ref()) else { return false };
        match node {
            NodeEnum::BoolExpr(expr) => match BoolExprType::try_from(expr.boolop) {
                Ok(BoolExprType::AndExpr) => {
                    expr.args.iter().any(|arg| self.any(Some(arg), ranges))
                }
                Ok(BoolExprType::OrExpr) => {
                    !expr.args.is_empty() && expr.args.iter().all(|arg| self.any(Some(arg), false))
                }
                _ => false,
            },
            NodeEnum::AExpr(expr) => self.comparison(expr, ranges),
            NodeEnum::SubLink(link) => {
                link.sub_link_type == SubLinkType::AnySublink as i32
                    && operator(&link.oper_name).is_none_or(|name| name == "=")
                    && link.testexpr.as_deref().is_some_and(|test| self.is_column(test))
                    && link.subselect.as_deref().is_some_and(|select| self.subquery(select))
            }
            _ => false,
        }
    }

    fn comparison(&mut self, expr: &AExpr, ranges: bool) -> bool {
        let (Some(left), Some(right)) = (expr.lexpr.as_deref(), expr.rexpr.as_deref()) else {
            return false;
        };
        let Some(name) = operator(&expr.name) else { return false };
        let either = |a: &Node, b: &Node| self.is_column(a) && is_value(b);
        match AExprKind::try_from(expr.kind) {
            Ok(AExprKind::AexprOp) => {
                let one = either(left, right) || either(right, left);
                if ["<", ">", "<=", ">="].contains(&name) {
                    return ranges && one && !self.is_extreme(left) && !self.is_extreme(right);
                }
                let rows = || match (&left.node, &right.node) {
                    (Some(NodeEnum::RowExpr(a)), Some(NodeEnum::RowExpr(b))) => {
                        name == "="
                            && !a.args.is_empty()
                            && a.args.iter().all(|arg| self.is_column(arg))
                            && b.args.iter().all(is_value)
                    }
                    _ => false,
                };
                name == "=" && (one || rows()) && !is_truth(left) && !is_truth(right)
            }
            Ok(AExprKind::AexprOpAny) => name == "=" && either(left, right),
            Ok(AExprKind::AexprNotDistinct) => either(left, right) || either(right, left),
            Ok(AExprKind::AexprIn) => name == "=" && either(left, right) && !is_truth(right),
            Ok(AExprKind::AexprBetween | AExprKind::AexprBetweenSym) => {
                ranges && either(left, right) && !self.is_extreme(right)
            }
            Ok(AExprKind::AexprLike | AExprKind::AexprIlike | AExprKind::AexprSimilar) => {
                !name.starts_with('!') && either(left, right) && !self.is_any_text(right)
            }
            _ => false,
        }
    }

    /// A column of the relation, or what makes another form of its value for the comparison.
    fn is_column(&self, node: &Node) -> bool {
        let is_column = |node: &Node| self.is_column(node);
        match &node.node {
            Some(NodeEnum::ColumnRef(column)) => {
                let parts: Vec<&str> = column.fields.iter().filter_map(text).collect();
                // Not a whole row, nor what is the same in all rows.
                if parts.len() != column.fields.len()
                    || parts.last().is_none_or(|name| SYSTEM.contains(name))
                {
                    return false;
                }
                match (self.of, parts.as_slice()) {
                    (None, _) => true,
                    (Some(of), [name]) => !of.others && *name != of.name,
                    (Some(of), [.., qualifier, _]) => *qualifier == of.name,
                    (Some(_), []) => false,
                }
            }
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_column),
            Some(NodeEnum::CollateClause(collate)) => collate.arg.as_deref().is_some_and(is_column),
            Some(NodeEnum::FuncCall(call)) => {
                let name = call.funcname.last().and_then(text);
                let forms = ["lower", "upper", "btrim", "trim", "date", "date_trunc", "date_part"];
                let mut columns = call.args.iter().filter(|arg| !is_value(arg));
                call.funcname.len() == 1
                    && name.is_some_and(|name| forms.contains(&name))
                    && columns.next().is_some_and(is_column)
                    && columns.next().is_none()
            }
            _ => false,
        }
    }

    /// A subquery whose rows are bounded, and whose column is its own: a column that it does not have
    /// would be the outer row's, which is always among the outer rows.
    fn subquery(&mut self, node: &Node) -> bool {
        let Some(NodeEnum::SelectStmt(select)) = &node.node else { return false };
        let SelectStmt { target_list, from_clause, where_clause, larg, values_lists, .. } =
            &**select;
        if larg.is_some() || !values_lists.is_empty() {
            return false;
        }
        let Some(NodeEnum::ResTarget(target)) = target_list.first().and_then(|t| t.node.as_ref())
        else {
            return false;
        };
        let Some(NodeEnum::ColumnRef(column)) = target.val.as_ref().and_then(|v| v.node.as_ref())
        else {
            return false;
        };
        let [qualifier, _] = column.fields.as_slice() else { return false };
        let own = |node: &Node| match &node.node {
            Some(NodeEnum::RangeVar(relation)) => {
                let alias = relation.alias.as_ref().map(|alias| alias.aliasname.as_str());
                text(qualifier) == alias.or(Some(relation.relname.as_str()))
            }
            _ => false,
        };
        let mut within = Bounds::of(None);
        let bounded = within.bounds(where_clause.as_deref());
        self.literal |= within.literal;
        from_clause.iter().any(own) && bounded
    }

    /// A pattern of nothing but `%` and `_`.
    fn is_any_text(&mut self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::AConst(constant)) => {
                self.literal = true;
                match &constant.val {
                    Some(Val::Sval(value)) => value.sval.chars().all(|c| c == '%' || c == '_'),
                    _ => true,
                }
            }
            Some(NodeEnum::TypeCast(cast)) => {
                cast.arg.as_deref().is_none_or(|arg| self.is_any_text(arg))
            }
            Some(NodeEnum::ParamRef(_)) => false,
            _ => true,
        }
    }

    /// A number or time beyond which there is nothing.
    fn is_extreme(&mut self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::AConst(constant)) => {
                self.literal = true;
                match &constant.val {
                    Some(Val::Ival(value)) => value.ival.unsigned_abs() >= 1 << 30,
                    Some(Val::Fval(value)) => value
                        .fval
                        .parse::<f64>()
                        .is_ok_and(|value| value.abs() >= f64::from(1 << 30)),
                    Some(Val::Sval(value)) => {
                        let value = value.sval.trim().to_lowercase();
                        value.is_empty()
                            || value.contains("inf")
                            || value.contains("nan")
                            || value.parse::<f64>().is_ok_and(|v| v.abs() >= f64::from(1 << 30))
                    }
                    _ => true,
                }
            }
            Some(NodeEnum::TypeCast(cast)) => {
                cast.arg.as_deref().is_none_or(|arg| self.is_extreme(arg))
            }
            Some(NodeEnum::AExpr(expr)) => {
                let (left, right) = (expr.lexpr.as_deref(), expr.rexpr.as_deref());
                left.is_some_and(|node| self.is_extreme(node))
                    || right.is_some_and(|node| self.is_extreme(node))
            }
            Some(NodeEnum::List(list)) => list.items.iter().any(|node| self.is_extreme(node)),
            _ => false,
        }
    }
}

/// True or false: half of all there is, or with the other one all.
fn is_truth(node: &Node) -> bool {
    match &node.node {
        // The grammar, not a value, makes these.
        Some(NodeEnum::AConst(constant)) => {
            constant.isnull || matches!(constant.val, Some(Val::Boolval(_)))
        }
        Some(NodeEnum::List(list)) => list.items.iter().any(is_truth),
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_none_or(is_truth),
        _ => false,
    }
}

/// Columns that every relation has, and that bound nothing.
const SYSTEM: [&str; 5] = ["tableoid", "xmin", "xmax", "cmin", "cmax"];

/// An expression of no column: the same for all rows, as far as it can be seen.
fn is_value(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_value),
        Some(NodeEnum::CollateClause(collate)) => collate.arg.as_deref().is_some_and(is_value),
        Some(NodeEnum::AExpr(expr)) => {
            expr.lexpr.as_deref().is_none_or(is_value) && expr.rexpr.as_deref().is_none_or(is_value)
        }
        Some(NodeEnum::AArrayExpr(array)) => array.elements.iter().all(is_value),
        Some(NodeEnum::List(list)) => list.items.iter().all(is_value),
        Some(NodeEnum::RowExpr(row)) => row.args.iter().all(is_value),
        Some(NodeEnum::CoalesceExpr(coalesce)) => coalesce.args.iter().all(is_value),
        Some(NodeEnum::MinMaxExpr(expr)) => expr.args.iter().all(is_value),
        Some(NodeEnum::FuncCall(call)) => call.args.iter().all(is_value),
        Some(NodeEnum::NamedArgExpr(named)) => named.arg.as_deref().is_some_and(is_value),
        _ => false,
    }
}

/// An operator's name, where it is PostgreSQL's own or without a schema.
fn operator(names: &[Node]) -> Option<&str> {
    match names {
        [name] => text(name),
        [schema, name] if text(schema) == Some("pg_catalog") => text(name),
        _ => None,
    }
}

/// The text of a name's part.
pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::String(text)) => Some(&text.sval),
        _ => None,
    }
}
