//! asyncpg: Debian's, and a newer one.

use anyhow::Result;
use chaperone_host_tests::Host;

use super::{Recorded, Wording, encrypted, run};

const AGENT: &str = include_str!("agents/asyncpg.py");

#[test]
fn p4_asyncpg_works() -> Result<()> {
    let host = Host::start()?;
    works(&host, "/usr/bin/python3")
}

#[test]
fn p4_a_newer_asyncpg_works() -> Result<()> {
    let host = Host::start()?;
    works(&host, &host.newer_python()?)
}

fn works(host: &Host, python: &str) -> Result<()> {
    let root = host.authority().display().to_string();
    assert_eq!(run(host, python, &["-c", AGENT, &root])?.ok()?, "done");
    let recorded = Recorded::of(host)?;
    recorded.holds(host, &Wording::default())?;
    let cursor = recorded.ran("SELECT id FROM orders ORDER BY id");
    assert_eq!(cursor[0]["kind"], "execute");
    assert_eq!(cursor[0]["status"], "suspended");
    assert!(cursor.len() > 1 && cursor[1..].iter().all(|r| r["kind"] == "fetch"), "{cursor:?}");
    encrypted(host)
}
