//! The scene: everything that a test needs, and its end.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
    unistd::geteuid,
};
use serde_json::Value;

use crate::{
    agent::{self, Finished, Running},
    daemon::{self, Daemon},
    postgres::{Postgres, Release},
    process::wait_until,
};

/// The agent's user id: nobody has an account for it, and none is needed.
const UID: u32 = 64_001;

/// What a test wants to be different from the ordinary.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    daemon: String,
    target: String,
    address: Option<String>,
    select: Option<String>,
    agent: String,
    more: String,
    server: String,
    hba: Option<String>,
    without_postgres: bool,
    release: Release,
    small_disk: bool,
    leave_nothing: bool,
    other_agents: Vec<(String, u32)>,
    other_targets: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    trimmed: Vec<String>,
    hosts: Option<(String, String)>,
}

impl Scene {
    /// Lines for the configuration's `[daemon]`.
    #[must_use]
    pub fn daemon(mut self, lines: &str) -> Self {
        self.daemon.push_str(lines);
        self.daemon.push('\n');
        self
    }

    /// Lines for the configuration's `[[target]]`.
    #[must_use]
    pub fn target(mut self, lines: &str) -> Self {
        self.target.push_str(lines);
        self.target.push('\n');
        self
    }

    /// The agent's version, as TOML.
    #[must_use]
    pub fn version(self, toml: &str) -> Self {
        self.agent(&format!("version = {toml}"))
    }

    /// One more agent, known by its user id.
    #[must_use]
    pub fn other_agent(mut self, name: &str, uid: u32) -> Self {
        self.other_agents.push((name.into(), uid));
        self
    }

    /// One more target: the same server by another of its addresses, [`Host::address_of`]. Lines as
    /// for [`Scene::target`].
    #[must_use]
    pub fn other_target(mut self, name: &str, lines: &str) -> Self {
        self.other_targets.push((name.into(), lines.into()));
        self
    }

    /// A variable of the daemon's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The daemon runs without this capability, as setpriv names it.
    #[must_use]
    pub fn without_capability(mut self, name: &str) -> Self {
        self.trimmed.push(name.into());
        self
    }

    /// The daemon finds this name to be the address of this target.
    #[must_use]
    pub fn name_of(mut self, target: &str, name: &str) -> Self {
        self.hosts = Some((target.into(), name.into()));
        self
    }

    /// The target's addresses, as TOML, in place of the server's own. `{ip}` is the server's.
    #[must_use]
    pub fn address(mut self, toml: &str) -> Self {
        self.address = Some(toml.into());
        self
    }

    /// The agent is known by its cgroup, not by its user id.
    #[must_use]
    pub fn select_by_cgroup(self) -> Self {
        self.select("{ cgroup = \"/{cgroup}\" }")
    }

    /// How the agent is known, as TOML. `{cgroup}` is the name of the test's cgroup.
    #[must_use]
    pub fn select(mut self, toml: &str) -> Self {
        self.select = Some(toml.into());
        self
    }

    /// Lines for the configuration's `[[agent]]`.
    #[must_use]
    pub fn agent(mut self, lines: &str) -> Self {
        self.agent.push_str(lines);
        self.agent.push('\n');
        self
    }

    /// Lines for the end of the configuration. `{cgroup}` is the name of the test's cgroup.
    #[must_use]
    pub fn more(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self.more.push('\n');
        self
    }

    /// Lines for the server's configuration.
    #[must_use]
    pub fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// The server's `pg_hba.conf`, in place of one that trusts everybody.
    #[must_use]
    pub fn hba(mut self, lines: &str) -> Self {
        self.hba = Some(lines.into());
        self
    }

    /// The log is on a file system of 2 MiB.
    #[must_use]
    pub fn small_disk(mut self) -> Self {
        self.small_disk = true;
        self
    }

    /// Nothing stays for the next scene, not even the server's template: it takes longer.
    #[must_use]
    pub fn leave_nothing(mut self) -> Self {
        self.leave_nothing = true;
        self
    }

