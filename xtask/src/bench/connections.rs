//! What many connections cost: ten thousand that do nothing, and five hundred new ones a second.
//!
//! The server is PgBouncer, because it holds as many; PostgreSQL would need a process for each.
//! Belongs here: what is compared, in one run, and how it is shown.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result, ensure};

use super::{
    client::Client,
    crowd::Times,
    host::{self, Cgroup, Pins},
    median,
    servers::{Daemon, PgBouncer, Postgres, Setup},
};
use crate::{interrupt, setup};

/// Fewer where a process may not have as many files open.
const IDLE: u32 = 10_000;
/// Open files of the daemon beside two for each session.
const OTHERS: u32 = 600;
const RATE: u32 = 500;
/// More than there are at a time.
const ROOM: &str = "max_sessions = 20000\nmax_sessions_per_agent = 20000";

/// What one way gave.
#[derive(Default)]
struct Measured {
    opened: Vec<[f64; 2]>,
    alone: Vec<f64>,
    beside: Vec<f64>,
    rated: Vec<[f64; 2]>,
}

pub(super) fn run(binary: &Path, rounds: u32, seconds: u32) -> Result<()> {
    let programs = setup::postgres_bin().context("no PostgreSQL server is installed")?;
    let folder = host::folder()?;
    let net = host::Net::free()?;
    let postgres = Postgres::start(&programs, folder.path(), net.server())?;
    postgres.fill()?;
    let bouncer = PgBouncer::start(folder.path(), net.bouncer(), net.server(), "transaction")?;
    let pins = Pins::find(folder.path())?;
    // Where the agent's account can run it.
    let crowd = folder.path().join("crowd");
    fs::copy(std::env::current_exe()?, &crowd).context("no copy of this program")?;
    let mut ways = [Measured::default(), Measured::default()];
    let idle = IDLE.min(host::open_files().saturating_sub(OTHERS) / 2);
    let mut memory = Vec::new();
    for round in 1..=rounds {
        let place = folder.path().join(round.to_string());
        fs::create_dir(&place)?;
        let cgroup = Cgroup::make("connections")?;
        let setup = Setup { daemon: ROOM, ..Setup::of("committed") };
        let daemon = Daemon::start(binary, &place, setup, &cgroup, &pins, net.bouncer())?;
        for (inside, way) in [false, true].into_iter().zip(&mut ways) {
            eprintln!("round {round} of {rounds}: {}", name(inside));
            interrupt::check()?;
            let mut client = Client::new(&programs, net.bouncer());
            client.cgroup = inside.then(|| cgroup.path().to_owned());
            way.alone.push(client.round_trips("simple", 1, seconds)?);
            let before = daemon.memory()?;
            let mut held = client.crowd(&crowd, &["--hold", &idle.to_string()])?;
            let mut line = String::new();
            let out = held.stdout.as_mut().context("no output")?;
            BufReader::new(out).read_line(&mut line)?;
            if line.is_empty() {
                return Err(Client::finish_crowd(held).err().context("the crowd said nothing")?);
            }
            let times = Times::read(&line)?;
            way.opened.push([times.median, times.high]);
            way.beside.push(client.round_trips("simple", 1, seconds)?);
            if inside {
                memory.push([before, daemon.memory()?]);
                ensure!(
                    daemon.counter("settled")? > f64::from(idle),
                    "the connections went round the daemon"
                );
            }
            Client::finish_crowd(held)?;
            let (rate, long) = (RATE.to_string(), seconds.to_string());
            let rated = client.crowd(&crowd, &["--rate", &rate, "--seconds", &long])?;
            let times = Times::read(&Client::finish_crowd(rated)?)?;
            way.rated.push([times.median, times.high]);
        }
    }
    drop((pins, bouncer, postgres));
    println!("medians of {rounds} rounds; the server is PgBouncer");
    show(&format!("to open one of {idle}, µs"), &ways, |way, at| column(&way.opened, at));
    show("at 500 a second, µs", &ways, |way, at| column(&way.rated, at));
    println!("{:28}  {:>12}  {:>12}  ratio", "round trips a second", "none", "beside");
    for (inside, way) in [false, true].into_iter().zip(&ways) {
        let ratios: Vec<f64> = way.beside.iter().zip(&way.alone).map(|(a, b)| a / b).collect();
        let (alone, beside) = (median(&way.alone), median(&way.beside));
        println!("  {:26}  {alone:>12.0}  {beside:>12.0}  {:>5.3}", name(inside), median(&ratios));
    }
    let [before, after] = [0, 1].map(|at| median(&column(&memory, at)));
    let each = (after - before) * 1024.0 / f64::from(idle);
    println!(
        "the daemon's memory: {before:.0} MiB, {after:.0} MiB with {idle}: {each:.1} KiB each"
    );
    Ok(())
}

fn name(inside: bool) -> &'static str {
    if inside { "chaperone" } else { "direct" }
}

fn column(all: &[[f64; 2]], at: usize) -> Vec<f64> {
    all.iter().map(|one| one[at]).collect()
}

/// Median and 99 of 100, of both ways.
fn show(what: &str, ways: &[Measured; 2], values: impl Fn(&Measured, usize) -> Vec<f64>) {
    println!("{what:28}  {:>12}  {:>12}", "median", "99 of 100");
    for (inside, way) in [false, true].into_iter().zip(ways) {
        let [middle, high] = [0, 1].map(|at| median(&values(way, at)));
        println!("  {:26}  {middle:>12.0}  {high:>12.0}", name(inside));
    }
}
