//! `chaperone log search`: commands by words of their statement and response, and by what they are.
//!
//! Does not belong here: how they are found (`chaperone-audit`).

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::Result;
use chaperone_audit::{Reader, search::Search};
use chaperone_model::{Seq, Timestamp};
use clap::Args;

use crate::{cli::moment, show};

/// The words of `log search`.
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Words that stand one behind the other in the statement, its parameters or its response; `*`
    /// at the end stands for the rest of a word
    text: Option<String>,
    /// Of this agent
    #[arg(long)]
    agent: Option<String>,
    /// In this version
    #[arg(long)]
    version: Option<String>,
    /// Of this run
    #[arg(long)]
    run: Option<String>,
    /// That touched this relation, with or without its schema
    #[arg(long)]
    relation: Option<String>,
    /// Of this class: read, write, destructive, forbidden
    #[arg(long, alias = "rung", value_parser = ["read", "write", "destructive", "forbidden"], hide_possible_values = true)]
    class: Option<String>,
    /// Of which policy said this: allow, deny, hold, would-deny, would-hold
    #[arg(long, value_parser = ["allow", "deny", "hold", "would-deny", "would-hold"], hide_possible_values = true)]
    verdict: Option<String>,
    /// That this person approved
    #[arg(long)]
    approver: Option<String>,
    /// On this target
    #[arg(long)]
    target: Option<String>,
    /// As this user of the target's
    #[arg(long)]
    user: Option<String>,
    /// With this status: ok, error, suspended, skipped, refused, unknown, pending
    #[arg(long, value_parser = ["ok", "error", "suspended", "skipped", "refused", "unknown", "pending"], hide_possible_values = true)]
    status: Option<String>,
    /// Of this session
    #[arg(long)]
    session: Option<u64>,
    /// Begun at or after: a time (2026-05-01T12:00:00Z) or so long ago (2h, 7d)
    #[arg(long, value_parser = moment)]
    since: Option<Timestamp>,
    /// Begun before: a time or so long ago
    #[arg(long, value_parser = moment)]
    until: Option<Timestamp>,
    /// At most so many, the newest
    #[arg(long, short = 'n', default_value_t = 100)]
    limit: u32,
}

/// Finds and shows, the newest first.
pub(crate) fn run(log: &Path, args: &SearchArgs, json: bool) -> Result<bool> {
    let search = Search {
        text: args.text.clone(),
        agent: args.agent.clone(),
        version: args.version.clone(),
        run: args.run.clone(),
        relation: args.relation.clone(),
        class: args.class.clone(),
        verdict: args.verdict.clone(),
        approver: args.approver.clone(),
        target: args.target.clone(),
        user: args.user.clone(),
        status: args.status.clone(),
        session: args.session.map(Seq),
        since: args.since,
        until: args.until,
        limit: args.limit,
    };
    let found = Reader::open(log)?.search(&search)?;
    if let Some(why) = &found.without_index {
        writeln!(io::stderr(), "chaperone: {why}: all of the log was looked through")?;
    }
    show::commands(&found.rows, json)?;
    Ok(true)
}
