//! Proofs as files (c2sp.org/tlog-proof).
//!
//! Does not belong here: proving and verifying (`tree`).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{NoteError, hash};
use crate::tree::{Consistency, Inclusion};

const PROOF: &str = "c2sp.org/tlog-proof@v1";
const CONSISTENCY: &str = "chaperone/consistency-proof@v1";

/// A proof as a file, with the signed checkpoint that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProofFile {
    /// That a record is in the log (c2sp.org/tlog-proof).
    Inclusion {
        /// The record itself, which is the leaf.
        record: Vec<u8>,
        /// The proof.
        proof: Inclusion,
        /// The signed note.
        checkpoint: String,
    },
    /// That a log goes on from an earlier checkpoint. No form for this is agreed upon; this one is
    /// like the other.
    Consistency {
        /// The proof.
        proof: Consistency,
        /// The signed note.
        checkpoint: String,
    },
}

impl ProofFile {
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        const WHAT: NoteError = NoteError::Malformed("a proof");
        let (head, checkpoint) = text.split_once("\n\n").ok_or(WHAT)?;
        let mut lines = head.lines();
        let (kind, mut next) = (lines.next(), lines.next());
        let mut record = None;
        if let Some(extra) = next.and_then(|line| line.strip_prefix("extra ")) {
            record = Some(BASE64.decode(extra).map_err(|_| WHAT)?);
            next = lines.next();
        }
        let (word, number) = next.and_then(|line| line.split_once(' ')).ok_or(WHAT)?;
        let number: u64 = number.parse().map_err(|_| WHAT)?;
        let hashes = lines.map(|line| hash(line).ok_or(WHAT)).collect::<Result<Vec<_>, _>>()?;
        let checkpoint = checkpoint.to_owned();
        match (kind, word, record) {
            (Some(PROOF), "index", Some(record)) => {
                let proof = Inclusion { index: number, hashes };
                Ok(Self::Inclusion { record, proof, checkpoint })
            }
            (Some(CONSISTENCY), "old", None) => {
                Ok(Self::Consistency { proof: Consistency { old: number, hashes }, checkpoint })
            }
            _ => Err(WHAT),
        }
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hashes, checkpoint) = match self {
            Self::Inclusion { record, proof, checkpoint } => {
                writeln!(f, "{PROOF}\nextra {}\nindex {}", BASE64.encode(record), proof.index)?;
                (&proof.hashes, checkpoint)
            }
            Self::Consistency { proof, checkpoint } => {
                writeln!(f, "{CONSISTENCY}\nold {}", proof.old)?;
                (&proof.hashes, checkpoint)
            }
        };
        for hash in hashes {
            writeln!(f, "{}", BASE64.encode(hash))?;
        }
        write!(f, "\n{checkpoint}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_written_and_read() {
        let checkpoint = "h\n7\nroot\n\n— h AAAAAAA=\n".to_owned();
        let hashes = vec![[1; 32], [2; 32]];
        let inclusion = ProofFile::Inclusion {
            record: b"{}".to_vec(),
            proof: Inclusion { index: 5, hashes: hashes.clone() },
            checkpoint: checkpoint.clone(),
        };
        let consistency =
            ProofFile::Consistency { proof: Consistency { old: 3, hashes }, checkpoint };
        for proof in [inclusion, consistency] {
            assert_eq!(ProofFile::parse(&proof.to_string()), Ok(proof));
        }
        assert!(ProofFile::parse("c2sp.org/tlog-proof@v1\nindex x\n\n").is_err());
    }
}
