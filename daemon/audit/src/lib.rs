//! The log, and the only user of `SQLite`: append and query.
//!
//! The only place where a [`Receipt`] is made. Does not belong here: what is recorded, and when.

mod error;
mod files;
mod flush;
mod insert;
mod query;
mod recover;
mod schema;
mod threads;
mod writer;

pub use error::AuditError;
pub use query::{
    BinaryRow, CommandDetail, CommandRow, EventRow, Filter, HoldRow, Part, Reader, RunRow,
    SessionRow,
};
pub use writer::{Committed, Log, Options, Receipt, Stats};
