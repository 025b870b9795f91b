//! Which image a container was made from, by what its engine keeps on the disk.
//!
//! Podman, CRI-O and Buildah keep lists (containers/storage: `*-containers/containers.json`,
//! `*-images/images.json`), Docker a file for each container (`containers/ID/config.v2.json`) and a
//! list of what registries call its images (`image/*/repositories.json`). No engine is asked: who
//! answers at a socket cannot be told. A file counts where none but root can have written it, so
//! that what a user's own engine keeps in his home does not.

use std::{
    collections::HashMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use chaperone_model::{ContainerImage, Digest};
use serde::{Deserialize, de::DeserializeOwned};

use super::trusted::{self, TrustError};

/// Longest file of an engine's that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// Why an image is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(transparent)]
    Untrusted(#[from] TrustError),
    #[error("cannot read {}: {reason}", path.display())]
    Wrong { path: PathBuf, reason: String },
    #[error("container {0} was made from no image")]
    None(String),
    #[error("no engine that keeps its state in a folder of `containers` knows container {0}")]
    Unknown(String),
}

/// The image of a container. `folders` are where engines keep their state.
pub(super) fn image(folders: &[PathBuf], container: &str) -> Result<ContainerImage, EngineError> {
    let mut wrong = None;
    for folder in folders {
        let found = match stored(folder, container) {
            Ok(None) => docker(folder, container),
            found => found,
        };
        match found {
            Ok(Some(id)) => {
                // Podman can keep images apart from containers.
                let mut digests: Vec<_> = folders.iter().flat_map(|f| digests(f, id)).collect();
                digests.sort_unstable();
                digests.dedup();
                return Ok(ContainerImage { id, digests });
            }
            Ok(None) => {}
            Err(error) => wrong = wrong.or(Some(error)),
        }
    }
    Err(wrong.unwrap_or_else(|| EngineError::Unknown(container.to_owned())))
}

/// Whether a folder is one whose files count; `false` where it is not there.
pub(crate) fn examine(folder: &Path) -> Result<bool, EngineError> {
    match real(folder) {
        Some(folder) => Ok(trusted::folder(&folder).map(|()| true)?),
        None => Ok(false),
    }
}

#[derive(Deserialize)]
struct StoredContainer {
    id: String,
    #[serde(default)]
    image: String,
}

#[derive(Deserialize)]
struct StoredImage {
    id: String,
    digest: Option<String>,
    #[serde(default, rename = "big-data-digests")]
    data: HashMap<String, String>,
}

#[derive(Deserialize)]
struct DockerContainer {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Image")]
    image: String,
}

/// By repository, then by reference: an image's id.
#[derive(Deserialize)]
struct DockerRepositories {
    #[serde(rename = "Repositories")]
    all: HashMap<String, HashMap<String, String>>,
}

/// The image's id in containers/storage.
fn stored(folder: &Path, container: &str) -> Result<Option<Digest>, EngineError> {
    for kind in below(folder, "-containers") {
        // Of those made with `--rm` there is a list of its own.
        for list in ["containers.json", "volatile-containers.json"] {
            let all: Vec<StoredContainer> = read(&kind.join(list))?.unwrap_or_default();
            let Some(found) = all.into_iter().find(|entry| entry.id == container) else { continue };
            let image = Digest::named(&found.image);
            return image.map(Some).ok_or_else(|| EngineError::None(container.to_owned()));
        }
    }
    Ok(None)
}

/// The image's id in Docker's files.
fn docker(folder: &Path, container: &str) -> Result<Option<Digest>, EngineError> {
    let Some(folder) = real(folder) else { return Ok(None) };
    let path = folder.join("containers").join(container).join("config.v2.json");
    let found: Option<DockerContainer> = read(&path)?;
    let Some(found) = found.filter(|found| found.id == container) else { return Ok(None) };
    Digest::named(&found.image).map(Some).ok_or_else(|| EngineError::None(container.to_owned()))
}

/// What registries call an image, by the lists of this folder that count.
fn digests(folder: &Path, image: Digest) -> Vec<Digest> {
    let mut digests = Vec::new();
    for kind in below(folder, "-images") {
        let all: Vec<StoredImage> = read(&kind.join("images.json")).ok().flatten().unwrap_or_default();
        for found in all.into_iter().filter(|found| Digest::named(&found.id) == Some(image)) {
            digests.extend(found.digest.as_deref().and_then(Digest::named));
            let manifests = found.data.iter().filter(|(name, _)| name.starts_with("manifest"));
            digests.extend(manifests.filter_map(|(_, digest)| Digest::named(digest)));
        }
    }
    for driver in below(&folder.join("image"), "") {
        let all: Option<DockerRepositories> =
            read(&driver.join("repositories.json")).ok().flatten();
        let references = all.into_iter().flat_map(|all| all.all.into_values().flatten());
        let of_image = references.filter(|(_, id)| Digest::named(id) == Some(image));
        digests.extend(of_image.filter_map(|(name, _)| Digest::named(name.rsplit_once('@')?.1)));
    }
    digests
}

/// Folders in a folder whose names end so: engines name them by the driver of their file systems.
fn below(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = real(folder).and_then(|folder| fs::read_dir(folder).ok());
    let folders = entries.into_iter().flatten().flatten().filter(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entry.file_name().to_str().is_some_and(|name| name.ends_with(end))
    });
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

/// Operators move these folders to other disks, and leave a link: what counts is who could have
/// written there.
fn real(folder: &Path) -> Option<PathBuf> {
    fs::canonicalize(folder).ok()
}

/// `None` where there is no such file.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EngineError> {
    let file = match trusted::open(path) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let wrong = |reason: String| EngineError::Wrong { path: path.into(), reason };
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 > LONGEST {
        return Err(wrong("it is too long".into()));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("set");
    }

    fn hex(digit: &str) -> String {
        digit.repeat(64)
    }

    fn digest(digit: &str) -> Digest {
        hex(digit).parse().expect("a digest")
    }

    fn folder() -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = vec![folder.path().to_owned()];
        (folder, folders)
    }

    #[test]
    fn podmans_lists_tell_a_containers_image_and_its_digests() {
        let (folder, folders) = folder();
        let (one, two, known) = (hex("1"), hex("2"), hex("a"));
        let entry = |id: &str, image: &str| format!(r#"[{{"id":"{id}","image":"{image}","flags":{{}}}}]"#);
        let list = |name: &str| folder.path().join("overlay-containers").join(name);
        write(&list("containers.json"), &entry(&one, &known));
        write(&list("volatile-containers.json"), &entry(&two, ""));
        write(
            &folder.path().join("overlay-images/images.json"),
            &format!(
                r#"[{{"id":"{}","digest":"sha256:{}"}},{{"id":"{known}","digest":"sha256:{}",
                   "big-data-digests":{{"manifest":"sha256:{}","manifest-sha256:x":"sha256:{}","sha256:y":"sha256:{}"}}}}]"#,
                hex("9"), hex("8"), hex("b"), hex("b"), hex("c"), hex("d"),
            ),
        );
        let found = image(&folders, &one).expect("known");
        assert_eq!(found.id, digest("a"));
        assert_eq!(found.digests, [digest("b"), digest("c")], "not of what else is kept with it");
        assert!(matches!(image(&folders, &two), Err(EngineError::None(_))));
        assert!(matches!(image(&folders, &hex("3")), Err(EngineError::Unknown(_))));
        write(&list("containers.json"), "[{");
        assert!(matches!(image(&folders, &one), Err(EngineError::Wrong { .. })));
    }

    #[test]
    fn dockers_files_tell_a_containers_image_and_its_digests() {
        let (folder, folders) = folder();
        let (container, known) = (hex("1"), hex("a"));
        let path = folder.path().join("containers").join(&container).join("config.v2.json");
        write(&path, &format!(r#"{{"ID":"{container}","Image":"sha256:{known}","State":{{}}}}"#));
        write(
            &folder.path().join("image/overlay2/repositories.json"),
            &format!(
                r#"{{"Repositories":{{"r":{{"r:1":"sha256:{known}","r@sha256:{}":"sha256:{known}","r@sha256:{}":"sha256:{}"}}}}}}"#,
                hex("b"), hex("c"), hex("d"),
            ),
        );
        let found = image(&folders, &container).expect("known");
        assert_eq!((found.id, found.digests), (digest("a"), vec![digest("b")]));
        // A copy under another container's name.
        let other = folder.path().join("containers").join(hex("2")).join("config.v2.json");
        write(&other, &fs::read_to_string(&path).expect("read"));
        assert!(matches!(image(&folders, &hex("2")), Err(EngineError::Unknown(_))));
    }

    #[test]
    fn p3_an_engines_files_that_others_could_have_written_do_not_count() {
        let (folder, folders) = folder();
        let container = hex("1");
        let list = folder.path().join("vfs-containers/containers.json");
        write(&list, &format!(r#"[{{"id":"{container}","image":"{}"}}]"#, hex("a")));
        assert!(image(&folders, &container).is_ok() && examine(&folders[0]).is_ok_and(|is| is));
        let is_untrusted =
            || matches!(image(&folders, &container), Err(EngineError::Untrusted(_)));
        let set = |path: &Path, mode| {
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
        };
        set(&list, 0o660);
        assert!(is_untrusted(), "a group may write it");
        set(&list, 0o600);
        set(folder.path(), 0o777);
        assert!(is_untrusted() && examine(&folders[0]).is_err(), "others may put another there");
        set(folder.path(), 0o755);
        // A link to an engine's folder counts where what it leads to does.
        let outer = tempfile::tempdir().expect("a folder");
        let link = outer.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).expect("made");
        assert!(image(std::slice::from_ref(&link), &container).is_ok());
        if nix::unistd::geteuid().is_root() {
            chown(&list, Some(64001), None).expect("given away");
            assert!(is_untrusted(), "it is a user's own engine");
            chown(&list, Some(0), None).expect("taken back");
            chown(folder.path(), Some(64001), None).expect("given away");
            assert!(is_untrusted(), "its folder is a user's");
            let linked = image(&[link], &container);
            assert!(matches!(linked, Err(EngineError::Untrusted(_))), "by the link, too");
        }
        assert!(examine(Path::new("/nowhere")).is_ok_and(|is| !is));
    }
}
