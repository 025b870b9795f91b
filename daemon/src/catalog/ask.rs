//! What a catalog is asked, and how its answers are taken.
//!
//! The account's own search path may put others' functions and operators before PostgreSQL's: it is
//! asked for first, and then set aside.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    time::{Duration, Instant},
};

use chaperone_model::QualifiedName;
use chaperone_sql::readers::Readers;
use chaperone_wire::postgres::Row;
use tokio::sync::Semaphore;

use super::known::{Attribute, Edge, Known, Node, Oid, Others};
use crate::{
    asking::Asking,
    inspect::{Destination, literal},
    upstream::Held,
};

/// How far it is looked behind a relation, step by step.
const DEPTH: usize = 16;
/// What is looked at behind the names of one statement.
const BEHIND: usize = 1024;
/// Others' functions with the names of PostgreSQL's own or of a row, others' operators, and schemas'
/// relations of the names of one statement: where there are more, nothing is known.
const OTHERS: usize = 2000;
/// The first identifier that is not PostgreSQL's own (`FirstNormalObjectId`,
/// src/include/access/transam.h).
const FIRST_OF_USERS: Oid = 16_384;

/// How long a connection is kept for the next question. It counts against the account's limit, and a
/// server waits longer than this for others before it refuses to drop a database
/// (`CountOtherDBBackends`, src/backend/storage/ipc/procarray.c).
pub(super) const IDLE: Duration = Duration::from_millis(300);
/// How long one is used at all.
const AGE: Duration = Duration::from_secs(10);

/// What a session of the account begins with, beyond the server's own settings, which reach open
/// connections too.
const SETTINGS: &str =
    "SELECT json_agg(s ORDER BY s.setdatabase, s.setrole)::text FROM pg_db_role_setting s
     WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
       AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))";

/// A connection on which a catalog is asked.
pub(super) struct Open {
    asking: Asking,
    /// What its session began with, as it was when it asked first.
    settings: Option<Vec<Row>>,
    begun: Instant,
    pub(super) used: Instant,
}

impl Open {
    pub(super) async fn connect(
        deriving: &Semaphore,
        place: &Destination,
        held: &Held,
    ) -> Result<Self, String> {
        let mut asking = Asking::connect(deriving, place, held, "chaperone (catalog)").await?;
        asking.ask("SET statement_timeout = '4s'").await?;
        asking.ask("SET lock_timeout = '300ms'").await?;
        let now = Instant::now();
        Ok(Self { asking, settings: None, begun: now, used: now })
    }

    /// Whether it may ask once more.
    pub(super) fn lasts(&self) -> bool {
        self.begun.elapsed() < AGE && self.used.elapsed() < IDLE
    }

    pub(super) async fn goodbye(mut self) {
        self.asking.goodbye().await;
    }

