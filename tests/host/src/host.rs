//! The scene: everything that a test needs, and its end.

use std::{
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
    select_cgroup: bool,
    server: String,
    hba: Option<String>,
    without_postgres: bool,
    release: Release,
    small_disk: bool,
    leave_nothing: bool,
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

    /// The target's addresses, as TOML, in place of the server's own. `{ip}` is the server's.
    #[must_use]
    pub fn address(mut self, toml: &str) -> Self {
        self.address = Some(toml.into());
        self
    }

    /// The agent is known by its cgroup, not by its user id.
    #[must_use]
    pub fn select_by_cgroup(mut self) -> Self {
        self.select_cgroup = true;
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
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("chaperone-host-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let name = format!("chaperone-test-{}-{number}", std::process::id());
        let cgroup = Cgroup::make(&name)?;
        let bpffs = Mount::make("bpf", folder.path().join("bpf"), None)?;
        let disk = self
            .small_disk
            .then(|| Mount::make("tmpfs", folder.path().join("log"), Some("size=2m")))
            .transpose()?;
        // An address and a port that no other test of any process uses at the same time.
        let process = std::process::id();
        let [_, _, high, low] = process.to_be_bytes();
        let octet = u8::try_from(number % 250).unwrap_or(0) + 1;
        let address = Ipv4Addr::new(127, 64 + (high & 0x3f), low, octet);
        let port = 20_000 + u16::try_from((process * 31 + number) % 12_000).unwrap_or(0);
        let hba = self.hba.clone().unwrap_or_else(|| "host all all all trust\n".into());
        let postgres = (!self.without_postgres)
            .then(|| {
                let template = self.leave_nothing.then(|| folder.path().join("template"));
                let (path, server) = (folder.path(), &self.server);
                Postgres::start(path, address, server, &hba, template, self.release)
            })
            .transpose()?;
        let mounts = [Some(bpffs), disk];
        let host = Host { daemon: None, postgres, _mounts: mounts, cgroup, folder, address, port };
        fs::write(host.config(), self.configuration(&host, &name))?;
        Ok(host)
    }

    fn configuration(&self, host: &Host, cgroup: &str) -> String {
        let folder = host.folder.path().display();
        let select = if self.select_cgroup {
            format!("{{ cgroup = \"/{cgroup}\" }}")
        } else {
            format!("{{ user = {UID} }}")
        };
        let address = self.address.clone().unwrap_or_else(|| "[\"{ip}:5432\"]".into());
        // Most scenes are of other things than encryption.
        let plain = if self.target.contains("tls = ") { "" } else { "tls = \"disable\"\n" };
        format!(
            "[daemon]\nattach = \"{cgroup}\"\nlisten = {port}\npins = \"{folder}/bpf/chaperone\"\n\
             control = \"{folder}/run/control.sock\"\nlog = \"{folder}/log/log.sqlite\"\n\
             authority = \"{folder}/authority\"\n{daemon}\n\
             [[agent]]\nname = \"cleaner\"\nselect = {select}\n\n\
             [[target]]\nname = \"prod\"\nprotocol = \"postgres\"\naddress = {address}\n{plain}{target}\n",
            cgroup = host.cgroup.path.display(),
            port = host.port,
            daemon = self.daemon,
            target = self.target,
            address = address.replace("{ip}", &host.address.to_string()),
        )
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
    address: Ipv4Addr,
    port: u16,
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
        self.daemon = Some(Daemon::start(&self.config(), log)?);
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
        self.address
    }

    /// The daemon's port.
    pub fn port(&self) -> u16 {
        self.port
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
        let mut command = agent::command(&self.cgroup.path, uid, program, args);
        // What ops would have set for the agent long before.
        command
            .env("PGHOST", self.address.to_string())
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
            for below in fs::read_dir(&self.path).into_iter().flatten().flatten() {
                if below.path().is_dir() {
                    let _ = fs::remove_dir(below.path());
                }
            }
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
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
