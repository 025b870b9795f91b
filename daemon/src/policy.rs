//! `chaperone policy`: what the rules say of a statement, and what a draft of them would have said of
//! what the log holds.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use chaperone_audit::{CommandRow, Filter, Reader};
use chaperone_model::{
    AgentName, CommandKind, Doubt, Identity, Protocol, Reading, Run, TargetName, Timestamp,
    Version, VersionSource,
};
use chaperone_policy::{Asked, Decision, Moment, Verdict};
use chaperone_sql::readers::Readers;
use chaperone_wire::postgres::Named;
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::task::LocalSet;

use crate::{
    clock,
    config::{Agent, Config},
    names::Names,
    reader, show,
};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what the rules say of a statement, and why; exit code 3 where it would not pass at once
    Test(TestArgs),
    /// Show which commands of the log would be decided otherwise by these rules
    Replay(ReplayArgs),
}

/// As if whom a statement is tried out.
#[derive(Debug, Args)]
pub(crate) struct Who {
    /// The agent
    #[arg(long)]
    pub(crate) agent: String,
    /// The target
    #[arg(long)]
    pub(crate) target: String,
    /// The agent's version
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// The agent's run
    #[arg(long, default_value = "test")]
    pub(crate) run: String,
    /// The database, where it matters
    #[arg(long)]
    pub(crate) database: Option<String>,
    /// The account at the target, where it matters
    #[arg(long)]
    pub(crate) user: Option<String>,
}

impl Who {
    /// The entries of the agent and of the target, which speaks SQL.
    pub(crate) fn find<'a>(&self, config: &'a Config) -> Result<(&'a Agent, usize)> {
        let agent = config.agents.iter().find(|agent| *agent.name.0 == self.agent);
        let agent = agent
            .with_context(|| format!("the configuration has no agent named {:?}", self.agent))?;
        let place = config.targets.iter().position(|target| *target.name.0 == self.target);
        let place = place
            .with_context(|| format!("the configuration has no target named {:?}", self.target))?;
        if config.targets[place].protocol != Protocol::Postgres {
            bail!("statements are SQL, and target {} speaks something else", self.target);
        }
        Ok((agent, place))
    }

    pub(crate) fn identity(&self) -> Identity {
        identity(&self.agent, self.version.clone(), &self.run, None)
    }
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    who: Who,
    /// At this time rather than now (2026-05-01T23:00:00Z)
    #[arg(long, value_parser = crate::cli::moment)]
    at: Option<Timestamp>,
    /// As if so many commands had come in the last minute
    #[arg(long, default_value_t = 1)]
    rate: u64,
    /// The statement
    statement: String,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Begun at or after: a time or so long ago
    #[arg(long, value_parser = crate::cli::moment)]
    since: Option<Timestamp>,
    /// A configuration with other rules [default: the one in force]
    #[arg(long, value_name = "FILE")]
    draft: Option<PathBuf>,
    /// At most so many commands of the log, the newest
    #[arg(long, short = 'n', default_value_t = 100_000)]
    limit: u32,
}

/// Does it; answers whether all is well.
pub(crate) fn run(config: &Config, what: &PolicyCommand, json: bool) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let readers = Rc::new(Readers::new(reader::options()));
        match what {
            PolicyCommand::Test(args) => test(config, args, &readers, json).await,
            PolicyCommand::Replay(args) => replay(config, args, &readers, json).await,
        }
    })
}

/// What would be said of a statement.
#[derive(Serialize)]
pub(crate) struct Tested {
    pub(crate) verdict: &'static str,
    pub(crate) rule: String,
    pub(crate) message: Option<String>,
    pub(crate) approvers: Vec<String>,
    pub(crate) reading: Arc<Reading>,
    /// Which of its statements decided, from 0.
    pub(crate) statement: Option<usize>,
}

async fn test(config: &Config, args: &TestArgs, readers: &Readers, json: bool) -> Result<bool> {
    let who = &args.who;
    who.find(config)?;
    let reading =
        Names::default().settle(readers.read(&args.statement, &who.agent).await, Named::default());
    let identity = who.identity();
    let decision = config.policy.decide(&Asked {
        target: &TargetName(who.target.as_str().into()),
        identity: &identity,
        database: who.database.as_deref(),
        user: who.user.as_deref(),
        kind: CommandKind::Query,
        reading: Some(&reading),
        search_path: None,
        moment: args.at.map_or_else(clock::moment, moment_of),
        rate: args.rate,
    });
    let verdict = name(&decision);
    let (message, approvers) = match &decision.verdict {
        Verdict::Deny(message) => (message.as_deref().map(str::to_owned), Vec::new()),
        Verdict::Hold(terms) => (None, terms.approvers.iter().map(ToString::to_string).collect()),
        Verdict::Allow(_) => (None, Vec::new()),
    };
    let tested = Tested {
        verdict,
        rule: decision.rule.to_string(),
        message,
        approvers,
        reading,
        statement: decision.statement,
    };
    show::tested(&tested, json)?;
    Ok(matches!(decision.verdict, Verdict::Allow(_)))
}

