//! Settles who opened a connection: the kernel's note, completed from `/proc` where the process
//! that the note speaks of is still there.

use std::fs;

use chaperone_kernel::Note;
use chaperone_model::{AgentName, Identity};

/// Longest command line that is kept, in bytes.
const COMMAND_LINE: usize = 4096;

/// The identity behind a note.
pub(crate) fn identify(agent: AgentName, note: &Note) -> Identity {
    let proc = |file: &str| format!("/proc/{}/{file}", note.tgid);
    let executable =
        fs::read_link(proc("exe")).ok().map(|path| path.to_string_lossy().into_owned());
    let command_line = fs::read(proc("cmdline")).ok().map(|bytes| command_line(&bytes));
    let cgroup = fs::read_to_string(proc("cgroup")).ok().and_then(|text| cgroup2(&text));
    // Read last: if the process id still belongs to the process of the note now, it did before.
    let same = fs::read_to_string(proc("stat"))
        .ok()
        .and_then(|stat| start_ticks(&stat))
        .is_some_and(|ticks| ticks == note.started_ns / TICK_NS);
    Identity {
        agent,
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

/// `USER_HZ` is 100 on every architecture that this runs on (proc(5), `starttime`).
const TICK_NS: u64 = 1_000_000_000 / 100;

/// Field 22 of `/proc/PID/stat`. The second field is the name in parentheses, which may hold both
/// spaces and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
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

    use super::*;

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
        let own = identify(AgentName("a".into()), &note(std::process::id(), started));
        assert!(own.executable.is_some());
        assert_eq!(own.comm, "name");
        let other = identify(AgentName("a".into()), &note(std::process::id(), started + TICK_NS));
        assert_eq!((other.executable, other.command_line, other.cgroup), (None, None, None));
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
