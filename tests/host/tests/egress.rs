//! Where agents go beside targets: recorded or refused where ops want it, and seen where it is a
//! target's protocol.

use std::{
    io::Read,
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::Result;
use chaperone_host_tests::Host;

use crate::guard::{Server, recorded, scene};

/// A forwarder to the server, on a port of its own, that another account runs.
fn forwarder(server: &Server) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (port, to) = (listener.local_addr()?.port(), server.port);
    thread::spawn(move || {
        for mut from in listener.incoming().flatten() {
            if let Ok(mut to) = TcpStream::connect(("127.0.0.1", to)) {
                thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    Ok(port)
}

fn say(host: &Host, port: u16, mark: &str) -> Result<String> {
    let code = format!(
        "
import socket
try:
    s = socket.create_connection(('127.0.0.1', {port}), timeout=5)
    s.sendall({mark:?}.encode('latin1'))
    print('sent')
except OSError as e:
    print(type(e).__name__)
"
    );
    host.python(&code)?.ok()
}

#[test]
fn p1_a_forwarder_on_another_port_is_refused_where_nothing_else_is_to_be_reached() -> Result<()> {
    let server = Server::start()?;
    let forwarder = forwarder(&server)?;
    let listed = UdpSocket::bind("127.0.0.1:0")?;
    let (listed_port, unlisted) = (listed.local_addr()?.port(), UdpSocket::bind("127.0.0.1:0")?);
    let mut host = scene(&server)
        .agent(&format!("egress = \"deny\"\nreach = [\"127.0.0.1:{listed_port}\"]"))
        .prepare()?;
    assert_eq!(say(&host, forwarder, "<before>")?, "sent");
    assert!(server.hears("<before>"), "it leads nowhere without the daemon");
    host.start_daemon()?;
    assert_eq!(say(&host, forwarder, "<with>")?, "PermissionError");
    assert!(!server.hears("<with>"));
    recorded(&host, "unlisted", &["agent cleaner", "TCP", &format!(":{forwarder}"), "refused"])?;

    // What is listed is reached, by either way to send; the rest is not.
    let code = format!(
        "
import socket
def send(port, connected):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if connected:
            s.connect(('127.0.0.1', port))
            s.send(b'x')
        else:
            s.sendto(b'x', ('127.0.0.1', port))
        return 'sent'
    except PermissionError:
        return 'refused'
print(*(send(port, connected) for port in ({listed_port}, {}) for connected in (True, False)))
",
        unlisted.local_addr()?.port()
    );
    assert_eq!(host.python(&code)?.ok()?, "sent sent refused refused");
    listed.set_read_timeout(Some(Duration::from_secs(5)))?;
    listed.recv(&mut [0; 8])?;
    assert_eq!(host.counter("kernel_refused_unlisted")?, 3);
    // Targets are reached by the daemon as ever.
    assert_eq!(say(&host, server.port, "<target>")?, "sent");
    assert_eq!(host.counter("kernel_redirected")?, 1);
    Ok(())
}

#[test]
fn where_an_agent_goes_is_recorded() -> Result<()> {
    let server = Server::start()?;
    let forwarder = forwarder(&server)?;
    let host = scene(&server).agent("egress = \"record\"").start()?;
    assert_eq!(say(&host, forwarder, "<recorded>")?, "sent");
    assert!(server.hears("<recorded>"));
    let place = format!("127.0.0.1:{forwarder}");
    recorded(&host, "unlisted", &["agent cleaner", "went to", &place, "python3"])?;
    assert_eq!(host.counter("kernel_unlisted")?, 1);
    assert_eq!(host.counter("kernel_refused_unlisted")?, 0);
    Ok(())
}

#[test]
fn a_targets_protocol_on_another_port_is_named() -> Result<()> {
    let server = Server::start()?;
    let forwarder = forwarder(&server)?;
    let host = scene(&server).start()?;
    let place = format!("127.0.0.1:{forwarder}");
    assert_eq!(say(&host, forwarder, "nothing of interest")?, "sent");
    assert_eq!(host.counter("kernel_passed_by")?, 0);
    // A request for TLS, the shortest start-up message, and a greeting.
    let begins = [
        ("0000000804d2162f", "PostgreSQL"),
        ("000000090003000000", "PostgreSQL"),
        ("5353482d322e302d61", "SSH"),
    ];
    for (count, (hex, protocol)) in (1..).zip(begins) {
        let code = format!(
            "import socket; s = socket.create_connection(('127.0.0.1', {forwarder})); s.sendall(bytes.fromhex('{hex}')); s.sendall(b'more')"
        );
        host.python(&code)?.ok()?;
        assert_eq!(host.counter("kernel_passed_by")?, count);
        recorded(&host, "passed-by", &["agent cleaner", "speaks", protocol, &place, "python3"])?;
    }
    Ok(())
}

#[test]
fn multipath_tcp_is_seen_as_tcp_is() -> Result<()> {
    let server = Server::start()?;
    let forwarder = forwarder(&server)?;
    let multipath = |host: &Host, text: &str| {
        let code = format!(
            "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
s.settimeout(5)
try:
    s.connect(('127.0.0.1', {forwarder}))
    s.sendall(b'{text}')
    print('sent')
except OSError as e:
    print(type(e).__name__)
"
        );
        host.python(&code)?.ok()
    };
    let host = scene(&server).start()?;
    assert_eq!(multipath(&host, "SSH-2.0-multipath")?, "sent");
    assert!(server.hears("SSH-2.0-multipath"));
    let place = format!("127.0.0.1:{forwarder}");
    recorded(&host, "passed-by", &["agent cleaner", "SSH", &place, "python3"])?;
    assert_eq!(host.counter("kernel_passed_by")?, 1);
    drop(host);
    let host = scene(&server).agent("egress = \"deny\"").start()?;
    assert_eq!(multipath(&host, "<multipath>")?, "PermissionError");
    assert!(!server.hears("<multipath>"));
    Ok(())
}

/// Connects to two ports, takes a connection at a third, and says what becomes of each.
const HOLDS_THREE: &str = "
import socket, sys
ports = [int(port) for port in sys.argv[1:3]]
held = [socket.create_connection(('127.0.0.1', port)) for port in ports]
listener = socket.socket()
listener.bind(('127.0.0.1', 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
held.append(listener.accept()[0])
print('held', flush=True)
sys.stdin.readline()
for s in held:
    try:
        s.sendall(b'<held>')
        print('sent')
    except OSError as e:
        print(type(e).__name__)
";

#[test]
fn p1_a_connection_to_a_forwarder_from_before_the_daemon_is_ended_where_egress_is_denied()
-> Result<()> {
    let server = Server::start()?;
    let (unlisted, listed) = (forwarder(&server)?, TcpListener::bind("127.0.0.1:0")?);
    let listed_port = listed.local_addr()?.port();
    let mut host = scene(&server)
        .agent(&format!("egress = \"deny\"\nreach = [\"127.0.0.1:{listed_port}\"]"))
        .prepare()?;
    let ports = [unlisted.to_string(), listed_port.to_string()];
    let args = ["-c", HOLDS_THREE, &ports[0], &ports[1]];
    let mut running = host.start_agent("/usr/bin/python3", &args)?;
    let _asks = TcpStream::connect(("127.0.0.1", running.hear()?.parse::<u16>()?))?;
    assert_eq!(running.hear()?, "held");
    host.start_daemon()?;
    running.say("")?;
    assert_eq!(running.finish()?.ok()?, "ConnectionAbortedError\nsent\nsent");
    assert!(!server.hears("<held>"));
    let place = format!("127.0.0.1:{unlisted}, which is not listed");
    recorded(&host, "existing", &["agent cleaner", &place, "ended"])?;
    assert_eq!(host.events()?.iter().filter(|event| event["kind"] == "existing").count(), 1);
    Ok(())
}

#[test]
fn protocols_that_lead_elsewhere_unseen_are_refused_where_egress_is_denied() -> Result<()> {
    let server = Server::start()?;
    let code = "
import errno, socket
for kind in ((2, 2, 136), (10, 2, 136), (2, 6, 33), (2, 2, 115), (2, 2, 17)):
    try:
        socket.socket(*kind)
        print('made')
    except OSError as e:
        print(errno.errorcode[e.errno])
";
    let host = scene(&server).start()?;
    let made = host.python(code)?.ok()?;
    drop(host);
    let host = scene(&server).agent("egress = \"deny\"").start()?;
    let refused = host.python(code)?.ok()?;
    // Kernels that lack a protocol say so as ever.
    let expected: Vec<_> = made.lines().take(4).map(|line| line.replace("made", "EPERM")).collect();
    assert_eq!(refused, format!("{}\nmade", expected.join("\n")));
    assert_eq!(
        host.counter("kernel_refused_socket")?,
        expected.iter().filter(|line| *line == "EPERM").count() as u64
    );
    Ok(())
}

#[test]
fn an_agent_that_serves_is_not_taken_for_one_that_passes_by() -> Result<()> {
    let server = Server::start()?;
    let host = scene(&server).agent("egress = \"deny\"").start()?;
    let code = "
import socket
s = socket.socket()
s.bind(('127.0.0.1', 0))
s.listen()
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
c.sendall(b'SSH-2.0-server')
c.close()
";
    let mut running = host.start_agent("/usr/bin/python3", &["-c", code])?;
    let port: u16 = running.hear()?.parse()?;
    let mut said = String::new();
    TcpStream::connect(("127.0.0.1", port))?.read_to_string(&mut said)?;
    assert_eq!(said, "SSH-2.0-server");
    running.finish()?.ok()?;
    assert_eq!(host.counter("kernel_passed_by")?, 0);
    assert_eq!(host.counter("kernel_refused_unlisted")?, 0);
    Ok(())
}
