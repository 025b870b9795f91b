//! `cargo xtask deb`: the Debian package, from the release binary and the files in `systemd/`.
//!
//! Belongs here: which file goes where, and checking the result as `apt` and ops would. It is made by
//! dpkg-deb alone: what debhelper or cargo-deb would generate (users, folders, starting anew) is a few
//! lines of shell here, in `systemd/debian`, that can be read and tested.

mod notices;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    build,
    setup::{self, Group},
    shell,
};

/// What goes into it.
#[derive(Args)]
pub(crate) struct Options {
    /// The package's revision, behind the version
    #[arg(long, default_value = "1")]
    revision: String,
    /// Package this binary, which was built before
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The folder for the package [default: target/deb]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// A file of the package: where it comes from, below the repository, where it goes, and its mode.
const FILES: &[(&str, &str, u32)] = &[
    ("systemd/chaperone.service", "usr/lib/systemd/system/chaperone.service", 0o644),
    ("systemd/chaperone-load.service", "usr/lib/systemd/system/chaperone-load.service", 0o644),
    ("systemd/chaperone.socket", "usr/lib/systemd/system/chaperone.socket", 0o644),
    ("systemd/agents.slice", "usr/lib/systemd/system/agents.slice", 0o644),
    ("systemd/sysusers.conf", "usr/lib/sysusers.d/chaperone.conf", 0o644),
    ("systemd/tmpfiles.conf", "usr/lib/tmpfiles.d/chaperone.conf", 0o644),
    ("systemd/chaperone.toml", "etc/chaperone/chaperone.toml", 0o640),
    ("systemd/debian/copyright", "usr/share/doc/chaperone/copyright", 0o644),
    ("systemd/debian/lintian-overrides", "usr/share/lintian/overrides/chaperone", 0o644),
    ("docs/operators.md", "usr/share/doc/chaperone/operators.md", 0o644),
    ("docs/auditors.md", "usr/share/doc/chaperone/auditors.md", 0o644),
    ("docs/approvers.md", "usr/share/doc/chaperone/approvers.md", 0o644),
    ("docs/how-it-works.md", "usr/share/doc/chaperone/how-it-works.md", 0o644),
    ("SECURITY.md", "usr/share/doc/chaperone/SECURITY.md", 0o644),
    ("CHANGELOG.md", "usr/share/doc/chaperone/changelog", 0o644),
];

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Files that are the operator's once they are there.
const CONFFILES: &str = "/etc/chaperone/chaperone.toml\n";

/// The manual's, for a shell.
const PAGES: &str = "usr/share/man/man1/*.1";
const MAINTAINER: &str = "chaperone <chaperone@localhost>";
/// Below the folder for documents; beside the manual's pages.
const COMPRESSED: [&str; 3] = ["changelog", "changelog.Debian", "third-party-licences"];

/// The package of a binary that was built already, for tests.
pub(crate) fn of(binary: &Path) -> Result<PathBuf> {
    make(binary, "1", &shell::root().join("target/deb"))
}

/// Builds the package, looks at it, and prints where it is.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = if let Some(binary) = &options.binary {
        binary.clone()
    } else {
        setup::run(Group::Build)?;
        build::kernel_side()?;
        build::daemon(true)?
    };
    let out = options.out.clone().unwrap_or_else(|| shell::root().join("target/deb"));
    let package = make(&binary, &options.revision, &out)?;
    examine(&package)?;
    println!("{}", package.display());
    Ok(())
}

/// Makes the package from a binary.
pub(crate) fn make(binary: &Path, revision: &str, out: &Path) -> Result<PathBuf> {
    let folder = tempfile::tempdir()?;
    let tree = folder.path().join("tree");
    fs::create_dir(&tree)?;
    for (from, to, mode) in FILES {
        place(&shell::root().join(from), &tree.join(to), *mode)?;
    }
    let placed = tree.join("usr/bin/chaperone");
    place(binary, &placed, 0o755)?;
    shell::run(Command::new("strip").args(["--strip-unneeded", "--"]).arg(&placed))?;
    documents(&placed, folder.path(), &tree)?;
    let (version, time) = (format!("{}-{revision}", env!("CARGO_PKG_VERSION")), time()?);
    let texts = tree.join("usr/share/doc/chaperone");
    written(&texts.join("changelog.Debian"), &changes(&version, &time)?)?;
    written(&texts.join("third-party-licences"), &notices::collect()?)?;
    for name in COMPRESSED.map(|name| texts.join(name)).into_iter().chain([tree.join(PAGES)]) {
        // `n` leaves time and name out, so that the same files make the same package.
        let command = format!("gzip -9n {}", name.display());
        shell::run(Command::new("sh").args(["-c", &command]))?;
    }

    let architecture = shell::read(Command::new("dpkg").arg("--print-architecture"))?;
    let control =
        control(&version, architecture.trim(), &libraries(&placed, folder.path())?, &tree)?;
    let debian = tree.join("DEBIAN");
    fs::create_dir(&debian)?;
    fs::write(debian.join("control"), control)?;
    fs::write(debian.join("conffiles"), CONFFILES)?;
    for script in SCRIPTS {
        place(&shell::root().join("systemd/debian").join(script), &debian.join(script), 0o755)?;
    }
    sums(&tree, &debian.join("md5sums"))?;
    readable(&tree)?;
    fs::create_dir_all(out)?;
    let package = out.join(format!("chaperone_{version}_{}.deb", architecture.trim()));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree).arg(&package);
    shell::read(build.env("SOURCE_DATE_EPOCH", time))?;
    Ok(package)
}

