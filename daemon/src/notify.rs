//! Tells the service manager how things are (`sd_notify(3)`), and that the daemon is alive.
//!
//! A sign of life is given only where every thread that serves or follows has turned its own wheel
//! since the last one: a thread that hangs is a daemon that hangs, and is started anew. The protocol
//! is one datagram, which needs no library.

use std::{
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How often threads turn their wheels.
pub(crate) const TURN_EVERY: Duration = Duration::from_millis(250);

/// Where the service manager listens, where there is one.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    pub(crate) fn new(place: Option<OsString>, watchdog: Option<Duration>) -> Self {
        let to = place.and_then(|place| match open(&place) {
            Ok(to) => Some(to),
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told anything");
                None
            }
        });
        let watchdog = watchdog.filter(|_| to.is_some());
        Self { to, watchdog }
    }

    /// Connections are served.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The end has begun, and may take so long.
    pub(crate) fn stopping(&self, patience: Duration) {
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", patience.as_micros()));
    }

    /// One line for people.
    pub(crate) fn status(&self, line: &str) {
        self.tell(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// Gives signs of life as long as all wheels turn.
    pub(crate) async fn live(&self, wheels: Wheels) {
        let Some(patience) = self.watchdog else { return };
        // What is due once in `patience` is told twice.
        let mut turn = tokio::time::interval(patience / 2);
        let mut well = true;
        loop {
            turn.tick().await;
            match wheels.stuck(patience / 2) {
                None => {
                    well = true;
                    self.tell("WATCHDOG=1");
                }
                Some(name) if well => {
                    well = false;
                    tracing::error!(
                        thread = name,
                        "a thread hangs: the service manager is not told that the daemon is well"
                    );
                }
                Some(_) => {}
            }
        }
    }

    fn tell(&self, state: &str) {
        let Some((socket, address)) = &self.to else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

fn open(place: &OsString) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A service manager that does not read must not make the daemon wait.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// Threads that are to be alive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wheels(Arc<Mutex<Vec<(String, Wheel)>>>);

/// One thread's.
#[derive(Clone, Debug)]
pub(crate) struct Wheel {
    start: Instant,
    /// Milliseconds from `start` to the last turn, and one more.
    turned: Arc<AtomicU64>,
}

impl Wheels {
    /// One more, which turns from now on.
    pub(crate) fn add(&self, name: impl Into<String>) -> Wheel {
        let wheel = Wheel { start: Instant::now(), turned: Arc::default() };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((name.into(), wheel.clone()));
        wheel
    }

    /// The name of one that has not turned for so long.
    pub(crate) fn stuck(&self, patience: Duration) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(_, wheel)| wheel.rested() > patience).map(|(name, _)| name.clone())
    }
}

impl Wheel {
    /// A turn.
    pub(crate) fn turn(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.turned.store(now, Ordering::Relaxed);
    }

    /// Turns as long as the runtime that this runs on does.
    pub(crate) async fn turn_on(self) {
        loop {
            self.turn();
            tokio::time::sleep(TURN_EVERY).await;
        }
    }

    fn rested(&self) -> Duration {
        let last = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wheel_that_stands_still_is_enough() {
        let wheels = Wheels::default();
        let (first, _second) = (wheels.add("first"), wheels.add("second"));
        let patience = Duration::from_millis(50);
        assert_eq!(wheels.stuck(patience), None);
        std::thread::sleep(patience * 2);
        first.turn();
        assert_eq!(wheels.stuck(patience).as_deref(), Some("second"));
    }

    #[test]
    fn what_is_told_arrives_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("chaperone-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
        for (socket, place) in [
            (UnixDatagram::bind(&path), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name), format!("@{name}").into()),
        ] {
            let socket = socket.expect("bound");
            let notifier = Notifier::new(Some(place), None);
            notifier.ready();
            notifier.status("two\nlines");
            let mut bytes = [0; 100];
            let mut next = || {
                let length = socket.recv(&mut bytes).expect("told");
                String::from_utf8_lossy(&bytes[..length]).into_owned()
            };
            assert_eq!(next(), "READY=1");
            assert_eq!(next(), "STATUS=two lines");
        }
    }
}
