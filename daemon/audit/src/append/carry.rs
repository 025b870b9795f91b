//! What a file's records refer to in an earlier file is carried over into it, with its number.
//!
//! Does not belong here: appending (`append.rs`), and when a new file begins (`turn.rs`).

use std::path::Path;

use chaperone_model::{Carried, Digest, Record, Ref, Seq, Timestamp};
use rusqlite::types::ToSql;

use super::{Appender, insert};
use crate::{
    AuditError,
    canonical::{Canonical, Value},
    chain, files, read,
    table::{
        EXCEPTION, HOLD_OPENED, INTENT, OUTCOME, PROCESS, RUN, SESSION_OPENED, SESSION_SIGNED_ON,
        SESSION_STARTED, Table,
    },
};

/// References that lead nowhere and are remembered.
const NOWHERE: usize = 10_000;

impl Appender {
    /// What a record refers to stands in the same file.
    pub(super) fn carry_what_it_refers_to(
        &self,
        record: &Record,
        carried: &mut Vec<Record>,
    ) -> Result<(), AuditError> {
        let mut to = |table, to: Ref| match to {
            Ref::To(seq) => self.carry(table, seq, carried),
            Ref::InBatch(_) => Ok(()),
        };
        match record {
            Record::ProcessSeen(r) => {
                to(&RUN, r.run)?;
                r.parent.map_or(Ok(()), |parent| to(&PROCESS, parent))
            }
            Record::SessionOpened(r) => {
                to(&PROCESS, r.process)?;
                let outer = r.inside.as_ref().map(|inside| inside.outer);
                outer.map_or(Ok(()), |outer| to(&SESSION_OPENED, Ref::To(outer)))
            }
            Record::SessionStarted(r) => to(&SESSION_OPENED, Ref::To(r.session)),
            Record::SessionSignedOn(r) => to(&SESSION_OPENED, Ref::To(r.session)),
            Record::SessionClosed(r) => to(&SESSION_OPENED, Ref::To(r.session)),
            Record::Event(r) => {
                r.session.map_or(Ok(()), |session| to(&SESSION_OPENED, Ref::To(session)))
            }
            Record::Intent(r) => {
                to(&SESSION_OPENED, Ref::To(r.session))?;
                if let Some(hold) = r.approval {
                    to(&INTENT, Ref::To(hold))?;
                }
                for (_, exception) in &r.lifted {
                    to(&EXCEPTION, Ref::To(*exception))?;
                }
                match r.command.statement {
                    Some(number) if r.session < self.first => {
                        self.carry_prepared(r.session, number, carried)
                    }
                    _ => Ok(()),
                }
            }
            Record::Outcome(r) => to(&INTENT, Ref::To(r.intent)),
            Record::HoldOpened(r) => to(&INTENT, r.hold),
            Record::HoldVoted(r) => to(&HOLD_OPENED, Ref::To(r.hold)),
            Record::HoldEnded(r) => to(&HOLD_OPENED, Ref::To(r.hold)),
            Record::Exception(r) => to(&EXCEPTION, r.exception),
            Record::DaemonStarted(_)
            | Record::RunSeen(_)
            | Record::Heartbeat(_)
            | Record::Erased(_)
            | Record::Carried(_) => Ok(()),
        }
    }

    /// Puts a record of an earlier file here, with its number and all that it refers to. For
    /// `hold_opened` the number is the hold's, for `exception` that of its first step: all go along.
    pub(crate) fn carry(
        &self,
        table: &'static Table,
        seq: Seq,
        carried: &mut Vec<Record>,
    ) -> Result<(), AuditError> {
        if seq >= self.first || self.nowhere.borrow().contains(&(table.name, seq)) {
            return Ok(());
        }
        let column = match table.name {
            "hold_opened" => "hold",
            "exception" => "exception",
            _ => "seq",
        };
        let is_here = format!("SELECT 1 FROM {} WHERE {column} = ?", table.name);
        if self.connection.prepare_cached(&is_here)?.exists([seq.0.cast_signed()])? {
            return Ok(());
        }
        for earlier in readable(chain::before(&self.path))? {
            let sql = format!("SELECT * FROM {} WHERE {column} = ?", table.name);
            let copied = self.copy(&earlier, table, &sql, &[&seq.0.cast_signed()], carried);
            if readable(copied)? > 0 {
                return Ok(());
            }
        }
        // The file that had it is no longer kept, or damaged: the reference leads nowhere, and is not
        // looked for again with every record.
        let mut nowhere = self.nowhere.borrow_mut();
        if nowhere.len() >= NOWHERE {
            nowhere.clear();
        }
        nowhere.insert((table.name, seq));
        Ok(())
    }

