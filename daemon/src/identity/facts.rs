//! What is known of one process and the program in it, looked up once.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use chaperone_kernel::{Image, Note, ProcessKey};
use chaperone_model::{AgentName, Digest, Process, Script, Seq, Version};
use nix::time::{ClockId, clock_gettime};

use super::{
    Identities, digest, image_of, lock, proc, script,
    tracker::{Id, Link},
};
use crate::clock;

/// Longest command line that is kept, in bytes.
const COMMAND_LINE: usize = 4096;

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Fact {
    process: Arc<Process>,
    recorded: Option<(Seq, Seq)>,
    version: Option<Pinned>,
}

/// The version that an agent had when this first process of a run of it was first seen.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    pub(super) agent: AgentName,
    pub(super) version: Option<Version>,
}

impl Fact {
    /// Its record of this run, where this is what was recorded.
    pub(super) fn recorded_as(&self, process: &Arc<Process>, run: Seq) -> Option<Seq> {
        let (of, seq) = self.recorded?;
        (of == run && Arc::ptr_eq(process, &self.process)).then_some(seq)
    }

    pub(super) fn set_recorded(&mut self, process: &Arc<Process>, run: Seq, seq: Seq) {
        if Arc::ptr_eq(process, &self.process) {
            self.recorded = Some((run, seq));
        }
    }

    /// The agent's version, where it was looked up for this first process of it.
    pub(super) fn version(&self, agent: &AgentName) -> Option<&Pinned> {
        self.version.as_ref().filter(|pinned| pinned.agent == *agent)
    }

    pub(super) fn pin(&mut self, pinned: Pinned) {
        self.version = Some(pinned);
    }
}

impl Identities {
    /// A process of a lineage. `note` is the connection's, where it is the one that connected;
    /// `above` is what stands above it.
    pub(super) async fn fact(
        &self,
        link: &Link,
        note: Option<&Note>,
        above: Option<Arc<Process>>,
    ) -> Arc<Process> {
        let owner = note.map_or_else(
            || {
                let of = link.program.as_ref().map(|program| program.process).or(link.process);
                let of = of.unwrap_or_default();
                (of.uid, of.gid, of.cgroup_id)
            },
            |note| (note.uid, note.gid, note.cgroup_id),
        );
        if let Some(fact) = lock(&self.facts).get(&link.key) {
            let known = &fact.process;
            if note.is_none() || (known.uid, known.gid, known.cgroup_id) == owner {
                return known.clone();
            }
        }
        let process = Arc::new(self.look(link, note, above, owner).await);
        let mut facts = lock(&self.facts);
        let version = facts.remove(&link.key).and_then(|old| old.version);
        facts.insert(link.key, Fact { process: process.clone(), recorded: None, version });
        process
    }

    async fn look(
        &self,
        link: &Link,
        note: Option<&Note>,
        above: Option<Arc<Process>>,
        (uid, gid, cgroup_id): (u32, u32, u64),
    ) -> Process {
        let id = Id::from(&link.key);
        let seen = Some(()).filter(|()| self.still(&link.key)).and_then(|()| proc::look(id));
        let program = link.program.as_deref();
        // It runs what forked it runs, as long as it has run nothing of its own.
        let same = above.filter(|above| program.is_none() && above.exec_id == link.key.exec_id);
        let filename = program.map(|p| String::from_utf8_lossy(&p.filename).into_owned());
        let image = note.and_then(image_of).or(program.map(|program| program.image));
        let arguments = match program.map(|program| &program.arguments) {
            Some(arguments) if !arguments.is_empty() => Some(arguments.to_vec()),
            _ if seen.is_some() && same.is_none() => proc::arguments(id).await,
            _ => None,
        };
        let arguments = arguments.as_deref().map(split);
        let folder = seen.as_ref().and_then(|seen| seen.folder.clone());
        let executable = seen
            .as_ref()
            .and_then(|seen| seen.executable.clone())
            .or_else(|| same.as_ref().and_then(|same| same.executable.clone()))
            .or_else(|| filename.clone());
        let binary = match self.binary(&link.key, image, seen.is_some(), filename.as_deref()).await
        {
            None => same.as_ref().and_then(|same| same.binary),
            found => found,
        };
        let script = if let Some(same) = &same {
            same.script.clone()
        } else {
            let path = script_path(
                executable.as_deref(),
                filename.as_deref(),
                arguments.as_deref().unwrap_or_default(),
            );
            let path = path.and_then(|path| script::absolute(&path, folder.as_deref()));
            match path {
                None => None,
                Some(path) => Some(self.script(id, seen.is_some(), path).await),
            }
        };
        let command_line = arguments.as_deref().map(joined);
        Process {
            pid: link.key.tgid,
            started_ns: link.key.started_ns,
            exec_id: link.key.exec_id,
            uid,
            gid,
            cgroup_id,
            cgroup: seen.as_ref().and_then(|seen| seen.cgroup.clone()),
            executable,
            binary,
            script,
            command_line: command_line.or_else(|| same.and_then(|same| same.command_line.clone())),
            folder,
            login_uid: seen.and_then(|seen| seen.login_uid),
        }
    }

    /// Whether a process still runs the program that it ran.
    fn still(&self, key: &ProcessKey) -> bool {
        let now = self.tracking().current(key.tgid);
        now.is_some_and(|now| {
            let unknown = now.key.exec_id == 0 || key.exec_id == 0;
            Id::from(&now.key) == Id::from(key) && (unknown || now.key.exec_id == key.exec_id)
        })
    }

