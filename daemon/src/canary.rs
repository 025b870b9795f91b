//! The canary: a process of this program's that connects as an agent would, to an address that is
//! watched for it alone. Its connections have to arrive at the daemon, with the kernel's note of who
//! made them; where they do not, agents' connections do not either.
//!
//! Does not belong here: when it is sent and what is done where it does not arrive (`tending`).

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, SocketAddrV6},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use chaperone_kernel::{CANARY, CANARY_NUMBER, Note, Process, ProcessKey, ProcessTable};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::{identity::proc, shared::Shared};

/// The argument that makes this program such a process.
pub(crate) const ARGUMENT: &str = "canary";
/// How long it may take. A host that has much to do takes its time.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long each of its connections may take.
const EACH: Duration = Duration::from_secs(3);
/// The name of its cgroup, where it needs one.
const CGROUP: &str = "chaperone-canary";
/// What it is sent by the daemon.
const SEEN: u8 = b'c';

/// Why a canary did not come home.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It could not be sent.
    NotSent(String),
    /// It was sent and did not arrive as it should.
    Missed(String),
}

/// Whose connections are awaited.
#[derive(Debug, Default)]
pub(crate) struct Awaited {
    /// Its process id; 0 where none is under way.
    pid: AtomicU32,
    arrived: AtomicU32,
}

impl Awaited {
    /// Whether a note is the canary's, and not an agent's that connects to its address.
    pub(crate) fn is(note: &Note) -> bool {
        note.agent == CANARY_NUMBER && note.target == CANARY_NUMBER
    }

    /// Takes a connection whose note is the canary's.
    pub(crate) fn arrive(&self, note: &Note, mut client: TcpStream) {
        if note.process.tgid == 0 || note.process.tgid != self.pid.load(Ordering::SeqCst) {
            return;
        }
        self.arrived.fetch_add(1, Ordering::SeqCst);
        tokio::task::spawn_local(async move {
            let _ = client.write_all(&[SEEN]).await;
        });
    }
}

/// Sends canaries.
pub(crate) struct Canary {
    table: ProcessTable,
    port: u16,
    /// The cgroup that it is put into: none where this process's own is in reach of the programs.
    cgroup: Option<PathBuf>,
}

impl Canary {
    /// `attach` is the cgroup of the programs, `cgroups` where the tree is mounted.
    pub(crate) fn new(table: ProcessTable, port: u16, attach: &Path, cgroups: &Path) -> Self {
        let own = proc::cgroup(std::process::id());
        let own = own.map(|path| cgroups.join(path.trim_start_matches('/')));
        let is_in_reach = own.is_some_and(|own| own.starts_with(attach));
        let cgroup = (!is_in_reach).then(|| attach.join(CGROUP));
        Self { table, port, cgroup }
    }

