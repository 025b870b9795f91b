//! Reading on from a cursor, in pages that fit into memory: for exports and replays.
//!
//! Does not belong here: the forms that are exported to, and proofs.

use chaperone_model::Seq;
use rusqlite::{Connection, OptionalExtension as _};

use super::{
    CommandRow, Filter, HoldRow, Part, Reader, Rows, SessionRow,
    files::{File, parts_in, sql},
    rows::{hold_row, session_row},
};
use crate::AuditError;

/// Bytes of statements and parameters after which a page ends.
const PAGE_BYTES: usize = 8 << 20;

/// Some of the commands that finished, in the order of their outcomes.
#[derive(Debug)]
pub struct Page {
    /// The commands.
    pub rows: Vec<CommandRow>,
    /// The number to read on after; the last that was asked for where nothing is left.
    pub next: Seq,
}

impl Reader {
    /// Commands whose outcome is after the record `after` and not after `last`, at most `most`.
    ///
    /// As with [`Reader::follow`], nothing is missed or read twice by who passes each cursor on.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn finished(
        &self,
        after: Seq,
        last: Seq,
        filter: &Filter,
        most: usize,
    ) -> Result<Page, AuditError> {
        let files = self.files()?;
        let mut oldest_first: Vec<&File> = files.newest_first().collect();
        oldest_first.reverse();
        for file in oldest_first {
            // What an earlier file has was recorded before all that a later one has.
            let last_here = file.last_outcome()?.min(last);
            if last_here <= after || files.all_before(file, filter.since) {
                continue;
            }
            let (rows, more) = file.page(&Rows::Finished(after, last_here), filter, most)?;
            let next = rows.last().and_then(|row| row.outcome).map(Seq).filter(|_| more);
            if !rows.is_empty() {
                return Ok(Page { rows, next: next.unwrap_or(last_here) });
            }
        }
        Ok(Page { rows: Vec::new(), next: last.max(after) })
    }

    /// A command with what came back.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn with_response(&self, command: CommandRow) -> Result<Part, AuditError> {
        let outcome = command.outcome.map(u64::cast_signed);
        let found = self.first(|file| {
            file.prepare_cached(
                "SELECT o.columns, coalesce(o.response, s.response), o.kept, o.truncated, o.notices
                 FROM outcome o LEFT JOIN outcome s ON s.seq = o.response_of WHERE o.seq = ?",
            )?
            .query_row([outcome], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()
        })?;
        let (columns, response, kept, truncated, notices): Response = found.unwrap_or_default();
        let truncated = truncated.unwrap_or(false);
        Ok(Part { command, columns, response, kept, truncated, notices })
    }

    /// The records that a row of `commands` was put together from, but for those of its session:
    /// its own come first.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn made_of(&self, command: Seq, outcome: Option<Seq>) -> Result<Vec<Seq>, AuditError> {
        let mut found = vec![command];
        found.extend(outcome);
        let others: Option<[Option<u64>; 6]> = self.first(|file| {
            file.prepare_cached(
                "SELECT i.text_of, e.seq, e.text_of, i.summary_of, e.summary_of, r.response_of FROM intent i
                 LEFT JOIN intent e ON e.session = i.session AND e.statement = i.statement
                  AND e.kind = 'prepare' AND i.kind <> 'prepare'
                 LEFT JOIN outcome r ON r.seq = ?2 WHERE i.seq = ?1",
            )?
            .query_row((command.0.cast_signed(), outcome.map(|o| o.0.cast_signed())), |row| {
                let mut others = [None; 6];
                for (place, other) in others.iter_mut().enumerate() {
                    *other = row.get(place)?;
                }
                Ok(others)
            })
            .optional()
        })?;
        for other in others.into_iter().flatten().flatten().map(Seq) {
            if !found.contains(&other) {
                found.push(other);
            }
        }
        Ok(found)
    }

    /// A session.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn session(&self, id: Seq) -> Result<Option<SessionRow>, AuditError> {
        self.first(|file| {
            file.prepare_cached("SELECT * FROM sessions WHERE id = ?")?
                .query_row([id.0.cast_signed()], session_row)
                .optional()
        })
    }

    /// The records that a row of `sessions` was put together from.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn session_made_of(&self, id: Seq) -> Result<Vec<Seq>, AuditError> {
        let sql = "SELECT o.seq, p.seq, u.seq, s.seq, t.seq, c.seq FROM session_opened o
             LEFT JOIN process p ON p.seq = o.process LEFT JOIN run u ON u.seq = p.run
             LEFT JOIN session_started s ON s.session = o.seq
             LEFT JOIN session_signed_on t ON t.session = o.seq
             LEFT JOIN session_closed c ON c.session = o.seq WHERE o.seq = ?";
        let found = self.first(|file| {
            file.prepare_cached(sql)?
                .query_row([id.0.cast_signed()], |row| {
                    (0..6).map(|place| row.get(place)).collect::<rusqlite::Result<Vec<_>>>()
                })
                .optional()
        })?;
        let found: Vec<Option<u64>> = found.unwrap_or_default();
        Ok(found.into_iter().flatten().map(Seq).collect())
    }

    /// What a person was asked of a command.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn hold(&self, id: Seq) -> Result<Option<HoldRow>, AuditError> {
        self.first(|file| {
            file.prepare_cached("SELECT * FROM holds WHERE id = ?")?
                .query_row([id.0.cast_signed()], hold_row)
                .optional()
        })
    }

    /// The records that a row of `holds` was put together from, but for its command's.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn hold_made_of(&self, id: Seq) -> Result<Vec<Seq>, AuditError> {
        let sql = "SELECT seq FROM hold_opened WHERE hold = ?1 UNION
             SELECT seq FROM hold_voted WHERE hold = ?1 UNION
             SELECT seq FROM hold_ended WHERE hold = ?1 ORDER BY seq";
        let found: Option<Vec<u64>> = self.first(|file| {
            let mut statement = file.prepare_cached(sql)?;
            let rows = statement.query_map([id.0.cast_signed()], |row| row.get(0))?;
            let rows: Vec<u64> = rows.collect::<rusqlite::Result<_>>()?;
            Ok(Some(rows).filter(|rows| !rows.is_empty()))
        })?;
        Ok(found.unwrap_or_default().into_iter().map(Seq).collect())
    }

    /// The session of a command.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn session_of(&self, command: Seq) -> Result<Option<Seq>, AuditError> {
        let found: Option<u64> = self.first(|file| {
            file.prepare_cached("SELECT session FROM intent WHERE seq = ?")?
                .query_row([command.0.cast_signed()], |row| row.get(0))
                .optional()
        })?;
        Ok(found.map(Seq))
    }

    /// The commands of a session after the record `after`, in their order, at most `most`.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn intents(&self, session: Seq, after: Seq, most: u32) -> Result<Vec<Seq>, AuditError> {
        let sql = "SELECT seq FROM intent WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?";
        let files = self.files()?;
        let mut found: Vec<u64> = Vec::new();
        for file in files.newest_first() {
            let mut statement = file.connection.prepare_cached(sql)?;
            let rows = statement
                .query_map((session.0.cast_signed(), after.0.cast_signed(), most), |r| {
                    r.get::<_, u64>(0)
                })?;
            found.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        // What was carried over into a later file stands in both.
        found.sort_unstable();
        found.dedup();
        found.truncate(most as usize);
        Ok(found.into_iter().map(Seq).collect())
    }

    /// The statements of one command, with what came back. Nothing where it only prepared.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn parts(&self, id: Seq) -> Result<Vec<Part>, AuditError> {
        let found = self.first(|file| {
            let parts = parts_in(file, id)?;
            Ok(Some(parts).filter(|parts| !parts.is_empty()))
        })?;
        Ok(found.unwrap_or_default())
    }

    /// All parts of one command, also where they were recorded into several files: a terminal may be
    /// open longer than a file is.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn every_part(&self, id: Seq) -> Result<Vec<Part>, AuditError> {
        let mut all = std::collections::BTreeMap::new();
        let files = self.files()?;
        for file in files.newest_first() {
            for part in parts_in(&file.connection, id)? {
                let (number, is_done) = (part.command.part, part.command.outcome.is_some());
                if is_done || !all.contains_key(&number) {
                    all.insert(number, part);
                }
            }
        }
        Ok(all.into_values().collect())
    }

    /// The host that the newest of the log was written on.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn host(&self) -> Result<Option<String>, AuditError> {
        self.first(|file| {
            file.prepare_cached("SELECT host FROM daemon_started ORDER BY seq DESC LIMIT 1")?
                .query_row([], |row| row.get(0))
                .optional()
        })
    }

    /// What the newest file that has something says.
    fn first<T>(
        &self,
        ask: impl Fn(&Connection) -> rusqlite::Result<Option<T>>,
    ) -> Result<Option<T>, AuditError> {
        for file in self.files()?.newest_first() {
            if let Some(found) = ask(&file.connection)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

type Response = (Option<String>, Option<String>, Option<u64>, Option<bool>, Option<String>);

/// How a command weighs in a page.
pub(super) fn weight(row: &CommandRow) -> usize {
    let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    of(&row.statement) + of(&row.parameters) + of(&row.summary)
}

impl File {
    /// Rows up to a number or a weight, and whether there may be more.
    fn page(
        &self,
        which: &Rows,
        filter: &Filter,
        most: usize,
    ) -> Result<(Vec<CommandRow>, bool), AuditError> {
        let mut room = PAGE_BYTES;
        let mut left = most.max(1);
        let rows = self.select_while(&sql(which, filter), which, filter, None, |row| {
            left -= 1;
            room = room.saturating_sub(weight(row));
            left > 0 && room > 0
        })?;
        Ok((rows, left == 0 || room == 0))
    }
}
