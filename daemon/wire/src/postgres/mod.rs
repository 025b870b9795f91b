//! PostgreSQL's frontend/backend protocol, version 3
//! (<https://www.postgresql.org/docs/current/protocol.html>).

mod backend;
mod budget;
mod conversation;
mod copy_out;
mod describe;
mod expect;
mod frame;
mod frontend;
mod large_objects;
mod masking;
mod negotiation;
mod own;
mod parameters;
mod reach;
mod reply;
mod response;
mod salted;
mod scram;
mod sign_on;
mod startup;
mod statements;
mod value;

pub use conversation::{
    Allowed, Asks, ClientStep, Conversation, Limits, Named, Now, Rules, ServerStep, SigningOn,
};
pub use describe::{Described, Describing, description_of};
pub use expect::{Event, ServerError};
pub use frame::Violation;
pub use masking::{Became, CopiedColumns, Copies, Counts, Field, Look, Masks, Plan, Screens};
pub use negotiation::{Negotiation, Told};
pub use own::{Answer, Row, question};
pub use parameters::is_setting;
pub use reply::{Refusal, Severity, backend_error};
pub use salted::{Derivation, Derived, SaltedKeys};
pub use scram::NONCE;
pub use sign_on::{Account, Method, SignOn, SignOnError, SignOnStep};
pub use startup::{ALPN, CancelKey, First, Startup, first_packet, is_direct_tls, tls_request};
