//! CSV (RFC 4180): one line a command.
//!
//! Spreadsheets take a text that begins with `=`, `+`, `-` or `@` for a formula, and agents write
//! these texts: such a one, and one that begins with a quote already, gets a single quote in front.
//! Who takes one leading quote off each text has what was recorded.
//!
//! Does not belong here: the columns.

use std::io::Write;

use anyhow::Result;

use super::{
    Sink,
    columns::{COLUMNS, Cell},
    item::Exported,
};

/// Writes it.
pub(crate) struct Csv<W: Write> {
    out: csv::Writer<W>,
}

impl<W: Write> Csv<W> {
    pub(crate) fn new(out: W) -> Result<Self> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record(COLUMNS.iter().map(|column| column.name))?;
        Ok(Self { out })
    }
}

impl<W: Write> Sink for Csv<W> {
    fn put(&mut self, exported: &Exported) -> Result<()> {
        let Exported::Command(item) = exported else { return Ok(()) };
        for column in COLUMNS {
            match (column.value)(item) {
                Cell::Null => self.out.write_field("")?,
                Cell::Text(text) if text.starts_with(FORMULA) => {
                    self.out.write_field(format!("'{text}"))?;
                }
                Cell::Text(text) => self.out.write_field(&*text)?,
                Cell::Number(number) => self.out.write_field(number.to_string())?,
                Cell::Real(number) => self.out.write_field(number.to_string())?,
                Cell::Flag(flag) => self.out.write_field(if flag { "true" } else { "false" })?,
            }
        }
        Ok(self.out.write_record(None::<&[u8]>)?)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

/// What a spreadsheet would calculate (OWASP, "CSV Injection"), and the mark itself.
const FORMULA: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\''];

/// What was recorded, out of a text that was read.
#[cfg(test)]
fn recorded(text: &str) -> &str {
    text.strip_prefix('\'').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::{HOSTILE, item};

    #[test]
    fn p8_no_text_of_an_agent_is_a_formula_or_ends_its_cell() {
        let statements: Vec<String> = HOSTILE
            .iter()
            .map(ToString::to_string)
            .chain(FORMULA.map(|c| format!("{c}x")))
            .collect();
        let mut out = Vec::new();
        let mut sink = Box::new(Csv::new(&mut out).expect("written"));
        for statement in &statements {
            sink.put(&Exported::Command(Box::new(item(statement)))).expect("written");
        }
        sink.finish().expect("written");
        let mut read = csv::Reader::from_reader(&*out);
        let place = COLUMNS.iter().position(|c| c.name == "statement").expect("a column");
        let cells: Vec<String> =
            read.records().map(|r| r.expect("a record")[place].to_owned()).collect();
        assert!(cells.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@', '\t', '\r'])));
        let back: Vec<&str> = cells.iter().map(|cell| recorded(cell)).collect();
        assert_eq!(back, statements);
    }
}
