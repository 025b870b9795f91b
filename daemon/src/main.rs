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
mod run;
mod secret;
mod serve;
mod session;
mod shared;
mod show;
mod tls;
mod trust;
mod upstream;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::run(&cli::Cli::parse())
}
