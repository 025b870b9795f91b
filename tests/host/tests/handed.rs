//! P1: what was connected elsewhere and comes to an agent: descriptors that are handed over, kept over
//! a change of user, or taken out of another process; and the Unix sockets of targets. All of it is
//! for kernels that take security modules; on others it is asserted that the daemon says so.

use std::{
    fs,
    io::{Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{PermissionsExt, symlink},
            net::{SocketAddr, UnixListener},
        },
    },
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, wait_until};

use crate::guard::{Server, has_modules, recorded, scene};

/// A program out of every scope, which is ended when this is dropped.
struct Outside(Child);

impl Outside {
    fn start(user: u32, code: &str, args: &[&str]) -> Result<Self> {
        let mut child = Command::new("setpriv")
            .args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"])
            .args(["--pdeathsig", "KILL", "--", "/usr/bin/python3", "-c", code])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = [0; 6];
        child.stdout.as_mut().context("its output")?.read_exact(&mut line)?;
        Ok(Self(child))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connects to the server for everybody who asks, and hands the connection over.
const HANDS_OVER: &str = "
import socket, sys, os
path, port = sys.argv[1], int(sys.argv[2])
server = socket.socket(socket.AF_UNIX)
server.bind(path)
os.chmod(path, 0o777)
server.listen()
print('ready', flush=True)
while True:
    client, _ = server.accept()
    to = socket.create_connection(('127.0.0.1', port))
    other = socket.socket()
    socket.send_fds(client, [b'x'], [to.fileno(), other.fileno()])
";

const TAKES: &str = "
import socket, sys, os
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
_, fds, _, _ = socket.recv_fds(s, 1, 2)
print(len(fds))
os.write(fds[0], sys.argv[2].encode())
";

#[test]
fn p1_a_connection_that_another_made_is_not_taken() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).prepare()?;
    let path = host.folder().join("hands-over").display().to_string();
    let _helper = Outside::start(0, HANDS_OVER, &[&path, &server.port.to_string()])?;
    let take =
        |host: &Host, mark: &str| host.agent("/usr/bin/python3", &["-c", TAKES, &path, mark]);
    assert_eq!(take(&host, "<before>")?.ok()?, "2");
    assert!(server.hears("<before>"), "it leads nowhere without the daemon");
    host.start_daemon()?;
    if !has_modules(&host)? {
        return Ok(());
    }
    let out = take(&host, "<with>")?;
    assert!(out.out.starts_with('0') || out.out.starts_with('1'), "{out:?}");
    assert!(!server.hears("<with>"));
    assert!(host.counter("kernel_refused_passed")? >= 1);
    recorded(&host, "bypass", &["agent cleaner", "connected to target prod", "python3"])?;
    // Who is no agent takes it.
    let out = host.other(64_002, "/usr/bin/python3", &["-c", TAKES, &path, "<other>"])?.ok()?;
    assert_eq!(out, "2");
    assert!(server.hears("<other>"));
    Ok(())
}

#[test]
fn p1_a_connection_that_is_kept_over_a_change_of_user_leads_nowhere() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).prepare()?;
    let keep = |host: &Host, mark: &str| {
        let become_agent = format!("setpriv --reuid={0} --regid={0} --clear-groups", host.uid());
        let command = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{}; exec {become_agent} bash -c \"printf '{mark}' >&3\"",
            server.port
        );
        host.other(0, "bash", &["-c", &command])
    };
    keep(&host, "<before>")?.ok()?;
    assert!(server.hears("<before>"), "it leads nowhere without the daemon");
    host.start_daemon()?;
    if !has_modules(&host)? {
        return Ok(());
    }
    let out = keep(&host, "<with>")?;
    assert!(out.err.contains("Permission denied"), "{}", out.err);
    assert!(!server.hears("<with>"));
    assert_eq!(host.counter("kernel_refused_passed")?, 1);
    Ok(())
}

const HOLDS: &str = "
import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
print('ready', flush=True)
sys.stdin.read()
";

/// Takes the first socket out of a process.
const TAKES_OUT: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
pidfd = libc.syscall(434, int(sys.argv[1]), 0)
fd = libc.syscall(438, pidfd, 3, 0)
if fd < 0:
    print(os.strerror(ctypes.get_errno()))
    sys.exit(1)
os.write(fd, sys.argv[2].encode())
print('taken')
";

