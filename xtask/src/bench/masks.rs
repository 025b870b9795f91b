//! What masks cost: where they mask nothing that is asked for, and where they mask a column of a long
//! result.
//!
//! Belongs here: what is compared, in one run, and how it is shown.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{
    client::Client,
    host::{self, Cgroup, Pins},
    median,
    servers::{Daemon, Postgres, Setup},
};
use crate::{interrupt, setup};

/// Whom the masks are about: 1,000,000 rows of a number and a text of 39 bytes.
const PEOPLE: [&str; 2] = [
    "CREATE TABLE people AS SELECT i AS id, 'person ' || md5(i::text) AS name FROM generate_series(1, 1000000) i",
    "VACUUM ANALYZE people",
];

/// Daemons, each with the masks that it has. All sign on alike.
const DAEMONS: [(&str, &str); 5] = [
    ("no masks", ""),
    (
        "a constant",
        "[[mask]]\nname = \"m\"\ncolumns = [\"public.people.name\"]\nwith = \"constant\"\ntext = \"x\"\n",
    ),
    (
        "in part",
        "[[mask]]\nname = \"m\"\ncolumns = [\"public.people.name\"]\nwith = \"partial\"\nlast = 4\n",
    ),
    (
        "a pseudonym",
        "[[mask]]\nname = \"m\"\ncolumns = [\"public.people.name\"]\nwith = \"pseudonym\"\nkey = \"file:KEY\"\n",
    ),
    (
        "all detectors",
        "[[mask]]\nname = \"m\"\ndetect = [\"email\", \"card\", \"ssn\", \"iban\", \"phone\", \"ipv4\", \"ipv6\", \"jwt\", \"aws-key-id\", \"aws-secret\", \"github-token\", \"private-key\"]\nwith = \"partial\"\nlast = 4\n",
    ),
];

const LOADS: [&str; 4] =
    ["prepared, 1 client", "prepared, 8", "simple, 1 client", "1,000,000 rows"];

pub(super) fn run(binary: &Path, rounds: u32, seconds: u32) -> Result<()> {
    let programs = setup::postgres_bin().context("no PostgreSQL server is installed")?;
    let folder = host::folder()?;
    let net = host::Net::free()?;
    let postgres = Postgres::start(&programs, folder.path(), net.server())?;
    postgres.fill()?;
    postgres.sql(&PEOPLE)?;
    let key = host::secret(folder.path(), "key")?;
    let pins = Pins::find(folder.path())?;
    let mut lanes = Vec::new();
    for (at, (name, masks)) in DAEMONS.into_iter().enumerate() {
        let (place, masks) = (format!("masks{at}"), masks.replace("KEY", &key));
        let cgroup = Cgroup::make(&place)?;
        let setup = Setup {
            name: &place,
            durability: "committed",
            daemon: "",
            target: "credential = { user = \"bench\" }",
            more: &masks,
        };
        let daemon = Daemon::start(binary, folder.path(), setup, &cgroup, &pins, net.server())?;
        let mut client = Client::new(&programs, net.server());
        client.cgroup = Some(cgroup.path().to_owned());
        let shown = client.ask("SELECT name FROM people LIMIT 1")?;
        let masked = !shown.starts_with("person ");
        ensure!(masked == masks.contains("columns"), "{name}: it answers {shown:?}");
        daemon.has_recorded()?;
        lanes.push((name, client, daemon, cgroup, [const { Vec::new() }; LOADS.len()]));
    }
    for round in 1..=rounds {
        for (name, client, _, _, measured) in &mut lanes {
            eprintln!("round {round} of {rounds}: {name}");
            interrupt::check()?;
            measured[0].push(client.round_trips("prepared", 1, seconds)?);
            measured[1].push(client.round_trips("prepared", 8, seconds)?);
            measured[2].push(client.round_trips("simple", 1, seconds)?);
            measured[3].push(client.result("SELECT id, name FROM people")?.recip());
        }
    }
    println!(
        "medians of {rounds} rounds; ratios of speed to the daemon without masks, of the same round"
    );
    print!("{:16}", "");
    for load in LOADS {
        print!("  {load:>22}");
    }
    println!();
    let base = lanes[0].4.clone();
    for (name, .., measured) in &lanes {
        print!("{name:16}");
        for (at, (values, base)) in measured.iter().zip(&base).enumerate() {
            let ratios: Vec<f64> = values.iter().zip(base).map(|(one, base)| one / base).collect();
            let value = median(values);
            let shown =
                if at == 3 { format!("{:.2} s", value.recip()) } else { format!("{value:.0} tps") };
            print!("  {shown:>15} {:>6.3}", median(&ratios));
        }
        println!();
    }
    drop((lanes, pins, postgres));
    Ok(())
}
