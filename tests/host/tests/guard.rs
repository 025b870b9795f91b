//! P1, P2: no way leads round the daemon. Each attempt tries to reach a server directly and to prove
//! it by a mark that the server sees; without the daemon it must succeed, so that it can fail.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use chaperone_host_tests::{Finished, Host, Scene, wait_until};

const WAYS: &str = include_str!("guard/ways.py");
/// What a way ends with on a kernel that lacks it.
const LACKING: i32 = 77;

/// A server that keeps what it hears, on one port of 127.0.0.1 and `::1`, by TCP and UDP. It is out
/// of every test's scope.
pub(crate) struct Server {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        let server = Self::on(TcpListener::bind("127.0.0.1:0")?)?;
        let port = server.port;
        server.take(TcpListener::bind(("::1", port))?);
        for address in ["127.0.0.1", "::1"] {
            let (socket, heard) = (UdpSocket::bind((address, port))?, Arc::clone(&server.heard));
            thread::spawn(move || {
                let mut bytes = [0; 1024];
                while let Ok(length) = socket.recv(&mut bytes) {
                    lock(&heard).extend(&bytes[..length]);
                }
            });
        }
        Ok(server)
    }

    /// By TCP alone, where a test says.
    pub(crate) fn on(listener: TcpListener) -> Result<Self> {
        let port = listener.local_addr()?.port();
        let server = Self { port, heard: Arc::default(), held: Arc::default() };
        server.take(listener);
        Ok(server)
    }

    fn take(&self, listener: TcpListener) {
        let (heard, held) = (Arc::clone(&self.heard), Arc::clone(&self.held));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(stream) = stream.try_clone() {
                    lock(&held).push(stream);
                }
                let heard = Arc::clone(&heard);
                thread::spawn(move || keep(stream, &heard));
            }
        });
    }

    /// As a target of the configuration.
    pub(crate) fn target(&self) -> String {
        format!("[\"127.0.0.1:{0}\", \"[::1]:{0}\"]", self.port)
    }

    pub(crate) fn has_heard(&self, mark: &str) -> bool {
        lock(&self.heard).windows(mark.len()).any(|found| found == mark.as_bytes())
    }

    /// Whether it hears a mark within a time that is enough for what is on its way.
    pub(crate) fn hears(&self, mark: &str) -> bool {
        (0..50).any(|_| {
            thread::sleep(Duration::from_millis(20));
            self.has_heard(mark)
        })
    }

    /// Says something to everybody who connected.
    fn say(&self, text: &str) {
        for stream in lock(&self.held).iter_mut() {
            let _ = stream.write_all(text.as_bytes());
        }
    }

    /// The other ends of its connections.
    fn clients(&self) -> Vec<SocketAddr> {
        lock(&self.held).iter().filter_map(|stream| stream.peer_addr().ok()).collect()
    }
}