    /// No server: the test brings its own.
    #[must_use]
    pub fn without_postgres(mut self) -> Self {
        self.without_postgres = true;
        self
    }

    /// Another server than Debian's.
    #[must_use]
    pub fn release(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    /// Sets the scene and starts the daemon.
    ///
    /// # Errors
    /// Where any of it cannot be had; the sentence says what.
    pub fn start(&self) -> Result<Host> {
        let mut host = self.prepare()?;
        host.start_daemon()?;
        Ok(host)
    }

    /// Sets the scene without the daemon.
    ///
    /// # Errors
    /// As [`Scene::start`].
    pub fn prepare(&self) -> Result<Host> {
        if !geteuid().is_root() {
            bail!("these tests load BPF programs and make cgroups: run them as root");
        }
        let others = u32::try_from(self.other_targets.len())?;
        let number = NEXT.fetch_add(1 + others, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("chaperone-host-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        // A slice, in which a service manager would make its units' groups.
        let name = format!("chaperonetest{}n{number}.slice", std::process::id());
        let cgroup = Cgroup::make(&name)?;
        let bpffs = Mount::make("bpf", folder.path().join("bpf"), None)?;
        let disk = self
            .small_disk
            .then(|| Mount::make("tmpfs", folder.path().join("log"), Some("size=2m")))
            .transpose()?;
        // An address and a port that no other test of any process uses at the same time.
        let process = std::process::id();
        let [_, _, high, low] = process.to_be_bytes();
        let addresses: Vec<_> = (number..=number + others)
            .map(|number| u8::try_from(number % 250).unwrap_or(0) + 1)
            .map(|octet| Ipv4Addr::new(127, 64 + (high & 0x3f), low, octet))
            .collect();
        let port = 20_000 + u16::try_from((process * 31 + number) % 12_000).unwrap_or(0);
        let hba = self.hba.clone().unwrap_or_else(|| "host all all all trust\n".into());
        let postgres = (!self.without_postgres)
            .then(|| {
                let template = self.leave_nothing.then(|| folder.path().join("template"));
                let (path, server) = (folder.path(), &self.server);
                Postgres::start(path, &addresses, server, &hba, template, self.release)
            })
            .transpose()?;
        let host = Host {
            daemon: None,
            postgres,
            _mounts: [Some(bpffs), disk],
            cgroup,
            folder,
            addresses,
            port,
            scene: self.clone(),
        };
        let mut configuration = self.configuration(&host, &name);
        if let Some((target, name)) = &self.hosts {
            let address = host.address_of(target);
            fs::write(host.folder().join("hosts"), format!("{address} {name}\n"))?;
            configuration = configuration.replace(&format!("{address}:"), &format!("{name}:"));
        }
        fs::write(host.config(), configuration)?;
        Ok(host)
    }

    fn configuration(&self, host: &Host, cgroup: &str) -> String {
        let folder = host.folder.path().display();
        let by_user = format!("{{ user = {UID} }}");
        let select = self.select.as_ref().unwrap_or(&by_user).replace("{cgroup}", cgroup);
        let address = self.address.clone().unwrap_or_else(|| "[\"{ip}:5432\"]".into());
        // Most scenes are of other things than encryption.
        let plain = |lines: &str| {
            let said = lines.lines().any(|line| line.starts_with("tls = "));
            if said { "" } else { "tls = \"disable\"\n" }
        };
        let mut text = format!(
            "[daemon]\nattach = \"{cgroup}\"\nlisten = {port}\npins = \"{folder}/bpf/chaperone\"\n\
             control = \"{folder}/run/control.sock\"\nlog = \"{folder}/log/log.sqlite\"\n\
             authority = \"{folder}/authority\"\nenrolled = \"{folder}/enrolled.toml\"\n{daemon}\n\
             [[agent]]\nname = \"cleaner\"\nselect = {select}\n{agent}\n\
             [[target]]\nname = \"prod\"\nprotocol = \"postgres\"\naddress = {address}\n{plain}{target}\n{more}",
            agent = self.agent,
            more = self.more.replace("{cgroup}", cgroup),
            cgroup = host.cgroup.path.display(),
            port = host.port,
            daemon = self.daemon,
            target = self.target,
            plain = plain(&self.target),
            address = address.replace("{ip}", &host.address().to_string()),
        );
        for ((name, lines), address) in self.other_targets.iter().zip(&host.addresses[1..]) {
            let _ = writeln!(
                text,
                "[[target]]\nname = \"{name}\"\nprotocol = \"postgres\"\n\
                 address = [\"{address}:5432\"]\n{}{lines}",
                plain(lines),
            );
        }
        for (name, uid) in &self.other_agents {
            let _ = writeln!(text, "[[agent]]\nname = \"{name}\"\nselect = {{ user = {uid} }}");
        }
        text.replace("{folder}", &folder.to_string())
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A scene that is set. Fields are dropped in order: the daemon first.
#[derive(Debug)]
pub struct Host {
    daemon: Option<Daemon>,
    postgres: Option<Postgres>,
    _mounts: [Option<Mount>; 2],
    cgroup: Cgroup,
    folder: tempfile::TempDir,
    addresses: Vec<Ipv4Addr>,
    port: u16,
    scene: Scene,
}

impl Host {
    /// An ordinary scene.
    ///
    /// # Errors
    /// As [`Scene::start`].
    pub fn start() -> Result<Self> {
        Scene::default().start()
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// Its own words.
    pub fn start_daemon(&mut self) -> Result<()> {
        let log = self.folder.path().join("daemon.log");
        let scene = &self.scene;
        let hosts = scene.hosts.as_ref().map(|_| self.folder.path().join("hosts"));
        let hosts = hosts.as_deref();
        let started =
            Daemon::start(&self.config(), log, &scene.environment, &scene.trimmed, hosts)?;
        self.daemon = Some(started);
        Ok(())
    }

    /// Starts the server of a scene that was set without one.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_postgres(&mut self, settings: &str, hba: &str) -> Result<()> {
        let (folder, release) = (self.folder.path(), self.scene.release);
        let server = Postgres::start(folder, &self.addresses, settings, hba, None, release)?;
        self.postgres = Some(server);
        Ok(())
    }

    /// Stops the daemon in order; answers its exit code.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop_daemon(&mut self) -> Result<Option<i32>> {
        self.daemon.take().map_or(Ok(None), |mut daemon| daemon.stop())
    }

    /// Kills the daemon.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn kill_daemon(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.signal(Signal::SIGKILL);
            daemon.stop()?;
        }
        Ok(())
    }

    /// Sends the daemon a signal.
    pub fn signal_daemon(&self, signal: Signal) {
        if let Some(daemon) = &self.daemon {
            daemon.signal(signal);
        }
    }

    /// The daemon's process id.
    pub fn daemon_id(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Daemon::id)
    }

    /// What the daemon wrote.
    pub fn daemon_output(&self) -> String {
        self.daemon.as_ref().map(Daemon::output).unwrap_or_default()
    }

    /// The server.
    ///
    /// # Panics
    /// In a scene without one.
    pub fn postgres(&self) -> &Postgres {
        self.postgres.as_ref().expect("this scene has a server")
    }

    /// Stops the server.
    pub fn stop_postgres(&mut self) {
        self.postgres = None;
    }

    /// The server's address, or the one that a test's own server may take.
    pub fn address(&self) -> Ipv4Addr {
        self.addresses[0]
    }

    /// The address of the target of this name.
    ///
    /// # Panics
    /// In a scene without such a target.
    pub fn address_of(&self, target: &str) -> Ipv4Addr {
        let others = self.scene.other_targets.iter().map(|(name, _)| name.as_str());
        let index = std::iter::once("prod").chain(others).position(|name| name == target);
        self.addresses[index.expect("this scene has such a target")]
    }

    /// The daemon's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs an agent's psql with this connection string; answers what it prints.
    ///
    /// # Errors
    /// Where psql cannot be run.
    pub fn connect(&self, conninfo: &str, statements: &[&str]) -> Result<Finished> {
        self.connect_as(UID, conninfo, statements)
    }

    /// As [`Host::connect`], under another user id.
    ///
    /// # Errors
    /// As [`Host::connect`].
    pub fn connect_as(&self, uid: u32, conninfo: &str, statements: &[&str]) -> Result<Finished> {
        let mut args = vec!["-X", "-q", "-At"];
        for statement in statements {
            args.extend(["-c", statement]);
        }
        args.push(conninfo);
        self.other(uid, "psql", &args)
    }

    /// The agent's user id.
    pub fn uid(&self) -> u32 {
        UID
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("chaperone.toml")
    }

    /// The log file.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log/log.sqlite")
    }

