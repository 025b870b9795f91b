//! What is known of one process and the program in it, looked up once.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use chaperone_kernel::{Image, Note, ProcessKey};
use chaperone_model::{Digest, Process, Script, Seq};
use nix::time::{ClockId, clock_gettime};

use super::{
    Identities,
    digest::{self, changed_us},
    doubts::Found,
    files, lock, proc,
    script::{self, Named},
    tracker::{Id, Link},
};
use crate::clock;

/// Longest command line that is kept, in bytes.
const COMMAND_LINE: usize = 4096;
/// How soon a file that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// The kernel's tick is not longer: times of files are as coarse as that.
const TICK_US: u64 = 10_000;

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Fact {
    process: Arc<Process>,
    recorded: Option<(Seq, Seq)>,
    /// It runs code that no file holds, or that cannot be told.
    inline: bool,
    /// What it began to run and what it shows.
    disguise: Option<(String, String)>,
    /// Something could not be read.
    retry: Option<Instant>,
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

    fn is_owned_by(&self, (uid, gid, cgroup_id): Owner) -> bool {
        let known = &self.process;
        (known.uid, known.gid, known.cgroup_id) == (uid, gid, cgroup_id)
    }
}

/// User, group, cgroup.
type Owner = (u32, u32, u64);

impl Identities {
    /// A process of a lineage. `note` is the connection's, where it is the one that connected;
    /// `above` is what stands above it.
    pub(super) async fn fact(
        &self,
        link: &Link,
        note: Option<&Note>,
        above: Option<Arc<Process>>,
    ) -> Arc<Process> {
        let of = link.program.as_ref().map(|program| program.process).or(link.process);
        let of = of.unwrap_or_default();
        let owner = note
            .map_or((of.uid, of.gid, of.cgroup_id), |note| (note.uid, note.gid, note.cgroup_id));
        let fits = |fact: &Fact| {
            let due = fact.retry.is_some_and(|at| Instant::now() >= at);
            note.is_none() || (fact.is_owned_by(owner) && !due)
        };
        if let Some(fact) = lock(&self.facts).get(&link.key)
            && fits(fact)
        {
            return fact.process.clone();
        }
        let fact = self.look(link, note, above, owner).await;
        let mut facts = lock(&self.facts);
        // Another connection of the process may have been quicker.
        if let Some(known) = facts.get(&link.key)
            && fits(known)
        {
            return known.process.clone();
        }
        let process = fact.process.clone();
        facts.insert(link.key, fact);
        process
    }

