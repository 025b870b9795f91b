//! What SCRAM derives from a password by thousands of hashes, kept for the next sign-on: a server
//! asks for the same salt as long as the password is the same (RFC 5802, section 3, `SaltedPassword`).

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Keys that are kept of a password. Servers behind one address may have several; a hostile one
/// could ask for ever new ones.
const KEPT: usize = 16;
/// Longest salt of a key that is kept, in bytes; PostgreSQL's has 16.
const LONGEST_SALT: usize = 64;

/// What a server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

/// The keys of one password, which are as secret as the password itself.
#[derive(Default)]
pub struct SaltedKeys(Mutex<VecDeque<Derived>>);

/// A key that is to be derived: thousands of hashes.
pub struct Derivation {
    pub(super) password: SecretString,
    pub(super) challenge: Challenge,
    pub(super) keys: Arc<SaltedKeys>,
}

/// A key, and what for.
#[derive(Clone)]
pub struct Derived {
    pub(super) challenge: Challenge,
    key: Arc<Zeroizing<[u8; 32]>>,
}

impl Derivation {
    /// Takes as long as the server wants it to.
    pub fn run(self) -> Derived {
        self.keys.derive(&self.password, self.challenge)
    }
}

impl Derived {
    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl SaltedKeys {
    /// Whether nothing needs to be derived.
    pub(super) fn has(&self, challenge: &Challenge) -> bool {
        self.get(challenge).is_some()
    }

    /// The key, derived where it is not there yet.
    pub(super) fn derive(&self, password: &SecretString, challenge: Challenge) -> Derived {
        if let Some(found) = self.get(&challenge) {
            return found;
        }
        let key = Arc::new(salted(password, &challenge));
        let derived = Derived { challenge, key };
        if derived.challenge.salt.len() <= LONGEST_SALT {
            let mut kept = self.kept();
            kept.push_back(derived.clone());
            if kept.len() > KEPT {
                kept.pop_front();
            }
        }
        derived
    }

    fn get(&self, challenge: &Challenge) -> Option<Derived> {
        self.kept().iter().find(|kept| kept.challenge == *challenge).cloned()
    }

    /// A thread that panicked holds no half-made change of it.
    fn kept(&self) -> MutexGuard<'_, VecDeque<Derived>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SaltedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltedKeys(…)")
    }
}

fn salted(password: &SecretString, challenge: &Challenge) -> Zeroizing<[u8; 32]> {
    // As the server does: what SASLprep does not take is used as it is.
    let prepared = stringprep::saslprep(password.expose_secret());
    let prepared = prepared.map_or_else(
        |_| Zeroizing::new(password.expose_secret().to_owned()),
        |text| Zeroizing::new(text.into_owned()),
    );
    let Challenge { salt, iterations } = challenge;
    let mut out = Zeroizing::new([0; 32]);
    pbkdf2::pbkdf2_hmac::<Sha256>(prepared.as_bytes(), salt, *iterations, out.as_mut_slice());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(salt: &[u8], iterations: u32) -> Challenge {
        Challenge { salt: salt.to_vec(), iterations }
    }

    #[test]
    fn p8_a_key_is_derived_once_and_only_so_many_are_kept() {
        let (password, keys) = (SecretString::from("p"), SaltedKeys::default());
        let first = keys.derive(&password, challenge(b"salt", 2));
        let again = keys.derive(&password, challenge(b"salt", 2));
        assert!(Arc::ptr_eq(&first.key, &again.key), "it was derived again");
        let other = keys.derive(&password, challenge(b"salt", 3));
        assert_ne!(first.key(), other.key(), "the number of iterations counts");
        for salt in 0..100_u8 {
            keys.derive(&password, challenge(&[salt], 1));
        }
        keys.derive(&password, challenge(&[0; LONGEST_SALT + 1], 1));
        assert_eq!(keys.kept().len(), KEPT);
        assert!(!keys.has(&challenge(b"salt", 2)));
        assert!(keys.kept().iter().all(|kept| kept.challenge.salt.len() <= LONGEST_SALT));
    }

    #[test]
    fn p6_nothing_of_a_key_is_shown() {
        let keys = SaltedKeys::default();
        keys.derive(&SecretString::from("p"), challenge(b"salt", 1));
        assert_eq!(format!("{keys:?}"), "SaltedKeys(…)");
    }
}