fn keep(mut stream: TcpStream, heard: &Mutex<Vec<u8>>) {
    let mut bytes = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        lock(heard).extend(&bytes[..length]);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A scene with the server as its target.
pub(crate) fn scene(server: &Server) -> Scene {
    Scene::default().without_postgres().address(&server.target())
}

/// Waits until an event of this kind says all of this.
pub(crate) fn recorded(host: &Host, kind: &str, words: &[&str]) -> Result<()> {
    let says = |event: &serde_json::Value| {
        let detail = event["detail"].as_str().unwrap_or_default();
        event["kind"] == kind && words.iter().all(|word| detail.contains(word))
    };
    wait_until(&format!("an event {kind} says {words:?}"), || {
        host.events().is_ok_and(|events| events.iter().any(says))
    })
}

/// Whether the daemon has security modules here. Where it has none it says so: this is asserted.
pub(crate) fn has_modules(host: &Host) -> Result<bool> {
    let doctor = host.chaperone(&["doctor", "--json"])?.out;
    let line = doctor.lines().find(|line| line.contains("\"BPF LSM\"")).context("no line")?;
    let has = line.contains("\"ok\"");
    assert_eq!(!has, host.daemon_output().contains("no security modules"), "{line}");
    Ok(has)
}

struct Ways {
    program: PathBuf,
    names: Vec<&'static str>,
}

impl Ways {
    /// Those that anybody may try, or those that take root.
    fn new(host: &Host, of_root: bool) -> Result<Self> {
        let program = host.folder().join("ways.py");
        fs::write(&program, WAYS)?;
        let all = WAYS.split("@way\ndef ").skip(1).filter_map(|rest| rest.split('(').next());
        let takes_root = |name: &&str| name.starts_with("raw") || name.starts_with("packet");
        let names = all.filter(|name| takes_root(name) == of_root).collect();
        Ok(Self { program, names })
    }

    fn try_one(
        &self,
        host: &Host,
        uid: u32,
        name: &str,
        server: &Server,
        mark: &str,
    ) -> Result<Finished> {
        let (program, port) = (self.program.display().to_string(), server.port.to_string());
        host.other(uid, "/usr/bin/python3", &[&program, name, &port, mark])
    }

    /// Tries all; answers those by which the server was reached, and those that the kernel lacks.
    fn try_all(
        &self,
        host: &Host,
        uid: u32,
        server: &Server,
        when: &str,
    ) -> Result<[Vec<&str>; 2]> {
        let (mut reached, mut lacking) = (Vec::new(), Vec::new());
        let mark = |name: &str| format!("={name}={when}=");
        for name in &self.names {
            let done = self.try_one(host, uid, name, server, &mark(name))?;
            if done.code == Some(LACKING) {
                lacking.push(*name);
            }
        }
        // What is on its way arrives.
        thread::sleep(Duration::from_secs(1));
        reached.extend(self.names.iter().filter(|name| server.has_heard(&mark(name))));
        Ok([reached, lacking])
    }
}

#[test]
fn p1_no_way_leads_round_the_daemon() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).prepare()?;
    let ways = Ways::new(&host, false)?;
    ensure!(ways.names.len() >= 45, "there are {} ways", ways.names.len());
    let [reached, lacking] = ways.try_all(&host, host.uid(), &server, "before")?;
    let failed: Vec<_> = ways
        .names
        .iter()
        .filter(|name| !reached.contains(name) && !lacking.contains(name))
        .collect();
    assert!(failed.is_empty(), "these lead nowhere without the daemon: {failed:?}");
    assert!(lacking.len() <= 7, "this kernel lacks {lacking:?}");

    host.start_daemon()?;
    // Each is redirected or stopped, and not only unheard.
    let mut unseen = Vec::new();
    for name in &ways.names {
        let before = seen(&host)?;
        let done = ways.try_one(&host, host.uid(), name, &server, &format!("={name}=with="))?;
        if done.code != Some(LACKING) && seen(&host)? == before {
            unseen.push((name, done.err));
        }
    }
    assert!(unseen.is_empty(), "nobody saw these: {unseen:?}");
    thread::sleep(Duration::from_secs(1));
    let reached: Vec<_> =
        ways.names.iter().filter(|name| server.has_heard(&format!("={name}=with="))).collect();
    assert!(reached.is_empty(), "these lead round the daemon: {reached:?}");
    assert!(host.counter("kernel_redirected")? >= 30);
    assert!(host.counter("kernel_refused_protocol")? >= 5);
    recorded(&host, "bypass", &["agent cleaner", "UDP to target prod", "python3"])?;

    // Also while the daemon is down.
    host.kill_daemon()?;
    let [reached, _] = ways.try_all(&host, host.uid(), &server, "without")?;
    assert!(reached.is_empty(), "these lead round a daemon that is down: {reached:?}");

    // And what is taken out is gone.
    host.chaperone(&["daemon", "--detach"])?.ok()?;
    ways.try_one(&host, host.uid(), "plain", &server, "=after=")?;
    assert!(server.hears("=after="), "detached, and still in the way");
    Ok(())
}

/// What the kernel side redirected or stopped.
fn seen(host: &Host) -> Result<u64> {
    let names = ["redirected", "refused_namespace", "refused_protocol", "refused_socket"];
    let names = names.iter().chain(&["refused_option", "refused_passed", "guard_out", "guard_in"]);
    names.map(|name| host.counter(&format!("kernel_{name}"))).sum()
}

