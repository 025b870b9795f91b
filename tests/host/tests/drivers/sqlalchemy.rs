//! `SQLAlchemy` 2, over psycopg 3 and over asyncpg.

use anyhow::Result;
use chaperone_host_tests::Host;

use super::{Recorded, Wording, encrypted, verified};

const AGENT: &str = include_str!("agents/sqlalchemy.py");

/// `SQLAlchemy` writes casts of its own, and breaks lines.
const WORDING: Wording = Wording {
    insert: "INSERT INTO orders (id, name) VALUES ($1::INTEGER, $2::VARCHAR)",
    select: "SELECT orders.name \nFROM orders \nWHERE orders.id = $1::INTEGER",
    cancels: true,
    binary: r"SELECT 7::int8, 2.5::float8, '\x00ff'::bytea, true",
};

#[test]
fn p4_sqlalchemy_works_over_psycopg() -> Result<()> {
    works("psycopg")
}

#[test]
fn p4_sqlalchemy_works_over_asyncpg() -> Result<()> {
    works("asyncpg")
}

fn works(driver: &str) -> Result<()> {
    let host = Host::start()?;
    let root = host.authority().display().to_string();
    let out = verified(&host, &host.newer_python()?, &["-c", AGENT, driver, &root])?;
    assert_eq!(out.ok()?, "done");
    Recorded::of(&host)?.holds(&host, &WORDING)?;
    encrypted(&host)
}
