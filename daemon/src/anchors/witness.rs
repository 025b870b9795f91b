//! A witness (c2sp.org/tlog-witness): it signs a checkpoint only where the log goes on from the one
//! that it signed before.
//!
//! Does not belong here: what a cosignature is (`chaperone-audit`).

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chaperone_audit::{
    Proofs, Sealed,
    note::{Note, Verifier},
};

use super::{Failure, Place};
use crate::outbound;

/// How often it may say that it knows another checkpoint than we think, in one go.
const ROUNDS: usize = 3;
/// Longest answer, in bytes.
const LONGEST: u64 = 64 << 10;

pub(super) struct Witness {
    url: String,
    key: Verifier,
    log: PathBuf,
    agent: ureq::Agent,
}

impl Witness {
    pub(super) fn new(prefix: &str, key: Verifier, log: &Path) -> Self {
        let url = format!("{prefix}/add-checkpoint");
        Self { url, key, log: log.into(), agent: outbound::client() }
    }

    fn post(&self, body: String) -> Result<(u16, String), Failure> {
        let request = self.agent.post(&self.url).config().http_status_as_error(false).build();
        let mut answer = request.send(body).map_err(Failure::later)?;
        let text = answer.body_mut().with_config().limit(LONGEST).read_to_string();
        Ok((answer.status().as_u16(), text.map_err(Failure::later)?))
    }

    /// The request that asks for a cosignature, from the checkpoint over `old` records on.
    fn request(&self, head: &Sealed, old: u64) -> Result<String, Failure> {
        let proofs = Proofs::open(&self.log).map_err(Failure::later)?;
        if let Some(proof) = proofs.consistency(old, head).map_err(Failure::later)? {
            return Ok(body(old, &proof.hashes, head));
        }
        let size = proofs.size().map_err(Failure::later)?;
        let what = format!("the witness has signed a checkpoint over {old} records");
        Err(if size < old {
            Failure::Refused(format!("{what}, and the log has {size}: it was set back"))
        } else {
            // After a power cut the newest checkpoint can be an older one, for a moment.
            Failure::Later(format!("{what}, and the newest here is over {}", head.size))
        })
    }
}

fn body(old: u64, hashes: &[[u8; 32]], head: &Sealed) -> String {
    let mut body = format!("old {old}\n");
    for hash in hashes {
        body += &BASE64.encode(hash);
        body.push('\n');
    }
    body.push('\n');
    body + &head.note
}

impl Place for Witness {
    fn take(&mut self, head: &Sealed, last: u64) -> Result<String, Failure> {
        let mut old = last;
        for _ in 0..ROUNDS {
            let (status, text) = self.post(self.request(head, old)?)?;
            match status {
                200 => {
                    let cosigned = Note::cosigned(&head.note, &text, &self.key);
                    return cosigned.map_err(|error| {
                        Failure::Later(format!("the witness's answer is not believed: {error}"))
                    });
                }
                // It remembers another checkpoint than we do, and says which.
                409 => {
                    old = size(&text).filter(|size| *size != old).ok_or_else(|| {
                        Failure::Later("the witness says 409 and not a size that helps".into())
                    })?;
                }
                422 => {
                    return Err(Failure::Refused(format!(
                        "the witness finds that the log does not go on from the checkpoint over {old} records that it signed (422): records were altered or removed{}",
                        said(&text)
                    )));
                }
                404 => return Err(no(status, "does not know this log", &text)),
                403 => return Err(no(status, "does not know the log's key", &text)),
                _ => return Err(no(status, "did not sign", &text)),
            }
        }
        Err(Failure::Later("the witness says each time that it knows another checkpoint".into()))
    }
}

fn no(status: u16, what: &str, text: &str) -> Failure {
    Failure::Later(format!("the witness {what} ({status}){}", said(text)))
}

/// The first line of what it said.
fn said(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

/// A size in decimal and a line feed.
fn size(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('\n')?;
    let size: u64 = digits.parse().ok()?;
    (size.to_string() == digits).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_the_specification_has_it() {
        let head = Sealed { size: 9, note: "h\n9\nroot\n\n— h sig\n".into() };
        assert_eq!(body(0, &[], &head), "old 0\n\nh\n9\nroot\n\n— h sig\n");
        let first = BASE64.encode([1; 32]);
        let second = BASE64.encode([2; 32]);
        assert_eq!(
            body(7, &[[1; 32], [2; 32]], &head),
            format!("old 7\n{first}\n{second}\n\nh\n9\nroot\n\n— h sig\n")
        );
    }

    #[test]
    fn only_a_size_is_a_size() {
        assert_eq!(size("20852014\n"), Some(20_852_014));
        assert_eq!(size("0\n"), Some(0));
        for text in ["", "7", "07\n", "+7\n", "-1\n", "7\n\n", "7\r\n", "99999999999999999999\n"] {
            assert_eq!(size(text), None, "{text:?}");
        }
    }
}
