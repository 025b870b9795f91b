//! The benchmark's servers: PostgreSQL, PgBouncer, HAProxy and the daemon.
//!
//! Belongs here: their configuration, starting, and ending. Each ends when it is dropped, and only
//! processes that were started here are ever sent a signal.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User},
};

use super::host::{Cgroup, DATABASE, Pins, UID, free_port, open_files_limit};
use crate::{interrupt, shell};

/// Neither PostgreSQL nor PgBouncer runs as root; this account comes with Debian's packages.
const ACCOUNT: &str = "postgres";

/// pgbench's measure of size: 100,000 accounts each.
const SCALE: &str = "10";

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);

/// A running server.
struct Server {
    name: &'static str,
    child: Child,
    /// What it writes.
    words: PathBuf,
    stop: Signal,
}

impl Server {
    fn start(
        name: &'static str,
        words: PathBuf,
        stop: Signal,
        command: &mut Command,
    ) -> Result<Self> {
        let file = File::create(&words)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .current_dir("/")
            // Ctrl-C is for us: servers end in their order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, child, words, stop })
    }

    fn wait_until(&mut self, mut ready: impl FnMut(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        while !ready(self) {
            interrupt::check()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.name, self.said());
            }
            if start.elapsed() > START {
                bail!("{} is not ready after {START:?}: {}", self.name, self.said());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.words).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), self.stop);
        }
        let start = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if start.elapsed() > STOP {
                eprintln!("{} does not end within {STOP:?}: killed", self.name);
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A server of its own, in a temporary folder.
pub(super) struct Postgres {
    programs: PathBuf,
    address: SocketAddr,
    _server: Server,
}

impl Postgres {
    pub(super) fn start(programs: &Path, folder: &Path, address: SocketAddr) -> Result<Self> {
        let folder = folder_of_account(&folder.join("postgres"))?;
        let data = folder.join("data");
        eprintln!("start   PostgreSQL of {} on {address}", programs.display());
        shell::read(
            as_account(&programs.join("initdb"))
                .args([
                    "--auth=trust",
                    "--no-sync",
                    "--encoding=UTF8",
                    "--locale=C",
                    "-U",
                    DATABASE,
                    "-D",
                ])
                .arg(&data),
        )?;
        let mut command = as_account(&programs.join("postgres"));
        command.arg("-D").arg(&data);
        let settings = [
            format!("listen_addresses={}", address.ip()),
            format!("port={}", address.port()),
            format!("unix_socket_directories={}", folder.display()),
            "shared_buffers=256MB".into(),
            "fsync=off".into(),
            "jit=off".into(),
        ];
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        // The fast shutdown.
        let mut server =
            Server::start("PostgreSQL", folder.join("words"), Signal::SIGINT, &mut command)?;
        server.wait_until(|server| {
            server.said().contains("ready to accept connections") && answers(address)
        })?;
        Ok(Self { programs: programs.to_owned(), address, _server: server })
    }

    /// The database and its tables.
    pub(super) fn fill(&self) -> Result<()> {
        let run = |program: &str, arguments: &[&str]| {
            let mut command = as_account(&self.programs.join(program));
            command
                .arg("-h")
                .arg(self.address.ip().to_string())
                .arg("-p")
                .arg(self.address.port().to_string());
            shell::read(command.args(["-U", DATABASE]).args(arguments))
        };
        run("createdb", &[DATABASE])?;
        run("pgbench", &["-i", "-q", "-s", SCALE, DATABASE])?;
        self.sql(&[])
    }

    /// Statements of the superuser's.
    pub(super) fn sql(&self, statements: &[&str]) -> Result<()> {
        let mut command = as_account(&self.programs.join("psql"));
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", DATABASE, "-d", DATABASE]);
        command.arg(format!("--host={}", self.address.ip()));
        command.arg(format!("--port={}", self.address.port()));
        // Nothing of the filling is left to be done while it is measured.
        for statement in statements.iter().chain(&["checkpoint"]) {
            command.args(["-c", statement]);
        }
        shell::read(&mut command).map(drop)
    }
}

/// PgBouncer.
pub(super) struct PgBouncer {
    _server: Server,
}

impl PgBouncer {
    /// `mode`: what has a server connection of its own, a `session` or a `transaction`.
    pub(super) fn start(
        folder: &Path,
        address: SocketAddr,
        to: SocketAddr,
        mode: &str,
    ) -> Result<Self> {
        let folder = folder_of_account(&folder.join("pgbouncer"))?;
        let (file, users) = (folder.join("pgbouncer.ini"), folder.join("users"));
        fs::write(&users, format!("\"{DATABASE}\" \"\"\n"))?;
        let settings = [
            "[databases]".to_owned(),
            format!("* = host={} port={}", to.ip(), to.port()),
            "[pgbouncer]".to_owned(),
            format!("listen_addr = {}\nlisten_port = {}", address.ip(), address.port()),
            "max_client_conn = 20000\nlisten_backlog = 4096".to_owned(),
            "unix_socket_dir =".to_owned(),
            format!("auth_type = trust\nauth_file = {}", users.display()),
            format!("pool_mode = {mode}\ndefault_pool_size = 50\n"),
        ];
        fs::write(&file, settings.join("\n"))?;
        eprintln!("start   PgBouncer on {address}");
        let mut command = as_account(Path::new("/usr/sbin/pgbouncer"));
        let mut server =
            Server::start("PgBouncer", folder.join("words"), Signal::SIGTERM, command.arg(&file))?;
        server.wait_until(|_| answers(address))?;
        Ok(Self { _server: server })
    }
}

/// HAProxy as a relay of bytes.
pub(super) struct HaProxy {
    _server: Server,
}

impl HaProxy {
    pub(super) fn start(folder: &Path, address: SocketAddr, to: SocketAddr) -> Result<Self> {
        let folder = folder_of_account(&folder.join("haproxy"))?;
        let file = folder.join("haproxy.cfg");
        let settings = [
            "defaults",
            "  mode tcp",
            "  timeout connect 10s",
            "  timeout client 1h",
            "  timeout server 1h",
            "listen bench",
            &format!("  bind {address}"),
            &format!("  server postgres {to}\n"),
        ];
        fs::write(&file, settings.join("\n"))?;
        eprintln!("start   HAProxy on {address}");
        let mut command = as_account(Path::new("/usr/sbin/haproxy"));
        // In the foreground, as one process.
        command.arg("-db").arg("-f").arg(&file);
        let mut server =
            Server::start("HAProxy", folder.join("words"), Signal::SIGTERM, &mut command)?;
        server.wait_until(|_| answers(address))?;
        Ok(Self { _server: server })
    }
}

/// How a daemon under test is configured, beyond what all have.
#[derive(Clone, Copy)]
pub(super) struct Setup<'a> {
    /// Of its folder and its pins.
    pub(super) name: &'a str,
    pub(super) durability: &'a str,
    /// Lines of the daemon.
    pub(super) daemon: &'a str,
    /// Lines of the target.
    pub(super) target: &'a str,
    /// Lines at the end.
    pub(super) more: &'a str,
}

