//! The file beside an export that proves each exported record: one line of JSON with the newest
//! checkpoint, then one a record with its place, its leaf's hash and the path to the checkpoint's
//! root (RFC 6962, 2.1.1), hashes in hexadecimal.
//!
//! Does not belong here: comparing it with the export (`verify`).

use std::{
    collections::VecDeque,
    io::{BufRead, Write},
};

use anyhow::{Context as _, Result, bail};
use chaperone_audit::{
    Proofs, Sealed,
    note::{Checkpoint, Verifier},
    tree::{Hash, Inclusion},
};
use chaperone_model::{Digest, Seq};
use serde::{Deserialize, Serialize};

use super::item::{Exported, hex};

/// Records that are remembered as proven: what many items refer to is proven once for most.
const REMEMBERED: usize = 4096;
/// What the first line says of the rest.
const FORM: &str = "chaperone/export-proof@v1";

#[derive(Serialize, Deserialize)]
struct Head {
    form: String,
    checkpoint: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    seq: u64,
    leaf: String,
    path: Vec<String>,
}

/// Writes it.
pub(crate) struct Writer<W: Write> {
    out: W,
    proofs: Proofs,
    head: Sealed,
    known: VecDeque<u64>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(mut out: W, proofs: Proofs, head: Sealed) -> Result<Self> {
        let first = Head { form: FORM.into(), checkpoint: head.note.to_string() };
        line(&mut out, &first)?;
        Ok(Self { out, proofs, head, known: VecDeque::new() })
    }

    /// Proves all records of an item.
    pub(crate) fn put(&mut self, exported: &Exported) -> Result<()> {
        let (own, records) = match exported {
            Exported::Session(session) => ([Some(session.row.id), None], &session.records),
            Exported::Hold(hold) => ([None, None], &hold.records),
            Exported::Command(item) => {
                let command = &item.part.command;
                ([Some(command.id), command.outcome], &item.records)
            }
        };
        let numbers = own.into_iter().flatten().chain(records.iter().map(|record| record.seq));
        for seq in numbers {
            self.prove(seq)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }

    fn prove(&mut self, seq: u64) -> Result<()> {
        // A session or a hold may have gone on since the checkpoint.
        if self.known.contains(&seq) || seq > self.head.size {
            return Ok(());
        }
        // Where the records of a file are no longer kept its hashes are.
        let Some(leaf) = self.proofs.leaf(Seq(seq))? else { return Ok(()) };
        let Some(proof) = self.proofs.path(Seq(seq), &self.head)? else { return Ok(()) };
        let path = proof.hashes.iter().map(hex).collect();
        line(&mut self.out, &Line { seq, leaf: hex(&leaf), path })?;
        self.known.push_back(seq);
        if self.known.len() > REMEMBERED {
            self.known.pop_front();
        }
        Ok(())
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(std::io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

/// What a file of proofs proves.
pub(crate) struct Proven {
    /// The head that all of it is under.
    pub(crate) head: Checkpoint,
    leaves: std::collections::HashMap<u64, Hash>,
}

impl Proven {
    /// Reads and verifies all of it.
    pub(crate) fn read(file: impl BufRead, key: &Verifier) -> Result<Self> {
        let mut lines = file.lines();
        let first = lines.next().context("the file of proofs is empty")??;
        let first: Head = serde_json::from_str(&first).context("this is no file of proofs")?;
        if first.form != FORM {
            bail!("this is no file of proofs: it is {}", first.form);
        }
        let head = Checkpoint::open(&first.checkpoint, key)?;
        let mut leaves = std::collections::HashMap::new();
        for text in lines {
            let line: Line = serde_json::from_str(&text?).context("this is no file of proofs")?;
            let leaf = unhex(&line.leaf)?;
            let hashes = line.path.iter().map(|hash| unhex(hash)).collect::<Result<_>>()?;
            let index = line.seq.checked_sub(1).context("there is no record 0")?;
            Inclusion { index, hashes }
                .verify(&leaf, head.size, &head.root)
                .with_context(|| format!("the proof of record {}", line.seq))?;
            leaves.insert(line.seq, leaf);
        }
        Ok(Self { head, leaves })
    }

    /// The leaf of a record that it proves.
    pub(crate) fn leaf(&self, seq: u64) -> Option<&Hash> {
        self.leaves.get(&seq)
    }
}

/// Out of hexadecimal.
pub(crate) fn unhex(text: &str) -> Result<Hash> {
    match text.parse::<Digest>() {
        Ok(digest) => Ok(digest.0),
        Err(()) => bail!("{text:?} is no hash"),
    }
}
