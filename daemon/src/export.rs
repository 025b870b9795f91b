//! `chaperone log export`, and the daemon's own streams: the log in the forms that others' tools read, each item with what ties it
//! to the log's tree.
//!
//! Every form is a pure mapping of an item, in a module of its own. Memory is bounded: items are
//! read and written page by page.
//!
//! Does not belong here: reading the log's files (`chaperone-audit`).

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use chaperone_audit::{Proofs, Reader};
use chaperone_model::Seq;
use clap::{Args, ValueEnum};

use crate::{cli::FilterArgs, terminal};

mod cef;
mod columns;
mod csv;
mod gather;
mod item;
mod jsonl;
mod ocsf;
mod otlp;
mod parquet;
mod proof;
mod stream;
mod verify;

use gather::{Carry, Gatherer};
use item::Exported;

pub(crate) use item::{Word, micros, words};
pub(crate) use stream::{Destination, Stream};
#[cfg(test)]
pub(crate) use tests::HOSTILE;
pub(crate) use verify::verify;

/// The words of `log export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// In which form
    #[arg(long, value_enum, required_unless_present = "asciicast")]
    format: Option<Format>,
    /// The recording of one command's terminal instead, as asciinema's players read it
    #[arg(long, num_args = 2, value_names = ["ID", "FILE"], conflicts_with_all = ["format", "after", "output", "proof"])]
    asciicast: Option<Vec<String>>,
    #[command(flatten)]
    filter: FilterArgs,
    /// What finished after this record alone; each export says where the next one goes on
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    /// Where to write it [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write beside it the proof that each exported record is in the log; what no checkpoint covers
    /// yet is left to the next export
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
}

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON Lines, with the records that each line was put together from
    Jsonl,
    /// One line a command
    Csv,
    /// Apache Parquet, one row a command
    Parquet,
    /// OCSF events of class 6005, as JSON Lines
    Ocsf,
    /// `ArcSight`'s Common Event Format
    Cef,
}

/// Where items are written to.
trait Sink {
    fn put(&mut self, exported: &Exported) -> Result<()>;

    fn finish(self: Box<Self>) -> Result<()>;
}

/// Exports what a filter lets through.
pub(crate) fn run(log: &Path, args: &ExportArgs) -> Result<bool> {
    if let Some([id, path]) = args.asciicast.as_deref() {
        let id = id.parse().with_context(|| format!("{id:?} is no command's id"))?;
        return terminal::export(&Reader::open(log)?, Seq(id), Path::new(path));
    }
    let Some(format) = args.format else { bail!("in which format?") };
    let carry = if format == Format::Jsonl { Carry::Records } else { Carry::Leaves };
    let mut gatherer = Gatherer::open(log, args.filter.filter(), carry)?;
    let mut last = gatherer.reader().last_outcome()?;
    let mut proving = None;
    if let Some(path) = &args.proof {
        let Some(head) = gatherer.proofs().newest()? else { bail!("there is no checkpoint yet") };
        last = last.min(Seq(head.size));
        proving = Some(proof::Writer::new(create(path)?, Proofs::open(log)?, head)?);
    }
    let mut sink = sink(format, open(args.output.as_deref())?)?;
    let mut cursor = Seq(args.after);
    while cursor < last {
        cursor = gatherer.page(cursor, last, &mut |exported| {
            if let Some(proving) = &mut proving {
                proving.put(&exported)?;
            }
            sink.put(&exported)
        })?;
    }
    sink.finish()?;
    if let Some(proving) = proving {
        proving.finish()?;
    }
    // Not among the data, and not in the way of a script that does not want it.
    let last = cursor.0;
    writeln!(
        io::stderr(),
        "exported up to record {last}: the next one goes on with --after {last}"
    )?;
    Ok(true)
}

fn sink(format: Format, out: Box<dyn Write + Send>) -> Result<Box<dyn Sink>> {
    Ok(match format {
        Format::Jsonl => Box::new(jsonl::Jsonl(out)),
        Format::Csv => Box::new(csv::Csv::new(out)?),
        Format::Parquet => Box::new(parquet::Parquet::new(out)?),
        Format::Ocsf => Box::new(ocsf::Ocsf(out)),
        Format::Cef => Box::new(cef::Cef(out)),
    })
}

fn open(path: Option<&Path>) -> Result<Box<dyn Write + Send>> {
    Ok(match path {
        None => Box::new(BufWriter::new(io::stdout())),
        Some(path) => Box::new(create(path)?),
    })
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
    Ok(BufWriter::new(file))
}

#[cfg(test)]
mod tests {
    use chaperone_audit::{CommandRow, Part};

    use super::item::Item;

    /// What an agent may write to break out of a cell, a field, a line or an element.
    pub(crate) const HOSTILE: [&str; 9] = [
        "SELECT 'a\nb\r\nc'",
        "SELECT \"x\", '\"'';,'",
        "\u{0}\u{1b}[2J\u{7f}\u{85}\u{2028}\u{202e}",
        "</script><script>alert(1)</script>",
        "<!--<img src=x onerror=alert(1)>&amp;'\"",
        "=cmd|' /C calc'!A0",
        "a|b=c\\d\\\\|e\\",
        "\u{fffd}\u{10ffff}ü\u{feff}",
        "'already quoted'",
    ];

    pub(crate) fn item(statement: &str) -> Item {
        let command = CommandRow {
            id: 7,
            time: "2026-05-01T12:00:00.000001Z".into(),
            session: 1,
            agent: Some("cleaner".into()),
            kind: "query".into(),
            statement: Some(statement.into()),
            verdict: "allow".into(),
            rule: "default".into(),
            status: "ok".into(),
            outcome: Some(8),
            ..CommandRow::default()
        };
        Item {
            host: "db1".into(),
            part: Part { command, ..Part::default() },
            session: None,
            hold: None,
            intent_leaf: Some([1; 32]),
            outcome_leaf: None,
            records: Vec::new(),
        }
    }
}
