//! Appending to one file: a transaction holds records' rows and the tree's hashes for them.
//!
//! Does not belong here: who queues records, and when a new file begins.

use std::{
    cell::RefCell,
    collections::HashSet,
    path::{Path, PathBuf},
};

use chaperone_model::{Record, Seq, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter, types::ToSql};

use crate::{
    AuditError,
    canonical::{Canonical, Content, Value},
    erase, files,
    interned::Interned,
    keys::Keys,
    read,
    row::row,
    schema,
    table::Table,
    tree::{Frontier, Hash},
};

mod carry;

/// A file of the log that is appended to.
pub(crate) struct Appender {
    pub(crate) path: PathBuf,
    pub(crate) connection: Connection,
    /// The first record that was or will be appended to this file.
    first: Seq,
    last: Seq,
    frontier: Frontier,
    interned: Interned,
    canonical: Canonical,
    completed: Vec<Hash>,
    /// Commands without an outcome.
    open: HashSet<Seq>,
    /// Those of the transaction that become open or get their outcome.
    moved: Vec<(Seq, bool)>,
    keys: Keys,
    /// Records of earlier files that are referred to and that no file has.
    nowhere: RefCell<HashSet<(&'static str, Seq)>>,
}

/// What a file begins with.
pub(crate) struct Beginning {
    /// The tree so far.
    pub(crate) frontier: Frontier,
    /// The hashes that the tree's frontier is found by: the rows of the table `tree` that it needs.
    pub(crate) rows: Vec<(Seq, Vec<u8>)>,
    /// The name of the file before this one.
    pub(crate) before: Option<String>,
}

impl Beginning {
    /// Of the first file.
    pub(crate) fn of_nothing() -> Self {
        Self { frontier: Frontier::default(), rows: Vec::new(), before: None }
    }
}

impl Appender {
    /// Opens a file that is there, or begins one.
    pub(crate) fn open(
        path: &Path,
        beginning: impl FnOnce() -> Result<Beginning, AuditError>,
    ) -> Result<Self, AuditError> {
        let mut connection = files::connect(path)?;
        schema::migrate(&mut connection, path)?;
        let first = connection
            .query_row("SELECT first_seq FROM file", [], |row| row.get(0))
            .optional()?
            .map(Seq);
        let first = match first {
            Some(first) => first,
            None => begin(&mut connection, beginning()?)?,
        };
        let last: u64 =
            connection.query_row("SELECT coalesce(max(seq), 0) FROM tree", [], |row| row.get(0))?;
        let last = Seq(last.max(first.0 - 1));
        let frontier = read::frontier(&connection, last.0)?
            .ok_or_else(|| AuditError::Corrupt("the tree's hashes are not whole".into()))?;
        Ok(Self {
            path: path.into(),
            connection,
            first,
            last,
            frontier,
            interned: Interned::default(),
            canonical: Canonical::default(),
            completed: Vec::new(),
            open: HashSet::new(),
            moved: Vec::new(),
            keys: Keys::default(),
            nowhere: RefCell::default(),
        })
    }

    /// The number of the last record.
    pub(crate) fn last(&self) -> Seq {
        self.last
    }

    /// The tree over all records.
    pub(crate) fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Commands that this writer has written and that have no outcome yet.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = Seq> {
        self.open.iter().copied()
    }

    /// These have none either, and stand in this file.
    pub(crate) fn adopt(&mut self, open: impl Iterator<Item = Seq>) {
        self.open.extend(open);
    }

    /// All commands up to here have an outcome.
    pub(crate) fn settled(&self) -> Seq {
        self.open.iter().min().map_or(self.last, |open| Seq(open.0 - 1))
    }

    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }

    /// Texts that were written are no longer referred to.
    pub(crate) fn forget(&mut self) {
        self.interned.forget();
    }

