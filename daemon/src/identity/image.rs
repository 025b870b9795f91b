//! Which image a container was started from, by the state that the engine keeps on disk: Podman and
//! CRI-O (containers/storage), and Docker. Only root's files count, and no engine's socket is asked.
//!
//! Not here: which container a process is in (`run`). containerd keeps this in a database of its own
//! format, which is not read.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chaperone_model::Digest;
use serde::{Deserialize, de::DeserializeOwned};

use super::{digest::Digests, kept, lock};

/// Longest file of an engine's that is read, in bytes: a store has one for all its containers.
const LONGEST: u64 = 64 << 20;
/// Containers that are remembered.
const CONTAINERS: usize = 4096;
/// How soon a container that was not found is looked for again.
const RETRY: Duration = Duration::from_secs(5);

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// What the engine itself calls it by: Podman the digest of its manifest, Docker its id.
    pub(super) digest: Digest,
    /// All that it may be called by: this one, its id, and digests of its manifests.
    all: Vec<Digest>,
}

impl Image {
    fn new(digest: Digest, mut others: Vec<Digest>) -> Self {
        others.sort_unstable();
        others.dedup();
        others.retain(|other| *other != digest);
        others.insert(0, digest);
        Self { digest, all: others }
    }

    pub(super) fn digests(&self) -> &[Digest] {
        &self.all
    }
}

/// An image, or why it is not known.
pub(super) type Found = Result<Arc<Image>, String>;

/// Images of containers, by the container's id, which is never used again.
#[derive(Debug, Default)]
pub(super) struct Images(Mutex<HashMap<String, (Instant, Found)>>);

impl Images {
    /// The image of a container.
    pub(super) async fn of(&self, container: &str, stores: &[PathBuf], aside: &Digests) -> Found {
        if let Some((at, found)) = lock(&self.0).get(container)
            && (found.is_ok() || at.elapsed() < RETRY)
        {
            return found.clone();
        }
        let (id, stores) = (container.to_owned(), stores.to_vec());
        let found = aside.aside(move || find(&stores, &id)).await;
        let found = found
            .unwrap_or_else(|| Err("the container engine's files could not be read in time".into()))
            .map(Arc::new);
        let mut known = lock(&self.0);
        if known.len() >= CONTAINERS {
            known.clear();
        }
        known.insert(container.to_owned(), (Instant::now(), found.clone()));
        found
    }
}

fn find(stores: &[PathBuf], container: &str) -> Result<Image, String> {
    let mut wrong = None;
    for store in stores {
        for look in [in_storage, in_docker] {
            match look(store, stores, container) {
                Ok(Some(image)) => return Ok(image),
                Ok(None) => {}
                Err(why) => wrong = wrong.or(Some(why)),
            }
        }
    }
    let short = container.get(..12).unwrap_or(container);
    Err(wrong.unwrap_or_else(|| format!("no container engine's files have container {short}")))
}

#[derive(Deserialize)]
struct StorageContainer {
    id: String,
    #[serde(default)]
    image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StorageImage {
    id: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    big_data_digests: BTreeMap<String, String>,
}

/// As containers/storage has it: a folder a storage driver for containers, one for images. Those of
/// containers that need not outlive a reboot are in a file, or a store, of their own.
fn in_storage(store: &Path, stores: &[PathBuf], id: &str) -> Result<Option<Image>, String> {
    let mut image = None;
    for folder in folders(store, "-containers")? {
        for file in ["containers.json", "volatile-containers.json"] {
            let all: Vec<StorageContainer> = read(&folder.join(file))?.unwrap_or_default();
            image = image.or(all.into_iter().find(|container| container.id == id));
        }
    }
    let Some(image) = image.map(|container| container.image) else { return Ok(None) };
    let Ok(id) = image.parse::<Digest>() else {
        return Err("the container was started from no image".into());
    };
    for store in stores {
        for folder in folders(store, "-images")? {
            let all: Vec<StorageImage> = read(&folder.join("images.json"))?.unwrap_or_default();
            let Some(found) = all.into_iter().find(|known| known.id == image) else { continue };
            // A list of manifests, one an architecture, is a manifest as well.
            let manifests = found
                .big_data_digests
                .iter()
                .filter(|(name, _)| *name == "manifest" || name.starts_with("manifest-"))
                .filter_map(|(_, digest)| parsed(digest));
            let others = manifests.chain([id]).collect();
            return Ok(Some(Image::new(parsed(&found.digest).unwrap_or(id), others)));
        }
    }
    Ok(Some(Image::new(id, Vec::new())))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerContainer {
    #[serde(rename = "ID")]
    id: String,
    image: String,
    /// Where containerd's store of images is used: the one of several architectures.
    image_manifest: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Repositories {
    /// By name of a repository: ids of images by reference.
    #[serde(default)]
    repositories: HashMap<String, HashMap<String, String>>,
}

fn in_docker(store: &Path, _: &[PathBuf], id: &str) -> Result<Option<Image>, String> {
    let path = store.join("containers").join(id).join("config.v2.json");
    let Some(container) = read::<DockerContainer>(&path)? else { return Ok(None) };
    let Some(digest) = parsed(&container.image).filter(|_| container.id == id) else {
        return Err("the container was started from no image".into());
    };
    let mut others: Vec<Digest> =
        container.image_manifest.iter().filter_map(|manifest| parsed(&manifest.digest)).collect();
    for folder in folders(&store.join("image"), "")? {
        let all: Repositories = read(&folder.join("repositories.json"))?.unwrap_or_default();
        let references = all.repositories.values().flatten();
        others.extend(
            references
                .filter(|(_, image)| **image == container.image)
                .filter_map(|(reference, _)| parsed(reference.split_once('@')?.1)),
        );
    }
    Ok(Some(Image::new(digest, others)))
}

/// Folders in a folder whose names end so. What is in them counts where it is root's.
fn folders(folder: &Path, end: &str) -> Result<Vec<PathBuf>, String> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| format!("cannot read {}: {error}", folder.display()))?,
    };
    let named = |path: &PathBuf| path.to_string_lossy().ends_with(end) && path.is_dir();
    Ok(entries.flatten().map(|entry| entry.path()).filter(named).collect())
}

