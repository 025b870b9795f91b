//! The `chaperone` binary: composition root and command line.

mod addresses;
mod cli;
mod clock;
mod committer;
mod config;
mod control;
mod daemon;
mod doctor;
mod identify;
mod lane;
mod relay;
mod serve;
mod session;
mod shared;
mod show;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::run(&cli::Cli::parse())
}