#[test]
fn p1_packets_that_list_their_own_way_are_dropped() -> Result<()> {
    let server = Server::start()?;
    let host = scene(&server).select_by_cgroup().daemon("deny_sockets = []").start()?;
    // By way of another address, with the server's in the list.
    let code = "
import socket, struct
def send(family, packet, to):
    try:
        socket.socket(family, socket.SOCK_RAW, 255).sendto(packet, (to, 0))
        print('sent')
    except PermissionError:
        print('dropped')
far, here = socket.inet_aton('127.0.0.3'), socket.inet_aton('127.0.0.1')
def four(option):
    udp = struct.pack('!HHHH', 40000, 9, 9, 0) + b'x'
    head = struct.pack('!BBHHHBBH4s4s', 0x40 | 5 + len(option) // 4, 0, 20 + len(option) + len(udp), 7, 0, 64, 17, 0, here, far)
    send(socket.AF_INET, head + option + udp, '127.0.0.3')
four(bytes([131, 7, 4]) + here + b'\\0')
four(bytes([1, 137, 7, 4]) + here)
four(bytes([1, 1, 1, 1, 1, 1, 1, 1]))
one = socket.inet_pton(socket.AF_INET6, '::1')
routing = struct.pack('!BBBBI', 59, 2, 0, 1, 0) + one
packet = struct.pack('!IHBB', 6 << 28, len(routing), 43, 64) + one + one + routing
send(socket.AF_INET6, packet, '::1')
four(b'')
";
    let out = host.other(0, "/usr/bin/python3", &["-c", code])?.ok()?;
    assert_eq!(out, "dropped\ndropped\ndropped\ndropped\nsent");
    // More options than are looked at are none that anybody needs; the last has none.
    assert_eq!(host.counter("kernel_guard_odd")?, 4);
    recorded(&host, "bypass", &["agent cleaner", "takes a way of its own"])
}

#[test]
fn p1_the_guard_stops_packets_that_no_connect_was_asked_about() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).select_by_cgroup().daemon("deny_sockets = []").prepare()?;
    let mut ways = Ways::new(&host, true)?;
    // Packet sockets are below the guard; they are for the next test.
    ways.names.retain(|name| name.starts_with("raw"));
    let [reached, _] = ways.try_all(&host, 0, &server, "before")?;
    assert_eq!(reached, ways.names, "these lead nowhere without the daemon");
    host.start_daemon()?;
    let [reached, _] = ways.try_all(&host, 0, &server, "with")?;
    assert!(reached.is_empty(), "these lead round the daemon: {reached:?}");
    assert!(host.counter("kernel_guard_out")? >= ways.names.len() as u64);
    assert_eq!(host.counter("kernel_refused_socket")?, 0);
    recorded(&host, "bypass", &["agent cleaner", "a packet (UDP) to target prod", "python3"])
}

#[test]
fn p1_sockets_that_agents_have_no_use_for_are_refused() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).select_by_cgroup().prepare()?;
    let mut ways = Ways::new(&host, true)?;
    let [reached, _] = ways.try_all(&host, 0, &server, "before")?;
    assert_eq!(reached, ways.names, "these lead nowhere without the daemon");
    let code = "
import socket
def make(*kind):
    try:
        socket.socket(*kind)
        return 'made'
    except PermissionError:
        return 'refused'
    except OSError:
        return 'unknown'
