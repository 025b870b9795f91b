//! PostgreSQL's own regression suite, of the installed server's version: its files from Debian's
//! source package, and the library that it has the server load, compiled.
//!
//! Belongs here: how both come into the cache. They are never copied into the repository; running
//! the suite is a host test's.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{installing, postgres_bin, satisfied};
use crate::shell;

/// Where the suite is, for the host tests.
pub(crate) const VARIABLE: &str = "CHAPERONE_REGRESSION_SUITE";

/// The folder with `sql`, `expected`, `data`, the schedule and `regress.so`.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(cached(&Server::find()?)?.join("suite"))
}

/// Fetches and compiles what is missing.
pub(super) fn ensure() -> Result<()> {
    let server = Server::find()?;
    let cached = cached(&server)?;
    let what = format!("PostgreSQL's regression suite {}", server.version);
    if cached.exists() {
        satisfied(&what);
        return Ok(());
    }
    installing(&format!("{what} into {}", cached.display()));
    let parent = cached.parent().context("the cache has no folder")?;
    fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    let work = tempfile::Builder::new().prefix(".making-").tempdir_in(parent)?;
    let made = work.path().join("made");
    fs::create_dir(&made)?;
    let offers = offers(&server)?;
    let version = version(&offers, &server)?;
    if version != server.version {
        eprintln!("        of version {version}: apt no longer offers the server's own");
    }
    suite(&server, &offers, version, work.path(), &made.join("suite"))?;
    library(&server, version, work.path(), &made.join("suite"))?;
    // All of it or nothing, whenever this run is ended.
    fs::rename(&made, &cached)
        .with_context(|| format!("{} cannot be put in its place", cached.display()))
}

/// The installed server's package.
struct Server {
    /// Of the package's name.
    major: String,
    /// The package's.
    version: String,
}

impl Server {
    fn find() -> Result<Self> {
        let programs = postgres_bin().context("PostgreSQL is not installed")?;
        let major = programs.parent().and_then(Path::file_name).unwrap_or_default();
        let major = major.to_string_lossy().into_owned();
        let package = format!("postgresql-{major}");
        let version =
            shell::read(Command::new("dpkg-query").args(["-W", "-f", "${Version}", &package]))?;
        Ok(Self { major, version })
    }
}

/// What apt has of the server's package: `PACKAGE | VERSION | SITE …` a line, the newest first.
fn offers(server: &Server) -> Result<String> {
    let package = format!("postgresql-{}", server.major);
    let offers = || shell::read(apt("apt-cache").args(["madison", &package]));
    let found = offers()?;
    if sites(&found, &server.version).is_empty() && shell::is_root() {
        // The lists may be absent, or older than the server.
        shell::read(apt("apt-get").args(["-q", "update"]))?;
        return offers();
    }
    Ok(found)
}

/// The server's own version. A mirror drops it when it has a newer one, whose suite then does as
/// well: what is compared is two runs, and libraries load in every minor version.
fn version<'a>(offers: &'a str, server: &'a Server) -> Result<&'a str> {
    if !sites(offers, &server.version).is_empty() {
        return Ok(&server.version);
    }
    let newest = offers.lines().find_map(|line| line.split('|').nth(1));
    newest.map(str::trim).with_context(|| {
        format!("apt has no package postgresql-{}: run apt-get update", server.major)
    })
}

fn cached(server: &Server) -> Result<PathBuf> {
    let name = format!("{}-{}", server.major, server.version);
    Ok(shell::cache()?.join("postgres-regression").join(name))
}

/// The files, out of the source package.
fn suite(server: &Server, offers: &str, version: &str, work: &Path, to: &Path) -> Result<()> {
    let source = format!("postgresql-{}={version}", server.major);
    let (parts, lists, cache) = (work.join("parts"), work.join("lists"), work.join("cache"));
    for folder in [&parts, &lists.join("partial"), &cache.join("archives/partial")] {
        fs::create_dir_all(folder)?;
    }
    for (name, text) in source_lists(offers, version)? {
        fs::write(parts.join(name), text)?;
    }
    let apt_get = |arguments: &[&str]| {
        let mut command = apt("apt-get");
        command.arg("-q").args(["-o", "Dir::Etc::sourcelist=/dev/null"]).current_dir(work);
        for (option, folder) in [
            ("Dir::Etc::sourceparts", &parts),
            ("Dir::State::Lists", &lists),
            ("Dir::Cache", &cache),
        ] {
            command.args(["-o", &format!("{option}={}", folder.display())]);
        }
        shell::read(command.args(arguments))
    };
    apt_get(&["update"]).context("the lists of source packages could not be fetched")?;
    // Downloaded only: the suite needs none of Debian's changes, and unpacking would need dpkg-dev.
    apt_get(&["source", "--download-only", &source])
        .context("the source package could not be fetched")?;
    let archive = only(work, |name| name.contains(".orig.tar."))?;
    shell::read(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(work).args([
        "--no-same-owner",
        "--strip-components=1",
        "--wildcards",
        "*/src/test/regress",
    ]))?;
    fs::rename(work.join("src/test/regress"), to).context("the source package has no suite")
}

