//! Accepting: one current-thread runtime a core, each with listeners of its own; a session stays on
//! the thread that accepted it.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use chaperone_kernel::{Notes, Taken};
use chaperone_model::{AgentAddr, EventKind};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinSet, LocalSet},
};

use crate::{
    local::Local,
    session,
    shared::{Shared, Stage},
};

/// Connections that may wait to be accepted, for each listener.
const BACKLOG: i32 = 4096;
/// How long accepting rests after a failure such as too many open files.
const REST: Duration = Duration::from_millis(50);
/// A reset connection is recorded at most so often; all are counted.
const RECORD_RESETS: Duration = Duration::from_secs(1);

/// The listeners of one thread.
pub(crate) struct Listeners(Vec<std::net::TcpListener>);

impl Listeners {
    /// Binds the port on 127.0.0.1 and, where the host has IPv6, on `::1`.
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        let mut bound = vec![bind((Ipv4Addr::LOCALHOST, port).into())?];
        match bind((Ipv6Addr::LOCALHOST, port).into()) {
            Ok(listener) => bound.push(listener),
            // Without IPv6 on loopback no agent reaches anything by it, either.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {}
            Err(error) => return Err(error),
        }
        Ok(Self(bound))
    }
}

/// Starts a thread that accepts and serves until the daemon ends.
pub(crate) fn spawn(
    shared: Arc<Shared>,
    index: usize,
    listeners: Listeners,
    notes: Notes,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("sessions-{index}")).spawn(move || {
        LocalSet::new().block_on(&runtime, accept_all(shared, listeners, notes));
    })
}

async fn accept_all(shared: Arc<Shared>, listeners: Listeners, notes: Notes) {
    let notes = Rc::new(Mutex::new(notes));
    let local = Rc::new(Local::new(&shared));
    tokio::task::spawn_local(local.clone().commit());
    let mut accepting = JoinSet::new();
    for listener in listeners.0 {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                accepting.spawn_local(accept(
                    shared.clone(),
                    local.clone(),
                    listener,
                    notes.clone(),
                ));
            }
            Err(error) => tracing::error!(%error, "a listener cannot be used"),
        }
    }
    let mut stage = shared.stage.clone();
    let _ = stage.wait_for(|stage| *stage >= Stage::Draining).await;
    // From here on connections wait in the kernel, or are refused once the sockets are closed.
    accepting.abort_all();
    while accepting.join_next().await.is_some() {}
    // Sessions that are under way are tasks of the same thread.
    while !shared.sessions().is_empty() && *shared.stage.borrow() < Stage::Over {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn accept(
    shared: Arc<Shared>,
    local: Rc<Local>,
    listener: TcpListener,
    notes: Rc<Mutex<Notes>>,
) {
    let mut last_reset = None;
    loop {
        let (client, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        shared.counters.accepted.up();
        let from = AgentAddr(from);
        let taken = notes.lock().unwrap_or_else(PoisonError::into_inner).take(from);
        let note = match taken {
            Ok(Taken::Note(note))
                if note.generation == shared.generation && note.process.started_ns != 0 =>
            {
                note
            }
            Ok(Taken::Note(_)) => {
                shared.counters.stale_note.up();
                reset(&client);
                continue;
            }
            Ok(Taken::Nothing) => {
                shared.counters.no_note.up();
                reset(&client);
                record_reset(&shared, from, &mut last_reset);
                continue;
            }
            Err(error) => {
                tracing::error!(%error, "the kernel's note could not be taken");
                shared.counters.no_note.up();
                reset(&client);
                continue;
            }
        };
        match shared.places.take(note.agent) {
            Ok(place) => {
                let serve =
                    session::serve(shared.clone(), local.clone(), client, from, note, place);
                tokio::task::spawn_local(contained(shared.clone(), serve));
            }
            Err(full) => {
                let refuse = session::too_many(shared.clone(), client, note, full, None);
                tokio::task::spawn_local(contained(shared.clone(), refuse));
            }
        }
    }
}

/// A panic ends the session that it happened in, and is counted.
async fn contained(shared: Arc<Shared>, session: impl Future<Output = ()> + 'static) {
    if tokio::task::spawn_local(session).await.is_err_and(|error| error.is_panic()) {
        shared.counters.panics.up();
        tracing::error!("a session ended by a panic: this is a bug");
    }
}

/// The peer sees a reset, not an orderly end.
pub(crate) fn reset(client: &TcpStream) {
    let _ = SockRef::from(client).set_linger(Some(Duration::ZERO));
}

fn record_reset(shared: &Shared, from: AgentAddr, last: &mut Option<Instant>) {
    if last.is_none_or(|at| at.elapsed() >= RECORD_RESETS) {
        *last = Some(Instant::now());
        let total = shared.counters.no_note.get();
        let detail = format!(
            "a connection from {from} was reset: the kernel sent none from there ({total} since the start)"
        );
        shared.event(None, EventKind::NoNote, detail);
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
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