impl<'a> Setup<'a> {
    /// Nothing but records that are as durable as this.
    pub(super) fn of(durability: &'a str) -> Self {
        Self { name: durability, durability, daemon: "", target: "", more: "" }
    }
}

/// The daemon under test.
pub(super) struct Daemon {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    /// Ended before the programs are detached.
    server: Option<Server>,
}

impl Daemon {
    pub(super) fn start(
        binary: &Path,
        folder: &Path,
        setup: Setup<'_>,
        cgroup: &Cgroup,
        pins: &Pins,
        target: SocketAddr,
    ) -> Result<Self> {
        let targets = format!(
            "[[agent]]\nname = \"bench\"\nselect = {{ user = {UID} }}\n\n\
             [[target]]\nname = \"bench\"\nprotocol = \"postgres\"\naddress = [\"{target}\"]\ntls = \"disable\"\n\
             {}\n{}\n",
            setup.target, setup.more
        );
        Self::start_for(binary, folder, setup, cgroup, pins, &targets)
    }

    /// For these agents and targets.
    pub(super) fn start_for(
        binary: &Path,
        folder: &Path,
        setup: Setup<'_>,
        cgroup: &Cgroup,
        pins: &Pins,
        targets: &str,
    ) -> Result<Self> {
        let Setup { name, durability, daemon: lines, .. } = setup;
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        let (config, log) = (folder.join("chaperone.toml"), folder.join("log.sqlite"));
        // A temporary folder's name has nothing that TOML would read otherwise.
        let text = format!(
            "[daemon]\nattach = \"{}\"\nlisten = {}\npins = \"{}\"\ncontrol = \"{}\"\nlog = \"{}\"\n\
             authority = \"{}\"\nenrolled = \"{}\"\ndurability = \"{durability}\"\n{lines}\n\n{targets}",
            cgroup.path().display(),
            free_port()?,
            pins.path(name).display(),
            folder.join("control.sock").display(),
            log.display(),
            folder.join("authority").display(),
            folder.join("enrolled.toml").display(),
        );
        fs::write(&config, text)?;
        eprintln!("start   chaperone ({name}) on {}", cgroup.path().display());
        let mut command = with_room(&binary.display().to_string());
        command.args(["daemon", "--config"]).arg(&config).env_remove("CHAPERONE_CONFIG");
        let server =
            Server::start("chaperone", folder.join("words"), Signal::SIGTERM, &mut command)?;
        let mut daemon = Self { binary: binary.to_owned(), config, log, server: Some(server) };
        if let Some(server) = &mut daemon.server {
            server.wait_until(|server| server.said().contains("ready"))?;
        }
        Ok(daemon)
    }

