//! The process that reads statements and command lines: this program again, locked in.
//!
//! The two readers do not know one another: here is the only place where both are.

use std::process::ExitCode;

use chaperone_sql::{
    readers::Options,
    sandbox::{self, Asked},
};

/// The argument that makes this program such a process.
pub(crate) const ARGUMENT: &str = "sql-worker";

/// How the daemon has statements and command lines read.
pub(crate) fn options() -> Options {
    Options::new("/proc/self/exe".into(), ARGUMENT.into())
}

/// The `main` of such a process.
pub(crate) fn worker() -> ExitCode {
    sandbox::run(answer)
}

fn answer(asked: Asked, text: &[u8]) -> Vec<u8> {
    match asked {
        Asked::Line => sandbox::lines(&chaperone_shell::read(text)),
        _ => sandbox::answer(asked, text),
    }
}

#[cfg(test)]
mod tests {
    use chaperone_model::{Rung, ShellReading};

    use super::*;

    #[test]
    fn a_command_line_is_read_as_one_and_a_statement_as_one() {
        let read = |line: &[u8]| -> ShellReading {
            serde_json::from_slice(&answer(Asked::Line, line)).expect("a reading")
        };
        assert_eq!(read(b"ls /").rung, Rung::Read);
        assert_eq!(read(b"rm \xff").rung, Rung::Destructive);
        let long = read("ls aaaaaaaaaa;".repeat(3000).as_bytes());
        assert_eq!(long.rung, Rung::Destructive);
        assert!(answer(Asked::Reading, b"select 1").starts_with(b"{\"reading\""));
        assert!(answer(Asked::Reading, b"select \xff").is_empty());
    }
}