    /// Asks for these names, and for what is behind them. Answers whether all of it could be seen: what
    /// somebody is changing just now is locked. `None`: a session that begins now begins otherwise than
    /// this one did.
    pub(super) async fn ask(
        &mut self,
        readers: &Readers,
        place: &Destination,
        names: &BTreeSet<String>,
        known: &mut Known,
    ) -> Result<Option<bool>, String> {
        let asking = &mut self.asking;
        if self.settings.is_some() {
            asking.ask("RESET search_path").await?;
        }
        asking.ask("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // Before anything that is looked for by a search path: no operator is in it.
        let path = asking.ask("SELECT pg_catalog.unnest(pg_catalog.current_schemas(true))").await?;
        known.path = path.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
        if known.path.is_empty() {
            return Err("it did not say where names are looked for".into());
        }
        asking.ask("SET LOCAL search_path = pg_catalog").await?;
        let settings = asking.ask(SETTINGS).await?;
        if *self.settings.get_or_insert_with(|| settings.clone()) != settings {
            return Ok(None);
        }
        let whole = of_names(asking, readers, place, names, known).await?;
        self.used = Instant::now();
        Ok(Some(whole))
    }
}

/// Within a transaction that looks for names in PostgreSQL's own schema; ends it.
async fn of_names(
    asking: &mut Asking,
    readers: &Readers,
    place: &Destination,
    names: &BTreeSet<String>,
    known: &mut Known,
) -> Result<bool, String> {
    known.functions = others(&asking.ask(&shadowing()).await?)?;
    known.operators = others(&asking.ask(&operators()).await?)?;
    known.casts = others(&asking.ask(&casts()).await?)?;
    known.of_rows = others(&asking.ask(&of_rows()).await?)?;

    let new: Vec<&String> = names.iter().filter(|name| !known.names.contains_key(*name)).collect();
    if new.is_empty() {
        asking.ask("COMMIT").await?;
        return Ok(true);
    }
    let rows = asking.ask(&relations(&new)).await?;
    if rows.len() >= OTHERS {
        return Err("too many relations have such a name".into());
    }
    for name in new {
        known.names.insert(name.clone(), Vec::new());
    }
    let mut next = Vec::new();
    for row in &rows {
        let (oid, node) = node(row, 0).ok_or("it said something else")?;
        known.names.entry(node.name.name.clone()).or_default().push(oid);
        next.push((oid, node));
    }
    let views = behind(asking, known, next).await?;
    // As the account would write them: but what is asked here looks for names itself. Each on its own,
    // for a lock that is not had ends a transaction.
    asking.ask("COMMIT").await?;
    if !views.is_empty() && known.path.first().is_none_or(|first| first != "pg_catalog") {
        asking.ask("SET search_path = pg_catalog").await?;
    }
    queries(asking, readers, place, known, views).await
}

/// Goes on from relations to what is behind them. Answers the views among them.
async fn behind(
    asking: &mut Asking,
    known: &mut Known,
    mut next: Vec<(Oid, Node)>,
) -> Result<Vec<Oid>, String> {
    let (mut views, mut count) = (Vec::new(), 0);
    let mut all = Vec::new();
    for depth in 0.. {
        let mut ask_for = Vec::new();
        for (oid, node) in next.drain(..) {
            let own = oid < FIRST_OF_USERS;
            if known.relations.contains_key(&oid) {
                continue;
            }
            if !own {
                ask_for.push(oid);
                if matches!(node.kind, 'v' | 'm') {
                    views.push(oid);
                }
            }
            all.push(oid);
            known.relations.insert(oid, node);
        }
        if ask_for.is_empty() {
            break;
        }
        count += ask_for.len();
        let rows = if depth < DEPTH && count <= BEHIND {
            asking.ask(&edges(&ask_for)).await?
        } else {
            Vec::new()
        };
        if depth >= DEPTH || count > BEHIND || rows.len() > BEHIND {
            for oid in ask_for {
                if let Some(node) = known.relations.get_mut(&oid) {
                    node.cut = true;
                }
            }
            break;
        }
        for row in &rows {
            let (from, edge) = edge(row).ok_or("it said something else")?;
            if let Some(node) = known.relations.get_mut(&from) {
                node.edges.push(edge);
            }
            next.extend(node(row, 2));
        }
    }
    for some in all.chunks(BEHIND) {
        for row in asking.ask(&columns(some)).await? {
            let (of, column) = column(&row).ok_or("it said something else")?;
            if let Some(node) = known.relations.get_mut(&of) {
                node.columns.push(column);
            }
        }
    }
    Ok(views)
}

/// Reads the queries of views, as the account would write them.
async fn queries(
    asking: &mut Asking,
    readers: &Readers,
    place: &Destination,
    known: &mut Known,
    views: Vec<Oid>,
) -> Result<bool, String> {
    let mut whole = true;
    for view in views {
        let (mut query, mut said) = (None, None);
        if whole {
            let rows = asking.ask(&format!("SELECT pg_catalog.pg_get_viewdef({view})")).await;
            let text = rows.ok().and_then(|rows| rows.into_iter().next()?.into_iter().next()?);
            if let Some(text) = text {
                query = Some(readers.read(&text, &place.agent.0).await);
                said = Some(text.into());
            }
        }
        whole &= query.is_some();
        if let Some(node) = known.relations.get_mut(&view) {
            node.cut |= query.is_none();
            let read = query.iter().flat_map(|query| &query.statements);
            let names = read.flat_map(|one| &one.relations).map(|one| one.name.name.clone());
            node.reads = names.collect();
            node.text = said;
            // What is in a materialized view has been put there already.
            node.query = query.filter(|_| node.kind == 'v');
        }
    }
    Ok(whole)
}

fn relations(names: &[&String]) -> String {
    format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind::text
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relname = ANY (ARRAY[{}]::name[]) AND n.nspname !~ '^pg_(temp|toast)' LIMIT {OTHERS}",
        list(names.iter().map(|name| literal(name)))
    )
}

