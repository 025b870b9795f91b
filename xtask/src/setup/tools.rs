//! Tools that Debian does not have as packages: compiled into the cache.
//!
//! Belongs here: versions, and how each is made. They live in a cache of their own, so that
//! `cargo clean` costs no rebuild of a linker and nothing of the developer's is overwritten.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{installing, satisfied};
use crate::{compiler, shell};

const BPF_LINKER: &str = "0.13.0";
const CARGO_DENY: &str = "0.20.2";

/// Where the linker for BPF is.
pub(crate) fn bpf_linker() -> Result<PathBuf> {
    tool("bpf-linker")
}

/// Where `cargo-deny` is.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    tool("cargo-deny")
}

pub(super) fn has_bpf_linker() -> bool {
    bpf_linker().is_ok_and(|path| is_version(&path, BPF_LINKER))
}

pub(super) fn ensure_bpf_linker() -> Result<()> {
    if has_bpf_linker() {
        satisfied(&format!("bpf-linker {BPF_LINKER}"));
        return Ok(());
    }
    let llvm = compiler::LLVM;
    compile("bpf-linker", BPF_LINKER, |cargo| {
        cargo
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"));
    })
}

pub(super) fn ensure_cargo_deny() -> Result<()> {
    if cargo_deny().is_ok_and(|path| is_version(&path, CARGO_DENY)) {
        satisfied(&format!("cargo-deny {CARGO_DENY}"));
        return Ok(());
    }
    compile("cargo-deny", CARGO_DENY, |_| ())
}

/// The parts of the toolchain that a minimal profile leaves out.
pub(super) fn ensure_components() -> Result<()> {
    for (component, command) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if shell::succeeds(shell::cargo().args([command, "--version"])) {
            satisfied(component);
        } else {
            installing(component);
            shell::run(Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn compile(name: &str, version: &str, more: impl FnOnce(&mut Command)) -> Result<()> {
    let root = shell::cache()?;
    installing(&format!("{name} {version} (compiled into {})", root.display()));
    fs::create_dir_all(&root).with_context(|| format!("{} cannot be made", root.display()))?;
    let mut cargo = shell::foreign_cargo(&root);
    cargo
        .args(["install", "--quiet", "--locked", "--force", "--root"])
        .arg(&root)
        .arg(format!("{name}@{version}"))
        // It runs for seconds: compiling it quickly counts for more than its speed.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    more(&mut cargo);
    shell::run(&mut cargo)
}

fn tool(name: &str) -> Result<PathBuf> {
    Ok(shell::cache()?.join("bin").join(name))
}

fn is_version(path: &Path, version: &str) -> bool {
    shell::read(Command::new(path).arg("--version"))
        .is_ok_and(|said| said.split_whitespace().any(|word| word == version))
}
