//! The kernel side's loading: what is attached where, for whom and for which addresses. As a step of
//! its own (`chaperone daemon --load`) it needs all privileges and no daemon: from then on agents'
//! connections to targets wait for one, or are refused.
//!
//! Does not belong here: serving them.

use std::time::Duration;

use anyhow::{Context, Result};
use chaperone_audit::Log;
use chaperone_kernel::{Host, Interception, Plan, read_offsets};
use chaperone_model::{Event, EventKind, Record};

use crate::{
    clock,
    config::Config,
    evidence, existing,
    naming::Naming,
    privileges::{self, Keep},
    scoping::Scoping,
    stops,
    tls::provider,
};

/// How long names may take to be looked up. What is not known by then, and was watched before, goes on
/// being watched; the daemon looks again.
const LOOK_UP: Duration = Duration::from_secs(10);

/// What is to be attached, and where. `loads`: by this process, whose privileges say what it may.
pub(crate) fn plan(config: &Config, host: &Host, loads: bool) -> Result<Plan> {
    let modules = if loads { host.takes_modules() } else { Ok(()) };
    let plan = Plan {
        attach: config.attach_path(host)?,
        pins: config.daemon.pins.clone(),
        port: config.daemon.listen,
        generation: generation()?,
        offsets: read_offsets(&host.btf)?,
        deny_sockets: config.daemon.deny_sockets,
        egress: config.agents.iter().any(|agent| agent.egress.is_some()),
        modules: modules.is_ok(),
    };
    if let Err(why) = modules {
        tracing::warn!(why, "no security modules: `chaperone doctor` says what that leaves open");
    }
    Ok(plan)
}

/// Loads and attaches, and ends: what is pinned goes on.
pub(crate) fn load(config: &Config) -> Result<()> {
    privileges::give_up(Keep::Loading, chaperone_kernel::release_numbers())?;
    let host = Host::default();
    let mut interception = Interception::load(plan(config, &host, true)?)?;
    let mut scoping = Scoping::new(config, host.cgroup_root()?);
    scoping.look();
    interception.set_scope(scoping.scope(), |id| scoping.belongs(id))?;
    let mut names = Naming::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if tokio::time::timeout(LOOK_UP, names.look_up(config)).await.is_err() {
            tracing::warn!(
                "names of targets could not be looked up in time: the daemon tries again"
            );
            names.settle(config);
        }
    });
    // A look-up that hangs is left behind.
    runtime.shutdown_background();
    names.tell(config, &mut interception)?;
    interception.set_unix_sockets(&stops::unix_sockets(config))?;
    interception.observe()?;
    // Cgroups that were made before that are seen now, all others as they are made.
    scoping.look_through();
    let armed = interception
        .set_scope(scoping.scope(), |id| scoping.belongs(id))
        .and_then(|()| interception.arm());
    if let Err(error) = armed {
        interception.give_up();
        return Err(error.into());
    }
    tracing::info!(attach = %config.attach_path(&host)?.display(), "agents' connections are taken");
    let mut found = Vec::new();
    existing::end(config, &scoping, &names, &interception.processes()?, |detail| {
        found.push(detail);
    });
    if !found.is_empty() {
        tell(config, found);
    }
    Ok(())
}

/// Tells the log, where that can be. Loading is not held up by it: what is found stands on the
/// service manager's journal too, and protection comes first.
fn tell(config: &Config, found: Vec<String>) {
    let records = found.into_iter().map(|detail| {
        Record::Event(Event { at: clock::wall(), session: None, kind: EventKind::Existing, detail })
    });
    let told = evidence::options(config)
        .and_then(|options| Ok(Log::open(&config.daemon.log, options)?))
        .and_then(|log| log.commit(records.collect()).context("it takes nothing"));
    if let Err(error) = told {
        tracing::warn!(error = %format!("{error:#}"), "the log could not be told");
    }
}

/// A number that no earlier start since boot has had, most surely.
fn generation() -> Result<u32> {
    let mut bytes = [0; 4];
    provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("there is no randomness"))?;
    Ok(u32::from_ne_bytes(bytes))
}
