//! Whether a log is what was written: every record against its leaf, every leaf against the tree,
//! the tree against each signed checkpoint, and all of it against a checkpoint that somebody kept.
//!
//! Needs the files, the public key and, against rollback, a checkpoint that was kept elsewhere.
//! Nothing in the files is believed for being there: what is missing is a finding as well.
//!
//! Does not belong here: saying it to people (the command line).

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use chaperone_model::Seq;
use rusqlite::{Connection, Row, Rows, Statement};
use serde::Serialize;

use crate::{
    AuditError,
    canonical::{Canonical, Content},
    chain, files,
    note::{Checkpoint, Verifier},
    read, schema,
    table::{CARRIED, TABLES, Table},
    tree::{Frontier, Hash},
};

/// Microseconds that records may lie behind the last checkpoint: what is newer, or was written just
/// before a crash, is not sealed yet.
const UNSEALED: i64 = 5 * 60 * 1_000_000;

/// What to verify, and by what.
#[derive(Clone, Debug, Default)]
pub struct Question<'a> {
    /// The log's public key; without it checkpoints are compared and not believed.
    pub key: Option<&'a Verifier>,
    /// A checkpoint that was kept elsewhere: the log must go on from it.
    pub kept: Option<&'a Checkpoint>,
    /// The first record to look at; those before are taken by their hashes alone.
    pub from: Option<Seq>,
    /// The last one to look at; the first checkpoint over it is the last that is compared.
    pub to: Option<Seq>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The files, the oldest first.
    pub files: Vec<PathBuf>,
    /// Files whose records are no longer kept, but their hashes.
    pub retired: Vec<PathBuf>,
    /// Records that are what was written.
    pub records: u64,
    /// Of these, those whose content was erased.
    pub erased: u64,
    /// Checkpoints that agree.
    pub checkpoints: u64,
    /// The last record that a checkpoint covers.
    pub sealed: u64,
    /// The last record.
    pub last: u64,
    /// What is wrong, the first of it; the rest of a log says nothing then.
    pub finding: Option<Finding>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The first record that it concerns.
    pub seq: u64,
    /// What, in a sentence.
    pub what: String,
    /// In which file.
    pub file: PathBuf,
}

/// Ends the walk: a finding, or that a file cannot be read.
#[derive(Debug)]
enum Stop {
    Found(u64, String),
    Failed(AuditError),
}

impl<E: Into<AuditError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Verifies the log at `path`, or what of it a question asks for.
///
/// # Errors
/// [`AuditError`] where the files cannot be read. What is wrong with their content is in the report.
pub fn verify(path: &Path, question: &Question<'_>) -> Result<Report, AuditError> {
    let mut chain = chain::all(path)?;
    chain.reverse();
    let mut walk = Walk {
        question,
        report: Report::default(),
        frontier: None,
        canonical: Canonical::default(),
        completed: Vec::new(),
        kept: question.kept,
        last_at: None,
        sealed_at: None,
        erased: BTreeSet::new(),
        told_erased: BTreeSet::new(),
    };
    for file in &chain {
        match walk.file(file, chain.last() == Some(file)) {
            Ok(()) => {}
            Err(Stop::Failed(AuditError::Corrupt(why))) => {
                let seq = walk.next();
                walk.report.finding = Some(Finding { seq, what: why, file: file.clone() });
                break;
            }
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Found(seq, what)) => {
                walk.report.finding = Some(Finding { seq, what, file: file.clone() });
                break;
            }
        }
    }
    Ok(walk.report)
}

struct Walk<'a> {
    question: &'a Question<'a>,
    report: Report,
    /// The tree up to the last record that was looked at; `None` before the first.
    frontier: Option<Frontier>,
    canonical: Canonical,
    completed: Vec<Hash>,
    /// The kept checkpoint, until it was compared.
    kept: Option<&'a Checkpoint>,
    last_at: Option<i64>,
    sealed_at: Option<i64>,
    /// Records whose content was erased.
    erased: BTreeSet<u64>,
    /// Those of which a record says so.
    told_erased: BTreeSet<u64>,
}

