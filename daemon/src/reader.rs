//! The process that reads statements: this program again, locked in.

use chaperone_sql::readers::Options;

/// The argument that makes this program such a process.
pub(crate) const ARGUMENT: &str = "sql-worker";

/// How the daemon has statements read.
pub(crate) fn options() -> Options {
    Options::new("/proc/self/exe".into(), ARGUMENT.into())
}
