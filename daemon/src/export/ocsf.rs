//! Open Cybersecurity Schema Framework, 1.8.0: the class Datastore Activity (6005), with the profiles
//! `security_control` and `ai_operation`.
//!
//! Only attributes that the schema has. In 1.8.0 the profile `ai_operation` knows no agents yet: ours
//! are in `message_context`, and in `unmapped.ai_agent` as the object of that name is laid out in what
//! becomes 1.9.0. Responses are not handed on: collectors want what was done.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{
    classify::{self, Action},
    item::{Item, Statement},
};

const VERSION: &str = "1.8.0";
const CLASS: u32 = 6005;

/// An event.
pub(crate) fn event(item: &Item) -> Value {
    let c = item.command();
    let statement = item.statement();
    let activity = activity(item, statement.as_ref());
    let at_ms = item.at_us().div_euclid(1000);
    let (severity_id, severity) = classify::severity(item).ocsf();
    let (status_id, status) = match c.status.as_str() {
        "ok" | "suspended" => (1, "Success"),
        "error" | "refused" | "skipped" => (2, "Failure"),
        _ => (0, "Unknown"),
    };
    let (action_id, action, disposition_id, disposition) = match classify::action(item) {
        Action::Allowed => (1, "Allowed", 1, "Allowed"),
        Action::Approved => (1, "Allowed", 8, "Approved"),
        Action::Denied => (2, "Denied", 2, "Blocked"),
        Action::Rejected => (2, "Denied", 25, "Rejected"),
        Action::Observed => (3, "Observed", 17, "Logged"),
    };
    let mut event = json!({
        "activity_id": activity.0,
        "activity_name": activity.1,
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "Datastore Activity",
        "type_uid": CLASS * 100 + activity.0,
        "type_name": format!("Datastore Activity: {}", activity.1),
        "time": at_ms,
        "start_time": at_ms,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "action_id": action_id,
        "action": action,
        "disposition_id": disposition_id,
        "disposition": disposition,
        "is_alert": disposition_id != 1 && disposition_id != 8,
        "policy": { "name": c.rule, "uid": c.policy },
        "authorizations": [{ "decision": c.verdict, "policy": { "name": c.rule, "uid": c.policy } }],
        "type_id": 1,
        "type": "Database",
        "metadata": {
            "version": VERSION,
            "product": { "name": "chaperone", "vendor_name": "chaperone", "version": env!("CARGO_PKG_VERSION") },
            "profiles": ["security_control", "ai_operation"],
            "uid": format!("{}:{}.{}", item.host, c.id, c.part),
            "sequence": c.outcome,
            "correlation_uid": c.run,
            "event_code": c.kind,
            "original_time": c.time,
            "log_name": "chaperone",
            "is_truncated": c.parameters_cut,
        },
        "actor": actor(item),
        "src_endpoint": { "name": item.host, "svc_name": c.agent },
        "dst_endpoint": destination(item),
        "database": {
            "name": c.database.as_deref().or(c.target.as_deref()).unwrap_or("unknown"),
            "uid": c.target,
            "type_id": 1,
            "type": "Relational",
        },
        "message_context": {
            "ai_role_id": 4,
            "ai_role": "Agent",
            "uid": c.run,
            "application": { "name": c.agent.as_deref().unwrap_or("unknown"), "version": c.agent_version },
        },
        "unmapped": unmapped(item),
    });
    if let Some(ms) = c.duration_ms.filter(|ms| ms.is_finite() && *ms >= 0.0) {
        // A duration is whole milliseconds; the exact one is among what is not mapped.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is whole, and no command takes 2^63 ms"
        )]
        let whole = ms.round() as i64;
        event["duration"] = whole.into();
        event["end_time"] = (at_ms + whole).into();
    }
    if let Some(code) = &c.error_code {
        event["status_code"] = code.as_str().into();
    }
    if let Some(detail) = c.error_message.as_ref().or(c.tag.as_ref()) {
        event["status_detail"] = detail.as_str().into();
    }
    if let Some(text) = &c.statement {
        let mut query =
            json!({ "uid": c.id.to_string(), "query_string": text, "query_time": at_ms });
        if let Some(bytes) = c.bytes {
            query["bytes"] = bytes.into();
        }
        event["query_info"] = query;
    }
    if let Some(table) = statement.and_then(|s| s.writes.into_iter().chain(s.reads).next()) {
        event["table"] = json!({ "name": table });
    }
    without_nulls(event)
}

/// OCSF's activities speak of data and of what holds it alike.
fn activity(item: &Item, statement: Option<&Statement>) -> (u32, &'static str) {
    let kind = statement.map_or("", |statement| statement.kind.as_str());
    match kind.split(' ').next().unwrap_or_default() {
        "SELECT" | "FETCH" | "VALUES" | "TABLE" => (4, "Query"),
        "SHOW" | "EXPLAIN" => (1, "Read"),
        "UPDATE" | "MERGE" | "ALTER" | "COMMENT" | "GRANT" | "REVOKE" => (2, "Update"),
        "DELETE" | "TRUNCATE" | "DROP" => (7, "Delete"),
        "CREATE" => (6, "Create"),
        "COPY" if statement.is_some_and(|statement| statement.writes.is_empty()) => (1, "Read"),
        "INSERT" | "COPY" => (5, "Write"),
        _ if item.command().kind == "fetch" => (4, "Query"),
        _ => (99, "Other"),
    }
}

