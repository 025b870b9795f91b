//! CSV (RFC 4180, with a head).
//!
//! Does not belong here: which columns there are.

use std::io::Write;

use super::{
    columns::{COLUMNS, Cell},
    item::Item,
};

/// What makes a spreadsheet take a cell for a formula (OWASP, CSV Injection), and the mark that
/// says so.
const FORMULA: [char; 7] = ['=', '+', '-', '@', '\t', '\r', MARK];
const MARK: char = '\'';

pub(crate) fn head<W: Write>(to: &mut csv::Writer<W>) -> csv::Result<()> {
    to.write_record(COLUMNS.iter().map(|column| column.name))
}

pub(crate) fn row<W: Write>(to: &mut csv::Writer<W>, item: &Item) -> csv::Result<()> {
    for column in COLUMNS {
        let text = match (column.value)(item) {
            Cell::Text(text) => text.map(harmless).unwrap_or_default(),
            Cell::Integer(number) => number.map(|number| number.to_string()).unwrap_or_default(),
            Cell::Real(number) => number.map(|number| number.to_string()).unwrap_or_default(),
            Cell::Boolean(is) => is.to_string(),
        };
        to.write_field(text)?;
    }
    to.write_record(None::<&[u8]>)
}

/// A text that no spreadsheet runs: a mark goes before what would be a formula, and before what
/// begins with the mark, so that taking one away gives the text back.
fn harmless(text: String) -> String {
    if text.starts_with(FORMULA) { format!("{MARK}{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::{
        super::item::tests::{HOSTILE, hostile},
        *,
    };

    #[test]
    fn p8_a_statement_is_one_cell_and_no_formula() {
        let mut writer = csv::Writer::from_writer(Vec::new());
        head(&mut writer).expect("written");
        row(&mut writer, &hostile()).expect("written");
        let text = writer.into_inner().expect("flushed");
        let mut reader = csv::Reader::from_reader(text.as_slice());
        let place = COLUMNS.iter().position(|column| column.name == "statement").expect("there");
        let rows: Vec<_> = reader.records().collect::<Result<_, _>>().expect("CSV");
        assert_eq!((rows.len(), rows[0].len()), (1, COLUMNS.len()));
        assert_eq!(rows[0][place], format!("'{HOSTILE}"));
        let texts = rows[0].iter().zip(COLUMNS).filter(|(text, _)| text.starts_with(FORMULA));
        assert!(texts.into_iter().all(|(text, _)| text.starts_with(MARK)));
    }

    #[test]
    fn what_begins_with_the_mark_can_be_told_from_what_got_one() {
        assert_eq!(harmless("'=1".into()), "''=1");
        assert_eq!(harmless("=1".into()), "'=1");
        assert_eq!(harmless("SELECT -1".into()), "SELECT -1");
    }
}
