//! Keys: signing with one, and believing what another signed (RFC 4253, section 6.6; RFC 5656; RFC
//! 8332; RFC 8709; OpenSSH's PROTOCOL.certkeys).
//!
//! Does not belong here: which keys are trusted, and where they are kept.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
        ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RsaPublicKeyComponents, UnparsedPublicKey,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    Violation,
    codec::{Put, Reader},
};

/// What a certificate's algorithm ends with (PROTOCOL.certkeys).
const CERTIFIED: &str = "-cert-v01@openssh.com";
/// The algorithms of signatures that are believed, best first.
pub(crate) const SIGNATURES: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// Why a private key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is no private key, or a damaged one.
    #[error("this is no private key in OpenSSH's format: {0}")]
    Unreadable(String),
    /// It needs a passphrase.
    #[error(
        "the private key is locked with a passphrase, which a daemon cannot type: take it off with `ssh-keygen -p -N ''`"
    )]
    Locked,
    /// Of a kind that is not used for signing here.
    #[error("a private key of kind {0} is not used here: make one with `ssh-keygen -t ed25519`")]
    Kind(String),
}

enum Signer {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
}

/// A private key.
pub struct SecretKey {
    signer: Signer,
    algorithm: &'static str,
    public: PublicKey,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", self.public.fingerprint())
    }
}

impl SecretKey {
    /// An Ed25519 key from its seed (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// Where the seed is none.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let broken = |e: aws_lc_rs::error::KeyRejected| KeyError::Unreadable(e.to_string());
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(broken)?;
        let mut blob = Vec::new();
        blob.put_string(b"ssh-ed25519");
        blob.put_string(pair.public_key().as_ref());
        Ok(Self {
            signer: Signer::Ed25519(pair),
            algorithm: "ssh-ed25519",
            public: PublicKey(blob),
        })
    }

    /// A new Ed25519 key, and its seed.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn generate() -> Result<(Self, Zeroizing<[u8; 32]>), KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *seed)
            .map_err(|_| KeyError::Unreadable("there is no randomness".into()))?;
        Ok((Self::from_seed(&seed)?, seed))
    }

    /// Reads one in OpenSSH's format (PROTOCOL.key), which is not locked.
    ///
    /// # Errors
    /// A [`KeyError`].
    pub fn from_openssh(pem: &str) -> Result<Self, KeyError> {
        use ssh_key::private::{EcdsaKeypair, KeypairData};
        let key = ssh_key::PrivateKey::from_openssh(pem)
            .map_err(|error| KeyError::Unreadable(error.to_string()))?;
        if key.is_encrypted() {
            return Err(KeyError::Locked);
        }
        let ecdsa = |algorithm, name, private: &[u8], public: &[u8]| {
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public)
                .map(|pair| (Signer::Ecdsa(pair), name))
                .map_err(|error| KeyError::Unreadable(error.to_string()))
        };
        let (signer, algorithm) = match key.key_data() {
            KeypairData::Ed25519(pair) => {
                return Self::from_seed(&Zeroizing::new(pair.private.to_bytes()));
            }
            KeypairData::Ecdsa(EcdsaKeypair::NistP256 { public, private }) => ecdsa(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                "ecdsa-sha2-nistp256",
                private.as_slice(),
                public.as_bytes(),
            )?,
            KeypairData::Ecdsa(EcdsaKeypair::NistP384 { public, private }) => ecdsa(
                &ECDSA_P384_SHA384_FIXED_SIGNING,
                "ecdsa-sha2-nistp384",
                private.as_slice(),
                public.as_bytes(),
            )?,
            other => {
                let kind = other.algorithm().map_or("unknown".into(), |found| found.to_string());
                return Err(KeyError::Kind(kind));
            }
        };
        let public =
            key.public_key().to_bytes().map_err(|error| KeyError::Unreadable(error.to_string()))?;
        Ok(Self { signer, algorithm, public: PublicKey(public) })
    }

    /// The name of its kind, which is that of its signatures.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A signature as it stands in messages.
    ///
    /// # Errors
    /// Where there is no randomness for it.
    pub fn sign(&self, data: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut blob = Vec::new();
        blob.put_string(self.algorithm.as_bytes());
        match &self.signer {
            Signer::Ed25519(pair) => blob.put_string(pair.sign(data).as_ref()),
            Signer::Ecdsa(pair) => {
                let made = pair
                    .sign(&SystemRandom::new(), data)
                    .map_err(|_| KeyError::Unreadable("it does not sign".into()))?;
                let (r, s) = made.as_ref().split_at(made.as_ref().len() / 2);
                let mut both = Vec::new();
                both.put_mpint(r);
                both.put_mpint(s);
                blob.put_string(&both);
            }
        }
        Ok(blob)
    }
}

