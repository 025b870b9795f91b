//! `ArcSight`'s Common Event Format, version 0: one line a command, session or hold.
//!
//! Does not belong here: sending it (syslog is for others to speak).

use std::{fmt::Write as _, io::Write, net::SocketAddr};

use anyhow::Result;

use super::{
    Sink,
    item::{Exported, Item, Session, hex, micros},
};

/// Writes it.
pub(crate) struct Cef<W: Write>(pub(crate) W);

impl<W: Write> Sink for Cef<W> {
    fn put(&mut self, exported: &Exported) -> Result<()> {
        let line = match exported {
            Exported::Command(item) => command(item),
            Exported::Session(session) => opened(session),
            Exported::Hold(hold) => held(hold),
        };
        Ok(writeln!(self.0, "{line}")?)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        Ok(self.0.flush()?)
    }
}

/// A command.
pub(crate) fn command(item: &Item) -> String {
    let row = &item.part.command;
    let session = item.session.as_deref();
    let operation = item.operation();
    let severity = match (row.class.as_deref(), row.status.as_str()) {
        (Some("forbidden"), _) => 10,
        (Some("destructive"), _) => 8,
        (_, "refused") => 6,
        (Some("write"), _) => 4,
        _ => 1,
    };
    let name = operation.as_deref().unwrap_or(&row.kind);
    let mut line = Line::new(&format!("command:{}", row.kind), name, severity);
    line.time("rt", &row.time);
    line.put("externalId", Some(&item.uid()));
    line.put("dvchost", Some(&item.host));
    line.put("shost", Some(&item.host));
    line.put("suid", row.uid.as_ref());
    line.put("spid", row.pid.as_ref());
    line.put("sproc", row.executable.as_ref());
    line.put("fileHash", row.binary.as_ref());
    line.put("sourceServiceName", row.agent.as_ref());
    line.server(session.map(|session| session.server.as_str()), row.target.as_ref());
    line.put("duser", row.user.as_ref());
    line.put("cat", row.class.as_ref());
    line.put("act", Some(&row.verdict));
    line.put("outcome", Some(&row.status));
    line.put("reason", row.error_code.as_ref());
    line.put("msg", row.statement.as_ref());
    line.put("out", row.bytes.as_ref());
    line.put("in", row.bytes_in.as_ref());
    line.named("cs1", "agentVersion", row.agent_version.as_ref());
    line.named("cs2", "run", row.run.as_ref());
    line.named("cs3", "lineage", row.lineage.as_ref());
    line.named("cs4", "rule", Some(&row.rule));
    line.named("cs5", "intentLeaf", item.intent_leaf.as_ref().map(hex).as_ref());
    line.named("cs6", "outcomeLeaf", item.outcome_leaf.as_ref().map(hex).as_ref());
    line.named("cn1", "id", Some(&row.id));
    line.named("cn2", "outcome", row.outcome.as_ref());
    line.named("cn3", "rows", row.rows.as_ref());
    line.named("flexString1", "approvedBy", item.approved_by().as_ref());
    line.named("flexString2", "database", row.database.as_ref());
    line.0
}

fn opened(session: &Session) -> String {
    let row = &*session.row;
    let mut line = Line::new("session", "session opened", 1);
    line.time("rt", &row.opened);
    line.put("externalId", Some(&format!("{}/{}", session.host, row.id)));
    line.put("dvchost", Some(&session.host));
    line.put("shost", Some(&session.host));
    line.put("suid", Some(&row.uid));
    line.put("spid", Some(&row.pid));
    line.put("sproc", row.executable.as_ref());
    line.put("fileHash", row.binary.as_ref());
    line.put("sourceServiceName", Some(&row.agent));
    line.server(Some(&row.server), Some(&row.target));
    line.put("duser", row.user.as_ref());
    line.put("app", Some(&row.protocol));
    line.named("cs1", "agentVersion", row.agent_version.as_ref());
    line.named("cs2", "run", row.run.as_ref());
    line.named("cs3", "lineage", row.lineage.as_ref());
    line.named("flexString2", "database", row.database.as_ref());
    line.0
}

