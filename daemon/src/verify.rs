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
    note::{Checkpoint, Note, NoteError, ProofFile, Verifier},
    tree::leaf_hash,
    verify::{Question, Report, verify},
};
use chaperone_model::Seq;
use clap::Args;
use serde::Serialize;

use crate::{anchors::kept_notes, export, show};

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
    /// A witness's public key, or a file that holds it: it must have signed the checkpoint of
    /// --proof or --since, or one that is kept beside the log. Can be given several times
    #[arg(long, value_name = "VKEY")]
    witness: Vec<String>,
    /// The first record to look at
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// The last record to look at
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Verify a proof instead, with nothing but it and the key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to"])]
    proof: Option<PathBuf>,
    /// Verify an export instead, with --proof the file that was written beside it
    #[arg(long, value_name = "FILE", requires = "proof", conflicts_with = "since")]
    export: Option<PathBuf>,
}

/// The words of `log checkpoint`.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// The newest one that a witness has signed
    #[arg(long)]
    cosigned: bool,
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
    /// Under the newest checkpoint that a witness has signed
    #[arg(long)]
    cosigned: bool,
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
pub(crate) fn checkpoint(log: &Path, args: &CheckpointArgs) -> Result<bool> {
    let Some(newest) = head(&Proofs::open(log)?, log, args.cosigned)? else { return nothing() };
    write!(io::stdout(), "{}", newest.note)?;
    Ok(true)
}

/// `log proof`.
pub(crate) fn proof(log: &Path, args: &ProofArgs) -> Result<bool> {
    let proofs = Proofs::open(log)?;
    let Some(newest) = head(&proofs, log, args.cosigned)? else { return nothing() };
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

/// The newest head, with the signatures of witnesses that are kept of it; or the newest that has
/// some. What the witnesses said is verified by whoever gets it.
fn head(proofs: &Proofs, log: &Path, cosigned: bool) -> Result<Option<Sealed>> {
    let anchored = anchored(log);
    if cosigned {
        // The log's own signature is the first.
        let is_cosigned =
            |(_, note): &(_, String)| note.lines().rev().take_while(|l| !l.is_empty()).count() > 1;
        let newest = anchored.into_iter().filter(is_cosigned).max_by_key(|(head, _)| head.size);
        return Ok(newest.map(|(head, note)| Sealed { size: head.size, note: note.into() }));
    }
    let newest = proofs.newest()?;
    Ok(newest.map(|newest| {
        let same = anchored.iter().find_map(|(_, note)| Note::merged(&newest.note, note));
        Sealed { note: same.map_or(newest.note, Into::into), ..newest }
    }))
}

/// The checkpoints that anchors took last, each with all that was added to it. Nothing is verified.
fn anchored(log: &Path) -> Vec<(Checkpoint, String)> {
    let mut all: Vec<(Checkpoint, String)> = Vec::new();
    for note in kept_notes(log) {
        let Ok(head) = unverified(&note) else { continue };
        match all.iter_mut().find(|(known, _)| *known == head) {
            Some((_, known)) => *known = Note::merged(known, &note).unwrap_or(note),
            None => all.push((head, note)),
        }
    }
    all
}

/// The newest of them that the log's key and all these witnesses have signed.
fn witnessed(log: &Path, key: &Verifier, witnesses: &[Verifier]) -> Result<Checkpoint> {
    let good = |(_, note): (_, String)| {
        let head = Checkpoint::open(&note, key).ok()?;
        demand(&note, witnesses).ok().map(|()| head)
    };
    let newest = anchored(log).into_iter().filter_map(good).max_by_key(|head| head.size);
    newest.with_context(|| {
        let names: Vec<_> = witnesses.iter().map(Verifier::name).collect();
        format!("no checkpoint that {} signed is kept beside the log", names.join(" and "))
    })
}

fn demand(note: &str, witnesses: &[Verifier]) -> Result<(), NoteError> {
    let note = Note::parse(note)?;
    witnesses.iter().try_for_each(|witness| witness.verify(&note))
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
    let witnesses =
        args.witness.iter().map(String::as_str).map(verifier).collect::<Result<Vec<_>>>()?;
    let mut kept = match &args.since {
        Some(path) => {
            let note = read(path)?;
            let opened = Checkpoint::open(&note, &key);
            // A proof leads to another checkpoint, which is the one to be witnessed.
            let demanded = if args.proof.is_none() { demand(&note, &witnesses) } else { Ok(()) };
            let head = opened.and_then(|head| demanded.map(|()| head));
            Some(head.with_context(|| format!("the kept checkpoint {}", path.display()))?)
        }
        None => None,
    };
    if let (Some(exported), Some(proof)) = (&args.export, &args.proof) {
        return export::verify(exported, proof, &key, json);
    }
    if let Some(path) = &args.proof {
        return prove(&read(path)?, &key, &witnesses, kept.as_ref(), json);
    }
    let path = match &args.log {
        Some(path) => path.clone(),
        None => log()?,
    };
    if kept.is_none() && !witnesses.is_empty() {
        kept = Some(witnessed(&path, &key, &witnesses)?);
    }
    let question = Question {
        key: Some(&key),
        kept: kept.as_ref(),
        from: args.from.map(Seq),
        to: args.to.map(Seq),
    };
    let report = verify(&path, &question)?;
    tell(&report, args.key.is_none(), json)?;
    if let (Some(kept), None, false) = (&kept, &report.finding, json) {
        for witness in &witnesses {
            writeln!(
                io::stdout(),
                "{} signed for the first {} of them",
                witness.name(),
                kept.size
            )?;
        }
    }
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

fn prove(
    text: &str,
    key: &Verifier,
    witnesses: &[Verifier],
    kept: Option<&Checkpoint>,
    json: bool,
) -> Result<bool> {
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
    let opened = Checkpoint::open(checkpoint, key);
    let head = match opened.and_then(|head| demand(checkpoint, witnesses).map(|()| head)) {
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
    Ok(Checkpoint::of(&Note::parse(note)?)?)
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
