//! Reading rows and the tree's hashes back as they were written.
//!
//! Does not belong here: queries of the views (`query.rs`), and whether what is read is right
//! (`verify.rs`).

use rusqlite::{Connection, OptionalExtension as _, Row, types::ValueRef};

use crate::{
    AuditError, Sealed,
    canonical::{Content, Value},
    table::{DIGEST, KEY, Table},
    tree::{Frontier, Hash, Subtree, subtrees},
};

/// The values of a row, in the order of the table's columns and content.
pub(crate) fn values<'a>(
    table: &Table,
    row: &'a Row<'_>,
) -> Result<(Vec<Value<'a>>, Content), AuditError> {
    let count = table.columns.len() + table.content.len();
    let values = (0..count)
        .map(|place| match row.get_ref(place)? {
            ValueRef::Null => Ok(Value::Null),
            ValueRef::Integer(number) => Ok(Value::Integer(number)),
            ValueRef::Text(text) => match str::from_utf8(text) {
                Ok(text) => Ok(Value::Text(text.into())),
                Err(_) => Err(strange(table)),
            },
            ValueRef::Real(_) | ValueRef::Blob(_) => Err(strange(table)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let content = if table.content.is_empty() {
        Content::None
    } else {
        let key: Option<Vec<u8>> = row.get(KEY)?;
        let digest: Option<Vec<u8>> = row.get(DIGEST)?;
        match (key.map(TryInto::try_into), digest.map(TryInto::try_into)) {
            (None, None) => Content::None,
            (Some(Ok(key)), None) => Content::Kept(key),
            (None, Some(Ok(digest))) => Content::Erased(digest),
            _ => return Err(strange(table)),
        }
    };
    Ok((values, content))
}

fn strange(table: &Table) -> AuditError {
    AuditError::Corrupt(format!("a row of {} has a value that is not written there", table.name))
}

/// The hash of a complete subtree, where this file has it.
pub(crate) fn hash(connection: &Connection, subtree: Subtree) -> Result<Option<Hash>, AuditError> {
    let seq = (subtree.last_leaf() + 1).cast_signed();
    let hashes: Option<Vec<u8>> = connection
        .prepare_cached("SELECT hashes FROM tree WHERE seq = ?")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    let level = subtree.level as usize;
    let hash = hashes.and_then(|hashes| hashes.as_chunks().0.get(level).copied());
    // Where a file goes on from a damaged one, hashes that it does not need are not known.
    Ok(hash.filter(|hash| *hash != Hash::default()))
}

/// The frontier of the tree with so many leaves, where this file has its hashes.
pub(crate) fn frontier(connection: &Connection, size: u64) -> Result<Option<Frontier>, AuditError> {
    let mut roots = Vec::new();
    for subtree in subtrees(size) {
        match hash(connection, subtree)? {
            Some(root) => roots.push(root),
            None => return Ok(None),
        }
    }
    Ok(Frontier::new(size, roots))
}

/// The newest checkpoint.
pub(crate) fn checkpoint(connection: &Connection) -> Result<Option<Sealed>, AuditError> {
    let found = connection
        .prepare_cached("SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1")?
        .query_row([], |row| {
            Ok(Sealed { size: row.get(0)?, note: row.get::<_, String>(1)?.into() })
        })
        .optional()?;
    Ok(found)
}