    async fn binary(
        &self,
        key: &ProcessKey,
        image: Option<Image>,
        lives: bool,
        filename: Option<&str>,
    ) -> Option<Digest> {
        if let Some(digest) = image.and_then(|image| self.digests.known(&image)) {
            return Some(digest);
        }
        if lives {
            let pid = key.tgid;
            let (_, digest) = self.digests.of(move || proc::executable(pid)).await?;
            // What was read is what it ran: it still runs it.
            if self.still(key) && proc::started(pid) == Some(Id::from(key).ticks) {
                if let Some(image) = image {
                    self.digests.also(&image, digest);
                }
                return Some(digest);
            }
        }
        // It is gone: the file counts where its inode is the one that the kernel saw.
        let (path, image) = (PathBuf::from(filename?), image?);
        if !path.is_absolute() {
            return None;
        }
        let (found, digest) = self.digests.of(move || script::open_here(&path)).await?;
        (found == image).then_some(digest)
    }

    async fn script(&self, id: Id, lives: bool, path: PathBuf) -> Script {
        let opened = path.clone();
        let hashed = self.digests.of(move || open_script(id, lives, &opened)).await;
        Script {
            path: path.to_string_lossy().into_owned(),
            digest: hashed.map(|(_, digest)| digest),
        }
    }

    /// Scripts of a lineage whose files changed after they were started, or are gone.
    pub(super) fn changed_scripts(&self, links: &[Link]) -> Vec<String> {
        let facts: Vec<_> = {
            let facts = lock(&self.facts);
            let fact = |link: &Link| {
                let script = facts.get(&link.key)?.process.script.clone()?;
                Some((link.clone(), script))
            };
            links.iter().filter_map(fact).collect()
        };
        let mut changed: Vec<String> = Vec::new();
        for (link, script) in facts {
            let at_ns = link.program.as_ref().map_or(link.key.started_ns, |program| program.at_ns);
            if !changed.contains(&script.path) && is_changed(&link.key, &script, at_ns) {
                changed.push(script.path);
            }
        }
        changed
    }
}

fn is_changed(key: &ProcessKey, script: &Script, at_ns: u64) -> bool {
    let Some(started) = wall_us(at_ns) else { return true };
    let id = Id::from(key);
    let lives = proc::started(id.pid) == Some(id.ticks);
    let file = open_script(id, lives, Path::new(&script.path));
    let Some(image) = file.and_then(|file| digest::image(&file)).ok().flatten() else {
        return true;
    };
    let changed_us = image.ctime_s.saturating_mul(1_000_000) + u64::from(image.ctime_ns / 1000);
    changed_us > started
}

fn open_script(id: Id, lives: bool, path: &Path) -> io::Result<File> {
    if lives { script::open_for(id.pid, path) } else { script::open_here(path) }
}

/// A moment in nanoseconds since boot, as microseconds since 1970.
fn wall_us(boot_ns: u64) -> Option<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let seconds = u64::try_from(now.tv_sec()).ok()?;
    let now_us = seconds * 1_000_000 + u64::try_from(now.tv_nsec()).ok()? / 1000;
    let ago = now_us.saturating_sub(boot_ns / 1000);
    u64::try_from(clock::wall().0).ok()?.checked_sub(ago)
}

fn split(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    bytes.split(|b| *b == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

fn joined(arguments: &[String]) -> String {
    let mut line = arguments.join(" ");
    if line.len() > COMMAND_LINE {
        let end = (0..=COMMAND_LINE).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(end);
    }
    line
}

/// A script that the kernel found its interpreter for is among the interpreter's arguments by the
/// name that was given to execve(2) (`fs/binfmt_script.c`); else the interpreter was told.
fn script_path(
    executable: Option<&str>,
    filename: Option<&str>,
    arguments: &[String],
) -> Option<String> {
    if let Some(filename) = filename
        && arguments.iter().skip(1).take(2).any(|argument| argument == filename)
    {
        return Some(filename.to_owned());
    }
    let program = executable.map(|path| path.strip_suffix(" (deleted)").unwrap_or(path))?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    script::named(program, &arguments).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_with_a_shebang_is_known_by_what_was_executed() {
        let arguments = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let path = |exe, filename, line| script_path(Some(exe), Some(filename), &arguments(line));
        assert_eq!(
            path("/usr/bin/python3.11", "./agent.py", "/usr/bin/python3 -u ./agent.py x"),
            Some("./agent.py".into())
        );
        assert_eq!(path("/usr/bin/psql", "/usr/bin/psql", "psql -c /usr/bin/other"), None);
        assert_eq!(
            path("/usr/bin/python3.11 (deleted)", "/usr/bin/python3", "python3 a.py"),
            Some("a.py".into())
        );
    }

    #[test]
    fn a_command_line_is_cut_between_characters() {
        let line = joined(&[format!("a{}", "é".repeat(COMMAND_LINE))]);
        assert!(line.len() <= COMMAND_LINE && line.ends_with('é'));
    }

    #[test]
    fn moments_since_boot_are_told_by_the_wall_clock() {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock");
        let ns = u64::try_from(now.tv_sec()).expect("positive") * 1_000_000_000;
        let told = wall_us(ns).expect("a moment");
        let wall = u64::try_from(clock::wall().0).expect("positive");
        assert!(wall.abs_diff(told) < 60_000_000);
    }
}
