//! Reading SQL: what each statement of a text is, what it touches, and how much it can do.
//!
//! `read` is the reading itself, a pure function that runs in the sandboxed process; `sandbox` is
//! that process; `readers` is what a thread of the daemon has of them, with `cache` and `template` in
//! front. The same processes read command lines, with a reader that the program brings along. Does not
//! belong here: that reader, and what policy says of a reading.

mod cache;
pub mod lineage;
pub mod read;
pub mod readers;
pub mod sandbox;
pub mod template;
