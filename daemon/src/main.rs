//! The `chaperone` binary: composition root and command line.

mod addresses;
mod agents;
mod cli;
mod clock;
mod committer;
mod config;
mod control;
mod daemon;
mod doctor;
mod following;
mod identity;
mod lane;
mod places;
mod relay;
mod scoping;
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