    fn carry_prepared(
        &self,
        session: Seq,
        number: u64,
        carried: &mut Vec<Record>,
    ) -> Result<(), AuditError> {
        let (session, number) = (session.0.cast_signed(), number.cast_signed());
        let of = "FROM intent WHERE session = ? AND statement = ? AND kind = 'prepare'";
        let is_here = format!("SELECT 1 {of}");
        if self.connection.prepare_cached(&is_here)?.exists([session, number])? {
            return Ok(());
        }
        for earlier in readable(chain::before(&self.path))? {
            let sql = format!("SELECT * {of}");
            let copied = self.copy(&earlier, &INTENT, &sql, &[&session, &number], carried);
            if readable(copied)? > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Copies rows out of an earlier file, and what they refer to. Answers how many there were.
    pub(crate) fn copy(
        &self,
        earlier: &Path,
        table: &'static Table,
        sql: &str,
        parameters: &[&dyn ToSql],
        carried: &mut Vec<Record>,
    ) -> Result<usize, AuditError> {
        let connection = files::connect_reading(earlier)?;
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query(parameters)?;
        let mut count = 0;
        let mut canonical = Canonical::default();
        while let Some(found) = rows.next()? {
            let (mut values, content) = read::values(table, found)?;
            let leaf = canonical.leaf(table, &values, content);
            insert(&self.connection, table, &values, content)?;
            let seq = |place: usize| match values.get(place) {
                Some(Value::Integer(seq)) => Some(Seq(seq.cast_unsigned())),
                _ => None,
            };
            if let Some(record) = seq(0) {
                let at = Timestamp::from(std::time::SystemTime::now());
                carried.push(Record::Carried(Carried { at, record, leaf: Digest(leaf) }));
            }
            let of = |name: &str| table.columns.iter().position(|c| *c == name).and_then(seq);
            let references: &[(&str, &'static Table)] = match table.name {
                "process" => &[("run", &RUN), ("parent", &PROCESS)],
                "session_opened" => &[("process", &PROCESS), ("inside", &SESSION_OPENED)],
                "intent" => {
                    &[("session", &SESSION_OPENED), ("text_of", &INTENT), ("summary_of", &INTENT)]
                }
                "outcome" => &[("response_of", &OUTCOME)],
                "hold_opened" => &[("hold", &INTENT)],
                _ => &[],
            };
            let references: Vec<_> = references
                .iter()
                .filter_map(|(name, table)| of(name).map(|seq| (*table, seq)))
                .collect();
            let (of_session, of_statement) = (of("session"), of("statement"));
            values.clear();
            count += 1;
            for (table, seq) in references {
                self.carry(table, seq, carried)?;
            }
            if table.is(&INTENT)
                && let (Some(session), Some(number)) = (of_session, of_statement)
            {
                self.carry_prepared(session, number.0, carried)?;
            }
            if table.is(&INTENT)
                && let Some(intent) = found.get::<_, Option<i64>>("seq")?
            {
                // It is not under way any more, where it has one.
                let sql = "SELECT * FROM outcome WHERE intent = ?";
                self.copy(earlier, &OUTCOME, sql, &[&intent], carried)?;
            }
            if table.is(&SESSION_OPENED)
                && let Some(session) = found.get::<_, Option<i64>>("seq")?
            {
                for table in [&SESSION_STARTED, &SESSION_SIGNED_ON] {
                    let sql = format!("SELECT * FROM {} WHERE session = ?", table.name);
                    self.copy(earlier, table, &sql, &[&session], carried)?;
                }
            }
        }
        Ok(count)
    }
}

/// What is in an earlier file that is damaged cannot be carried over, and is no reason to record
/// nothing from here on.
fn readable<T: Default>(found: Result<T, AuditError>) -> Result<T, AuditError> {
    match found {
        Err(AuditError::Corrupt(_) | AuditError::NotALog(_)) => Ok(T::default()),
        found => found,
    }
}
