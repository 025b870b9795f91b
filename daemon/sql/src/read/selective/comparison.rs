//! What a single comparison tells: a column on one side, a value on the other.

use pg_query::{
    Node, NodeEnum,
    protobuf::{AConst, AExpr, AExprKind, BoolTestType, NullTestType, RowExpr, SubLinkType},
};

use super::{
    super::{literals, names},
    Condition, Told, plain,
    sources::Column,
};

impl Condition<'_> {
    pub(super) fn comparison(&mut self, node: &NodeEnum) -> Option<Told> {
        match node {
            NodeEnum::AExpr(expr) => self.operator(expr),
            NodeEnum::NullTest(test) if test.nulltesttype == NullTestType::IsNull as i32 => {
                Some(self.sources.column(test.arg.as_deref()?)?.told(false))
            }
            NodeEnum::BooleanTest(test)
                if [BoolTestType::IsTrue as i32, BoolTestType::IsFalse as i32]
                    .contains(&test.booltesttype) =>
            {
                Some(self.sources.column(test.arg.as_deref()?)?.told(true))
            }
            _ => None,
        }
    }

    fn operator(&mut self, expr: &AExpr) -> Option<Told> {
        let (left, right) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
        let name = match names::parts(&expr.name).as_slice() {
            [name] | ["pg_catalog", name] => (*name).to_owned(),
            _ => return None,
        };
        match AExprKind::try_from(expr.kind).ok()? {
            AExprKind::AexprOp => match (&left.node, &right.node) {
                (Some(NodeEnum::RowExpr(a)), Some(NodeEnum::RowExpr(b))) if name == "=" => {
                    self.rows(a, b)
                }
                _ => self
                    .compares(left, &name, right)
                    .or_else(|| self.compares(right, flipped(&name), left)),
            },
            AExprKind::AexprNotDistinct => {
                self.compares(left, "=", right).or_else(|| self.compares(right, "=", left))
            }
            AExprKind::AexprOpAny if name == "=" => {
                let items = array(right);
                self.is_one_of(left, right, items)
            }
            AExprKind::AexprIn => {
                let Some(NodeEnum::List(list)) = &right.node else { return None };
                // All but some are not some.
                (name == "=").then(|| self.is_one_of(left, right, &list.items)).flatten()
            }
            AExprKind::AexprBetween | AExprKind::AexprBetweenSym => {
                let Some(NodeEnum::List(ends)) = &right.node else { return None };
                let column = self.shown(left)?;
                let bounds = is_value(right) && !ends.items.iter().any(|end| self.is_endless(end));
                bounds.then(|| column.told(true))
            }
            AExprKind::AexprLike | AExprKind::AexprIlike
                if ["~~", "~~*"].contains(&name.as_str()) =>
            {
                let column = self.derived(left)?;
                self.is_pattern(right).then(|| column.told(false))
            }
            _ => None,
        }
    }

    fn compares(&mut self, column: &Node, name: &str, value: &Node) -> Option<Told> {
        match name {
            "=" => {
                let column = self.derived(column)?;
                let named = is_value(value) || self.is_picked(value);
                named.then(|| column.told(is_boolean(value)))
            }
            "<" | "<=" | ">" | ">=" => {
                let column = self.shown(column)?;
                (is_value(value) && !self.is_endless(value)).then(|| column.told(true))
            }
            _ => None,
        }
    }

    /// `(a, b) = (1, 2)`.
    fn rows(&mut self, a: &RowExpr, b: &RowExpr) -> Option<Told> {
        a.args
            .iter()
            .zip(&b.args)
            .find_map(|(a, b)| self.compares(a, "=", b).or_else(|| self.compares(b, "=", a)))
    }

    /// `a IN (1, 2)`, `(a, b) IN ((1, 2), (3, 4))`, `a = ANY ($1)`. Of booleans two are all.
    fn is_one_of(&self, column: &Node, values: &Node, items: &[Node]) -> Option<Told> {
        let column = match &column.node {
            Some(NodeEnum::RowExpr(row)) => row.args.iter().find_map(|part| self.derived(part)),
            _ => self.derived(column),
        }?;
        if !is_value(values) || (items.len() > 1 && items.iter().any(is_boolean)) {
            return None;
        }
        Some(column.told(items.iter().any(is_boolean)))
    }

    /// A column as it is, or as another type.
    fn shown(&self, node: &Node) -> Option<Column> {
        match &node.node {
            Some(NodeEnum::TypeCast(cast)) => self.shown(cast.arg.as_deref()?),
            Some(NodeEnum::CollateClause(collate)) => self.shown(collate.arg.as_deref()?),
            _ => self.sources.column(node),
        }
    }

    /// A column, or something of it that tells its values apart: without its case or blanks, its
    /// day, a field of it.
    fn derived(&self, node: &Node) -> Option<Column> {
        match &node.node {
            Some(NodeEnum::TypeCast(cast)) => self.derived(cast.arg.as_deref()?),
            Some(NodeEnum::CollateClause(collate)) => self.derived(collate.arg.as_deref()?),
            Some(NodeEnum::FuncCall(call)) => {
                let keeps = ["lower", "upper", "btrim", "ltrim", "rtrim", "date"];
                match (names::parts(&call.funcname).as_slice(), call.args.as_slice()) {
                    ([name] | ["pg_catalog", name], [arg]) if keeps.contains(name) => {
                        self.derived(arg)
                    }
                    _ => None,
                }
            }
            Some(NodeEnum::AExpr(expr)) if expr.kind == AExprKind::AexprOp as i32 => {
                let fields = ["->", "->>", "#>", "#>>"];
                match names::parts(&expr.name).as_slice() {
                    [name] if fields.contains(name) && is_value(expr.rexpr.as_deref()?) => {
                        self.derived(expr.lexpr.as_deref()?)
                    }
                    _ => None,
                }
            }
            Some(NodeEnum::AIndirection(field)) => {
                let is_name = field.indirection.iter().all(|step| names::text(step).is_some());
                is_name.then(|| self.shown(field.arg.as_deref()?)).flatten()
            }
            _ => self.sources.column(node),
        }
    }

    /// `(SELECT …)` of one column, whose rows are named.
    fn is_picked(&mut self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::SubLink(link))
                if link.sub_link_type == SubLinkType::ExprSublink as i32 =>
            {
                plain(link.subselect.as_deref()).is_some_and(|select| self.picks(select))
            }
            _ => false,
        }
    }

    /// A pattern that leaves something out. What is no literal may be anything.
    fn is_pattern(&mut self, node: &Node) -> bool {
        constant(node)
            .and_then(|literal| self.literals.string(literal))
            .is_some_and(|pattern| pattern.chars().any(|char| char != '%' && char != '_'))
    }

    /// An end of a range beyond which there is nothing.
    fn is_endless(&mut self, node: &Node) -> bool {
        let Some(literal) = constant(node) else { return false };
        if !literals::is_string(literal) {
            return literals::is_extreme(literal);
        }
        let Some(text) = self.literals.string(literal) else { return false };
        let text = text.trim().trim_start_matches(['-', '+']).to_ascii_lowercase();
        // A short number is one that there may be more of.
        let is_number = text.parse::<f64>().is_ok();
        text.is_empty()
            || text == "infinity"
            || (is_number && (text.len() > 9 || text.contains(['e', 'n'])))
    }
}

