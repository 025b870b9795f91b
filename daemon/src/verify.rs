//! `chaperone log key|checkpoint|verify|proof`: proving, to people who trust nobody on this host,
//! that the log is what was written.
//!
//! Does not belong here: how it is proved (`chaperone-audit`).

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use chaperone_audit::{
    Proofs, Sealed,
    note::{Checkpoint, ProofFile, Verifier},
    tree::leaf_hash,
    verify::{Question, Report, verify},
};
use chaperone_model::Seq;
use clap::Args;
use serde::Serialize;

use crate::show;

/// The words of `log verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The log's file, without a configuration; with --proof it is not needed
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The log's public key, or a file that holds it [default: the one beside the log]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A checkpoint that was kept elsewhere: the log must go on from it
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// The first record to look at
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// The last record to look at
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Verify a proof instead, with nothing but it and the key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to"])]
    proof: Option<PathBuf>,
}

/// The words of `log proof`.
#[derive(Debug, Args)]
pub(crate) struct ProofArgs {
    /// The record: a command's id, or any other record's number
    #[arg(value_name = "N", required_unless_present = "since")]
    record: Option<u64>,
    /// Prove instead that the log goes on from this checkpoint
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    since: Option<PathBuf>,
    /// Where to write it [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// `log key`.
pub(crate) fn key(verifier: &Verifier) -> Result<bool> {
    writeln!(io::stdout(), "{verifier}")?;
    Ok(true)
}

/// `log checkpoint`.
pub(crate) fn checkpoint(log: &Path) -> Result<bool> {
    let Some(newest) = Proofs::open(log)?.newest()? else { return nothing() };
    write!(io::stdout(), "{}", newest.note)?;
    Ok(true)
}

/// `log proof`.
pub(crate) fn proof(log: &Path, args: &ProofArgs) -> Result<bool> {
    let proofs = Proofs::open(log)?;
    let Some(newest) = proofs.newest()? else { return nothing() };
    let file = match (&args.since, args.record) {
        (Some(since), _) => {
            let old = unverified(&read(since)?)?;
            let Some(proof) = proofs.consistency(old.size, &newest)? else {
                bail!(
                    "the log's newest checkpoint is over {} records, that one over {}",
                    newest.size,
                    old.size
                );
            };
            ProofFile::Consistency { proof, checkpoint: newest.note.to_string() }
        }
        (None, record) => match proofs.inclusion(Seq(record.unwrap_or_default()), &newest)? {
            Some(proof) => proof,
            None => return not_covered(&newest, record.unwrap_or_default()),
        },
    };
    match &args.output {
        Some(path) => fs::write(path, file.to_string())
            .with_context(|| format!("writing {}", path.display()))?,
        None => write!(io::stdout(), "{file}")?,
    }
    Ok(true)
}

/// `log verify`: by the arguments alone, or by what the configuration names.
pub(crate) fn run(
    args: &VerifyArgs,
    log: impl FnOnce() -> Result<PathBuf>,
    own_key: impl FnOnce() -> Result<Verifier>,
    json: bool,
) -> Result<bool> {
    let key = match &args.key {
        Some(key) => verifier(key)?,
        None => own_key()?,
    };
    let kept = match &args.since {
        Some(path) => Some(
            Checkpoint::open(&read(path)?, &key)
                .with_context(|| format!("the kept checkpoint {}", path.display()))?,
        ),
        None => None,
    };
    if let Some(path) = &args.proof {
        return prove(&read(path)?, &key, kept.as_ref(), json);
    }
    let path = match &args.log {
        Some(path) => path.clone(),
        None => log()?,
    };
    let question = Question {
        key: Some(&key),
        kept: kept.as_ref(),
        from: args.from.map(Seq),
        to: args.to.map(Seq),
    };
    let report = verify(&path, &question)?;
    tell(&report, args.key.is_none(), json)?;
    Ok(report.finding.is_none())
}

fn tell(report: &Report, own_key: bool, json: bool) -> Result<()> {
    if json {
        return show::json_line(report);
    }
    let mut out = io::stdout().lock();
    if let Some(finding) = &report.finding {
        writeln!(out, "record {}: {} ({})", finding.seq, finding.what, finding.file.display())?;
        writeln!(
            out,
            "what lies before it is as it was written, as far as record {}",
            report.sealed
        )?;
        return Ok(());
    }
    writeln!(
        out,
        "{} records in {} files are as they were written; {} checkpoints agree, the last is over record {}",
        report.records,
        report.files.len(),
        report.checkpoints,
        report.sealed
    )?;
    if report.erased > 0 {
        writeln!(out, "the content of {} records was erased", report.erased)?;
    }
    if !report.retired.is_empty() {
        writeln!(out, "of {} files the hashes alone are kept", report.retired.len())?;
    }
    if report.last > report.sealed {
        writeln!(out, "{} records are not sealed yet", report.last - report.sealed)?;
    }
    if own_key {
        writeln!(
            out,
            "the key was the one beside the log: --key with one that was enrolled elsewhere proves more"
        )?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Proved<'a> {
    proves: &'static str,
    record: Option<&'a str>,
    index: Option<u64>,
    from: Option<u64>,
    size: u64,
}

fn prove(text: &str, key: &Verifier, kept: Option<&Checkpoint>, json: bool) -> Result<bool> {
    let wrong = |error: &dyn std::fmt::Display| {
        let _ = writeln!(io::stderr(), "chaperone: this proves nothing: {error}");
        Ok(false)
    };
    let file = match ProofFile::parse(text) {
        Ok(file) => file,
        Err(error) => return wrong(&error),
    };
    let (ProofFile::Inclusion { checkpoint, .. } | ProofFile::Consistency { checkpoint, .. }) =
        &file;
    let head = match Checkpoint::open(checkpoint, key) {
        Ok(head) => head,
        Err(error) => return wrong(&error),
    };
    match &file {
        ProofFile::Inclusion { record, proof, .. } => {
            if let Err(error) = proof.verify(&leaf_hash(record), head.size, &head.root) {
                return wrong(&error);
            }
            let record = String::from_utf8_lossy(record);
            if json {
                let (proves, index) = ("inclusion", Some(proof.index));
                let record = Some(&*record);
                show::json_line(&Proved { proves, record, index, from: None, size: head.size })?;
            } else {
                let mut out = io::stdout().lock();
                writeln!(out, "{record}")?;
                writeln!(
                    out,
                    "is record {} of {}, which {} signed",
                    proof.index + 1,
                    head.size,
                    head.origin
                )?;
            }
        }
        ProofFile::Consistency { proof, .. } => {
            let Some(kept) = kept else {
                bail!("--since is needed: the checkpoint that the log is to go on from");
            };
            if proof.old != kept.size {
                return wrong(&"it is of another checkpoint than the one that was kept");
            }
            if let Err(error) = proof.verify(&kept.root, head.size, &head.root) {
                return wrong(&error);
            }
            if json {
                let (proves, from) = ("consistency", Some(kept.size));
                show::json_line(&Proved {
                    proves,
                    record: None,
                    index: None,
                    from,
                    size: head.size,
                })?;
            } else {
                writeln!(
                    io::stdout(),
                    "the log of {} records goes on from the {} of the kept checkpoint",
                    head.size,
                    kept.size
                )?;
            }
        }
    }
    Ok(true)
}

fn verifier(key: &str) -> Result<Verifier> {
    if key.contains('+') {
        return Ok(Verifier::parse(key)?);
    }
    Verifier::parse(&read(Path::new(key))?).with_context(|| key.to_owned())
}

/// Out of a note by whoever it is: only its size is used.
fn unverified(note: &str) -> Result<Checkpoint> {
    Ok(Checkpoint::of(&chaperone_audit::note::Note::parse(note)?)?)
}

fn read(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn nothing() -> Result<bool> {
    writeln!(io::stderr(), "chaperone: there is no checkpoint yet")?;
    Ok(false)
}

fn not_covered(newest: &Sealed, record: u64) -> Result<bool> {
    writeln!(
        io::stderr(),
        "chaperone: there is no record {record} under the newest checkpoint, which is over {}",
        newest.size
    )?;
    Ok(false)
}