/// `None` where there is no such file.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let Some(file) = kept::open(path)? else { return Ok(None) };
    let read = serde_json::from_reader(BufReader::new(file.take(LONGEST)));
    read.map(Some).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn parsed(text: &str) -> Option<Digest> {
    text.strip_prefix("sha256:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    fn digest(of: &str) -> Digest {
        of.repeat(64).parse().expect("a digest")
    }

    fn write(path: &Path, content: &str) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
    }

    /// A store of containers/storage's: a container (4…) of image 1…, with manifests 2… and 3….
    fn storage(store: &Path) -> PathBuf {
        let [id, manifest, list, container] = ["1", "2", "3", "4"].map(|digit| digit.repeat(64));
        let containers = store.join("overlay-containers/containers.json");
        let entries = format!(r#"[{{"id":"x"}},{{"id":"{container}","image":"{id}","names":[]}}]"#);
        write(&containers, &entries);
        let images = format!(
            r#"[{{"id":"{id}","digest":"sha256:{manifest}","big-data-digests":{{
                "manifest":"sha256:{manifest}","manifest-sha256:{list}":"sha256:{list}",
                "signature-x":"sha256:{}"}}}}]"#,
            "9".repeat(64)
        );
        write(&store.join("overlay-images/images.json"), &images);
        containers
    }

    #[test]
    fn podman_knows_an_image_by_its_manifests_and_its_id() {
        let folder = tempfile::tempdir().expect("a folder");
        storage(folder.path());
        let stores = ["/nowhere".into(), folder.path().to_path_buf()];
        let found = find(&stores, &"4".repeat(64)).expect("found");
        assert_eq!(found.digest, digest("2"));
        assert_eq!(found.all, [digest("2"), digest("1"), digest("3")], "no signature's");
        let missing = find(&stores, &"5".repeat(64)).expect_err("no such container");
        assert!(missing.contains("555555555555"), "{missing}");
    }

    #[test]
    fn podman_has_containers_that_a_reboot_ends_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let (lasting, passing) = (folder.path().join("lasting"), folder.path().join("passing"));
        let containers = storage(&lasting);
        let moved = passing.join("overlay-containers/volatile-containers.json");
        write(&moved, &fs::read_to_string(&containers).expect("read"));
        fs::remove_file(containers).expect("gone");
        let found = find(&[lasting, passing], &"4".repeat(64)).expect("found");
        assert_eq!(found.digest, digest("2"));
    }

    #[test]
    fn docker_knows_an_image_by_its_id_and_what_registries_call_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let [id, pulled, other, container] = ["1", "2", "3", "4"].map(|digit| digit.repeat(64));
        let config = format!(r#"{{"ID":"{container}","Image":"sha256:{id}","Config":{{}}}}"#);
        write(&folder.path().join(format!("containers/{container}/config.v2.json")), &config);
        let repositories = format!(
            r#"{{"Repositories":{{"alpine":{{"alpine:3":"sha256:{id}","alpine@sha256:{pulled}":"sha256:{id}"}},
                "b":{{"b@sha256:{other}":"sha256:{other}"}}}}}}"#
        );
        write(&folder.path().join("image/overlay2/repositories.json"), &repositories);
        let found = find(&[folder.path().into()], &container).expect("found");
        assert_eq!(found.all, [digest("1"), digest("2")]);
        assert_eq!(found.digest, digest("1"));
    }

    #[test]
    fn p3_what_others_than_root_can_write_says_nothing_of_an_image() {
        let folder = tempfile::tempdir().expect("a folder");
        let containers = storage(folder.path());
        let found = || find(&[folder.path().into()], &"4".repeat(64));
        assert!(found().is_ok());
        fs::set_permissions(&containers, fs::Permissions::from_mode(0o666)).expect("set");
        assert!(found().is_err(), "others may write it");
        fs::set_permissions(&containers, fs::Permissions::from_mode(0o600)).expect("set");
        if nix::unistd::geteuid().is_root() {
            chown(folder.path(), Some(64001), None).expect("given away");
            let why = found().expect_err("it is the agent's own store");
            assert!(why.contains("others than root"), "{why}");
        }
    }

    #[test]
    fn a_container_of_a_folder_has_no_image() {
        let folder = tempfile::tempdir().expect("a folder");
        let entries = format!(r#"[{{"id":"{}","image":""}}]"#, "4".repeat(64));
        write(&folder.path().join("vfs-containers/containers.json"), &entries);
        assert!(find(&[folder.path().into()], &"4".repeat(64)).is_err());
    }
}
