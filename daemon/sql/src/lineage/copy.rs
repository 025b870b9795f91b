//! COPY: what is copied out, and how it is written.

use chaperone_model::{Copies, CopyFormat, CopyLayout, Origin, Outputs};
use pg_query::{
    Node, NodeEnum,
    protobuf::{CopyStmt, DefElem},
};

use super::{Out, Walk, outputs};
use crate::read::names;

/// How the names of encodings begin, without signs, in which every byte that is ASCII is that
/// character: in others a byte of a longer character can look like a delimiter.
const ENCODINGS: [&str; 10] = [
    "utf8",
    "unicode",
    "sqlascii",
    "latin",
    "iso8859",
    "win12",
    "windows12",
    "koi8",
    "euc",
    "mule",
];

impl Walk<'_> {
    pub(super) fn copy(&mut self, copy: &CopyStmt) -> (Outputs, Copies) {
        let CopyStmt {
            relation,
            query,
            attlist,
            is_from,
            is_program,
            filename,
            options,
            where_clause,
        } = copy;
        let copies = || {
            if *is_program || !filename.is_empty() {
                return Copies::Elsewhere;
            }
            layout(options).map_or_else(Copies::Unclear, Copies::Out)
        };
        if let Some(query) = query {
            let outs = match &query.node {
                Some(NodeEnum::SelectStmt(select)) => self.select(select),
                Some(node) => self.change(node),
                None => None,
            };
            return (outputs(outs), copies());
        }
        let Some(relation) = relation else {
            self.lost();
            return (Outputs::Unknown, copies());
        };
        let item = self.relation(relation);
        let named = names::parts(attlist);
        if *is_from {
            let is_meant = |out: &&Out| named.is_empty() || named.contains(&out.name.as_str());
            for column in item.columns.iter().filter(is_meant).cloned().collect::<Vec<_>>() {
                self.written(&column.origin);
            }
            if item.unknown {
                self.written(&Origin::Unknown);
            }
            self.levels.push(vec![item]);
            if let Some(condition) = where_clause {
                self.condition(condition);
            }
            self.levels.pop();
            return (Outputs::None, Copies::No);
        }
        if item.unknown || item.maybe {
            return (Outputs::Unknown, copies());
        }
        if item.open {
            return (outputs(Some(Vec::new())), copies());
        }
        // In the order in which they are named.
        let find = |name: &&str| item.columns.iter().find(|column| column.name == *name).cloned();
        let outs: Option<Vec<Out>> = if named.is_empty() {
            let is_written = |out: &&Out| !item.generated.contains(&out.name);
            Some(item.columns.iter().filter(is_written).cloned().collect())
        } else {
            named.iter().map(find).collect()
        };
        (outputs(outs), copies())
    }
}

/// What the options say. What is not known here may change how rows are written.
fn layout(options: &[Node]) -> Result<CopyLayout, String> {
    let mut all: Vec<&DefElem> = Vec::new();
    for option in options {
        let Some(NodeEnum::DefElem(option)) = &option.node else {
            return Err("an option is none".into());
        };
        if all.iter().any(|other| other.defname == option.defname) {
            return Err(format!("{} is said twice", option.defname));
        }
        all.push(option);
    }
    let format = all.iter().find(|option| option.defname == "format");
    let mut layout = CopyLayout::usual(match format.map(|option| text(option)).transpose()? {
        None | Some("text") => CopyFormat::Text,
        Some("csv") => CopyFormat::Csv,
        Some("binary") => CopyFormat::Binary,
        Some(other) => return Err(format!("the format {other} is not known")),
    });
    let mut escape = None;
    for option in all {
        match option.defname.as_str() {
            // What counts for the way in alone, or is seen in the rows.
            "format" | "freeze" | "force_quote" => {}
            "delimiter" => layout.delimiter = byte(option)?,
            "null" => text(option)?.clone_into(&mut layout.null),
            "quote" => layout.quote = byte(option)?,
            "escape" => escape = Some(byte(option)?),
            "header" => layout.header = truth(option)?,
            "encoding" => {
                let name = text(option)?;
                let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
                let plain = plain.to_ascii_lowercase();
                if !ENCODINGS.iter().any(|known| plain.starts_with(known)) {
                    return Err(format!("the encoding {name} is not one that is looked into"));
                }
            }
            other => return Err(format!("the option {other} is not known")),
        }
    }
    layout.escape = escape.unwrap_or(layout.quote);
    Ok(layout)
}

