//! Proofs out of a log: its newest signed head, that a record is under it, that it goes on from an
//! earlier one.
//!
//! Does not belong here: verifying (`verify.rs`, `tree.rs`).

use std::path::Path;

use chaperone_model::Seq;
use rusqlite::Connection;

use crate::{
    AuditError, Sealed,
    canonical::Canonical,
    chain, files,
    note::ProofFile,
    read, schema,
    table::{TABLES, Table},
    tree::{Consistency, Hash, Inclusion, Subtree},
};

/// A log that proofs are asked of.
pub struct Proofs {
    /// The newest first.
    files: Vec<Connection>,
}

/// A record in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonicalised {
    /// The leaf of the tree (`docs/auditors.md`).
    pub record: String,
    /// Its content, which the record holds a commitment to; `None` where there is none, or where it
    /// was erased.
    pub content: Option<String>,
    /// The key of that commitment, in hexadecimal.
    pub key: Option<String>,
    /// The hash of the leaf, in hexadecimal.
    pub leaf: String,
}

impl Proofs {
    /// Opens a log.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let files = chain::all(path)?.into_iter().map(|file| {
            let connection = files::connect_reading(&file)?;
            schema::check(&connection, &file)?;
            // One for each table, and the tree's.
            connection.set_prepared_statement_cache_capacity(2 * TABLES.len());
            Ok(connection)
        });
        Ok(Self { files: files.collect::<Result<_, AuditError>>()? })
    }

    /// The newest signed head.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn newest(&self) -> Result<Option<Sealed>, AuditError> {
        for file in &self.files {
            if let Some(sealed) = read::checkpoint(file)? {
                return Ok(Some(sealed));
            }
        }
        Ok(None)
    }

    /// How many records there are.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn size(&self) -> Result<u64, AuditError> {
        let Some(newest) = self.files.first() else { return Ok(0) };
        let last: Option<i64> =
            newest.query_row("SELECT max(seq) FROM tree", [], |row| row.get(0))?;
        Ok(last.map_or(0, i64::cast_unsigned))
    }

    /// That a record is under a signed head. `None` where the head does not cover it, or where its
    /// file is no longer kept.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn inclusion(&self, seq: Seq, head: &Sealed) -> Result<Option<ProofFile>, AuditError> {
        let Some(record) = self.record(seq)? else { return Ok(None) };
        Ok(self.path(seq, head)?.map(|proof| ProofFile::Inclusion {
            record: record.record.into_bytes(),
            proof,
            checkpoint: head.note.to_string(),
        }))
    }

    /// The path from a record's leaf to the root of a signed head. `None` where the head does not
    /// cover it.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn path(&self, seq: Seq, head: &Sealed) -> Result<Option<Inclusion>, AuditError> {
        let Some(index) = seq.0.checked_sub(1) else { return Ok(None) };
        Inclusion::prove(index, head.size, |subtree| self.hash(subtree))
    }

    /// That a signed head goes on from an earlier tree. `None` where it is smaller.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn consistency(&self, old: u64, head: &Sealed) -> Result<Option<Consistency>, AuditError> {
        Consistency::prove(old, head.size, |subtree| self.hash(subtree))
    }

    /// A record in its canonical form.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn record(&self, seq: Seq) -> Result<Option<Canonicalised>, AuditError> {
        for file in &self.files {
            for table in TABLES {
                if let Some(found) = canonicalised(file, table, seq)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The hash of a record's leaf, as the tree has it.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn leaf(&self, seq: Seq) -> Result<Option<Hash>, AuditError> {
        let Some(number) = seq.0.checked_sub(1) else { return Ok(None) };
        for file in &self.files {
            if let Some(hash) = read::hash(file, Subtree { level: 0, number })? {
                return Ok(Some(hash));
            }
        }
        Ok(None)
    }

    fn hash(&self, subtree: Subtree) -> Result<Hash, AuditError> {
        for file in &self.files {
            if let Some(hash) = read::hash(file, subtree)? {
                return Ok(hash);
            }
        }
        Err(AuditError::Corrupt("a hash of the tree is missing".into()))
    }
}

fn canonicalised(
    file: &Connection,
    table: &'static Table,
    seq: Seq,
) -> Result<Option<Canonicalised>, AuditError> {
    let mut statement =
        file.prepare_cached(&format!("SELECT * FROM {} WHERE seq = ?", table.name))?;
    let mut rows = statement.query([seq.0.cast_signed()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (values, content) = read::values(table, row)?;
    let mut canonical = Canonical::default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let leaf = crate::note::hex(&canonical.leaf(table, &values, content));
    let record = text(canonical.record(table, &values, content));
    let key = match content {
        crate::canonical::Content::Kept(key) => Some(crate::note::hex(&key)),
        _ => None,
    };
    let content = key.as_ref().map(|_| text(canonical.content(table, &values)));
    Ok(Some(Canonicalised { record, content, key, leaf }))
}