print(make(2, 3, 1), make(10, 3, 58), make(17, 2), make(40, 1))
print(make(2, 2), make(10, 1), make(2, 1, 262), make(1, 1), make(16, 3, 0), make(2, 2, 1))
print(make(2, 1, 132), make(10, 5, 132))
";
    let before = host.other(0, "/usr/bin/python3", &["-c", code])?.ok()?;
    let [denied, let_be, sctp] = before.lines().collect::<Vec<_>>()[..] else {
        anyhow::bail!("three lines: {before}")
    };
    assert_eq!(denied, "made made made made");
    // Kernels without SCTP do not know it.
    let sctp = sctp.replace("made", "refused");
    host.start_daemon()?;
    let modules = has_modules(&host)?;
    if !modules {
        ways.names.retain(|name| name.starts_with("raw"));
    }
    let [reached, _] = ways.try_all(&host, 0, &server, "with")?;
    assert!(reached.is_empty(), "these lead round the daemon: {reached:?}");
    assert!(host.counter("kernel_refused_socket")? >= ways.names.len() as u64);
    recorded(&host, "bypass", &["agent cleaner", "a socket of IPv4, protocol 255 was refused"])?;
    let made = host.other(0, "/usr/bin/python3", &["-c", code])?.ok()?;
    let rest = if modules { "refused refused" } else { "made made" };
    assert_eq!(made, format!("refused refused {rest}\n{let_be}\n{sctp}"));
    if modules {
        recorded(&host, "bypass", &["a socket of packets (AF_PACKET)", "was refused"])?;
    }
    // Others make what they like.
    assert_eq!(host.outside("/usr/bin/python3", &["-c", code])?.ok()?, before);
    Ok(())
}

#[test]
fn which_sockets_are_refused_is_for_ops() -> Result<()> {
    let server = Server::start()?;
    let host = scene(&server).daemon("deny_sockets = [\"mptcp\"]").start()?;
    let out = host.python("import socket; socket.socket(2, 1, 0); socket.socket(2, 1, 262)")?;
    assert!(out.err.contains("PermissionError"), "{}", out.err);
    assert_eq!(host.counter("kernel_refused_socket")?, 1);
    Ok(())
}

#[test]
fn p2_nobody_takes_the_daemons_port_while_it_is_down() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).start()?;
    let code = format!(
        "
import socket
for family, address in [(2, '127.0.0.1'), (2, '0.0.0.0'), (2, '127.1.2.3'), (10, '::1'), (10, '::'), (10, '::ffff:127.0.0.1')]:
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        s.bind((address, {port}))
        print('taken')
    except PermissionError:
        print('refused')
socket.socket().bind(('127.0.0.1', 0))
",
        port = host.port()
    );
    for _ in 0..2 {
        assert_eq!(host.python(&code)?.ok()?, ["refused"; 6].join("\n"));
        host.kill_daemon()?;
    }
    // Another account may: that is for the host's owner.
    let out = host.other(64_002, "/usr/bin/python3", &["-c", &code])?.ok()?;
    assert_eq!(out.matches("taken").count(), 6);
    host.start_daemon()?;
    assert_eq!(host.counter("kernel_refused_bind")?, 12);
    recorded(&host, "bypass", &["taking the daemon's port"])
}

#[test]
fn a_tcp_connection_stays_one() -> Result<()> {
    let server = Server::start()?;
    let host = scene(&server).start()?;
    let code = "
import socket, errno
def turn(name):
    s = socket.socket()
    try:
        s.setsockopt(socket.IPPROTO_TCP, 31, name)
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]
print(turn(b'smc'), turn(b'smc' + bytes(5)), turn(b'tlsx'), turn(b'tls') != 'EPERM', turn(b'tls' + bytes(1)) != 'EPERM')
print(turn(b'smc' + bytes(5000)), turn(b'smc' + bytes(65536)))
s = socket.socket()
try:
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, bytes([1]) + bytes(8191))
    print('long')
except OSError as e:
    print(e)
";
    let out = host.python(code)?.ok()?;
    assert_eq!(out, "EPERM EPERM EPERM True True\nEPERM EPERM\nlong");
    assert_eq!(host.counter("kernel_refused_option")?, 5);
    // Who is no agent hears of a protocol that is not there.
    let out = host.other(64_002, "/usr/bin/python3", &["-c", code])?.ok()?;
    assert!(!out.contains("EPERM"), "{out}");
    Ok(())
}

/// Connects, waits for a line, sends the mark and says what it heard.
const WAITS: &str = "
import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
print('connected', flush=True)
sys.stdin.readline()
try:
    s.sendall(sys.argv[2].encode())
    s.settimeout(2)
    print('heard', s.recv(100))
except OSError as e:
    print(type(e).__name__)
";

