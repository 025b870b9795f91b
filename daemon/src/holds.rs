//! `chaperone holds`, `approve`, `deny`: what waits for a person, and the person's word.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::{Result, bail};
use chaperone_control::{Action, Hold, Reply, ask};
use chaperone_model::Seq;
use clap::Args;

use crate::show;

#[derive(Debug, Args)]
pub(crate) struct HoldsArgs {
    /// Show one with all that is known of it
    id: Option<u64>,
    /// Show those that are over as well, from the log
    #[arg(long, conflicts_with_all = ["id", "follow"])]
    all: bool,
    /// Show again as they come and go
    #[arg(long, short, conflicts_with = "id")]
    follow: bool,
    /// At most so many of the log's, the newest
    #[arg(long, short = 'n', default_value_t = 50, requires = "all")]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct WordArgs {
    /// Its id, as `chaperone holds` shows it
    id: u64,
    /// Why: it is recorded, and the agent is told where it is denied
    #[arg(long)]
    reason: Option<String>,
}

/// How often `holds --follow` looks.
const FOLLOW_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// Shows what waits. `log` opens the log, for what is over.
pub(crate) fn run(
    socket: &Path,
    args: &HoldsArgs,
    log: impl FnOnce() -> Result<chaperone_audit::Reader>,
    json: bool,
) -> Result<bool> {
    if args.all {
        show::past_holds(&log()?.holds(args.limit)?, json)?;
        return Ok(true);
    }
    if let Some(id) = args.id {
        if let Reply::Hold(hold) = ask(socket, &Action::Hold(Seq(id)))? {
            show::hold(&hold, json)?;
        }
        return Ok(true);
    }
    let list = || -> Result<Vec<Hold>> {
        match ask(socket, &Action::Holds)? {
            Reply::Holds(holds) => Ok(holds),
            _ => bail!("the daemon answered something else: is it of another version?"),
        }
    };
    let mut shown = list()?;
    show::holds(&shown, json)?;
    if !json && let Reply::Exceptions(exceptions) = ask(socket, &Action::Exceptions)? {
        let asked = exceptions.iter().filter(|one| one.until.is_none()).count();
        if asked > 0 {
            let what = "requests to lift a mask wait for a person: `chaperone unmask list`";
            writeln!(io::stdout(), "{asked} {what}")?;
        }
    }
    if args.follow {
        loop {
            std::thread::sleep(FOLLOW_EVERY);
            let now = list()?;
            if now != shown {
                writeln!(io::stdout())?;
                show::holds(&now, json)?;
                shown = now;
            }
        }
    }
    Ok(true)
}

/// Says yes or no.
pub(crate) fn decide(socket: &Path, args: &WordArgs, approve: bool, json: bool) -> Result<bool> {
    let action = Action::Decide { hold: Seq(args.id), approve, reason: args.reason.clone() };
    if let Reply::Decided(done) = ask(socket, &action)? {
        if json {
            writeln!(io::stdout(), "{}", serde_json::json!({ "id": args.id, "done": done }))?;
        } else {
            writeln!(io::stdout(), "{done}")?;
        }
    }
    Ok(true)
}
