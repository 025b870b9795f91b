//! Files that were kept long enough: their records go, the tree's hashes and the checkpoints stay,
//! so that what was proved by them can still be proved.
//!
//! Does not belong here: when new files begin (`turn.rs`).

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use chaperone_model::{Event, EventKind, Record, Timestamp};
use rusqlite::{Connection, params};

use crate::{
    AuditError, chain, files, schema, search,
    writer::{Shared, lock_of},
};

/// How often it is looked.
const EVERY: Duration = Duration::from_hours(1);

/// How long files are kept. What is `None` keeps them for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// After their last record.
    pub age: Option<Duration>,
    /// As long as all files together have no more bytes.
    pub size: Option<u64>,
}

/// When it was looked last.
#[derive(Default)]
pub(crate) struct Retiring(Option<Instant>);

impl Shared {
    /// Retires what was kept long enough, where it is time to look.
    pub(crate) fn retire_when_due(&self, retiring: &mut Retiring, turned: bool) {
        let keep = self.options.keep;
        let due = turned || retiring.0.is_none_or(|last| last.elapsed() > EVERY);
        if !due || (keep.age.is_none() && keep.size.is_none()) {
            return;
        }
        retiring.0 = Some(Instant::now());
        if let Err(error) = self.retire(keep) {
            tracing::warn!(%error, "a file of the log that was kept long enough could not be removed");
        }
    }

    fn retire(&self, keep: Keep) -> Result<(), AuditError> {
        let current = lock_of(&self.writer).appender.path.clone();
        // The oldest first; each ends where the next begins.
        let mut files = chain::before(&current)?;
        files.reverse();
        let mut total = size(&current);
        total += files.iter().map(|file| size(file)).sum::<u64>();
        let now = Timestamp::from(SystemTime::now());
        for (place, file) in files.iter().enumerate() {
            let next = files.get(place + 1).unwrap_or(&current);
            let (ended, _) = about(next)?;
            let age = u64::try_from(now.0 - ended.0).map_or(Duration::ZERO, Duration::from_micros);
            let (_, retired) = about(file)?;
            let old = keep.age.is_some_and(|most| age > most);
            let large = keep.size.is_some_and(|most| total > most);
            if retired || !(old || large) {
                continue;
            }
            if fs::metadata(files::wal_path(file)).is_ok_and(|wal| wal.len() > 0) {
                // A reader keeps it from being tidied up.
                continue;
            }
            let before = size(file);
            let why = if old { "it was kept long enough" } else { "the log had grown too large" };
            self.retire_one(file, why)?;
            total -= before.saturating_sub(size(file));
        }
        Ok(())
    }

    fn retire_one(&self, file: &Path, why: &str) -> Result<(), AuditError> {
        let connection = files::connect_reading(file)?;
        let range: (i64, i64) = connection.query_row(
            "SELECT first_seq, (SELECT coalesce(max(seq), 0) FROM tree) FROM file",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        drop(connection);
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let event = Record::Event(Event {
            at: SystemTime::now().into(),
            session: None,
            kind: EventKind::LogRetired,
            detail: format!(
                "the records {} to {} in {name} were removed, their hashes are kept: {why}",
                range.0, range.1
            ),
        });
        {
            let mut writer = lock_of(&self.writer);
            self.commit_with(&mut writer, Some(&event))?;
        }
        self.flusher.sync()?;
        let hashes = hashes_of(file)?;
        let failed = |error| AuditError::file("removing the records of", file, &error);
        fs::rename(&hashes, file).map_err(failed)?;
        search::remove(file)?;
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(files::with_suffix(file, suffix));
        }
        files::sync_folder(file)
    }
}

/// A file with the tree and the checkpoints of another, and nothing else.
fn hashes_of(file: &Path) -> Result<PathBuf, AuditError> {
    let path = files::with_suffix(file, ".hashes");
    let _ = fs::remove_file(&path);
    files::make_file(&path)?;
    let mut connection = Connection::open(&path)?;
    schema::migrate(&mut connection, &path)?;
    connection.execute("ATTACH ? AS old", [file.to_string_lossy()])?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "INSERT INTO tree SELECT * FROM old.tree; INSERT INTO checkpoint SELECT * FROM old.checkpoint;",
    )?;
    transaction.execute(
        "INSERT INTO file SELECT one, first_seq, began, before, ? FROM old.file",
        params![Timestamp::from(SystemTime::now()).0],
    )?;
    transaction.commit()?;
    drop(connection);
    Ok(path)
}

/// When a file was begun, and whether its records were removed.
fn about(file: &Path) -> Result<(Timestamp, bool), AuditError> {
    let connection = files::connect_reading(file)?;
    Ok(connection.query_row("SELECT began, retired IS NOT NULL FROM file", [], |row| {
        Ok((Timestamp(row.get(0)?), row.get(1)?))
    })?)
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |about| about.len())
}