fn held(hold: &super::item::Hold) -> String {
    let row = &*hold.row;
    let mut line = Line::new("hold", "held for a person", 7);
    line.time("rt", &row.time);
    line.put("externalId", Some(&format!("{}/hold/{}", hold.host, row.id)));
    line.put("dvchost", Some(&hold.host));
    line.put("sourceServiceName", row.agent.as_ref());
    line.put("destinationServiceName", row.target.as_ref());
    line.put("cat", row.class.as_ref());
    line.put("outcome", Some(&row.state));
    line.put("reason", row.detail.as_ref());
    line.put("msg", row.statement.as_ref());
    line.named("cs1", "words", Some(&row.words));
    line.named("cs4", "rule", Some(&row.rule));
    line.named("cn1", "id", Some(&row.id));
    line.0
}

struct Line(String);

impl Line {
    fn new(id: &str, name: &str, severity: u32) -> Self {
        let version = header(env!("CARGO_PKG_VERSION"));
        let (id, name) = (header(id), header(name));
        Self(format!("CEF:0|chaperone|chaperone|{version}|{id}|{name}|{severity}|"))
    }

    fn put(&mut self, key: &str, value: Option<&(impl ToString + ?Sized)>) {
        let Some(value) = value.map(ToString::to_string).filter(|value| !value.is_empty()) else {
            return;
        };
        let space = if self.0.ends_with('|') { "" } else { " " };
        let _ = write!(self.0, "{space}{key}={}", extension(&value));
    }

    /// A field that the format leaves to the producer, with its label.
    fn named(&mut self, key: &str, label: &str, value: Option<&impl ToString>) {
        if let Some(value) = value.map(ToString::to_string).filter(|value| !value.is_empty()) {
            self.put(key, Some(&value));
            self.put(&format!("{key}Label"), Some(label));
        }
    }

    fn time(&mut self, key: &str, time: &str) {
        self.put(key, micros(time).map(|time| time.div_euclid(1000)).as_ref());
    }

    fn server(&mut self, server: Option<&str>, target: Option<&String>) {
        match server.map(str::parse::<SocketAddr>) {
            Some(Ok(address)) => {
                let key = if address.is_ipv4() { "dst" } else { "c6a3" };
                self.put(key, Some(&address.ip()));
                if !address.is_ipv4() {
                    self.put("c6a3Label", Some("Destination IPv6 Address"));
                }
                self.put("dpt", Some(&address.port()));
            }
            _ => self.put("dhost", server),
        }
        self.put("destinationServiceName", target);
    }
}

/// In the header backslash and pipe are escaped, and there are no line breaks.
fn header(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' | '|' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// In the extension backslash, equals sign and line breaks are escaped. Other control characters,
/// for which there is no escape, would end the event where it is carried by syslog: they are shown
/// as U+FFFD.
fn extension(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '=' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::{HOSTILE, item};

    #[test]
    fn p8_no_text_of_an_agent_ends_a_field_or_a_line() {
        for statement in HOSTILE {
            let mut item = item(statement);
            item.part.command.tag = Some(statement.to_string());
            let line = command(&item);
            assert!(!line.contains(char::is_control) || line.contains('\t'), "{line:?}");
            let message = extension(statement);
            assert!(line.contains(&format!(" msg={message} ")), "{line:?}");
            // Seven pipes that are not escaped: nothing was added to the header.
            let header = line.split(" externalId=").next().expect("a header");
            let pipes = header.replace("\\\\", "").replace("\\|", "").matches('|').count();
            assert_eq!(pipes, 7, "{header:?}");
        }
        assert_eq!(extension("a=b\\c\nd\u{0}"), "a\\=b\\\\c\\nd\u{fffd}");
        assert_eq!(header("a|b\\c\nd"), "a\\|b\\\\c d");
    }
}