/// Attaches to a process as a debugger does, and lets it go; reads a piece of its memory and writes it
/// back.
const TRACES: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Part(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
def moves(pid):
    line = next(line for line in open(f'/proc/{pid}/maps') if '[stack]' in line)
    theirs = Part(int(line.split('-')[1].split()[0], 16) - 16, 8)
    buffer = ctypes.create_string_buffer(8)
    ours, one = Part(ctypes.addressof(buffer), 8), ctypes.c_ulong(1)
    said = []
    for call in (libc.process_vm_readv, libc.process_vm_writev):
        moved = call(int(pid), ctypes.byref(ours), one, ctypes.byref(theirs), one, ctypes.c_ulong(0))
        said.append('moved' if moved == 8 else os.strerror(ctypes.get_errno()))
    return ', '.join(said)
def trace(pid):
    if libc.ptrace(16, pid, 0, 0) != 0:
        return os.strerror(ctypes.get_errno())
    os.waitpid(pid, 0x40000000)
    libc.ptrace(17, pid, 0, 0)
    return 'traced'
child = os.fork()
if child == 0:
    import time
    time.sleep(20)
print(trace(int(sys.argv[1])), trace(child))
print(moves(sys.argv[1]), moves(child), sep='; ')
os.kill(child, 9)
try:
    open(f'/proc/{sys.argv[1]}/mem', 'rb')
    print('opened')
except PermissionError:
    print('refused')
print(open(f'/proc/{sys.argv[1]}/stat').read() != '')
";

#[test]
fn p1_an_agent_reaches_into_no_process_but_its_own() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).select_by_cgroup().prepare()?;
    // Of the same account, and none of the agent's processes: its cgroup is another.
    let holder = Outside::start(host.uid(), HOLDS, &[&server.port.to_string()])?;
    let pid = holder.0.id().to_string();
    let take =
        |host: &Host, mark: &str| host.agent("/usr/bin/python3", &["-c", TAKES_OUT, &pid, mark]);
    let trace = |host: &Host| host.agent("/usr/bin/python3", &["-c", TRACES, &pid])?.ok();
    assert_eq!(take(&host, "<before>")?.ok()?, "taken");
    assert!(server.hears("<before>"), "it leads nowhere without the daemon");
    assert_eq!(trace(&host)?, "traced traced\nmoved, moved; moved, moved\nopened\nTrue");
    host.start_daemon()?;
    if !has_modules(&host)? {
        return Ok(());
    }
    assert_eq!(take(&host, "<with>")?.out.trim(), "Operation not permitted");
    assert!(!server.hears("<with>"));
    let no = "Operation not permitted";
    assert_eq!(trace(&host)?, format!("{no} traced\n{no}, {no}; moved, moved\nrefused\nTrue"));
    assert!(host.counter("kernel_refused_trace")? >= 5);
    recorded(&host, "bypass", &["agent cleaner", &format!("reaching into process {pid}")])?;
    // Who is no agent is not asked.
    let out = host.outside("/usr/bin/python3", &["-c", TAKES_OUT, &pid, "<other>"])?.ok()?;
    assert_eq!(out, "taken");
    Ok(())
}

/// A server on a Unix socket; answers what it heard.
fn unix_server(listener: UnixListener) -> Arc<Mutex<Vec<String>>> {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&heard);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            kept.lock().expect("no panic").push(text);
            let _ = stream.write_all(b"ok");
        }
    });
    heard
}

const SPEAKS: &str = "
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
os.chdir(sys.argv[3])
try:
    s.connect(sys.argv[1].replace('@', chr(0)))
    s.sendall(sys.argv[2].encode())
    print('sent')
except OSError as e:
    print(type(e).__name__)
";

