//! Exchanging keys (RFC 4253, section 8; RFC 5656; RFC 8731; draft-ietf-sshm-mlkem-hybrid-kex), and
//! what is made of them (RFC 4253, section 7.2).

use aws_lc_rs::{
    agreement::{self, ECDH_P256, ECDH_P384, EphemeralPrivateKey, UnparsedPublicKey, X25519},
    digest::{self, SHA256, SHA384},
    kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768},
    rand::SystemRandom,
};
use zeroize::Zeroizing;

use super::{
    super::{
        Violation,
        codec::{Put, Reader},
    },
    cipher::{Cipher, Mac, Material},
};

/// The bytes of an ML-KEM-768 encapsulation key and ciphertext (FIPS 203, table 3).
const ENCAPSULATION: usize = 1184;
const CIPHERTEXT: usize = 1088;

/// A method by its name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    MlKem768X25519,
    Curve25519,
    NistP256,
    NistP384,
}

impl Method {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("mlkem768x25519-sha256", Self::MlKem768X25519),
        ("curve25519-sha256", Self::Curve25519),
        ("curve25519-sha256@libssh.org", Self::Curve25519),
        ("ecdh-sha2-nistp256", Self::NistP256),
        ("ecdh-sha2-nistp384", Self::NistP384),
    ];

    fn curve(self) -> &'static agreement::Algorithm {
        match self {
            Self::MlKem768X25519 | Self::Curve25519 => &X25519,
            Self::NistP256 => &ECDH_P256,
            Self::NistP384 => &ECDH_P384,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        if self == Self::NistP384 { &SHA384 } else { &SHA256 }
    }
}

const FAILED: Violation = Violation::Exchange("a key was made in a wrong way");

/// The client's half, until the server's comes.
pub(crate) struct Asked {
    method: Method,
    private: EphemeralPrivateKey,
    kem: Option<DecapsulationKey>,
    /// What was sent.
    pub(crate) public: Vec<u8>,
}

/// The secret that both have, as it is hashed.
pub(crate) struct Secret {
    method: Method,
    encoded: Zeroizing<Vec<u8>>,
}

impl Asked {
    pub(crate) fn new(method: Method) -> Result<Self, Violation> {
        let private = EphemeralPrivateKey::generate(method.curve(), &SystemRandom::new())
            .map_err(|_| FAILED)?;
        let point = private.compute_public_key().map_err(|_| FAILED)?;
        let (mut public, mut kem) = (Vec::new(), None);
        if method == Method::MlKem768X25519 {
            let key = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| FAILED)?;
            let shown =
                key.encapsulation_key().and_then(|k| k.key_bytes().map(|b| b.as_ref().to_vec()));
            public = shown.map_err(|_| FAILED)?;
            kem = Some(key);
        }
        public.put(point.as_ref());
        Ok(Self { method, private, kem, public })
    }

    /// The server's half has come.
    pub(crate) fn answered(self, answer: &[u8]) -> Result<Secret, Violation> {
        let (first, point) = match &self.kem {
            None => (None, answer),
            Some(kem) => {
                let (sealed, point) = answer.split_at_checked(CIPHERTEXT).ok_or(FAILED)?;
                let secret = kem.decapsulate(Ciphertext::from(sealed)).map_err(|_| FAILED)?;
                (Some(Zeroizing::new(secret.as_ref().to_vec())), point)
            }
        };
        Secret::new(self.method, self.private, point, first.as_ref())
    }
}

/// The server's half, to a client's.
pub(crate) fn answer(method: Method, asked: &[u8]) -> Result<(Vec<u8>, Secret), Violation> {
    let private =
        EphemeralPrivateKey::generate(method.curve(), &SystemRandom::new()).map_err(|_| FAILED)?;
    let own = private.compute_public_key().map_err(|_| FAILED)?;
    let (mut public, mut first, mut point) = (Vec::new(), None, asked);
    if method == Method::MlKem768X25519 {
        let (key, rest) = asked.split_at_checked(ENCAPSULATION).ok_or(FAILED)?;
        let key = EncapsulationKey::new(&ML_KEM_768, key).map_err(|_| FAILED)?;
        let (sealed, secret) = key.encapsulate().map_err(|_| FAILED)?;
        public = sealed.as_ref().to_vec();
        first = Some(Zeroizing::new(secret.as_ref().to_vec()));
        point = rest;
    }
    public.put(own.as_ref());
    Ok((public, Secret::new(method, private, point, first.as_ref())?))
}

impl Secret {
    fn new(
        method: Method,
        private: EphemeralPrivateKey,
        point: &[u8],
        first: Option<&Zeroizing<Vec<u8>>>,
    ) -> Result<Self, Violation> {
        let point = UnparsedPublicKey::new(method.curve(), point);
        let encoded = agreement::agree_ephemeral(private, point, FAILED, |shared| {
            // The curve's neutral element is a secret that everybody knows (RFC 8731, section 3).
            if shared.iter().all(|byte| *byte == 0) {
                return Err(FAILED);
            }
            let mut encoded = Zeroizing::new(Vec::new());
            match first {
                None => encoded.put_mpint(shared),
                Some(first) => {
                    let both = Zeroizing::new([first.as_slice(), shared].concat());
                    encoded.put_string(digest::digest(&SHA256, &both).as_ref());
                }
            }
            Ok(encoded)
        })?;
        Ok(Self { method, encoded })
    }

    /// What both sides sign and take as the session's identifier: a hash over all that was said.
    pub(crate) fn hash(&self, said: &[&[u8]]) -> Vec<u8> {
        let mut all = Zeroizing::new(Vec::new());
        for part in said {
            all.put_string(part);
        }
        all.put(&self.encoded);
        digest::digest(self.method.digest(), &all).as_ref().to_vec()
    }

    /// A key of so many bytes.
    fn key(&self, letter: u8, hash: &[u8], session: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
        // Grown at once: what a vector leaves behind when it grows is not wiped.
        let mut key = Zeroizing::new(Vec::with_capacity(length + digest::MAX_OUTPUT_LEN));
        while key.len() < length {
            let mut context = digest::Context::new(self.method.digest());
            context.update(&self.encoded);
            context.update(hash);
            if key.is_empty() {
                context.update(&[letter]);
                context.update(session);
            } else {
                context.update(&key);
            }
            key.put(context.finish().as_ref());
        }
        key.truncate(length);
        key
    }

    /// The keys of a direction, whose letters begin with this one: `A` from the client, `B` from the
    /// server.
    pub(crate) fn material(
        &self,
        letter: u8,
        (cipher, mac): (Cipher, Option<Mac>),
        hash: &[u8],
        session: &[u8],
    ) -> Material {
        let key = |step, length| self.key(letter + step, hash, session, length);
        Material {
            cipher,
            mac,
            iv: key(0, cipher.iv_length()),
            key: key(2, cipher.key_length()),
            mac_key: key(4, mac.map_or(0, Mac::length)),
        }
    }
}

/// Reads one string that is all of a message.
pub(crate) fn only_string(message: &[u8]) -> Result<&[u8], Violation> {
    let mut read = Reader::new(message.get(1..).ok_or(Violation::Short)?);
    let string = read.string()?;
    read.end()?;
    Ok(string)
}
