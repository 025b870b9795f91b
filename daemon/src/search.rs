//! `chaperone log search`: finding commands by words and by who, where, what and how it ended.
//!
//! Does not belong here: how they are found (`chaperone-audit`).

use std::io::{self, Write as _};

use anyhow::Result;
use chaperone_audit::{Filter, Reader, search::Words};
use chaperone_model::{Seq, Timestamp};
use clap::Args;

use crate::{cli::moment, show};

/// The words of `log search`.
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Words that all stand in the statement, its parameters or what came back; `word*` may go on,
    /// '"two words"' stand in a row
    text: Vec<String>,
    /// Begun at or after: a time (2026-05-01T12:00:00Z) or so long ago (2h, 7d)
    #[arg(long, value_parser = moment)]
    since: Option<Timestamp>,
    /// Begun before: a time or so long ago
    #[arg(long, value_parser = moment)]
    until: Option<Timestamp>,
    /// Of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Of an agent of this version
    #[arg(long)]
    version: Option<String>,
    /// Of this run of an agent
    #[arg(long)]
    run: Option<String>,
    /// On this target
    #[arg(long)]
    target: Option<String>,
    /// Under this account at the target
    #[arg(long)]
    user: Option<String>,
    /// Of this session
    #[arg(long)]
    session: Option<u64>,
    /// That read or wrote this relation, with or without its schema
    #[arg(long)]
    relation: Option<String>,
    /// That ran this program: a command line's, or one that it runs
    #[arg(long)]
    program: Option<String>,
    /// Of this class: read, write, destructive, forbidden
    #[arg(long, visible_alias = "rung", value_parser = ["read", "write", "destructive", "forbidden"], hide_possible_values = true)]
    class: Option<String>,
    /// With this verdict: allow, deny, hold, would-deny, would-hold
    #[arg(long, value_parser = ["allow", "deny", "hold", "would-deny", "would-hold"], hide_possible_values = true)]
    verdict: Option<String>,
    /// That this person approved
    #[arg(long)]
    approver: Option<String>,
    /// With this status: ok, error, suspended, skipped, refused, unknown, pending
    #[arg(long, value_parser = ["ok", "error", "suspended", "skipped", "refused", "unknown", "pending"], hide_possible_values = true)]
    status: Option<String>,
}

/// Shows what is found, the newest first.
pub(crate) fn run(reader: &Reader, args: &SearchArgs, limit: u32, json: bool) -> Result<bool> {
    let text = args.text.join(" ");
    let words = (!text.is_empty()).then(|| Words::parse(&text)).transpose()?;
    let filter = Filter {
        since: args.since,
        until: args.until,
        agent: args.agent.clone(),
        version: args.version.clone(),
        run: args.run.clone(),
        target: args.target.clone(),
        user: args.user.clone(),
        session: args.session.map(Seq),
        relation: args.relation.clone(),
        program: args.program.clone(),
        class: args.class.clone(),
        verdict: args.verdict.clone(),
        approver: args.approver.clone(),
        status: args.status.clone(),
        limit: Some(limit),
        ..Filter::default()
    };
    let found = reader.search(words.as_ref(), &filter)?;
    for sentence in &found.plainly {
        writeln!(io::stderr(), "chaperone: {sentence}")?;
    }
    show::commands(&found.rows, json)?;
    Ok(true)
}