/// What there is of these relations: from which, what, to which, its schema, name and kind, and more
/// of the what.
fn edges(from: &[Oid]) -> String {
    let from = list(from);
    format!(
        "SELECT e.a, e.what, c.oid, n.nspname, c.relname, c.relkind::text, e.more FROM (
             SELECT r.ev_class AS a, CASE r.ev_type WHEN '1' THEN 'reads' ELSE 'rule' END AS what,
                    d.refobjid AS b, NULL AS more
               FROM pg_rewrite r LEFT JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass
                    AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid <> r.ev_class
              WHERE r.ev_class IN ({from}) AND r.ev_enabled <> 'D'
         UNION SELECT inhparent, 'child', inhrelid, NULL FROM pg_inherits WHERE inhparent IN ({from})
         UNION SELECT inhrelid, 'parent', inhparent, NULL FROM pg_inherits WHERE inhrelid IN ({from})
         UNION SELECT y.typrelid, 'child', c.oid, NULL FROM pg_class c
               JOIN pg_type y ON y.oid = c.reloftype WHERE y.typrelid IN ({from})
         UNION SELECT c.oid, 'parent', y.typrelid, NULL FROM pg_class c
               JOIN pg_type y ON y.oid = c.reloftype WHERE c.oid IN ({from})
         UNION SELECT indexrelid, 'of', indrelid, NULL FROM pg_index WHERE indexrelid IN ({from})
         UNION SELECT confrelid, 'deletes', conrelid, confdeltype::text FROM pg_constraint
              WHERE contype = 'f' AND confdeltype IN ('c', 'n', 'd') AND confrelid IN ({from})
         UNION SELECT confrelid, 'references', conrelid, NULL FROM pg_constraint
              WHERE contype = 'f' AND confrelid IN ({from})
         UNION SELECT k.confrelid, 'updates', k.conrelid, (
                    SELECT json_agg(a.attname)::text FROM pg_attribute a
                     WHERE a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey))
               FROM pg_constraint k
              WHERE k.contype = 'f' AND k.confupdtype IN ('c', 'n', 'd') AND k.confrelid IN ({from})
         UNION SELECT t.tgrelid, 'trigger', NULL, json_build_array(n.nspname, p.proname)::text
               FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                    JOIN pg_namespace n ON n.oid = p.pronamespace
              WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgrelid IN ({from})
         ) e LEFT JOIN pg_class c ON c.oid = e.b LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE NOT (e.what = 'reads' AND e.b IS NULL) LIMIT {}",
        BEHIND + 1
    )
}

/// The columns of these relations, in order.
fn columns(of: &[Oid]) -> String {
    format!(
        "SELECT a.attrelid, a.attnum, a.attname,
                CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE a.atttypid END, a.attgenerated <> '',
                EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid
                        AND (i.indisunique OR i.indisexclusion)
                        AND (a.attnum = ANY (i.indkey) OR i.indexprs IS NOT NULL))
                OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid
                           AND k.contype = 'f' AND a.attnum = ANY (k.conkey))
         FROM pg_attribute a LEFT JOIN pg_type t ON t.oid = a.atttypid
         WHERE a.attrelid IN ({}) AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attrelid, a.attnum",
        list(of)
    )
}

fn column(row: &Row) -> Option<(Oid, Attribute)> {
    let [Some(of), Some(number), Some(name), Some(type_oid), Some(generated), Some(checked)] =
        row.as_slice()
    else {
        return None;
    };
    let attribute = Attribute {
        number: number.parse().ok()?,
        name: name.clone(),
        type_oid: type_oid.parse().ok()?,
        generated: generated == "t",
        checked: checked == "t",
    };
    Some((of.parse().ok()?, attribute))
}

/// Functions of others that have a name of PostgreSQL's own: what has another is not known to be
/// harmless anyway. Those of extensions are left out: only who may create extensions could put one
/// there, which is forbidden to agents.
fn shadowing() -> String {
    format!(
        "SELECT DISTINCT n.nspname, p.proname FROM pg_proc p
                JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.oid >= {FIRST_OF_USERS} AND n.nspname !~ '^pg_(temp|toast)'
               AND EXISTS (SELECT FROM pg_proc o
                           WHERE o.proname = p.proname AND o.oid < {FIRST_OF_USERS})
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                               AND d.objid = p.oid AND d.deptype = 'e') LIMIT {OTHERS}"
    )
}

/// Operators of others, whatever their names: each calls a function.
fn operators() -> String {
    format!(
        "SELECT DISTINCT n.nspname, p.oprname FROM pg_operator p
                JOIN pg_namespace n ON n.oid = p.oprnamespace
         WHERE p.oid >= {FIRST_OF_USERS} AND n.nspname !~ '^pg_(temp|toast)'
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_operator'::regclass
                               AND d.objid = p.oid AND d.deptype = 'e') LIMIT {OTHERS}"
    )
}

/// Types of others, arrays of them and domains over them, to which a cast calls a function of others.
/// Casts to PostgreSQL's own types stand in too many statements to be told by their names.
fn casts() -> String {
    format!(
        "SELECT DISTINCT n.nspname, t.typname FROM pg_cast c
                JOIN pg_type t ON c.casttarget IN (t.oid, t.typelem, t.typbasetype)
                JOIN pg_namespace n ON n.oid = t.typnamespace
         WHERE c.castfunc >= {FIRST_OF_USERS} AND t.oid >= {FIRST_OF_USERS}
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass
                               AND d.objid = c.oid AND d.deptype = 'e') LIMIT {OTHERS}"
    )
}

