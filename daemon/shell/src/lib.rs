//! Reading a command line as a POSIX shell or bash would: which programs it runs, with which words,
//! and how much they can do.
//!
//! Belongs here: the grammar's tree, words and their expansions, programs that run others, and a table
//! of well-known programs. Does not belong here: I/O, SSH, what rules say.
//!
//! What is not understood is [destructive](chaperone_model::Rung::Destructive), with a reason; so is what shells read differently.
//! The grammar is a library's, which hostile lines reach: run this where a crash or an endless loop
//! costs a process that can be lost. Bounds in front of it keep that rare.

mod bounds;
mod heard;
mod programs;
mod runs;
mod scan;
mod special;
#[cfg(test)]
mod tests;
mod trace;
mod walk;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};

use chaperone_model::ShellReading;

pub use bounds::LONGEST;
pub use programs::{Opens, has_plain_letters, is_plain_locale, opens};

/// Reads a command line, as SSH's `exec` brings it. It never panics.
pub fn read(line: &[u8]) -> ShellReading {
    let Some(text) = heard::heard(line) else {
        return ShellReading::unreadable("it holds a NUL byte, at which it may end");
    };
    let read = catch_unwind(AssertUnwindSafe(|| trace::read(&text)));
    read.unwrap_or_else(|_| ShellReading::unreadable("the shell's grammar failed at it"))
}
