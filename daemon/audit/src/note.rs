//! Signed notes and checkpoints (c2sp.org/signed-note, c2sp.org/tlog-checkpoint).
//!
//! Does not belong here: when a checkpoint is made, and where it goes.

use std::fmt::{self, Write as _};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest as _, Sha256};

use crate::tree::Hash;

mod proof;

pub use proof::ProofFile;

/// The type of a signature: Ed25519 over the note's text.
const ED25519_TYPE: u8 = 1;
/// The type of a witness's signature: Ed25519 with a time (c2sp.org/tlog-cosignature).
const COSIGNATURE_TYPE: u8 = 4;
/// Signatures that are looked at.
const SIGNATURES: usize = 64;

/// What is wrong with a note, a key or a proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It has not the form.
    #[error("this is not {0}")]
    Malformed(&'static str),
    /// None of the signatures is by that key.
    #[error("it is not signed by {0}")]
    Unsigned(String),
    /// A signature says that it is by that key and is not.
    #[error("its signature by {0} is wrong")]
    WrongSignature(String),
    /// A key cannot be used.
    #[error("the key cannot be used: {0}")]
    Key(&'static str),
}

/// The key that signs checkpoints.
pub struct Signer {
    name: String,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier())
    }
}

impl Signer {
    /// From a PKCS#8 document.
    ///
    /// # Errors
    /// [`NoteError::Key`], also where the name is none that a key may have.
    pub fn from_pkcs8(name: &str, document: &[u8]) -> Result<Self, NoteError> {
        if !is_name(name) {
            return Err(NoteError::Key("its name is empty, or has a space or a plus sign in it"));
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document)
            .map_err(|_| NoteError::Key("it is not an Ed25519 key in a PKCS#8 document"))?;
        Ok(Self { name: name.into(), pair })
    }

    /// A new key, as a PKCS#8 document.
    ///
    /// # Errors
    /// [`NoteError::Key`] where the system gives no randomness.
    pub fn generate() -> Result<Vec<u8>, NoteError> {
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|_| NoteError::Key("the system gave no randomness"))
    }

    /// The key's name, which is the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that verifies.
    pub fn verifier(&self) -> Verifier {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        Verifier { name: self.name.clone(), kind: ED25519_TYPE, key }
    }

    /// A text, which ends with a line feed, with its signature.
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let id = self.verifier().id();
        let signature = BASE64.encode([&id[..], signature.as_ref()].concat());
        format!("{text}\n— {} {signature}\n", self.name)
    }
}

/// A key that verifies: of a log, or of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    kind: u8,
    key: [u8; 32],
}

impl Verifier {
    /// From `<name>+<id>+<key>`.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        const WHAT: NoteError = NoteError::Malformed("a verifier's key (<name>+<id>+<key>)");
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(WHAT);
        };
        let bytes = BASE64.decode(key).map_err(|_| WHAT)?;
        let [kind, key @ ..] = bytes.as_slice() else { return Err(WHAT) };
        if ![ED25519_TYPE, COSIGNATURE_TYPE].contains(kind) {
            return Err(NoteError::Key("only Ed25519 keys are known here"));
        }
        let key = key.try_into().map_err(|_| WHAT)?;
        let verifier = Self { name: name.into(), kind: *kind, key };
        if !is_name(name) || hex(&verifier.id()) != id {
            return Err(WHAT);
        }
        Ok(verifier)
    }

    /// A witness's key out of its 32 bytes.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn cosigner(name: &str, key: &[u8]) -> Result<Self, NoteError> {
        let key = key.try_into().map_err(|_| NoteError::Key("an Ed25519 key has 32 bytes"))?;
        if is_name(name) {
            Ok(Self { name: name.into(), kind: COSIGNATURE_TYPE, key })
        } else {
            Err(NoteError::Key("its name is empty, or has a space or a plus sign in it"))
        }
    }

    /// Whether it is a witness's.
    pub fn cosigns(&self) -> bool {
        self.kind == COSIGNATURE_TYPE
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of the hash of the name and the key.
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.kind])
            .chain_update(self.key)
            .finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// Whether a signature says that it is by this key.
    fn made(&self, signature: &Signature) -> bool {
        signature.name == self.name && signature.id == self.id()
    }

    /// Whether a note is signed by this key.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn verify(&self, note: &Note) -> Result<(), NoteError> {
        let key = UnparsedPublicKey::new(&ED25519, self.key);
        let mut found = false;
        for one in note.signatures.iter().filter(|s| self.made(s)) {
            let wrong = || NoteError::WrongSignature(self.name.clone());
            if self.kind == COSIGNATURE_TYPE {
                let (time, signature) = one.bytes.split_at_checked(8).ok_or_else(wrong)?;
                let time = time.try_into().map(u64::from_be_bytes).map_err(|_| wrong())?;
                let text = format!("cosignature/v1\ntime {time}\n{}", note.text);
                key.verify(text.as_bytes(), signature).map_err(|_| wrong())?;
            } else {
                key.verify(note.text.as_bytes(), &one.bytes).map_err(|_| wrong())?;
            }
            found = true;
        }
        if found { Ok(()) } else { Err(NoteError::Unsigned(self.name.clone())) }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode([&[self.kind][..], &self.key].concat());
        write!(f, "{}+{}+{key}", self.name, hex(&self.id()))
    }
}