/// Functions of one row, where the row has no column of that name. A row may be given to a domain
/// over it, and as the first of any number.
fn of_rows() -> String {
    format!(
        "SELECT DISTINCT n.nspname, p.proname FROM pg_proc p
                JOIN pg_namespace n ON n.oid = p.pronamespace
                JOIN pg_type t ON t.oid = CASE WHEN p.provariadic <> 0 AND p.pronargs = 1
                                               THEN p.provariadic ELSE p.proargtypes[0] END
         WHERE p.oid >= {FIRST_OF_USERS} AND p.pronargs - p.pronargdefaults <= 1
               AND (t.typtype = 'c'
                    OR t.typname IN ('record', 'any', 'anyelement', 'anynonarray',
                                     'anycompatible', 'anycompatiblenonarray')
                    OR t.typtype = 'd' AND EXISTS (SELECT FROM pg_type b WHERE b.oid = t.typbasetype
                                                   AND b.typtype IN ('c', 'd')))
               AND NOT EXISTS (SELECT FROM pg_attribute a
                               WHERE a.attrelid = t.typrelid AND a.attname = p.proname)
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                               AND d.objid = p.oid AND d.deptype = 'e') LIMIT {OTHERS}"
    )
}

fn list<T: std::fmt::Display>(of: impl IntoIterator<Item = T>) -> String {
    of.into_iter().enumerate().fold(String::new(), |mut list, (at, one)| {
        let _ = write!(list, "{}{one}", if at == 0 { "" } else { ", " });
        list
    })
}

fn others(rows: &[Row]) -> Result<Others, String> {
    if rows.len() >= OTHERS {
        return Err("others have too many functions or operators that a statement may mean".into());
    }
    let mut found = Others::new();
    for row in rows {
        let [Some(schema), Some(name)] = row.as_slice() else {
            return Err("it said something else".into());
        };
        found.entry(name.clone()).or_default().push(schema.clone());
    }
    Ok(found)
}

/// A relation: its number, schema, name and kind, from this column on.
fn node(row: &Row, at: usize) -> Option<(Oid, Node)> {
    let [Some(oid), Some(schema), Some(name), Some(kind)] = row.get(at..at + 4)? else {
        return None;
    };
    let name = QualifiedName { schema: Some(schema.clone()), name: name.clone() };
    let kind = kind.chars().next()?;
    let (edges, columns) = (Vec::new(), Vec::new());
    Some((
        oid.parse().ok()?,
        Node { name, kind, edges, columns, query: None, text: None, cut: false, reads: Vec::new() },
    ))
}

fn edge(row: &Row) -> Option<(Oid, Edge)> {
    let [Some(from), Some(what), to, _, _, _, more] = row.as_slice() else { return None };
    let to = to.as_ref().map(|to| to.parse::<Oid>()).transpose().ok()?;
    let names = || serde_json::from_str::<Vec<String>>(more.as_deref()?).ok();
    let edge = match what.as_str() {
        "reads" => Edge::Reads(to?),
        "rule" => Edge::Rule(to),
        "child" => Edge::Child(to?),
        "parent" => Edge::Parent(to?),
        "of" => Edge::Of(to?),
        "deletes" => Edge::Deletes(to?, more.as_deref() == Some("c")),
        "references" => Edge::References(to?),
        "updates" => Edge::Updates(to?, names()?),
        "trigger" => {
            let [schema, name] = <[String; 2]>::try_from(names()?).ok()?;
            Edge::Trigger(QualifiedName { schema: Some(schema), name })
        }
        _ => return None,
    };
    Some((from.parse().ok()?, edge))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Row {
        let value = |value: &&str| (*value != "-").then(|| (*value).to_owned());
        values.iter().map(value).collect()
    }

    #[test]
    fn what_is_said_of_relations_is_taken_or_refused() {
        let of = |values: &[&str]| edge(&row(values));
        assert_eq!(
            of(&["7", "updates", "8", "s", "t", "r", r#"["id"]"#]),
            Some((7, Edge::Updates(8, vec!["id".into()])))
        );
        assert_eq!(
            of(&["7", "deletes", "8", "s", "t", "r", "n"]),
            Some((7, Edge::Deletes(8, false)))
        );
        assert_eq!(of(&["7", "rule", "-", "-", "-", "-", "-"]), Some((7, Edge::Rule(None))));
        let name = QualifiedName { schema: Some("s".into()), name: "f".into() };
        assert_eq!(
            of(&["7", "trigger", "-", "-", "-", "-", r#"["s", "f"]"#]),
            Some((7, Edge::Trigger(name)))
        );
        for wrong in [&["7", "x", "8", "s", "t", "r", "-"][..], &["7"], &["7", "child", "-"]] {
            assert_eq!(of(wrong), None);
        }
    }

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        assert!(relations(&[&"a'b".to_owned()]).contains("ARRAY['a''b']"));
    }
}