    /// Sends one and waits for it.
    pub(crate) async fn send(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let not_sent = |error: io::Error| Trouble::NotSent(error.to_string());
        let mut child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .arg(self.port.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(not_sent)?;
        let pid = child.id().unwrap_or(0);
        self.dress_up(pid)?;
        let awaited = &shared.canary;
        awaited.arrived.store(0, Ordering::SeqCst);
        awaited.pid.store(pid, Ordering::SeqCst);
        let fly = async {
            // From here on it counts as an agent's.
            if let Some(mut start) = child.stdin.take() {
                start.write_all(b"\n").await?;
            }
            let mut said = String::new();
            if let Some(out) = &mut child.stdout {
                out.read_to_string(&mut said).await?;
            }
            child.wait().await?;
            io::Result::Ok(said)
        };
        let came = timeout(PATIENCE, fly).await;
        awaited.pid.store(0, Ordering::SeqCst);
        let _ = self.table.remove(pid);
        let arrived = awaited.arrived.load(Ordering::SeqCst);
        match came {
            Ok(Ok(said)) => judge(said.trim(), arrived),
            Ok(Err(error)) => Err(not_sent(error)),
            Err(_) => Err(Trouble::NotSent(format!("it did not end within {PATIENCE:?}"))),
        }
    }

    /// Makes a process one of an agent that nobody else is.
    fn dress_up(&mut self, pid: u32) -> Result<(), Trouble> {
        let not_sent = |why: String| Trouble::NotSent(why);
        if let Some(cgroup) = &self.cgroup {
            let entered = match fs::create_dir(cgroup) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => fs::write(cgroup.join("cgroup.procs"), pid.to_string()),
            };
            entered.map_err(|error| not_sent(format!("{}: {error}", cgroup.display())))?;
        }
        let found = proc::find(pid).ok_or_else(|| not_sent("it ended at once".into()))?;
        let key = ProcessKey { started_ns: found.started_ns, exec_id: 0, tgid: pid, reserved: 0 };
        let process = Process {
            key,
            parent: ProcessKey::default(),
            topmost: key,
            cgroup_id: 0,
            uid: found.uid,
            gid: found.gid,
            agent: CANARY_NUMBER,
            reserved: 0,
        };
        // An entry of this number is of a process that is gone, because this one lives.
        self.table
            .remove(pid)
            .and_then(|()| self.table.add(process))
            .map_err(|error| not_sent(error.to_string()))?;
        Ok(())
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            let _ = fs::remove_dir(cgroup);
        }
    }
}

/// It says how many of its connections were seen, or what was wrong with one.
fn judge(said: &str, arrived: u32) -> Result<(), Trouble> {
    match said.parse::<u32>() {
        Ok(count) if count > 0 && count == arrived => Ok(()),
        Ok(count) => Err(Trouble::Missed(format!("{arrived} of its {count} connections arrived"))),
        Err(_) if said.is_empty() => Err(Trouble::NotSent("it said nothing".into())),
        Err(_) => Err(Trouble::Missed(said.into())),
    }
}

/// The canary's own process: connects by IPv4 and, where the host has it, by an IPv6 socket.
pub(crate) fn worker(port: Option<u16>) -> ExitCode {
    let Some(port) = port else { return ExitCode::FAILURE };
    // It waits until it counts as an agent's. A daemon that is gone ends it.
    if io::stdin().read_exact(&mut [0]).is_err() {
        return ExitCode::FAILURE;
    }
    let v4 = SocketAddr::from((CANARY, port));
    let v6 = SocketAddrV6::new(CANARY.to_ipv6_mapped(), port, 0, 0).into();
    let mut seen = 0;
    for (domain, address) in [(Domain::IPV4, v4), (Domain::IPV6, v6)] {
        let socket = match Socket::new(domain, Type::STREAM, None) {
            Ok(socket) => socket,
            Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => continue,
            Err(error) => return say(&format!("it has no socket: {error}")),
        };
        match connect(&socket, address) {
            Ok(()) => seen += 1,
            Err(error) => return say(&format!("its connection to {address}: {error}")),
        }
    }
    say(&seen.to_string())
}

fn connect(mut socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.connect_timeout(&address.into(), EACH)?;
    socket.set_read_timeout(Some(EACH))?;
    let mut byte = [0];
    socket.read_exact(&mut byte)?;
    let peer = socket.peer_addr()?.as_socket();
    if byte != [SEEN] || peer != Some(address) {
        return Err(io::Error::other(format!("it was answered by {peer:?}")));
    }
    Ok(())
}

fn say(what: &str) -> ExitCode {
    match writeln!(io::stdout(), "{what}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_canary_that_was_seen_as_often_as_it_connected_is_home() {
        assert_eq!(judge("2", 2), Ok(()));
        assert!(matches!(judge("2", 0), Err(Trouble::Missed(_))), "somebody else answered");
        assert!(matches!(judge("0", 0), Err(Trouble::Missed(_))));
        assert!(matches!(judge("its connection: refused", 0), Err(Trouble::Missed(_))));
        assert!(matches!(judge("", 0), Err(Trouble::NotSent(_))));
    }
}