    /// The certificate of the daemon's authority.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority/ca.pem")
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The cgroup that the programs are attached to.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup.path
    }

    /// Runs a program as the agent.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn agent(&self, program: &str, args: &[&str]) -> Result<Finished> {
        self.agent_with(program, args, "")
    }

    /// As [`Host::agent`], with standard input.
    ///
    /// # Errors
    /// As [`Host::agent`].
    pub fn agent_with(&self, program: &str, args: &[&str], input: &str) -> Result<Finished> {
        agent::run(self.agent_command(UID, program, args), input)
    }

    /// As [`Host::agent`], under another user id.
    ///
    /// # Errors
    /// As [`Host::agent`].
    pub fn other(&self, uid: u32, program: &str, args: &[&str]) -> Result<Finished> {
        agent::run(self.agent_command(uid, program, args), "")
    }

    /// Starts a program as the agent.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_agent(&self, program: &str, args: &[&str]) -> Result<Running> {
        agent::start(self.agent_command(UID, program, args))
    }

    /// Runs statements by an agent's psql, each in a message of its own; answers unaligned rows.
    ///
    /// # Errors
    /// Where psql cannot be run.
    pub fn psql(&self, statements: &[&str]) -> Result<Finished> {
        let mut args = vec!["-X", "-q", "-At"];
        for statement in statements {
            args.extend(["-c", statement]);
        }
        self.agent("psql", &args)
    }

    /// Runs a program as the agent in a cgroup below the test's own.
    ///
    /// # Errors
    /// As [`Host::agent`].
    pub fn agent_in(
        &self,
        cgroup: &Path,
        uid: u32,
        program: &str,
        args: &[&str],
    ) -> Result<Finished> {
        agent::run(self.with_settings(agent::command(cgroup, uid, program, args)), "")
    }

    /// Runs a Python program as the agent.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn python(&self, program: &str) -> Result<Finished> {
        self.agent("/usr/bin/python3", &["-c", program])
    }

    /// A Python that has newer drivers than Debian's, and with psycopg libpq 18.
    ///
    /// # Errors
    /// Where it is not known.
    pub fn newer_python(&self) -> Result<String> {
        std::env::var("CHAPERONE_PYTHON")
            .context("CHAPERONE_PYTHON is not set: run the tests by `cargo xtask test`")
    }

    fn agent_command(&self, uid: u32, program: &str, args: &[&str]) -> std::process::Command {
        self.with_settings(agent::command(&self.cgroup.path, uid, program, args))
    }

    /// What ops would have set for the agent long before.
    fn with_settings(&self, mut command: std::process::Command) -> std::process::Command {
        command
            .env("PGHOST", self.address().to_string())
            .env("PGPORT", "5432")
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres");
        command
    }

    /// Runs `chaperone`.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn chaperone(&self, args: &[&str]) -> Result<Finished> {
        daemon::chaperone(&self.config(), args)
    }

    /// Commands in the log, once all of them have their outcome.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn commands(&self) -> Result<Vec<Value>> {
        let read = || self.json(&["log", "--limit", "1000000", "--json"]);
        let mut rows = read()?;
        wait_until("every command has its outcome", || {
            if let Ok(now) = read() {
                rows = now;
            }
            rows.iter().all(|row| row["status"] != "pending")
        })?;
        Ok(rows)
    }

    /// The statements in the log, in order.
    ///
    /// # Errors
    /// As [`Host::commands`].
    pub fn statements(&self) -> Result<Vec<String>> {
        let rows = self.commands()?;
        Ok(rows
            .iter()
            .map(|row| row["statement"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// One command with its response.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn command(&self, id: &Value) -> Result<Value> {
        let id = id.to_string();
        self.json(&["log", "show", &id, "--json"])?.pop().context("there is no such command")
    }

    /// Sessions in the log, once all of them are closed.
    ///
    /// # Errors
    /// Where the log cannot be read, or a session stays open.
    pub fn closed_sessions(&self) -> Result<Vec<Value>> {
        let mut rows = Vec::new();
        wait_until("every session is closed", || {
            rows =
                self.json(&["log", "sessions", "--limit", "100000", "--json"]).unwrap_or_default();
            !rows.is_empty() && rows.iter().all(|row| !row["closed"].is_null())
        })?;
        Ok(rows)
    }

    /// The session in the log that was opened last, once all are closed.
    ///
    /// # Errors
    /// As [`Host::closed_sessions`].
    pub fn last_session(&self) -> Result<Value> {
        self.closed_sessions()?.pop().context("there is no session")
    }

    /// What else is in the log.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn events(&self) -> Result<Vec<Value>> {
        self.json(&["log", "events", "--json"])
    }

    /// A counter of the running daemon.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub fn counter(&self, name: &str) -> Result<u64> {
        // A daemon whose log fails says so by the exit code, and answers all the same.
        let out = self.chaperone(&["status", "--json"])?.out;
        let status: Value = serde_json::from_str(&out).context("no status")?;
        status["counters"]
            .as_array()
            .and_then(|all| all.iter().find(|counter| counter[0] == name)?[1].as_u64())
            .with_context(|| format!("there is no counter {name}"))
    }

    /// The daemon's resident memory at its highest, in KiB.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn daemon_peak_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon_id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
        Ok(number.parse()?)
    }

    fn json(&self, args: &[&str]) -> Result<Vec<Value>> {
        let out = self.chaperone(args)?.ok()?;
        out.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            eprint_tail(&self.daemon_output());
        }
        let _ = self.stop_daemon();
        let _ = self.chaperone(&["daemon", "--detach"]);
    }
}

