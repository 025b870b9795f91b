//! SFTP, version 3 (draft-ietf-secsh-filexfer-02, and OpenSSH's extensions to it: its `PROTOCOL`,
//! section 4), read as it passes between a client and a server.
//!
//! [`Sftp`] is shown the bytes of both sides in order. Of the client's it says how many may go on and
//! which are a command that must be decided; the server's it matches to what was asked, and says
//! what came of each command. It rewrites nothing but reads whose data are masked: a refused request
//! does not go on, and an answer of our own is put between two of the server's.

mod answer;
mod attributes;
mod covered;
mod files;
mod frame;
mod operation;
mod reader;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{Closed, Event, FileOutcome, Outcome, Status};
pub use attributes::{Attributes, OpenFlags};
pub use frame::Violation;
pub use operation::{Access, Operation};
pub use reader::{ClientStep, Counts, ServerStep, Sftp};
