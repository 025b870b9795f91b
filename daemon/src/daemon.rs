//! The daemon: puts the parts together, serves, and ends in order.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use chaperone_audit::Log;
use chaperone_kernel::{Host, Interception};
use chaperone_model::{DaemonStarted, EventKind, Record};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    time::sleep,
};

use crate::{
    anchors::{self, Anchors},
    approvals::{Approvals, Listener},
    attending::Attending,
    canary::Canary,
    clock,
    config::{Attach, Config, Export, Target, VersionRule},
    control, evidence,
    exceptions::Exceptions,
    existing,
    export::{Destination, Stream},
    following::Follower,
    identity::{Identities, Place, enrolled, read_version},
    listening::Listening,
    loading::plan,
    masks::Masks,
    naming::Naming,
    notify::{Notifier, Wheels},
    privileges::{self, Keep},
    scoping::Scoping,
    secret::Source,
    serve,
    shared::{Shared, Stage},
    ssh::authority::SshAuthority,
    stops::{self, Teller},
    tending::Tending,
    tls::{
        agent::Acceptor,
        authority::{Authority, AuthorityError},
    },
    upstream::{self, Upstream},
    webhook::Webhook,
};

/// What sessions have to end once they were told to.
const END: Duration = Duration::from_secs(6);
/// What the log has to be closed.
const FINISH: Duration = Duration::from_secs(30);

