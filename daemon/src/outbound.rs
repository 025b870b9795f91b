//! Talking to services by HTTP: the client, how long to rest after a failure, and which addresses
//! may be talked to.
//!
//! Does not belong here: what is said, and what waits to be said.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a service may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to rest after a failure: at first, and at most.
const REST: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(5)];

/// How long to rest after failures in a row.
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(REST[0])
    }
}

impl Backoff {
    /// After one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let rest = self.0;
        self.0 = (rest * 2).min(REST[1]);
        rest
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A client that believes the host's authorities and follows nobody elsewhere.
pub(crate) fn client() -> ureq::Agent {
    let roots = rustls_native_certs::load_native_certs();
    let certificates: Vec<_> = roots
        .certs
        .iter()
        .map(|certificate| ureq::tls::Certificate::from_der(certificate).to_owned())
        .collect();
    let tls = ureq::tls::TlsConfig::builder()
        .unversioned_rustls_crypto_provider(crate::tls::provider())
        .root_certs(ureq::tls::RootCerts::new_with_certs(&certificates))
        .build();
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .max_redirects(0)
        .tls_config(tls)
        .build();
    config.into()
}

/// Whether nobody on the way can listen or answer: by TLS, or on this host.
pub(crate) fn is_guarded(url: &str) -> bool {
    let loopback = ["http://127.0.0.1", "http://[::1]", "http://localhost"];
    let near = |near: &&str| {
        url.strip_prefix(*near).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    };
    url.starts_with("https://") || loopback.iter().any(near)
}

/// A thread's rest, which its end cuts short.
#[derive(Default)]
pub(crate) struct Rest {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Rest {
    pub(crate) fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Rests; answers whether to go on.
    pub(crate) fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let waited = self.changed.wait_timeout(ended, left);
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_up_to_five_minutes() {
        let mut backoff = Backoff::default();
        let rests: Vec<_> = (0..12).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.next().as_secs(), 1);
    }

    #[test]
    fn only_what_is_encrypted_or_near_is_talked_to() {
        for url in ["https://a", "http://127.0.0.1:1/x", "http://localhost", "http://[::1]:8/"] {
            assert!(is_guarded(url), "{url}");
        }
        for url in ["http://a", "http://localhost.evil", "http://127.0.0.1.evil/", "ftp://a"] {
            assert!(!is_guarded(url), "{url}");
        }
    }
}
