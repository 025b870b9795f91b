//! Keys of contents: random, and many at a time, because asking for each costs more than all else
//! that a record needs hashed.
//!
//! Does not belong here: what they are used for (`canonical.rs`).

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

use crate::{AuditError, canonical::ContentKey};

/// Keys that are asked for at a time.
const AT_A_TIME: usize = 256;

pub(crate) struct Keys {
    randomness: SystemRandom,
    ready: Vec<ContentKey>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { randomness: SystemRandom::new(), ready: Vec::new() }
    }
}

impl Keys {
    /// One that nobody has had.
    pub(crate) fn next(&mut self) -> Result<ContentKey, AuditError> {
        if let Some(key) = self.ready.pop() {
            return Ok(key);
        }
        self.ready.resize(AT_A_TIME, ContentKey::default());
        if self.randomness.fill(self.ready.as_flattened_mut()).is_err() {
            self.ready.clear();
            return Err(AuditError::Database("the system gave no randomness".into()));
        }
        self.next()
    }
}
