//! The tests: units' and host tests, one count at the end.
//!
//! Belongs here: what is run, with which environment, and counting. The tests themselves are in
//! the crates and in `tests/host`.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    ops::AddAssign,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    build, deb,
    setup::{self, Group},
    shell,
};

const HOST_TESTS: &str = "chaperone-host-tests";
/// A host test has servers and a daemon of its own: more at a time gain nothing.
const THREADS: &str = "--test-threads=4";

/// `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`: capabilities are bits of `CapEff`.
const CAPABILITIES: u64 = 1 << 21 | 1 << 12;

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// Prints it as the last line, and answers how the run ended.
    pub(crate) fn report(self) -> ExitCode {
        if self == Self::default() {
            eprintln!("error: no test was run");
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs all of them. The last line printed is the count.
pub(crate) fn run(filter: Option<&str>) -> Result<ExitCode> {
    setup::run(Group::Test)?;
    build::kernel_side()?;
    let programs = build::programs()?;
    // As it ships: some tests are of the memory that it takes.
    let daemon = build::daemon(true)?;
    let package = deb::of(&daemon)?;
    let filter = filter.into_iter().collect::<Vec<_>>();

    let problem = host_problem();
    let mut tests = shell::cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]);
    if problem.is_none() {
        tests
            .env("CHAPERONE_BIN", daemon)
            .env("CHAPERONE_AGENTS", &programs)
            .env("CHAPERONE_PACKAGE", package)
            .envs(setup::test_environment()?);
    } else {
        tests.args(["--exclude", HOST_TESTS]);
    }
    let mut count = counted(tests.args(["--", THREADS]).args(&filter))?;
    if let Some(problem) = &problem {
        count.failed += 1;
        eprintln!("error: the host tests cannot run here, which counts as a failure: {problem}");
    }
    Ok(count.report())
}

/// Runs cargo's tests, or a program that prints results as they do, shows what it prints and counts.
pub(crate) fn counted(command: &mut Command) -> Result<Count> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("the tests cannot be run")?;
    let stdout = child.stdout.take().context("the tests' output is not there")?;
    let mut count = Count::default();
    let mut screen = io::stdout();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("the tests' output cannot be read")?;
        screen.write_all(&line)?;
        screen.write_all(b"\n")?;
        if let Some(result) = result_line(&String::from_utf8_lossy(&line)) {
            count += result;
        }
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        // A build that failed, or a test program that crashed: there is no line to count.
        eprintln!("error: the tests ended with {status} and no failed test: counted as one");
        count.failed = 1;
    }
    Ok(count)
}

/// Reads `test result: ok. 3 passed; 0 failed; …`.
fn result_line(line: &str) -> Option<Count> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |name: &str| {
        numbers.split("; ").find_map(|part| part.strip_suffix(name)?.trim().parse().ok())
    };
    Some(Count { passed: number("passed")?, failed: number("failed")? })
}

/// Why this machine cannot run the host tests, in one sentence.
fn host_problem() -> Option<String> {
    if !shell::is_root() {
        return Some("they load programs into the kernel, which needs root".into());
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let capabilities = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0);
    if capabilities & CAPABILITIES != CAPABILITIES {
        return Some(
            "this root has not the capabilities CAP_SYS_ADMIN and CAP_NET_ADMIN, as in a container"
                .into(),
        );
    }
    if !read("/proc/mounts").lines().any(|line| line.split(' ').nth(2) == Some("cgroup2")) {
        return Some("no cgroup v2 is mounted (/proc/mounts lists none)".into());
    }
    if !read("/proc/filesystems").lines().any(|line| line.split_whitespace().last() == Some("bpf"))
    {
        return Some("this kernel has no BPF (/proc/filesystems does not list it)".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Count, result_line};

    #[test]
    fn cargos_result_lines_are_read() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s";
        assert_eq!(result_line(line), Some(Count { passed: 12, failed: 0 }));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s";
        assert_eq!(result_line(line), Some(Count { passed: 1, failed: 2 }));
    }

    #[test]
    fn other_lines_are_not() {
        assert_eq!(result_line("test wire::result ... ok"), None);
        assert_eq!(result_line("test result: maybe"), None);
    }
}
