//! A scene that is set, and what can be done in it.

use std::{
    fs,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    Scene,
    agent::{self, Finished, Running},
    daemon::{self, Daemon, Start},
    place::{Cgroup, Mount},
    postgres::Postgres,
    process::wait_until,
};

/// The agent's user id: nobody has an account for it, and none is needed.
pub(crate) const UID: u32 = 64_001;

/// A scene that is set. Fields are dropped in order: the daemon first.
#[derive(Debug)]
pub struct Host {
    pub(crate) daemon: Option<Daemon>,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) _mounts: [Option<Mount>; 2],
    pub(crate) cgroup: Cgroup,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) port: u16,
    /// What is handed to the daemon, as a service manager does.
    pub(crate) held: Vec<OwnedFd>,
    pub(crate) scene: Scene,
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
        self.launch(true)
    }

    /// Starts the daemon without waiting until it serves.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn_daemon(&mut self) -> Result<()> {
        self.launch(false)
    }

    fn launch(&mut self, wait: bool) -> Result<()> {
        let log = self.folder.path().join("daemon.log");
        let scene = &self.scene;
        let mut own = Vec::new();
        for name in scene
            .etc
            .iter()
            .map(|(name, _)| name.as_str())
            .chain(scene.hosts.as_ref().map(|_| "hosts"))
        {
            own.push((self.folder.path().join(name), format!("/etc/{name}")));
        }
        let words: &[&str] = if scene.loaded_apart { &["--serve"] } else { &[] };
        if scene.loaded_apart {
            self.chaperone(&["daemon", "--load"])?.ok()?;
        }
        let how = Start {
            config: &self.config(),
            log,
            environment: &scene.environment,
            without: &scene.trimmed,
            own: &own,
            held: &self.held,
            words,
        };
        let started = if wait { Daemon::start(how) } else { Daemon::spawn(how) }?;
        self.daemon = Some(started);
        Ok(())
    }

    /// Whether the daemon has ended by itself, or there is none.
    pub fn daemon_has_ended(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(Daemon::has_ended)
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

    /// The newest file of the log, and what SQLite keeps beside it.
    pub fn log_files(&self) -> Result<[PathBuf; 3]> {
        let file = fs::canonicalize(self.log())?;
        Ok(["", "-wal", "-shm"].map(|suffix| format!("{}{suffix}", file.display()).into()))
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

    /// As [`Host::agent_with`], under another user id.
    ///
    /// # Errors
    /// As [`Host::agent`].
    pub fn other_with(
        &self,
        uid: u32,
        program: &str,
        args: &[&str],
        input: &str,
    ) -> Result<Finished> {
        agent::run(self.agent_command(uid, program, args), input)
    }

    /// Runs a program of the host's, which is no agent's.
    ///
    /// # Errors
    /// As [`Host::agent`].
    pub fn outside(&self, program: &str, args: &[&str]) -> Result<Finished> {
        let mut command = std::process::Command::new(program);
        command.args(args);
        agent::run(self.with_settings(command), "")
    }

    /// Runs a program of an account that is no agent's here: what the agent's does goes to the
    /// server directly.
    ///
    /// # Errors
    /// As [`Host::agent`].
    pub fn outside_as(
        &self,
        uid: u32,
        program: &str,
        args: &[&str],
        input: &str,
    ) -> Result<Finished> {
        agent::run(self.with_settings(agent::outside(uid, program, args)), input)
    }

    /// As [`Host::outside_as`], and does not wait for its end.
    ///
    /// # Errors
    /// As [`Host::start_agent`].
    pub fn start_outside_as(&self, uid: u32, program: &str, args: &[&str]) -> Result<Running> {
        agent::start(self.with_settings(agent::outside(uid, program, args)))
    }

    /// Starts a program as the agent.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_agent(&self, program: &str, args: &[&str]) -> Result<Running> {
        agent::start(self.agent_command(UID, program, args))
    }

    /// As [`Host::start_agent`], under another user id.
    ///
    /// # Errors
    /// As [`Host::start_agent`].
    pub fn start_other(&self, uid: u32, program: &str, args: &[&str]) -> Result<Running> {
        agent::start(self.agent_command(uid, program, args))
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