fn actor(item: &Item) -> Value {
    let c = item.command();
    let session = item.session.as_deref();
    let lineage: Vec<&str> =
        c.lineage.as_deref().map_or_else(Vec::new, |l| l.split(" → ").collect());
    // The direct parent first; the last of a lineage is the process itself.
    let above: Vec<Value> =
        lineage.iter().rev().skip(1).map(|name| json!({ "name": name })).collect();
    let mut process = json!({
        "pid": c.pid,
        "uid": session.map(|session| session.process.to_string()),
        "name": c.executable.as_deref().and_then(name_of).or(lineage.last().copied()),
        "cmd_line": session.and_then(|session| session.command_line.clone()),
        "working_directory": session.and_then(|session| session.folder.clone()),
        "user": { "uid": c.uid.map(|uid| uid.to_string()), "type_id": 4 },
        "file": file(c.executable.as_deref(), c.binary.as_deref()),
    });
    if !above.is_empty() {
        process["ancestry"] = above.into();
    }
    json!({
        "process": process,
        "user": c.user.as_ref().map(|user| json!({ "name": user, "type_id": 4, "type": "Service" })),
        "session": { "uid": c.session.to_string() },
        "app_name": c.agent,
        "app_uid": c.run,
    })
}

fn file(path: Option<&str>, digest: Option<&str>) -> Option<Value> {
    let path = path?;
    let name = name_of(path).unwrap_or(path);
    let hashes = digest
        .map(|digest| json!([{ "algorithm_id": 3, "algorithm": "SHA-256", "value": digest }]));
    Some(json!({ "name": name, "path": path, "type_id": 1, "hashes": hashes }))
}

fn name_of(path: &str) -> Option<&str> {
    Path::new(path).file_name()?.to_str()
}

fn destination(item: &Item) -> Value {
    let session = item.session.as_deref();
    let server = session.and_then(|session| classify::server(&session.server));
    json!({
        "name": item.command().target.as_deref().unwrap_or("unknown"),
        "svc_name": session.map(|session| session.protocol.as_str()),
        "ip": server.map(|(address, _)| address.to_string()),
        "port": server.map(|(_, port)| port),
    })
}

/// What the schema has no place for.
fn unmapped(item: &Item) -> Value {
    let c = item.command();
    let read =
        |text: Option<&String>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let words: Vec<Value> = item
        .words()
        .into_iter()
        .map(|word| {
            json!({ "person": word.person, "approves": word.approves, "reason": word.reason, "time": word.time })
        })
        .collect();
    json!({
        "ai_agent": { "name": c.agent, "uid": c.agent, "instance_uid": c.run, "version": c.agent_version, "type_id": 0 },
        "class": c.class,
        "verdict": c.verdict,
        "status": c.status,
        "part": c.part,
        "parameters": read(c.parameters.as_ref()),
        "summary": read(c.summary.as_ref()),
        "doubts": read(c.doubts.as_ref()),
        "transaction_state": c.transaction_state,
        "rows": c.rows,
        "bytes_in": c.bytes_in,
        "duration_ms": c.duration_ms,
        "unit": item.session.as_ref().and_then(|session| session.unit.clone()),
        "container": item.session.as_ref().and_then(|session| session.container.clone()),
        "script": c.script,
        "script_sha256": c.script_digest,
        "hold": item.hold.as_ref().map(|hold| json!({ "id": hold.id, "state": hold.state, "approvers": hold.approvers, "words": words })),
        "intent_record": c.id,
        "outcome_record": c.outcome,
        "intent_leaf": item.leaf(0),
        "outcome_leaf": item.leaf(1),
    })
}

/// An attribute that is not known is not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let known = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(known.map(|(name, v)| (name, without_nulls(v))).collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(without_nulls).collect()),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::item::tests::{HOSTILE, hostile, item},
        *,
    };

    #[test]
    fn a_command_is_a_datastore_activity() {
        let event = event(&item());
        assert_eq!(event["type_uid"], 600_507, "it deletes");
        assert_eq!(event["disposition"], "Approved");
        assert_eq!(event["severity_id"], 3);
        assert_eq!(event["time"], 1_777_636_800_250_i64);
        assert_eq!(event["duration"], 2);
        assert_eq!(event["dst_endpoint"]["port"], 5432);
        assert_eq!(event["table"]["name"], "public.customers");
        let process = &event["actor"]["process"];
        assert_eq!(process["ancestry"], json!([{ "name": "sh" }, { "name": "agent.py" }]));
        assert_eq!(process["file"]["hashes"][0]["value"], "07".repeat(32));
        assert_eq!(event["unmapped"]["ai_agent"]["version"], "1.4.2");
        assert_eq!(event["unmapped"]["hold"]["words"][0]["person"], "ada");
        assert!(event.get("status_code").is_none(), "what is not known is not there");
    }

    #[test]
    fn p8_what_agents_write_stays_where_it_belongs() {
        let event = event(&hostile());
        let read: Value = serde_json::from_str(&event.to_string()).expect("JSON");
        assert_eq!(read["query_info"]["query_string"], HOSTILE);
        assert!(!event.to_string().contains('\n'));
    }

    #[test]
    fn activities_follow_the_kind_of_the_statement() {
        let of = |kind: &str, writes: &[&str]| {
            let statement = Statement {
                kind: kind.into(),
                writes: writes.iter().map(ToString::to_string).collect(),
                ..Statement::default()
            };
            activity(&item(), Some(&statement)).1
        };
        assert_eq!(of("SELECT", &[]), "Query");
        assert_eq!(of("DROP TABLE", &[]), "Delete");
        assert_eq!(of("COPY", &[]), "Read");
        assert_eq!(of("COPY", &["t"]), "Write");
        assert_eq!(of("BEGIN", &[]), "Other");
        assert_eq!(activity(&item(), None).1, "Other");
    }
}