/// Of what is packaged, in seconds: no file in the package is younger, so that the same sources make
/// the same package.
fn time() -> Result<String> {
    if let Ok(said) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(said);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(shell::root());
    let said = shell::read(&mut git)
        .context("there is no commit that the package is of: set SOURCE_DATE_EPOCH to its time")?;
    Ok(said.trim().to_owned())
}

/// As Debian asks for beside the project's own.
fn changes(version: &str, time: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", "--date", &format!("@{time}")]).env("LC_ALL", "C");
    let date = shell::read(&mut date).context("SOURCE_DATE_EPOCH is no number of seconds")?;
    Ok(format!(
        "chaperone ({version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n \
         -- {MAINTAINER}  {}\n",
        date.trim()
    ))
}

/// Manual pages and completions, as the program itself writes them.
fn documents(binary: &Path, folder: &Path, tree: &Path) -> Result<()> {
    let written = folder.join("documents");
    shell::read(Command::new(binary).arg("documents").arg(&written))?;
    for (name, to) in [
        ("chaperone.bash", "usr/share/bash-completion/completions/chaperone"),
        ("_chaperone", "usr/share/zsh/vendor-completions/_chaperone"),
        ("chaperone.fish", "usr/share/fish/vendor_completions.d/chaperone.fish"),
    ] {
        place(&written.join(name), &tree.join(to), 0o644)?;
    }
    for entry in fs::read_dir(&written)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|kind| kind == "1") {
            place(&entry.path(), &tree.join("usr/share/man/man1").join(entry.file_name()), 0o644)?;
        }
    }
    Ok(())
}

/// The packages whose libraries a binary is linked to, as dpkg-shlibdeps finds them.
fn libraries(binary: &Path, folder: &Path) -> Result<String> {
    // It insists on a source package around it.
    fs::create_dir_all(folder.join("debian"))?;
    fs::write(
        folder.join("debian/control"),
        "Source: chaperone\n\nPackage: chaperone\nArchitecture: any\n",
    )?;
    let mut command = Command::new("dpkg-shlibdeps");
    command.current_dir(folder).arg("-O").arg("-e").arg(binary);
    let said = shell::read(&mut command)?;
    let depends = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    Ok(depends.context("dpkg-shlibdeps named no libraries")?.to_owned())
}

fn control(version: &str, architecture: &str, libraries: &str, tree: &Path) -> Result<String> {
    let size = shell::read(Command::new("du").args(["-sk", "--apparent-size"]).arg(tree))?;
    let size = size.split_whitespace().next().unwrap_or("0").to_owned();
    Ok(format!(
        "Package: chaperone\nVersion: {version}\nArchitecture: {architecture}\n\
         Maintainer: {MAINTAINER}\nInstalled-Size: {size}\n\
         Depends: {libraries}, systemd (>= 249)\nSection: admin\nPriority: optional\n\
         Description: records and guards what autonomous agents do to databases and servers\n \
         A daemon that is handed every PostgreSQL and SSH connection that agents'\n \
         service accounts open, knows which program opened it, decides on every\n \
         command, masks what agents may not see, and keeps a log that proves that it\n \
         was not altered.\n .\n \
         Nothing is enabled by installing it: see /usr/share/doc/chaperone/operators.md.\n"
    ))
}

fn sums(tree: &Path, to: &Path) -> Result<()> {
    let script = "find . -type f -not -path './DEBIAN/*' -not -path './etc/*' -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 md5sum";
    let sums = shell::read(Command::new("sh").args(["-c", script]).current_dir(tree))?;
    fs::write(to, sums).with_context(|| format!("{} cannot be written", to.display()))
}

/// Folders are everybody's to look into, whatever the caller's umask is.
fn readable(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            readable(&entry.path())?;
        }
    }
    for file in ["control", "conffiles", "md5sums"].map(|name| folder.join(name)) {
        if folder.ends_with("DEBIAN") {
            fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

/// A file that everybody may read, whatever the caller's umask is.
fn written(to: &Path, text: &str) -> Result<()> {
    fs::write(to, text).with_context(|| format!("{} cannot be written", to.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o644))?)
}

fn place(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("{} cannot be packaged", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// Looks at a package as those would who get it: unpacks it, and has the program in it check the
/// configuration in it.
fn examine(package: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    shell::read(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder.path()))?;
    let config = folder.path().join("etc/chaperone/chaperone.toml");
    let binary = folder.path().join("usr/bin/chaperone");
    shell::read(Command::new(binary).arg("check").arg("--config").arg(config))
        .context("the packaged program does not take the packaged configuration")?;
    if shell::on_path("lintian") {
        let mut lintian = Command::new("lintian");
        lintian.args(["--fail-on", "error", "--allow-root"]).arg(package);
        shell::read(&mut lintian)?;
    } else {
        eprintln!("note: lintian is not installed here, and did not look at the package");
    }
    if !package.is_file() {
        bail!("{} is not there", package.display());
    }
    Ok(())
}
