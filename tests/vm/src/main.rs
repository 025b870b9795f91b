//! Tests in a virtual machine: the package under a whole systemd, on one of Debian's kernels.
//!
//! Belongs here: the command line, running one test after the other in one guest, and the count.
//! What a guest is, is in `guest`; what is promised, in `promises`. `cargo xtask vm` makes the
//! images and calls this once for each kernel.
#![expect(clippy::print_stdout, reason = "a test runner: its results are what it prints")]
#![expect(clippy::print_stderr, reason = "a test runner: failures and its own words")]

mod channel;
mod guest;
mod machine;
mod promises;
mod scene;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{
    guest::Guest,
    machine::Images,
    promises::{Run, Test},
};

/// Runs the tests in one guest.
#[derive(Parser)]
#[command(name = "vm")]
struct Options {
    /// The kernel's image
    #[arg(long)]
    kernel: PathBuf,
    /// Its initial RAM disk
    #[arg(long)]
    initrd: PathBuf,
    /// The guest's root file system (ext4); it is not written to
    #[arg(long)]
    root: PathBuf,
    /// What the guest finds below `/payload` (ext4): packages and programs
    #[arg(long)]
    payload: PathBuf,
    /// Where consoles of guests that failed are kept
    #[arg(long)]
    keep: PathBuf,
    /// Only what takes a few minutes
    #[arg(long)]
    quick: bool,
    /// Minutes after which the run has failed, whatever it is at
    #[arg(long, default_value_t = 90)]
    limit: u64,
    /// Only tests whose name contains one of these, and what they build on
    filters: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let started = Instant::now();
    let end = started + Duration::from_mins(options.limit);
    let images = Images {
        kernel: options.kernel,
        initrd: options.initrd,
        root: options.root,
        payload: options.payload,
        keep: options.keep,
    };
    let tests = promises::all(options.quick, &options.filters);
    let mut tally = Tally::default();
    // Nothing of chaperone is in it yet: what fails here is the emulator's.
    let guest = Guest::boot(&images, end).or_else(|error| {
        eprintln!("{error:#}; it is started once more");
        Guest::boot(&images, end)
    });
    match guest {
        Ok(mut guest) => {
            println!("the guest was up after {} s", started.elapsed().as_secs());
            for test in &tests {
                tally.run(test, &options.filters, &mut guest);
            }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            tally.failed = tests.len().max(1);
        }
    }
    let result = if tally.failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {result}. {} passed; {} failed; finished in {:.2}s",
        tally.passed,
        tally.failed,
        started.elapsed().as_secs_f64()
    );
    if tally.failed == 0 && tally.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How the tests went.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    /// Runs one; one whose guest is gone has failed.
    fn run(&mut self, test: &Test, filters: &[String], guest: &mut Guest) {
        match test.run {
            Run::One(run) => self.one(test.name, guest, run),
            Run::Suite(list, run) => match guest.alive().and_then(|()| list(guest)) {
                Ok(names) => {
                    for name in names {
                        let full = format!("{} {name}", test.name);
                        if !promises::is_asked(&full, filters) {
                            continue;
                        }
                        self.one(&full, guest, |guest| run(guest, &name));
                    }
                }
                Err(error) => self.one(test.name, guest, |_| Err(error)),
            },
        }
    }

    fn one(
        &mut self,
        name: &str,
        guest: &mut Guest,
        run: impl FnOnce(&mut Guest) -> anyhow::Result<()>,
    ) {
        let started = Instant::now();
        let result = guest.alive().and_then(|()| run(guest));
        let took = started.elapsed().as_secs();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok ({took} s)");
            }
            Err(error) => {
                self.failed += 1;
                println!("test {name} ... FAILED ({took} s)");
                eprintln!("---- {name} ----\n{error:#}\n{}", guest.evidence());
            }
        }
    }
}