pub(crate) const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Serves until SIGTERM or SIGINT. `adopt` says that the programs were loaded by another process.
pub(crate) fn run(config: Config, adopt: bool) -> Result<()> {
    // Before anything starts a thread.
    let keep = if adopt { Keep::Serving } else { Keep::Loading };
    privileges::give_up(keep, chaperone_kernel::release_numbers())?;
    let handed = chaperone_kernel::take_handed()?;
    let notifier = Arc::new(Notifier::new(handed.notify, handed.watchdog));
    raise_file_limit();
    keep_memory_private()?;
    let host = Host::default();
    let plan = plan(&config, &host, !adopt)?;
    // All that can fail fails before anything is intercepted.
    let log = Log::open(&config.daemon.log, evidence::options(&config)?)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let Listening { workers: listeners, control } =
        Listening::new(&config.daemon, handed.listeners, threads)?;

    let (authority, made) =
        Authority::open_or_create(&config.daemon.authority, &read_line(HOST_NAME))?;
    if made {
        tracing::info!(
            fingerprint = authority.fingerprint(),
            "made this host's authority: `chaperone trust install` makes agents trust it"
        );
    }
    let ssh_host = SshAuthority::open_or_create(&config.daemon.authority)?;
    let own_ssh = ssh_host.key().public().clone();
    let upstreams = prepare(&config, authority.public_key(), &own_ssh)?;
    let masks = Masks::load(&config.masks)?;
    let acceptor = Acceptor::new(Arc::new(authority))?;

    enrolled::read(&config.daemon.enrolled)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let listener = webhook(&config)?;
    let anchors = Arc::new(Anchors::start(&config, &log)?);

    let _streams = streams(&config)?;

    let generation = plan.generation;
    let attach = plan.attach.clone();
    let mut interception =
        if adopt { Interception::adopt(plan) } else { Interception::load(plan) }?;
    let (set_stage, stage) = watch::channel(Stage::Serving);
    let cgroups = host.cgroup_root()?;
    let mut scoping = Scoping::new(&config, cgroups.clone());
    let place = Place {
        cgroups: cgroups.clone(),
        boot: read_line("/proc/sys/kernel/random/boot_id"),
        enrolled: config.daemon.enrolled.clone(),
    };
    let identities =
        Identities::new(interception.events()?, interception.processes()?, place, log.clone());
    let people = (identities, Approvals::new(log.clone(), listener));
    let shared = Arc::new(Shared::new(
        config,
        log,
        (acceptor, ssh_host),
        (upstreams, masks),
        people,
        generation,
        stage,
    ));
    shared.identities.reread();
    let mut names = Naming::default();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut end = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        scoping.look();
        interception.set_scope(scoping.scope(), |id| scoping.belongs(id))?;
        names.look_up(&shared.config).await;
        names.tell(&shared.config, &mut interception)?;
        shared.set_watched(names.watched());
        interception.set_unix_sockets(&stops::unix_sockets(&shared.config))?;
        let _ = shared
            .log
            .commit(vec![Record::DaemonStarted(DaemonStarted {
                at: clock::wall(),
                version: env!("CARGO_PKG_VERSION").into(),
                boot_id: read_line("/proc/sys/kernel/random/boot_id"),
                host: read_line(HOST_NAME),
                policy: shared.config.policy.hash().into(),
            })])?
            .receipts();
        let wheels = Wheels::default();
        let mut workers = Vec::new();
        for (index, listeners) in listeners.into_iter().enumerate() {
            workers.push(serve::spawn(
                shared.clone(),
                index,
                listeners,
                interception.notes()?,
                &wheels,
            )?);
        }
        tokio::spawn(shared.approvals.clone().expire());
        tokio::spawn(Exceptions::watch(shared.clone()));
        let attending = Attending::start(&shared.log)?;
        let counters = interception.counters()?;
        tokio::spawn(control::serve(
            shared.clone(),
            control.listener,
            attach.clone(),
            counters,
            anchors.clone(),
            attending,
        ));
        tokio::spawn(anchors.watch(shared.clone()));
        // Processes are followed before those that run already are looked for, so that none is
        // missed in between.
        interception.observe()?;
        // Cgroups that were made before that are seen now, all others as they are made.
        scoping.look_through();
        let armed = interception
            .set_scope(scoping.scope(), |id| scoping.belongs(id))
            .and_then(|()| shared.identities.scan(&scoping))
            .and_then(|()| interception.arm());
        if let Err(error) = armed {
            interception.give_up();
            return Err(error.into());
        }
        let record = |detail| shared.event(None, EventKind::Existing, detail);
        let processes = interception.processes()?;
        existing::end(&shared.config, &scoping, &names, &processes, record);
        let canary = Canary::new(processes, shared.config.daemon.listen, &attach, &cgroups);
        let (counters, events) = (interception.counters()?, interception.events()?);
        let stops = Teller::new(interception.stops()?, &shared.config);
        let interception = Arc::new(Mutex::new(interception));
        let follower = Follower {
            shared: shared.clone(),
            scoping,
            interception: interception.clone(),
            counters,
            events,
            stops,
            wheel: wheels.add("processes"),
        };
        workers.push(follower.start()?);
        // From here on connections come.
        tracing::info!(port = shared.config.daemon.listen, "ready");
        notifier.ready();
        notifier.status(&format!("serving {} targets", shared.config.targets.len()));
        let living = notifier.clone();
        tokio::spawn(async move { living.live(wheels).await });
        let (reload, mut is_to_reload) = oneshot::channel();
        let tending = Tending {
            shared: shared.clone(),
            interception: interception.clone(),
            canary,
            notifier: notifier.clone(),
            reload: Some(reload),
        };
        let tending = tokio::spawn(tending.run());

        let reload = loop {
            tokio::select! {
                _ = end.recv() => break false,
                _ = interrupt.recv() => break false,
                Ok(()) = &mut is_to_reload => break true,
                () = sleep(names.rest()) => {
                    if names.look_up(&shared.config).await {
                        let mut interception =
                            interception.lock().unwrap_or_else(PoisonError::into_inner);
                        names.tell(&shared.config, &mut interception)?;
                        shared.set_watched(names.watched());
                    }
                }
            }
        };
        tending.abort();
        tracing::info!("ending: sessions are given time to finish");
        notifier.stopping(shared.config.daemon.drain + END + FINISH);
        shared.event(None, EventKind::DaemonStopping, "the daemon was told to stop");
        shared.approvals.withdraw_all("the daemon stops");
        shared.exceptions.end_all("the daemon stops");
        // Where nothing is taken any more each moment counts.
        let patience = if reload { Duration::ZERO } else { shared.config.daemon.drain };
        drain(&shared, &set_stage, patience).await;
        for worker in workers {
            let _ = worker.join();
        }
        if control.own {
            let _ = fs::remove_file(&shared.config.daemon.control);
        }
        if reload {
            bail!("the programs have to be loaded anew");
        }
        Ok(())
    })
}

/// Where it is told what waits for a person, where somebody wants to know.
fn webhook(config: &Config) -> Result<Option<Box<dyn Listener>>> {
    let Some(webhook) = &config.webhook else { return Ok(None) };
    let secret =
        webhook.secret.as_ref().map(Source::read).transpose().context("the webhook's secret")?;
    let webhook = Webhook::start(webhook.url.clone(), secret, &webhook.queue)?;
    Ok(Some(Box::new(webhook)))
}