#[expect(clippy::print_stderr, reason = "a failed test shows what the daemon said")]
fn eprint_tail(text: &str) {
    let lines: Vec<_> = text.lines().collect();
    eprintln!("the daemon said:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
}

/// A cgroup v2 of the test's own.
#[derive(Debug)]
struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    fn make(name: &str) -> Result<Self> {
        let table = fs::read_to_string("/proc/self/mounts")?;
        let root = table
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields.get(2) == Some(&"cgroup2"))
            .context("no cgroup v2 is mounted on this host")?;
        let path = Path::new(root[1]).join(name);
        fs::create_dir(&path)
            .with_context(|| format!("the cgroup {} cannot be made", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Ends what a test left behind in it, and nothing else.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        for _ in 0..200 {
            // Groups that a test made below it go first.
            remove_below(&self.path);
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn remove_below(folder: &Path) {
    for below in fs::read_dir(folder).into_iter().flatten().flatten() {
        if below.path().is_dir() {
            remove_below(&below.path());
            let _ = fs::remove_dir(below.path());
        }
    }
}

/// A file system of the test's own.
#[derive(Debug)]
struct Mount(PathBuf);

impl Mount {
    fn make(kind: &str, path: PathBuf, options: Option<&str>) -> Result<Self> {
        fs::create_dir(&path)?;
        mount(Some(kind), &path, Some(kind), MsFlags::empty(), options)
            .with_context(|| format!("a file system of type {kind} cannot be mounted"))?;
        Ok(Self(path))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
