//! The deliberate end of interception (`chaperone daemon --detach`): it is recorded, with who did it,
//! before it is done.

use anyhow::{Context, Result, bail};
use chaperone_audit::{AuditError, Log};
use chaperone_model::{Event, EventKind, Record};
use nix::unistd::{Uid, User, geteuid};

use crate::{clock, config::Config, daemon::read_line, evidence};

/// Removes the programs: from here on nothing is intercepted.
pub(crate) fn detach(config: &Config, unrecorded: bool) -> Result<()> {
    if !geteuid().is_root() {
        bail!("only root may detach the programs");
    }
    if !chaperone_kernel::is_attached(&config.daemon.pins) {
        println!("nothing was attached");
        return Ok(());
    }
    match record(config) {
        Ok(()) => {}
        Err(error) if is_running(&error) => {
            bail!(
                "a daemon is running, and would attach the programs again: stop it first (`systemctl stop chaperone.socket chaperone.service`)"
            )
        }
        Err(error) if unrecorded => {
            tracing::warn!(error = %format!("{error:#}"), "the log could not be told");
        }
        Err(error) => {
            return Err(error.context(
                "nothing was detached, because the log cannot be told: make it writable, or say --unrecorded",
            ));
        }
    }
    chaperone_kernel::detach(&config.daemon.pins)?;
    println!("detached: connections are no longer intercepted");
    Ok(())
}

fn record(config: &Config) -> Result<()> {
    let log = Log::open(&config.daemon.log, evidence::options(config)?)?;
    let event = Event {
        at: clock::wall(),
        session: None,
        kind: EventKind::Detached,
        detail: format!("{} detaches the programs: connections are no longer intercepted", who()),
    };
    let _ = log.commit(vec![Record::Event(event)]).context("the log takes nothing")?.receipts();
    Ok(())
}

/// Root is many: who logged in is the kernel's word (`/proc/PID/loginuid`), which survives sudo.
fn who() -> String {
    let name = |uid: u32| {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        user.map_or_else(
            || format!("user id {uid}"),
            |user| format!("{} (user id {uid})", user.name),
        )
    };
    let login = read_line("/proc/self/loginuid").parse().ok().filter(|uid| *uid != u32::MAX);
    match login {
        Some(uid) if uid != 0 => format!("{}, logged in as {},", name(0), name(uid)),
        Some(_) => format!("{}, who logged in as such,", name(0)),
        None => format!("{}, in a process that nobody's log-in started,", name(0)),
    }
}

fn is_running(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AuditError::Locked(_)))
}
