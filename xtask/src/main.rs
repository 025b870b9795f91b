//! `cargo xtask`: everything a contributor does with this repository, as one command each.
//!
//! Belongs here: the command line and which command calls which. What a command does is in the
//! module of its name.
#![expect(
    clippy::print_stderr,
    reason = "a terminal tool: results on stdout, its own words on stderr"
)]

mod bench;
mod build;
mod check;
mod compiler;
mod deb;
mod demo;
mod edges;
mod interrupt;
mod setup;
mod shell;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::setup::Group;

/// Set-up, building, demo, tests, benchmarks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing (Debian 12 or later; root only where something is)
    Setup {
        /// Only what this command needs
        #[arg(long = "for", value_enum)]
        group: Option<Group>,
    },
    /// Build the eBPF object and the daemon
    Build {
        #[arg(long)]
        release: bool,
    },
    /// Run unit tests and host tests (the latter need root and BPF), and print one count
    Test {
        /// Only the tests whose name contains this
        filter: Option<String>,
    },
    /// Watch an agent's psql and Python driver being recorded
    Demo {
        /// For the demo itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Compare with a direct connection, PgBouncer and HAProxy
    Bench(bench::Options),
    /// Opens many connections, for the benchmark
    #[command(hide = true)]
    Crowd(bench::crowd::Options),
    /// Build the Debian package
    Deb(deb::Options),
    /// Run the package in virtual machines under a whole systemd, on Debian's kernels (needs root)
    Vm(vm::Options),
    /// fmt, clippy, rustdoc, cargo-deny, edges between crates
    Check,
}

fn main() -> ExitCode {
    match interrupt::install().and_then(|()| run(Cli::parse().command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup { group } => setup::run(group.unwrap_or(Group::All))?,
        Command::Build { release } => {
            setup::run(Group::Build)?;
            build::kernel_side()?;
            let binary = build::daemon(release)?;
            println!("{}", binary.display());
        }
        Command::Test { filter } => return test::run(filter.as_deref()),
        Command::Demo { arguments } => demo::run(&arguments)?,
        Command::Bench(options) => bench::run(&options)?,
        Command::Crowd(options) => bench::crowd::run(&options)?,
        Command::Deb(options) => deb::run(&options)?,
        Command::Vm(options) => return vm::run(&options),
        Command::Check => check::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
