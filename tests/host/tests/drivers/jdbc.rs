//! JDBC: Debian's `libpostgresql-jdbc-java`.

use std::fs;

use anyhow::Result;
use chaperone_host_tests::Host;

use super::{Recorded, Wording, encrypted, run};

const AGENT: &str = include_str!("agents/Agent.java");

#[test]
fn p4_jdbc_works() -> Result<()> {
    let host = Host::start()?;
    let source = host.folder().join("Agent.java");
    fs::write(&source, AGENT)?;
    let (source, root) = (source.display().to_string(), host.authority().display().to_string());
    let address = format!("{}:5432", host.address());
    // It starts several times as fast so.
    let quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
    let args = ["-cp", "/usr/share/java/postgresql.jar", &source, &address, &root];
    assert_eq!(run(&host, "java", &[&quick[..], &args[..]].concat())?.ok()?, "done");
    let recorded = Recorded::of(&host)?;
    recorded.holds(&host, &Wording::default())?;
    let fetched = recorded.ran("SELECT id FROM orders ORDER BY id");
    let status: Vec<_> = fetched.iter().map(|row| row["status"].as_str().unwrap_or("")).collect();
    assert_eq!(status, ["suspended", "suspended", "ok"], "{}", recorded.text());
    // By function call messages, which stand in the log as the statements that do the same.
    for (text, parameters) in [
        ("SELECT pg_catalog.lo_creat($1)", "[\"393216\"]"),
        ("SELECT pg_catalog.lowrite($1, $2)", r#"["0","\\x6c61726765"]"#),
        ("SELECT pg_catalog.loread($1, $2)", r#"["0","10"]"#),
    ] {
        let calls = recorded.ran(text);
        assert_eq!(calls.len(), 1, "{text}: {}", recorded.text());
        assert_eq!(calls[0]["kind"], "call");
        assert_eq!(calls[0]["status"], "ok");
        assert_eq!(calls[0]["parameters"], parameters);
    }
    assert!(recorded.0.iter().all(|row| !row["statement"].is_null()), "every text is known");
    encrypted(&host)
}
