//! What SSH costs through the daemon, beside OpenSSH to OpenSSH in one run: commands over an open
//! connection and over new ones, and bytes by stdout and by SFTP in both directions.
//!
//! Belongs here: the server and its keys, what is measured, and how it is shown.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::{
    host::{self, Cgroup, Pins},
    median,
    servers::{Daemon, Setup, SshServer},
};
use crate::{interrupt, shell};

/// An account that has no use on the host: ssh(1) asks that its user has one.
const UID: u32 = 5;
/// Commands of a round.
const COMMANDS: u32 = 60;
/// Megabytes of a transfer.
const MEGABYTES: u32 = 512;

const MEASURED: [&str; 5] = [
    "command over an open connection, ms",
    "command over a new connection, ms",
    "stdout, MiB/s",
    "SFTP from the target, MiB/s",
    "SFTP to the target, MiB/s",
];

/// One way to the server.
struct Way<'a> {
    folder: &'a Path,
    server: SocketAddr,
    cgroup: Option<&'a Path>,
    known: PathBuf,
}

pub(super) fn run(binary: &Path, rounds: u32) -> Result<()> {
    let folder = host::folder()?;
    let net = host::Net::free()?;
    let server = net.server();
    keys(folder.path(), server)?;
    let sshd = SshServer::start(folder.path(), server)?;
    let pins = Pins::find(folder.path())?;
    let cgroup = Cgroup::make("ssh")?;
    let targets = format!(
        "[[agent]]\nname = \"bench\"\nselect = {{ user = {UID} }}\n\n\
         [[target]]\nname = \"bench\"\nprotocol = \"ssh\"\naddress = [\"{server}\"]\n\
         host_keys = [\"{0}/known\"]\n\
         credential = {{ user = \"root\", key = \"file:{0}/key\" }}\n",
        folder.path().display()
    );
    let daemon =
        Daemon::start_for(binary, folder.path(), Setup::of("flushed"), &cgroup, &pins, &targets)?;
    let believed = folder.path().join("authority-line");
    fs::write(&believed, daemon.known_hosts()? + "\n")?;
    let ways = [
        Way { folder: folder.path(), server, cgroup: None, known: folder.path().join("known") },
        Way { folder: folder.path(), server, cgroup: Some(cgroup.path()), known: believed },
    ];
    let mut measured = [const { [const { Vec::new() }; 2] }; MEASURED.len()];
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (place, way) in ways.iter().enumerate() {
            for (figures, figure) in measured.iter_mut().zip(way.measure()?) {
                figures[place].push(figure);
            }
        }
    }
    daemon.has_recorded()?;
    drop((daemon, pins, sshd));
    println!("medians of {rounds} rounds");
    for (name, [direct, through]) in MEASURED.iter().zip(&measured) {
        let (direct, through) = (median(direct), median(through));
        println!(
            "{name:36} direct {direct:>9.1}   chaperone {through:>9.1}   {:>5.2}",
            through / direct
        );
    }
    Ok(())
}

fn speed(carry: impl FnOnce() -> Result<()>) -> Result<f64> {
    interrupt::check()?;
    let begin = Instant::now();
    carry()?;
    Ok(f64::from(MEGABYTES) / begin.elapsed().as_secs_f64())
}

/// A server's key, one that opens it, and what is known of it.
fn keys(folder: &Path, server: SocketAddr) -> Result<()> {
    for name in ["host", "key"] {
        let path = folder.join(name);
        shell::run(
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path),
        )?;
    }
    let key = fs::read_to_string(folder.join("host.pub"))?;
    fs::write(folder.join("known"), format!("[{}]:{} {key}", server.ip(), server.port()))?;
    fs::copy(folder.join("key"), folder.join("own"))?;
    std::os::unix::fs::chown(folder.join("own"), Some(UID), Some(UID))?;
    let content = folder.join("content");
    let fill = format!("head -c {MEGABYTES}M /dev/urandom");
    shell::run(Command::new("sh").args(["-c", &format!("{fill} > \"$0\"")]).arg(content))
}

impl Way<'_> {
    /// In the order of what is measured.
    fn measure(&self) -> Result<[f64; MEASURED.len()]> {
        let control = format!("/tmp/{}", self.control());
        let open = [
            "-o",
            &format!("ControlPath={control}"),
            "-o",
            "ControlMaster=auto",
            "-o",
            "ControlPersist=60",
        ];
        self.ssh(&open, &["true"])?;
        let begin = Instant::now();
        for _ in 0..COMMANDS {
            interrupt::check()?;
            self.ssh(&open, &["true"])?;
        }
        let over_open = begin.elapsed().as_secs_f64() * 1000.0 / f64::from(COMMANDS);
        self.ssh(&[&open[..], &["-O", "exit"]].concat(), &[])?;
        let begin = Instant::now();
        for _ in 0..COMMANDS / 3 {
            interrupt::check()?;
            self.ssh(&[], &["true"])?;
        }
        let over_new = begin.elapsed().as_secs_f64() * 1000.0 / f64::from(COMMANDS / 3);
        let cat = format!("cat {}", self.folder.join("content").display());
        let stdout = speed(|| self.ssh(&[], &[&cat]))?;
        let content = self.folder.join("content").display().to_string();
        let there = format!("root@{}:", self.server.ip());
        let from = speed(|| self.scp(&format!("{there}{content}"), "/dev/null"))?;
        let to = speed(|| self.scp(&content, &format!("{there}/dev/null")))?;
        Ok([over_open, over_new, stdout, from, to])
    }

    fn control(&self) -> String {
        let way = if self.cgroup.is_some() { "through" } else { "direct" };
        format!("chaperone-bench-{}-{way}", std::process::id())
    }

    fn ssh(&self, options: &[&str], command: &[&str]) -> Result<()> {
        let port = self.server.port().to_string();
        let place = format!("root@{}", self.server.ip());
        let words = [&["-p", &port], options, &[place.as_str()], command].concat();
        self.call("ssh", &words)
    }

    fn scp(&self, from: &str, to: &str) -> Result<()> {
        let port = self.server.port().to_string();
        self.call("scp", &["-q", "-P", &port, from, to])
    }

    fn call(&self, program: &str, words: &[&str]) -> Result<()> {
        let enter = r#"test -z "$1" || echo $$ > "$1/cgroup.procs" || exit; shift; exec "$@""#;
        let known = format!("GlobalKnownHostsFile={}", self.known.display());
        let mut command = Command::new("sh");
        command.args(["-c", enter, "sh"]).arg(self.cgroup.unwrap_or(Path::new("")));
        command.args(["setpriv", &format!("--reuid={UID}"), &format!("--regid={UID}")]);
        command.args(["--clear-groups", program, "-F", "none", "-o", &known]);
        command.args(["-o", "UserKnownHostsFile=none", "-o", "BatchMode=yes"]);
        if self.cgroup.is_none() {
            command.arg("-i").arg(self.folder.join("own"));
        }
        let words = command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
        let output = words.stderr(Stdio::piped()).output().context("a client cannot be run")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} failed: {said}");
        Ok(())
    }
}
