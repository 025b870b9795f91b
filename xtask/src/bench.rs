//! The benchmark: one client's round trips, eight clients' and one bulk result, direct, through
//! PgBouncer, through HAProxy and through the daemon, interleaved in one run.
//!
//! Belongs here: the options, the order of the rounds and the table. Absolute figures drift with the
//! machine, so what counts are the ratios of one run.

mod client;
mod connections;
pub(crate) mod crowd;
mod host;
mod identity;
mod masks;
mod servers;
mod ssh;

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::{
    client::{Client, Load},
    host::{Cgroup, Pins},
    servers::{Daemon, HaProxy, PgBouncer, Postgres, Setup},
};
use crate::{
    build, interrupt,
    setup::{self, Group},
    shell,
};

/// How long and what.
#[derive(Args)]
pub(crate) struct Options {
    /// Of each pgbench run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Of all ways one after the other
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these ways
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Way::value_variants().to_vec())]
    ways: Vec<Way>,
    /// What it costs to know who it was, instead: forks and connections
    #[arg(long)]
    identity: bool,
    /// What many connections cost, idle ones and new ones, instead
    #[arg(long, conflicts_with = "identity")]
    connections: bool,
    /// What SSH costs, beside OpenSSH to OpenSSH, instead
    #[arg(long, conflicts_with_all = ["identity", "connections"])]
    ssh: bool,
    /// What masks cost where they mask nothing, and where they mask, instead
    #[arg(long, conflicts_with_all = ["identity", "connections", "ssh"])]
    masks: bool,
    /// How long a search takes in a log of so many records, instead
    #[arg(long, value_name = "RECORDS", num_args = 0..=1, default_missing_value = "10000000", conflicts_with_all = ["identity", "connections", "masks", "ssh"])]
    search: Option<u64>,
}

/// A way to the server.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Direct,
    Pgbouncer,
    Haproxy,
    /// The daemon, with every record flushed that is to be.
    Flushed,
    /// The daemon, with records committed.
    Committed,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Pgbouncer => "PgBouncer, session mode",
            Self::Haproxy => "HAProxy, TCP mode",
            Self::Flushed => "chaperone, flushed",
            Self::Committed => "chaperone, committed",
        }
    }

    fn durability(self) -> Option<&'static str> {
        match self {
            Self::Flushed => Some("flushed"),
            Self::Committed => Some("committed"),
            Self::Direct | Self::Pgbouncer | Self::Haproxy => None,
        }
    }
}

/// What one way gave, one entry a round for each load.
struct Lane {
    way: Way,
    client: Client,
    measured: [Vec<f64>; Load::ALL.len()],
}

/// Measures, and prints a table. Nothing that was started or made is left.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(records) = options.search {
        return search(records);
    }
    if !shell::is_root() {
        bail!("the benchmark needs root: it loads programs into the kernel and makes cgroups");
    }
    setup::run(Group::Bench)?;
    let ours = options.identity
        || options.connections
        || options.ssh
        || options.masks
        || options.ways.iter().any(|way| way.durability().is_some());
    let binary = if ours {
        build::kernel_side()?;
        Some(build::daemon(true)?)
    } else {
        None
    };
    // Signals are noted from here on, and all that follows is undone by being dropped.
    let signals = interrupt::Deferred::new();
    if options.identity {
        let binary = binary.context("the daemon was not built")?;
        return identity::run(&binary, options.rounds, options.seconds);
    }
    if options.connections {
        let binary = binary.context("the daemon was not built")?;
        return connections::run(&binary, options.rounds, options.seconds);
    }
    if options.ssh {
        let binary = binary.context("the daemon was not built")?;
        return ssh::run(&binary, options.rounds);
    }
    if options.masks {
        let binary = binary.context("the daemon was not built")?;
        return masks::run(&binary, options.rounds, options.seconds);
    }
    let result = measure(options, binary.as_deref());
    drop(signals);
    print(options, &result?);
    Ok(())
}