#[test]
fn p1_unix_sockets_of_targets_are_refused() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server)
        .target("sockets = [\"{folder}/link/.s.PGSQL.5432\", \"@chaperone-test-{folder}\"]")
        .prepare()?;
    let folder = host.folder().to_owned();
    let real = folder.join("real");
    fs::create_dir(&real)?;
    symlink(&real, folder.join("link"))?;
    let path = real.join(".s.PGSQL.5432");
    let name = format!("chaperone-test-{}", folder.display());
    let heard = [
        unix_server(UnixListener::bind(&path)?),
        unix_server(UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?),
    ];
    fs::hard_link(&path, real.join("hard"))?;
    symlink(&path, real.join("soft"))?;
    let _other = unix_server(UnixListener::bind(real.join("other"))?);
    for entry in fs::read_dir(&real)?.flatten() {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o777))?;
    }
    let (plain, linked) = (path.display().to_string(), folder.join("link/.s.PGSQL.5432"));
    let linked = linked.display().to_string();
    let abstract_name = format!("@{name}");
    let ways = [plain.as_str(), &linked, ".s.PGSQL.5432", "hard", "soft", &abstract_name];
    let inside = real.display().to_string();
    let speak = |host: &Host, uid: u32, way: &str, mark: &str| {
        host.other(uid, "/usr/bin/python3", &["-c", SPEAKS, way, mark, &inside])?.ok()
    };
    let heard = |mark: &str| {
        let all = heard.iter();
        all.flat_map(|heard| heard.lock().expect("no panic").clone()).filter(|t| t == mark).count()
    };
    for way in ways {
        assert_eq!(speak(&host, host.uid(), way, "<before>")?, "sent", "{way}");
    }
    wait_until("all are heard", || heard("<before>") == ways.len())?;
    host.start_daemon()?;
    if !has_modules(&host)? {
        return Ok(());
    }
    for way in ways {
        assert_eq!(speak(&host, host.uid(), way, "<with>")?, "PermissionError", "{way}");
    }
    assert_eq!(host.counter("kernel_refused_unix")?, ways.len() as u64);
    recorded(&host, "bypass", &["agent cleaner", &plain, "target prod", "the way is TCP"])?;
    recorded(&host, "bypass", &["agent cleaner", &abstract_name])?;
    // Other sockets, and others.
    assert_eq!(speak(&host, host.uid(), "other", "<with>")?, "sent");
    assert_eq!(speak(&host, 64_002, "hard", "<other>")?, "sent");
    wait_until("it is heard", || heard("<other>") == 1)?;
    assert_eq!(heard("<with>"), 0);

    // A server that was started again has another file.
    fs::remove_file(&path)?;
    let _again = unix_server(UnixListener::bind(&path)?);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    assert_eq!(speak(&host, host.uid(), ".s.PGSQL.5432", "<again>")?, "PermissionError");
    Ok(())
}

/// Serves a Unix socket of a type, and says what it hears.
const SERVES: &str = "
import os, socket, sys
kind, path = int(sys.argv[1]), sys.argv[2]
s = socket.socket(socket.AF_UNIX, kind)
s.bind(path)
os.chmod(path, 0o777)
if kind == socket.SOCK_SEQPACKET:
    s.listen()
print('ready', flush=True)
while True:
    one = s.accept()[0] if kind == socket.SOCK_SEQPACKET else s
    heard = one.recv(100)
    with open(sys.argv[3], 'ab') as file:
        file.write(heard)
";

/// Sends to such a socket: after a connect, and without where its type can.
const SENDS: &str = "
import socket, sys
kind, path, mark = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
def connected(s):
    s.connect(path)
    s.send(mark)
def straight(s):
    s.sendto(mark, path)
for way in (connected, straight) if kind == socket.SOCK_DGRAM else (connected,):
    try:
        way(socket.socket(socket.AF_UNIX, kind))
        print('sent')
    except OSError as e:
        print(type(e).__name__)
";

#[test]
fn p1_unix_sockets_of_targets_are_refused_whatever_their_type() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server)
        .target("sockets = [\"{folder}/packets\", \"{folder}/datagrams\"]")
        .prepare()?;
    let path = |name: &str| host.folder().join(name).display().to_string();
    // SOCK_SEQPACKET and SOCK_DGRAM.
    let kinds = [("5", path("packets"), 1), ("2", path("datagrams"), 2)];
    let heard_in = path("heard");
    let serve = |(kind, path, _): &(&str, String, usize)| {
        Outside::start(0, SERVES, &[kind, path, &heard_in])
    };
    let _servers = kinds.iter().map(serve).collect::<Result<Vec<_>>>()?;
    let heard =
        |mark: &str| fs::read_to_string(&heard_in).unwrap_or_default().matches(mark).count();
    let send = |host: &Host, uid: u32, (kind, path, _): &(&str, String, usize), mark: &str| {
        host.other(uid, "/usr/bin/python3", &["-c", SENDS, kind, path, mark])?.ok()
    };
    let lines = |word: &str, times: usize| vec![word; times].join("\n");
    for one in &kinds {
        assert_eq!(send(&host, host.uid(), one, "<before>")?, lines("sent", one.2), "{one:?}");
    }
    wait_until("all are heard", || heard("<before>") == 3)?;
    host.start_daemon()?;
    if !has_modules(&host)? {
        return Ok(());
    }
    for one in &kinds {
        let refused = lines("PermissionError", one.2);
        assert_eq!(send(&host, host.uid(), one, "<with>")?, refused, "{one:?}");
        assert_eq!(send(&host, 64_002, one, "<other>")?, lines("sent", one.2), "{one:?}");
    }
    wait_until("others are heard", || heard("<other>") == 3)?;
    assert_eq!(heard("<with>"), 0);
    assert_eq!(host.counter("kernel_refused_unix")?, 3);
    recorded(&host, "bypass", &["agent cleaner", &kinds[1].1, "target prod"])
}
