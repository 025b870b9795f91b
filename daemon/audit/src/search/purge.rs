//! What was erased leaves the index's file as well: a row that is deleted is only marked so, until
//! the parts of the index that it stands in are merged.
//!
//! Does not belong here: what is forgotten (`index.rs`).

use super::{document::Token, index::Index};
use crate::{AuditError, writer::checkpoint};

/// Pages that are written in a step.
const PAGES: i64 = 200;

impl Index {
    /// One step; answers whether there is more to do.
    pub(super) fn purge(&self) -> Result<bool, AuditError> {
        let state = |purge: i64| self.connection.execute("UPDATE state SET purge = ?", [purge]);
        let asked: i64 =
            self.connection.query_row("SELECT purge FROM state", [], |row| row.get(0))?;
        match asked {
            0 => return Ok(false),
            1 => {
                // An index of one part is left as it is: this makes a second one.
                self.connection.execute(
                    "INSERT OR REPLACE INTO document (rowid, text) VALUES (0, ?)",
                    [Token::Nothing.with(0)],
                )?;
                self.merge(-PAGES)?;
                state(2)?;
            }
            _ => {
                if !self.merge(PAGES)? {
                    // Out of the WAL as well. A reader that is in the way is gone by the next time.
                    if checkpoint(&self.connection, "TRUNCATE")?.0 == 0 {
                        state(0)?;
                    } else {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Merges on by so many pages; a negative number begins with all parts. Answers whether anything
    /// was done.
    fn merge(&self, pages: i64) -> Result<bool, AuditError> {
        let before = self.connection.total_changes();
        self.connection
            .prepare_cached("INSERT INTO document (document, rank) VALUES ('merge', ?)")?
            .execute([pages])?;
        // The statement itself counts for one (sqlite.org/fts5.html, 6.9).
        Ok(self.connection.total_changes() - before >= 2)
    }
}
