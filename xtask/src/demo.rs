//! The demo: everything it needs made ready, then the demo's own program in xtask's place.
//!
//! Belongs here: only that. What is shown is in `tests/host/src/bin/demo.rs`.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Result, anyhow};

use crate::{
    build,
    setup::{self, Group},
    shell,
};

/// Returns only where the demo cannot be started: signals and the exit code are the demo's own.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    setup::run(Group::Test)?;
    build::kernel_side()?;
    let daemon = build::daemon(true)?;
    let demo = build::binary("chaperone-host-tests", "demo", false)?;
    let error = Command::new(&demo)
        .args(arguments)
        .current_dir(shell::root())
        .env("CHAPERONE_BIN", daemon)
        .envs(setup::driver_environment()?)
        .exec();
    Err(anyhow!(error).context(format!("{} cannot be started", demo.display())))
}
