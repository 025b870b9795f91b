//! The log's files: made with their modes, locked, synced, and opened by `SQLite` with our settings.
//!
//! Does not belong here: what is in them.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError, set_permissions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::AuditError;

/// The owner writes, the group reads.
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;
/// Nobody else should write to the log; who does may not stop the daemon for long.
const BUSY: Duration = Duration::from_secs(1);
/// Bytes of a page of the log. A commit writes each page that it touches: smaller ones are a third
/// quicker than `SQLite`'s 4096, and still hold what most commands have to say.
pub(crate) const PAGE: u64 = 2048;
/// A reader waits for whoever recovers the file after a crash.
const READER_BUSY: Duration = Duration::from_secs(5);

/// Makes the log's folder where there is none, for its owner and group.
///
/// # Errors
/// [`AuditError::File`].
pub fn make_folder(path: &Path) -> Result<(), AuditError> {
    let folder = folder_of(path);
    make_folders(folder).map_err(|e| AuditError::file("making the log's folder", folder, &e))
}

/// Makes the folder where there is none, and takes the log's lock.
pub(crate) fn make(path: &Path) -> Result<File, AuditError> {
    make_folder(path)?;
    lock(path)
}

/// Makes a file of the log. `SQLite` gives its other files the mode and group of this one.
pub(crate) fn make_file(path: &Path) -> Result<(), AuditError> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        // The umask may have taken the group's bits away.
        .and_then(|file| file.set_permissions(Permissions::from_mode(FILE_MODE)))
        .map_err(|error| AuditError::file("making the log", path, &error))
}

/// A connection that writes to a file of the log.
pub(crate) fn connect(path: &Path) -> Result<Connection, AuditError> {
    connect_with(path, PAGE)
}

/// A connection that writes; where the file is empty yet it gets pages of so many bytes.
pub(crate) fn connect_with(path: &Path, page: u64) -> Result<Connection, AuditError> {
    let connection = Connection::open(path).map_err(|e| AuditError::opening(path, e))?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "page_size", page.cast_signed())?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(|e| AuditError::opening(path, e))?;
    // Commits do not wait for the disk; the flusher makes them safe where it is asked to. A
    // checkpoint does sync, first the WAL and then the database.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Readers with read access alone need the -wal and -shm files, also when nobody writes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// A connection that reads.
pub(crate) fn connect_reading(path: &Path) -> Result<Connection, AuditError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|e| AuditError::opening(path, e))?;
    connection.busy_timeout(READER_BUSY)?;
    Ok(connection)
}

/// The WAL of a file, to be flushed.
pub(crate) fn open_wal(path: &Path) -> Result<File, AuditError> {
    let wal = wal_path(path);
    File::open(&wal).map_err(|e| AuditError::file("opening", wal, &e))
}

pub(crate) fn wal_path(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

/// Writes what an earlier daemon left in the WAL once more, and flushes it.
///
/// Where a flush of it failed, the kernel takes for clean what never reached the disk: the next one
/// succeeds without it. A checkpoint would then move frames into the database that the disk does not
/// have, and a power cut in its midst leaves a database that nothing repairs.
pub(crate) fn rewrite_wal(path: &Path) -> Result<(), AuditError> {
    let wal = wal_path(path);
    let failed = |e: &io::Error| AuditError::file("flushing", &wal, e);
    let file = match OpenOptions::new().read(true).write(true).open(&wal) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(|e| failed(&e))?,
    };
    let mut chunk = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        match file.read_at(&mut chunk, at).map_err(|e| failed(&e))? {
            0 => break file.sync_data().map_err(|e| failed(&e)),
            read => {
                file.write_all_at(&chunk[..read], at).map_err(|e| failed(&e))?;
                at += read as u64;
            }
        }
    }
}

/// Makes the entries of new files, and of the folder itself, survive a power cut.
pub(crate) fn sync_folder(path: &Path) -> Result<(), AuditError> {
    let folder = folder_of(path);
    for folder in [Some(folder), folder.parent()].into_iter().flatten() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|e| AuditError::file("syncing the log's folder", folder, &e))?;
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The mode is set as well as asked for: the umask may have taken the group's bits away.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    set_permissions(folder, Permissions::from_mode(FOLDER_MODE))
}

/// Only one daemon writes a log.
fn lock(path: &Path) -> Result<File, AuditError> {
    let name = with_suffix(path, ".lock");
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(&name)
        .map_err(|e| AuditError::file("opening the log's lock", &name, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AuditError::Locked(path.into())),
        Err(TryLockError::Error(e)) => Err(AuditError::file("locking", &name, &e)),
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
