//! Reading SQL: what each statement of a text is, what it touches, and how much it can do.
//!
//! `read` is the reading itself, a pure function that runs in the sandboxed process; `sandbox` is
//! that process and the daemon's side of it. Does not belong here: what policy says of a reading.

pub mod read;
pub mod readers; pub mod sandbox;
