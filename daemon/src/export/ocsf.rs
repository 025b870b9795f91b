//! OCSF events (schema.ocsf.io, 1.8.0): class 6005, "Datastore Activity".
//!
//! The profiles are `host`, `security_control` (what policy and people said) and `ai_operation`.
//! Version 1.8.0 has no place for the agent itself: its object `ai_agent`, which the schema's next
//! version adds to `ai_operation`, stands under `unmapped` in the form that it has there.
//!
//! Does not belong here: reading the log.

use std::io::Write;

use anyhow::Result;
use chaperone_audit::{CommandRow, SessionRow};
use serde_json::{Map, Value, json};

use super::{
    Sink,
    item::{Exported, Item, Session, hex, micros, words},
};

/// The schema that events are of.
pub(crate) const VERSION: &str = "1.8.0";
const CATEGORY: u32 = 6;
const CLASS: u32 = 6005;

/// Writes a line an event.
pub(crate) struct Ocsf<W: Write>(pub(crate) W);

impl<W: Write> Sink for Ocsf<W> {
    fn put(&mut self, exported: &Exported) -> Result<()> {
        let event = match exported {
            Exported::Command(item) => command(item),
            Exported::Session(session) => connect(session),
            // It is in the command's event.
            Exported::Hold(_) => return Ok(()),
        };
        serde_json::to_writer(&mut self.0, &event).map_err(std::io::Error::from)?;
        Ok(self.0.write_all(b"\n")?)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        Ok(self.0.flush()?)
    }
}

/// A command.
pub(crate) fn command(item: &Item) -> Value {
    let row = &item.part.command;
    let operation = item.operation();
    let (activity, name) = activity(operation.as_deref());
    let (severity, severity_name) = severity(row);
    let (status, status_name) = status(&row.status);
    let session = item.session.as_deref();
    let mut event = base(&item.host, activity, name, &row.time);
    set(&mut event, "severity_id", severity);
    set(&mut event, "severity", severity_name);
    set(&mut event, "status_id", status);
    set(&mut event, "status", status_name);
    put(&mut event, "status_code", row.error_code.as_deref());
    put(&mut event, "status_detail", row.error_message.as_deref());
    put(&mut event, "duration", row.duration_ms.map(whole));
    put(&mut event, "message", row.tag.as_deref().or(operation.as_deref()));
    let mut metadata = metadata(&item.uid(), row.outcome.unwrap_or(row.id), &row.time);
    metadata["log_name"] = "commands".into();
    metadata["event_code"] = row.kind.as_str().into();
    metadata["correlation_uid"] = format!("{}/{}", item.host, row.session).into();
    if item.part.truncated || row.parameters_cut {
        metadata["is_truncated"] = true.into();
    }
    set(&mut event, "metadata", metadata);
    set(&mut event, "actor", actor(row, session));
    let target = row.target.as_deref();
    put(&mut event, "dst_endpoint", session.map(|session| endpoint(&session.server, target)));
    let database = row.database.as_deref().or(target).unwrap_or("unknown");
    set(&mut event, "database", json!({ "name": database, "type": "Relational", "type_id": 1 }));
    set(&mut event, "type", "Database");
    set(&mut event, "type_id", 1);
    let relations = item.relations();
    if let [relation] = relations.as_slice() {
        set(&mut event, "table", json!({ "name": relation }));
    }
    if let Some(statement) = &row.statement {
        let mut query = json!({ "query_string": statement, "uid": row.id.to_string() });
        if let Some(bytes) = row.bytes {
            query["bytes"] = bytes.into();
        }
        if let Some(time) = millis(&row.time) {
            query["query_time"] = time.into();
        }
        set(&mut event, "query_info", query);
    }
    control(&mut event, item);
    let mut unmapped = json!({
        "ai_agent": agent(row),
        "id": row.id,
        "part": row.part,
        "verdict": row.verdict,
        "status": row.status,
    });
    for (name, value) in [
        ("outcome", row.outcome.map(Value::from)),
        ("class", row.class.as_deref().map(Value::from)),
        ("user", row.user.as_deref().map(Value::from)),
        ("application", session.and_then(|s| s.application.as_deref()).map(Value::from)),
        ("relations", Some(relations).filter(|r| r.len() > 1).map(Value::from)),
        ("parameters", row.parameters.as_deref().map(Value::from)),
        ("rows", row.rows.map(Value::from)),
        ("bytes_in", row.bytes_in.map(Value::from)),
        ("transaction_state", row.transaction_state.as_deref().map(Value::from)),
        ("masked", row.masked.as_deref().map(Value::from)),
        ("unmasked", row.unmasked.as_deref().map(Value::from)),
        ("doubts", row.doubts.as_deref().map(Value::from)),
        ("intent_leaf", item.intent_leaf.as_ref().map(hex).map(Value::from)),
        ("outcome_leaf", item.outcome_leaf.as_ref().map(hex).map(Value::from)),
    ] {
        if let Some(value) = value {
            unmapped[name] = value;
        }
    }
    set(&mut event, "unmapped", unmapped);
    Value::Object(event)
}