/// A text with signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl Note {
    /// Takes it apart; nothing is verified yet.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        const WHAT: NoteError = NoteError::Malformed("a signed note");
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(WHAT);
        }
        let split = note.rfind("\n\n").ok_or(WHAT)?;
        let (text, signatures) = (&note[..=split], &note[split + 2..]);
        let signatures = signatures.strip_suffix('\n').ok_or(WHAT)?;
        let signatures = signatures.split('\n').map(|line| signature(line).ok_or(WHAT));
        let signatures = signatures.take(SIGNATURES).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { text: text.into(), signatures })
    }

    /// The text, with its last line feed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds to `note` the lines of `answer` that are good signatures by this key over its text, and
    /// none by others (c2sp.org/tlog-witness).
    ///
    /// # Errors
    /// [`NoteError`], also where there is no such line.
    pub fn cosigned(note: &str, answer: &str, key: &Verifier) -> Result<String, NoteError> {
        let own = Self::parse(note)?;
        let mut theirs = Self { text: own.text, signatures: Vec::new() };
        for line in answer.lines().take(SIGNATURES) {
            // Of another key, or of a kind that is not known here: it is no concern of ours.
            theirs.signatures.extend(signature(line).filter(|one| key.made(one)));
        }
        key.verify(&theirs)?;
        let lines = theirs.signatures.iter().map(|one| {
            let bytes = BASE64.encode([&one.id[..], &one.bytes].concat());
            format!("— {} {bytes}\n", one.name)
        });
        Ok(std::iter::once(note.to_owned()).chain(lines).collect())
    }

    /// Adds to `note` those lines of another note over the same text that it has not. They are not
    /// verified. `None` where the text is another.
    pub fn merged(note: &str, other: &str) -> Option<String> {
        let (own, theirs) = (Self::parse(note).ok()?, Self::parse(other).ok()?);
        let lines = other.get(theirs.text.len() + 1..)?.lines();
        let mut merged = note.to_owned();
        for line in lines {
            if !merged.lines().any(|known| known == line) {
                merged = merged + line + "\n";
            }
        }
        (own.text == theirs.text).then_some(merged)
    }
}

fn signature(line: &str) -> Option<Signature> {
    let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
    let bytes = BASE64.decode(signature).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    let named = is_name(name) && !signature.is_empty();
    named.then(|| Signature { name: name.into(), id: *id, bytes: signature.into() })
}

/// A head of the log: what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many records the tree has.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
}

impl Checkpoint {
    /// Out of a note that is verified first.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(note: &str, key: &Verifier) -> Result<Self, NoteError> {
        let note = Note::parse(note)?;
        key.verify(&note)?;
        let checkpoint = Self::of(&note)?;
        // A key signs its own log's heads alone.
        if checkpoint.origin == key.name {
            Ok(checkpoint)
        } else {
            Err(NoteError::Unsigned(checkpoint.origin))
        }
    }

    /// Out of a note that nobody has verified.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn of(note: &Note) -> Result<Self, NoteError> {
        const WHAT: NoteError = NoteError::Malformed("a checkpoint");
        let mut lines = note.text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(WHAT);
        };
        let count: u64 = size.parse().map_err(|_| WHAT)?;
        if origin.is_empty() || count.to_string() != size || lines.any(str::is_empty) {
            return Err(WHAT);
        }
        Ok(Self { origin: origin.into(), size: count, root: hash(root).ok_or(WHAT)? })
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }
}

fn hash(line: &str) -> Option<Hash> {
    BASE64.decode(line).ok()?.try_into().ok()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+' || c < ' ')
}