/// A command of the log that would be decided otherwise.
#[derive(Serialize)]
pub(crate) struct Changed {
    pub(crate) id: u64,
    pub(crate) time: String,
    pub(crate) agent: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) was: String,
    pub(crate) would_be: &'static str,
    pub(crate) rule: String,
    pub(crate) class: &'static str,
    pub(crate) statement: Option<String>,
}

async fn replay(config: &Config, args: &ReplayArgs, readers: &Readers, json: bool) -> Result<bool> {
    let draft = args.draft.as_deref().map(read_draft).transpose()?;
    let policy = draft.as_ref().map_or(&config.policy, |draft| &draft.policy);
    let filter = Filter { since: args.since, limit: Some(args.limit), ..Filter::default() };
    let rows = Reader::open(&config.daemon.log)?.commands(&filter)?;
    let mut names: HashMap<u64, Names> = HashMap::new();
    let mut changed = Vec::new();
    let mut looked_at = 0_u64;
    // Others are not read again here.
    let kind = |row: &CommandRow| serde_json::from_value(row.kind.as_str().into());
    let is_sql = |row: &CommandRow| kind(row).is_ok_and(CommandKind::is_sql);
    for row in rows.iter().filter(|row| row.part == 0 && is_sql(row)) {
        let (Some(agent), Some(target)) = (&row.agent, &row.target) else { continue };
        looked_at += 1;
        let names = names.entry(row.session).or_default();
        let reading = match &row.statement {
            Some(text) if row.kind != "cancel" => {
                Some(names.settle(readers.read(text, agent).await, Named::default()))
            }
            _ => None,
        };
        if let Some(reading) = &reading {
            names.learn(reading);
        }
        let run = row.run.as_deref().unwrap_or_default();
        let identity = identity(agent, row.agent_version.clone(), run, row.doubts.as_deref());
        let decision = policy.decide(&Asked {
            target: &TargetName(target.as_str().into()),
            identity: &identity,
            database: row.database.as_deref(),
            user: row.user.as_deref(),
            kind: if row.kind == "cancel" { CommandKind::Cancel } else { CommandKind::Query },
            reading: reading.as_deref(),
            search_path: None,
            moment: time_of(row).map_or_else(clock::moment, moment_of),
            rate: 0,
        });
        let would_be = name(&decision);
        // What the protocol refused is not the rules'.
        if row.rule != "protocol" && would_be != row.verdict {
            changed.push(Changed {
                id: row.id,
                time: row.time.clone(),
                agent: row.agent.clone(),
                target: row.target.clone(),
                was: row.verdict.clone(),
                would_be,
                rule: decision.rule.to_string(),
                class: reading.as_ref().map_or("destructive", |reading| reading.rung().as_str()),
                statement: row.statement.clone(),
            });
        }
    }
    show::replayed(&changed, looked_at, json)?;
    Ok(true)
}

fn read_draft(path: &Path) -> Result<Config> {
    Config::read(path).with_context(|| format!("the draft {}", path.display()))
}

fn name(decision: &Decision) -> &'static str {
    decision.would.map_or(
        match decision.verdict {
            Verdict::Allow(_) => "allow",
            Verdict::Deny(_) => "deny",
            Verdict::Hold(_) => "hold",
        },
        chaperone_model::VerdictKind::as_str,
    )
}

/// Somebody of whom so much is known.
fn identity(agent: &str, version: Option<String>, run: &str, doubts: Option<&str>) -> Identity {
    let unenrolled = doubts.is_some_and(|doubts| doubts.contains("is not enrolled"));
    let doubt = || Doubt::Unenrolled { path: "?".into(), digest: None, script: false };
    Identity {
        agent: AgentName(agent.into()),
        version: version.map(|text| Version { text, source: VersionSource::Configuration }),
        run: Run { name: run.into(), unit: None, container: None, image: None },
        lineage: [].into(),
        comm: String::new(),
        doubts: unenrolled.then(doubt).into_iter().collect(),
    }
}

fn time_of(row: &CommandRow) -> Option<Timestamp> {
    let time: jiff::Timestamp = row.time.parse().ok()?;
    Some(Timestamp(time.as_microsecond()))
}

fn moment_of(at: Timestamp) -> Moment {
    let Ok(at) = jiff::Timestamp::from_microsecond(at.0) else { return clock::moment() };
    clock::moment_of(&at.to_zoned(jiff::tz::TimeZone::system()))
}
