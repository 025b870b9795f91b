//! What the licences of the libraries in the binary ask for: their texts, in the package.
//!
//! Belongs here: which libraries are in it, and where their texts are. Which licences may come in at
//! all is for `deny.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// For libraries that bring no text: a file of the library's name.
const OURS: &str = "systemd/debian/notices";
/// It is on every Debian.
const COMMON: &str = "Apache-2.0: its text is in /usr/share/common-licenses/Apache-2.0\n";
const STARTS: [&str; 5] = ["license", "licence", "copying", "copyright", "notice"];
/// Code that happens to be called like that.
const CODE: [&str; 5] = ["rs", "c", "h", "py", "go"];

/// Each text once, below the names of the libraries that it is for.
pub(super) fn collect() -> Result<String> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for library in libraries()? {
        for text in library.texts()? {
            texts.entry(text).or_default().insert(library.name.clone());
        }
    }
    // By name, not by text.
    let mut parts: Vec<_> = texts.into_iter().map(|(text, names)| (names, text)).collect();
    parts.sort();
    let mut all = String::from(
        "chaperone is linked with these libraries; the name of each stands above its licence.\n",
    );
    let line = "-".repeat(79);
    for (names, text) in parts {
        let names: Vec<_> = names.into_iter().collect();
        let (names, text) = (names.join(", "), text.trim_end());
        let _ = write!(all, "\n{line}\n{names}\n{line}\n\n{text}\n");
    }
    Ok(all)
}

/// One that is linked into the binary.
struct Library {
    name: String,
    /// As SPDX.
    licence: String,
    folder: PathBuf,
}

impl Library {
    fn texts(&self) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        find(&self.folder, &mut texts)?;
        let ours = shell::root().join(OURS).join(&self.name);
        if ours.exists() {
            texts.push(read(&ours)?);
        }
        if texts.is_empty() && self.licence.split([' ', '/', '(', ')']).any(|id| id == "Apache-2.0")
        {
            texts.push(COMMON.to_owned());
        }
        if texts.is_empty() {
            bail!(
                "{} ({}) brings no text of its licence: put it into {OURS}/{0}",
                self.name,
                self.licence
            );
        }
        Ok(texts)
    }
}

/// Those of the daemon's binary; none of ours, and none that only builds.
fn libraries() -> Result<Vec<Library>> {
    let tree = shell::read(shell::cargo().args([
        "tree",
        "--package",
        "chaperone",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    let linked: BTreeSet<_> = tree.lines().filter_map(name_and_version).collect();
    let metadata = shell::read(shell::cargo().args(["metadata", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("Cargo names no packages")?;
    let text = |package: &Value, key: &str| {
        package[key].as_str().map(str::to_owned).with_context(|| format!("a package has no {key}"))
    };
    let mut found = Vec::new();
    for package in packages.iter().filter(|package| !package["source"].is_null()) {
        let (name, version) = (text(package, "name")?, text(package, "version")?);
        if linked.contains(&(name.as_str(), version.as_str())) {
            let manifest = PathBuf::from(text(package, "manifest_path")?);
            let folder = manifest.parent().context("a manifest is in no folder")?.to_owned();
            found.push(Library { name, licence: text(package, "license")?, folder });
        }
    }
    Ok(found)
}

/// `name v1.2.3 (…)`, as `cargo tree` writes it.
fn name_and_version(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

fn find(folder: &Path, texts: &mut Vec<String>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, texts)?;
        } else if is_licence(&path) {
            texts.push(read(&path)?);
        }
    }
    Ok(())
}

fn is_licence(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let code = path.extension().is_some_and(|kind| CODE.iter().any(|code| kind == *code));
    !code && STARTS.iter().any(|start| name.starts_with(start))
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_from_code() {
        for name in ["LICENSE", "licence.md", "LICENSE-MIT", "COPYING", "NOTICE.txt"] {
            assert!(is_licence(Path::new(name)), "{name}");
        }
        for name in ["license.rs", "copyright.py", "README.md"] {
            assert!(!is_licence(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn a_library_without_a_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let library = |licence: &str| Library {
            name: "no-such-library".into(),
            licence: licence.into(),
            folder: folder.path().into(),
        };
        let error = library("MIT").texts().unwrap_err().to_string();
        assert!(error.contains("no-such-library (MIT) brings no text"), "{error}");
        assert_eq!(library("MIT OR Apache-2.0").texts().unwrap(), [COMMON]);
        fs::write(folder.path().join("LICENSE"), "as you like\n").unwrap();
        assert_eq!(library("MIT").texts().unwrap(), ["as you like\n"]);
    }

    #[test]
    fn lines_of_cargos_tree_are_read() {
        assert_eq!(name_and_version("aya v0.13.1 (*)"), Some(("aya", "0.13.1")));
        assert_eq!(name_and_version(""), None);
    }
}