/// Needs neither the kernel nor a server: the log's own crate does it.
fn search(records: u64) -> Result<()> {
    let example = ["run", "--release", "--package", "chaperone-audit", "--example", "search", "--"];
    shell::run(shell::cargo().args(example).arg(records.to_string()))
}

fn measure(options: &Options, binary: Option<&Path>) -> Result<Vec<Lane>> {
    let programs = setup::postgres_bin().context("no PostgreSQL server is installed")?;
    let folder = host::folder()?;
    let net = host::Net::free()?;
    let postgres = Postgres::start(&programs, folder.path(), net.server())?;
    postgres.fill()?;
    let bouncer = PgBouncer::start(folder.path(), net.bouncer(), net.server(), "session")?;
    let proxy = HaProxy::start(folder.path(), net.proxy(), net.server())?;
    let pins = if binary.is_some() { Some(Pins::find(folder.path())?) } else { None };
    let mut daemons: Vec<(Daemon, Cgroup)> = Vec::new();
    let mut lanes = Vec::new();
    for way in &options.ways {
        let mut client = Client::new(&programs, net.server());
        match way {
            Way::Direct => (),
            Way::Pgbouncer => client.address = net.bouncer(),
            Way::Haproxy => client.address = net.proxy(),
            Way::Flushed | Way::Committed => {
                let durability = way.durability().unwrap_or_default();
                let binary = binary.context("the daemon was not built")?;
                let pins = pins.as_ref().context("there is no place for pins")?;
                let cgroup = Cgroup::make(durability)?;
                let daemon = Daemon::start(
                    binary,
                    folder.path(),
                    Setup::of(durability),
                    &cgroup,
                    pins,
                    net.server(),
                )?;
                client.cgroup = Some(cgroup.path().to_owned());
                client.greet()?;
                daemon.has_recorded()?;
                daemons.push((daemon, cgroup));
            }
        }
        client.greet().with_context(|| format!("{} does not answer", way.label()))?;
        lanes.push(Lane { way: *way, client, measured: [const { Vec::new() }; Load::ALL.len()] });
    }
    for round in 1..=options.rounds {
        for lane in &mut lanes {
            eprintln!("round {round} of {}: {}", options.rounds, lane.way.label());
            for (load, measured) in Load::ALL.iter().zip(&mut lane.measured) {
                interrupt::check()?;
                let value = lane
                    .client
                    .measure(*load, options.seconds)
                    .with_context(|| format!("{}, {}", lane.way.label(), load.label()))?;
                measured.push(value);
            }
        }
    }
    // Said in the order that ends them: nobody's server goes before its users.
    drop((daemons, pins, proxy, bouncer, postgres, folder));
    Ok(lanes)
}

fn print(options: &Options, lanes: &[Lane]) {
    let medians = |way: Way| {
        lanes
            .iter()
            .find(|lane| lane.way == way)
            .map(|lane| lane.measured.each_ref().map(|m| median(m)))
    };
    let direct = medians(Way::Direct);
    let bouncer = medians(Way::Pgbouncer);
    println!(
        "medians of {} rounds; ratios of speed, above 1 is quicker: to direct / to PgBouncer",
        options.rounds
    );
    print!("{:24}", "");
    for load in Load::ALL {
        print!("  {:>26}", load.label());
    }
    println!();
    for lane in lanes {
        print!("{:24}", lane.way.label());
        for (column, load) in Load::ALL.into_iter().enumerate() {
            let value = median(&lane.measured[column]);
            let ratio = |base: Option<[f64; Load::ALL.len()]>| {
                base.map_or_else(
                    || "-".to_owned(),
                    |base| format!("{:.2}", load.speed(value) / load.speed(base[column])),
                )
            };
            print!("  {:>12} {:>6}/{:>6}", load.show(value), ratio(direct), ratio(bouncer));
        }
        println!();
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_of_the_sorted() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }
}
