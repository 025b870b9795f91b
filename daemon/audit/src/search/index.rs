//! The derived file: its layout, what of a log it knows, and which commands it proposes.
//!
//! Does not belong here: who fills it and when (`fill.rs`).

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    rc::Rc,
};

use chaperone_model::{Seq, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::document::{Document, Kind, Loader, Token, words_of};
use crate::{AuditError, files};

/// Marks the file as a search index of ours (`chas`).
const APPLICATION_ID: i32 = 0x6368_6173;
/// Another layout is made anew.
const LAYOUT: u32 = 2;
const SQL: &str = include_str!("index.sql");
/// Commands of a block have the number without these bits in common.
const BLOCK_BITS: u32 = 12;

/// The index of a file of the log.
pub(crate) struct Index {
    pub(super) connection: Connection,
    path: PathBuf,
    /// The file that was opened.
    inode: u64,
    /// Numbers of names that were used lately.
    names: HashMap<(Kind, Rc<str>), u64>,
}

/// The index of a file of the log: beside it.
pub(crate) fn path_of(file: &Path) -> PathBuf {
    let end = file.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    file.with_extension(format!("search{end}"))
}

/// Removes the index of a file of the log, where there is one.
pub(crate) fn remove(file: &Path) -> Result<(), AuditError> {
    let path = path_of(file);
    for suffix in ["", "-wal", "-shm"] {
        let path = files::with_suffix(&path, suffix);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(AuditError::file("removing the search index", path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Index {
    /// Opens the index of a file of the log for filling, and makes it where there is none.
    pub(super) fn open(file: &Path) -> Result<Self, AuditError> {
        let path = path_of(file);
        if !path.exists() {
            // Those of an earlier one would be taken for this one's.
            remove(file)?;
            files::make_file(&path)?;
            let group = fs::metadata(file).map(|about| about.gid());
            if let Ok(group) = group {
                // Where it cannot be given away it has the daemon's group, as the log.
                let _ = chown(&path, None, Some(group));
            }
        }
        // FTS5 packs what it keeps for pages of this size.
        let connection = files::connect_with(&path, 4096)?;
        connection.pragma_update(None, "wal_autocheckpoint", 1000)?;
        // In KiB: nobody waits for it, and the daemon is to stay small.
        connection.pragma_update(None, "cache_size", -512)?;
        // What is removed was somebody's content.
        connection.pragma_update(None, "secure_delete", true)?;
        let index = Self::new(connection, path)?;
        if index.layout()? == (0, 0) {
            index.connection.execute_batch("BEGIN IMMEDIATE")?;
            index.connection.execute_batch(SQL)?;
            index.connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            index.connection.pragma_update(None, "user_version", LAYOUT)?;
            index.connection.execute_batch("COMMIT")?;
        }
        Ok(index)
    }

    /// Opens the index of a file of the log for asking, where there is one.
    pub(crate) fn open_reading(file: &Path) -> Result<Option<Self>, AuditError> {
        let path = path_of(file);
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(Self::new(files::connect_reading(&path)?, path)?))
    }

    fn new(connection: Connection, path: PathBuf) -> Result<Self, AuditError> {
        let inode = fs::metadata(&path)
            .map_err(|error| AuditError::file("opening the search index", &path, &error))?
            .ino();
        Ok(Self { connection, path, inode, names: HashMap::new() })
    }

    /// Whether the file that was opened is still the index.
    pub(super) fn is_current(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|about| about.ino() == self.inode)
    }

    /// Whether this is an index of that log, of this layout.
    pub(crate) fn belongs_to(&self, log: &Connection) -> Result<bool, AuditError> {
        if self.layout()? != (APPLICATION_ID, LAYOUT) {
            return Ok(false);
        }
        let (indexed, hashes): (i64, Option<Vec<u8>>) =
            self.connection.query_row("SELECT indexed, hashes FROM state", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        // Leaf hashes are as good as never the same: another log, or an older copy of this one, has
        // another one there.
        Ok(indexed == 0 || (hashes.is_some() && hashes_at(log, indexed)? == hashes))
    }

    fn layout(&self) -> Result<(i32, u32), AuditError> {
        let get = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let id = get("application_id")?;
        Ok((i32::try_from(id).unwrap_or(-1), u32::try_from(get("user_version")?).unwrap_or(0)))
    }

    /// What the index holds may be damaged without any search noticing.
    pub(super) fn check(&self) -> Result<(), AuditError> {
        let found: String =
            self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found == "ok" { Ok(()) } else { Err(AuditError::Corrupt(found)) }
    }

    /// One view of it from here on.
    pub(crate) fn begin(&self) -> Result<(), AuditError> {
        Ok(self.connection.execute_batch("BEGIN")?)
    }

    /// Up to which record it knows the log.
    pub(crate) fn indexed(&self) -> Result<Seq, AuditError> {
        let indexed = "SELECT indexed FROM state";
        Ok(Seq(self.connection.prepare_cached(indexed)?.query_row([], |row| row.get(0))?))
    }

    pub(super) fn set_indexed(&self, log: &Connection, indexed: Seq) -> Result<(), AuditError> {
        let seq = indexed.0.cast_signed();
        let hashes = hashes_at(log, seq)?;
        self.connection
            .prepare_cached("UPDATE state SET indexed = ?, hashes = ?")?
            .execute(params![seq, hashes])?;
        Ok(())
    }

    /// Adds a command, or what it is now.
    pub(super) fn add(&mut self, command: Seq, document: &Document) -> Result<(), AuditError> {
        let id = command.0.cast_signed();
        self.block(id, document.at)?;
        if !document.is_finished {
            self.connection
                .prepare_cached("INSERT OR IGNORE INTO unfinished VALUES (?)")?
                .execute([id])?;
            return Ok(());
        }
        self.connection.prepare_cached("DELETE FROM unfinished WHERE seq = ?")?.execute([id])?;
        if document.is_silent {
            return Ok(());
        }
        let mut text = String::new();
        for field in &document.fields {
            text.push_str(&words_of(field));
            text.push(' ');
        }
        let mut tokens = vec![Token::Session.with(document.session.0)];
        tokens.extend(document.content_of.iter().map(|seq| Token::ContentOf.with(seq.0)));
        tokens.extend(document.approvals.iter().map(|hold| Token::Approval.with(hold.0)));
        for name in &document.names {
            tokens.push(Token::Name.with(self.number_of(name)?));
        }
        text.push_str(&tokens.join(" "));
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO document (rowid, text) VALUES (?, ?)")?
            .execute(params![id, text])?;
        Ok(())
    }

    fn block(&self, id: i64, at: i64) -> Result<(), AuditError> {
        self.connection
            .prepare_cached(
                "INSERT INTO block VALUES (?1, ?2, ?2) ON CONFLICT (id)
                 DO UPDATE SET earliest = min(earliest, ?2), latest = max(latest, ?2)
                 WHERE ?2 < earliest OR ?2 > latest",
            )?
            .execute([id >> BLOCK_BITS, at])?;
        Ok(())
    }

    fn number_of(&mut self, name: &(Kind, Rc<str>)) -> Result<u64, AuditError> {
        if let Some(known) = self.names.get(name) {
            return Ok(*known);
        }
        let (kind, text) = (name.0 as i64, &name.1);
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO name (kind, text) VALUES (?, ?)")?
            .execute(params![kind, text])?;
        let number = self.look_up(name.0, text)?.unwrap_or_default();
        if self.names.len() >= 1 << 16 {
            self.names.clear();
        }
        self.names.insert(name.clone(), number);
        Ok(number)
    }

    /// A transaction was rolled back: numbers that it gave are not given.
    pub(super) fn rolled_back(&mut self) {
        self.names.clear();
    }

    /// The number of a name, where a command has it.
    pub(crate) fn look_up(&self, kind: Kind, text: &str) -> Result<Option<u64>, AuditError> {
        let found = self
            .connection
            .prepare_cached("SELECT id FROM name WHERE kind = ? AND text = ?")?
            .query_row(params![kind as i64, text], |row| row.get(0))
            .optional()?;
        Ok(found)
    }

    /// The newest commands of those up to a number that match, at most so many.
    pub(crate) fn newest(
        &self,
        matching: &str,
        range: (i64, i64),
        limit: usize,
    ) -> Result<Vec<i64>, AuditError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT rowid FROM document WHERE document MATCH ? AND rowid >= ? AND rowid <= ?
             ORDER BY rowid DESC LIMIT ?",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows =
            statement.query_map(params![matching, range.0, range.1, limit], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Commands that had no outcome as far as the log is known here.
    pub(crate) fn unfinished(&self) -> Result<BTreeSet<i64>, AuditError> {
        let mut statement = self.connection.prepare("SELECT seq FROM unfinished")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The lowest and the highest number that a command of a time can have, of those that are known.
    pub(crate) fn range(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<(i64, i64), AuditError> {
        if since.is_none() && until.is_none() {
            return Ok((1, i64::MAX));
        }
        let (first, last): (Option<i64>, Option<i64>) = self.connection.query_row(
            "SELECT min(id), max(id) FROM block
             WHERE (?1 IS NULL OR latest >= ?1) AND (?2 IS NULL OR earliest < ?2)",
            params![since.map(|time| time.0), until.map(|time| time.0)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let (Some(first), Some(last)) = (first, last) else { return Ok((1, 0)) };
        Ok(((first << BLOCK_BITS).max(1), ((last + 1) << BLOCK_BITS) - 1))
    }
}

fn hashes_at(log: &Connection, seq: i64) -> Result<Option<Vec<u8>>, AuditError> {
    let hashes = log
        .prepare_cached("SELECT hashes FROM tree WHERE seq = ?")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    Ok(hashes)
}

/// Forgets what records said that have just been erased from a file of the log: commands that had it
/// are found by what is left of them. Where that fails the index is removed, and made anew.
pub(crate) fn forget(
    file: &Path,
    records: &BTreeSet<(Seq, &'static str)>,
) -> Result<(), AuditError> {
    forget_in(file, records).or_else(|error| {
        tracing::warn!(%error, "the search index could not forget what was erased: it is made anew");
        remove(file)
    })
}

fn forget_in(file: &Path, records: &BTreeSet<(Seq, &'static str)>) -> Result<(), AuditError> {
    if !path_of(file).exists() {
        return Ok(());
    }
    let log = files::connect_reading(file)?;
    let mut index = Index::open(file)?;
    if !index.belongs_to(&log)? {
        return remove(file);
    }
    // Whoever fills the index takes this lock before it reads the log: what it has read before the
    // content was erased is in the index when it is taken here.
    index.connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut commands = BTreeSet::new();
    for (seq, _) in records {
        commands.insert(seq.0.cast_signed());
        let of = format!("\"{}\"", Token::ContentOf.with(seq.0));
        commands.extend(index.newest(&of, (1, i64::MAX), usize::MAX)?);
        let intent = log
            .prepare_cached("SELECT intent FROM outcome WHERE seq = ?")?
            .query_row([seq.0.cast_signed()], |row| row.get::<_, i64>(0))
            .optional()?;
        commands.extend(intent);
    }
    let indexed = index.indexed()?;
    let mut loader = Loader::default();
    for command in commands {
        let known: usize = index
            .connection
            .prepare_cached("DELETE FROM document WHERE rowid = ?")?
            .execute([command])?;
        let command = Seq(command.cast_unsigned());
        if command <= indexed
            && known > 0
            && let Some(document) = loader.load(&log, command)?
        {
            index.add(command, &document)?;
        }
    }
    index.connection.execute("UPDATE state SET purge = 1", [])?;
    index.connection.execute_batch("COMMIT")?;
    Ok(())
}
