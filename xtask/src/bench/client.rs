//! The benchmark's clients: `pgbench` and `psql`, told nothing but an address.
//!
//! Belongs here: how a load is run and its figure read. Not which ways there are.

use std::{
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::host::{DATABASE, UID, open_files_limit};
use crate::interrupt;

/// What a load may take beyond its time: a way that has come to a stop is an error, not a wait.
const PATIENCE: Duration = Duration::from_mins(1);

/// A bulk result of rows of 80 bytes.
const BULK: &str = "select repeat('x', 80) from generate_series(1, 2000000)";

/// What is measured.
#[derive(Clone, Copy)]
pub(super) enum Load {
    /// `pgbench -S -M prepared` with so many clients, in transactions a second.
    RoundTrips { clients: u32 },
    /// One result of 2,000,000 rows, in seconds.
    Bulk,
}

impl Load {
    pub(super) const ALL: [Self; 3] =
        [Self::RoundTrips { clients: 1 }, Self::RoundTrips { clients: 8 }, Self::Bulk];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::RoundTrips { clients: 1 } => "1 client",
            Self::RoundTrips { .. } => "8 clients",
            Self::Bulk => "2,000,000 rows",
        }
    }

    /// A figure that is larger where it is quicker.
    pub(super) fn speed(self, value: f64) -> f64 {
        match self {
            Self::RoundTrips { .. } => value,
            Self::Bulk => value.recip(),
        }
    }

    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::RoundTrips { .. } => format!("{value:.0} tps"),
            Self::Bulk => format!("{value:.2} s"),
        }
    }
}

/// A client of one way.
pub(super) struct Client {
    programs: PathBuf,
    pub(super) address: SocketAddr,
    /// Where it is run: the daemon's programs are attached there.
    pub(super) cgroup: Option<PathBuf>,
}

impl Client {
    pub(super) fn new(programs: &Path, address: SocketAddr) -> Self {
        Self { programs: programs.to_owned(), address, cgroup: None }
    }

    /// What a statement answers.
    pub(super) fn ask(&self, statement: &str) -> Result<String> {
        finish(self.psql(statement).stdout(Stdio::piped()), PATIENCE)
    }

    /// One statement, to see that there is an answer.
    pub(super) fn greet(&self) -> Result<()> {
        let output = self.ask("select 6 * 7")?;
        if output.trim() != "42" {
            bail!("{} answers {output:?} to select 6 * 7", self.address);
        }
        Ok(())
    }

    pub(super) fn measure(&self, load: Load, seconds: u32) -> Result<f64> {
        match load {
            Load::RoundTrips { clients } => self.round_trips("prepared", clients, seconds),
            Load::Bulk => self.result(BULK),
        }
    }

    /// A new connection for each statement, one after the other: microseconds a connection.
    pub(super) fn connections(&self, seconds: u32) -> Result<f64> {
        let mut pgbench = self.program("pgbench");
        pgbench.args(["-n", "-S", "--connect", "--client=1"]).arg(format!("--time={seconds}"));
        pgbench.arg(DATABASE).env("PGSSLMODE", "disable").stdout(Stdio::piped());
        let patience = Duration::from_secs(seconds.into()) + PATIENCE;
        let output = finish(&mut pgbench, patience)?;
        let time = output.lines().find_map(|line| {
            line.strip_prefix("average connection time = ")?.split(' ').next()?.parse::<f64>().ok()
        });
        Ok(1000.0 * time.with_context(|| format!("pgbench told no connection time: {output}"))?)
    }

    /// `pgbench -S` in a mode of its (`-M`), in transactions a second.
    pub(super) fn round_trips(&self, mode: &str, clients: u32, seconds: u32) -> Result<f64> {
        let mut pgbench = self.program("pgbench");
        // One thread a core at most: more would measure the scheduler.
        let threads = clients.min(2);
        pgbench.args(["-n", "-S", "-M", mode]);
        pgbench
            .arg(format!("--client={clients}"))
            .arg(format!("--jobs={threads}"))
            .arg(format!("--time={seconds}"));
        pgbench.arg(DATABASE).stdout(Stdio::piped());
        let patience = Duration::from_secs(seconds.into()) + PATIENCE;
        let output = finish(&mut pgbench, patience)?;
        tps(&output).with_context(|| format!("pgbench told no tps: {output}"))
    }

