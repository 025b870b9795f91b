//! A new file begins: with every month, and when one is asked for. The tree goes on; what is still
//! open, and what later records refer to, is carried over.
//!
//! Does not belong here: appending (`append.rs`), and how the files name each other (`chain.rs`).

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant, SystemTime},
};

use chaperone_model::{Event, EventKind, Record, Seq, Timestamp};
use rusqlite::Connection;

use crate::{
    AuditError,
    append::{Appender, Beginning},
    chain, files,
    note::hex,
    read,
    table::{DAEMON_STARTED, EXCEPTION, HOLD_OPENED, INTENT, SESSION_OPENED},
    tree::{Frontier, subtrees},
    writer::{Shared, checkpoint, lock_of},
};

/// How long nothing is tried again that has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Who asked for a new file and waits for it.
pub(crate) type Request = mpsc::SyncSender<Result<(), AuditError>>;

/// When new files begin, and what is left to do with the old ones.
pub(crate) struct Turning {
    /// When the month ends.
    due: Timestamp,
    /// Files that are not appended to any more, and have a WAL to be moved into them.
    closing: Vec<Connection>,
    /// What has failed is not tried again before.
    not_before: Instant,
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
    /// The current file is of the month in which it was begun.
    pub(crate) fn new(current: &Appender) -> Result<Self, AuditError> {
        let connection = &current.connection;
        let began: i64 = connection.query_row("SELECT began FROM file", [], |row| row.get(0))?;
        let (_, due) = chain::month(connection, Timestamp(began))?;
        // What an earlier daemon had no time for.
        let mut closing = Vec::new();
        for file in chain::before(&current.path)? {
            if fs::metadata(files::wal_path(&file)).is_ok_and(|wal| wal.len() > 0) {
                files::rewrite_wal(&file)?;
                let old = files::connect(&file)?;
                old.busy_timeout(Duration::ZERO)?;
                closing.push(old);
            }
        }
        Ok(Self { due, closing, not_before: Instant::now() + PAUSE })
    }

    pub(crate) fn is_due(&self) -> bool {
        now() >= self.due
    }

    /// These are to be tidied up as well.
    pub(crate) fn add(&mut self, untidy: Vec<Connection>) {
        self.closing.extend(untidy);
    }

    /// Moves what is left in files' WALs into them, where no reader is in the way.
    pub(crate) fn tidy(&mut self) {
        self.closing.retain(|old| !matches!(checkpoint(old, "TRUNCATE"), Ok((0, ..))));
    }
}

impl Shared {
    /// Begins a new file where the month is over or somebody asks for one, and says whether it did.
    pub(crate) fn turn_when_due(
        &self,
        turning: &mut Turning,
        checkpointer: &mut Connection,
    ) -> bool {
        let requests = std::mem::take(&mut *lock_of(&self.turns));
        let may = Instant::now() >= turning.not_before;
        let unfit = self.unfit().filter(|_| may);
        if requests.is_empty() && unfit.is_none() && !(may && turning.is_due()) {
            return false;
        }
        let result = self.turn(turning, checkpointer, unfit.as_deref());
        if let Err(error) = &result {
            tracing::error!(%error, "a new file of the log could not be begun");
            turning.not_before = Instant::now() + PAUSE;
        }
        for request in requests {
            let _ = request.send(result.clone());
        }
        result.is_ok()
    }

    /// Why the file cannot be gone on with, where that is so.
    fn unfit(&self) -> Option<String> {
        let damaged = lock_of(&self.writer).damaged.clone();
        damaged.or_else(|| self.flusher.failure().map(|error| error.to_string()))
    }

    fn turn(
        &self,
        turning: &mut Turning,
        checkpointer: &mut Connection,
        damaged: Option<&str>,
    ) -> Result<(), AuditError> {
        if let (Some(sealing), None) = (&self.options.sealing, damaged) {
            self.seal(sealing)?;
        }
        let mut writer = lock_of(&self.writer);
        let old = &writer.appender;
        // Nothing is asked of the old file that a new one can be begun without.
        let (month, due) = chain::month(&Connection::open_in_memory()?, now())?;
        let name = chain::name(&self.path, &month);
        let file = old.path.with_file_name(&name);
        let made = files::make_file(&file)
            .and_then(|()| begin(old, &file, damaged))
            .and_then(|new| Ok((files::open_wal(&file)?, files::connect(&file)?, new)))
            .and_then(|(wal, checkpoints, mut new)| {
                checkpoints.busy_timeout(Duration::ZERO)?;
                self.wal_size.follow(&mut new.connection)?;
                // What was promised of the old file holds.
                if damaged.is_none() {
                    self.flusher.sync()?;
                }
                chain::lead_to(&self.path, &name)?;
                Ok((wal, checkpoints, new))
            });
        let (wal, checkpoints, new) = match made {
            Ok(made) => made,
            Err(error) => {
                // What the log leads to is never removed: it may lead there already.
                let back = old.path.file_name().unwrap_or_default().to_string_lossy();
                let leads_there = chain::newest(&self.path).is_ok_and(|newest| newest == file);
                if !leads_there || chain::lead_to(&self.path, &back).is_ok() {
                    for suffix in ["", "-wal", "-shm"] {
                        let _ = fs::remove_file(files::with_suffix(&file, suffix));
                    }
                }
                return Err(error);
            }
        };
        self.flusher.turn_to(wal);
        (writer.damaged, writer.error) = (None, None);
        turning.not_before = Instant::now() + PAUSE;
        *checkpointer = checkpoints;
        turning.due = due;
        let old = std::mem::replace(&mut writer.appender, new);
        drop(writer);
        if damaged.is_some()
            && let Err(error) = files::rewrite_wal(&old.path)
        {
            // The next start tries again.
            tracing::warn!(%error, "what is left of the log's old file stays in its WAL");
            return Ok(());
        }
        let old = old.into_connection();
        old.busy_timeout(Duration::ZERO)?;
        turning.closing.push(old);
        turning.tidy();
        Ok(())
    }
}

