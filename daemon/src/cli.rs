//! The command line: what can be asked, and with which words.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use chaperone_audit::{Filter, Reader};
use chaperone_control::{Action, Reply, ask};
use chaperone_model::{Seq, Timestamp};
use clap::{Args, Parser, Subcommand};

use crate::{
    agents::{self, AgentsArgs},
    config::{self, Config, ConfigError, DEFAULT_CONTROL},
    daemon, detaching, doctor, documents,
    erase::{self, EraseArgs},
    evidence,
    export::{self, ExportArgs},
    holds::{self, HoldsArgs, WordArgs},
    loading,
    mask::{self, MaskCommand},
    policy::{self, PolicyCommand},
    replay::{self, ReplayArgs},
    search::{self, SearchArgs},
    show,
    trust::{self, Trust},
    unmask::{self, UnmaskArgs},
    verify::{self, CheckpointArgs, ProofArgs, VerifyArgs},
};

/// How often `log --follow` looks.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// Records and guards what autonomous agents do to databases and servers.
///
/// Exit codes: 0 done, 1 it could not be done, 2 the command line is wrong, 3 what was asked for
/// is not there or not well.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    /// The configuration [default: `$CHAPERONE_CONFIG`, else /etc/chaperone/chaperone.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The control socket [default: the configuration's]
    #[arg(long, global = true, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Intercept, relay and record, until SIGTERM
    Daemon(DaemonArgs),
    /// Check the configuration, and the files of certificates and secrets that it names
    Check,
    /// Say what this kernel and host give, and what is missing
    Doctor,
    /// Show the running daemon's state
    Status,
    /// Show live sessions
    Sessions,
    /// Show what waits for a person
    Holds(HoldsArgs),
    /// Let go on what waits for a person
    Approve(WordArgs),
    /// Refuse what waits for a person
    Deny(WordArgs),
    /// Lift a mask for a run of an agent, for a time; show and end what is lifted
    Unmask(UnmaskArgs),
    /// Ask what the rules say
    Policy {
        #[command(subcommand)]
        what: PolicyCommand,
    },
    /// Ask what masks do
    Mask {
        #[command(subcommand)]
        what: MaskCommand,
    },
    /// Show agents, their runs and programs; enrol programs
    Agents(AgentsArgs),
    /// Show what agents did
    Log(Box<LogArgs>),
    /// Write manual pages and completions for shells
    #[command(hide = true)]
    Documents {
        /// The folder for them
        folder: PathBuf,
    },
    /// This host's authority, which agents' clients must trust to verify a target through the daemon
    Trust {
        #[command(subcommand)]
        what: Option<Trust>,
    },
}

#[derive(Debug, Args)]
struct DaemonArgs {
    /// Do not serve: load the programs and put them in force. From then on connections wait for a
    /// daemon, or are refused
    #[arg(long, group = "step")]
    load: bool,
    /// Serve with the programs that `--load` put in force: this needs few privileges
    #[arg(long, group = "step")]
    serve: bool,
    /// Do not serve: detach the programs. From then on connections are no longer intercepted (root)
    #[arg(long, group = "step")]
    detach: bool,
    /// Detach also where the log cannot be told
    #[arg(long, requires = "detach")]
    unrecorded: bool,
}

#[derive(Debug, Args)]
struct LogArgs {
    #[command(subcommand)]
    what: Option<LogCommand>,
    /// Go on as commands finish
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many, the newest
    #[arg(long, short = 'n', default_value_t = 100, global = true)]
    limit: u32,
}

