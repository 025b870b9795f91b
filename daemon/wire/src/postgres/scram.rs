//! SCRAM-SHA-256 as a client (RFC 5802, RFC 7677, RFC 5929 for `tls-server-end-point`), as
//! PostgreSQL speaks it (sasl-authentication).
//!
//! Of our own, because libraries keep copies of the password that they do not wipe.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::salted::{Challenge, Derived, SaltedKeys};

/// Bytes of randomness in our nonce; as many as PostgreSQL's own (`SCRAM_RAW_NONCE_LEN`).
pub const NONCE: usize = 18;
/// A server that asks for more would make us work for long.
const MOST_ITERATIONS: u32 = 100_000;
/// PostgreSQL's own number. Whoever may be another server could have a proof of fewer, with a salt
/// of its choice, and try passwords against it.
const LEAST_UNVERIFIED: u32 = 4096;

/// Whether the exchange is bound to the TLS connection that it runs over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// There is no TLS, or it gives nothing to bind to.
    Impossible,
    /// It could be, and the server does not offer it.
    NotOffered,
    /// To the hash of the server's certificate (RFC 5929, section 4).
    ServerEndPoint(Vec<u8>),
}

impl Binding {
    fn header(&self) -> &'static [u8] {
        match self {
            Self::Impossible => b"n,,",
            Self::NotOffered => b"y,,",
            Self::ServerEndPoint(_) => b"p=tls-server-end-point,,",
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::ServerEndPoint(hash) => hash,
            Self::Impossible | Self::NotOffered => b"",
        }
    }
}

/// The first message has been sent.
pub(super) struct First {
    binding: Binding,
    nonce: String,
    /// What the server will ask for, where it was derived already.
    pub(super) derived: Option<Derived>,
}

/// The proof has been sent; the server's is due.
pub(super) struct Proven {
    server: Hmac<Sha256>,
}

/// Why an exchange cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScramError {
    #[error("it broke the rules of SCRAM")]
    Malformed,
    #[error("its nonce does not go on from ours")]
    Nonce,
    #[error(
        "it asks for {0} iterations, and chaperone computes 1 to {MOST_ITERATIONS}: set the password again with another `scram_iterations`"
    )]
    Iterations(u32),
    #[error(
        "it asks for {0} iterations, and chaperone computes no fewer than {LEAST_UNVERIFIED} for a server that is not verified"
    )]
    Few(u32),
    #[error(
        "it could not prove that it knows the password: it may not be the server that it seems to be"
    )]
    Unproven,
}

impl First {
    /// Begins; answers the client-first-message. The user's name stays empty: the server takes it
    /// from the start-up message.
    pub(super) fn begin(binding: Binding, nonce: &[u8; NONCE]) -> (Self, Vec<u8>) {
        let nonce = BASE64.encode(nonce);
        let mut message = binding.header().to_vec();
        message.extend_from_slice(b"n=,r=");
        message.extend_from_slice(nonce.as_bytes());
        (Self { binding, nonce, derived: None }, message)
    }

    /// What the server-first-message asks to be derived, and the nonce. `verified`: the server has
    /// proven by TLS who it is.
    pub(super) fn read<'a>(
        &self,
        server_first: &'a [u8],
        verified: bool,
    ) -> Result<(Challenge, &'a str), ScramError> {
        let text = std::str::from_utf8(server_first).map_err(|_| ScramError::Malformed)?;
        let mut fields = text.split(',');
        let mut field = |name: &str| {
            fields.next().and_then(|field| field.strip_prefix(name)).ok_or(ScramError::Malformed)
        };
        let (nonce, salt, iterations) = (field("r=")?, field("s=")?, field("i=")?);
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let salt = BASE64.decode(salt).map_err(|_| ScramError::Malformed)?;
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Malformed)?;
        if !(1..=MOST_ITERATIONS).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        if !verified && iterations < LEAST_UNVERIFIED {
            return Err(ScramError::Few(iterations));
        }
        Ok((Challenge { salt, iterations }, nonce))
    }

    /// Takes the server-first-message; answers the client-final-message. Thousands of hashes where
    /// `keys` do not have what it asks for.
    pub(super) fn prove(
        mut self,
        server_first: &[u8],
        password: &SecretString,
        keys: &SaltedKeys,
        verified: bool,
    ) -> Result<(Proven, Vec<u8>), ScramError> {
        let (challenge, nonce) = self.read(server_first, verified)?;
        let derived = self.derived.take().filter(|derived| derived.challenge == challenge);
        let derived = derived.unwrap_or_else(|| keys.derive(password, challenge));
        let salted = derived.key();
        let bound = [self.binding.header(), self.binding.data()].concat();
        let mut message = format!("c={},r={nonce}", BASE64.encode(bound)).into_bytes();

        let first_bare = format!("n=,r={}", self.nonce);
        let signed = [first_bare.as_bytes(), b",", server_first, b",", &message].concat();
        let client_key = mac(salted.as_slice(), b"Client Key");
        let client_key = Zeroizing::new(<[u8; 32]>::from(client_key.finalize().into_bytes()));
        let stored_key = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(client_key.as_slice())));
        let signature = mac(stored_key.as_slice(), &signed).finalize().into_bytes();
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(k, s)| k ^ s).collect();
        message.extend_from_slice(b",p=");
        message.extend_from_slice(BASE64.encode(proof).as_bytes());

        let server_key = mac(salted.as_slice(), b"Server Key");
        let server_key = Zeroizing::new(<[u8; 32]>::from(server_key.finalize().into_bytes()));
        Ok((Proven { server: mac(server_key.as_slice(), &signed) }, message))
    }
}

