//! What goes on behind the log's writer: the search index is filled, and readers are watched.
//!
//! Does not belong here: how (`chaperone-audit`).

use anyhow::Result;
use chaperone_audit::{Log, readers::Watch, search::Indexer};
use chaperone_control::{IndexStatus, LogReader};

/// Bytes that the WAL may have while somebody holds a view of the log.
const WAL_BOUND: u64 = 256 << 20;

/// Ends with being dropped.
pub(crate) struct Attending {
    indexer: Indexer,
    watch: Watch,
}

impl Attending {
    pub(crate) fn start(log: &Log) -> Result<Self> {
        let (indexer, watch) = (Indexer::start(log.path())?, Watch::start(log.clone(), WAL_BOUND)?);
        Ok(Self { indexer, watch })
    }

    /// How far the search index is.
    pub(crate) fn index(&self) -> IndexStatus {
        let progress = self.indexer.progress();
        IndexStatus { indexed: progress.indexed.0, last: progress.last.0, error: progress.error }
    }

    /// Who has held a view of the log for long.
    pub(crate) fn readers(&self) -> Vec<LogReader> {
        let readers = self.watch.readers().into_iter();
        readers
            .map(|reader| LogReader {
                pid: reader.pid,
                program: reader.program,
                uid: reader.uid,
                file: reader.file,
                held_seconds: reader.held.as_secs(),
                wal_bytes: reader.wal_bytes,
            })
            .collect()
    }
}
