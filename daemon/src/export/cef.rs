//! The Common Event Format (CEF:0, `ArcSight`'s specification, revision 27): one line an item.
//!
//! Values are cut to the lengths that its dictionary gives. Does not belong here: syslog's head.

use std::fmt::Write as _;

use super::{classify, item::Item};

/// A line, without its end.
pub(crate) fn line(item: &Item) -> String {
    let c = item.command();
    let kind = item.statement().map_or_else(|| c.kind.clone(), |statement| statement.kind);
    let name = format!("{kind} {}", c.status);
    let mut out = String::from("CEF:0");
    let severity = classify::severity(item).cef();
    let version = env!("CARGO_PKG_VERSION");
    for part in ["chaperone", "chaperone", version, &c.kind, &name, severity] {
        let _ = write!(out, "|{}", header(part));
    }
    out.push('|');
    let mut first = true;
    let mut field = |key: &str, value: Option<&str>, most: usize| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let space = if std::mem::take(&mut first) { "" } else { " " };
            let _ = write!(out, "{space}{key}={}", extension(value, most));
        }
    };
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let at_ms = item.at_us().div_euclid(1000);
    let outcome = number(c.outcome);
    let id = if c.part == 0 { c.id.to_string() } else { format!("{}.{}", c.id, c.part) };
    field("rt", Some(&at_ms.to_string()), 100);
    field("externalId", Some(&format!("{}:{id}", item.host)), 40);
    field("dvchost", Some(&item.host), 100);
    field("act", Some(classify::action(item).name()), 63);
    field("outcome", Some(&c.status), 63);
    field("reason", c.error_code.as_deref().or(Some(&c.rule)), 1023);
    field("cat", c.class.as_deref(), 1023);
    field("app", item.session.as_ref().map(|session| session.protocol.as_str()), 31);
    let server = item.session.as_ref().and_then(|session| classify::server(&session.server));
    if let Some((address, port)) = server {
        field("dst", Some(&address.to_string()), 45);
        field("dpt", Some(&port.to_string()), 5);
    }
    field("destinationServiceName", c.target.as_deref(), 1023);
    field("duser", c.user.as_deref(), 1023);
    field("suid", number(c.uid.map(u64::from)).as_deref(), 1023);
    field("suser", c.agent.as_deref(), 1023);
    field("spid", number(c.pid.map(u64::from)).as_deref(), 20);
    field("sproc", c.executable.as_deref(), 1023);
    field("fileHash", c.binary.as_deref(), 255);
    field("in", number(c.bytes).as_deref(), 20);
    field("out", number(c.bytes_in).as_deref(), 20);
    field("msg", c.error_message.as_deref(), 1023);
    let approved = item.approved_by().join(" ");
    let strings = [
        ("cs1", "statement", c.statement.as_deref()),
        ("cs2", "lineage", c.lineage.as_deref()),
        ("cs3", "rule", Some(c.rule.as_str())),
        ("cs4", "run", c.run.as_deref()),
        ("cs5", "agentVersion", c.agent_version.as_deref()),
        ("cs6", "approvedBy", Some(approved.as_str())),
    ];
    for (key, label, value) in strings {
        if value.is_some_and(|value| !value.is_empty()) {
            field(&format!("{key}Label"), Some(label), 1023);
            field(key, value, 4000);
        }
    }
    for (key, label, value) in [("cn1", "rows", number(c.rows)), ("cn2", "outcomeRecord", outcome)]
    {
        if value.is_some() {
            field(&format!("{key}Label"), Some(label), 1023);
            field(key, value.as_deref(), 20);
        }
    }
    // Keys of our own have our name in them, as the specification asks.
    field("chaperoneDatabase", c.database.as_deref(), 1023);
    field("chaperoneSession", Some(&c.session.to_string()), 20);
    field("chaperonePolicy", c.policy.as_deref(), 64);
    field("chaperoneIntentLeaf", item.leaf(0).as_deref(), 64);
    field("chaperoneOutcomeLeaf", item.leaf(1).as_deref(), 64);
    out
}

/// A part of the head: `|` and `\` are escaped, and it has no ends of lines.
fn header(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '\\' => out.extend(['\\', c]),
            c if is_unsafe(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A value: `=` and `\` are escaped, ends of lines are written as `\n` and `\r`.
fn extension(text: &str, most: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let before = out.len();
        match c {
            '=' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if is_unsafe(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
        if out.len() > most {
            // Never in the middle of a character or of an escape.
            out.truncate(before);
            break;
        }
    }
    out
}

/// What a reader of lines could take for the end of one, or a terminal obey.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::{
        super::item::tests::{hostile, item},
        *,
    };

    #[test]
    fn a_line_has_seven_parts_before_the_extension() {
        let line = line(&item());
        let head = format!(
            "CEF:0|chaperone|chaperone|{}|query|DELETE ok|6|rt=1777636800250 externalId=db1:40",
            env!("CARGO_PKG_VERSION")
        );
        assert!(line.starts_with(&head), "{line}");
        for part in [
            " act=approved ",
            " dst=10.0.0.9 dpt=5432 ",
            " cs1=DELETE FROM public.customers WHERE id \\= 7 ",
            " cs6=ada ",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn p8_a_statement_can_end_neither_its_value_nor_its_line() {
        let line = line(&hostile());
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line}");
        assert!(line.contains(r"cs1=\=cmd()|'/C calc'!A0\r\n"), "{line}");
        assert!(line.contains(r"a|b c\=d \\ "), "{line}");
        assert_eq!(header("a|b\\c\nd"), r"a\|b\\c d");
    }

    #[test]
    fn a_long_value_is_cut_between_characters_and_escapes() {
        assert_eq!(extension("ab=c", 3), "ab");
        assert_eq!(extension("abc", 3), "abc");
        assert_eq!(extension("aüüü", 4), "aü");
    }
}
