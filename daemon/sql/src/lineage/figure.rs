//! What the server calls a column that is given no name.

use pg_query::{
    Node, NodeEnum,
    protobuf::{AExprKind, MinMaxOp, SubLinkType},
};

use crate::read::names;

/// The name that the server gives a column without one, and whether that gives way to a cast's
/// (`FigureColnameInternal`, `parse_target.c`). Empty where it is not told here.
pub(super) fn figure(node: &Node) -> (String, bool) {
    let sure = |name: &str| (names::cut(name), false);
    let last = |nodes: &[Node]| names::parts(nodes).last().map(|name| sure(name));
    let unnamed = || ("?column?".to_owned(), true);
    let of = |node: Option<&Node>| node.map_or_else(unnamed, figure);
    match &node.node {
        Some(NodeEnum::ColumnRef(column)) => last(&column.fields).unwrap_or_else(unnamed),
        Some(NodeEnum::AIndirection(indirection)) => {
            let named = last(&indirection.indirection);
            named.unwrap_or_else(|| of(indirection.arg.as_deref()))
        }
        Some(NodeEnum::FuncCall(call)) => last(&call.funcname).unwrap_or_else(unnamed),
        Some(NodeEnum::AExpr(expression)) if expression.kind == AExprKind::AexprNullif as i32 => {
            sure("nullif")
        }
        Some(NodeEnum::TypeCast(cast)) => match of(cast.arg.as_deref()) {
            (name, true) => {
                let named = cast.type_name.as_ref();
                let of_type = named.and_then(|named| last(&named.names));
                (of_type.map_or(name, |(name, _)| name), true)
            }
            sure => sure,
        },
        Some(NodeEnum::CollateClause(clause)) => of(clause.arg.as_deref()),
        Some(NodeEnum::GroupingFunc(_)) => sure("grouping"),
        Some(NodeEnum::SubLink(link)) => match SubLinkType::try_from(link.sub_link_type) {
            Ok(SubLinkType::ExistsSublink) => sure("exists"),
            Ok(SubLinkType::ArraySublink) => sure("array"),
            Ok(SubLinkType::ExprSublink) => (first_name(link.subselect.as_deref()), false),
            _ => unnamed(),
        },
        Some(NodeEnum::CaseExpr(case)) => match of(case.defresult.as_deref()) {
            (_, true) => ("case".into(), true),
            sure => sure,
        },
        Some(NodeEnum::AArrayExpr(_)) => sure("array"),
        Some(NodeEnum::RowExpr(_)) => sure("row"),
        Some(NodeEnum::CoalesceExpr(_)) => sure("coalesce"),
        Some(NodeEnum::MinMaxExpr(all)) if all.op == MinMaxOp::IsGreatest as i32 => {
            sure("greatest")
        }
        Some(NodeEnum::MinMaxExpr(_)) => sure("least"),
        Some(
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::AExpr(_)
            | NodeEnum::BoolExpr(_)
            | NodeEnum::NullTest(_)
            | NodeEnum::BooleanTest(_),
        ) => unnamed(),
        _ => (String::new(), false),
    }
}

/// The name of a query's only column.
fn first_name(query: Option<&Node>) -> String {
    let Some(Node { node: Some(NodeEnum::SelectStmt(select)) }) = query else {
        return String::new();
    };
    let mut select = &**select;
    while let Some(left) = &select.larg {
        select = left;
    }
    if !select.values_lists.is_empty() {
        return "column1".into();
    }
    match select.target_list.first().and_then(|target| target.node.as_ref()) {
        Some(NodeEnum::ResTarget(target)) if !target.name.is_empty() => names::cut(&target.name),
        Some(NodeEnum::ResTarget(target)) => match target.val.as_deref() {
            Some(Node { node: Some(NodeEnum::ColumnRef(column)) })
                if column.fields.iter().any(|f| matches!(f.node, Some(NodeEnum::AStar(_)))) =>
            {
                String::new()
            }
            Some(value) => figure(value).0,
            None => String::new(),
        },
        _ => String::new(),
    }
}