impl Proven {
    /// Takes the server-final-message.
    pub(super) fn finish(self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = std::str::from_utf8(server_final).map_err(|_| ScramError::Malformed)?;
        let proof = text.strip_prefix("v=").ok_or(ScramError::Malformed)?;
        let proof = proof.split(',').next().unwrap_or_default();
        let proof = BASE64.decode(proof).map_err(|_| ScramError::Malformed)?;
        self.server.verify_slice(&proof).map_err(|_| ScramError::Unproven)
    }

    /// The server-final-message of a server that knows the password.
    #[cfg(test)]
    pub(super) fn expected(&self) -> Vec<u8> {
        format!("v={}", BASE64.encode(self.server.clone().finalize().into_bytes())).into_bytes()
    }
}

fn mac(key: &[u8], data: &[u8]) -> Hmac<Sha256> {
    // An HMAC takes keys of any length.
    #[expect(clippy::expect_used, reason = "`InvalidLength` cannot happen for HMAC")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(data);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3, with PostgreSQL's empty name the proofs differ: the key derivation is
    /// what the example proves.
    #[test]
    fn the_rfcs_salted_password_is_ours() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let challenge = Challenge { salt, iterations: 4096 };
        let derived = SaltedKeys::default().derive(&SecretString::from("pencil"), challenge);
        let salted = derived.key();
        let signed = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                      r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                      s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                      c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let key = mac(salted.as_slice(), b"Server Key").finalize().into_bytes();
        let proof = mac(&key, signed.as_bytes()).finalize().into_bytes();
        assert_eq!(BASE64.encode(proof), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    fn prove(
        first: First,
        server_first: &[u8],
        verified: bool,
    ) -> Result<(Proven, Vec<u8>), ScramError> {
        first.prove(server_first, &SecretString::from("p"), &SaltedKeys::default(), verified)
    }

    fn server_first(first: &[u8], more: &str) -> String {
        let text = String::from_utf8(first.to_vec()).expect("text");
        let (_, nonce) = text.split_once("r=").expect("nonce");
        format!("r={nonce}{more}")
    }

    #[test]
    fn a_server_that_does_not_play_by_the_rules_is_refused() {
        let believe = |more: &str, verified| {
            let (first, message) = First::begin(Binding::Impossible, &[7; NONCE]);
            prove(first, server_first(&message, more).as_bytes(), verified).map(|_| ())
        };
        let try_with = |more: &str| believe(more, true);
        assert_eq!(try_with("x,s=AAAA,i=1"), Ok(()));
        assert_eq!(try_with("x,s=AAAA,i=100000"), Ok(()));
        assert_eq!(try_with("x,s=AAAA,i=100001"), Err(ScramError::Iterations(100_001)));
        assert_eq!(try_with(",s=AAAA,i=4096"), Err(ScramError::Nonce), "nothing of the server's");
        assert_eq!(try_with("x,s=AAAA,i=0"), Err(ScramError::Iterations(0)));
        assert_eq!(try_with("x,s=AAAA,i=2000000000"), Err(ScramError::Iterations(2_000_000_000)));
        assert_eq!(try_with("x,s=*,i=4096"), Err(ScramError::Malformed));
        assert_eq!(try_with("x,i=4096,s=AAAA"), Err(ScramError::Malformed));
        let (first, _) = First::begin(Binding::Impossible, &[7; NONCE]);
        assert!(prove(first, b"r=another,s=AAAA,i=4096", true).is_err());

        assert_eq!(believe("x,s=AAAA,i=1", false), Err(ScramError::Few(1)));
        assert_eq!(believe("x,s=AAAA,i=4095", false), Err(ScramError::Few(4095)));
        assert_eq!(believe("x,s=AAAA,i=4096", false), Ok(()));
    }

    #[test]
    fn p6_a_server_that_does_not_know_the_password_is_found_out() {
        let (first, message) = First::begin(Binding::NotOffered, &[7; NONCE]);
        assert!(message.starts_with(b"y,,n=,r="));
        let server = server_first(&message, "x,s=AAAA,i=10");
        let (proven, _) = prove(first, server.as_bytes(), true).expect("valid");
        let wrong = format!("v={}", BASE64.encode([0; 32]));
        assert_eq!(proven.finish(wrong.as_bytes()), Err(ScramError::Unproven));
    }

    #[test]
    fn the_binding_is_in_the_final_message() {
        let (first, message) = First::begin(Binding::ServerEndPoint(b"hash".to_vec()), &[7; NONCE]);
        assert!(message.starts_with(b"p=tls-server-end-point,,n=,r="));
        let server = server_first(&message, "x,s=AAAA,i=10");
        let (_, last) = prove(first, server.as_bytes(), true).expect("valid");
        let expected = format!("c={},", BASE64.encode("p=tls-server-end-point,,hash"));
        assert!(last.starts_with(expected.as_bytes()));
    }
}
