//! `chaperone agents`: who was seen, what is enrolled, and what changed since.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use chaperone_audit::{BinaryRow, Reader, RunRow};
use chaperone_model::Digest;
use clap::{Args, Subcommand};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    config::Config,
    identity::enrolled::{self, Entry},
    show,
};

#[derive(Debug, Args)]
pub(crate) struct AgentsArgs {
    #[command(subcommand)]
    what: Option<AgentsCommand>,
    /// At most so many runs, the newest
    #[arg(long, short = 'n', default_value_t = 50)]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum AgentsCommand {
    /// Enrol the programs and scripts of an agent, as they are installed now
    Enroll {
        /// Its name in the configuration
        agent: String,
        /// Their files [default: all that the log has seen of the agent]
        files: Vec<PathBuf>,
    },
    /// Show which enrolled files are changed or gone; exit code 3 where there are any
    Diff,
}

/// Does it; answers whether all is well.
pub(crate) fn run(config: &Config, args: &AgentsArgs, json: bool) -> Result<bool> {
    match &args.what {
        None => list(config, args.limit, json).map(|()| true),
        Some(AgentsCommand::Enroll { agent, files }) => enroll(config, agent, files, json),
        Some(AgentsCommand::Diff) => diff(config, json),
    }
}

#[derive(Serialize)]
pub(crate) struct Seen {
    pub(crate) runs: Vec<RunRow>,
    pub(crate) programs: Vec<Program>,
}

#[derive(Serialize)]
pub(crate) struct Program {
    #[serde(flatten)]
    pub(crate) row: BinaryRow,
    pub(crate) enrolled: bool,
}

fn list(config: &Config, limit: u32, json: bool) -> Result<()> {
    let reader = Reader::open(&config.daemon.log)?;
    let entries = enrolled::read(&config.daemon.enrolled)?;
    let is_enrolled = |row: &BinaryRow| {
        let same =
            |entry: &Entry| entry.agent == row.agent && Some(&entry.sha256) == row.digest.as_ref();
        entries.iter().any(same)
    };
    let runs = reader.runs(limit)?;
    let programs = reader.binaries()?.into_iter();
    let programs = programs.map(|row| Program { enrolled: is_enrolled(&row), row }).collect();
    show::agents(&config.agents, &Seen { runs, programs }, json)
}

fn enroll(config: &Config, agent: &str, files: &[PathBuf], json: bool) -> Result<bool> {
    ensure!(
        config.agents.iter().any(|known| &*known.name.0 == agent),
        "the configuration has no agent named {agent:?}"
    );
    let files = if files.is_empty() { seen(config, agent)? } else { files.to_vec() };
    let mut new = Vec::new();
    let mut all = true;
    for file in &files {
        match hash(file) {
            Ok(digest) => new.push(Entry {
                agent: agent.into(),
                path: file.clone(),
                sha256: digest.to_string(),
            }),
            Err(error) => {
                all = false;
                let line = show::clean(&format!("not enrolled: {error:#}"));
                writeln!(io::stderr(), "chaperone: {line}")?;
            }
        }
    }
    enrolled::change(&config.daemon.enrolled, |entries| {
        for entry in &new {
            entries.retain(|old| old.agent != entry.agent || old.path != entry.path);
            entries.push(entry.clone());
        }
        entries.sort_by(|a, b| (&a.agent, &a.path).cmp(&(&b.agent, &b.path)));
    })?;
    for entry in &new {
        if json {
            show::json_line(entry)?;
        } else {
            let path = show::clean(&entry.path.to_string_lossy());
            writeln!(io::stdout(), "{}  {path}", entry.sha256)?;
        }
    }
    Ok(all)
}

/// The files of all programs and scripts that the log has of an agent.
fn seen(config: &Config, agent: &str) -> Result<Vec<PathBuf>> {
    let rows = Reader::open(&config.daemon.log)?.binaries()?;
    let paths = rows.into_iter().filter(|row| row.agent == agent).filter_map(|row| row.path);
    let mut paths: Vec<PathBuf> = paths
        .map(|path| path.strip_suffix(" (deleted)").unwrap_or(&path).into())
        .filter(|path: &PathBuf| path.is_absolute())
        .collect();
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        bail!("nothing was seen of agent {agent} yet: name its files");
    }
    Ok(paths)
}

#[derive(Serialize)]
struct Changed<'a> {
    agent: &'a str,
    path: &'a Path,
    enrolled: &'a str,
    /// Nothing where it is gone.
    installed: Option<String>,
}

fn diff(config: &Config, json: bool) -> Result<bool> {
    let entries = enrolled::read(&config.daemon.enrolled)?;
    let mut well = true;
    for entry in &entries {
        let installed = hash(&entry.path).ok().map(|digest| digest.to_string());
        if installed.as_ref() == Some(&entry.sha256) {
            continue;
        }
        well = false;
        if json {
            show::json_line(&Changed {
                agent: &entry.agent,
                path: &entry.path,
                enrolled: &entry.sha256,
                installed,
            })?;
            continue;
        }
        let path = show::clean(&entry.path.to_string_lossy());
        let line = match installed {
            None => format!("gone     {}  {path}", entry.agent),
            Some(new) => {
                format!(
                    "changed  {}  {path}\n         enrolled  {}\n         installed {new}",
                    entry.agent, entry.sha256
                )
            }
        };
        writeln!(io::stdout(), "{line}")?;
    }
    if well && !json {
        writeln!(io::stdout(), "all {} enrolled files are as they were", entries.len())?;
    }
    Ok(well)
}

fn hash(path: &Path) -> Result<Digest> {
    ensure!(path.is_absolute(), "{} does not begin with '/'", path.display());
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(file.metadata()?.is_file(), "{} is no file", path.display());
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))? {
            0 => return Ok(Digest(hash.finalize().into())),
            count => hash.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}