/// A session as an activity of its own.
pub(crate) fn connect(session: &Session) -> Value {
    let row = &*session.row;
    let mut event = base(&session.host, 3, "Connect", &row.opened);
    set(&mut event, "severity_id", 1);
    set(&mut event, "severity", "Informational");
    let refused = row.closed_by.as_deref() == Some("daemon") && row.user.is_none();
    set(&mut event, "status_id", if refused { 2 } else { 1 });
    set(&mut event, "status", if refused { "Failure" } else { "Success" });
    put(&mut event, "status_detail", row.detail.as_deref());
    let uid = format!("{}/{}", session.host, row.id);
    let mut metadata = metadata(&uid, row.id, &row.opened);
    metadata["log_name"] = "sessions".into();
    metadata["correlation_uid"] = uid.into();
    set(&mut event, "metadata", metadata);
    set(&mut event, "actor", actor(&as_command(row), Some(row)));
    set(&mut event, "dst_endpoint", endpoint(&row.server, Some(&row.target)));
    let database = row.database.as_deref().unwrap_or(&row.target);
    set(&mut event, "database", json!({ "name": database, "type": "Relational", "type_id": 1 }));
    set(&mut event, "type", "Database");
    set(&mut event, "type_id", 1);
    let (action, disposition) = if refused { (2, 2) } else { (1, 1) };
    set(&mut event, "action_id", action);
    set(&mut event, "disposition_id", disposition);
    set(
        &mut event,
        "unmapped",
        json!({
            "ai_agent": agent(&as_command(row)),
            "user": row.user,
            "asked_user": row.asked_user,
            "sign_on": row.sign_on,
            "agent_tls": row.agent_tls,
            "target_tls": row.target_tls,
            "doubts": row.doubts,
        }),
    );
    Value::Object(event)
}

fn base(host: &str, activity: u32, name: &str, time: &str) -> Map<String, Value> {
    let mut event = Map::new();
    set(&mut event, "category_uid", CATEGORY);
    set(&mut event, "category_name", "Application Activity");
    set(&mut event, "class_uid", CLASS);
    set(&mut event, "class_name", "Datastore Activity");
    set(&mut event, "activity_id", activity);
    set(&mut event, "activity_name", name);
    set(&mut event, "type_uid", CLASS * 100 + activity);
    set(&mut event, "type_name", format!("Datastore Activity: {name}"));
    set(&mut event, "time", millis(time).unwrap_or_default());
    set(&mut event, "timezone_offset", 0);
    let host = if host.is_empty() { "unknown" } else { host };
    // The agent runs on the host that the log is of.
    set(&mut event, "src_endpoint", json!({ "hostname": host }));
    set(&mut event, "device", json!({ "hostname": host, "type_id": 1, "type": "Server" }));
    event
}

