//! For the benchmark alone: what the tree adds to a record, by itself.

use chaperone_model::{Record, Seq};
use rusqlite::{Connection, params};

use crate::{
    AuditError,
    canonical::{Canonical, Content, Value},
    interned::Interned,
    keys::Keys,
    row::row,
    tree::{Frontier, Hash},
};

/// The tree over records that are not kept.
pub struct Tree {
    connection: Connection,
    frontier: Frontier,
    canonical: Canonical,
    completed: Vec<Hash>,
    keys: Keys,
}

impl Tree {
    /// An empty one, in memory.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn new() -> Result<Self, AuditError> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE TABLE tree (seq INTEGER PRIMARY KEY, hashes BLOB NOT NULL) STRICT; BEGIN",
        )?;
        let (frontier, canonical) = (Frontier::default(), Canonical::default());
        Ok(Self { connection, frontier, canonical, completed: Vec::new(), keys: Keys::default() })
    }

    /// What is done for each record beside writing its row.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn append(&mut self, record: &Record) -> Result<(), AuditError> {
        let seq = Seq(self.frontier.size() + 1);
        let known = Interned::nothing();
        let (table, values) = row(seq, seq, record, &known);
        let has_content = values[table.columns.len()..].iter().any(|v| *v != Value::Null);
        let content = if has_content { Content::Kept(self.keys.next()?) } else { Content::None };
        let leaf = self.canonical.leaf(table, &values, content);
        self.frontier.append(leaf, &mut self.completed);
        self.connection
            .prepare_cached("INSERT INTO tree VALUES (?, ?)")?
            .execute(params![seq.0.cast_signed(), self.completed.as_flattened()])?;
        Ok(())
    }
}
