//! Wire protocols: bytes → commands and responses → bytes. One folder a protocol.
//!
//! Belongs here: framing, message layouts, the state of a conversation. Does not belong here: I/O,
//! clocks, policy; bytes come in, actions come out, and nothing waits.

pub mod postgres;
pub mod sniff;
pub mod ssh;
