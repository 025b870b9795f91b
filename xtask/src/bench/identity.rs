//! What it costs to know who it was: forks in scope, out of scope and without programs, and
//! connections.
//!
//! Belongs here: what is compared, in one run, and how it is shown.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    client::Client,
    host::{self, Cgroup, Pins, UID},
    median,
    servers::{Daemon, HaProxy, Postgres, Setup},
};
use crate::{interrupt, setup, shell};

const FORKS: &str = include_str!("forks.c");

/// Processes that connect once each, of a program that was seen before.
const PROCESSES: usize = 60;

/// The ways of forking, by the user who forks; `None` is without programs.
const WAYS: [(&str, Option<u32>); 3] =
    [("without programs", None), ("out of scope", Some(UID + 1)), ("in scope", Some(UID))];

pub(super) fn run(binary: &Path, rounds: u32, seconds: u32) -> Result<()> {
    let programs = setup::postgres_bin().context("no PostgreSQL server is installed")?;
    let folder = host::folder()?;
    let net = host::Net::free()?;
    let forks = compile(folder.path())?;
    let postgres = Postgres::start(&programs, folder.path(), net.server())?;
    postgres.fill()?;
    let proxy = HaProxy::start(folder.path(), net.proxy(), net.server())?;
    let pins = Pins::find(folder.path())?;
    let mut forked = [const { [const { Vec::new() }; 2] }; WAYS.len()];
    let mut connected = [const { Vec::new() }; 3];
    let mut settled = [const { Vec::new() }; 2];
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let cgroup = Cgroup::make("identity")?;
        let mut fork = |way: usize| -> Result<()> {
            interrupt::check()?;
            let uid = WAYS[way].1.unwrap_or(UID);
            for (times, time) in forked[way].iter_mut().zip(measure(&forks, cgroup.path(), uid)?) {
                times.push(time);
            }
            Ok(())
        };
        fork(0)?;
        let place = folder.path().join(round.to_string());
        fs::create_dir(&place)?;
        let daemon =
            Daemon::start(binary, &place, Setup::of("committed"), &cgroup, &pins, net.server())?;
        fork(1)?;
        fork(2)?;
        for (times, (address, inside)) in connected.iter_mut().zip([
            (net.server(), false),
            (net.proxy(), false),
            (net.server(), true),
        ]) {
            interrupt::check()?;
            let mut client = Client::new(&programs, address);
            client.cgroup = inside.then(|| cgroup.path().to_owned());
            times.push(client.connections(seconds)?);
        }
        let counters = || -> Result<(f64, f64)> {
            Ok((daemon.counter("settled")?, daemon.counter("settling_us")?))
        };
        let one_process = counters()?;
        ensure!(one_process.0 > 10.0, "the connections went round the daemon");
        settled[0].push(one_process.1 / one_process.0);
        let mut client = Client::new(&programs, net.server());
        client.cgroup = Some(cgroup.path().to_owned());
        // The first reads the program.
        client.greet()?;
        let before = counters()?;
        for _ in 0..PROCESSES {
            client.greet()?;
        }
        let after = counters()?;
        settled[1].push((after.1 - before.1) / (after.0 - before.0));
        drop(daemon);
    }
    drop((pins, proxy, postgres));
    println!("medians of {rounds} rounds");
    for ((name, _), [plain, with_exec]) in WAYS.iter().zip(&forked) {
        let ratio = |times: &[f64], base: &[f64]| median(times) / median(base);
        println!(
            "{name:20} vfork {:>8.1} µs {:>5.2}   with exec {:>8.1} µs {:>5.2}",
            median(plain) / 1000.0,
            ratio(plain, &forked[0][0]),
            median(with_exec) / 1000.0,
            ratio(with_exec, &forked[0][1]),
        );
    }
    for (name, times) in
        ["direct", "HAProxy, TCP mode", "chaperone, committed"].iter().zip(&connected)
    {
        println!(
            "{name:20} connection {:>8.0} µs {:>5.2}",
            median(times),
            median(times) / median(&connected[0])
        );
    }
    for (name, times) in ["of one process", "of new processes"].iter().zip(&settled) {
        println!("to settle who it was, connections {name:18} {:>8.0} µs", median(times));
    }
    Ok(())
}

fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("forks.c"), folder.join("forks"));
    fs::write(&source, FORKS)?;
    shell::run(Command::new("cc").arg("-O1").arg("-o").arg(&program).arg(&source))?;
    Ok(program)
}

/// Nanoseconds a fork, and a fork with an exec.
fn measure(program: &Path, cgroup: &Path, uid: u32) -> Result<[f64; 2]> {
    let enter = r#"echo $$ > "$1/cgroup.procs" || exit; shift; exec "$@""#;
    let output = Command::new("sh")
        .args(["-c", enter, "sh"])
        .arg(cgroup)
        .arg("setpriv")
        .arg(format!("--reuid={uid}"))
        .arg("--clear-groups")
        .arg(program)
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut times = text.lines().filter_map(|line| line.parse().ok());
    match (times.next(), times.next()) {
        (Some(plain), Some(with_exec)) => Ok([plain, with_exec]),
        _ => bail!("the forks were not measured: {}", String::from_utf8_lossy(&output.stderr)),
    }
}
