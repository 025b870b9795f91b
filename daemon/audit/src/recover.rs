//! What an earlier daemon left open, as the records that close it. What waited for a person was
//! never sent, and is not approved by a restart.
//!
//! Does not belong here: how they are written.

use std::collections::HashSet;

use chaperone_model::{
    AgentName, Closing, CommandStatus, ExceptionStep, HoldEnd, HoldEnded, Outcome, Record, Ref,
    Seq, SessionClosed, Step, TargetName, Timestamp,
};
use rusqlite::{Connection, Row};

/// An outcome for every command without one: `unknown`, or `refused` where it waited for a person;
/// and an end for every session and hold without one.
///
/// Walks the commands since the last checkpoint that were not settled then.
pub(crate) fn left_open(connection: &Connection) -> rusqlite::Result<Vec<Record>> {
    let at = Timestamp::from(std::time::SystemTime::now());
    let intents = numbers(
        connection,
        "SELECT seq FROM intent i
         WHERE seq > coalesce((SELECT settled FROM checkpoint ORDER BY size DESC LIMIT 1), 0)
         AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.intent = i.seq)",
    )?;
    let holds = numbers(
        connection,
        "SELECT hold FROM hold_opened h WHERE NOT EXISTS (SELECT 1 FROM hold_ended e WHERE e.hold = h.hold)",
    )?;
    let waiting: HashSet<Seq> = holds.iter().copied().collect();
    let exceptions = exceptions(connection, at)?;
    let sessions = numbers(
        connection,
        "SELECT seq FROM session_opened s
         WHERE NOT EXISTS (SELECT 1 FROM session_closed c WHERE c.session = s.seq)",
    )?;
    let unknown = intents
        .into_iter()
        .map(|intent| {
            let waited = waiting.contains(&intent);
            let status = if waited { CommandStatus::Refused } else { CommandStatus::Unknown };
            Record::Outcome(Outcome::new(intent, status, at))
        })
        .collect::<Vec<_>>();
    let withdrawn = holds.into_iter().map(|hold| {
        let detail = Some("the daemon was restarted".into());
        Record::HoldEnded(HoldEnded { at, hold, how: HoldEnd::Withdrawn, detail })
    });
    let closed = sessions.into_iter().map(|session| {
        Record::SessionClosed(SessionClosed {
            at,
            session,
            closing: Closing::Daemon,
            detail: Some("the daemon ended before the session did".into()),
            bytes_up: 0,
            bytes_down: 0,
        })
    });
    Ok(unknown.into_iter().chain(withdrawn).chain(closed).chain(exceptions).collect())
}

/// The end of masks that were lifted, or asked to be: a restart lets all of them count again.
fn exceptions(connection: &Connection, at: Timestamp) -> rusqlite::Result<Vec<Record>> {
    let open = "SELECT exception, mask, agent, run, target FROM exception a WHERE step = 'asked'
         AND NOT EXISTS (SELECT 1 FROM exception e WHERE e.exception = a.exception
                         AND e.step IN ('denied', 'revoked', 'expired', 'ended'))";
    let end = |row: &Row<'_>| {
        Ok(Record::Exception(ExceptionStep {
            at,
            exception: Ref::To(Seq(row.get::<_, i64>(0)?.cast_unsigned())),
            step: Step::Ended,
            mask: row.get::<_, String>(1)?.into(),
            agent: AgentName(row.get::<_, String>(2)?.into()),
            run: row.get::<_, String>(3)?.into(),
            target: row.get::<_, Option<String>>(4)?.map(|name| TargetName(name.into())),
            approvers: None,
            until: None,
            uid: None,
            person: None,
            reason: Some("the daemon was restarted".into()),
        }))
    };
    connection.prepare(open)?.query_map([], end)?.collect()
}

fn numbers(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<Seq>> {
    connection
        .prepare(sql)?
        .query_map([], |row| row.get::<_, i64>(0))?
        .map(|n| n.map(|n| Seq(n.cast_unsigned())))
        .collect()
}