/// A public key as it stands in messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// From its bytes on the wire.
    pub fn new(blob: &[u8]) -> Self {
        Self(blob.into())
    }

    /// Its bytes on the wire.
    pub fn blob(&self) -> &[u8] {
        &self.0
    }

    /// The name of its kind.
    pub fn kind(&self) -> &str {
        Reader::new(&self.0).text().unwrap_or("unknown")
    }

    /// Its SHA-256, as OpenSSH shows it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.0)))
    }

    /// Whether this signature of these data is its. `algorithm`: by which the signature must be made.
    ///
    /// # Errors
    /// A [`Violation`]: it is not.
    pub fn verify(
        &self,
        algorithm: Option<&str>,
        data: &[u8],
        signature: &[u8],
    ) -> Result<(), Violation> {
        let wrong = || Violation::HostKey("a signature is not its key's".into());
        let mut read = Reader::new(signature);
        let (by, signature) = (read.text()?, read.string()?);
        read.end()?;
        if algorithm.is_some_and(|algorithm| algorithm != by) {
            return Err(wrong());
        }
        let mut key = Reader::new(&self.0);
        let kind = key.text()?;
        let ecdsa = |length: usize| -> Result<Vec<u8>, Violation> {
            let mut read = Reader::new(signature);
            let mut fixed = vec![0; 2 * length];
            for half in fixed.chunks_mut(length) {
                let number = read.string()?;
                let begin = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
                let number = &number[begin..];
                let place = length.checked_sub(number.len()).ok_or_else(wrong)?;
                half[place..].copy_from_slice(number);
            }
            read.end()?;
            Ok(fixed)
        };
        let verified = match (kind, by) {
            ("ssh-ed25519", "ssh-ed25519") => {
                UnparsedPublicKey::new(&ED25519, key.string()?).verify(data, signature)
            }
            ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                key.string()?;
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.string()?)
                    .verify(data, &ecdsa(32)?)
            }
            ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384") => {
                key.string()?;
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key.string()?)
                    .verify(data, &ecdsa(48)?)
            }
            ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521") => {
                key.string()?;
                UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, key.string()?)
                    .verify(data, &ecdsa(66)?)
            }
            ("ssh-rsa", "rsa-sha2-256" | "rsa-sha2-512") => {
                let (e, n) = (key.string()?, key.string()?);
                let (e, n) = (without_zeros(e), without_zeros(n));
                let by = if by == "rsa-sha2-256" {
                    &signature::RSA_PKCS1_2048_8192_SHA256
                } else {
                    &signature::RSA_PKCS1_2048_8192_SHA512
                };
                RsaPublicKeyComponents { n, e }.verify(by, data, signature)
            }
            _ => return Err(wrong()),
        };
        verified.map_err(|_| wrong())
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let begin = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[begin..]
}

/// What a host's certificate says, once its authority's signature is seen to be its.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Of which key.
    pub key: PublicKey,
    /// Whether it is a host's and not a person's.
    pub is_host: bool,
    /// What the authority calls it.
    pub key_id: String,
    /// For which names; none are all.
    pub principals: Vec<String>,
    /// From when on, in seconds since 1970.
    pub valid_after: u64,
    /// Until when.
    pub valid_before: u64,
    /// Whether it says something that must be understood, and is not.
    pub critical: bool,
    /// Who vouches for it.
    pub authority: PublicKey,
}

impl Certificate {
    /// Reads one and verifies its signature.
    pub(crate) fn read(blob: &[u8]) -> Result<Self, Violation> {
        let mut read = Reader::new(blob);
        let algorithm = read.text()?;
        let kind = algorithm.strip_suffix(CERTIFIED).ok_or(Violation::Short)?;
        let _nonce = read.string()?;
        let mut key = Vec::new();
        key.put_string(kind.as_bytes());
        // The fields of the plain key, as many as its kind has.
        for _ in 0..if kind == "ssh-ed25519" { 1 } else { 2 } {
            key.put_string(read.string()?);
        }
        let _serial = read.u64()?;
        let is_host = read.u32()? == 2;
        let key_id = read.text()?.to_owned();
        let mut names = Reader::new(read.string()?);
        let mut principals = Vec::new();
        while !names.rest().is_empty() {
            principals.push(names.text()?.to_owned());
        }
        let (valid_after, valid_before) = (read.u64()?, read.u64()?);
        let critical = !read.string()?.is_empty();
        let _extensions = read.string()?;
        let _reserved = read.string()?;
        let authority = PublicKey::new(read.string()?);
        let signed = blob.len() - read.rest().len();
        let signature = read.string()?;
        read.end()?;
        if authority.kind().ends_with(CERTIFIED) {
            return Err(Violation::HostKey("an authority is itself certified".into()));
        }
        authority.verify(None, blob.get(..signed).unwrap_or_default(), signature)?;
        Ok(Self {
            key: PublicKey(key),
            is_host,
            key_id,
            principals,
            valid_after,
            valid_before,
            critical,
            authority,
        })
    }
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Certify<'a> {
    /// Of which key; Ed25519 alone.
    pub key: &'a PublicKey,
    /// A host's, or a person's.
    pub is_host: bool,
    /// What it is called, in logs of servers.
    pub key_id: &'a str,
    /// For which names.
    pub principals: &'a [String],
    /// From when on, in seconds since 1970.
    pub valid_after: u64,
    /// Until when.
    pub valid_before: u64,
    /// What a person's may be used for (PROTOCOL.certkeys, "extensions").
    pub extensions: &'a [&'a str],
}

