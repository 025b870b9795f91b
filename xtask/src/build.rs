//! Building: the kernel side by its own compiler, then the daemon that embeds it.
//!
//! Belongs here: how the two are built and where the results lie. Not what they need installed.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::{compiler, setup, shell};

const TARGET: &str = "bpfel-unknown-none";

/// Builds the eBPF object, and replaces the one that the daemon embeds only where it differs, so
/// that the daemon is not built anew for nothing.
pub(crate) fn kernel_side() -> Result<()> {
    let compiler = compiler::find()
        .map_err(|why| anyhow!("no compiler for BPF: {why}; run `cargo xtask setup`"))?;
    eprintln!("kernel side: {}", compiler.label);
    let folder = shell::root().join("target/ebpf");
    let mut linker = OsString::from("-Clinker=");
    linker.push(setup::bpf_linker()?);
    // The architecture decides how the programs read registers and the names of system calls; the
    // debug information is what the linker makes BTF of, which socket storage asks for.
    let mut flags = OsString::from(format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH));
    for flag in [OsString::from("-Cdebuginfo=2"), OsString::from("-Clink-arg=--btf"), linker] {
        flags.push("\x1f");
        flags.push(flag);
    }
    shell::run(
        shell::foreign_cargo(&shell::root().join("ebpf"))
            .args([
                "build",
                "--release",
                "--target",
                TARGET,
                "-Z",
                "build-std=core",
                "--target-dir",
            ])
            .arg(&folder)
            .env("RUSTC", &compiler.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags),
    )?;
    let built = folder.join(TARGET).join("release/chaperone-ebpf");
    replace_if_changed(&built, &folder.join("chaperone.bpf.o"))
}

/// Builds the daemon and says where its binary is.
pub(crate) fn daemon(release: bool) -> Result<PathBuf> {
    binary("chaperone", "chaperone", release)
}

/// Builds one binary of the workspace and says where it is.
pub(crate) fn binary(package: &str, name: &str, release: bool) -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--package", package, "--bin", name]);
    if release {
        cargo.arg("--release");
    }
    shell::run(&mut cargo)?;
    let profile = if release { "release" } else { "debug" };
    let path = target_directory()?.join(profile).join(name);
    if !path.is_file() {
        bail!("cargo built {name}, but {} is not there", path.display());
    }
    Ok(path)
}

/// Builds what tests run, and says in which folder it is. Of all packages at once, as the tests are:
/// a library that other packages share would be built anew for every choice of them, with the features
/// that just these ask for.
pub(crate) fn programs() -> Result<PathBuf> {
    shell::run(shell::cargo().args(["build", "--workspace", "--bins"]))?;
    Ok(target_directory()?.join("debug"))
}

/// Builds the program of the host tests and says where it is. With all others, as [`programs`].
pub(crate) fn host_tests() -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--workspace", "--no-run"]);
    let messages = shell::read(cargo.args(["--message-format", "json-render-diagnostics"]))?;
    executable(&messages, "host").context("cargo built no host tests")
}

/// What Cargo's messages say of a program that it built.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// What Cargo says of the workspace's own packages.
pub(crate) fn metadata() -> Result<Value> {
    let text =
        shell::read(shell::cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    serde_json::from_str(&text).context("`cargo metadata` printed no JSON")
}

fn target_directory() -> Result<PathBuf> {
    let metadata = metadata()?;
    let folder =
        metadata["target_directory"].as_str().context("`cargo metadata` names no target folder")?;
    Ok(PathBuf::from(folder))
}

fn replace_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("{} was not built", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    // Written beside and renamed: a build that runs at the same time sees one or the other.
    let beside = to.with_extension("o.new");
    fs::write(&beside, new)
        .and_then(|()| fs::rename(&beside, to))
        .with_context(|| format!("{} cannot be written", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_cargos_messages() {
        let messages = "{\"reason\":\"build-script-executed\"}\n\
            {\"target\":{\"name\":\"lib\"},\"executable\":null}\n\
            {\"target\":{\"name\":\"host\"},\"executable\":\"/t/host-1\"}\n";
        assert_eq!(executable(messages, "host"), Some("/t/host-1".into()));
        assert_eq!(executable(messages, "other"), None);
    }
}
