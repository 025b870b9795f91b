//! The protocol of `scp -t` and `scp -f`, which is rcp's, as OpenSSH's `scp.c` speaks it (there is no
//! other text of it), read as it passes.
//!
//! One side is the *source*: it sends lines that announce files and folders, and files' content.
//! The other, the *sink*, answers each line and each content with one byte, or with an error and its
//! words. With `-t` the agent is the source, with `-f` the target is. Either way a line that
//! announces a file or a folder is a command.
//!
//! The source must not go on before it has its answer, and is not let to: what its bytes mean depends
//! on the answer. A source that is ahead of the sink could make the sink take for a line what is a
//! content here.

mod line;
mod operation;
mod reader;
#[cfg(test)]
mod tests;

pub use line::Violation;
pub use operation::{Direction, Event, Found, Operation, Outcome, Refused, Step, Times, Word};
pub use reader::Scp;
