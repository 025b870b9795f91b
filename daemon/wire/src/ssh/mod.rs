//! SSH (RFC 4250 to 4254, with OpenSSH's extensions), as it passes between an agent's client and a
//! target's server: two connections, and what a relay between them must know of both.
//!
//! Belongs here: sealing and opening packets, signing on from either side, channels, and reading SFTP
//! and the legacy scp protocol inside of them. Does not belong here: sockets, clocks, policy, and what
//! a command line says (`chaperone-shell`).

mod codec;
mod keys;
mod transport;
mod violation;

pub use keys::{Certificate, Certify, HostKey, KeyError, PublicKey, SecretKey};
pub use transport::{Believes, IDENTIFICATION, Taken, Transport};
pub use violation::Violation;
