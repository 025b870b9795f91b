//! Which agent it was, and what is doubtful about it: pure functions of what was found.

use std::sync::Arc;

use chaperone_model::{Digest, Doubt, Identity, Process};

use super::{enrolled::Enrolled, image, version::digests};
use crate::config::{Agent, Binaries};

/// The first agent whose programs are in the lineage and of whose images the container's is one; one
/// that names none takes all. Where
/// there is none, the last of them and that it is none. `None` where there are no candidates.
pub(super) fn choose<'a>(
    candidates: &[&'a Agent],
    lineage: &[Arc<Process>],
    image: &image::Found,
) -> Option<(&'a Agent, bool)> {
    let has = |wanted: &[Digest]| digests(lineage).any(|(digest, _)| wanted.contains(digest));
    let found = candidates.iter().find(|agent| {
        let (programs, images) = (&agent.select.programs, &agent.select.images);
        let is_of = |image: &Arc<image::Image>| image.digests().iter().any(|d| images.contains(d));
        (programs.is_empty() || has(programs))
            && (images.is_empty() || image.as_ref().is_ok_and(is_of))
    });
    match found {
        Some(agent) => Some((agent, true)),
        None => candidates.last().map(|agent| (*agent, false)),
    }
}

/// What was found beside the identity itself.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Scripts that were changed after they were started.
    pub(super) changed: Vec<String>,
    /// Interpreters whose code is in no file.
    pub(super) inline: Vec<String>,
    /// What the process began to run and what it shows.
    pub(super) disguise: Option<(String, String)>,
    /// Something of the lineage is not kept.
    pub(super) cut: bool,
    /// Why the version is not known.
    pub(super) no_version: Option<String>,
    /// The image of the container; nothing where nobody asks.
    pub(super) image: Option<image::Found>,
}

/// All doubts. `known`: the agent is one that runs these programs.
pub(super) fn of(
    agent: &Agent,
    known: bool,
    identity: &Identity,
    enrolled: &Enrolled,
    found: Found,
) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    if !known {
        doubts.push(Doubt::NoAgent);
    }
    doubts.extend(found.disguise.map(|(began, shown)| Doubt::Disguised { began, shown }));
    if agent.binaries == Binaries::Enrolled {
        let is_enrolled =
            |digest: Option<Digest>| digest.is_some_and(|digest| enrolled.has(&agent.name, digest));
        let mut doubt = |path: &str, digest, script| {
            let doubt = Doubt::Unenrolled { path: path.to_owned(), digest, script };
            if !is_enrolled(digest) && !doubts.contains(&doubt) {
                doubts.push(doubt);
            }
        };
        if found.cut {
            doubt("a program of the lineage that is not kept", None, false);
        }
        for process in identity.lineage.iter() {
            let path = process.executable.as_deref().unwrap_or("a program whose file is not known");
            doubt(path, process.binary, false);
            if let Some(script) = &process.script {
                doubt(&script.path, script.digest, true);
            }
        }
    } else if found.cut {
        doubts.push(Doubt::Cut);
    }
    if agent.images == Binaries::Enrolled {
        match found.image {
            Some(Ok(image)) if enrolled.has_image(&agent.name, image.digests()) => {}
            Some(Ok(image)) => doubts.push(Doubt::UnenrolledImage(image.digest)),
            Some(Err(why)) => doubts.push(Doubt::NoImage(why)),
            None => doubts.push(Doubt::NoImage("it was not looked for".into())),
        }
    }
    if let Some(range) = &agent.versions {
        match (&identity.version, found.no_version) {
            (Some(version), _) if range.allows(&version.text) => {}
            (Some(version), _) => doubts.push(Doubt::Version(version.text.clone())),
            (None, why) => doubts.push(Doubt::NoVersion(why.unwrap_or_default())),
        }
    }
    doubts.extend(found.changed.into_iter().map(Doubt::ScriptChanged));
    doubts.extend(found.inline.into_iter().map(Doubt::Inline));
    doubts
}
