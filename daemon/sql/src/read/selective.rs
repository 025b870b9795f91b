//! Whether a condition says which rows are meant: whether it compares a column of what is changed
//! with a value.
//!
//! Through AND one such comparison is enough, through OR each branch must have one, and they must not
//! cover all rows together (`a = 1 OR a <> 1`). What is joined may be named instead, where columns tie
//! it to what is changed. What cannot be said to be selective is not; what the values are is not
//! looked at, but for patterns and ends of ranges that hold everything. `id > 0` passes: only the
//! data tell what it leaves.
//!
//! `comparison` says what a single comparison tells; `sources` what can be told of.

use pg_query::{
    Node, NodeEnum,
    protobuf::{AExprKind, BoolExprType, RangeVar, SelectStmt, SetOperation, SubLink, SubLinkType},
};

use self::{
    comparison::is_value,
    sources::{Rows, Source, Sources},
};
use super::{literals::Literals, names, scope::Scope};

mod comparison;
mod sources;

/// Something that is told of one source.
#[derive(Clone, Debug)]
struct Told {
    /// Of which source.
    source: usize,
    /// By comparisons of which columns, of which any one may hold.
    by: Vec<By>,
}

/// By which comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
struct By {
    /// The column; `None` where no other comparison can be its counterpart.
    column: Option<String>,
    /// What it leaves out another comparison of the column could hold: the two are true of all rows.
    wide: bool,
}

/// A condition and what it is the condition of.
pub(super) struct Condition<'a> {
    scope: &'a Scope,
    literals: &'a mut Literals,
    sources: Sources<'a>,
}

impl<'a> Condition<'a> {
    /// Of a statement that changes rows of `target`, with more in `FROM` or `USING`.
    pub(super) fn new(
        scope: &'a Scope,
        literals: &'a mut Literals,
        target: &RangeVar,
        from: &'a [Node],
    ) -> Self {
        let mut sources = Sources::new(Source::table(target));
        sources.add_all(from, scope);
        Self { scope, literals, sources }
    }

    /// Whether it says which rows of the target are meant.
    pub(super) fn selects(&mut self, condition: Option<&Node>) -> bool {
        self.named(condition).first().copied().unwrap_or_default()
    }

    /// Of which sources it is said which rows are meant.
    fn named(&mut self, condition: Option<&Node>) -> Vec<bool> {
        let mut conjuncts = Vec::new();
        for condition in self.sources.join_conditions.iter().copied().chain(condition) {
            flatten(condition, &mut conjuncts);
        }
        let mut named: Vec<bool> =
            self.sources.all.iter().map(|source| source.rows == Rows::Values).collect();
        let mut ties = Vec::new();
        for conjunct in conjuncts {
            for told in self.tells(conjunct) {
                if let Some(named) = named.get_mut(told.source) {
                    *named = true;
                }
            }
            ties.extend(self.ties(conjunct));
        }
        // Ties pass it on, as often as there are sources at most.
        for _ in 0..named.len() {
            for &(a, b) in &ties {
                let both = named[a] || named[b];
                for one in [a, b] {
                    named[one] |= both && self.sources.all[one].rows != Rows::Unknown;
                }
            }
        }
        named
    }

