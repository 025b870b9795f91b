//! Node's `pg`, with its cursors and COPY streams.

use std::fs;

use anyhow::{Context, Result};
use chaperone_host_tests::Host;

use super::{Recorded, Wording, encrypted, run};

const AGENT: &str = include_str!("agents/node.js");

#[test]
fn p4_node_pg_works() -> Result<()> {
    works("postgres")
}

#[test]
fn p4_node_pg_works_with_direct_tls() -> Result<()> {
    works("direct")
}

fn works(negotiation: &str) -> Result<()> {
    let host = Host::start()?;
    let modules = std::env::var("NODE_PATH")
        .context("NODE_PATH is not set: run the tests by `cargo xtask test`")?;
    let program = host.folder().join("agent.js");
    fs::write(&program, AGENT)?;
    let (program, root) = (program.display().to_string(), host.authority().display().to_string());
    let modules = format!("NODE_PATH={modules}");
    let out = run(&host, "env", &[&modules, "node", &program, &root, negotiation])?;
    assert_eq!(out.ok()?, "done");
    let recorded = Recorded::of(&host)?;
    let binary = "SELECT 7::int8, 2.5::float8, $1::bytea, true";
    recorded.holds(&host, &Wording { binary, ..Wording::default() })?;
    // It says no type, and never asks for the server's.
    let parameters = &recorded.ran(binary)[0]["parameters"];
    assert_eq!(*parameters, r#"[{"binary":"00ff","type":0}]"#);
    let cursor = recorded.ran("SELECT id FROM orders ORDER BY id");
    let status: Vec<_> = cursor.iter().map(|row| (&row["kind"], &row["status"])).collect();
    let expected = [("execute", "suspended"), ("fetch", "ok")];
    assert_eq!(status.len(), expected.len(), "{}", recorded.text());
    for ((kind, status), (as_kind, as_status)) in status.into_iter().zip(expected) {
        assert_eq!((kind, status), (&as_kind.into(), &as_status.into()));
    }
    encrypted(&host)
}
