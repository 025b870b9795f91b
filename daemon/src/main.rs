//! The `chaperone` binary: composition root and command line.

mod addresses;
mod agents;
mod anchors;
mod approvals;
mod asking;
mod attending;
mod catalog;
mod cli;
mod clock;
mod committer;
mod config;
mod control;
mod daemon;
mod doctor;
mod erase;
mod evidence;
mod exceptions;
mod existing;
mod export;
mod following;
mod held;
mod holds;
mod identity;
mod inspect;
mod lane;
mod listening;
mod local;
mod mask;
mod masks;
mod names;
mod naming;
mod notify;
mod outbound;
mod places;
mod policy;
mod rates;
mod reader;
mod relay;
mod replay;
mod scoping;
mod search;
mod secret;
mod serve;
mod session;
mod shared;
mod show;
mod ssh;
mod stops;
mod summary;
mod tls;
mod trust;
mod unmask;
mod upstream;
mod verify;
mod webhook;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // The daemon starts this program as the process that reads statements and command lines.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == reader::ARGUMENT) {
        return reader::worker();
    }
    cli::run(&cli::Cli::parse())
}