    /// One transaction: the waiting batches, then what rides along. Answers the numbers of each
    /// batch. Nothing is changed where it fails.
    pub(crate) fn write<'a>(
        &mut self,
        batches: impl Iterator<Item = &'a [Record]>,
        riders: &mut dyn Iterator<Item = &Record>,
    ) -> Result<Vec<Vec<Seq>>, AuditError> {
        self.whole(|appender| {
            let mut carried = Vec::new();
            let seqs = batches
                .map(|records| appender.batch(&mut records.iter(), &mut carried))
                .collect::<Result<_, _>>()?;
            appender.batch(riders, &mut carried)?;
            appender.batch(&mut carried.iter(), &mut Vec::new())?;
            Ok(seqs)
        })
    }

    /// Begins a file: with a record, and with what is carried over.
    pub(crate) fn begin(
        &mut self,
        record: &Record,
        carry: impl FnOnce(&Self, &mut Vec<Record>) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        self.whole(|appender| {
            let mut carried = Vec::new();
            carry(appender, &mut carried)?;
            appender.batch(&mut std::iter::once(record).chain(&carried), &mut Vec::new())?;
            Ok(())
        })
    }

    /// Erases content of this file, with the record that says so.
    pub(crate) fn erase(
        &mut self,
        record: &Record,
        places: &std::collections::BTreeSet<(Seq, &'static str)>,
    ) -> Result<(), AuditError> {
        self.whole(|appender| {
            appender.batch(&mut std::iter::once(record), &mut Vec::new())?;
            erase::erase(&appender.connection, places)
        })
    }

    /// A transaction: all of it, or nothing.
    fn whole<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        let (last, frontier) = (self.last, self.frontier.clone());
        let begin =
            self.connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut s| s.execute([]));
        let result = begin.map_err(AuditError::from).and_then(|_| run(self)).and_then(|done| {
            self.connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(done)
        });
        if result.is_ok() {
            self.interned.committed();
            for (intent, is_open) in self.moved.drain(..) {
                if is_open {
                    self.open.insert(intent);
                } else {
                    self.open.remove(&intent);
                }
            }
        } else {
            if !self.connection.is_autocommit() {
                // Where even this fails the next BEGIN does, and says so.
                let _ = self.connection.execute_batch("ROLLBACK");
            }
            self.interned.rolled_back();
            self.moved.clear();
            (self.last, self.frontier) = (last, frontier);
        }
        result
    }

    /// Records with numbers in a row, so that they can refer to each other.
    fn batch(
        &mut self,
        records: &mut dyn Iterator<Item = &Record>,
        carried: &mut Vec<Record>,
    ) -> Result<Vec<Seq>, AuditError> {
        let first = Seq(self.last.0 + 1);
        records
            .map(|record| {
                if self.first.0 > 1 {
                    self.carry_what_it_refers_to(record, carried)?;
                }
                self.append(first, record)
            })
            .collect()
    }

    fn append(&mut self, first: Seq, record: &Record) -> Result<Seq, AuditError> {
        let seq = Seq(self.last.0 + 1);
        let known = self.interned.look_up(seq, record);
        let (table, values) = row(seq, first, record, &known);
        let has_content = values[table.columns.len()..].iter().any(|v| *v != Value::Null);
        let content = if has_content { Content::Kept(self.keys.next()?) } else { Content::None };
        insert(&self.connection, table, &values, content)?;
        let leaf = self.canonical.leaf(table, &values, content);
        self.frontier.append(leaf, &mut self.completed);
        self.connection
            .prepare_cached("INSERT INTO tree VALUES (?, ?)")?
            .execute(params![seq.0.cast_signed(), self.completed.as_flattened()])?;
        self.last = seq;
        match record {
            Record::Intent(_) => self.moved.push((seq, true)),
            Record::Outcome(r) => self.moved.push((r.intent, false)),
            _ => {}
        }
        Ok(seq)
    }

    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: i64) {
        self.connection.pragma_update(None, "max_page_count", pages).expect("a limit");
    }
}

fn begin(connection: &mut Connection, beginning: Beginning) -> Result<Seq, AuditError> {
    let first = beginning.frontier.size() + 1;
    let transaction = connection.transaction()?;
    for (seq, hashes) in beginning.rows {
        transaction
            .execute("INSERT INTO tree VALUES (?, ?)", params![seq.0.cast_signed(), hashes])?;
    }
    transaction.execute(
        "INSERT INTO file VALUES (1, ?, ?, ?, NULL)",
        params![
            first.cast_signed(),
            Timestamp::from(std::time::SystemTime::now()).0,
            beginning.before
        ],
    )?;
    transaction.commit()?;
    Ok(Seq(first))
}

/// Writes one row.
fn insert(
    connection: &Connection,
    table: &Table,
    values: &[Value<'_>],
    content: Content,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(table.insert())?;
    if table.content.is_empty() {
        statement.execute(params_from_iter(values))?;
        return Ok(());
    }
    let (key, digest) = match content {
        Content::None => (None, None),
        Content::Kept(key) => (Some(key), None),
        Content::Erased(digest) => (None, Some(digest)),
    };
    let values = values.iter().map(|value| value as &dyn ToSql);
    statement.execute(params_from_iter(values.chain([&key as &dyn ToSql, &digest])))?;
    Ok(())
}