/// Anchors that are no safer than the log itself, a sentence each. A mount that hangs holds this up:
/// it is for those who only check.
pub(crate) fn near(config: &Config) -> Vec<String> {
    let log = &config.daemon.log;
    let folders = config.anchors.iter().filter_map(|anchor| Some((anchor, anchor.folder()?)));
    folders
        .filter_map(|(anchor, folder)| match anchors::same_file_system(folder, log) {
            Some(true) => Some(format!(
                "anchor {}: {} is on the log's own file system, and takes nothing: who can rewrite one can rewrite the other",
                anchor.name,
                folder.display()
            )),
            Some(false) => None,
            None => Some(format!("anchor {}: {} is not there", anchor.name, folder.display())),
        })
        .collect()
}

/// Where the log is streamed to.
fn streams(config: &Config) -> Result<Vec<Stream>> {
    let start = |export: &Export| {
        let headers = export.headers.iter().map(|(name, source)| {
            let value = source.read().with_context(|| format!("export {}", export.name))?;
            Ok((name.clone(), value))
        });
        let to = Destination {
            name: export.name.clone(),
            url: export.url.clone(),
            headers: headers.collect::<Result<_>>()?,
            cursor: export.cursor.clone(),
        };
        Stream::start(&config.daemon.log, to)
    };
    config.exports.iter().map(start).collect()
}

/// All that the targets' configuration names, read.
fn prepare(
    config: &Config,
    own: &[u8],
    own_ssh: &chaperone_wire::ssh::PublicKey,
) -> Result<Vec<Upstream>> {
    let prepare = |target: &Target| {
        Upstream::prepare(target, Some(own), Some(own_ssh))
            .with_context(|| format!("target {}", target.name))
    };
    config.targets.iter().map(prepare).collect()
}

/// Reads what the configuration names, for those who only check it; answers what could not be
/// checked here.
pub(crate) fn examine(config: &Config) -> Result<Vec<String>> {
    let authority = match Authority::open(&config.daemon.authority) {
        Ok(authority) => Some(authority),
        Err(AuthorityError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    enrolled::read(&config.daemon.enrolled)?;
    for agent in &config.agents {
        if let Some(VersionRule::File(path)) = &agent.version {
            read_version(path).map_err(|why| anyhow::anyhow!("agent {}: {why}", agent.name))?;
        }
    }
    let own = authority.as_ref().map(Authority::public_key);
    let mut elsewhere = Vec::new();
    for target in &config.targets {
        let found =
            upstream::examine(target, own).with_context(|| format!("target {}", target.name))?;
        elsewhere.extend(found.iter().map(|what| format!("target {}: {what}", target.name)));
    }
    for mask in &config.masks {
        match Masks::load(std::slice::from_ref(mask)) {
            Err(error) if error.is_elsewhere() => elsewhere.push(error.to_string()),
            loaded => drop(loaded?),
        }
    }
    Ok(elsewhere)
}

/// Credentials are in this process's memory: it is in no core dump, and no other process of the
/// same account may look into it (prctl(2), `PR_SET_DUMPABLE`).
fn keep_memory_private() -> Result<()> {
    nix::sys::prctl::set_dumpable(false).context("core dumps cannot be ruled out")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("core dumps cannot be ruled out")
}

/// Sessions end as they come to rest, then whatever they do, then are left behind.
async fn drain(shared: &Shared, stage: &watch::Sender<Stage>, patience: Duration) {
    let empty = async || {
        while !shared.sessions().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    for (next, time) in [(Stage::Draining, patience), (Stage::Ending, END)] {
        stage.send_replace(next);
        if tokio::time::timeout(time, empty()).await.is_ok() {
            break;
        }
        tracing::warn!(sessions = shared.sessions().len(), "sessions are still under way");
    }
    stage.send_replace(Stage::Over);
}

/// The cgroup that would be attached to, for those who ask.
pub(crate) fn attach_point(config: &Config) -> String {
    match &config.daemon.attach {
        Attach::Auto => "the cgroup v2 root".into(),
        Attach::Path(path) => path.display().to_string(),
    }
}

/// Each session takes two descriptors.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

pub(crate) fn read_line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}
