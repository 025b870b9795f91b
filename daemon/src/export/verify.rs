//! `chaperone log verify --export`: whether each item of an export is what the log has, with nothing
//! but the export, the file of proofs and the log's public key.
//!
//! Of JSON Lines all that an item says is compared with the records that it carries, but for `host`,
//! `policy` and `uses`; of the other forms, that its two records are in the log.
//!
//! Does not belong here: the paths themselves (`proof`).

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use chaperone_audit::note::Verifier;
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::proof::{Proven, unhex};
use crate::show;

mod line;

use line::Known;

/// What was verified.
#[derive(Default, Serialize)]
pub(super) struct Report {
    items: u64,
    sessions: u64,
    holds: u64,
    /// Records that lie beyond the checkpoint: that a session ended, where it went on.
    beyond: u64,
    /// The checkpoint's size and log.
    size: u64,
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<Finding>,
}

#[derive(Serialize)]
struct Finding {
    /// Of the export, from 1.
    line: u64,
    what: String,
}

/// The numbers and leaves that an item of any form has.
#[derive(Deserialize)]
struct Leaves {
    id: u64,
    #[serde(default)]
    outcome: Option<u64>,
    #[serde(default)]
    intent_leaf: Option<String>,
    #[serde(default)]
    outcome_leaf: Option<String>,
}

/// Verifies an export, and says what was found.
pub(crate) fn verify(export: &Path, proof: &Path, key: &Verifier, json: bool) -> Result<bool> {
    let proven = match Proven::read(open(proof)?, key) {
        Ok(proven) => proven,
        Err(error) if error.downcast_ref::<io::Error>().is_some() => return Err(error),
        Err(error) => {
            writeln!(io::stderr(), "chaperone: {} proves nothing: {error:#}", proof.display())?;
            return Ok(false);
        }
    };
    let report = examine(export, &proven)?;
    if json {
        show::json_line(&report)?;
        return Ok(report.finding.is_none());
    }
    let mut out = io::stdout().lock();
    if let Some(finding) = &report.finding {
        writeln!(out, "item {}: {}", finding.line, finding.what)?;
        return Ok(false);
    }
    writeln!(
        out,
        "{} commands, {} sessions and {} holds are what {} has under its checkpoint over {} records",
        report.items, report.sessions, report.holds, report.origin, report.size
    )?;
    if report.beyond > 0 {
        writeln!(out, "{} records lie beyond the checkpoint and prove nothing yet", report.beyond)?;
    }
    Ok(true)
}

fn examine(export: &Path, proven: &Proven) -> Result<Report> {
    let mut report =
        Report { size: proven.head.size, origin: proven.head.origin.clone(), ..Report::default() };
    let mut file = open(export)?;
    let begin = file.fill_buf()?.first_chunk::<4>().copied().unwrap_or_default();
    let mut place = 0;
    let checked = match &begin {
        b"CEF:" => lines(file, &mut place, &mut report, |text, report| match cef(text)? {
            Some(leaves) => in_log(&leaves, proven, report),
            None => Ok(()),
        }),
        [b'{', ..] => {
            let mut known = Known::default();
            lines(file, &mut place, &mut report, |text, report| {
                let line: Map<String, Value> =
                    serde_json::from_str(text).context("it is no JSON")?;
                if !line.contains_key("class_uid") {
                    return known.check(&line, proven, report);
                }
                match line.get("unmapped").filter(|more| more.get("id").is_some()) {
                    Some(more) => in_log(&Leaves::deserialize(more)?, proven, report),
                    None => Ok(()),
                }
            })
        }
        b"PAR1" => rows(open(export)?.into_inner(), &mut place, |leaves| {
            in_log(&leaves, proven, &mut report)
        }),
        _ => {
            let mut read = csv::Reader::from_reader(file);
            let rows = read.deserialize::<Leaves>();
            rows.map(|row| row.context("it is no export that is known here")).try_for_each(|row| {
                place += 1;
                in_log(&row?, proven, &mut report)
            })
        }
    };
    if let Err(error) = checked {
        if error.downcast_ref::<io::Error>().is_some() {
            return Err(error);
        }
        report.finding = Some(Finding { line: place, what: format!("{error:#}") });
    }
    Ok(report)
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(BufReader::new(file))
}

fn lines(
    file: impl BufRead,
    place: &mut u64,
    report: &mut Report,
    mut each: impl FnMut(&str, &mut Report) -> Result<()>,
) -> Result<()> {
    for text in file.lines() {
        *place += 1;
        each(&text?, report)?;
    }
    Ok(())
}

/// The numbers and leaves of Parquet's rows.
fn rows(file: File, place: &mut u64, mut each: impl FnMut(Leaves) -> Result<()>) -> Result<()> {
    let read = SerializedFileReader::new(file)?;
    for row in read.get_row_iter(None)? {
        *place += 1;
        let row = row?;
        let number = |wanted: &str| {
            row.get_column_iter().find_map(|(name, field)| match field {
                Field::Long(number) if name == wanted => Some(number.cast_unsigned()),
                _ => None,
            })
        };
        let text = |wanted: &str| {
            row.get_column_iter().find_map(|(name, field)| match field {
                Field::Str(text) if name == wanted => Some(text.clone()),
                _ => None,
            })
        };
        each(Leaves {
            id: number("id").context("it has no id")?,
            outcome: number("outcome"),
            intent_leaf: text("intent_leaf"),
            outcome_leaf: text("outcome_leaf"),
        })?;
    }
    Ok(())
}

/// That both records are in the log with these leaves.
fn in_log(leaves: &Leaves, proven: &Proven, report: &mut Report) -> Result<()> {
    let outcome = leaves.outcome.context("it has no outcome")?;
    for (seq, leaf) in [(leaves.id, &leaves.intent_leaf), (outcome, &leaves.outcome_leaf)] {
        let leaf = leaf.as_deref().filter(|leaf| !leaf.is_empty());
        let leaf = unhex(leaf.with_context(|| format!("it has no leaf for record {seq}"))?)?;
        is_proven(seq, &leaf, proven)?;
    }
    report.items += 1;
    Ok(())
}

fn is_proven(seq: u64, leaf: &chaperone_audit::tree::Hash, proven: &Proven) -> Result<()> {
    match proven.leaf(seq) {
        Some(found) if found == leaf => Ok(()),
        Some(_) => bail!("the log has another record {seq}"),
        None => bail!("nothing proves record {seq}"),
    }
}

/// The numbers and leaves of a line, where it is one of a command. An equals sign stands alone
/// behind a key: in values it is escaped.
fn cef(line: &str) -> Result<Option<Leaves>> {
    ensure!(line.starts_with("CEF:0|chaperone|"), "it is no event of chaperone");
    if !line.contains("|command:") {
        return Ok(None);
    }
    let mut fields: HashMap<&str, &str> = HashMap::new();
    for (place, _) in line.match_indices('=') {
        let before = &line[..place];
        if before.ends_with('\\') {
            continue;
        }
        let key = before.rsplit([' ', '|']).next().unwrap_or_default();
        let value = line[place + 1..].split(' ').next().unwrap_or_default();
        ensure!(fields.insert(key, value).is_none(), "it has {key} twice");
    }
    let number = |key: &str| fields.get(key).and_then(|value| value.parse().ok());
    let text = |key: &str| fields.get(key).map(|&value| value.to_owned());
    Ok(Some(Leaves {
        id: number("cn1").context("it has no id")?,
        outcome: number("cn2"),
        intent_leaf: text("cs5"),
        outcome_leaf: text("cs6"),
    }))
}
