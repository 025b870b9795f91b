//! JSON Lines: commands, and the sessions and holds that they belong to, each with the records that
//! it was put together from, so that a reader with SHA-256 can verify each line.
//!
//! Does not belong here: verifying (`verify`).

use std::io::Write;

use anyhow::Result;
use chaperone_audit::{HoldRow, Part, SessionRow};
use serde::Serialize;

use super::{
    Sink,
    item::{Exported, Item, Numbered, hex},
};

/// Writes it.
pub(crate) struct Jsonl<W: Write>(pub(crate) W);

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Session {
        host: &'a str,
        #[serde(flatten)]
        row: &'a SessionRow,
        records: &'a [Numbered],
    },
    Hold {
        host: &'a str,
        #[serde(flatten)]
        row: &'a HoldRow,
        records: &'a [Numbered],
    },
    Command {
        host: &'a str,
        #[serde(flatten)]
        row: &'a Part,
        approved_by: Option<String>,
        intent_leaf: Option<String>,
        outcome_leaf: Option<String>,
        records: &'a [Numbered],
    },
}

impl<W: Write> Sink for Jsonl<W> {
    fn put(&mut self, exported: &Exported) -> Result<()> {
        serde_json::to_writer(&mut self.0, &line(exported)).map_err(std::io::Error::from)?;
        Ok(self.0.write_all(b"\n")?)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        Ok(self.0.flush()?)
    }
}

fn line(exported: &Exported) -> Line<'_> {
    match exported {
        Exported::Session(session) => {
            Line::Session { host: &session.host, row: &session.row, records: &session.records }
        }
        Exported::Hold(hold) => {
            Line::Hold { host: &hold.host, row: &hold.row, records: &hold.records }
        }
        Exported::Command(item) => {
            let Item { host, part, intent_leaf, outcome_leaf, records, .. } = &**item;
            Line::Command {
                host,
                row: part,
                approved_by: item.approved_by(),
                intent_leaf: intent_leaf.as_ref().map(hex),
                outcome_leaf: outcome_leaf.as_ref().map(hex),
                records,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::{HOSTILE, item};

    #[test]
    fn p8_a_line_is_a_line_whatever_an_agent_wrote() {
        let mut out = Vec::new();
        let mut sink = Box::new(Jsonl(&mut out));
        for statement in HOSTILE {
            sink.put(&Exported::Command(Box::new(item(statement)))).expect("written");
        }
        sink.finish().expect("written");
        let text = String::from_utf8(out).expect("UTF-8");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let statements: Vec<&str> = lines.iter().filter_map(|l| l["statement"].as_str()).collect();
        assert_eq!(statements, HOSTILE);
        assert!(lines.iter().all(|line| line["type"] == "command"));
    }
}
