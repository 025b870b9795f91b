//! What each kind of record is as a row of its table.
//!
//! Does not belong here: which number a record gets, and writing it.

use chaperone_model::{Record, Ref, Rung, Seq};

use crate::{
    canonical::Value,
    table::{
        CARRIED, DAEMON_STARTED, ERASED, EVENT, EXCEPTION, HEARTBEAT, HOLD_ENDED, HOLD_OPENED,
        HOLD_VOTED, INTENT, OUTCOME, PROCESS, RUN, SESSION_CLOSED, SESSION_OPENED,
        SESSION_SIGNED_ON, SESSION_STARTED, Table,
    },
};

/// Which records have the same text, summary and response, so that they need not be written again.
pub(crate) struct Known {
    pub(crate) text: Option<Seq>,
    pub(crate) summary: Option<Seq>,
    pub(crate) response: Option<Seq>,
}

/// A record's table, and its values in the order of the table's columns and content. `first` is the
/// number of the first record of its batch.
pub(crate) fn row<'a>(
    seq: Seq,
    first: Seq,
    record: &'a Record,
    known: &Known,
) -> (&'static Table, Vec<Value<'a>>) {
    let number = |to: Ref| int(to.resolve(first).0);
    match record {
        Record::DaemonStarted(r) => (
            &DAEMON_STARTED,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                text(&r.version),
                text(&r.boot_id),
                text(&r.host),
                text(&r.policy),
            ],
        ),
        Record::RunSeen(r) => (
            &RUN,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                text(&r.agent.0),
                optional(r.version.as_ref().map(|version| version.text.as_str())),
                optional(r.version.as_ref().map(|version| version.source.as_str())),
                text(&r.run.name),
                optional(r.run.unit.as_deref()),
                optional(r.run.container.as_deref()),
                owned(r.run.image.map(|digest| format!("sha256:{digest}"))),
            ],
        ),
        Record::ProcessSeen(r) => {
            let process = &r.process;
            let script = process.script.as_ref();
            (
                &PROCESS,
                vec![
                    int(seq.0),
                    Value::Integer(r.at.0),
                    number(r.run),
                    r.parent.map_or(Value::Null, number),
                    int(process.pid),
                    int(process.started_ns),
                    int(process.exec_id),
                    int(process.uid),
                    int(process.gid),
                    int(process.cgroup_id),
                    optional(process.cgroup.as_deref()),
                    optional(process.executable.as_deref()),
                    owned(process.binary.map(|digest| digest.to_string())),
                    optional(script.map(|script| script.path.as_str())),
                    owned(script.and_then(|s| s.digest).map(|digest| digest.to_string())),
                    optional(process.folder.as_deref()),
                    process.login_uid.map_or(Value::Null, int),
                    text(&r.lineage),
                    optional(process.command_line.as_deref()),
                ],
            )
        }
        Record::SessionOpened(r) => (
            &SESSION_OPENED,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                number(r.process),
                text(&r.comm),
                optional(r.doubts.as_deref()),
                text(&r.target.0),
                text(r.protocol.as_str()),
                owned(Some(match &r.inside {
                    Some(inside) => inside.asked.clone(),
                    None => r.original.to_string(),
                })),
                owned(Some(r.agent_addr.to_string())),
                r.inside.as_ref().map_or(Value::Null, |inside| int(inside.outer.0)),
            ],
        ),
        Record::SessionStarted(r) => (
            &SESSION_STARTED,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                int(r.session.0),
                optional(r.user.as_deref()),
                optional(r.database.as_deref()),
                optional(r.application.as_deref()),
                text(&r.parameters),
            ],
        ),
        Record::SessionSignedOn(r) => (
            &SESSION_SIGNED_ON,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                int(r.session.0),
                optional(r.user.as_deref()),
                text(&r.method),
                optional(r.agent_tls.as_deref()),
                optional(r.target_tls.as_deref()),
                optional(r.application.as_deref()),
            ],
        ),
        Record::Intent(r) => (
            &INTENT,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                int(r.session.0),
                text(r.command.kind.as_str()),
                r.command.statement.map_or(Value::Null, int),
                known.text.map_or(Value::Null, |seq| int(seq.0)),
                int(r.command.parameters_cut),
                text(r.verdict.as_str()),
                text(&r.rule),
                optional(r.rung.map(Rung::as_str)),
                optional(r.summary.as_deref().filter(|_| known.summary.is_none())),
                known.summary.map_or(Value::Null, |seq| int(seq.0)),
                r.approval.map_or(Value::Null, |hold| int(hold.0)),
                owned(unmasked(&r.lifted)),
                optional(r.command.text.as_deref().filter(|_| known.text.is_none())),
                optional(r.command.parameters.as_deref()),
            ],
        ),
        Record::Outcome(r) => {
            let response = r.response.as_ref();
            (
                &OUTCOME,
                vec![
                    int(seq.0),
                    Value::Integer(r.at.0),
                    int(r.intent.0),
                    int(r.part),
                    text(r.status.as_str()),
                    optional(r.tag.as_deref()),
                    optional(r.error_code.as_deref()),
                    int(r.duration_us),
                    int(r.rows),
                    int(r.bytes),
                    int(r.bytes_in),
                    optional(response.map(|x| x.columns.as_str()).filter(|x| !x.is_empty())),
                    known.response.map_or(Value::Null, |seq| int(seq.0)),
                    response.map_or(Value::Null, |x| int(x.kept)),
                    response.map_or(Value::Null, |x| int(x.truncated)),
                    optional(r.transaction),
                    optional(r.masked.as_deref()),
                    optional(r.error_message.as_deref()),
                    optional(
                        response.map(|x| x.rows.as_str()).filter(|_| known.response.is_none()),
                    ),
                    optional(r.notices.as_deref()),
                ],
            )
        }
        Record::HoldOpened(r) => (
            &HOLD_OPENED,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                number(r.hold),
                text(&r.approvers),
                int(r.quorum),
                Value::Integer(r.deadline.0),
                text(r.wait),
                owned(Some(r.digest.to_string())),
            ],
        ),
        Record::HoldVoted(r) => (
            &HOLD_VOTED,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                int(r.hold.0),
                int(r.approves),
                int(r.uid),
                text(&r.person),
                optional(r.reason.as_deref()),
            ],
        ),
        Record::HoldEnded(r) => (
            &HOLD_ENDED,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                int(r.hold.0),
                text(r.how.as_str()),
                optional(r.detail.as_deref()),
            ],
        ),
        Record::Exception(r) => (
            &EXCEPTION,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                number(r.exception),
                text(r.step.as_str()),
                text(&r.mask),
                text(&r.agent.0),
                text(&r.run),
                optional(r.target.as_ref().map(|target| &*target.0)),
                optional(r.approvers.as_deref()),
                r.until.map_or(Value::Null, |until| Value::Integer(until.0)),
                r.uid.map_or(Value::Null, int),
                optional(r.person.as_deref()),
                optional(r.reason.as_deref()),
            ],
        ),
        Record::SessionClosed(r) => (
            &SESSION_CLOSED,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                int(r.session.0),
                text(r.closing.as_str()),
                optional(r.detail.as_deref()),
                int(r.bytes_up),
                int(r.bytes_down),
            ],
        ),
        Record::Event(r) => (
            &EVENT,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                r.session.map_or(Value::Null, |session| int(session.0)),
                text(r.kind.as_str()),
                text(&r.detail),
            ],
        ),
        Record::Heartbeat(r) => (
            &HEARTBEAT,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                text(&r.boot_id),
                int(r.monotonic_us),
                text(r.clock.as_str()),
                int(r.clock_error_us),
            ],
        ),
        Record::Erased(r) => (
            &ERASED,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                int(r.command.0),
                text(&r.records),
                int(r.uid),
                text(&r.person),
                text(&r.reason),
            ],
        ),
        Record::Carried(r) => (
            &CARRIED,
            vec![
                int(seq.0),
                Value::Integer(r.at.0),
                int(r.record.0),
                owned(Some(r.leaf.to_string())),
            ],
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
                + r.lifted.iter().map(|(mask, _)| mask.len() + 24).sum::<usize>()
        }
        Record::HoldOpened(r) => 200 + r.approvers.len(),
        Record::HoldVoted(r) => text(&r.reason) + r.person.len(),
        Record::HoldEnded(r) => text(&r.detail),
        Record::Exception(r) => 200 + text(&r.reason) + text(&r.approvers) + r.mask.len(),
        Record::Outcome(r) => {
            text(&r.error_message)
                + text(&r.notices)
                + text(&r.masked)
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
        Record::Erased(r) => r.records.len() + r.reason.len(),
        Record::DaemonStarted(_) | Record::Heartbeat(_) | Record::Carried(_) => 0,
    }
}

/// The masks that are lifted for a command, each with its exception, as a JSON object.
fn unmasked(lifted: &[(std::sync::Arc<str>, Seq)]) -> Option<String> {
    let all: serde_json::Map<String, serde_json::Value> =
        lifted.iter().map(|(mask, exception)| (mask.to_string(), exception.0.into())).collect();
    (!all.is_empty()).then(|| serde_json::Value::Object(all).to_string())
}

/// Numbers of 64 bits without a sign are stored by their bits.
fn int<'a>(number: impl Number) -> Value<'a> {
    Value::Integer(number.stored())
}

trait Number {
    fn stored(self) -> i64;
}

impl Number for u64 {
    fn stored(self) -> i64 {
        self.cast_signed()
    }
}

impl Number for u32 {
    fn stored(self) -> i64 {
        self.into()
    }
}

impl Number for bool {
    fn stored(self) -> i64 {
        self.into()
    }
}

fn text(text: &str) -> Value<'_> {
    Value::Text(text.into())
}

fn optional(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Null, |text| Value::Text(text.into()))
}

fn owned<'a>(text: Option<String>) -> Value<'a> {
    text.map_or(Value::Null, |text| Value::Text(text.into()))
}
