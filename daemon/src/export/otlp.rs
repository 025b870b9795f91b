//! OpenTelemetry's logs (OTLP 1.x, JSON encoding), with the semantic conventions for databases.
//!
//! A record is told from all others by the resource's `host.name` and its `chaperone.outcome` (of a
//! command), `chaperone.session` (of a session's opening) or `chaperone.hold`.
//!
//! Does not belong here: sending (`stream`).

use serde_json::{Value, json};

use super::item::{Exported, Hold, Item, Session, hex, micros};

/// A request with these items.
pub(crate) fn request(host: &str, items: &[Exported]) -> Value {
    let records: Vec<Value> = items.iter().map(record).collect();
    let mut resource = Attributes::default();
    resource.text("service.name", Some("chaperone"));
    resource.text("service.version", Some(env!("CARGO_PKG_VERSION")));
    resource.text("host.name", Some(host));
    json!({
        "resourceLogs": [{
            "resource": { "attributes": resource.0 },
            "scopeLogs": [{
                "scope": { "name": "chaperone", "version": env!("CARGO_PKG_VERSION") },
                "logRecords": records,
            }],
        }],
    })
}

fn record(exported: &Exported) -> Value {
    match exported {
        Exported::Command(item) => command(item),
        Exported::Session(session) => opened(session),
        Exported::Hold(hold) => held(hold),
    }
}

fn command(item: &Item) -> Value {
    let row = &item.part.command;
    let session = item.session.as_deref();
    let operation = item.operation();
    let mut of = Attributes::default();
    of.text("db.system.name", session.map(|session| system(&session.protocol)));
    of.text("db.namespace", row.database.as_deref());
    of.text("db.operation.name", operation.as_deref());
    if let [relation] = item.relations().as_slice() {
        of.text("db.collection.name", Some(relation));
    }
    of.text("db.query.text", row.statement.as_deref());
    of.text("db.response.status_code", row.error_code.as_deref());
    of.text("error.type", row.error_code.as_deref());
    of.number("db.response.returned_rows", row.rows);
    if let Some(session) = session {
        of.server(&session.server);
        of.text("process.command_line", session.command_line.as_deref());
    }
    of.number("process.pid", row.pid);
    of.text("process.executable.path", row.executable.as_deref());
    of.text("user.name", row.user.as_deref());
    of.text("gen_ai.agent.name", row.agent.as_deref());
    of.number("chaperone.id", Some(row.id));
    of.number("chaperone.part", Some(row.part));
    of.number("chaperone.outcome", row.outcome);
    of.number("chaperone.session", Some(row.session));
    of.text("chaperone.agent.version", row.agent_version.as_deref());
    of.text("chaperone.run", row.run.as_deref());
    of.text("chaperone.lineage", row.lineage.as_deref());
    of.text("chaperone.binary", row.binary.as_deref());
    of.text("chaperone.doubts", row.doubts.as_deref());
    of.number("chaperone.uid", row.uid);
    of.text("chaperone.target", row.target.as_deref());
    of.text("chaperone.kind", Some(&row.kind));
    of.text("chaperone.parameters", row.parameters.as_deref());
    of.text("chaperone.class", row.class.as_deref());
    of.text("chaperone.verdict", Some(&row.verdict));
    of.text("chaperone.rule", Some(&row.rule));
    of.text("chaperone.policy", row.policy.as_deref());
    of.text("chaperone.approved_by", item.approved_by().as_deref());
    of.text("chaperone.status", Some(&row.status));
    of.text("chaperone.error_message", row.error_message.as_deref());
    of.number("chaperone.bytes", row.bytes);
    of.real("chaperone.duration_ms", row.duration_ms);
    of.text("chaperone.intent_leaf", item.intent_leaf.as_ref().map(hex).as_deref());
    of.text("chaperone.outcome_leaf", item.outcome_leaf.as_ref().map(hex).as_deref());
    let (number, severity) = match (row.class.as_deref(), row.status.as_str()) {
        (_, "error" | "unknown") => (17, "ERROR"),
        (_, "refused") | (Some("destructive" | "forbidden"), _) => (13, "WARN"),
        _ => (9, "INFO"),
    };
    let body = row.tag.as_deref().or(operation.as_deref()).unwrap_or(&row.kind);
    log("chaperone.command", &row.time, number, severity, body, of)
}

fn opened(session: &Session) -> Value {
    let row = &*session.row;
    let mut of = Attributes::default();
    of.text("db.system.name", Some(system(&row.protocol)));
    of.text("db.namespace", row.database.as_deref());
    of.server(&row.server);
    of.number("process.pid", Some(row.pid));
    of.text("process.executable.path", row.executable.as_deref());
    of.text("process.command_line", row.command_line.as_deref());
    of.text("user.name", row.user.as_deref());
    of.text("gen_ai.agent.name", Some(&row.agent));
    of.number("chaperone.session", Some(row.id));
    of.text("chaperone.agent.version", row.agent_version.as_deref());
    of.text("chaperone.run", row.run.as_deref());
    of.text("chaperone.lineage", row.lineage.as_deref());
    of.text("chaperone.binary", row.binary.as_deref());
    of.text("chaperone.doubts", row.doubts.as_deref());
    of.number("chaperone.uid", Some(row.uid));
    of.text("chaperone.target", Some(&row.target));
    log("chaperone.session", &row.opened, 9, "INFO", "session opened", of)
}

fn held(hold: &Hold) -> Value {
    let row = &*hold.row;
    let mut of = Attributes::default();
    of.text("db.query.text", row.statement.as_deref());
    of.text("gen_ai.agent.name", row.agent.as_deref());
    of.number("chaperone.hold", Some(row.id));
    of.text("chaperone.agent.version", row.agent_version.as_deref());
    of.text("chaperone.run", row.run.as_deref());
    of.text("chaperone.target", row.target.as_deref());
    of.text("chaperone.rule", Some(&row.rule));
    of.text("chaperone.state", Some(&row.state));
    of.text("chaperone.detail", row.detail.as_deref());
    of.text("chaperone.words", Some(&row.words));
    log("chaperone.hold", &row.time, 13, "WARN", "held for a person", of)
}

fn log(
    name: &str,
    time: &str,
    number: u32,
    severity: &str,
    body: &str,
    attributes: Attributes,
) -> Value {
    // 64-bit numbers are strings in protobuf's JSON.
    let nanos = micros(time).unwrap_or_default().saturating_mul(1000).to_string();
    json!({
        "timeUnixNano": nanos,
        "severityNumber": number,
        "severityText": severity,
        "eventName": name,
        "body": { "stringValue": body },
        "attributes": Value::Array(attributes.0),
    })
}

fn system(protocol: &str) -> &str {
    if protocol == "postgres" { "postgresql" } else { protocol }
}

#[derive(Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.push(json!({ "key": key, "value": { "stringValue": value } }));
        }
    }

    fn number(&mut self, key: &str, value: Option<impl Into<u64>>) {
        if let Some(value) = value {
            let value: u64 = value.into();
            self.0.push(json!({ "key": key, "value": { "intValue": value.to_string() } }));
        }
    }

    fn real(&mut self, key: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.0.push(json!({ "key": key, "value": { "doubleValue": value } }));
        }
    }

    fn server(&mut self, server: &str) {
        if let Ok(address) = server.parse::<std::net::SocketAddr>() {
            self.text("server.address", Some(&address.ip().to_string()));
            self.number("server.port", Some(address.port()));
        } else {
            self.text("server.address", Some(server));
        }
    }
}
