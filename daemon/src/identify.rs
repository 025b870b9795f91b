//! Settles who opened a connection: the kernel's note, completed from `/proc` where the process
//! that the note speaks of is still there.

use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use chaperone_kernel::Note;
use chaperone_model::Identity;

use crate::{
    config::{Agent, Version},
    run,
};

/// Longest command line that is kept, in bytes.
const COMMAND_LINE: usize = 4096;

/// The identity behind a note.
pub(crate) fn identify(agent: &Agent, note: &Note) -> Identity {
    let proc = |file: &str| format!("/proc/{}/{file}", note.tgid);
    let executable =
        fs::read_link(proc("exe")).ok().map(|path| path.to_string_lossy().into_owned());
    let command_line = fs::read(proc("cmdline")).ok().map(|bytes| command_line(&bytes));
    let cgroup = fs::read_to_string(proc("cgroup")).ok().and_then(|text| cgroup2(&text));
    let run = run::find(&agent.select, note, cgroup.as_deref());
    // Read last: if the process id still belongs to the process of the note now, it did before.
    let same = fs::read_to_string(proc("stat"))
        .ok()
        .and_then(|stat| start_ticks(&stat))
        .is_some_and(|ticks| ticks == note.started_ns / TICK_NS);
    Identity {
        agent: agent.name.clone(),
        version: agent.version.as_ref().and_then(|version| read_version(version, note.uid)),
        run: run.filter(|_| same),
        uid: note.uid,
        gid: note.gid,
        pid: note.tgid,
        started_ns: note.started_ns,
        cgroup_id: note.cgroup_id,
        comm: comm(&note.comm),
        executable: executable.filter(|_| same),
        command_line: command_line.filter(|_| same),
        cgroup: cgroup.filter(|_| same),
    }
}

/// What the server is told as `application_name`: agent, version and run, in the 63 bytes that it
/// keeps (`NAMEDATALEN`). Names give way first, the run last: it is what tells sessions apart.
pub(crate) fn application_name(identity: &Identity) -> String {
    let mut text = clean(&identity.agent.0, 24);
    if let Some(version) = &identity.version {
        text = format!("{text}@{}", clean(version, 16));
    }
    if let Some(run) = &identity.run {
        text = format!("{text}/{}", clean(run, 20));
    }
    text
}

/// The server replaces what is not printable ASCII (`pg_clean_ascii`).
fn clean(text: &str, length: usize) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(length).collect()
}

/// Longest version that is read from a file, in bytes.
const VERSION: u64 = 128;

/// A file counts where the agent cannot have written it.
fn read_version(version: &Version, uid: u32) -> Option<String> {
    let path = match version {
        Version::Literal(text) => return Some(text.clone()),
        Version::File(path) => path,
    };
    let why = |reason: &str| tracing::warn!(path = %path.display(), reason, "no version");
    let file = fs::File::open(path).inspect_err(|error| why(&error.to_string())).ok()?;
    let about = file.metadata().ok()?;
    if about.uid() == uid || about.permissions().mode() & 0o022 != 0 {
        why("the agent could have written it");
        return None;
    }
    let mut text = String::new();
    file.take(VERSION).read_to_string(&mut text).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// `USER_HZ` is 100 on every architecture that this runs on (proc(5), `starttime`).
const TICK_NS: u64 = 1_000_000_000 / 100;

/// Field 22 of `/proc/PID/stat`. The second field is the name in parentheses, which may hold both
/// spaces and parentheses.
pub(crate) fn start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn command_line(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(COMMAND_LINE)];
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches('\0').replace('\0', " ")
}

fn cgroup2(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

fn comm(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use chaperone_model::AgentName;

    use super::*;
    use crate::config::Select;

    fn note(pid: u32, started_ns: u64) -> Note {
        Note {
            cookie: 1,
            connected_ns: 1,
            started_ns,
            cgroup_id: 1,
            tgid: pid,
            tid: pid,
            uid: 1,
            gid: 1,
            address: [0; 4],
            agent: 0,
            target: 0,
            port: 1,
            family: 2,
            generation: 1,
            comm: *b"name\0\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    #[test]
    fn p3_a_process_id_that_was_used_again_is_not_taken_for_the_process() {
        let stat = fs::read_to_string("/proc/self/stat").expect("stat");
        let started = start_ticks(&stat).expect("ticks") * TICK_NS + 5;
        let agent = Agent { name: AgentName("a".into()), select: Select::User(1), version: None };
        let own = identify(&agent, &note(std::process::id(), started));
        assert!(own.executable.is_some());
        assert_eq!(own.comm, "name");
        let other = identify(&agent, &note(std::process::id(), started + TICK_NS));
        assert_eq!((other.executable, other.command_line, other.cgroup), (None, None, None));
    }

    #[test]
    fn the_servers_name_of_a_session_fits_and_tells_runs_apart() {
        let agent = Agent {
            name: AgentName("a".repeat(63).into()),
            select: Select::User(1),
            version: Some(Version::Literal("1.2.3 \u{e9}".into())),
        };
        let mut identity = identify(&agent, &note(1, 1));
        identity.run = Some("0123456789abcdef0123456789abcdef".into());
        let name = application_name(&identity);
        assert_eq!(name, format!("{}@1.2.3??/0123456789abcdef0123", "a".repeat(24)));
        assert!(name.len() <= 63);
    }

    #[test]
    fn p3_a_version_that_the_agent_could_have_written_does_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("VERSION");
        fs::write(&path, "1.4.2\nmore\n").expect("written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("set");
        let owner = fs::metadata(&path).expect("there").uid();
        let version = Version::File(path.clone());
        assert_eq!(read_version(&version, owner + 1).as_deref(), Some("1.4.2"));
        assert_eq!(read_version(&version, owner), None);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("set");
        assert_eq!(read_version(&version, owner + 1), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let mut stat = "1 (a) b) c) S".to_owned();
        for field in 4..=22 {
            let _ = write!(stat, " {field}");
        }
        assert_eq!(start_ticks(&stat), Some(22));
    }
}
