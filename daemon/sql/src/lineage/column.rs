//! Which column, or which relation, a name is of, as the server finds it.

use chaperone_model::{How, Origin};
use pg_query::{NodeEnum, protobuf::ColumnRef};

use super::{Item, Walk, is_masked, made};
use crate::read::names;

/// Columns that every table has, and of which none is masked (ddl-system-columns).
const SYSTEM: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

impl Walk<'_> {
    pub(super) fn column(&mut self, column: &ColumnRef) -> Origin {
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