#[test]
fn p1_a_connection_from_before_the_daemon_is_ended() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).prepare()?;
    let port = server.port.to_string();
    let mut running = host.start_agent("/usr/bin/python3", &["-c", WAITS, &port, "<before>"])?;
    assert_eq!(running.hear()?, "connected");
    let other = TcpStream::connect(("127.0.0.1", server.port))?;
    host.start_daemon()?;
    running.say("")?;
    // Security modules refuse before it is found to have ended.
    let said = if has_modules(&host)? { "PermissionError" } else { "ConnectionAbortedError" };
    assert_eq!(running.finish()?.ok()?, said);
    assert!(!server.hears("<before>"));
    recorded(&host, "existing", &["agent cleaner", "target prod", "process", "ended"])?;
    // The connections of others are left alone.
    (&other).write_all(b"<other>")?;
    assert!(server.hears("<other>"));
    assert_eq!(host.events()?.iter().filter(|event| event["kind"] == "existing").count(), 1);
    Ok(())
}

#[test]
fn p1_no_packet_of_a_connection_from_before_the_daemon_passes_either_way() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server).daemon("existing = \"record\"").prepare()?;
    let port = server.port.to_string();
    let mut running = host.start_agent("/usr/bin/python3", &["-c", WAITS, &port, "<left>"])?;
    assert_eq!(running.hear()?, "connected");
    wait_until("the server has it", || !server.clients().is_empty())?;
    host.start_daemon()?;
    server.say("hello");
    wait_until("what the server says is dropped", || {
        host.counter("kernel_guard_in").is_ok_and(|count| count >= 1)
    })?;
    running.say("")?;
    // Security modules refuse to send; without them the packets are dropped.
    let modules = has_modules(&host)?;
    let said = if modules { "PermissionError" } else { "TimeoutError" };
    assert_eq!(running.finish()?.ok()?, said);
    assert!(!server.hears("<left>"));
    assert_eq!(host.counter("kernel_refused_passed")? >= 1, modules);
    // What no call sends is dropped in any case: the end of the connection.
    wait_until("the end of it is dropped", || {
        host.counter("kernel_guard_out").is_ok_and(|count| count >= 1)
    })?;
    recorded(&host, "existing", &["agent cleaner", "left as it is"])?;
    recorded(&host, "bypass", &["agent cleaner", "target prod", "was dropped", "from before"])
}

#[test]
fn p2_a_network_namespace_with_a_way_out_is_refused() -> Result<()> {
    let server = Server::start()?;
    let mut host = scene(&server)
        .select_by_cgroup()
        .address(&format!("[\"10.213.7.1:{}\"]", server.port))
        .prepare()?;
    let name = format!("chaperone-test-{}", std::process::id());
    let _namespace = Namespace::make(&name)?;
    let listener = TcpListener::bind(("10.213.7.1", server.port))?;
    let heard = Arc::clone(&server.heard);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            keep(stream, &heard);
        }
    });
    let say = |host: &Host, mark: &str| {
        let command = format!("printf '{mark}' > /dev/tcp/10.213.7.1/{}", server.port);
        host.other(0, "ip", &["netns", "exec", &name, "bash", "-c", &command])
    };
    say(&host, "<inside>")?.ok()?;
    assert!(server.hears("<inside>"), "it leads nowhere without the daemon");
    host.start_daemon()?;
    assert!(say(&host, "<refused>")?.err.contains("Operation not permitted"));
    assert!(!server.hears("<refused>"));
    assert_eq!(host.counter("kernel_refused_namespace")?, 1);
    Ok(())
}

/// A network namespace with a pair of devices to the test's own.
struct Namespace(String);

impl Namespace {
    fn make(name: &str) -> Result<Self> {
        let made = Self(name.into());
        let device = format!("ct{}", std::process::id());
        let inner = format!("{device}i");
        for command in [
            format!("netns add {name}"),
            format!("link add {device} type veth peer name {inner} netns {name}"),
            format!("addr add 10.213.7.1/30 dev {device}"),
            format!("link set {device} up"),
            format!("-n {name} addr add 10.213.7.2/30 dev {inner}"),
            format!("-n {name} link set {inner} up"),
        ] {
            let done = std::process::Command::new("ip")
                .args(command.split(' '))
                .output()
                .context("there is no ip")?;
            ensure!(
                done.status.success(),
                "ip {command}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
        Ok(made)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its device goes with it, and so does the other end.
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}
