//! Accepting: one current-thread runtime a core, each with listeners of its own; a session stays on
//! the thread that accepted it.

use std::{
    future::Future,
    io,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use chaperone_kernel::{Note, Notes, Taken, is_of, original};
use chaperone_model::{AgentAddr, EventKind};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinSet, LocalSet},
};

use crate::{
    canary::Awaited,
    local::Local,
    notify::{Wheel, Wheels},
    session,
    shared::{Shared, Stage},
};

/// How long accepting rests after a failure such as too many open files.
const REST: Duration = Duration::from_millis(50);
/// A reset connection is recorded at most so often; all are counted.
const RECORD_RESETS: Duration = Duration::from_secs(1);

/// Starts a thread that accepts and serves until the daemon ends.
pub(crate) fn spawn(
    shared: Arc<Shared>,
    index: usize,
    listeners: Vec<std::net::TcpListener>,
    notes: Notes,
    wheels: &Wheels,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = format!("sessions-{index}");
    let wheel = wheels.add(name.clone());
    std::thread::Builder::new().name(name).spawn(move || {
        LocalSet::new().block_on(&runtime, accept_all(shared, listeners, notes, wheel));
    })
}

async fn accept_all(
    shared: Arc<Shared>,
    listeners: Vec<std::net::TcpListener>,
    notes: Notes,
    wheel: Wheel,
) {
    tokio::task::spawn_local(wheel.turn_on());
    let notes = Rc::new(Mutex::new(notes));
    let local = Rc::new(Local::new(&shared));
    tokio::task::spawn_local(local.clone().commit());
    let mut accepting = JoinSet::new();
    for listener in listeners {
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
    // From here on connections wait in the kernel: for the next daemon where the service manager holds
    // the sockets, else to be refused once they are closed.
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
        let from = AgentAddr(from);
        let taken = notes.lock().unwrap_or_else(PoisonError::into_inner).take(from);
        if let Ok(Taken::Note(note)) = &taken
            && Awaited::is(note)
        {
            shared.canary.arrive(note, client);
            continue;
        }
        shared.counters.accepted.up();
        let note = match taken {
            Ok(Taken::Note(note)) => {
                if let Some(note) = current(&shared, note, from) {
                    note
                } else {
                    shared.counters.stale_note.up();
                    reset(&client);
                    continue;
                }
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

/// The note, with the target as the configuration has it now. One of an earlier start's is of a
/// connection that waited in the queue of a listener that the service manager holds, and the place of
/// its target may be another's since: the address that was asked for decides anew. It may also have
/// been left by a connection that was never accepted, and this be another one from the same port: only
/// the socket that the kernel noted counts.
fn current(shared: &Shared, mut note: Note, from: AgentAddr) -> Option<Note> {
    if note.process.started_ns == 0 {
        return None;
    }
    if note.generation == shared.generation {
        return Some(note);
    }
    match is_of(&note, from, shared.config.daemon.listen) {
        Ok(true) => {}
        Ok(false) => return None,
        Err(error) => {
            tracing::error!(%error, "the kernel does not say whose a connection is");
            return None;
        }
    }
    note.target = shared.target_at(original(&note).0)?;
    note.generation = shared.generation;
    shared.counters.waited.up();
    Some(note)
}

/// A panic ends the session that it happened in, and is counted.
pub(crate) async fn contained(shared: Arc<Shared>, session: impl Future<Output = ()> + 'static) {
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
