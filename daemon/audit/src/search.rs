//! Finding commands fast: beside each file of the log a derived one that knows which words and
//! names stand in which command. It proposes, the log decides: what it names is read from the log
//! and compared, so that it need not be believed.
//!
//! Does not belong here: what a search is answered with (`query/search.rs`).

mod document;
mod fill;
mod index;
mod purge;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use document::{Kind, Loader, Token};
pub(crate) use fill::touched;
pub use fill::{Indexer, Progress, index};
pub(crate) use index::{Index, forget, remove};
pub(crate) use words::Matcher;
pub use words::Words;