    /// A counter of the daemon.
    pub(super) fn counter(&self, name: &str) -> Result<f64> {
        let mut status = Command::new(&self.binary);
        status.args(["status", "--json", "--config"]).arg(&self.config);
        let status: serde_json::Value = serde_json::from_str(&shell::read(&mut status)?)?;
        let counters = status["counters"].as_array().context("no counters")?;
        let found = counters.iter().find(|counter| counter[0] == name);
        found.and_then(|counter| counter[1].as_f64()).with_context(|| format!("no counter {name}"))
    }

    /// What of it is in memory, in MiB.
    pub(super) fn memory(&self) -> Result<f64> {
        let pid = self.server.as_ref().map(|server| server.child.id()).context("it has ended")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }

    /// The line by which SSH clients believe it.
    pub(super) fn known_hosts(&self) -> Result<String> {
        let mut trust = Command::new(&self.binary);
        trust.args(["trust", "show", "--json", "--config"]).arg(&self.config);
        let shown: serde_json::Value = serde_json::from_str(&shell::read(&mut trust)?)?;
        shown["known_hosts"].as_str().map(str::to_owned).context("it has no SSH authority")
    }

    /// A connection that went round the daemon would make the fairest of figures.
    pub(super) fn has_recorded(&self) -> Result<()> {
        let mut sqlite = Command::new("sqlite3");
        sqlite.arg("-readonly").arg(&self.log).arg("select count(*) from commands");
        let count = shell::read(&mut sqlite).context("the daemon's log cannot be read")?;
        if count.trim() == "0" {
            bail!("the daemon recorded nothing: the client's connection went round it");
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.server.take());
        let mut detach = Command::new(&self.binary);
        detach.args(["daemon", "--detach", "--config"]).arg(&self.config);
        if let Err(error) = shell::read(&mut detach) {
            eprintln!("the daemon's programs may be attached still: {error:#}");
        }
    }
}

/// OpenSSH's server.
pub(super) struct SshServer {
    _server: Server,
}

impl SshServer {
    /// With the keys `host` and `key` of this folder.
    pub(super) fn start(folder: &Path, address: SocketAddr) -> Result<Self> {
        let path = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPermitRootLogin yes\nMaxStartups 100\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
            path("host"),
            path("key.pub"),
        );
        let config = folder.join("sshd_config");
        fs::write(&config, text)?;
        fs::create_dir_all("/run/sshd")?;
        // Nothing in its account's home that a shell would run.
        let script = "mount -t tmpfs tmpfs /root && exec /usr/sbin/sshd -D -e -f \"$0\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&config);
        let words = folder.join("sshd.words");
        let mut server = Server::start("sshd", words, Signal::SIGTERM, &mut command)?;
        server.wait_until(|_| TcpStream::connect(address).is_ok())?;
        Ok(Self { _server: server })
    }
}

/// Runs a program with as many open files as it may have.
fn with_room(program: &str) -> Command {
    let mut command = Command::new("prlimit");
    command.args([&open_files_limit(), program]);
    command
}

fn as_account(program: &Path) -> Command {
    let mut command = with_room("setpriv");
    command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups"]);
    // Where xtask is killed and can undo nothing, at least the servers end.
    command.args(["--pdeathsig", "INT"]).arg(program).current_dir("/").env("LC_ALL", "C");
    command
}

fn folder_of_account(folder: &Path) -> Result<PathBuf> {
    let account = User::from_name(ACCOUNT)?
        .with_context(|| format!("there is no account {ACCOUNT}: PostgreSQL's package makes it"))?;
    fs::create_dir(folder)?;
    std::os::unix::fs::chown(folder, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
    Ok(folder.to_owned())
}

fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}