impl Walk<'_> {
    /// The record that comes next.
    fn next(&self) -> u64 {
        self.frontier.as_ref().map_or(1, |frontier| frontier.size() + 1)
    }

    fn file(&mut self, file: &Path, is_last: bool) -> Result<(), Stop> {
        let connection = files::connect_reading(file)?;
        // One view of all of it, while it is written.
        connection.execute_batch("BEGIN")?;
        schema::check(&connection, file)?;
        let damaged: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if damaged != "ok" {
            return Err(Stop::Found(self.next(), format!("the file is damaged: {damaged}")));
        }
        let (first, retired): (u64, bool) =
            connection.query_row("SELECT first_seq, retired IS NOT NULL FROM file", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let last: u64 =
            connection.query_row("SELECT coalesce(max(seq), 0) FROM tree", [], |row| row.get(0))?;
        let last = last.max(first - 1);
        self.report.last = last;
        if retired {
            self.report.retired.push(file.into());
        } else {
            self.report.files.push(file.into());
        }
        if !self.begins_in(&connection, first, last)? {
            return Ok(());
        }
        if self.next() == first && !retired {
            self.carried(&connection, first)?;
        }
        for told in told_erased(&connection)? {
            self.told_erased.insert(told);
        }
        let sealed = self.checkpoints(&connection)?;
        let mut sealed = sealed.into_iter().peekable();
        self.compare_kept(file)?;
        let from = self.next();
        let mut records = Records::new(&connection)?;
        let mut cursors = records.open(from, &mut self.canonical)?;
        let mut tree =
            connection.prepare("SELECT seq, hashes FROM tree WHERE seq >= ? ORDER BY seq")?;
        let mut tree = tree.query([from.cast_signed()])?;
        loop {
            let seq = self.next();
            let hashes = tree.next()?;
            if !retired {
                self.record(&cursors, seq, hashes.is_some())?;
            }
            let Some(hashes) = hashes else { break };
            self.leaf(seq, hashes, retired)?;
            if !retired {
                for cursor in cursors.iter_mut().filter(|cursor| cursor.seq == Some(seq)) {
                    cursor.step(&mut self.canonical)?;
                }
            }
            while let Some((_, note, at)) = sealed.next_if(|(size, ..)| *size == seq) {
                self.checkpoint(seq, &note)?;
                self.sealed_at = Some(at);
            }
            self.compare_kept(file)?;
            let sealed_beyond = self.report.sealed >= self.question.to.map_or(u64::MAX, |to| to.0);
            if sealed_beyond {
                return Ok(());
            }
        }
        if let Some((size, ..)) = sealed.next() {
            let next = self.next();
            return Err(Stop::Found(
                next,
                format!(
                    "records are missing: there is a checkpoint over {size}, and the last record is {}",
                    next - 1
                ),
            ));
        }
        if is_last {
            self.end()?;
        }
        Ok(())
    }

    /// Takes the tree up to where this file, or the question, begins. Answers whether there is
    /// something to look at in this file.
    fn begins_in(&mut self, connection: &Connection, first: u64, last: u64) -> Result<bool, Stop> {
        if let Some(frontier) = &self.frontier {
            if frontier.size() + 1 != first {
                return Err(Stop::Found(
                    frontier.size() + 1,
                    format!("the next file begins with record {first}"),
                ));
            }
            // What the file says of the tree before it.
            let found = read::frontier(connection, first - 1)?;
            if found.as_ref() != Some(frontier) {
                return Err(Stop::Found(
                    first,
                    "this file goes on from another tree than the one before it has".into(),
                ));
            }
            return Ok(true);
        }
        let from = self.question.from.map_or(first, |from| from.0.max(1));
        if from > last + 1 {
            return Ok(false);
        }
        let start = from.max(first);
        let Some(frontier) = read::frontier(connection, start - 1)? else {
            return Err(Stop::Found(
                start,
                "the tree's hashes before this record are missing".into(),
            ));
        };
        self.frontier = Some(frontier);
        Ok(true)
    }

    /// What was carried over has the leaf that a record of this file gives it.
    fn carried(&mut self, connection: &Connection, first: u64) -> Result<(), Stop> {
        let first = first.cast_signed();
        for table in TABLES {
            let mut statement = connection
                .prepare(&format!("SELECT * FROM {} WHERE seq < ? ORDER BY seq", table.name))?;
            let mut rows = statement.query([first])?;
            while let Some(row) = rows.next()? {
                let seq: i64 = row.get(0)?;
                let (values, content) = read::values(table, row)?;
                let leaf = crate::note::hex(&self.canonical.leaf(table, &values, content));
                let told: Option<String> = connection
                    .prepare_cached(&format!(
                        "SELECT leaf FROM {} WHERE record = ? ORDER BY seq LIMIT 1",
                        CARRIED.name
                    ))?
                    .query_map([seq], |row| row.get(0))?
                    .next()
                    .transpose()?;
                if told.as_deref() != Some(leaf.as_str()) {
                    let what = "it was carried over from an earlier file and altered".into();
                    return Err(Stop::Found(seq.cast_unsigned(), what));
                }
            }
        }
        Ok(())
    }

    fn checkpoints(&self, connection: &Connection) -> Result<Vec<(u64, String, i64)>, Stop> {
        let found = connection
            .prepare("SELECT size, note, at FROM checkpoint WHERE size >= ? ORDER BY size")?
            .query_map([self.next().cast_signed()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// Exactly one record has this number, or none where the tree ends before it.
    fn record(&mut self, cursors: &[Cursor<'_>], seq: u64, in_tree: bool) -> Result<(), Stop> {
        let mut here = cursors.iter().filter(|cursor| cursor.seq == Some(seq));
        let (one, other) = (here.next(), here.next());
        if let (Some(one), Some(other)) = (one, other) {
            let (one, other) = (one.table.name, other.table.name);
            return Err(Stop::Found(
                seq,
                format!("two records have this number: in {one} and {other}"),
            ));
        }
        let lowest = cursors.iter().filter_map(|cursor| cursor.seq).min();
        match (one.is_some(), in_tree, lowest) {
            (true, true, _) | (false, false, None) => Ok(()),
            (true, false, _) => Err(Stop::Found(seq, "it is not in the tree".into())),
            (false, true, _) => Err(Stop::Found(seq, "it is missing".into())),
            (false, false, Some(lowest)) => {
                Err(Stop::Found(lowest, "it stands behind the end of the tree".into()))
            }
        }?;
        if let Some(one) = one {
            if one.erased {
                self.report.erased += 1;
                self.erased.insert(seq);
            }
            self.last_at = Some(one.at);
            self.completed.clear();
            self.completed.push(one.leaf);
        }
        Ok(())
    }

    /// The tree's hashes are those that follow from the record.
    fn leaf(&mut self, seq: u64, row: &Row<'_>, retired: bool) -> Result<(), Stop> {
        let found: u64 = row.get(0)?;
        let hashes: Vec<u8> = row.get(1)?;
        if found != seq {
            return Err(Stop::Found(seq, "its hashes are missing".into()));
        }
        let leaf = if retired { None } else { self.completed.first().copied() };
        let stored = hashes.as_chunks::<32>().0.first().copied();
        let Some(leaf) = leaf.or(stored) else {
            return Err(Stop::Found(seq, "its hashes are missing".into()));
        };
        if stored != Some(leaf) {
            return Err(Stop::Found(seq, "it was altered".into()));
        }
        let frontier = self.frontier.get_or_insert_default();
        frontier.append(leaf, &mut self.completed);
        if self.completed.as_flattened() != hashes {
            return Err(Stop::Found(seq, "the tree's hashes that end with it were altered".into()));
        }
        self.report.records += u64::from(!retired);
        Ok(())
    }

    fn checkpoint(&mut self, size: u64, note: &str) -> Result<(), Stop> {
        // Everything up to the checkpoint before is as it was signed.
        let first = self.report.sealed.max(self.question.from.map_or(0, |from| from.0 - 1)) + 1;
        let bad = |what: String| Stop::Found(first, what);
        let checkpoint = match self.question.key {
            Some(key) => Checkpoint::open(note, key),
            None => crate::note::Note::parse(note).and_then(|note| Checkpoint::of(&note)),
        };
        let checkpoint =
            checkpoint.map_err(|error| bad(format!("the checkpoint over {size}: {error}")))?;
        let root = self.frontier.get_or_insert_default().root();
        if checkpoint.size != size || checkpoint.root != root {
            return Err(bad(format!(
                "records from {first} to {size} are not those that the checkpoint over {size} was signed for"
            )));
        }
        self.report.checkpoints += 1;
        self.report.sealed = size;
        Ok(())
    }

    fn compare_kept(&mut self, file: &Path) -> Result<(), Stop> {
        let Some(kept) = self.kept else { return Ok(()) };
        let frontier = self.frontier.get_or_insert_default();
        if frontier.size() < kept.size {
            return Ok(());
        }
        let root = if frontier.size() == kept.size {
            frontier.root()
        } else {
            let connection = files::connect_reading(file)?;
            match read::frontier(&connection, kept.size)? {
                Some(earlier) => earlier.root(),
                None => return Ok(()),
            }
        };
        self.kept = None;
        if root == kept.root {
            return Ok(());
        }
        Err(Stop::Found(
            self.report.sealed.min(kept.size) + 1,
            format!(
                "up to record {} it is another log than the one of the kept checkpoint",
                kept.size
            ),
        ))
    }

    /// What can be said when there is nothing more.
    fn end(&mut self) -> Result<(), Stop> {
        if let Some(seq) = self.erased.difference(&self.told_erased).next() {
            return Err(Stop::Found(*seq, "its content was erased, and no record says so".into()));
        }
        let last = self.next() - 1;
        if let Some(kept) = self.kept {
            return Err(Stop::Found(
                last + 1,
                format!(
                    "records are missing: the kept checkpoint is over {}, and the last record is {last}",
                    kept.size
                ),
            ));
        }
        let from = self.question.from.map_or(0, |from| from.0 - 1);
        let unsealed = last.saturating_sub(self.report.sealed.max(from));
        let (Some(at), sealed_at) = (self.last_at, self.sealed_at) else { return Ok(()) };
        if unsealed > 0 && sealed_at.is_none_or(|sealed| at - sealed > UNSEALED) {
            let first = self.report.sealed.max(from) + 1;
            return Err(Stop::Found(
                first,
                format!("no checkpoint covers the records from {first} to {last}"),
            ));
        }
        Ok(())
    }
}

/// The records whose content was erased, as this file tells.
fn told_erased(connection: &Connection) -> Result<Vec<u64>, Stop> {
    let sql = "SELECT value FROM erased, json_each(erased.records)";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A table's records, one after the other.
struct Cursor<'a> {
    table: &'static Table,
    rows: Rows<'a>,
    seq: Option<u64>,
    at: i64,
    leaf: Hash,
    erased: bool,
}

/// Of all tables.
struct Records<'a>(Vec<(&'static Table, Statement<'a>)>);

impl<'a> Records<'a> {
    fn new(connection: &'a Connection) -> Result<Self, Stop> {
        let mut statements = Vec::new();
        for table in TABLES {
            let sql = format!("SELECT * FROM {} WHERE seq >= ? ORDER BY seq", table.name);
            statements.push((table, connection.prepare(&sql)?));
        }
        Ok(Self(statements))
    }

    fn open(&mut self, from: u64, canonical: &mut Canonical) -> Result<Vec<Cursor<'_>>, Stop> {
        let mut cursors = Vec::new();
        for (table, statement) in &mut self.0 {
            let rows = statement.query([from.cast_signed()])?;
            let (seq, at, leaf, erased) = (None, 0, Hash::default(), false);
            let mut cursor = Cursor { table, rows, seq, at, leaf, erased };
            cursor.step(canonical)?;
            cursors.push(cursor);
        }
        Ok(cursors)
    }
}

impl Cursor<'_> {
    fn step(&mut self, canonical: &mut Canonical) -> Result<(), Stop> {
        let Some(row) = self.rows.next()? else {
            self.seq = None;
            return Ok(());
        };
        let (values, content) = read::values(self.table, row)?;
        self.leaf = canonical.leaf(self.table, &values, content);
        self.erased = matches!(content, Content::Erased(_));
        (self.seq, self.at) = (Some(row.get(0)?), row.get(1)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