fn text(option: &DefElem) -> Result<&str, String> {
    match option.arg.as_ref().and_then(|arg| arg.node.as_ref()) {
        Some(NodeEnum::String(string)) => Ok(&string.sval),
        _ => Err(format!("{} is no text", option.defname)),
    }
}

fn byte(option: &DefElem) -> Result<u8, String> {
    match text(option)?.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err(format!("{} is not one byte", option.defname)),
    }
}

/// As the server reads it (`defGetCopyHeaderOption`, src/backend/commands/copy.c).
fn truth(option: &DefElem) -> Result<bool, String> {
    let unclear = || format!("it is not clear what {} says", option.defname);
    match option.arg.as_ref().map(|arg| arg.node.as_ref()) {
        None => Ok(true),
        Some(Some(NodeEnum::Boolean(value))) => Ok(value.boolval),
        Some(Some(NodeEnum::Integer(value))) if (0..=1).contains(&value.ival) => {
            Ok(value.ival == 1)
        }
        Some(Some(NodeEnum::String(value))) => match value.sval.to_ascii_lowercase().as_str() {
            "true" | "on" => Ok(true),
            "false" | "off" => Ok(false),
            _ => Err(unclear()),
        },
        _ => Err(unclear()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::lineage, *};

    fn copies(text: &str) -> Copies {
        let found = lineage(text, &chaperone_model::Schema::default()).expect("it can be read");
        found.into_iter().next().expect("a statement").copies
    }

    #[test]
    fn how_rows_are_written_is_read_in_both_spellings() {
        let csv = CopyLayout {
            delimiter: b';',
            null: "-".into(),
            quote: b'%',
            escape: b'!',
            header: true,
            ..CopyLayout::usual(CopyFormat::Csv)
        };
        for text in [
            "COPY t TO STDOUT (FORMAT csv, DELIMITER ';', NULL '-', QUOTE '%', ESCAPE '!', HEADER)",
            "COPY t TO STDOUT WITH CSV HEADER QUOTE '%' ESCAPE '!' FORCE QUOTE * DELIMITER ';' NULL '-'",
            "COPY (SELECT 1) TO STDOUT (header on, format 'csv', delimiter e'\\x3b', null '-', quote '%', escape '!', force_quote (a), encoding 'utf-8')",
        ] {
            assert_eq!(copies(text), Copies::Out(csv.clone()), "{text}");
        }
        let usual = |format| Copies::Out(CopyLayout::usual(format));
        assert_eq!(copies("COPY t TO STDOUT"), usual(CopyFormat::Text));
        assert_eq!(copies("COPY t TO STDOUT BINARY"), usual(CopyFormat::Binary));
        assert_eq!(copies("COPY t TO STDOUT (FORMAT csv, HEADER false)"), usual(CopyFormat::Csv));
        let Copies::Out(layout) = copies("COPY t TO STDOUT (FORMAT csv, QUOTE '|')") else {
            panic!("it is clear");
        };
        assert_eq!((layout.quote, layout.escape), (b'|', b'|'));
    }

    #[test]
    fn p2_what_is_not_known_of_it_is_not_clear() {
        for text in [
            "COPY t TO STDOUT (ENCODING 'SJIS')",
            "COPY t TO STDOUT (ENCODING 'gb18030')",
            "COPY t TO STDOUT (DELIMITER 'ab')",
            "COPY t TO STDOUT (DELIMITER ',', DELIMITER ';')",
            "COPY t TO STDOUT (HEADER match)",
            "COPY t TO STDOUT (something 'else')",
        ] {
            assert!(matches!(copies(text), Copies::Unclear(_)), "{text}: {:?}", copies(text));
        }
        for text in ["COPY t TO '/tmp/x'", "COPY t TO PROGRAM 'x'", "COPY (SELECT 1) TO '/tmp/x'"] {
            assert_eq!(copies(text), Copies::Elsewhere, "{text}");
        }
        assert_eq!(copies("COPY t FROM STDIN"), Copies::No);
    }
}
