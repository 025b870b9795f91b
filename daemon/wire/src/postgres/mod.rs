//! PostgreSQL's frontend/backend protocol, version 3
//! (<https://www.postgresql.org/docs/current/protocol.html>).

mod backend;
mod conversation;
mod expect;
mod frame;
mod frontend;
mod reply;
mod response;
mod startup;
mod statements;
mod value;

pub use conversation::{ClientStep, Conversation, Limits, Now, ServerStep};
pub use expect::{Event, ServerError};
pub use frame::Violation;
pub use reply::{Refusal, Severity, backend_error};
pub use startup::{CancelKey, First, Startup, first_packet};