    /// One result, thrown away: seconds.
    pub(super) fn result(&self, statement: &str) -> Result<f64> {
        let nowhere = File::options().write(true).open("/dev/null")?;
        let mut psql = self.psql(statement);
        psql.stdout(nowhere);
        let start = Instant::now();
        finish(&mut psql, PATIENCE)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Starts [`super::crowd`] as the agent, from a file that it can run.
    pub(super) fn crowd(&self, program: &Path, what: &[&str]) -> Result<Child> {
        let mut crowd = self.command(program);
        crowd.args(["crowd", "--address", &self.address.to_string()]).args(what);
        crowd.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        crowd.spawn().context("cannot run the crowd")
    }

    /// Ends what it holds, and answers what it said.
    pub(super) fn finish_crowd(mut crowd: Child) -> Result<String> {
        drop(crowd.stdin.take());
        wait(&mut crowd, 2 * PATIENCE)
    }

    fn psql(&self, statement: &str) -> Command {
        let mut psql = self.program("psql");
        psql.args(["-X", "-At", "-d", DATABASE, "-c", statement]);
        psql
    }

    /// A program of PostgreSQL's under the agent's uid, in the cgroup where there is one. All ways
    /// are started alike.
    fn program(&self, name: &str) -> Command {
        self.command(&self.programs.join(name))
    }

    fn command(&self, program: &Path) -> Command {
        let mut shell = Command::new("sh");
        let enter = r#"[ -z "$CGROUP" ] || echo $$ > "$CGROUP/cgroup.procs" || exit; exec "$@""#;
        shell.args(["-c", enter, "sh", "prlimit", &open_files_limit(), "setpriv"]);
        shell.arg(format!("--reuid={UID}")).arg(format!("--regid={UID}")).arg("--clear-groups");
        shell.arg(program);
        shell.current_dir("/").stdin(Stdio::null()).env_clear();
        shell
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .env("HOME", "/nonexistent");
        if let Some(cgroup) = &self.cgroup {
            shell.env("CGROUP", cgroup);
        }
        shell.env("PGUSER", DATABASE);
        shell
            .env("PGHOST", self.address.ip().to_string())
            .env("PGPORT", self.address.port().to_string());
        shell
    }
}

/// Waits for the end, ends it on a signal or after too long, and gives what it printed.
fn finish(command: &mut Command, patience: Duration) -> Result<String> {
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot run a client")?;
    wait(&mut child, patience)
}

fn wait(child: &mut Child, patience: Duration) -> Result<String> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            let (output, said) = (read(child.stdout.take()), read(child.stderr.take()));
            if !status.success() {
                // Ctrl-C reaches the client too: that is the reason then.
                interrupt::check()?;
                bail!("the client ended with {status}: {}", said.trim());
            }
            return Ok(output);
        }
        let late = if start.elapsed() > patience {
            Err(anyhow::anyhow!("no end after {patience:?}"))
        } else {
            Ok(())
        };
        if let Err(reason) = interrupt::check().and(late) {
            end(child);
            return Err(reason);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn end(child: &mut Child) {
    // Its shell and setpriv have become the client itself: this is the one process.
    let _ = child.kill();
    let _ = child.wait();
}

fn read(stream: Option<impl Read>) -> String {
    let mut text = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads `tps = 10300.123 (without initial connection time)`.
fn tps(output: &str) -> Option<f64> {
    output.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::tps;

    #[test]
    fn pgbenchs_figure_is_read() {
        let output = "latency average = 0.1 ms\ntps = 10300.5 (without initial connection time)\n";
        assert_eq!(tps(output), Some(10300.5));
        assert_eq!(tps("pgbench: error"), None);
    }
}
