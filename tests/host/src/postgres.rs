//! A real PostgreSQL server with a folder and an address of its own.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{sys::signal::Signal, unistd::User};

use crate::process::{Process, wait_until};

/// The port of every server; they differ by address.
pub(crate) const PORT: u16 = 5432;

/// Which server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// Debian's newest.
    #[default]
    Debian,
    /// PostgreSQL 18, which speaks version 3.2 of the protocol.
    Eighteen,
}

impl Release {
    /// Where its programs are. Only the server's own: clients are Debian's.
    fn programs(self) -> Result<PathBuf> {
        match self {
            Self::Debian => binaries(),
            Self::Eighteen => std::env::var_os("CHAPERONE_POSTGRES_18")
                .map(PathBuf::from)
                .filter(|bin| bin.join("initdb").exists())
                .context(
                    "CHAPERONE_POSTGRES_18 names no server: run the tests by `cargo xtask test`",
                ),
        }
    }

    /// For the name of a folder.
    fn label(self, programs: &Path) -> String {
        match self {
            Self::Debian => {
                let version = programs.parent().and_then(Path::file_name);
                version.unwrap_or_default().to_string_lossy().into_owned()
            }
            Self::Eighteen => "18-npm".into(),
        }
    }
}

/// A running server, with the superuser `postgres` and a database of that name.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    address: Ipv4Addr,
    folder: PathBuf,
    bin: PathBuf,
    account: User,
}

impl Postgres {
    /// Starts one in `folder`, at all of these addresses; `settings` are lines for its configuration, `hba` for its
    /// `pg_hba.conf`. `template` is where an empty database is made and copied from, else a folder
    /// that all scenes share.
    ///
    /// # Errors
    /// Where there is no PostgreSQL, or it does not start.
    pub fn start(
        folder: &Path,
        addresses: &[Ipv4Addr],
        settings: &str,
        hba: &str,
        template: Option<PathBuf>,
        release: Release,
    ) -> Result<Self> {
        let (bin, programs) = (binaries()?, release.programs()?);
        let account = User::from_name("postgres")?.context("there is no account named postgres")?;
        let data = folder.join("postgres");
        let shared = || {
            let label = release.label(&programs);
            // Only root makes folders there, so that nobody has put another in its place.
            Path::new("/run").join(format!("chaperone-tests-initdb-{label}"))
        };
        copy_template(&programs, &account, &data, &template.unwrap_or_else(shared))?;
        let address = *addresses.first().context("a server has an address")?;
        let listen = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let configuration = format!(
            "listen_addresses = '{listen}'\nport = {PORT}\nunix_socket_directories = ''\n\
             fsync = off\nshared_buffers = 16MB\nmax_connections = 300\nlogging_collector = off\n\
             password_encryption = 'scram-sha-256'\n{settings}\n"
        );
        fs::write(data.join("postgresql.auto.conf"), configuration)?;
        fs::write(data.join("pg_hba.conf"), hba)?;
        let log = fs::File::create(data.join("server.log"))?;
        let mut command = as_account(&account, &programs.join("postgres"));
        command.arg("-D").arg(&data).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SIGINT is PostgreSQL's fast shutdown.
        let process = Process::start("postgres", &mut command, Signal::SIGINT)?;
        let mut server = Self { process, address, folder: data, bin, account };
        server.wait()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }

    /// Runs SQL as the superuser, not as an agent; answers the unaligned rows.
    ///
    /// # Errors
    /// Where psql fails.
    pub fn sql(&self, sql: &str) -> Result<String> {
        let output = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(self.address.to_string())
            .args(["-c", sql, "postgres"])
            .env_clear()
            .output()?;
        if !output.status.success() {
            bail!("{sql}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Kills the server and all its processes at once, as a crash would.
    pub fn crash(&self) {
        self.process.signal(Signal::SIGQUIT);
    }

    fn wait(&mut self) -> Result<()> {
        let (address, process) = (self.address, &mut self.process);
        let probe = self.bin.join("pg_isready");
        let ready = wait_until("the server answers", || {
            let ready = Command::new(&probe)
                .args(["-q", "-h", &address.to_string(), "-p", &PORT.to_string()])
                .status();
            process.has_ended() || ready.is_ok_and(|status| status.success())
        });
        if ready.is_err() || self.process.has_ended() {
            bail!("PostgreSQL did not start: {}", self.log());
        }
        Ok(())
    }

    /// The folder of Debian's programs: the clients of this server, too.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The account that it runs under.
    pub fn account(&self) -> &User {
        &self.account
    }
}

/// The newest server's programs.
///
/// # Errors
/// Where none is installed.
pub(crate) fn binaries() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: run `cargo xtask setup`")?
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("initdb").exists().then_some((version, bin))
        })
        .collect();
    found.sort();
    Ok(found.pop().context("PostgreSQL's server is not installed: run `cargo xtask setup`")?.1)
}

fn as_account(account: &User, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={}", account.uid))
        .arg(format!("--regid={}", account.gid))
        .args(["--clear-groups", "--pdeathsig", "KILL", "--"])
        .arg(program)
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    command
}

/// `initdb` takes a second or two: it is done once for each version of the server, and copied.
fn copy_template(bin: &Path, account: &User, to: &Path, base: &Path) -> Result<()> {
    fs::create_dir_all(base)?;
    let lock = fs::File::create(base.join("lock"))?;
    lock.lock()?;
    let template = base.join("data");
    if !template.join("done").exists() {
        let _ = fs::remove_dir_all(&template);
        fs::create_dir(&template)?;
        chown(&template, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
        fs::set_permissions(&template, fs::Permissions::from_mode(0o700))?;
        let output = as_account(account, &bin.join("initdb"))
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(&template)
            .output()?;
        if !output.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&output.stderr));
        }
        fs::write(template.join("done"), "")?;
    }
    let status = Command::new("cp").arg("-a").arg(&template).arg(to).status()?;
    if !status.success() {
        bail!("the template of the database could not be copied");
    }
    Ok(())
}

/// How long a stop may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.process.stop(PATIENCE);
    }
}
