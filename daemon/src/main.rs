//! The `chaperone` binary: composition root and command line.

mod addresses;
mod agents;
mod anchors;
mod approvals;
mod asking;
mod attending;
mod canary;
mod catalog;
mod cli;
mod clock;
mod committer;
mod config;
mod control;
mod daemon;
mod detaching;
mod doctor;
mod documents;
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
mod loading;
mod local;
mod mask;
mod masks;
mod names;
mod naming;
mod near;
mod notify;
mod outbound;
mod places;
mod policy;
mod privileges;
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
mod socket;
mod ssh;
mod stops;
mod summary;
mod tending;
mod terminal;
mod tls;
mod trust;
mod tunnels;
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
    // And this one as its canary.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|argument| argument == canary::ARGUMENT) {
        return canary::worker(arguments.next().and_then(|port| port.to_str()?.parse().ok()));
    }
    cli::run(&cli::Cli::parse())
}
