//! The sockets that the daemon listens on: its own, or those that the service manager holds, in whose
//! queues connections wait while there is no daemon.
//!
//! Of its own each thread has one with the same address (`SO_REUSEPORT`), so that none wakes the
//! others. One that is held is a single one, and every thread accepts from it: were there several,
//! the kernel would choose among them by the connection, and how many there are would have to fit the
//! number of cores in a file that knows nothing of it. That a connection wakes all idle threads costs
//! some microseconds each.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{config::Daemon, control};

/// Connections that may wait to be accepted, for each listener.
const BACKLOG: i32 = 4096;

/// All of them.
pub(crate) struct Listening {
    /// For each thread those that it accepts from.
    pub(crate) workers: Vec<Vec<TcpListener>>,
    pub(crate) control: Control,
}

/// The control socket.
pub(crate) struct Control {
    pub(crate) listener: UnixListener,
    /// Whether its file goes with the daemon.
    pub(crate) own: bool,
}

impl Listening {
    /// Takes what the service manager handed over, or listens itself where that is nothing.
    ///
    /// # Errors
    /// Where an address is taken, or what was handed over is not what the configuration names.
    pub(crate) fn new(daemon: &Daemon, handed: Vec<OwnedFd>, threads: usize) -> Result<Self> {
        if handed.is_empty() {
            return Self::own(daemon, threads);
        }
        let (mut agents, mut control) = (Vec::new(), None);
        for fd in handed {
            match recognize(daemon, fd)? {
                Held::Agents(listener) => agents.push(listener),
                Held::Control(listener) => control = Some(listener),
            }
        }
        let port = daemon.listen;
        let has = |ip: IpAddr| agents.iter().any(|held| is_at(held, ip));
        if !has(Ipv4Addr::LOCALHOST.into()) {
            bail!(not_held(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        }
        if !has(Ipv6Addr::LOCALHOST.into()) && has_ipv6(port) {
            bail!(not_held(SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
        }
        let share = |_| agents.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>();
        let workers = (0..threads).map(share).collect::<io::Result<_>>()?;
        let control = match control {
            Some(listener) => Control { listener, own: false },
            None => own_control(daemon)?,
        };
        Ok(Self { workers, control })
    }

    fn own(daemon: &Daemon, threads: usize) -> Result<Self> {
        let workers = (0..threads).map(|_| bind_all(daemon.listen)).collect::<io::Result<_>>();
        let workers = workers.with_context(|| {
            format!(
                "cannot listen on port {} of 127.0.0.1 and ::1: set `listen` to a free port",
                daemon.listen
            )
        })?;
        Ok(Self { workers, control: own_control(daemon)? })
    }
}

/// Binds the port on 127.0.0.1 and, where the host has IPv6, on `::1`.
pub(crate) fn bind_all(port: u16) -> io::Result<Vec<TcpListener>> {
    let mut bound = vec![bind((Ipv4Addr::LOCALHOST, port).into())?];
    match bind((Ipv6Addr::LOCALHOST, port).into()) {
        Ok(listener) => bound.push(listener),
        // Without IPv6 on loopback no agent reaches anything by it, either.
        Err(error) if is_without_ipv6(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(bound)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT)
}

/// Where the address is taken there is one.
fn has_ipv6(port: u16) -> bool {
    bind((Ipv6Addr::LOCALHOST, port).into()).err().is_none_or(|error| !is_without_ipv6(&error))
}

fn own_control(daemon: &Daemon) -> Result<Control> {
    let listener = control::bind(&daemon.control)
        .with_context(|| format!("cannot make the control socket {}", daemon.control.display()))?;
    Ok(Control { listener, own: true })
}

fn not_held(address: SocketAddr) -> String {
    format!(
        "the service manager holds no listener on {address}, where the configuration's `listen` is: name it as a ListenStream= in chaperone.socket"
    )
}

enum Held {
    Agents(TcpListener),
    Control(UnixListener),
}

/// A socket that was handed over, by what it is: names are the unit's writer's word.
fn recognize(daemon: &Daemon, fd: OwnedFd) -> Result<Held> {
    let socket = SockRef::from(&fd);
    let address =
        socket.local_addr().context("the service manager handed over what is no socket")?;
    let shown = shown(&address);
    let listens = getsockopt(&fd.as_fd(), AcceptConn).unwrap_or(false);
    if socket.r#type().ok() != Some(Type::STREAM) || !listens {
        bail!(
            "the service manager handed over {shown}, on which no connections are accepted: chaperone.socket is to have ListenStream= lines alone, and Accept=no"
        );
    }
    socket.set_nonblocking(true).context("a held listener cannot be used")?;
    let port = daemon.listen;
    if let Some(address) = address.as_socket() {
        let of_agents = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]
            .map(|ip| SocketAddr::new(ip, port));
        if of_agents.contains(&address) {
            return Ok(Held::Agents(fd.into()));
        }
    }
    if address.as_pathname().is_some_and(|path| is_same(path, &daemon.control)) {
        return Ok(Held::Control(fd.into()));
    }
    bail!(
        "the service manager holds a listener on {shown}, which is neither port {port} (`listen`) of 127.0.0.1 or ::1 nor {} (`control`): make chaperone.socket and the configuration say the same",
        daemon.control.display()
    )
}

/// Also where one is named by a link, such as `/var/run`.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

fn shown(address: &socket2::SockAddr) -> String {
    address
        .as_socket()
        .map(|address| address.to_string())
        .or_else(|| address.as_pathname().map(|path| path.display().to_string()))
        .unwrap_or_else(|| "a socket without an address".into())
}

fn is_at(listener: &TcpListener, ip: IpAddr) -> bool {
    listener.local_addr().is_ok_and(|address| address.ip() == ip)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    // One listener a thread; the kernel spreads connections over them.
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