    /// What one condition tells, and of which sources.
    fn tells(&mut self, node: &Node) -> Vec<Told> {
        match &node.node {
            Some(NodeEnum::BoolExpr(expr)) => match BoolExprType::try_from(expr.boolop) {
                Ok(BoolExprType::AndExpr) => self.all_of(&expr.args),
                Ok(BoolExprType::OrExpr) => self.any_of(&expr.args),
                _ => Vec::new(),
            },
            Some(NodeEnum::SubLink(link)) => self.sub_link(link),
            Some(node) => self.comparison(node).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// Of AND each part holds: for each source the part that says most.
    fn all_of(&mut self, parts: &[Node]) -> Vec<Told> {
        let mut best: Vec<Told> = Vec::new();
        for told in parts.iter().flat_map(|part| self.tells(part)).collect::<Vec<_>>() {
            let is_wide = |told: &Told| told.by.iter().any(|by| by.wide);
            match best.iter_mut().find(|known| known.source == told.source) {
                Some(known) if is_wide(known) && !is_wide(&told) => *known = told,
                Some(_) => {}
                None => best.push(told),
            }
        }
        best
    }

    /// Of OR any part may hold: what each of them says, together.
    fn any_of(&mut self, parts: &[Node]) -> Vec<Told> {
        let branches: Vec<Vec<Told>> =
            parts.iter().map(|part| self.all_of(std::slice::from_ref(part))).collect();
        let Some((first, others)) = branches.split_first() else { return Vec::new() };
        let mut together = Vec::new();
        for told in first {
            let mut by: Vec<By> = told.by.clone();
            let mut all = true;
            for branch in others {
                match branch.iter().find(|other| other.source == told.source) {
                    // Each once: there may be thousands of branches.
                    Some(other) if !cover_all(&by, &other.by) => {
                        for one in &other.by {
                            if !by.contains(one) {
                                by.push(one.clone());
                            }
                        }
                    }
                    _ => all = false,
                }
            }
            if all {
                together.push(Told { source: told.source, by });
            }
        }
        together
    }

    /// `a = b` of two sources' columns.
    fn ties(&self, node: &Node) -> Option<(usize, usize)> {
        let Some(NodeEnum::AExpr(expr)) = &node.node else { return None };
        if expr.kind != AExprKind::AexprOp as i32 || names::parts(&expr.name) != ["="] {
            return None;
        }
        let a = self.sources.column(expr.lexpr.as_deref()?)?;
        let b = self.sources.column(expr.rexpr.as_deref()?)?;
        (a.source != b.source).then_some((a.source, b.source))
    }

    /// `column IN (SELECT …)`, `= ANY (SELECT …)`, `EXISTS (SELECT …)`.
    fn sub_link(&mut self, link: &SubLink) -> Vec<Told> {
        let Some(select) = plain(link.subselect.as_deref()) else { return Vec::new() };
        let operator = names::parts(&link.oper_name);
        match SubLinkType::try_from(link.sub_link_type) {
            Ok(SubLinkType::AnySublink) if operator.is_empty() || operator == ["="] => {
                let column = link.testexpr.as_deref().and_then(|test| self.sources.column(test));
                match column {
                    Some(column) if self.picks(select) => vec![column.told(false)],
                    _ => Vec::new(),
                }
            }
            Ok(SubLinkType::ExistsSublink) => self.exists(select),
            _ => Vec::new(),
        }
    }

    /// Whether the rows of a subquery of one column are named, and the column is its own. A name that
    /// its relations do not have is one of the outer row, and every row is among itself; so only a
    /// qualified column is taken for its own.
    fn picks(&mut self, select: &SelectStmt) -> bool {
        if !select.values_lists.is_empty() {
            return select.values_lists.iter().all(is_value);
        }
        let [target] = select.target_list.as_slice() else { return false };
        let Some(NodeEnum::ResTarget(target)) = &target.node else { return false };
        let Some(output) = target.val.as_deref() else { return false };
        let mut sources = Sources::default();
        sources.add_all(&select.from_clause, self.scope);
        // A bare column is the subquery's own or the target's, and both will do; no third one's.
        sources.bare_columns = self.sources.bare_columns && sources.all.len() == 1;
        let Some(column) = sources.qualified_column(output) else { return false };
        let mut inner = Condition { scope: self.scope, literals: self.literals, sources };
        inner.named(select.where_clause.as_deref()).get(column).copied().unwrap_or_default()
    }

    /// `EXISTS` says of the outer sources what its condition does, unless it makes a row of no row.
    fn exists(&mut self, select: &SelectStmt) -> Vec<Told> {
        let passes = |target: &Node| match &target.node {
            Some(NodeEnum::ResTarget(target)) => target.val.as_deref().is_none_or(|value| {
                matches!(value.node, Some(NodeEnum::AConst(_) | NodeEnum::ColumnRef(_)))
            }),
            _ => false,
        };
        if !select.target_list.iter().all(passes)
            || !select.group_clause.is_empty()
            || select.having_clause.is_some()
            || !select.values_lists.is_empty()
        {
            return Vec::new();
        }
        let outer = self.sources.all.len();
        let mut sources = self.sources.without_conditions();
        sources.add_all(&select.from_clause, self.scope);
        sources.bare_columns = false;
        let mut inner = Condition { scope: self.scope, literals: self.literals, sources };
        // What the outer sources are by themselves is known outside.
        let named = inner.named(select.where_clause.as_deref());
        let is_told = |source: &usize| {
            named.get(*source) == Some(&true)
                && self.sources.all.get(*source).is_some_and(|source| source.rows == Rows::Table)
        };
        (0..outer)
            .filter(is_told)
            .map(|source| Told { source, by: vec![By { column: None, wide: false }] })
            .collect()
    }
}

/// Whether comparisons of which any may hold could hold for all rows: one leaves out what another
/// takes.
fn cover_all(some: &[By], others: &[By]) -> bool {
    some.iter().any(|a| {
        others.iter().any(|b| a.column.is_some() && a.column == b.column && (a.wide || b.wide))
    })
}

fn flatten<'n>(node: &'n Node, conjuncts: &mut Vec<&'n Node>) {
    match &node.node {
        Some(NodeEnum::BoolExpr(expr)) if expr.boolop == BoolExprType::AndExpr as i32 => {
            for arg in &expr.args {
                flatten(arg, conjuncts);
            }
        }
        _ => conjuncts.push(node),
    }
}

/// A `SELECT` of its own, not of others.
fn plain(node: Option<&Node>) -> Option<&SelectStmt> {
    match node.and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::SelectStmt(select))
            if select.op == SetOperation::SetopNone as i32 && select.with_clause.is_none() =>
        {
            Some(select)
        }
        _ => None,
    }
}
