//! Which agent it was, and what is doubtful about it: pure functions of what was found.

use std::sync::Arc;

use chaperone_model::{Digest, Doubt, Identity, Process};

use super::{enrolled::Enrolled, version::digests};
use crate::config::{Agent, Binaries};

/// The first agent whose programs are in the lineage; one that names no programs takes all. Where
/// there is none, the last of them and that it is none. `None` where there are no candidates.
pub(super) fn choose<'a>(
    candidates: &[&'a Agent],
    lineage: &[Arc<Process>],
) -> Option<(&'a Agent, bool)> {
    let has = |wanted: &[Digest]| digests(lineage).any(|digest| wanted.contains(digest));
    let found = candidates.iter().find(|agent| {
        let programs = &agent.select.programs;
        programs.is_empty() || has(programs)
    });
    match found {
        Some(agent) => Some((agent, true)),
        None => candidates.last().map(|agent| (*agent, false)),
    }
}

/// All doubts. `known`: the agent is one that runs these programs.
pub(super) fn of(
    agent: &Agent,
    known: bool,
    identity: &Identity,
    enrolled: &Enrolled,
    changed: Vec<String>,
) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    if !known {
        doubts.push(Doubt::NoAgent);
    }
    if agent.binaries == Binaries::Enrolled {
        for process in identity.lineage.iter() {
            let script = process.script.as_ref();
            let script = script.map(|script| (Some(script.path.as_str()), script.digest));
            let program = (process.executable.as_deref(), process.binary);
            for (path, digest) in std::iter::once(program).chain(script) {
                let path = path.unwrap_or("a program whose file is not known").to_owned();
                let doubt = Doubt::Unenrolled { path, digest };
                let good = digest.is_some_and(|digest| enrolled.has(&agent.name, digest));
                if !good && !doubts.contains(&doubt) {
                    doubts.push(doubt);
                }
            }
        }
    }
    if let Some(range) = &agent.versions {
        let version = identity.version.as_ref().map(|version| version.text.clone());
        if !version.as_deref().is_some_and(|version| range.allows(version)) {
            doubts.push(Doubt::Version(version));
        }
    }
    doubts.extend(changed.into_iter().map(Doubt::ScriptChanged));
    doubts
}
