//! The files of a log, each with what is asked of it.
//!
//! Does not belong here: putting together what several files say (`query.rs`).

use std::path::{Path, PathBuf};

use chaperone_model::{Seq, Timestamp};
use rusqlite::{Connection, Row, named_params};

use super::{
    CommandDetail, CommandRow, Filter, Part, Rows,
    rows::{command_row, session_row},
};
use crate::{AuditError, chain, files, schema};

pub(super) struct Files(Vec<File>);

/// One file.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    /// When it was begun: all that earlier files have was recorded before.
    began: Timestamp,
}

impl Files {
    pub(super) fn open(path: &Path) -> Result<Self, AuditError> {
        let files = chain::all(path)?.into_iter().map(|path| {
            let connection = files::connect_reading(&path)?;
            schema::check(&connection, &path)?;
            let began = connection.query_row("SELECT began FROM file", [], |row| row.get(0))?;
            Ok(File { path, connection, began: Timestamp(began) })
        });
        Ok(Self(files.collect::<Result<_, AuditError>>()?))
    }

    pub(super) fn newest(&self) -> &Path {
        self.0.first().map_or(Path::new(""), |file| &file.path)
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &File> {
        self.0.iter()
    }

    /// Whether all that a file has was recorded before a time.
    pub(super) fn all_before(&self, file: &File, time: Option<Timestamp>) -> bool {
        let place = self.0.iter().position(|one| one.path == file.path);
        let later =
            place.and_then(|place| place.checked_sub(1)).and_then(|place| self.0.get(place));
        later.zip(time).is_some_and(|(later, time)| later.began < time)
    }
}

impl File {
    pub(super) fn last_outcome(&self) -> Result<Seq, AuditError> {
        let sql = "SELECT coalesce(max(seq), 0) FROM outcome";
        Ok(Seq(self.connection.query_row(sql, [], |row| row.get(0))?))
    }

