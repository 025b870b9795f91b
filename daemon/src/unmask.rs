//! `chaperone unmask`: a mask is lifted for a run of an agent, for a time, by people who may.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use chaperone_audit::Reader;
use chaperone_control::{Action, Reply, Unmask, ask};
use chaperone_model::Seq;
use clap::{Args, Subcommand};

use crate::show;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct UnmaskArgs {
    #[command(subcommand)]
    what: Option<UnmaskCommand>,
    /// The mask
    #[arg(long, required = true)]
    mask: Option<String>,
    /// The agent
    #[arg(long, required = true)]
    agent: Option<String>,
    /// Its run, as `chaperone sessions` shows it [default: the only one that has a session]
    #[arg(long)]
    run: Option<String>,
    /// On this target alone
    #[arg(long)]
    target: Option<String>,
    /// For how long, from when enough people are for it: 30m, 2h
    #[arg(long = "for", required = true, value_parser = span, value_name = "TIME")]
    lasts: Option<Duration>,
    /// Why: it is recorded
    #[arg(long, required = true)]
    reason: Option<String>,
}

#[derive(Debug, Subcommand)]
enum UnmaskCommand {
    /// Show which masks are lifted, and which are asked to be
    List {
        /// Show those that are over as well, from the log
        #[arg(long)]
        all: bool,
        /// At most so many of the log's, the newest
        #[arg(long, short = 'n', default_value_t = 50, requires = "all")]
        limit: u32,
    },
    /// Let a mask count again, from the next command on
    Revoke {
        /// The exception's id, as `chaperone unmask list` shows it
        id: u64,
        /// Why: it is recorded
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Does it. `log` opens the log, for what is over.
pub(crate) fn run(
    socket: &Path,
    args: &UnmaskArgs,
    log: impl FnOnce() -> Result<Reader>,
    json: bool,
) -> Result<bool> {
    match &args.what {
        Some(UnmaskCommand::List { all: true, limit }) => {
            show::past_exceptions(&log()?.exceptions(*limit)?, json)?;
        }
        Some(UnmaskCommand::List { .. }) => match ask(socket, &Action::Exceptions)? {
            Reply::Exceptions(exceptions) => show::exceptions(&exceptions, json)?,
            _ => bail!("the daemon answered something else: is it of another version?"),
        },
        Some(UnmaskCommand::Revoke { id, reason }) => {
            let action = Action::Revoke { exception: Seq(*id), reason: reason.clone() };
            if let Reply::Decided(done) = ask(socket, &action)? {
                say(Seq(*id), &done, json)?;
            }
        }
        None => {
            let missing = || "say --mask, --agent, --for and --reason";
            let action = Action::Unmask(Unmask {
                mask: args.mask.clone().with_context(missing)?,
                agent: args.agent.clone().with_context(missing)?,
                run: args.run.clone(),
                target: args.target.clone(),
                seconds: args.lasts.with_context(missing)?.as_secs(),
                reason: args.reason.clone().with_context(missing)?,
            });
            if let Reply::Unmasked { id, done } = ask(socket, &action)? {
                say(id, &done, json)?;
            }
        }
    }
    Ok(true)
}

fn say(id: Seq, done: &str, json: bool) -> Result<()> {
    if json {
        writeln!(io::stdout(), "{}", serde_json::json!({ "id": id.0, "done": done }))?;
    } else {
        writeln!(io::stdout(), "{done}")?;
    }
    Ok(())
}

/// A length of time, of whole seconds.
fn span(text: &str) -> Result<Duration> {
    let parsed = text.parse::<jiff::SignedDuration>().ok();
    let parsed = parsed.and_then(|span| Duration::try_from(span).ok());
    parsed
        .filter(|span| !span.is_zero() && span.subsec_nanos() == 0)
        .with_context(|| format!("{text:?} is no time such as 30m or 2h"))
}
