//! The log, and the only user of `SQLite`: append, tree, checkpoints, query, verify.
//!
//! The only place where a [`Receipt`] is made. Does not belong here: what is recorded, and when.

mod append;
mod canonical;
mod chain;
#[doc(hidden)]
pub mod cost;
mod erase;
mod error;
mod files;
mod flush;
mod interned;
mod keys;
pub mod note;
mod proofs;
mod query;
mod read;
pub mod readers;
mod recover;
mod retire;
mod row;
mod schema;
mod seal;
pub mod search;
mod table;
mod threads;
pub mod tree;
mod turn;
pub mod verify;
mod writer;

pub use error::AuditError;
pub use files::make_folder;
pub use proofs::{Canonicalised, Proofs};
pub use query::{
    BinaryRow, CommandDetail, CommandRow, EventRow, ExceptionRow, Filter, Found, HoldRow, Page,
    Part, Reader, RunRow, SessionRow,
};
pub use retire::Keep;
pub use writer::{Committed, Log, Options, Receipt, Sealed, Sealing, Stats};