    /// Rows of a statement with one parameter, its limit.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        limit: u32,
        row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, AuditError> {
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([limit], row)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    pub(super) fn select(
        &self,
        which: &Rows,
        filter: &Filter,
        approved: Option<&str>,
        limit: usize,
    ) -> Result<Vec<CommandRow>, AuditError> {
        let mut left = limit;
        if left == 0 {
            return Ok(Vec::new());
        }
        self.select_while(&sql(which, filter), which, filter, approved, |_| {
            left -= 1;
            left > 0
        })
    }

    /// Rows until enough is said of one.
    pub(super) fn select_while(
        &self,
        sql: &str,
        which: &Rows,
        filter: &Filter,
        approved: Option<&str>,
        mut go_on: impl FnMut(&CommandRow) -> bool,
    ) -> Result<Vec<CommandRow>, AuditError> {
        let (after, last) = match which {
            Rows::Newest | Rows::Of(_) => (None, None),
            Rows::Finished(after, last) => (Some(*after), Some(*last)),
        };
        // SQL's lower() knows ASCII alone; what is not ASCII is looked for here, which takes longer.
        let (plain, other) = match filter.text.as_deref() {
            Some(text) if !text.is_ascii() => (None, Some(text.to_lowercase())),
            plain => (plain, None),
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query(named_params! {
            ":since": filter.since.map(|t| t.0),
            ":until": filter.until.map(|t| t.0),
            ":agent": filter.agent,
            ":target": filter.target,
            ":session": filter.session.map(|s| s.0.cast_signed()),
            ":status": filter.status,
            ":run": filter.run,
            ":class": filter.class,
            ":version": filter.version,
            ":user": filter.user,
            ":verdict": filter.verdict,
            ":relation": filter.relation,
            ":program": filter.program,
            ":approved": approved,
            ":before": filter.before.map(|s| s.0.cast_signed()),
            ":text": plain,
            ":after": after.map(|s| s.0.cast_signed()),
            ":last": last.map(|s| s.0.cast_signed()),
            ":ids": if let Rows::Of(ids) = which { Some(ids) } else { None },
        })?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            if !contains(row, other.as_deref())? {
                continue;
            }
            let row = command_row(row)?;
            let enough = !go_on(&row);
            rows.push(row);
            if enough {
                break;
            }
        }
        Ok(rows)
    }
}

/// One command, where this file has it.
pub(super) fn command_in(
    connection: &Connection,
    id: Seq,
) -> Result<Option<CommandDetail>, AuditError> {
    let parts = parts_in(connection, id)?;
    let Some(first) = parts.first() else {
        return Ok(None);
    };
    let session = connection
        .prepare("SELECT * FROM sessions WHERE id = ?")?
        .query_map([first.command.session.cast_signed()], session_row)?
        .next()
        .transpose()?;
    Ok(Some(CommandDetail { session, parts }))
}

/// The statements of one command, where this file has them.
pub(super) fn parts_in(connection: &Connection, id: Seq) -> rusqlite::Result<Vec<Part>> {
    connection
        .prepare_cached(
            "SELECT c.*, o.columns, coalesce(o.response, s.response) AS response, o.kept, o.truncated, o.notices
             FROM commands c LEFT JOIN outcome o ON o.seq = c.outcome LEFT JOIN outcome s ON s.seq = o.response_of
             WHERE c.id = ? ORDER BY c.part",
        )?
        .query_map([id.0.cast_signed()], |row| {
            Ok(Part {
                command: command_row(row)?,
                columns: row.get("columns")?,
                response: row.get("response")?,
                kept: row.get("kept")?,
                truncated: row.get::<_, Option<bool>>("truncated")?.unwrap_or(false),
                notices: row.get("notices")?,
            })
        })?
        .collect()
}

/// The conditions that use an index stand alone, those that must not keep another from being used
/// have a `+` (sqlite.org/optoverview.html, 2.1). Every parameter is named once in every text.
pub(super) fn sql(which: &Rows, filter: &Filter) -> String {
    let (place, order) = match which {
        Rows::Newest if filter.session.is_some() => {
            ("session = :session AND :after IS :last AND :ids IS NULL", "id DESC, part DESC")
        }
        Rows::Newest => {
            (":session IS NULL AND :after IS :last AND :ids IS NULL", "id DESC, part DESC")
        }
        Rows::Finished(..) => (
            "outcome > :after AND outcome <= :last AND (:session IS NULL OR +session = :session) AND :ids IS NULL",
            "outcome",
        ),
        Rows::Of(_) => (
            "id IN (SELECT value FROM json_each(:ids)) AND (:session IS NULL OR +session = :session) AND :after IS :last",
            "id DESC, part DESC",
        ),
    };
    // Only where they are asked for: they cost what others do not.
    let relation = match filter.relation {
        Some(_) => {
            "EXISTS (SELECT 1 FROM json_tree(summary) WHERE (path LIKE '%.reads' OR path LIKE '%.writes')
                     AND (atom = :relation OR substr(atom, -1 - length(:relation)) = '.' || :relation))"
        }
        None => ":relation IS NULL",
    };
    let program = match filter.program {
        Some(_) => {
            "EXISTS (SELECT 1 FROM json_each(summary, '$.statements') s WHERE s.value ->> 'program' = :program)"
        }
        None => ":program IS NULL",
    };
    let approver = match filter.approver {
        Some(_) => {
            "EXISTS (SELECT 1 FROM json_each(:approved) h WHERE h.value = commands.id OR h.value = commands.approval)"
        }
        None => ":approved IS NULL",
    };
    format!(
        "SELECT * FROM commands WHERE {place}
         AND (:since IS NULL OR time_us >= :since) AND (:until IS NULL OR time_us < :until)
         AND (:agent IS NULL OR agent = :agent) AND (:target IS NULL OR target = :target)
         AND (:status IS NULL OR status = :status) AND (:run IS NULL OR run = :run)
         AND (:class IS NULL OR class = :class) AND (:before IS NULL OR id < :before)
         AND (:version IS NULL OR agent_version = :version) AND (:user IS NULL OR user = :user)
         AND (:verdict IS NULL OR verdict = :verdict) AND {relation} AND {program} AND {approver}
         AND (:text IS NULL OR instr(lower(statement), lower(:text)) > 0)
         ORDER BY {order}"
    )
}

fn contains(row: &Row<'_>, text: Option<&str>) -> rusqlite::Result<bool> {
    let Some(text) = text else { return Ok(true) };
    let statement = row.get_ref("statement")?.as_str_or_null()?;
    Ok(statement.is_some_and(|statement| statement.to_lowercase().contains(text)))
}
