//! What a reading is once the catalog has been asked: a pure function.
//!
//! A name gets its schema only where it is sure that the session finds that one. All else that comes
//! of the catalog is added: more relations, columns and functions, and a higher rung. Does not belong
//! here: whether what is known still counts.

use std::collections::HashSet;

use chaperone_model::{Access, Column, QualifiedName, Reading, Relation, Rung, Statement};

use super::{
    known::{Edge, Known, Node, Oid, Others},
    sight::Sight,
};

/// Relations that a statement may get from the catalog.
const BEHIND: usize = 1024;
/// Sentences that are kept of one statement.
const SENTENCES: usize = 32;

/// The statements of a reading as the session's names stand for them. `path_is_known`: where names
/// are looked for is what the catalog said.
pub(crate) fn resolve(
    reading: &Reading,
    known: &Known,
    sight: &Sight,
    path_is_known: bool,
) -> Reading {
    let mut sight = sight.clone();
    let mut reading = reading.clone();
    for statement in &mut reading.statements {
        let path = (path_is_known && !sight.is_lost()).then_some(known.path.as_slice());
        Resolving { known, sight: &sight, path, seen: HashSet::new(), added: Vec::new() }
            .all(statement);
        // The next one of the text finds what this one made.
        sight.learn(statement);
    }
    reading
}

struct Resolving<'a> {
    known: &'a Known,
    sight: &'a Sight,
    path: Option<&'a [String]>,
    /// Which relations were come to, on which way, and for what.
    seen: HashSet<(Oid, Way, (Access, bool, bool))>,
    added: Vec<Relation>,
}

/// How it is come to a relation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    /// By its name, or from what is of no whole with it.
    Straight,
    /// As a part of another.
    Down,
    /// As the whole that another is a part of.
    Up,
}

/// What is done there.
#[derive(Clone, Copy)]
struct Done<'a> {
    access: Access,
    /// Rows are deleted.
    deletes: bool,
    /// Columns of these names are changed; `None` where it is not known which.
    updates: Option<&'a [String]>,
    /// It is emptied, with all that refers to it.
    empties: bool,
    /// Rows are changed or read, rather than the relation.
    rows: bool,
}