/// A file that goes on where another ends, and is on the disk.
fn begin(old: &Appender, file: &Path, damaged: Option<&str>) -> Result<Appender, AuditError> {
    let frontier = old.frontier().clone();
    let rows = tree_of(&old.connection, &frontier).or_else(|error| match damaged {
        Some(_) => Ok(frontier.rows()),
        None => Err(error),
    })?;
    let mut new = go_on(&old.path, file, frontier, rows, damaged, |new, carried| {
        let open = numbers(
            &old.connection,
            "SELECT seq FROM session_opened s
             WHERE NOT EXISTS (SELECT 1 FROM session_closed c WHERE c.session = s.seq)",
        )?;
        let holds = numbers(
            &old.connection,
            "SELECT hold FROM hold_opened h WHERE NOT EXISTS (SELECT 1 FROM hold_ended e WHERE e.hold = h.hold)",
        )?;
        let exceptions = numbers(
            &old.connection,
            "SELECT exception FROM exception a WHERE step = 'asked' AND NOT EXISTS (
                 SELECT 1 FROM exception e WHERE e.exception = a.exception
                 AND e.step IN ('denied', 'revoked', 'expired', 'ended'))",
        )?;
        // Under which policy, is told by the daemon's last start.
        let started =
            numbers(&old.connection, "SELECT seq FROM daemon_started ORDER BY seq DESC LIMIT 1")?;
        for start in started {
            new.carry(&DAEMON_STARTED, start, carried)?;
        }
        for session in open {
            new.carry(&SESSION_OPENED, session, carried)?;
        }
        for intent in old.unanswered() {
            new.carry(&INTENT, intent, carried)?;
        }
        for hold in holds {
            new.carry(&HOLD_OPENED, hold, carried)?;
        }
        for exception in exceptions {
            new.carry(&EXCEPTION, exception, carried)?;
        }
        Ok(())
    })?;
    new.adopt(old.unanswered());
    Ok(new)
}

/// Goes on from a file that cannot be opened for writing any more, where its tree can be read. The
/// file stays where it is: it is named as the one before.
pub(crate) fn salvage(path: &Path, old: &Path, why: &str) -> Result<Appender, AuditError> {
    let damaged = || AuditError::Lost { path: old.into(), why: why.to_owned() };
    let connection = files::connect_reading(old).map_err(|_| damaged())?;
    let last: u64 = connection
        .query_row("SELECT coalesce(max(seq), 0) FROM tree", [], |row| row.get(0))
        .map_err(|_| damaged())?;
    let frontier = read::frontier(&connection, last).ok().flatten().ok_or_else(damaged)?;
    let (month, _) = chain::month(&Connection::open_in_memory()?, now())?;
    let name = chain::name(path, &month);
    let file = old.with_file_name(&name);
    files::make_file(&file)?;
    let rows = frontier.rows();
    let new = go_on(old, &file, frontier, rows, Some(why), |_, _| Ok(()))?;
    chain::lead_to(path, &name)?;
    tracing::error!(why, old = %old.display(), "the log is damaged: it goes on in another file");
    Ok(new)
}

fn go_on(
    old: &Path,
    file: &Path,
    frontier: Frontier,
    rows: Vec<(Seq, Vec<u8>)>,
    damaged: Option<&str>,
    carry: impl Fn(&Appender, &mut Vec<Record>) -> Result<(), AuditError>,
) -> Result<Appender, AuditError> {
    let before = old.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (last, root) = (frontier.size(), hex(&frontier.root()));
    let (kind, why) = match damaged {
        None => (EventKind::LogTurned, String::new()),
        Some(why) => (EventKind::LogDamaged, format!(", which is damaged or failed ({why})")),
    };
    let detail = format!(
        "this file goes on from {before}{why}; the last record there is {last}, and the tree has the root {root}"
    );
    let mut new = Appender::open(file, || Ok(Beginning { frontier, rows, before: Some(before) }))?;
    let event = Record::Event(Event { at: now(), session: None, kind, detail });
    let begun = new.begin(&event, &carry);
    if damaged.is_some() && begun.is_err() {
        // What cannot be read cannot be carried over.
        new.begin(&event, |_, _| Ok(()))?;
    } else {
        begun?;
    }
    checkpoint(&new.connection, "TRUNCATE")?;
    files::sync_folder(file)?;
    Ok(new)
}

/// The rows of the tree that its frontier is in.
fn tree_of(
    connection: &Connection,
    frontier: &Frontier,
) -> Result<Vec<(Seq, Vec<u8>)>, AuditError> {
    let rows = subtrees(frontier.size()).into_iter().map(|subtree| {
        let seq = subtree.last_leaf() + 1;
        let hashes = connection.query_row(
            "SELECT hashes FROM tree WHERE seq = ?",
            [seq.cast_signed()],
            |row| row.get(0),
        )?;
        Ok((Seq(seq), hashes))
    });
    rows.collect()
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
