//! `chaperone policy`: what the rules say of a statement or a command line, and what a draft of them would have said of
//! what the log holds.

use std::{
    collections::HashMap,
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
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
use chaperone_wire::{
    postgres::Named,
    ssh::{Ask, Terminal, Wanted},
};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use tokio::task::LocalSet;

use crate::{
    clock,
    config::{Agent, Config},
    names::Names,
    reader, show, ssh,
};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what the rules say of a statement or a command line, and why; exit code 3 where it would not
    /// pass at once
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
    pub(crate) fn find_sql<'a>(&self, config: &'a Config) -> Result<(&'a Agent, usize)> {
        let (agent, place) = self.find(config)?;
        if config.targets[place].protocol != Protocol::Postgres {
            bail!("statements are SQL, and target {} speaks something else", self.target);
        }
        Ok((agent, place))
    }

    /// The entries of the agent and of the target.
    fn find<'a>(&self, config: &'a Config) -> Result<(&'a Agent, usize)> {
        let agent = config.agents.iter().find(|agent| *agent.name.0 == self.agent);
        let agent = agent
            .with_context(|| format!("the configuration has no agent named {:?}", self.agent))?;
        let place = config.targets.iter().position(|target| *target.name.0 == self.target);
        let place = place
            .with_context(|| format!("the configuration has no target named {:?}", self.target))?;
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
    /// What is asked for, of a target that speaks SSH
    #[arg(long, value_enum)]
    kind: Option<SshKind>,
    /// With a terminal, of a target that speaks SSH
    #[arg(long)]
    terminal: bool,
    /// The statement or the command line; the subsystem's name; where a tunnel goes (host:port)
    statement: Option<OsString>,
}

/// What can be asked of a target that speaks SSH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SshKind {
    /// A command line is run (the default)
    Exec,
    /// A shell is opened
    Shell,
    /// SFTP is spoken
    Sftp,
    /// Another subsystem is started
    Subsystem,
    /// The target connects to somewhere
    Forward,
    /// The target listens for the agent
    Listen,
    /// Programs at the target may use the agent's display
    X11,
    /// Programs at the target may use the agent's keys
    Agent,
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

impl TestArgs {
    /// What a client would ask for.
    fn ask(&self) -> Result<Ask> {
        let kind = self.kind.unwrap_or(SshKind::Exec);
        let said = |what: &str| {
            let said = self.statement.as_ref().map(|said| said.as_bytes().to_vec());
            said.with_context(|| format!("say {what}"))
        };
        let place = || {
            let said = String::from_utf8(said("where: host:port")?).context("it is not UTF-8")?;
            let (host, port) = said.rsplit_once(':').context("say where: host:port")?;
            let port: u16 = port.parse().with_context(|| format!("{port:?} is no port"))?;
            Ok::<_, anyhow::Error>((host.to_owned(), u32::from(port)))
        };
        let wanted = match kind {
            SshKind::Exec => Wanted::Exec { line: said("which command line")? },
            SshKind::Subsystem => Wanted::Subsystem { name: said("which subsystem")? },
            SshKind::Forward => {
                let (host, port) = place()?;
                Wanted::Forward { host, port }
            }
            SshKind::Listen => {
                let (address, port) = place()?;
                Wanted::Listen { address, port }
            }
            _ if self.statement.is_some() => bail!("this kind has no text of its own"),
            SshKind::Shell => Wanted::Shell,
            SshKind::Sftp => Wanted::Subsystem { name: b"sftp".to_vec() },
            SshKind::X11 => Wanted::X11,
            SshKind::Agent => Wanted::AgentForward,
        };
        let terminal =
            self.terminal.then(|| Terminal { kind: "xterm".into(), columns: 80, rows: 24 });
        let environment = Vec::new();
        Ok(Ask { number: 0, wanted, objection: None, terminal, environment })
    }
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
    let (_, place) = who.find(config)?;
    let (kind, reading) = match config.targets[place].protocol {
        Protocol::Postgres => {
            if args.kind.is_some() || args.terminal {
                bail!("target {} speaks SQL: --kind and --terminal are for SSH", who.target);
            }
            let text = args.statement.as_ref().context("say which statement")?;
            let text = text.to_str().context("the statement is not UTF-8")?;
            let reading = readers.read(text, &who.agent).await;
            (CommandKind::Query, Names::default().settle(reading, Named::default()))
        }
        Protocol::Ssh => {
            let ask = args.ask()?;
            let line = match &ask.wanted {
                Wanted::Exec { line } => Some(readers.line(line, &who.agent).await),
                _ => None,
            };
            let command = ssh::reading::read(&ask, line.as_deref(), None).command;
            (command.kind, command.reading.context("it is not read")?)
        }
    };
    let identity = who.identity();
    let decision = config.policy.decide(&Asked {
        target: &TargetName(who.target.as_str().into()),
        identity: &identity,
        database: who.database.as_deref(),
        user: who.user.as_deref(),
        kind,
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
    let is_read = |row: &CommandRow| {
        kind(row).is_ok_and(|kind: CommandKind| kind.is_sql() || kind == CommandKind::Exec)
    };
    for row in rows.iter().filter(|row| row.part == 0 && is_read(row)) {
        let (Some(agent), Some(target)) = (&row.agent, &row.target) else { continue };
        looked_at += 1;
        let names = names.entry(row.session).or_default();
        let reading = match &row.statement {
            Some(line) if row.kind == "exec" => {
                let read = readers.line(line.as_bytes(), agent).await;
                ssh::reading::read(&ask_of(row, line), Some(&read), None).command.reading
            }
            Some(text) if row.kind != "cancel" => {
                Some(names.settle(readers.read(text, agent).await, Named::default()))
            }
            _ => None,
        };
        if let Some(reading) = reading.as_ref().filter(|_| row.kind != "exec") {
            names.learn(reading);
        }
        let run = row.run.as_deref().unwrap_or_default();
        let identity = identity(agent, row.agent_version.clone(), run, row.doubts.as_deref());
        let decision = policy.decide(&Asked {
            target: &TargetName(target.as_str().into()),
            identity: &identity,
            database: row.database.as_deref(),
            user: row.user.as_deref(),
            kind: match row.kind.as_str() {
                "cancel" => CommandKind::Cancel,
                "exec" => CommandKind::Exec,
                _ => CommandKind::Query,
            },
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

/// What a client asked for when it had this line run. One that is no text is as the log shows it.
fn ask_of(row: &CommandRow, line: &str) -> Ask {
    let about: serde_json::Value = row
        .parameters
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let terminal =
        about.get("terminal").map(|_| Terminal { kind: String::new(), columns: 80, rows: 24 });
    let environment = about.get("environment").cloned().unwrap_or_default();
    Ask {
        number: 0,
        wanted: Wanted::Exec { line: line.as_bytes().to_vec() },
        objection: None,
        terminal,
        environment: serde_json::from_value(environment).unwrap_or_default(),
    }
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