impl Resolving<'_> {
    fn all(&mut self, statement: &mut Statement) {
        let kind = statement.kind.clone();
        let of_rows = is_of_rows(&kind);
        let named = std::mem::take(&mut statement.relations);
        let written: Vec<String> = statement
            .columns
            .iter()
            .filter(|column| column.access == Access::Write)
            .map(|column| column.name.clone())
            .collect();
        let unknown = written.is_empty() || written.iter().any(|name| name == "*");
        let no_updates = !statement.updates;
        for relation in named {
            let done = Done {
                access: relation.access,
                deletes: statement.deletes,
                updates: if no_updates { Some(&[]) } else { (!unknown).then_some(&written) },
                empties: statement.cascade && kind == "TRUNCATE TABLE",
                rows: of_rows || relation.access == Access::Read,
            };
            // What is made gets its schema by other rules.
            let resolves = of_rows || kind.starts_with("DROP ") || relation.access == Access::Read;
            let found = self.relation(statement, relation, resolves);
            for oid in found {
                self.behind(statement, oid, done, Way::Straight);
            }
        }
        for relation in std::mem::take(&mut self.added) {
            let column = Column {
                relation: Some(relation.name.clone()),
                name: "*".into(),
                access: relation.access,
            };
            statement.columns.push(column);
            statement.relations.push(relation);
        }
        self.code(statement);
        statement.relations.sort();
        statement.relations.dedup();
        statement.columns.sort();
        statement.columns.dedup();
        statement.functions.sort();
        statement.functions.dedup();
    }

    /// Finds what a name stands for, and gives it its schema where that is sure. Answers with all
    /// that it may be.
    fn relation(
        &mut self,
        statement: &mut Statement,
        relation: Relation,
        resolves: bool,
    ) -> Vec<Oid> {
        let name = &relation.name;
        let schema = |node: &Node| node.name.schema.clone().unwrap_or_default();
        let mut found: Vec<(Oid, String)> =
            self.known.of_name(&name.name).map(|(oid, node)| (oid, schema(node))).collect();
        if let Some(behind) = self.sight.made(&name.name, !found.is_empty()).map(<[_]>::to_vec) {
            // Its own, or the one that others see.
            for one in behind {
                let sentence = format!("this session made {name} from {}", one.name);
                self.add(statement, one.name, relation.access, &sentence);
            }
        } else if let (None, Some(path), true) = (&name.schema, self.path, resolves) {
            let first = path.iter().find_map(|schema| found.iter().find(|(_, of)| of == schema));
            if let Some((oid, schema)) = first.cloned() {
                let full = QualifiedName { schema: Some(schema), name: name.name.clone() };
                for column in &mut statement.columns {
                    if column.relation.as_ref() == Some(name) {
                        column.relation = Some(full.clone());
                    }
                }
                statement.relations.push(Relation { name: full, access: relation.access });
                return vec![oid];
            }
            found.clear();
        }
        found.retain(|(_, of)| match (&name.schema, self.path) {
            (Some(schema), _) => schema == of,
            (None, Some(path)) => path.contains(of),
            (None, None) => true,
        });
        statement.relations.push(relation);
        found.into_iter().map(|(oid, _)| oid).collect()
    }

    /// Adds what is behind a relation.
    fn behind(&mut self, statement: &mut Statement, oid: Oid, done: Done<'_>, way: Way) {
        let known = self.known;
        let Some(node) = known.relations.get(&oid) else { return };
        let what = (done.access, done.deletes, done.updates.is_none());
        if !self.seen.insert((oid, way, what)) {
            return;
        }
        let name = &node.name;
        let writes = done.access == Access::Write;
        if node.cut || self.added.len() >= BEHIND {
            raise(statement, format!("more is behind {name} than is looked at"));
            return;
        }
        if node.kind == 'f' {
            say(statement, &format!("{name} is a table of another server"));
        }
        if let (Some(query), true) = (&node.query, done.rows) {
            query_of(statement, name, query);
        }
        for edge in &node.edges {
            let (to, done, how, next) = match edge {
                Edge::Reads(to) if done.rows => {
                    // The query of a materialized view has been run already.
                    let access = if node.kind == 'm' { Access::Read } else { done.access };
                    // Columns have other names there.
                    let updates = if statement.updates { None } else { done.updates };
                    let done = Done { access, updates, ..done };
                    (*to, done, format!("the view {name} is a query of"), Way::Straight)
                }
                Edge::Rule(to) if writes && done.rows => {
                    raise(statement, format!("a rule of {name} makes something else of it"));
                    let Some(to) = to else { continue };
                    (*to, done, format!("a rule of {name} goes to"), Way::Straight)
                }
                Edge::Child(to) if way != Way::Up => {
                    (*to, done, format!("{name} has the part"), Way::Down)
                }
                Edge::Parent(to) if way != Way::Down => {
                    (*to, done, format!("{name} is a part of"), Way::Up)
                }
                Edge::Of(to) => (*to, done, format!("{name} is an index of"), Way::Straight),
                Edge::Deletes(to, further) if writes && done.deletes => {
                    let done = Done { deletes: *further, updates: Some(&[]), ..done };
                    let what = if *further { "deletes" } else { "changes" };
                    (*to, done, format!("deleting rows of {name} {what} rows of"), Way::Straight)
                }
                Edge::Updates(to, keys) if writes && changes(done.updates, keys) => {
                    let done = Done { deletes: false, updates: None, ..done };
                    (*to, done, format!("changing keys of {name} changes rows of"), Way::Straight)
                }
                Edge::References(to) if writes && done.empties => {
                    (*to, done, format!("emptying {name} empties"), Way::Straight)
                }
                Edge::Trigger(function) if writes && done.rows => {
                    say(statement, &format!("a trigger of {name} calls {function}"));
                    statement.functions.push(function.clone());
                    continue;
                }
                _ => continue,
            };
            let Some(target) = known.relations.get(&to) else { continue };
            let sentence = format!("{how} {}", target.name);
            self.add(statement, target.name.clone(), done.access, &sentence);
            self.behind(statement, to, done, next);
        }
    }

    /// Code of others that stands where PostgreSQL's own is expected.
    fn code(&self, statement: &mut Statement) {
        let found = |others: &Others, name: &str| {
            let in_path = |schema: &&String| self.path.is_none_or(|path| path.contains(schema));
            others.get(name)?.iter().find(in_path).cloned()
        };
        let known = self.known;
        let functions = statement
            .functions
            .iter()
            .filter(|function| function.schema.is_none())
            .find_map(|function| Some((found(&known.functions, &function.name)?, &function.name)))
            .map(|(schema, name)| format!("it may call {schema}.{name}"));
        let operators = || {
            let of = |name: &String| Some((found(&known.operators, name)?, name.clone()));
            let (schema, name) = statement.operators.iter().find_map(of)?;
            Some(format!("it may use the operator {schema}.{name}"))
        };
        let types = || {
            let is_it = |of: &QualifiedName| {
                let schemas = known.casts.get(&of.name)?;
                let schema = match &of.schema {
                    Some(schema) => schemas.contains(schema).then(|| schema.clone()),
                    None => found(&known.casts, &of.name),
                };
                Some((schema?, of.name.clone()))
            };
            let (schema, name) = statement.types.iter().find_map(is_it)?;
            Some(format!("it may call the function of a cast to {schema}.{name}"))
        };
        let columns = || {
            let read = statement.columns.iter().filter(|column| column.access == Access::Read);
            let of =
                |column: &Column| Some((found(&known.of_rows, &column.name)?, column.name.clone()));
            let (schema, name) = read.into_iter().find_map(of)?;
            Some(format!("it may call {schema}.{name} of a row"))
        };
        if let Some(what) = functions.or_else(operators).or_else(types).or_else(columns) {
            raise(statement, format!("{what}, which is not known to be harmless"));
        }
    }

    fn add(
        &mut self,
        statement: &mut Statement,
        name: QualifiedName,
        access: Access,
        sentence: &str,
    ) {
        say(statement, sentence);
        self.added.push(Relation { name, access });
    }
}

