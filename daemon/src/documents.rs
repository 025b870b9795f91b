//! Manual pages and completions for shells, written from the command line itself, so that they say
//! what it takes. For whoever makes a package.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

use crate::cli::Cli;

/// Writes them into a folder.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let failed = || format!("{} cannot be written to", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    let mut command = Cli::command();
    clap_mangen::generate_to(command.clone(), folder).with_context(failed)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "chaperone", folder).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_is_shown_has_a_manual_page() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path()).expect("written");
        for name in [
            "chaperone.1",
            "chaperone-daemon.1",
            "chaperone-log-verify.1",
            "chaperone.bash",
            "_chaperone",
            "chaperone.fish",
        ] {
            let text = fs::read_to_string(folder.path().join(name)).expect(name);
            assert!(!text.is_empty(), "{name}");
        }
        let daemon = fs::read_to_string(folder.path().join("chaperone-daemon.1")).expect("a page");
        assert!(daemon.contains("detach"), "{daemon}");
        // What is for packagers alone is in nobody's way.
        assert!(!folder.path().join("chaperone-documents.1").exists());
    }
}
