//! The one place through which every record passes into the database.
//!
//! Does not belong here: transactions, and which number a record gets.

use chaperone_model::{Record, Ref, Rung, Seq};
use rusqlite::{Connection, params};

/// Writes one record at its place; `first` is the number of the first of its batch. What is to be
/// hashed over all records is hashed here.
pub(crate) fn insert(
    connection: &Connection,
    seq: Seq,
    first: Seq,
    record: &Record,
) -> rusqlite::Result<()> {
    let seq = seq.0.cast_signed();
    let number = |to: Ref| to.resolve(first).0.cast_signed();
    let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
        connection.prepare_cached(sql)?.execute(params).map(|_| ())
    };
    match record {
        Record::DaemonStarted(r) => run(
            "INSERT INTO daemon_started VALUES (?, ?, ?, ?, ?, ?)",
            params![seq, r.at.0, r.version, r.boot_id, r.host, r.policy],
        ),
        Record::RunSeen(r) => run(
            "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                seq,
                r.at.0,
                r.agent.0,
                r.version.as_ref().map(|version| version.text.as_str()),
                r.version.as_ref().map(|version| version.source.as_str()),
                r.run.name,
                r.run.unit,
                r.run.container
            ],
        ),
        Record::ProcessSeen(r) => {
            let process = &r.process;
            run(
                "INSERT INTO process VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                params![
                    seq,
                    r.at.0,
                    number(r.run),
                    r.parent.map(number),
                    process.pid,
                    process.started_ns.cast_signed(),
                    process.exec_id.cast_signed(),
                    process.uid,
                    process.gid,
                    process.cgroup_id.cast_signed(),
                    process.cgroup,
                    process.executable,
                    process.binary.map(|digest| digest.to_string()),
                    process.script.as_ref().map(|script| script.path.as_str()),
                    process.script.as_ref().and_then(|s| s.digest).map(|d| d.to_string()),
                    process.command_line,
                    process.folder,
                    process.login_uid,
                    r.lineage
                ],
            )
        }
        Record::SessionOpened(r) => run(
            "INSERT INTO session_opened VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                seq,
                r.at.0,
                number(r.process),
                r.comm,
                r.doubts,
                r.target.0,
                r.protocol.as_str(),
                r.original.to_string(),
                r.agent_addr.to_string()
            ],
        ),
        Record::SessionStarted(r) => run(
            "INSERT INTO session_started VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                seq,
                r.at.0,
                r.session.0.cast_signed(),
                r.user,
                r.database,
                r.application,
                r.parameters
            ],
        ),
        Record::SessionSignedOn(r) => run(
            "INSERT INTO session_signed_on VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                seq,
                r.at.0,
                r.session.0.cast_signed(),
                r.user,
                r.method,
                r.agent_tls,
                r.target_tls,
                r.application
            ],
        ),
        Record::Intent(r) => run(
            "INSERT INTO intent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                seq,
                r.at.0,
                r.session.0.cast_signed(),
                r.command.kind.as_str(),
                r.command.text,
                r.command.statement.map(u64::cast_signed),
                r.command.parameters,
                r.command.parameters_cut,
                r.verdict.as_str(),
                r.rule,
                r.rung.map(Rung::as_str),
                r.summary,
                r.approval.map(|hold| hold.0.cast_signed())
            ],
        ),
        Record::HoldOpened(r) => run(
            "INSERT INTO hold_opened VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                seq,
                r.at.0,
                number(r.hold),
                r.approvers,
                r.quorum,
                r.deadline.0,
                r.wait,
                r.digest.to_string()
            ],
        ),
        Record::HoldVoted(r) => run(
            "INSERT INTO hold_voted VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![seq, r.at.0, r.hold.0.cast_signed(), r.approves, r.uid, r.person, r.reason],
        ),
        Record::HoldEnded(r) => run(
            "INSERT INTO hold_ended VALUES (?, ?, ?, ?, ?)",
            params![seq, r.at.0, r.hold.0.cast_signed(), r.how.as_str(), r.detail],
        ),
        Record::Outcome(r) => run(
            "INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                seq,
                r.at.0,
                r.intent.0.cast_signed(),
                r.part,
                r.status.as_str(),
                r.tag,
                r.error_code,
                r.error_message,
                r.duration_us.cast_signed(),
                r.rows.cast_signed(),
                r.bytes.cast_signed(),
                r.bytes_in.cast_signed(),
                r.response.as_ref().map(|x| x.columns.as_str()).filter(|x| !x.is_empty()),
                r.response.as_ref().map(|x| x.rows.as_str()),
                r.response.as_ref().map(|x| x.kept.cast_signed()),
                r.response.as_ref().map(|x| x.truncated),
                r.notices,
                r.transaction
            ],
        ),
        Record::SessionClosed(r) => run(
            "INSERT INTO session_closed VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                seq,
                r.at.0,
                r.session.0.cast_signed(),
                r.closing.as_str(),
                r.detail,
                r.bytes_up.cast_signed(),
                r.bytes_down.cast_signed()
            ],
        ),
        Record::Event(r) => run(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?)",
            params![seq, r.at.0, r.session.map(|s| s.0.cast_signed()), r.kind.as_str(), r.detail],
        ),
    }
}

/// A record that weighs more is refused on its own, before it can fail others' (`SQLite` takes rows
/// up to 1,000,000,000 bytes).
pub(crate) const LARGEST: usize = 512 << 20;

/// About how many bytes a record takes, in memory and in the file.
pub(crate) fn weight(record: &Record) -> usize {
    let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
    200 + match record {
        Record::Intent(r) => {
            text(&r.command.text)
                + text(&r.command.parameters)
                + r.summary.as_ref().map_or(0, |summary| summary.len())
        }
        Record::HoldOpened(r) => 200 + r.approvers.len(),
        Record::HoldVoted(r) => text(&r.reason) + r.person.len(),
        Record::HoldEnded(r) => text(&r.detail),
        Record::Outcome(r) => {
            text(&r.error_message)
                + text(&r.notices)
                + r.response.as_ref().map_or(0, |x| x.rows.len() + x.columns.len())
        }
        Record::SessionStarted(r) => r.parameters.len(),
        Record::ProcessSeen(r) => {
            let process = &r.process;
            text(&process.executable) + text(&process.command_line) + r.lineage.len() + 400
        }
        Record::SessionOpened(r) => 200 + text(&r.doubts),
        Record::RunSeen(_) | Record::SessionSignedOn(_) => 200,
        Record::SessionClosed(r) => text(&r.detail),
        Record::Event(r) => r.detail.len(),
        Record::DaemonStarted(_) => 0,
    }
}
