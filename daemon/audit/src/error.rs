//! What can go wrong with the log, in sentences for ops.
//!
//! Does not belong here: what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ffi;

/// The log could not be opened, written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// A file or folder operation failed.
    #[error("{doing} {path}: {reason}")]
    File {
        /// What was being done, in words.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another daemon writes this log.
    #[error("another daemon writes the log {0}: only one may")]
    Locked(PathBuf),
    /// The file is something else.
    #[error("{0} is no chaperone log: choose another `log` in the configuration")]
    NotALog(PathBuf),
    /// The file was made by a newer version.
    #[error(
        "{path} has the layout {found}, and this version knows up to {known}: use a newer chaperone"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// The file was made before the first release.
    #[error(
        "{path} has the layout {found}, of before the first release, which is not carried on: move it away, a new log is made"
    )]
    Unreleased {
        /// Which file.
        path: PathBuf,
        /// Its layout.
        found: u32,
    },
    /// The file was made by an older version, and not written to since.
    #[error(
        "{path} has the layout {found}, and this version reads {known}: the daemon brings it up to date when it starts"
    )]
    Older {
        /// Which file.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The one that is read.
        known: u32,
    },
    /// No room.
    #[error("the disk that holds the log is full: free some room, nothing is forwarded until then")]
    Full,
    /// Not allowed to write.
    #[error(
        "the log cannot be written to ({0}): check the file's permissions and how its disk is mounted"
    )]
    ReadOnly(String),
    /// The file is damaged.
    #[error(
        "the log is damaged ({0}): keep the file, the daemon goes on in another as soon as it can"
    )]
    Corrupt(String),
    /// The file is damaged, also where it says what the next one would go on from.
    #[error(
        "the log {path} is damaged ({why}), and what it goes on from cannot be read: move it away and keep it, a new log is begun then"
    )]
    Lost {
        /// Which file.
        path: PathBuf,
        /// What `SQLite` said.
        why: String,
    },
    /// A flush failed; what it was to save may be lost, and trying again would hide that.
    #[error(
        "the log could not be flushed to the disk ({0}): check the disk, the daemon goes on in another file as soon as it can"
    )]
    Flush(String),
    /// A read or write failed.
    #[error("the disk that holds the log failed ({0}): check the disk")]
    Io(String),
    /// Another program holds `SQLite`'s own lock.
    #[error("another program keeps the log from being written: end it, only the daemon may write")]
    Busy,
    /// One record is beyond all bounds.
    #[error("a command is too large to be recorded")]
    TooLarge,
    /// `SQLite` failed in another way.
    #[error("the log's database failed: {0}")]
    Database(String),
    /// The newest file was taken away.
    #[error(
        "the file that the log {0} leads to is gone: put it back, or move the link and all files of the log away, a new log is begun then"
    )]
    Gone(PathBuf),
    /// There is nothing to read yet.
    #[error("there is no log at {0}: has the daemon ever run with this configuration?")]
    Missing(PathBuf),
    /// A search for nothing.
    #[error("there is no letter or digit to look for in {0:?}")]
    NoWords(String),
}

impl AuditError {
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>, error: &io::Error) -> Self {
        Self::File { doing, path: path.into(), reason: error.to_string() }
    }
}

impl AuditError {
    /// `SQLite` could not open a file: says which.
    pub(crate) fn opening(path: &Path, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;

        match error.sqlite_error_code() {
            Some(Code::NotADatabase) => Self::NotALog(path.into()),
            Some(Code::PermissionDenied | Code::CannotOpen) => Self::File {
                doing: "opening the log",
                path: path.into(),
                reason: error.to_string(),
            },
            _ => error.into(),
        }
    }
}

impl From<rusqlite::Error> for AuditError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;

        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(Code::DiskFull) => Self::Full,
            Some(Code::ReadOnly | Code::PermissionDenied | Code::CannotOpen) => {
                Self::ReadOnly(text)
            }
            // What is appended breaks no constraint of a file that is as it was written.
            Some(Code::DatabaseCorrupt | Code::NotADatabase | Code::ConstraintViolation) => {
                Self::Corrupt(of_the_code(&error).unwrap_or(text))
            }
            Some(Code::SystemIoFailure) => Self::Io(text),
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => Self::Busy,
            Some(Code::TooBig) => Self::TooLarge,
            _ => Self::Database(text),
        }
    }
}

/// What `SQLite` calls such a failure. What it says of the one at hand quotes the damaged file: noise,
/// and what agents may not see.
fn of_the_code(error: &rusqlite::Error) -> Option<String> {
    error.sqlite_error().map(|failure| ffi::code_to_str(failure.extended_code).to_owned())
}
