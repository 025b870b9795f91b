//! Who is no agent is left alone, and an agent that floods holds nobody up.

use std::time::{Duration, Instant};

use anyhow::Result;
use chaperone_host_tests::{Host, Scene};

use crate::guard::{Server, recorded, scene};

/// Makes a user and a network namespace of its own, in which it has the number that it is given,
/// serves a port there, and speaks with it.
const SPEAKS_INSIDE: &str = "
import ctypes, fcntl, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
inner, port = sys.argv[1], int(sys.argv[2])
outer = os.getuid()
if libc.unshare(0x10000000 | 0x40000000) != 0:
    print('lacking')
    sys.exit(0)
open('/proc/self/uid_map', 'w').write(f'{inner} {outer} 1')
assert os.getuid() == int(inner)
device = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
SIOCSIFFLAGS, UP = 0x8914, 1
fcntl.ioctl(device, SIOCSIFFLAGS, struct.pack('16sh14x', b'lo', UP))
server = socket.socket()
server.bind(('127.0.0.1', port))
server.listen()
client = socket.socket()
client.settimeout(5)
try:
    client.connect(('127.0.0.1', port))
    client.sendall(b'hello')
    client.shutdown(socket.SHUT_WR)
    connection, _ = server.accept()
    print(connection.recv(100).decode())
except OSError as e:
    print(type(e).__name__)
";

fn speak_inside(host: &Host, uid: u32, inner: u32, port: u16) -> Result<String> {
    let (inner, port) = (inner.to_string(), port.to_string());
    host.other(uid, "/usr/bin/python3", &["-c", SPEAKS_INSIDE, &inner, &port])?.ok()
}

#[test]
fn others_who_have_an_agents_number_in_a_namespace_of_theirs_are_left_alone() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).prepare()?;
    // Another account, whose own server has the target's address in a network of its own.
    let before = speak_inside(&host, 64_002, host.uid(), server.port)?;
    if before == "lacking" {
        return Ok(());
    }
    assert_eq!(before, "hello");
    host.start_daemon()?;
    assert_eq!(speak_inside(&host, 64_002, host.uid(), server.port)?, "hello");
    assert_eq!(host.counter("kernel_guard_out")? + host.counter("kernel_guard_in")?, 0);
    // An agent's is an agent's whatever number it gives itself.
    let refused = speak_inside(&host, host.uid(), 64_002, server.port)?;
    assert_eq!(refused, "PermissionError");
    Ok(())
}

#[test]
fn the_daemons_port_is_somebody_elses_in_another_network_namespace() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).prepare()?;
    let before = speak_inside(&host, 64_002, 64_002, host.port())?;
    if before == "lacking" {
        return Ok(());
    }
    assert_eq!(before, "hello");
    host.start_daemon()?;
    assert_eq!(speak_inside(&host, 64_002, 64_002, host.port())?, "hello");
    assert_eq!(speak_inside(&host, host.uid(), 64_002, host.port())?, "hello");
    assert_eq!(host.counter("kernel_refused_own_port")?, 0);
    // In the daemon's own it is nobody's.
    let code = format!("import socket; socket.create_connection(('127.0.0.1', {}))", host.port());
    for uid in [64_002, host.uid()] {
        let out = host.other(uid, "/usr/bin/python3", &["-c", &code])?;
        assert!(out.err.contains("PermissionError"), "{}", out.err);
    }
    assert_eq!(host.counter("kernel_refused_own_port")?, 2);
    Ok(())
}

/// Four processes try again and again, each time elsewhere, until they are ended.
const FLOODS: &str = "
import os, socket, sys
port = int(sys.argv[1])
for _ in range(3):
    if os.fork() == 0:
        break
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
last = os.getpid() % 250
print('floods', flush=True)
while True:
    for i in range(65536):
        try:
            s.sendto(b'x', (f'127.{i & 0xff}.{i >> 8}.{last}', port))
        except PermissionError:
            pass
";

#[test]
fn p8_an_agent_that_floods_holds_nobody_up_and_hides_nothing() -> Result<()> {
    let server = Server::start()?;
    let mut host = Scene::default()
        .without_postgres()
        .address(&format!("[\"127.0.0.0/8:{}\"]", server.port))
        .start()?;
    let port = server.port.to_string();
    let mut flood = host.start_agent("/usr/bin/python3", &["-c", FLOODS, &port])?;
    assert_eq!(flood.hear()?, "floods");
    std::thread::sleep(Duration::from_secs(2));
    assert!(host.counter("kernel_refused_protocol")? > 10_000, "this is no flood");
    // What the same thread does besides is done, and what matters is told.
    let list = format!(
        "[[enrolled]]\nagent = \"cleaner\"\npath = \"/opt/a\"\nsha256 = \"{}\"\n",
        "ab".repeat(32)
    );
    std::fs::write(host.folder().join("enrolled.toml"), list)?;
    recorded(&host, "enrolled", &["was read: 1 entries"])?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let other = listener.local_addr()?.port();
    let code = format!(
        "import socket; s = socket.create_connection(('127.0.0.1', {other})); s.sendall(b'SSH-2.0-hidden')"
    );
    host.python(&code)?.ok()?;
    recorded(&host, "passed-by", &["agent cleaner", "SSH", &format!("127.0.0.1:{other}")])?;
    let told = host.events()?.len();
    assert!(told < 2_000, "{told} events");
    let start = Instant::now();
    assert_eq!(host.stop_daemon()?, Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    flood.kill();
    Ok(())
}
