//! What stands in `FROM`, `USING` and `UPDATE … FROM`.

use chaperone_model::{How, Origin};
use pg_query::{
    Node, NodeEnum,
    protobuf::{Alias, JoinExpr, RangeFunction, RangeSubselect},
};

use super::{Item, Walk, made, rename};
use crate::read::names;

impl Walk<'_> {
    pub(super) fn add(&mut self, item: Item) {
        if let Some(level) = self.levels.last_mut() {
            level.push(item);
        }
    }

    pub(super) fn source(&mut self, node: &Node) {
        match &node.node {
            Some(NodeEnum::RangeVar(range)) => {
                let mut item = self.relation(range);
                // A query of `WITH` can be given other names, too.
                if item.table.is_none()
                    && let Some(alias) = &range.alias
                {
                    rename(&mut item, &names::parts(&alias.colnames));
                }
                self.add(item);
            }
            Some(NodeEnum::RangeSubselect(select)) => self.range_subselect(select),
            Some(NodeEnum::JoinExpr(join)) => self.join(join),
            Some(NodeEnum::RangeFunction(function)) => self.range_function(function),
            Some(NodeEnum::RangeTableSample(sample)) => {
                if let Some(relation) = &sample.relation {
                    self.source(relation);
                }
                // Nothing else of the same FROM is seen there (`transformRangeTableSample`,
                // `parse_clause.c`).
                let hidden = self.levels.last_mut().map(std::mem::take);
                for node in sample.args.iter().chain(sample.repeatable.as_deref()) {
                    let origin = self.expression(node);
                    self.used(&origin, How::Condition);
                }
                if let (Some(hidden), Some(level)) = (hidden, self.levels.last_mut()) {
                    *level = hidden;
                }
            }
            _ => {
                self.lost();
                self.add(Item::unknown(""));
            }
        }
    }

    fn range_subselect(&mut self, select: &RangeSubselect) {
        let RangeSubselect { lateral, subquery, alias } = select;
        // What comes before it in the same FROM is seen by LATERAL alone.
        let hidden = if *lateral { None } else { self.levels.last_mut().map(std::mem::take) };
        let outs = self.subquery(subquery.as_deref());
        if let (Some(hidden), Some(level)) = (hidden, self.levels.last_mut()) {
            *level = hidden;
        }
        let name = alias_name(alias.as_ref());
        let mut item = match outs {
            Some(outs) => Item::of(name, outs),
            None => Item::unknown(name),
        };
        if let Some(alias) = alias {
            rename(&mut item, &names::parts(&alias.colnames));
        }
        self.add(item);
    }

    fn join(&mut self, join: &JoinExpr) {
        let JoinExpr {
            jointype: _,
            is_natural,
            larg,
            rarg,
            using_clause,
            join_using_alias,
            quals,
            alias,
            rtindex: _,
        } = join;
        let before = self.levels.last().map_or(0, Vec::len);
        if let Some(left) = larg {
            self.source(left);
        }
        let middle = self.levels.last().map_or(0, Vec::len);
        if let Some(right) = rarg {
            self.source(right);
        }
        if *is_natural || !using_clause.is_empty() {
            // The columns of both sides become one each.
            let items = self.levels.last().cloned().unwrap_or_default();
            let sides = items.get(before..).unwrap_or_default();
            let (left, right) = sides.split_at(middle.saturating_sub(before).min(sides.len()));
            let using: Vec<String> =
                names::parts(using_clause).into_iter().map(names::cut).collect();
            // Which columns such a one has is not known: it may have any.
            let open = *is_natural && sides.iter().any(|item| item.open || item.unknown);
            let mut compared = Vec::new();
            for (side, other) in [(left, right), (right, left)] {
                let has = |name: &str| {
                    let mut columns = other.iter().flat_map(|item| &item.columns);
                    columns.any(|column| name.is_empty() || column.may_be(name))
                };
                for item in side {
                    if item.unknown {
                        compared.push(Origin::Unknown);
                    }
                    for column in &item.columns {
                        let named = using.iter().any(|name| column.may_be(name));
                        if open || named || *is_natural && has(&column.name) {
                            compared.push(column.origin.clone());
                        }
                    }
                }
            }
            for origin in compared {
                self.used(&origin, How::Condition);
            }
            if let Some(level) = self.levels.last_mut() {
                for item in level.iter_mut().skip(before) {
                    item.joined = true;
                }
            }
        }
        if let Some(condition) = quals {
            // What else stands in FROM is not seen there (`transformJoinOnClause`, `parse_clause.c`).
            let hidden: Option<Vec<Item>> =
                self.levels.last_mut().map(|level| level.drain(..before).collect());
            self.condition(condition);
            if let (Some(hidden), Some(level)) = (hidden, self.levels.last_mut()) {
                level.splice(..0, hidden);
            }
        }
        if alias.is_some() || join_using_alias.is_some() {
            // Another name for what both have together.
            let items = self.levels.last_mut().map(|level| level.split_off(before));
            let items = items.unwrap_or_default();
            let whole = made(items.iter().map(Item::whole).collect::<Vec<_>>().iter());
            let name = alias_name(alias.as_ref().or(join_using_alias.as_ref()));
            let item = if whole == Origin::Clear { Item::open(name) } else { Item::unknown(name) };
            if alias.is_none() {
                for item in items {
                    self.add(item);
                }
            }
            self.add(item);
        }
    }

    fn range_function(&mut self, function: &RangeFunction) {
        let RangeFunction {
            lateral: _,
            ordinality: _,
            is_rowsfrom: _,
            functions,
            alias,
            coldeflist: _,
        } = function;
        let mut origins = Vec::new();
        for node in functions {
            let Some(NodeEnum::List(list)) = &node.node else {
                origins.push(self.lost());
                continue;
            };
            for item in list.items.iter().filter(|item| item.node.is_some()) {
                let origin = match &item.node {
                    // The columns' definitions stand beside it.
                    Some(NodeEnum::List(_) | NodeEnum::ColumnDef(_)) => continue,
                    _ => self.expression(item),
                };
                // How many rows it gives may depend on what it is given.
                self.used(&origin, How::Computed);
                origins.push(origin);
            }
        }
        let name = alias_name(alias.as_ref());
        let clear = origins.iter().all(|origin| *origin == Origin::Clear);
        self.add(if clear { Item::open(name) } else { Item::unknown(name) });
    }
}

fn alias_name(alias: Option<&Alias>) -> String {
    alias.map(|alias| names::cut(&alias.aliasname)).unwrap_or_default()
}
