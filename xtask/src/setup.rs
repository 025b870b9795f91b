//! Set-up: what each command needs of the machine, and putting it there.
//!
//! Belongs here: the list of needs and the order of steps. How Debian's packages are installed is
//! in `apt`, what is compiled in `tools`, what npm and pip bring in `drivers`.
//!
//! Every step looks first and does nothing where it is satisfied.

mod apt;
mod drivers;
mod regression;
mod tools;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{compiler, shell};

pub(crate) use drivers::driver_environment;
pub(crate) use tools::{bpf_linker, cargo_deny};

/// Which command the machine is made ready for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    Build,
    Test,
    Bench,
    Check,
    Vm,
    All,
}

impl Group {
    /// Every command builds.
    fn covers(self, other: Self) -> bool {
        self == Self::All || other == Self::Build || self == other
    }
}

/// A Debian package, with the groups that ask for it.
struct Package {
    name: &'static str,
    groups: &'static [Group],
    /// Satisfied otherwise too: by another vendor's package, say.
    unless: fn() -> bool,
}

const fn package(name: &'static str, groups: &'static [Group]) -> Package {
    Package { name, groups, unless: || false }
}

const fn package_unless(
    name: &'static str,
    groups: &'static [Group],
    unless: fn() -> bool,
) -> Package {
    Package { name, groups, unless }
}

const BUILD: &[Group] = &[Group::Build];
const TEST: &[Group] = &[Group::Test];
const BENCH: &[Group] = &[Group::Bench];
const VM: &[Group] = &[Group::Vm];
const SERVERS: &[Group] = &[Group::Test, Group::Bench];

const PACKAGES: &[Package] = &[
    package("build-essential", BUILD),
    package("pkg-config", BUILD),
    package_unless("rustc-web", BUILD, has_bpf_compiler),
    package_unless("rust-web-src", BUILD, has_bpf_compiler),
    package_unless("llvm-22-dev", BUILD, tools::has_bpf_linker),
    package_unless("libzstd-dev", BUILD, tools::has_bpf_linker),
    // To make the bindings of PostgreSQL's grammar.
    package("libclang-22-dev", BUILD),
    package("clang-22", BUILD),
    package_unless("postgresql", SERVERS, || postgres_bin().is_some()),
    package("util-linux", SERVERS),
    package("sqlite3", SERVERS),
    package("iproute2", TEST),
    // systemd-analyze, and what makes the package's groups and folders. Its services are not started.
    package("systemd", TEST),
    // dpkg-shlibdeps.
    package("dpkg-dev", TEST),
    package("python3", TEST),
    package("python3-psycopg", TEST),
    package("python3-asyncpg", TEST),
    package("python3-venv", TEST),
    package_unless("nodejs", TEST, || shell::on_path("node")),
    // Another vendor's Node.js brings its own.
    package_unless("npm", TEST, || shell::on_path("npm")),
    package_unless("default-jdk-headless", TEST, || shell::on_path("javac")),
    package("libpostgresql-jdbc-java", TEST),
    package("openssh-client", SERVERS),
    package("openssh-server", SERVERS),
    package("openssh-sftp-server", SERVERS),
    package("rsync", TEST),
    package_unless("git", TEST, || shell::on_path("git")),
    package("tmux", TEST),
    package("vim", TEST),
    // A display, what tells its cookies, and a program that uses it.
    package("xvfb", TEST),
    package("xauth", TEST),
    package("x11-utils", TEST),
    package("podman", TEST),
    package("crun", TEST),
    package("debootstrap", VM),
    package("debian-archive-keyring", VM),
    package("qemu-system-x86", VM),
    package("e2fsprogs", VM),
    package("util-linux", VM),
    package("pgbouncer", BENCH),
    package("haproxy", BENCH),
];

/// Makes the machine ready, one line a step.
pub(crate) fn run(group: Group) -> Result<()> {
    let wanted: Vec<&str> = PACKAGES
        .iter()
        .filter(|package| package.groups.iter().any(|other| group.covers(*other)))
        .filter(|package| !(package.unless)())
        .map(|package| package.name)
        .collect();
    apt::ensure(&wanted)?;
    match compiler::find() {
        Ok(found) => satisfied(&format!("compiler for BPF: {}", found.label)),
        Err(why) => bail!("no compiler for BPF: {why}"),
    }
    tools::ensure_bpf_linker()?;
    if group.covers(Group::Test) {
        drivers::ensure_node()?;
        drivers::ensure_python()?;
        regression::ensure()?;
    }
    if group.covers(Group::Check) {
        tools::ensure_components()?;
        tools::ensure_cargo_deny()?;
    }
    Ok(())
}

/// What host tests need in their environment to find what was put into the cache.
pub(crate) fn test_environment() -> Result<Vec<(&'static str, OsString)>> {
    let mut environment = driver_environment()?;
    environment.push((regression::VARIABLE, regression::folder()?.into()));
    Ok(environment)
}

/// The folder of the newest PostgreSQL server's programs: Debian keeps them off the path.
pub(crate) fn postgres_bin() -> Option<PathBuf> {
    let versions = Path::new("/usr/lib/postgresql").read_dir().ok()?;
    versions
        .filter_map(|entry| {
            let folder = entry.ok()?;
            let version: u32 = folder.file_name().to_str()?.parse().ok()?;
            let programs = folder.path().join("bin");
            let complete = ["initdb", "postgres", "psql", "pgbench"]
                .iter()
                .all(|p| programs.join(p).is_file());
            complete.then_some((version, programs))
        })
        .max()
        .map(|(_, programs)| programs)
}

fn has_bpf_compiler() -> bool {
    compiler::find().is_ok()
}

fn satisfied(what: &str) {
    eprintln!("ok      {what}");
}

fn installing(what: &str) {
    eprintln!("install {what}");
}
