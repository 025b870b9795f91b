//! Rust's drivers: `tokio-postgres` and `sqlx`.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use chaperone_host_tests::Scene;

use super::{Recorded, Wording, encrypted, run};

#[test]
fn p4_tokio_postgres_works() -> Result<()> {
    works("agent-tokio-postgres", &Wording::default())
}

#[test]
fn p4_sqlx_works() -> Result<()> {
    works("agent-sqlx", &Wording { cancels: false, ..Wording::default() })
}

fn works(agent: &str, wording: &Wording) -> Result<()> {
    // `sqlx` has no cancel requests: its agent calls pg_cancel_backend.
    let host = Scene::default().allow_all().start()?;
    let built = std::env::var_os("CHAPERONE_AGENTS")
        .map(|folder| PathBuf::from(folder).join(agent))
        .context("CHAPERONE_AGENTS is not set: run the tests by `cargo xtask test`")?;
    // The agent's account need not reach where it was built.
    let program = host.folder().join(agent);
    fs::copy(&built, &program).with_context(|| format!("{} cannot be copied", built.display()))?;
    let root = host.authority().display().to_string();
    assert_eq!(run(&host, &program.display().to_string(), &[&root])?.ok()?, "done");
    Recorded::of(&host)?.holds(&host, wording)?;
    encrypted(&host)
}
