//! `chaperone agents`: who was seen, what is enrolled, and what changed since.

use std::{
    collections::BTreeSet,
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
    config::{Agent, Binaries, Config, image_digest},
    identity::enrolled::{self, EnrolledImage, Entry},
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
    /// Enrol the programs and scripts of an agent, as they are installed now, and images
    Enroll {
        /// Its name in the configuration
        agent: String,
        /// Their files, and digests of images (sha256:…) [default: all that the log has seen of the
        /// agent; images where its entry has images = "enrolled"]
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
    pub(crate) images: Vec<SeenImage>,
    pub(crate) programs: Vec<Program>,
}

/// An image that an agent's containers were started from.
#[derive(Serialize)]
pub(crate) struct SeenImage {
    pub(crate) agent: String,
    pub(crate) image: String,
    pub(crate) enrolled: bool,
}

#[derive(Serialize)]
pub(crate) struct Program {
    #[serde(flatten)]
    pub(crate) row: BinaryRow,
    pub(crate) enrolled: bool,
}

fn list(config: &Config, limit: u32, json: bool) -> Result<()> {
    let reader = Reader::open(&config.daemon.log)?;
    let list = enrolled::read(&config.daemon.enrolled)?;
    let is_enrolled = |row: &BinaryRow| {
        let same =
            |entry: &Entry| entry.agent == row.agent && Some(&entry.sha256) == row.digest.as_ref();
        list.files.iter().any(same)
    };
    let runs = reader.runs(limit)?;
    let programs = reader.binaries()?.into_iter();
    let programs = programs.map(|row| Program { enrolled: is_enrolled(&row), row }).collect();
    let images = images_of(&runs).map(|(agent, image)| SeenImage {
        agent: agent.into(),
        image: image.into(),
        enrolled: list.images.iter().any(|i| i.agent == agent && i.digest == image),
    });
    let images = images.collect();
    show::agents(&config.agents, &Seen { runs, images, programs }, json)
}

/// What is to be enrolled.
#[derive(Default)]
struct Wanted {
    files: Vec<PathBuf>,
    images: Vec<String>,
}

fn enroll(config: &Config, agent: &str, named: &[PathBuf], json: bool) -> Result<bool> {
    let known = config.agents.iter().find(|known| &*known.name.0 == agent);
    let known = known.with_context(|| format!("the configuration has no agent named {agent:?}"))?;
    let wanted = if named.is_empty() { seen(config, known)? } else { wanted(named)? };
    let mut new = Vec::new();
    let mut all = true;
    for file in &wanted.files {
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
    let image = |digest| EnrolledImage { agent: agent.into(), digest };
    let images: Vec<_> = wanted.images.into_iter().map(image).collect();
    enrolled::change(&config.daemon.enrolled, |list| {
        for entry in &new {
            list.files.retain(|old| old.agent != entry.agent || old.path != entry.path);
            list.files.push(entry.clone());
        }
        list.files.sort_by(|a, b| (&a.agent, &a.path).cmp(&(&b.agent, &b.path)));
        // Several are enrolled at once while one takes the place of another.
        list.images.extend(images.iter().cloned());
        list.images.sort();
        list.images.dedup();
    })?;
    for entry in &new {
        if json {
            show::json_line(entry)?;
        } else {
            let path = show::clean(&entry.path.to_string_lossy());
            writeln!(io::stdout(), "{}  {path}", entry.sha256)?;
        }
    }
    for image in &images {
        if json {
            show::json_line(image)?;
        } else {
            writeln!(io::stdout(), "{}", image.digest)?;
        }
    }
    Ok(all)
}

/// What stands on the command line: files, and digests of images.
fn wanted(named: &[PathBuf]) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    for name in named {
        match name.to_str().filter(|name| name.starts_with("sha256:")) {
            None => wanted.files.push(name.clone()),
            Some(image) => {
                let digest = image_digest(image).map_err(anyhow::Error::msg)?;
                wanted.images.push(format!("sha256:{digest}"));
            }
        }
    }
    Ok(wanted)
}

/// The files of all programs and scripts that the log has of an agent, and the images that its entry
/// wants enrolled.
fn seen(config: &Config, agent: &Agent) -> Result<Wanted> {
    let name = &*agent.name.0;
    let reader = Reader::open(&config.daemon.log)?;
    let by_image = agent.images == Binaries::Enrolled;
    let mut images = Vec::new();
    if by_image {
        let runs = reader.runs(u32::MAX)?;
        images.extend(images_of(&runs).filter(|(of, _)| *of == name).map(|(_, i)| i.to_owned()));
    }
    // Programs of an agent that is known by its image alone are in the image.
    let of_files = !by_image || agent.binaries == Binaries::Enrolled;
    let rows = if of_files { reader.binaries()? } else { Vec::new() };
    let paths = rows.into_iter().filter(|row| row.agent == name).filter_map(|row| row.path);
    let mut files: Vec<PathBuf> = paths
        .map(|path| path.strip_suffix(" (deleted)").unwrap_or(&path).into())
        .filter(|path: &PathBuf| path.is_absolute())
        .collect();
    files.sort();
    files.dedup();
    if files.is_empty() && images.is_empty() {
        bail!("nothing was seen of agent {name} yet: name its files, or its image");
    }
    Ok(Wanted { files, images })
}

/// The images of runs, each once, with the agents whose they were.
fn images_of(runs: &[RunRow]) -> impl Iterator<Item = (&str, &str)> {
    let all = runs.iter().filter_map(|run| Some((run.agent.as_str(), run.image.as_deref()?)));
    all.collect::<BTreeSet<_>>().into_iter()
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
    let entries = enrolled::read(&config.daemon.enrolled)?.files;
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
