//! What a change must satisfy beside its tests: form, lints, documentation, dependencies, edges.
//!
//! Belongs here: the order of the checks. Their settings are in `clippy.toml`, `deny.toml` and the
//! workspace's `Cargo.toml`; the edges are in `edges`.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    build,
    edges::{self, Member, Use},
    setup::{self, Group},
    shell,
};

type Check = fn() -> Result<()>;

/// Runs all checks, also after one has failed: one run tells everything.
pub(crate) fn run() -> Result<()> {
    setup::run(Group::Check)?;
    build::kernel_side()?;
    let checks: [(&str, Check); 5] = [
        ("edges", edges),
        ("fmt", format),
        ("clippy", clippy),
        ("rustdoc", rustdoc),
        ("cargo-deny", deny),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        eprintln!("check   {name}");
        if let Err(error) = check() {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("not in order: {}", failed.join(", "));
    }
    Ok(())
}

fn edges() -> Result<()> {
    let workspace = fs::read_to_string(shell::root().join("Cargo.toml"))
        .context("Cargo.toml cannot be read")?;
    let found = edges::violations(&members(&build::metadata()?)?, &workspace);
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(())
}

fn members(metadata: &Value) -> Result<Vec<Member>> {
    let packages = metadata["packages"].as_array().context("`cargo metadata` names no packages")?;
    packages
        .iter()
        .map(|package| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let path = text(&package["manifest_path"]);
            let manifest =
                fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
            let uses = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
            let uses = uses
                .iter()
                .map(|used| Use { name: text(&used["name"]), dev: used["kind"] == "dev" })
                .collect();
            Ok(Member { name: text(&package["name"]), manifest, uses })
        })
        .collect()
}

fn format() -> Result<()> {
    let workspace = shell::run(shell::cargo().args(["fmt", "--all", "--check"]));
    shell::run(shell::cargo().args(["fmt", "--check", "--manifest-path", "ebpf/Cargo.toml"]))?;
    workspace
}

fn clippy() -> Result<()> {
    shell::run(shell::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn rustdoc() -> Result<()> {
    shell::run(
        shell::cargo()
            .args(["doc", "--quiet", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Licences, bans and sources can be judged anywhere; advisories need their database.
fn deny() -> Result<()> {
    // Its view of the dependencies holds those of other platforms, too, which no build has fetched.
    shell::run(shell::cargo().args(["fetch", "--locked"]))?;
    let deny = |checks: &[&str]| -> Result<Command> {
        let mut command = Command::new(setup::cargo_deny()?);
        // What has to be fetched is fetched below, so that a failure of that is told apart.
        command
            .current_dir(shell::root())
            .args(["--workspace", "--offline", "check", "--hide-inclusion-graph"])
            .args(checks);
        Ok(command)
    };
    let rest = shell::run(&mut deny(&["licenses", "bans", "sources"])?);
    let mut fetch = Command::new(setup::cargo_deny()?);
    if let Err(error) = shell::read(fetch.current_dir(shell::root()).args(["fetch", "db"])) {
        let reason = format!("{error:#}");
        eprintln!(
            "note: advisories were not checked: their database cannot be had here ({})",
            reason.lines().last().unwrap_or_default().trim()
        );
        return rest;
    }
    shell::run(&mut deny(&["advisories"])?)?;
    rest
}