/// A statement on a view does what the view's query does.
fn query_of(statement: &mut Statement, view: &QualifiedName, query: &Reading) {
    for one in &query.statements {
        statement.functions.extend(one.functions.iter().cloned());
        statement.operators.extend(one.operators.iter().cloned());
        statement.types.extend(one.types.iter().cloned());
        if one.rung > Rung::Read {
            statement.opaque |= one.opaque;
            if one.rung > statement.rung {
                statement.rung = one.rung;
                statement.reason = format!("of the view {view}: {}", one.reason);
            }
        }
    }
}

/// Whether statements of a kind are about the rows of the relations that they name, and find them as
/// a query does.
fn is_of_rows(kind: &str) -> bool {
    const KINDS: [&str; 15] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "MERGE",
        "COPY",
        "TRUNCATE TABLE",
        "PREPARE",
        "EXECUTE",
        "DECLARE CURSOR",
        "FETCH",
        "MOVE",
        "EXPLAIN",
        "LOCK TABLE",
        "REFRESH MATERIALIZED VIEW",
    ];
    KINDS.contains(&kind)
}

/// Whether one of the keys may be among the columns that are changed.
fn changes(columns: Option<&[String]>, keys: &[String]) -> bool {
    columns.is_none_or(|columns| columns.iter().any(|column| keys.contains(column)))
}

/// It runs what its text does not show.
fn raise(statement: &mut Statement, reason: String) {
    say(statement, &reason);
    statement.opaque = true;
    if statement.rung < Rung::Destructive {
        statement.rung = Rung::Destructive;
        statement.reason = reason;
    }
}

fn say(statement: &mut Statement, sentence: &str) {
    if statement.catalog.len() < SENTENCES && !statement.catalog.iter().any(|s| s == sentence) {
        statement.catalog.push(sentence.to_owned());
    }
}

#[cfg(test)]
mod tests;
