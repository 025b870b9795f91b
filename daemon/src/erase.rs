//! `chaperone log erase`: personal data goes, the proof that nothing else was touched stays.
//!
//! Does not belong here: how it is erased (`chaperone-audit`), and who may (`control`).

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Result, bail};
use chaperone_audit::{Filter, Reader};
use chaperone_control::{Action, Reply, ask};
use chaperone_model::Seq;
use clap::Args;

/// Commands that are asked for at a time: what a request may hold.
const AT_A_TIME: usize = 1000;

/// The words of `log erase`.
#[derive(Debug, Args)]
pub(crate) struct EraseArgs {
    /// The commands' ids
    #[arg(value_name = "ID", required_unless_present = "text")]
    commands: Vec<u64>,
    /// All commands whose statement contains this text, in either case
    #[arg(long, conflicts_with = "commands")]
    text: Option<String>,
    /// Why: it is recorded
    #[arg(long)]
    reason: String,
}

/// Asks the daemon for it.
pub(crate) fn run(
    socket: &Path,
    args: &EraseArgs,
    log: impl FnOnce() -> Result<Reader>,
    json: bool,
) -> Result<bool> {
    let mut commands = args.commands.clone();
    if let Some(text) = &args.text {
        let filter = Filter { text: Some(text.clone()), ..Filter::default() };
        commands = log()?.commands(&filter)?.into_iter().map(|row| row.id).collect();
        commands.dedup();
    }
    let mut gone = Vec::new();
    for commands in commands.chunks(AT_A_TIME) {
        let commands = commands.iter().copied().map(Seq).collect();
        match ask(socket, &Action::Erase { commands, reason: args.reason.clone() })? {
            Reply::Erased(records) => gone.extend(records),
            _ => bail!("the daemon answered something else: is it of another version?"),
        }
    }
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::json!({ "records": gone }))?;
    } else {
        writeln!(out, "the content of {} records is erased", gone.len())?;
    }
    Ok(!gone.is_empty())
}
