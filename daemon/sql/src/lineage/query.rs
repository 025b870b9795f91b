//! Queries: `SELECT`, `VALUES`, set operations, `WITH`.

use std::rc::Rc;

use chaperone_model::{How, Origin};
use pg_query::{
    Node, NodeEnum,
    protobuf::{CommonTableExpr, SelectStmt, SetOperation, WithClause},
};

use super::{Named, Out, Walk, either, figure::figure, is_masked, made};
use crate::read::{makes_table, names};

impl Walk<'_> {
    /// The columns of a query's result; `None` where they cannot be told.
    pub(super) fn select(&mut self, select: &SelectStmt) -> Option<Vec<Out>> {
        let before = self.queries.len();
        self.with(select.with_clause.as_ref());
        self.levels.push(Vec::new());
        let outs = self.body(select);
        self.levels.pop();
        self.queries.truncate(before);
        if makes_table(select) {
            self.copied(outs.as_deref());
        }
        outs
    }

    /// What a query gives is written elsewhere.
    pub(super) fn copied(&mut self, outs: Option<&[Out]>) {
        match outs {
            Some(outs) => {
                for out in outs {
                    self.used(&out.origin, How::Copied);
                }
            }
            None => self.used(&Origin::Unknown, How::Copied),
        }
    }

    pub(super) fn with(&mut self, with: Option<&WithClause>) {
        let Some(with) = with else { return };
        if with.recursive {
            // They see each other; those that come later are not followed.
            for node in &with.ctes {
                if let Some(NodeEnum::CommonTableExpr(cte)) = &node.node {
                    self.queries.push(Named { name: names::cut(&cte.ctename), columns: None });
                }
            }
        }
        for node in &with.ctes {
            let Some(NodeEnum::CommonTableExpr(cte)) = &node.node else {
                self.lost();
                continue;
            };
            let columns = if with.recursive { self.recursive(cte) } else { self.named(cte) };
            self.queries.push(Named { name: names::cut(&cte.ctename), columns });
        }
    }

    fn named(&mut self, cte: &CommonTableExpr) -> Option<Rc<Vec<Out>>> {
        let query = cte.ctequery.as_ref().and_then(|query| query.node.as_ref());
        let outs = match query {
            Some(NodeEnum::SelectStmt(select)) => self.select(select),
            Some(node) => self.change(node),
            None => None,
        };
        if cte.cycle_clause.is_some() {
            // Its rows are compared with each other.
            self.grouped(outs.as_deref());
        }
        outs.and_then(|outs| called(cte, outs))
    }

    /// One that may be about itself: it begins with what its left side gives, and what it is made of
    /// grows until nothing is added (queries-with).
    fn recursive(&mut self, cte: &CommonTableExpr) -> Option<Rc<Vec<Out>>> {
        let query = cte.ctequery.as_ref().and_then(|query| query.node.as_ref());
        let Some(NodeEnum::SelectStmt(select)) = query else { return self.named(cte) };
        let Some(left) = &select.larg else { return self.named(cte) };
        // What it does in a round of which more was not known is no more than in the last.
        let name = names::cut(&cte.ctename);
        let first = {
            let before = self.queries.len();
            self.with(select.with_clause.as_ref());
            let outs = self.select(left);
            self.queries.truncate(before);
            outs
        };
        // What it is about is unknown to it then.
        let Some(mut known) = first.and_then(|outs| called(cte, outs)) else {
            return self.named(cte);
        };
        // It may be longer, and there may be more of it, with each round.
        self.grows = true;
        known = Rc::new(known.iter().map(|out| Out { long: true, ..out.clone() }).collect());
        // Each round adds a masked column to one that it gives, or is the last.
        loop {
            self.queries.push(Named { name: name.clone(), columns: Some(known.clone()) });
            let found = self.named(cte);
            self.queries.pop();
            let Some(found) = found.filter(|found| found.len() == known.len()) else {
                return self.named(cte);
            };
            let both = known.iter().zip(&*found);
            let grown: Vec<Out> = both
                .map(|(a, b)| Out {
                    name: a.name.clone(),
                    origin: either(&a.origin, &b.origin),
                    long: true,
                })
                .collect();
            if grown.iter().zip(&*known).all(|(a, b)| a.origin == b.origin) {
                return Some(known);
            }
            known = Rc::new(grown);
        }
    }

    fn body(&mut self, select: &SelectStmt) -> Option<Vec<Out>> {
        let SelectStmt {
            distinct_clause,
            into_clause: _,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause: _,
            with_clause: _,
            op,
            all,
            larg,
            rarg,
        } = select;
        let outs = if let (Some(left), Some(right)) = (larg, rarg) {
            let (left, right) = (self.select(left), self.select(right));
            let outs = match (left, right) {
                (Some(left), Some(right)) if left.len() == right.len() => {
                    let both = left.into_iter().zip(right);
                    let out = |(a, b): (Out, Out)| Out {
                        name: a.name,
                        origin: either(&a.origin, &b.origin),
                        long: a.long || b.long,
                    };
                    Some(both.map(out).collect::<Vec<_>>())
                }
                _ => None,
            };
            if !*all || *op != SetOperation::SetopUnion as i32 {
                self.grouped(outs.as_deref());
            }
            outs
        } else if values_lists.is_empty() {
            for node in from_clause {
                self.source(node);
            }
            if let Some(condition) = where_clause {
                self.condition(condition);
            }
            self.targets(target_list)
        } else {
            self.values(values_lists)
        };
        for node in group_clause {
            self.group_key(node, outs.as_deref(), target_list);
        }
        if let Some(condition) = having_clause {
            self.condition(condition);
        }
        for node in window_clause {
            match &node.node {
                Some(NodeEnum::WindowDef(window)) => self.window(window),
                _ => {
                    self.lost();
                }
            }
        }
        if !distinct_clause.is_empty() {
            let on: Vec<&Node> = distinct_clause.iter().filter(|n| n.node.is_some()).collect();
            if on.is_empty() {
                self.grouped(outs.as_deref());
            }
            for node in on {
                let origin = self.key(node, outs.as_deref(), target_list);
                self.used(&origin, How::Group);
            }
        }
        for node in sort_clause {
            match &node.node {
                Some(NodeEnum::SortBy(by)) => {
                    let Some(node) = &by.node else { continue };
                    let origin = self.key(node, outs.as_deref(), target_list);
                    self.used(&origin, How::Order);
                }
                _ => {
                    self.lost();
                }
            }
        }
        for node in [limit_offset, limit_count].into_iter().flatten() {
            let origin = self.expression(node);
            self.used(&origin, How::Condition);
        }
        outs
    }

    fn grouped(&mut self, outs: Option<&[Out]>) {
        match outs {
            Some(outs) => {
                for out in outs {
                    self.used(&out.origin, How::Group);
                }
            }
            None => self.used(&Origin::Unknown, How::Group),
        }
    }

    /// By what rows are ordered or put together: an expression, a column of the result by its name,
    /// or by its place.
    fn key(&mut self, node: &Node, outs: Option<&[Out]>, targets: &[Node]) -> Origin {
        let of_result = |find: &dyn Fn(usize, &Out) -> bool| {
            let Some(outs) = outs else { return Origin::Unknown };
            made(outs.iter().enumerate().filter(|(at, out)| find(*at, out)).map(|(_, o)| &o.origin))
        };
        match &node.node {
            Some(NodeEnum::AConst(value)) => match &value.val {
                Some(pg_query::protobuf::a_const::Val::Ival(number)) => {
                    let place = usize::try_from(number.ival).ok();
                    of_result(&|at, _| place == Some(at + 1))
                }
                _ => Origin::Clear,
            },
            Some(NodeEnum::ColumnRef(column)) if column.fields.len() == 1 => {
                let name = names::parts(&column.fields).first().map(|name| names::cut(name));
                let name = name.unwrap_or_default();
                let own = outs.is_some_and(|outs| outs.iter().any(|out| out.name == name));
                let of_result = of_result(&|_, out| out.may_be(&name));
                // What stands above both sides of a UNION has no FROM of its own.
                if own || targets.is_empty() {
                    of_result
                } else {
                    let other = self.expression(node);
                    made([&of_result, &other])
                }
            }
            _ => self.expression(node),
        }
    }

    /// By what rows are put together. The server takes sets and rows apart, so that places and names
    /// within them count as they do alone (`flatten_grouping_sets`, `parse_clause.c`).
    fn group_key(&mut self, node: &Node, outs: Option<&[Out]>, targets: &[Node]) {
        let parts = match &node.node {
            Some(NodeEnum::GroupingSet(set)) => &set.content,
            Some(NodeEnum::RowExpr(row)) => &row.args,
            Some(NodeEnum::List(list)) => &list.items,
            _ => {
                let origin = self.key(node, outs, targets);
                self.used(&origin, How::Group);
                // A name is one of FROM before it is one of the result.
                if let Some(NodeEnum::ColumnRef(column)) = &node.node
                    && let [name] = names::parts(&column.fields).as_slice()
                    && let Some(origin) = self.found(&names::cut(name))
                {
                    self.used(&origin, How::Group);
                }
                return;
            }
        };
        for part in parts {
            self.group_key(part, outs, targets);
        }
    }

    fn values(&mut self, rows: &[Node]) -> Option<Vec<Out>> {
        let mut outs: Option<Vec<Out>> = None;
        for row in rows {
            let Some(NodeEnum::List(list)) = &row.node else {
                self.lost();
                return None;
            };
            let value = |node: &Node| (self.expression(node), self.may_be_long(node, true));
            let row: Vec<_> = list.items.iter().map(value).collect();
            outs = Some(match outs {
                None => {
                    let named = row.into_iter().enumerate();
                    let out = |(at, (origin, long))| {
                        let name = format!("column{}", at + 1);
                        Out { name, origin, long }
                    };
                    named.map(out).collect()
                }
                Some(outs) if outs.len() == row.len() => {
                    let both = outs.into_iter().zip(row);
                    let out = |(out, (origin, long)): (Out, (Origin, bool))| Out {
                        name: out.name,
                        origin: either(&out.origin, &origin),
                        long: out.long || long,
                    };
                    both.map(out).collect()
                }
                Some(_) => return None,
            });
        }
        outs
    }

    /// What stands between `SELECT` and `FROM`, or behind `RETURNING`.
    pub(super) fn targets(&mut self, targets: &[Node]) -> Option<Vec<Out>> {
        let mut outs = Some(Vec::new());
        for node in targets {
            let Some(NodeEnum::ResTarget(target)) = &node.node else {
                self.lost();
                return None;
            };
            let Some(value) = &target.val else { return None };
            match self.star(value) {
                Star::Columns(columns) => {
                    if let Some(outs) = &mut outs {
                        outs.extend(columns);
                    }
                    continue;
                }
                Star::Unknown => {
                    outs = None;
                    continue;
                }
                Star::None => {}
            }
            let origin = self.expression(value);
            let name =
                if target.name.is_empty() { figure(value).0 } else { names::cut(&target.name) };
            if let Some(outs) = &mut outs {
                outs.push(Out { name, origin, long: self.may_be_long(value, true) });
            }
        }
        outs
    }

    /// The columns of `*` and `relation.*`.
    fn star(&mut self, node: &Node) -> Star {
        let fields = match &node.node {
            Some(NodeEnum::ColumnRef(column)) => &column.fields,
            Some(NodeEnum::AIndirection(indirection)) => {
                let last = indirection.indirection.last().and_then(|last| last.node.as_ref());
                if !matches!(last, Some(NodeEnum::AStar(_))) {
                    return Star::None;
                }
                // All columns of a value that is a row.
                if let Some(arg) = &indirection.arg {
                    let origin = self.expression(arg);
                    if is_masked(&origin) {
                        self.used(&origin, How::Computed);
                    }
                }
                return Star::Unknown;
            }
            _ => return Star::None,
        };
        let last = fields.last().and_then(|last| last.node.as_ref());
        if !matches!(last, Some(NodeEnum::AStar(_))) {
            return Star::None;
        }
        let path = names::parts(fields);
        let columns = if path.is_empty() {
            let items = self.levels.last().cloned().unwrap_or_default().into_iter();
            let items: Vec<_> = items.filter(|item| !item.by_name).collect();
            let plain = |item: &super::Item| !item.open && !item.unknown && !item.joined;
            items
                .iter()
                .all(plain)
                .then(|| items.into_iter().flat_map(|item| item.columns).collect::<Vec<_>>())
        } else {
            self.item(&path)
                .filter(|item| !item.open && !item.unknown && !item.joined)
                .map(|item| item.columns)
        };
        self.reads |= columns.as_ref().is_none_or(|all| all.iter().any(|c| is_masked(&c.origin)));
        columns.map_or(Star::Unknown, Star::Columns)
    }
}

/// Its columns, under the names that it is given; `None` where it has others as well.
fn called(cte: &CommonTableExpr, mut outs: Vec<Out>) -> Option<Rc<Vec<Out>>> {
    let given = names::parts(&cte.aliascolnames);
    if cte.search_clause.is_some() || cte.cycle_clause.is_some() || given.len() > outs.len() {
        return None;
    }
    for (out, name) in outs.iter_mut().zip(given) {
        out.name = names::cut(name);
    }
    Some(Rc::new(outs))
}

/// What `*` stands for.
enum Star {
    /// It is no such thing.
    None,
    Columns(Vec<Out>),
    Unknown,
}