impl Certify<'_> {
    /// Makes it.
    ///
    /// # Errors
    /// Where the key is of another kind, or there is no randomness.
    pub fn by(&self, authority: &SecretKey) -> Result<Vec<u8>, KeyError> {
        let wrong = || KeyError::Kind(self.key.kind().into());
        let mut key = Reader::new(self.key.blob());
        if key.text().map_err(|_| wrong())? != "ssh-ed25519" {
            return Err(wrong());
        }
        let mut nonce = [0; 32];
        let mut serial = [0; 8];
        for random in [&mut nonce[..], &mut serial[..]] {
            aws_lc_rs::rand::fill(random)
                .map_err(|_| KeyError::Unreadable("there is no randomness".into()))?;
        }
        let mut blob = Vec::new();
        blob.put_string(format!("ssh-ed25519{CERTIFIED}").as_bytes());
        blob.put_string(&nonce);
        blob.put_string(key.string().map_err(|_| wrong())?);
        blob.put(&serial);
        blob.put_u32(if self.is_host { 2 } else { 1 });
        blob.put_string(self.key_id.as_bytes());
        let mut names = Vec::new();
        for name in self.principals {
            names.put_string(name.as_bytes());
        }
        blob.put_string(&names);
        blob.put_u64(self.valid_after);
        blob.put_u64(self.valid_before);
        blob.put_string(b"");
        let mut extensions = Vec::new();
        for name in self.extensions {
            extensions.put_string(name.as_bytes());
            extensions.put_string(b"");
        }
        blob.put_string(&extensions);
        blob.put_string(b"");
        blob.put_string(authority.public().blob());
        let signature = authority.sign(&blob)?;
        blob.put_string(&signature);
        Ok(blob)
    }
}

/// The key that a host shows, and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// The plain key, which has signed.
    pub key: PublicKey,
    /// The certificate that it came with.
    pub certificate: Option<Certificate>,
}

impl HostKey {
    /// Reads what a server shows, under the algorithm that was agreed on, and verifies its signature
    /// of the exchange.
    pub(crate) fn read(
        algorithm: &str,
        blob: &[u8],
        hash: &[u8],
        signature: &[u8],
    ) -> Result<Self, Violation> {
        let (by, certificate) = match algorithm.strip_suffix(CERTIFIED) {
            Some(by) => (by, Some(Certificate::read(blob)?)),
            None => (algorithm, None),
        };
        let key = certificate.as_ref().map_or_else(|| PublicKey::new(blob), |c| c.key.clone());
        key.verify(Some(by), hash, signature)?;
        Ok(Self { key, certificate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_and_one_that_was_altered_is_not() {
        let (authority, _) = SecretKey::generate().expect("a key");
        let (host, _) = SecretKey::generate().expect("a key");
        let certify = Certify {
            key: host.public(),
            is_host: true,
            key_id: "web",
            principals: &["web.internal".into(), "10.0.0.9".into()],
            valid_after: 10,
            valid_before: 20,
            extensions: &[],
        };
        let blob = certify.by(&authority).expect("made");
        let read = Certificate::read(&blob).expect("read");
        assert_eq!((&read.key, &read.authority), (host.public(), authority.public()));
        assert_eq!(read.principals, ["web.internal", "10.0.0.9"]);
        assert!(read.is_host && !read.critical);
        for place in 0..blob.len() {
            let mut altered = blob.clone();
            altered[place] ^= 1;
            assert!(Certificate::read(&altered).is_err(), "{place}");
        }
    }

    #[test]
    fn a_signature_is_of_its_key_and_data() {
        let (key, _) = SecretKey::generate().expect("a key");
        let (other, _) = SecretKey::generate().expect("a key");
        let signature = key.sign(b"data").expect("signed");
        assert!(key.public().verify(Some("ssh-ed25519"), b"data", &signature).is_ok());
        assert!(key.public().verify(Some("rsa-sha2-512"), b"data", &signature).is_err());
        assert!(key.public().verify(None, b"date", &signature).is_err());
        assert!(other.public().verify(None, b"data", &signature).is_err());
    }
}