fn flipped(name: &str) -> &str {
    match name {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        name => name,
    }
}

/// An expression of no column: as far as the text tells, the same for all rows.
pub(super) fn is_value(node: &Node) -> bool {
    let all = |nodes: &[Node]| nodes.iter().all(is_value);
    match &node.node {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_value),
        Some(NodeEnum::CollateClause(collate)) => collate.arg.as_deref().is_some_and(is_value),
        Some(NodeEnum::AExpr(expr)) => {
            expr.lexpr.as_deref().is_none_or(is_value)
                && expr.rexpr.as_deref().is_some_and(is_value)
        }
        Some(NodeEnum::FuncCall(call)) => {
            all(&call.args)
                && all(&call.agg_order)
                && call.agg_filter.is_none()
                && call.over.is_none()
        }
        Some(NodeEnum::NamedArgExpr(argument)) => argument.arg.as_deref().is_some_and(is_value),
        Some(NodeEnum::AArrayExpr(array)) => all(&array.elements),
        Some(NodeEnum::List(list)) => all(&list.items),
        Some(NodeEnum::RowExpr(row)) => all(&row.args),
        Some(NodeEnum::CoalesceExpr(coalesce)) => all(&coalesce.args),
        Some(NodeEnum::MinMaxExpr(extreme)) => all(&extreme.args),
        _ => false,
    }
}

/// A literal, with or without a type.
fn constant(node: &Node) -> Option<&AConst> {
    match &node.node {
        Some(NodeEnum::AConst(literal)) => Some(literal),
        Some(NodeEnum::TypeCast(cast)) => constant(cast.arg.as_deref()?),
        Some(NodeEnum::CollateClause(collate)) => constant(collate.arg.as_deref()?),
        _ => None,
    }
}

/// `true`, `false`, or something that is made a boolean.
fn is_boolean(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(literal)) => literals::is_boolean(literal),
        Some(NodeEnum::TypeCast(cast)) => {
            let types = cast.type_name.as_ref().map(|name| names::parts(&name.names));
            types.is_some_and(|parts| parts.last() == Some(&"bool"))
                || cast.arg.as_deref().is_some_and(is_boolean)
        }
        _ => false,
    }
}

/// The items of an array that is written out.
fn array(node: &Node) -> &[Node] {
    match &node.node {
        Some(NodeEnum::AArrayExpr(array)) => &array.elements,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().map(array).unwrap_or_default(),
        _ => &[],
    }
}
