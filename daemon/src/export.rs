//! `chaperone log export`: the log in the forms that other tools read.
//!
//! An item is a command that is over, in the order of the outcomes, which is the order in which they
//! were recorded: so a number is a cursor. Memory is bounded by a batch, and no snapshot of the log is
//! held while somebody slow takes what is written. Does not belong here: what is shown to people.

mod cef;
mod classify;
mod columns;
mod item;
mod ocsf;
mod table;

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use chaperone_audit::{Filter, Reader};
use chaperone_model::Seq;
use clap::{Args, ValueEnum};

#[cfg(test)]
pub(crate) use item::tests;
pub(crate) use item::{Item, Items};

/// Commands that are read at a time.
const BATCH: usize = 256;

/// The words of `log export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The form
    #[arg(long)]
    format: Format,
    /// Go on after this record: the number that the last export ended with
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    /// Where to write it [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) filter: crate::cli::FilterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON Lines, with sessions, holds and responses
    Jsonl,
    /// Comma-separated values, with a head
    Csv,
    /// OCSF 1.8.0, Datastore Activity, as JSON Lines
    Ocsf,
    /// Common Event Format, one line each
    Cef,
}

/// Writes what was asked for; says where to go on.
pub(crate) fn run(reader: &Reader, args: &ExportArgs, filter: &Filter) -> Result<bool> {
    let place =
        || args.output.as_ref().map_or("standard output".into(), |p| p.display().to_string());
    let out: Box<dyn Write> = match &args.output {
        Some(path) => {
            Box::new(create(path).with_context(|| format!("writing {}", path.display()))?)
        }
        None => Box::new(io::stdout().lock()),
    };
    let mut writer = Writer::new(args.format, BufWriter::new(out))?;
    let (count, cursor) = export(reader, Seq(args.after), filter, |item| writer.item(item))?;
    let mut out = writer.finish().with_context(|| format!("writing {}", place()))?;
    out.flush().with_context(|| format!("writing {}", place()))?;
    if let Some(path) = &args.output {
        File::open(path)?.sync_all().with_context(|| format!("writing {}", path.display()))?;
    }
    writeln!(
        io::stderr(),
        "{count} commands, up to record {}: --after {} goes on",
        cursor.0,
        cursor.0
    )?;
    Ok(true)
}

/// Statements and responses are for whoever asked, and for nobody else on the host.
fn create(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Hands over one item after the other; answers how many, and the cursor to go on with.
fn export(
    reader: &Reader,
    after: Seq,
    filter: &Filter,
    mut take: impl FnMut(&Item) -> Result<()>,
) -> Result<(u64, Seq)> {
    // What finishes from here on is for the next one: a busy log would never end.
    let last = reader.last_outcome()?;
    let most = filter.limit.map_or(u64::MAX, u64::from);
    let mut items = Items::new(reader)?;
    let (mut cursor, mut count) = (after, 0);
    while cursor < last && count < most {
        let batch = usize::try_from(most - count).unwrap_or(BATCH).min(BATCH);
        let (found, next) = reader.finished(cursor, last, filter, batch)?;
        for finished in found {
            take(&items.item(finished)?)?;
            count += 1;
        }
        cursor = next;
    }
    Ok((count, cursor))
}

/// Writes items in a form.
enum Writer<W: Write> {
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
    Ocsf(W),
    Cef(W),
}

impl<W: Write> Writer<W> {
    fn new(format: Format, out: W) -> Result<Self> {
        Ok(match format {
            Format::Jsonl => Self::Jsonl(out),
            Format::Ocsf => Self::Ocsf(out),
            Format::Cef => Self::Cef(out),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                table::head(&mut writer).map_err(io_error)?;
                Self::Csv(Box::new(writer))
            }
        })
    }

    fn item(&mut self, item: &Item) -> Result<()> {
        match self {
            Self::Jsonl(out) => {
                serde_json::to_writer(&mut *out, item).map_err(io::Error::from)?;
                writeln!(out)?;
            }
            Self::Ocsf(out) => {
                serde_json::to_writer(&mut *out, &ocsf::event(item)).map_err(io::Error::from)?;
                writeln!(out)?;
            }
            Self::Cef(out) => writeln!(out, "{}", cef::line(item))?,
            Self::Csv(out) => table::row(out, item).map_err(io_error)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<W> {
        Ok(match self {
            Self::Jsonl(out) | Self::Ocsf(out) | Self::Cef(out) => out,
            Self::Csv(writer) => {
                writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?
            }
        })
    }
}

/// So that a pipe that was closed is known for one.
fn io_error(error: csv::Error) -> io::Error {
    error.into()
}

#[cfg(test)]
mod forms {
    use super::{
        tests::{HOSTILE, hostile},
        *,
    };

    fn written(format: Format, items: &[Item]) -> String {
        let mut writer = Writer::new(format, Vec::new()).expect("a writer");
        for item in items {
            writer.item(item).expect("written");
        }
        String::from_utf8(writer.finish().expect("finished")).expect("text")
    }

    #[test]
    fn p8_an_item_is_a_line_whatever_agents_write() {
        for format in [Format::Jsonl, Format::Ocsf, Format::Cef] {
            let text = written(format, &[hostile(), hostile()]);
            assert_eq!(text.lines().count(), 2, "{format:?}: {text}");
        }
    }

    #[test]
    fn a_line_of_json_has_all_there_is() {
        let text = written(Format::Jsonl, &[hostile()]);
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read["statement"], HOSTILE);
        assert_eq!(read["host"], "db1");
        assert_eq!(read["connection"]["server"], "10.0.0.9:5432");
        assert_eq!(read["hold"]["state"], "approved");
        assert_eq!(read["leaves"]["outcome"], "02".repeat(32));
        let rows: serde_json::Value =
            serde_json::from_str(read["response"].as_str().expect("rows")).expect("JSON");
        assert_eq!(rows[0][0], HOSTILE);
    }
}