/// The host's own lists of packages, those that offer this version, asking for sources.
fn source_lists(offers: &str, version: &str) -> Result<Vec<(String, String)>> {
    let sites = sites(offers, version);
    let targets = shell::read(apt("apt-get").args([
        "indextargets",
        "--format",
        "$(SITE) $(SOURCESENTRY)",
        "Created-By: Packages",
    ]))?;
    let mut found = Vec::new();
    for file in list_files(&targets, &sites) {
        let text = fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))?;
        let name = Path::new(file).file_name().unwrap_or_default();
        found.push((name.to_string_lossy().into_owned(), for_sources(&text)));
    }
    Ok(found)
}

/// The addresses that `apt-cache madison` names for this version.
fn sites<'a>(offers: &'a str, version: &str) -> BTreeSet<&'a str> {
    offers
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('|').map(str::trim);
            let found = columns.nth(1)?;
            (found == version).then(|| columns.next()?.split_whitespace().next()).flatten()
        })
        .collect()
}

/// The files in which apt was told of these addresses: `SITE FILE:LINE` a line.
fn list_files<'a>(targets: &'a str, sites: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    targets
        .lines()
        .filter_map(|line| {
            let (site, entry) = line.split_once(' ')?;
            let (file, _line) = entry.rsplit_once(':')?;
            sites.contains(site.trim_end_matches('/')).then_some(file)
        })
        .collect()
}

/// Entries for binary packages become entries for source packages, in both of apt's formats
/// (sources.list(5)).
fn for_sources(text: &str) -> String {
    let line = |line: &str| {
        if line.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("types:")) {
            return "Types: deb-src".to_owned();
        }
        match line.trim_start().strip_prefix("deb") {
            Some(rest) if rest.starts_with([' ', '\t']) => format!("deb-src{rest}"),
            _ => line.to_owned(),
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// `regress.so`, which Debian does not ship. Its headers are taken out of their package, which
/// would bring a whole LLVM if it was installed.
fn library(server: &Server, version: &str, work: &Path, suite: &Path) -> Result<()> {
    let package = format!("postgresql-server-dev-{}", server.major);
    shell::read(
        apt("apt-get").args(["-q", "download", &format!("{package}={version}")]).current_dir(work),
    )?;
    let headers = work.join("headers");
    let archive = only(work, |name| name.starts_with(&package))?;
    shell::read(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&headers))?;
    let include = headers.join("usr/include/postgresql").join(&server.major).join("server");
    shell::read(
        Command::new("cc")
            .args(["-O1", "-fPIC", "-shared", "-w", "-I"])
            .arg(include)
            .arg("-o")
            .arg(suite.join("regress.so"))
            .arg(suite.join("regress.c")),
    )?;
    Ok(())
}

fn only(folder: &Path, is: impl Fn(&str) -> bool) -> Result<PathBuf> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is) {
            return Ok(entry.path());
        }
    }
    bail!("apt-get fetched nothing that fits into {}", folder.display())
}

/// Of apt's. Its account for fetching cannot write into a folder of the caller's.
fn apt(program: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-o", "APT::Sandbox::User=root"]).env("LC_ALL", "C");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_for_packages_become_entries_for_sources() {
        let text = "# deb x\nTypes: deb\nURIs: http://a/debian\n\ndeb [signed-by=k] http://b x main\ndeb-src http://b x main\n";
        let want = "# deb x\nTypes: deb-src\nURIs: http://a/debian\n\ndeb-src [signed-by=k] http://b x main\ndeb-src http://b x main\n";
        assert_eq!(for_sources(text), want);
    }

    #[test]
    fn lists_are_found_by_the_version_that_they_offer() {
        let offers = " pg | 15.2-1 | http://a/security x/main amd64 Packages\n pg | 15.1-1 | http://a/debian x/main amd64 Packages\n";
        let sites = sites(offers, "15.1-1");
        assert_eq!(sites, BTreeSet::from(["http://a/debian"]));
        let targets = "http://a/debian /etc/l/a.sources:1\nhttp://a/debian /etc/l/a.sources:9\nhttp://c /etc/l/c.list:1\n";
        assert_eq!(list_files(targets, &sites), BTreeSet::from(["/etc/l/a.sources"]));
    }
}