/// In hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of c2sp.org/signed-note.
    const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn p7_the_published_example_verifies_and_an_altered_one_does_not() {
        let key = Verifier::parse(KEY).expect("a key");
        assert_eq!(key.to_string(), KEY);
        let note = Note::parse(NOTE).expect("a note");
        assert_eq!(key.verify(&note), Ok(()));
        let altered = Note::parse(&NOTE.replace("example message", "examplE message"));
        let wrong = NoteError::WrongSignature("example.com/foo".into());
        assert_eq!(key.verify(&altered.expect("a note")), Err(wrong));
    }

    #[test]
    fn p7_a_checkpoint_is_believed_by_its_own_key_alone() {
        let sign = |name: &str| {
            let document = Signer::generate().expect("a key");
            Signer::from_pkcs8(name, &document).expect("a key")
        };
        let (signer, other) = (sign("host/log"), sign("host/log"));
        let checkpoint = Checkpoint { origin: "host/log".into(), size: 7, root: [3; 32] };
        let note = signer.sign(&checkpoint.text());
        assert_eq!(Checkpoint::open(&note, &signer.verifier()), Ok(checkpoint.clone()));
        // The same name, another key: no signature that is known.
        let refused = Checkpoint::open(&note, &other.verifier());
        assert_eq!(refused, Err(NoteError::Unsigned("host/log".into())));
        // A signature of another key under this key's id.
        let line = other.sign(&checkpoint.text()).lines().last().expect("a line").to_owned();
        let (_, signature) = line.rsplit_once(' ').expect("a signature");
        let bytes = BASE64.decode(signature).expect("base64");
        let forged = BASE64.encode([&signer.verifier().id()[..], &bytes[4..]].concat());
        let forged = format!("{}\n— host/log {forged}\n", checkpoint.text());
        let refused = Checkpoint::open(&forged, &signer.verifier());
        assert_eq!(refused, Err(NoteError::WrongSignature("host/log".into())));
        // Another log's head, signed with this key.
        let elsewhere = Checkpoint { origin: "other/log".into(), ..checkpoint };
        assert!(Checkpoint::open(&signer.sign(&elsewhere.text()), &signer.verifier()).is_err());
    }

    /// A cosignature as c2sp.org/tlog-cosignature has it, over a text.
    fn cosign(pair: &Ed25519KeyPair, key: &Verifier, text: &str) -> String {
        let time: u64 = 1_679_315_147;
        let signed = pair.sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes());
        let bytes = [&key.id()[..], &time.to_be_bytes(), signed.as_ref()].concat();
        format!("— {} {}\n", key.name(), BASE64.encode(bytes))
    }

    #[test]
    fn p7_a_witness_is_believed_for_what_it_signed_and_others_are_passed_over() {
        let pair = |document: &[u8]| Ed25519KeyPair::from_pkcs8(document).expect("a key");
        let pairs = [(); 2].map(|()| pair(&Signer::generate().expect("a key")));
        let [ours, other] = ["w.example/1", "w.example/2"];
        let key = Verifier::cosigner(ours, pairs[0].public_key().as_ref()).expect("a key");
        let stranger = Verifier::cosigner(other, pairs[1].public_key().as_ref()).expect("a key");
        assert_eq!(Verifier::parse(&key.to_string()), Ok(key.clone()));
        let signer = Signer::from_pkcs8("h", &Signer::generate().expect("a key")).expect("a key");
        let text = Checkpoint { origin: "h".into(), size: 7, root: [3; 32] }.text();
        let note = signer.sign(&text);
        let good = cosign(&pairs[0], &key, &text);
        let answer = format!("{}{good}no line\n", cosign(&pairs[1], &stranger, &text));
        let cosigned = Note::cosigned(&note, &answer, &key).expect("cosigned");
        assert_eq!(cosigned, format!("{note}{good}"));
        assert!(Checkpoint::open(&cosigned, &signer.verifier()).is_ok());
        // Over another text, by another key under this name, and not at all.
        let elsewhere = cosign(&pairs[0], &key, "h\n8\nAAAA\n");
        let forged = cosign(&pairs[1], &key, &text);
        for wrong in [elsewhere, forged] {
            let refused = Note::cosigned(&note, &wrong, &key);
            assert_eq!(refused, Err(NoteError::WrongSignature(ours.into())));
        }
        let missing = Note::cosigned(&note, &cosign(&pairs[1], &stranger, &text), &key);
        assert_eq!(missing, Err(NoteError::Unsigned(ours.into())));
        let both = Note::merged(&cosigned, &format!("{note}{answer}").replace("no line\n", ""));
        assert_eq!(both.expect("the same text").lines().count(), 7);
        assert_eq!(Note::merged(&note, &signer.sign("h\n8\nAAAA\n")), None);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let signer = Signer::from_pkcs8("h", &Signer::generate().expect("a key")).expect("a key");
        for text in ["h\n", "h\n07\n", "h\n7\nAAAA\n", "h\n-7\nAAAA\n", "\n7\n\n"] {
            let opened = Checkpoint::open(&signer.sign(text), &signer.verifier());
            assert!(opened.is_err(), "{text:?}");
        }
        for note in ["", "\n\n", "a\n\n", "a\n\n— h\n", "a\n\n— h AAAA\n", "a\r\n\n— h AAAAAAA=\n"]
        {
            assert!(Note::parse(note).is_err(), "{note:?}");
        }
        for key in ["", "a+b", "a+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"] {
            assert!(Verifier::parse(key).is_err(), "{key:?}");
        }
    }
}
