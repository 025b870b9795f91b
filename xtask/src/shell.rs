//! Running other programs: where, with which environment, and what a failure says.
//!
//! Belongs here: what several commands of xtask need of the host. Nothing that knows why.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where tools that were compiled for this repository are kept: `cargo clean` leaves it alone.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = match base {
        Some(base) => base,
        None => PathBuf::from(
            env::var_os("HOME")
                .context("neither XDG_CACHE_HOME nor HOME is set: no place for tools")?,
        )
        .join(".cache"),
    };
    Ok(base.join("chaperone"))
}

/// Cargo in this workspace, with the caller's own settings (`RUSTFLAGS`, `CARGO_TARGET_DIR`, …).
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for name in names() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|p| name.starts_with(p)) {
            command.env_remove(&name);
        }
    }
    command
}

/// Cargo for something that is no part of this workspace: none of its settings, none of the
/// caller's, and no library path of the toolchain that runs xtask (another compiler may be used).
pub(crate) fn foreign_cargo(folder: &Path) -> Command {
    let mut command = cargo();
    command.current_dir(folder).env_remove("LD_LIBRARY_PATH");
    let prefixes =
        ["CARGO_BUILD_", "CARGO_TARGET_", "CARGO_ENCODED_", "CARGO_PROFILE_", "RUSTC", "RUSTDOC"];
    for name in names() {
        if prefixes.iter().any(|p| name.starts_with(p)) || name == "RUSTFLAGS" {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs with the terminal's streams; not ending well is an error that names the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", describe(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", describe(command));
    }
    Ok(())
}

/// What it prints, or an error with what it said.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", describe(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", describe(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether it runs and ends well; what it prints is of no interest.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a program of this name is on the path.
pub(crate) fn on_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn names() -> Vec<String> {
    env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().map_or_else(OsString::new, OsString::from);
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    format!("`{}`", words.join(" "))
}