fn metadata(uid: &str, seq: u64, time: &str) -> Value {
    json!({
        "version": VERSION,
        "product": {
            "name": "chaperone",
            "vendor_name": "chaperone",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "profiles": ["host", "security_control", "ai_operation"],
        "uid": uid,
        "sequence": seq,
        "original_time": time,
    })
}

fn actor(row: &CommandRow, session: Option<&SessionRow>) -> Value {
    let mut process = Map::new();
    put(&mut process, "pid", row.pid);
    put(&mut process, "cmd_line", session.and_then(|s| s.command_line.as_deref()));
    put(&mut process, "working_directory", session.and_then(|s| s.folder.as_deref()));
    if let Some(path) = &row.executable {
        let mut file = json!({ "name": base_name(path), "path": path, "type_id": 1 });
        if let Some(digest) = &row.binary {
            file["hashes"] =
                json!([{ "algorithm": "SHA-256", "algorithm_id": 3, "value": digest }]);
        }
        set(&mut process, "name", base_name(path));
        set(&mut process, "file", file);
    }
    if let Some(lineage) = &row.lineage {
        let names: Vec<&str> = lineage.split(" → ").collect();
        set(&mut process, "lineage", names);
    }
    let mut actor = Map::new();
    if let Some(uid) = row.uid {
        let user = json!({ "uid": uid.to_string(), "type_id": 4, "type": "Service" });
        set(&mut process, "user", user.clone());
        set(&mut actor, "user", user);
    }
    if row.pid.is_some() {
        set(&mut actor, "process", process);
    }
    let mut run = Map::new();
    set(&mut run, "uid", row.session.to_string());
    put(&mut run, "created_time", session.and_then(|s| millis(&s.opened)));
    set(&mut actor, "session", run);
    put(&mut actor, "app_name", row.agent.as_deref());
    put(&mut actor, "app_uid", row.run.as_deref());
    Value::Object(actor)
}

fn agent(row: &CommandRow) -> Value {
    let mut agent = Map::new();
    put(&mut agent, "name", row.agent.as_deref());
    put(&mut agent, "uid", row.agent.as_deref());
    put(&mut agent, "version", row.agent_version.as_deref());
    put(&mut agent, "instance_uid", row.run.as_deref());
    Value::Object(agent)
}

/// What of a session's identity its commands have as well.
fn as_command(row: &SessionRow) -> CommandRow {
    CommandRow {
        id: row.id,
        part: 0,
        time: row.opened.clone(),
        session: row.id,
        agent: Some(row.agent.clone()),
        agent_version: row.agent_version.clone(),
        run: row.run.clone(),
        lineage: row.lineage.clone(),
        target: Some(row.target.clone()),
        user: row.user.clone(),
        database: row.database.clone(),
        uid: Some(row.uid),
        pid: Some(row.pid),
        executable: row.executable.clone(),
        binary: row.binary.clone(),
        script: row.script.clone(),
        script_digest: row.script_digest.clone(),
        doubts: row.doubts.clone(),
        ..CommandRow::default()
    }
}

/// What policy and people said (profile `security_control`).
fn control(event: &mut Map<String, Value>, item: &Item) {
    let row = &item.part.command;
    // 1 is Allowed, 2 Denied and Blocked, 3 Observed, 8 Approved, 17 Logged.
    let (action, disposition) = match (row.verdict.as_str(), row.status.as_str()) {
        (_, "refused") => (2, 2),
        ("would-deny" | "would-hold", _) => (3, 17),
        ("hold", _) => (1, 8),
        _ if row.approval.is_some() => (1, 8),
        _ => (1, 1),
    };
    set(event, "action_id", action);
    set(event, "disposition_id", disposition);
    set(event, "is_alert", action == 2);
    let rule = if row.rule.is_empty() { "default" } else { &row.rule };
    set(event, "firewall_rule", json!({ "name": rule, "uid": rule }));
    if let Some(policy) = &row.policy {
        set(event, "policy", json!({ "name": "chaperone", "uid": policy, "is_applied": true }));
    }
    if let Some(hold) = &item.hold {
        let said = words(hold).into_iter().map(|word| {
            let what = if word.approves { "approved" } else { "denied" };
            let why = word.reason.map(|why| format!(": {why}")).unwrap_or_default();
            json!({ "decision": format!("{what} by {}{why}", word.person) })
        });
        let mut said: Vec<Value> = said.collect();
        if said.is_empty() {
            said.push(json!({ "decision": hold.state }));
        }
        set(event, "authorizations", said);
    }
}

/// The class's activities by what the server calls statements.
fn activity(operation: Option<&str>) -> (u32, &'static str) {
    let first = operation.and_then(|operation| operation.split(' ').next()).unwrap_or_default();
    match first.to_ascii_uppercase().as_str() {
        "SELECT" | "FETCH" | "VALUES" | "WITH" | "DECLARE" => (4, "Query"),
        "SHOW" | "EXPLAIN" => (1, "Read"),
        "INSERT" | "COPY" => (5, "Write"),
        "UPDATE" | "MERGE" | "ALTER" | "REINDEX" | "REFRESH" | "COMMENT" | "GRANT" | "REVOKE" => {
            (2, "Update")
        }
        "DELETE" | "TRUNCATE" | "DROP" => (7, "Delete"),
        "CREATE" | "IMPORT" => (6, "Create"),
        "" => (0, "Unknown"),
        _ => (99, "Other"),
    }
}

fn severity(row: &CommandRow) -> (u32, &'static str) {
    match (row.class.as_deref(), row.status.as_str()) {
        (Some("forbidden"), _) => (5, "Critical"),
        (Some("destructive"), _) => (4, "High"),
        (_, "refused") => (3, "Medium"),
        (Some("write"), _) => (2, "Low"),
        _ => (1, "Informational"),
    }
}

fn status(status: &str) -> (u32, &'static str) {
    match status {
        "ok" | "suspended" => (1, "Success"),
        "error" | "refused" => (2, "Failure"),
        "skipped" => (99, "Other"),
        _ => (0, "Unknown"),
    }
}

/// A server's address. One that is none is its name.
fn endpoint(server: &str, target: Option<&str>) -> Value {
    let mut endpoint = Map::new();
    if let Ok(address) = server.parse::<std::net::SocketAddr>() {
        set(&mut endpoint, "ip", address.ip().to_string());
        set(&mut endpoint, "port", address.port());
    } else {
        set(&mut endpoint, "name", server);
    }
    put(&mut endpoint, "svc_name", target);
    Value::Object(endpoint)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

fn millis(time: &str) -> Option<i64> {
    micros(time).map(|time| time.div_euclid(1000))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a span of time in milliseconds, which is not negative and saturates"
)]
fn whole(milliseconds: f64) -> u64 {
    milliseconds.round() as u64
}

fn set(object: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    object.insert(name.into(), value.into());
}

fn put(object: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        set(object, name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::item;

    #[test]
    fn activities_are_those_of_the_class() {
        let of = |tag: &str| {
            let mut item = item("x");
            item.part.command.tag = Some(tag.into());
            command(&item)["type_uid"].clone()
        };
        assert_eq!(of("SELECT 1"), 600_504);
        assert_eq!(of("INSERT 0 1"), 600_505);
        assert_eq!(of("DROP TABLE"), 600_507);
        assert_eq!(of("VACUUM"), 600_599);
        assert_eq!(of(""), 600_500);
    }

    #[test]
    fn what_policy_said_is_told() {
        let of = |verdict: &str, status: &str| {
            let mut item = item("x");
            item.part.command.verdict = verdict.into();
            item.part.command.status = status.into();
            let event = command(&item);
            (event["action_id"].as_u64(), event["disposition_id"].as_u64())
        };
        assert_eq!(of("allow", "ok"), (Some(1), Some(1)));
        assert_eq!(of("deny", "refused"), (Some(2), Some(2)));
        assert_eq!(of("hold", "refused"), (Some(2), Some(2)));
        assert_eq!(of("hold", "ok"), (Some(1), Some(8)));
        assert_eq!(of("would-deny", "ok"), (Some(3), Some(17)));
    }
}
