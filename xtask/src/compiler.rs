//! The compiler for the kernel side: which one of this machine can make BPF.
//!
//! Belongs here: finding it and judging it. `core` is built from source, so the compiler needs the
//! source of its own version, and the linker's LLVM must be at least as new as the compiler's.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::shell;

/// The LLVM that `bpf-linker` is built with.
pub(crate) const LLVM: u32 = 22;

/// The oldest release that knows edition 2024.
const OLDEST: (u32, u32) = (1, 85);

/// A compiler that will do.
pub(crate) struct Compiler {
    pub(crate) rustc: PathBuf,
    /// For people: what it is.
    pub(crate) label: String,
}

/// The first compiler that will do, or why each was turned down.
pub(crate) fn find() -> Result<Compiler, String> {
    let mut reasons = Vec::new();
    for (name, rustc) in candidates() {
        match judge(&rustc) {
            Ok(release) => {
                return Ok(Compiler { label: format!("{name} {release}"), rustc });
            }
            Err(reason) => reasons.push(format!("{name} ({}) {reason}", rustc.display())),
        }
    }
    Err(if reasons.is_empty() { "no rustc was found".into() } else { reasons.join("; ") })
}

fn candidates() -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    let system = Path::new("/usr/bin/rustc");
    // Where rustup itself is a package, this name is rustup's and not a compiler.
    if system.canonicalize().is_ok_and(|path| !path.ends_with("rustup")) {
        found.push(("Debian's rustc", system.to_owned()));
    }
    let mut nightly = Command::new("rustup");
    nightly.args(["which", "rustc", "--toolchain", "nightly"]);
    if let Ok(path) = shell::read(&mut nightly) {
        found.push(("rustup's nightly", PathBuf::from(path.trim())));
    }
    found
}

fn judge(rustc: &Path) -> Result<String, String> {
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(rustc);
        // Libraries of the toolchain that runs xtask are not this compiler's.
        command.args(arguments).env_remove("LD_LIBRARY_PATH");
        shell::read(&mut command).map_err(|error| format!("does not run: {error:#}"))
    };
    let version = ask(&["-vV"])?;
    let release = fit(&version)?;
    let sysroot = ask(&["--print", "sysroot"])?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    if core.is_dir() { Ok(release) } else { Err("has no source of `core`".into()) }
}

/// The release that `rustc -vV` tells of, if it and its LLVM are of the right age.
fn fit(version: &str) -> Result<String, String> {
    let field = |name: &str| {
        version.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
    };
    let release = field("release:");
    let mut parts = release.split('.').map(|part| part.parse().unwrap_or(0));
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST {
        return Err(format!("is {release}, older than {}.{}", OLDEST.0, OLDEST.1));
    }
    let llvm = field("LLVM version:");
    match llvm.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major <= LLVM => Ok(release.to_owned()),
        Some(_) => Err(format!("uses LLVM {llvm}, newer than the linker's {LLVM}")),
        None => Err("does not say which LLVM it uses".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::fit;

    fn version(release: &str, llvm: &str) -> String {
        format!(
            "rustc {release}\nhost: x86_64-unknown-linux-gnu\nrelease: {release}\nLLVM version: {llvm}\n"
        )
    }

    #[test]
    fn a_compiler_of_the_linkers_age_fits() {
        assert_eq!(fit(&version("1.96.0", "22.1.8")), Ok("1.96.0".to_owned()));
        assert_eq!(fit(&version("1.97.0-nightly", "22.1.4")), Ok("1.97.0-nightly".to_owned()));
    }

    #[test]
    fn one_that_is_too_old_or_has_a_newer_llvm_does_not() {
        assert!(fit(&version("1.63.0", "14.0.6")).is_err_and(|why| why.contains("older")));
        assert!(fit(&version("1.99.0", "23.1.0")).is_err_and(|why| why.contains("newer")));
        assert!(fit("nonsense").is_err());
    }
}
