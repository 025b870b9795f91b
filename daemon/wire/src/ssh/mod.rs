//! SSH (RFC 4250 to 4254, with OpenSSH's extensions), as it passes between an agent's client and a
//! target's server: two connections, and what a relay between them must know of both.
//!
//! Belongs here: sealing and opening packets, signing on from either side, channels, and reading SFTP
//! and the legacy scp protocol inside of them, byte by byte. Does not belong here: sockets, clocks,
//! policy, and what a command line says (`chaperone-shell`).

mod codec;
mod content;
mod conversation;
mod cover;
mod keys;
mod known;
mod message;
pub mod scp;
pub mod sftp;
mod sign_on;
mod transport;
mod violation;

pub use content::{Content, Unhashed, shown};
pub use conversation::{
    Action, Ask, Conversation, Exit, Filter, Filters, Inner, Said, Stream, Terminal, Wanted,
};
pub use cover::Cover;
pub use keys::{Certificate, Certify, HostKey, KeyError, PublicKey, SecretKey};
pub use known::Known;
pub use sign_on::{Credential, Method, Request, SignOn, SignOnStep, answer, is_account};
pub use transport::{Believes, IDENTIFICATION, Taken, Transport};
pub use violation::Violation;
