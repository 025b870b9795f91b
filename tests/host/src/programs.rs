//! Programs that tests run as agents, compiled once.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

const SOURCE: &str = include_str!("../programs/agent.c");

/// Compiles the agent in C (its comment says what it can do) to this path. `mark` makes it another
/// program: its hash differs from those with other marks.
///
/// # Errors
/// Where there is no compiler.
pub fn compile_agent(to: &Path, mark: &str) -> Result<PathBuf> {
    compile(to, mark, &[])
}

/// As [`compile_agent`], a program that needs no other file.
///
/// # Errors
/// As [`compile_agent`].
pub fn compile_agent_for_image(to: &Path, mark: &str) -> Result<PathBuf> {
    compile(to, mark, &["-static"])
}

fn compile(to: &Path, mark: &str, how: &[&str]) -> Result<PathBuf> {
    let source = to.with_extension("c");
    fs::write(&source, format!("{SOURCE}\nconst char mark[] = \"{mark}\";\n"))?;
    let output = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread"])
        .args(how)
        .arg("-o")
        .arg(to)
        .arg(&source)
        .output()
        .context("there is no C compiler: run `cargo xtask setup`")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(to.into())
}

/// A file's SHA-256 in hexadecimal, by another program than the one under test.
///
/// # Errors
/// Where it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg("--").arg(path).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout)?;
    Ok(said.split_whitespace().next().context("no hash")?.to_owned())
}