/// Which commands.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Begun at or after: a time (2026-05-01T12:00:00Z) or so long ago (2h, 7d)
    #[arg(long, value_parser = moment)]
    since: Option<Timestamp>,
    /// Begun before: a time or so long ago
    #[arg(long, value_parser = moment)]
    until: Option<Timestamp>,
    /// Of this agent
    #[arg(long)]
    agent: Option<String>,
    /// On this target
    #[arg(long)]
    target: Option<String>,
    /// Of this session
    #[arg(long)]
    session: Option<u64>,
    /// Of this run of an agent
    #[arg(long)]
    run: Option<String>,
    /// Of this class: read, write, destructive, forbidden
    #[arg(long, value_parser = ["read", "write", "destructive", "forbidden"], hide_possible_values = true)]
    class: Option<String>,
    /// Whose statement contains this text, in either case
    #[arg(long)]
    text: Option<String>,
    /// With this status: ok, error, suspended, skipped, refused, unknown, pending
    #[arg(long, value_parser = ["ok", "error", "suspended", "skipped", "refused", "unknown", "pending"], hide_possible_values = true)]
    status: Option<String>,
}

impl FilterArgs {
    /// All of them.
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            since: self.since,
            until: self.until,
            agent: self.agent.clone(),
            target: self.target.clone(),
            session: self.session.map(Seq),
            run: self.run.clone(),
            class: self.class.clone(),
            before: None,
            text: self.text.clone(),
            status: self.status.clone(),
            limit: None,
            ..Filter::default()
        }
    }
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Show one command with its response
    Show {
        /// Its id
        id: u64,
    },
    /// Find commands by words and names, the newest first
    Search(Box<SearchArgs>),
    /// Show sessions, live and past
    Sessions,
    /// Show what else happened
    Events,
    /// Show the log's public key, to be enrolled off this host
    Key,
    /// Show the log's newest signed head, to be kept elsewhere
    Checkpoint(CheckpointArgs),
    /// Verify that the log is what was written
    Verify(VerifyArgs),
    /// Write the proof that a record is in the log, or that the log goes on from a kept checkpoint
    Proof(ProofArgs),
    /// Show a session as it went, with its results
    Replay(ReplayArgs),
    /// Hand it on in a form that other tools read
    Export(ExportArgs),
    /// Erase what commands and their responses say; the log proves all else as before (root)
    Erase(EraseArgs),
    /// Begin a new file of the log, as with every month (root)
    Turn,
}

/// Does what was asked.
pub(crate) fn run(cli: &Cli) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHAPERONE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    match dispatch(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "chaperone: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli) -> Result<bool> {
    let path = config::path(cli.config.clone());
    let config = || Config::read(&path);
    // Approvers need not be able to read the configuration.
    let socket = || match (&cli.socket, config()) {
        (Some(socket), _) => Ok(socket.clone()),
        (None, Ok(config)) => Ok(config.daemon.control),
        (None, Err(ConfigError::Read { source, .. }))
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Ok(PathBuf::from(DEFAULT_CONTROL))
        }
        (None, Err(error)) => Err(error),
    };
    match &cli.command {
        Command::Daemon(args) => {
            let config = config()?;
            match args {
                DaemonArgs { detach: true, .. } => detaching::detach(&config, args.unrecorded)?,
                DaemonArgs { load: true, .. } => loading::load(&config)?,
                _ => daemon::run(config, args.serve)?,
            }
            Ok(true)
        }
        Command::Documents { folder } => documents::write(folder).map(|()| true),
        Command::Check => {
            let mut config = config()?;
            let elsewhere = daemon::examine(&config)?;
            config.warnings.extend(daemon::near(&config));
            show::checked(&path, &config, &elsewhere, cli.json).map(|()| true)
        }
        Command::Doctor => doctor::examine(&path, cli.json),
        Command::Status => {
            if let Reply::Status(status) = ask(&socket()?, &Action::Status)? {
                let well = status.log.error.is_none()
                    && status.interception.problem.is_none()
                    && !status.anchors.iter().any(|a| a.lags);
                show::status(&status, cli.json)?;
                return Ok(well);
            }
            Ok(false)
        }
        Command::Sessions => {
            if let Reply::Sessions(sessions) = ask(&socket()?, &Action::Sessions)? {
                show::live_sessions(&sessions, cli.json)?;
            }
            Ok(true)
        }
        Command::Mask { what } => mask::run(&config()?, what, cli.json),
        Command::Policy { what } => policy::run(&config()?, what, cli.json),
        Command::Holds(args) => {
            let log = || Ok(Reader::open(&config()?.daemon.log)?);
            holds::run(&socket()?, args, log, cli.json)
        }
        Command::Approve(args) => holds::decide(&socket()?, args, true, cli.json),
        Command::Deny(args) => holds::decide(&socket()?, args, false, cli.json),
        Command::Unmask(args) => {
            let log = || Ok(Reader::open(&config()?.daemon.log)?);
            unmask::run(&socket()?, args, log, cli.json)
        }
        Command::Agents(args) => agents::run(&config()?, args, cli.json),
        Command::Trust { what } => {
            trust::run(&config()?, what.as_ref().unwrap_or(&Trust::Show), cli.json)
        }
        Command::Log(args) => {
            let path = || Ok(config()?.daemon.log);
            let key = || evidence::verifier(&config()?);
            match &args.what {
                Some(LogCommand::Key) => verify::key(&key()?),
                Some(LogCommand::Checkpoint(args)) => verify::checkpoint(&path()?, args),
                Some(LogCommand::Proof(args)) => verify::proof(&path()?, args),
                Some(LogCommand::Erase(args)) => {
                    let log = || Ok(Reader::open(&path()?)?);
                    erase::run(&socket()?, args, log, cli.json)
                }
                Some(LogCommand::Turn) => {
                    ask(&socket()?, &Action::Turn)?;
                    Ok(true)
                }
                Some(LogCommand::Replay(what)) => replay::run(&Reader::open(&path()?)?, what),
                Some(LogCommand::Export(what)) => export::run(&path()?, what),
                Some(LogCommand::Verify(args)) => verify::run(args, path, key, cli.json),
                _ => log(&Reader::open(&path()?)?, args, cli.json),
            }
        }
    }
}

