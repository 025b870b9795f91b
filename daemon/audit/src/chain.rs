//! The files of a log: one a month, each of which names the one before it. The log's own path is a
//! symbolic link to the newest.
//!
//! Does not belong here: what is in them, and when a new one begins.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use chaperone_model::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use crate::{AuditError, files, schema};

/// More files than any log has; a chain that is longer leads back to itself.
const LONGEST: usize = 10_000;

/// The newest file of the log at `path`.
pub(crate) fn newest(path: &Path) -> Result<PathBuf, AuditError> {
    fs::canonicalize(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => AuditError::Missing(path.into()),
        _ => AuditError::file("opening the log", path, &error),
    })
}

/// The files before one, the newest first, as far as they are there.
pub(crate) fn before(file: &Path) -> Result<Vec<PathBuf>, AuditError> {
    let mut found = Vec::new();
    let mut file = file.to_owned();
    while found.len() < LONGEST {
        let connection = files::connect_reading(&file)?;
        schema::check(&connection, &file)?;
        let before: Option<Option<String>> =
            connection.query_row("SELECT before FROM file", [], |row| row.get(0)).optional()?;
        let Some(before) = before.flatten() else { break };
        // A name, and no way out of the folder.
        if before.contains('/') {
            return Err(AuditError::Corrupt("the name of the file before it is none".into()));
        }
        file.set_file_name(before);
        if !file.exists() {
            break;
        }
        found.push(file.clone());
    }
    Ok(found)
}

/// All files of the log at `path` that are there, the newest first.
pub(crate) fn all(path: &Path) -> Result<Vec<PathBuf>, AuditError> {
    let newest = newest(path)?;
    let mut files = vec![newest.clone()];
    files.extend(before(&newest)?);
    Ok(files)
}

/// A name for a new file of the log at `path`, in a month (`2026-11`), that no file has.
pub(crate) fn name(path: &Path, month: &str) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    let first = format!("{stem}-{month}{end}");
    let more = (2..).map(|count| format!("{stem}-{month}.{count}{end}"));
    let mut names = std::iter::once(first).chain(more);
    // SQLite would take what is left beside a file that is gone for the new one's.
    let is_free = |file: &Path| !file.exists() && !files::wal_path(file).exists();
    names.find(|name| is_free(&path.with_file_name(name))).unwrap_or_default()
}

/// Makes `path` lead to a file beside it, in one step.
pub(crate) fn lead_to(path: &Path, name: &str) -> Result<(), AuditError> {
    let failed = |error: io::Error| AuditError::file("linking the log's file to", path, &error);
    let next = files::with_suffix(path, ".next");
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    symlink(name, &next).map_err(failed)?;
    fs::rename(&next, path).map_err(failed)?;
    files::sync_folder(path)
}

/// The month (`2026-11`, UTC) of a time, and when it ends.
pub(crate) fn month(
    connection: &Connection,
    at: Timestamp,
) -> rusqlite::Result<(String, Timestamp)> {
    connection.query_row(
        "SELECT strftime('%Y-%m', ?1, 'unixepoch'), unixepoch(?1, 'unixepoch', 'start of month', '+1 month')",
        [at.0.div_euclid(1_000_000)],
        |row| Ok((row.get(0)?, Timestamp(row.get::<_, i64>(1)? * 1_000_000))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        let connection = Connection::open_in_memory().expect("a database");
        let of = |seconds: i64| {
            let (name, end) = month(&connection, Timestamp(seconds * 1_000_000)).expect("a month");
            (name, end.0 / 1_000_000)
        };
        assert_eq!(of(1_796_083_199), ("2026-11".into(), 1_796_083_200));
        assert_eq!(of(1_796_083_200), ("2026-12".into(), 1_798_761_600));
        assert_eq!(of(951_782_400), ("2000-02".into(), 951_868_800));
    }
}
