//! Whether a condition says which rows are meant: it compares a column with a value.
//!
//! What cannot be said to is taken not to. Literals are looked at in one case alone, a pattern that
//! matches everything.

use pg_query::{
    Node, NodeEnum,
    protobuf::{AExpr, AExprKind, BoolExprType, SelectStmt, SubLinkType, a_const::Val},
};

/// Whether a condition bounds what it is the condition of. `literal` is set where that depends on a
/// literal's value.
pub(super) fn bounds(node: Option<&Node>, literal: &mut bool) -> bool {
    let Some(node) = node.and_then(|node| node.node.as_ref()) else { return false };
    match node {
        NodeEnum::BoolExpr(expr) => {
            let mut args = expr.args.iter();
            match BoolExprType::try_from(expr.boolop) {
                Ok(BoolExprType::AndExpr) => args.any(|arg| bounds(Some(arg), literal)),
                Ok(BoolExprType::OrExpr) => {
                    !expr.args.is_empty() && args.all(|arg| bounds(Some(arg), literal))
                }
                _ => false,
            }
        }
        NodeEnum::AExpr(expr) => comparison(expr, literal),
        NodeEnum::CurrentOfExpr(_) => true,
        NodeEnum::SubLink(link) => {
            link.sub_link_type == SubLinkType::AnySublink as i32
                && operator(&link.oper_name).is_none_or(|name| name == "=")
                && link.testexpr.as_deref().is_some_and(is_column)
                && link.subselect.as_deref().is_some_and(|select| subquery(select, literal))
        }
        _ => false,
    }
}

fn comparison(expr: &AExpr, literal: &mut bool) -> bool {
    let (Some(left), Some(right)) = (expr.lexpr.as_deref(), expr.rexpr.as_deref()) else {
        return false;
    };
    let Some(name) = operator(&expr.name) else { return false };
    let either = |a: &Node, b: &Node| is_column(a) && is_value(b);
    match AExprKind::try_from(expr.kind) {
        Ok(AExprKind::AexprOp) => {
            let compares = ["=", "<", ">", "<=", ">=", "@>", "<@", "&&", "~", "~*", "^@"];
            let rows = || match (&left.node, &right.node) {
                (Some(NodeEnum::RowExpr(a)), Some(NodeEnum::RowExpr(b))) => {
                    name == "="
                        && !a.args.is_empty()
                        && a.args.iter().all(is_column)
                        && b.args.iter().all(is_value)
                }
                _ => false,
            };
            compares.contains(&name) && (either(left, right) || either(right, left) || rows())
        }
        Ok(AExprKind::AexprOpAny) => name == "=" && either(left, right),
        Ok(AExprKind::AexprNotDistinct) => either(left, right) || either(right, left),
        Ok(AExprKind::AexprIn) => name == "=" && either(left, right),
        Ok(AExprKind::AexprBetween | AExprKind::AexprBetweenSym) => either(left, right),
        Ok(AExprKind::AexprLike | AExprKind::AexprIlike | AExprKind::AexprSimilar) => {
            !name.starts_with('!') && either(left, right) && !is_any_text(right, literal)
        }
        _ => false,
    }
}

/// A column, or what makes another form of its value for the comparison.
fn is_column(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::ColumnRef(column)) => {
            // Not a whole row.
            !column.fields.iter().any(|field| matches!(field.node, Some(NodeEnum::AStar(_))))
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

/// A subquery whose rows are bounded, and whose column is its own: a column that it does not have
/// would be the outer row's, which is always among the outer rows.
fn subquery(node: &Node, literal: &mut bool) -> bool {
    let Some(NodeEnum::SelectStmt(select)) = &node.node else { return false };
    let SelectStmt { target_list, from_clause, where_clause, larg, values_lists, .. } = &**select;
    if larg.is_some() || !values_lists.is_empty() {
        return false;
    }
    let Some(NodeEnum::ResTarget(target)) = target_list.first().and_then(|t| t.node.as_ref()) else {
        return false;
    };
    let Some(NodeEnum::ColumnRef(column)) = target.val.as_ref().and_then(|v| v.node.as_ref()) else {
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
    from_clause.iter().any(own) && bounds(where_clause.as_deref(), literal)
}

/// A pattern of nothing but `%` and `_`.
fn is_any_text(node: &Node, literal: &mut bool) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => {
            *literal = true;
            match &constant.val {
                Some(Val::Sval(value)) => value.sval.chars().all(|c| c == '%' || c == '_'),
                _ => true,
            }
        }
        Some(NodeEnum::TypeCast(cast)) => {
            cast.arg.as_deref().is_none_or(|arg| is_any_text(arg, literal))
        }
        Some(NodeEnum::ParamRef(_)) => false,
        _ => true,
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
