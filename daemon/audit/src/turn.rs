//! A new file begins: with every month, and when one is asked for. The tree goes on; what is still
//! open, and what later records refer to, is carried over.
//!
//! Does not belong here: appending (`append.rs`), and how the files name each other (`chain.rs`).

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::SystemTime,
};

use chaperone_model::{Event, EventKind, Record, Seq, Timestamp};
use rusqlite::Connection;

use crate::{
    AuditError,
    append::{Appender, Beginning},
    chain, files,
    note::hex,
    table::{HOLD_OPENED, INTENT, SESSION_OPENED},
    tree::subtrees,
    writer::{Shared, checkpoint, lock_of},
};

/// Who asked for a new file and waits for it.
pub(crate) type Request = mpsc::SyncSender<Result<(), AuditError>>;

/// When new files begin, and what is left to do with the old ones.
pub(crate) struct Turning {
    /// When the month ends.
    due: Timestamp,
    /// Files that are not appended to any more, and have a WAL to be moved into them.
    closing: Vec<Connection>,
}

/// Makes the first file of a log.
pub(crate) fn make_first(path: &Path) -> Result<PathBuf, AuditError> {
    let (month, _) = chain::month(&Connection::open_in_memory()?, now())?;
    let name = chain::name(path, &month);
    let file = path.with_file_name(&name);
    files::make_file(&file)?;
    chain::lead_to(path, &name)?;
    chain::newest(path)
}

impl Turning {
    /// The current file is of this month.
    pub(crate) fn new(connection: &Connection) -> rusqlite::Result<Self> {
        let began: i64 = connection.query_row("SELECT began FROM file", [], |row| row.get(0))?;
        let (_, due) = chain::month(connection, Timestamp(began))?;
        Ok(Self { due, closing: Vec::new() })
    }

    pub(crate) fn is_due(&self) -> bool {
        now() >= self.due
    }

    /// Moves what is left in old files' WALs into them, where no reader is in the way.
    pub(crate) fn tidy(&mut self) {
        self.closing.retain(|old| !matches!(checkpoint(old, "TRUNCATE"), Ok((0, ..))));
    }
}

impl Shared {
    /// Begins a new file where the month is over or somebody asks for one.
    pub(crate) fn turn_when_due(&self, turning: &mut Turning, checkpointer: &mut Connection) {
        let requests = std::mem::take(&mut *lock_of(&self.turns));
        if requests.is_empty() && !turning.is_due() {
            return;
        }
        let result = self.turn(turning, checkpointer);
        if let Err(error) = &result {
            tracing::error!(%error, "a new file of the log could not be begun: the old one goes on");
            // Not again at every tick.
            turning.due = Timestamp(now().0 + 60_000_000);
        }
        for request in requests {
            let _ = request.send(result.clone());
        }
    }

    fn turn(&self, turning: &mut Turning, checkpointer: &mut Connection) -> Result<(), AuditError> {
        if let Some(sealing) = &self.options.sealing {
            self.seal(sealing)?;
        }
        let mut writer = lock_of(&self.writer);
        let old = &writer.appender;
        let (month, due) = chain::month(&old.connection, now())?;
        let name = chain::name(&self.path, &month);
        let file = old.path.with_file_name(&name);
        let made = files::make_file(&file)
            .and_then(|()| begin(old, &file))
            .and_then(|new| Ok((files::open_wal(&file)?, files::connect(&file)?, new)))
            .and_then(|(wal, checkpoints, mut new)| {
                checkpoints.busy_timeout(std::time::Duration::ZERO)?;
                self.wal_size.follow(&mut new.connection)?;
                // What was promised of the old file holds.
                self.flusher.sync()?;
                chain::lead_to(&self.path, &name)?;
                Ok((wal, checkpoints, new))
            });
        let (wal, checkpoints, new) = match made {
            Ok(made) => made,
            Err(error) => {
                for suffix in ["", "-wal", "-shm"] {
                    let _ = fs::remove_file(files::with_suffix(&file, suffix));
                }
                return Err(error);
            }
        };
        self.flusher.turn_to(wal);
        *checkpointer = checkpoints;
        turning.due = due;
        let old = std::mem::replace(&mut writer.appender, new);
        drop(writer);
        let old = old.into_connection();
        old.busy_timeout(std::time::Duration::ZERO)?;
        turning.closing.push(old);
        turning.tidy();
        Ok(())
    }
}

/// A file that goes on where another ends, and is on the disk.
fn begin(old: &Appender, file: &Path) -> Result<Appender, AuditError> {
    let (frontier, last) = (old.frontier().clone(), old.last());
    let mut rows = Vec::new();
    for subtree in subtrees(frontier.size()) {
        let seq = subtree.last_leaf() + 1;
        let hashes = old.connection.query_row(
            "SELECT hashes FROM tree WHERE seq = ?",
            [seq.cast_signed()],
            |row| row.get(0),
        )?;
        rows.push((Seq(seq), hashes));
    }
    let before = old.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let root = hex(&frontier.root());
    let detail = format!(
        "this file goes on from {before}, whose last record is {} and whose tree has the root {root}",
        last.0
    );
    let mut new = Appender::open(file, || Ok(Beginning { frontier, rows, before: Some(before) }))?;
    let event =
        Record::Event(Event { at: now(), session: None, kind: EventKind::LogTurned, detail });
    let open = numbers(
        &old.connection,
        "SELECT seq FROM session_opened s
         WHERE NOT EXISTS (SELECT 1 FROM session_closed c WHERE c.session = s.seq)",
    )?;
    let holds = numbers(
        &old.connection,
        "SELECT hold FROM hold_opened h WHERE NOT EXISTS (SELECT 1 FROM hold_ended e WHERE e.hold = h.hold)",
    )?;
    new.begin(&event, |new, carried| {
        for session in open {
            new.carry(&SESSION_OPENED, session, carried)?;
        }
        for intent in old.unanswered() {
            new.carry(&INTENT, intent, carried)?;
        }
        for hold in holds {
            new.carry(&HOLD_OPENED, hold, carried)?;
        }
        Ok(())
    })?;
    new.adopt(old.unanswered());
    checkpoint(&new.connection, "TRUNCATE")?;
    files::sync_folder(file)?;
    Ok(new)
}

fn numbers(connection: &Connection, sql: &str) -> Result<Vec<Seq>, AuditError> {
    let found = connection
        .prepare(sql)?
        .query_map([], |row| row.get(0).map(Seq))?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
