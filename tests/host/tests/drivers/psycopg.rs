//! psycopg 3: Debian's with its libpq, and a newer one, which brings libpq 18.

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Release, Scene};

use super::{Recorded, Wording, encrypted, verified};

const AGENT: &str = include_str!("agents/psycopg.py");

#[test]
fn p4_psycopg_works() -> Result<()> {
    let host = Host::start()?;
    works(&host, "/usr/bin/python3")
}

#[test]
fn p4_a_newer_psycopg_with_libpq_18_works() -> Result<()> {
    let host = Host::start()?;
    works(&host, &host.newer_python()?)?;
    let cancels: Vec<_> = host.closed_sessions()?;
    let in_the_clear = cancels.iter().filter(|session| session["agent_tls"].is_null());
    assert_eq!(in_the_clear.count(), cancels.len() - 1, "{cancels:?}");
    Ok(())
}

#[test]
fn p4_psycopg_works_with_postgresql_18() -> Result<()> {
    let host = Scene::default().release(Release::Eighteen).start()?;
    works(&host, "/usr/bin/python3")
}

fn works(host: &Host, python: &str) -> Result<()> {
    let out = verified(host, python, &["-c", AGENT])?.ok()?;
    let version = out.strip_prefix("done ").with_context(|| out.clone())?;
    let newer = python != "/usr/bin/python3";
    assert_eq!(version.parse::<u32>()? >= 180_000, newer, "{version}");
    let recorded = Recorded::of(host)?;
    recorded.holds(host, &Wording::default())?;
    let status = |text: &str| recorded.ran(text).first().map(|row| row["status"].clone());
    for (text, expected) in [
        ("SELECT 'before'", "ok"),
        ("SELECT 2/0", "error"),
        ("SELECT 'behind'", "skipped"),
        ("SELECT 'afterwards'", "ok"),
    ] {
        assert_eq!(status(text), Some(expected.into()), "{text}: {}", recorded.text());
    }
    encrypted(host)
}