    async fn look(
        &self,
        link: &Link,
        note: Option<&Note>,
        above: Option<Arc<Process>>,
        (uid, gid, cgroup_id): Owner,
    ) -> Fact {
        let id = Id::from(&link.key);
        let seen = Some(()).filter(|()| self.still(&link.key)).and_then(|()| proc::look(id));
        let program = link.program.as_deref();
        // It runs what forked it runs, as long as it has run nothing of its own.
        let same = above.filter(|above| program.is_none() && above.exec_id == link.key.exec_id);
        let arguments = match program.map(|program| &program.arguments) {
            Some(arguments) if !arguments.is_empty() => Some(arguments.to_vec()),
            _ if seen.is_some() && same.is_none() => proc::arguments(id).await,
            _ => None,
        };
        // What was noted is the first 512 bytes.
        let whole = arguments.as_ref().is_some_and(|bytes| bytes.ends_with(&[0]));
        let arguments = arguments.as_deref().map(split);
        let executed = program.map(|program| PathBuf::from(OsStr::from_bytes(&program.filename)));
        // Of a script, what runs is its interpreter, which the kernel puts in front of it.
        let by_kernel = match (&executed, &arguments) {
            (Some(executed), Some(arguments)) => is_script(executed, arguments),
            _ => false,
        };
        let filename = match &arguments {
            Some(arguments) if by_kernel => arguments.first().map(PathBuf::from),
            _ => executed.clone(),
        };
        let shown = seen.as_ref().and_then(|seen| seen.executable.clone());
        // A process can set what its `exe` shows (prctl(2), `PR_SET_MM`), but not what was noted
        // when it began to run.
        let disguise = match (program, note, &filename) {
            (Some(program), Some(note), Some(began)) if is_other(&program.image, &note.image) => {
                let began = began.to_string_lossy().into_owned();
                Some((began, shown.clone().unwrap_or_else(|| "another".into())))
            }
            _ => None,
        };
        let image = program.map(|program| program.image).or(note.map(|note| note.image));
        let folder = seen.as_ref().and_then(|seen| seen.folder.clone());
        let executable = shown
            .filter(|_| disguise.is_none())
            .or_else(|| same.as_ref().and_then(|same| same.executable.clone()))
            .or_else(|| filename.as_ref().map(|path| path.to_string_lossy().into_owned()));
        let began_us = program.and_then(|program| wall_us(program.at_ns));
        let found = self.binary(&link.key, image, seen.is_some(), filename.clone(), began_us).await;
        let binary = found.or_else(|| same.as_ref().and_then(|same| same.binary));
        let mut inline = false;
        let script = if let Some(same) = &same {
            same.script.clone()
        } else {
            let arguments = arguments.as_deref().unwrap_or_default();
            let told = match executed.filter(|_| by_kernel) {
                Some(script) => Told::Script(script.to_string_lossy().into_owned()),
                None => told(executable.as_deref(), arguments, whole),
            };
            match told {
                Told::Nothing => None,
                Told::Inline => {
                    inline = true;
                    None
                }
                Told::Script(path) => match script::absolute(&path, folder.as_deref()) {
                    None => Some(Script { path, digest: None }),
                    Some(path) => {
                        let script = self.script(seen.is_some().then_some(id), path).await;
                        inline = script.is_none();
                        script
                    }
                },
            }
        };
        let unread = binary.is_none() || script.as_ref().is_some_and(|s| s.digest.is_none());
        let command_line = arguments.as_deref().map(joined);
        let process = Process {
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
        };
        Fact {
            process: Arc::new(process),
            recorded: None,
            inline,
            disguise,
            retry: unread.then(|| Instant::now() + RETRY),
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

    /// The hash of what a process runs. `image` is what the kernel noted, `began_us` when it began
    /// to run it.
    async fn binary(
        &self,
        key: &ProcessKey,
        image: Option<Image>,
        lives: bool,
        filename: Option<PathBuf>,
        began_us: Option<u64>,
    ) -> Option<Digest> {
        if let Some(digest) = image.and_then(|image| self.digests.known(&image)) {
            return Some(digest);
        }
        let id = Id::from(key);
        if lives
            && let Some((found, digest)) = self.digests.of(move || files::open_program(id)).await
            && image.is_none_or(|image| is_one_file(&image, &found))
            // What was read is what it ran: it still runs it.
            && self.still(key)
            && proc::started(id.pid) == Some(id.ticks)
        {
            if let Some(image) = image {
                self.digests.also(&image, digest);
            }
            return Some(digest);
        }
        // It is gone, or shows another: the file counts where its inode is the one that the kernel
        // saw, and cannot have been written to since within the same tick.
        let (path, image) = (filename?, image?);
        let rested = began_us.is_some_and(|began| changed_us(&image) + TICK_US < began);
        if !path.is_absolute() || image.inode == 0 || !rested {
            return None;
        }
        let process = lives.then_some(id);
        let (found, digest) = self.digests.of(move || files::open_named(process, &path)).await?;
        (found == image).then_some(digest)
    }

    /// A script and its hash; `None` where it is no file: what an interpreter reads from a pipe or a
    /// folder is code that no file holds.
    async fn script(&self, process: Option<Id>, path: PathBuf) -> Option<Script> {
        let opened = path.clone();
        let kept = self.digests.aside(move || files::is_kept(process, &opened)).await;
        if kept == Some(false) {
            return None;
        }
        let opened = path.clone();
        let hashed = self.digests.of(move || files::open_named(process, &opened)).await;
        let digest = hashed.map(|(_, digest)| digest);
        Some(Script { path: path.to_string_lossy().into_owned(), digest })
    }

    /// What was found beside the identity itself.
    pub(super) async fn found(&self, links: &[Link], cut: bool) -> Found {
        let mut found = Found { cut, ..Found::default() };
        let mut scripts = Vec::new();
        {
            let facts = lock(&self.facts);
            for link in links {
                let Some(fact) = facts.get(&link.key) else { continue };
                let name = fact.process.executable.clone().unwrap_or_else(|| "a program".into());
                if fact.inline && !found.inline.contains(&name) {
                    found.inline.push(name);
                }
                found.disguise = found.disguise.or_else(|| fact.disguise.clone());
                if let Some(script) = &fact.process.script {
                    let at_ns =
                        link.program.as_ref().map_or(link.key.started_ns, |program| program.at_ns);
                    scripts.push((Id::from(&link.key), script.path.clone(), at_ns));
                }
            }
        }
        if scripts.is_empty() {
            return found;
        }
        let all: Vec<String> = scripts.iter().map(|(_, path, _)| path.clone()).collect();
        let changed = self.digests.aside(move || {
            let changed = scripts.into_iter().filter(|(id, path, at)| is_changed(*id, path, *at));
            changed.map(|(_, path, _)| path).collect::<Vec<_>>()
        });
        // What cannot be looked at in time may have changed.
        found.changed = changed.await.unwrap_or(all);
        found.changed.sort();
        found.changed.dedup();
        found
    }
}

/// Whether two of the kernel's notes are of different inodes. Times do not tell: an inode's change
/// when it is renamed or replaced.
fn is_other(a: &Image, b: &Image) -> bool {
    (a.device, a.inode) != (b.device, b.inode) || (a.inode == 0 && a.size != b.size)
}

/// Whether an inode that the kernel noted is the file that was opened: while it is run it is not
/// written to. File systems that lie on others have numbers of their own; there all else must agree.
fn is_one_file(noted: &Image, opened: &Image) -> bool {
    let rest =
        |image: &Image| (image.size, image.mtime_s, image.mtime_ns, image.ctime_s, image.ctime_ns);
    let numbered = noted.inode != 0 && !is_other(noted, opened);
    numbered || rest(noted) == rest(opened)
}

/// Whether a script's file was changed after it was started, or is gone.
fn is_changed(id: Id, path: &str, at_ns: u64) -> bool {
    let Some(started) = wall_us(at_ns) else { return true };
    let process = (proc::started(id.pid) == Some(id.ticks)).then_some(id);
    let path = Path::new(path);
    let file = files::open_named(process, path);
    let image = file.and_then(|file| digest::image(&file)).ok().flatten();
    image.is_none_or(|image| changed_us(&image) > started)
        || files::link_changed_since(process, path, started)
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

/// As [`Named`], of a process.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Script(String),
    Inline,
}

/// Whether the kernel found an interpreter for what was executed: it puts the interpreter and at
/// most one argument in front of the name that was given to execve(2) (`fs/binfmt_script.c`). A
/// program whose arguments merely look so is taken for a script, which no hash will fit.
fn is_script(executed: &Path, arguments: &[String]) -> bool {
    let named = executed.to_string_lossy();
    let is_it = |argument: &String| *argument == *named;
    arguments.first().is_some_and(|first| !is_it(first))
        && arguments.iter().skip(1).take(2).any(is_it)
}

/// What an interpreter was told to run.
fn told(executable: Option<&str>, arguments: &[String], whole: bool) -> Told {
    let Some(program) = executable.map(|path| path.strip_suffix(" (deleted)").unwrap_or(path))
    else {
        return Told::Nothing;
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match script::named(program, &arguments, whole) {
        Named::Nothing => Told::Nothing,
        Named::Script(path) => Told::Script(path.to_owned()),
        Named::Inline => Told::Inline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_with_a_shebang_is_known_by_what_was_executed() {
        let arguments = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let is = |executed: &str, line| is_script(Path::new(executed), &arguments(line));
        assert!(is("./agent.py", "/usr/bin/python3 -u ./agent.py x"));
        assert!(is("/opt/job.py", "/usr/bin/env python3 /opt/job.py"));
        assert!(!is("/usr/bin/psql", "psql -c /usr/bin/other"));
        assert!(!is("/usr/bin/psql", "/usr/bin/psql /usr/bin/psql"));
        let told = |exe, line| told(Some(exe), &arguments(line), true);
        assert_eq!(
            told("/usr/bin/python3.11 (deleted)", "python3 a.py"),
            Told::Script("a.py".into())
        );
        assert_eq!(told("/usr/bin/python3.11", "python3 -c x a.py"), Told::Inline);
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