fn log(reader: &Reader, args: &LogArgs, json: bool) -> Result<bool> {
    let filter = Filter { limit: Some(args.limit), ..args.filter.filter() };
    match &args.what {
        Some(LogCommand::Show { id }) => {
            let Some(command) = reader.command(Seq(*id))? else {
                writeln!(io::stderr(), "chaperone: there is no command {id}")?;
                return Ok(false);
            };
            show::command(&command, json)?;
        }
        Some(LogCommand::Search(search)) => return search::run(reader, search, args.limit, json),
        Some(LogCommand::Sessions) => show::sessions(&reader.sessions(args.limit)?, json)?,
        Some(LogCommand::Events) => show::events(&reader.events(args.limit)?, json)?,
        Some(_) | None => {
            // The cursor first: what finishes in between is shown by both or by the second alone.
            let mut cursor = reader.last_outcome()?;
            let mut rows = reader.commands(&filter)?;
            if args.follow {
                rows.retain(|row| row.outcome.is_some_and(|outcome| outcome <= cursor.0));
            }
            show::commands(&rows, json)?;
            if !args.follow {
                return Ok(true);
            }
            loop {
                std::thread::sleep(FOLLOW_EVERY);
                let (rows, next) = reader.follow(cursor, &filter)?;
                cursor = next;
                if !rows.is_empty() {
                    show::more_commands(&rows, json)?;
                }
            }
        }
    }
    Ok(true)
}

/// A moment: a time, or a span before now.
pub(crate) fn moment(text: &str) -> Result<Timestamp> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(time.as_microsecond()));
    }
    let span: jiff::Span = text.parse().with_context(|| {
        format!("{text:?} is neither a time such as 2026-05-01T12:00:00Z nor a span such as 2h")
    })?;
    let then = jiff::Zoned::now().checked_sub(span.abs()).context("that is too long ago")?;
    Ok(Timestamp(then.timestamp().as_microsecond()))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn moments_are_times_or_spans() {
        assert_eq!(moment("1970-01-01T00:00:01Z").expect("a time"), Timestamp(1_000_000));
        let hour = moment("1h").expect("a span").0;
        let now = crate::clock::wall().0;
        assert!((now - hour - 3_600_000_000).abs() < 60_000_000);
        assert!(moment("soon").is_err());
    }
}
