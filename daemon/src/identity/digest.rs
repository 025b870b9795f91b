//! Hashes of programs and scripts, remembered by what the kernel says of their inode.
//!
//! A file that is slow to be read (it is long, or its file system is the agent's own) holds up
//! nobody but who asks for it.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chaperone_kernel::Image;
use chaperone_model::Digest;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, time::timeout};

/// Files that are hashed at a time.
const AT_A_TIME: usize = 4;
/// How long a hash may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest file that is hashed, in bytes.
const LONGEST: u64 = 2 << 30;
/// Hashes that are remembered.
const KEPT: usize = 16_384;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Digests {
    known: Arc<Mutex<HashMap<Image, Digest>>>,
    turn: Arc<Semaphore>,
}

impl Default for Digests {
    fn default() -> Self {
        Self { known: Arc::default(), turn: Arc::new(Semaphore::new(AT_A_TIME)) }
    }
}

impl Digests {
    /// The hash of a file that was hashed before.
    pub(crate) fn known(&self, image: &Image) -> Option<Digest> {
        lock(&self.known).get(image).copied()
    }

    /// The file is this one, too: file systems that lie on others show two inodes for one file.
    pub(crate) fn also(&self, image: &Image, digest: Digest) {
        if image.inode != 0 {
            remember(&mut lock(&self.known), *image, digest);
        }
    }

    /// Hashes what `open` opens, unless its inode is known. `None` where it cannot be read, is too
    /// long, is no file, takes too long, or is changed meanwhile. Answers the inode as well.
    pub(crate) async fn of(
        &self,
        open: impl FnOnce() -> io::Result<File> + Send + 'static,
    ) -> Option<(Image, Digest)> {
        let known = self.known.clone();
        let turn = self.turn.clone();
        let hashed = async move {
            let turn = turn.acquire_owned().await.ok()?;
            // Whoever hangs in there keeps the turn.
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                hash(open, &known)
            })
            .await
            .ok()?
        };
        timeout(PATIENCE, hashed).await.ok()?
    }
}

fn hash(
    open: impl FnOnce() -> io::Result<File>,
    known: &Mutex<HashMap<Image, Digest>>,
) -> Option<(Image, Digest)> {
    let mut file = open().ok()?;
    let before = image(&file).ok()??;
    if let Some(digest) = lock(known).get(&before) {
        return Some((before, *digest));
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut left = LONGEST;
    loop {
        let count = file.read(&mut buffer).ok()?;
        if count == 0 {
            break;
        }
        left = left.checked_sub(count as u64)?;
        hash.update(buffer.get(..count)?);
    }
    let digest = Digest(hash.finalize().into());
    if image(&file).ok()?? != before {
        return None;
    }
    remember(&mut lock(known), before, digest);
    Some((before, digest))
}

/// A file's inode as the kernel side notes it; `None` where it is no file that can be hashed.
pub(crate) fn image(file: &File) -> io::Result<Option<Image>> {
    let about = file.metadata()?;
    if !about.is_file() || about.len() > LONGEST {
        return Ok(None);
    }
    let unsigned = |number: i64| number.cast_unsigned();
    let nanoseconds = |number: i64| u32::try_from(number).unwrap_or(0);
    let (major, minor) = (nix::sys::stat::major(about.dev()), nix::sys::stat::minor(about.dev()));
    Ok(Some(Image {
        inode: about.ino(),
        size: about.len(),
        mtime_s: unsigned(about.mtime()),
        ctime_s: unsigned(about.ctime()),
        mtime_ns: nanoseconds(about.mtime_nsec()),
        ctime_ns: nanoseconds(about.ctime_nsec()),
        // `MKDEV` of the kernel (include/linux/kdev_t.h).
        device: u32::try_from(major << 20 | minor).unwrap_or(0),
        reserved: 0,
    }))
}

/// All are forgotten at once where they are too many: to look a file up again costs its hash.
fn remember(known: &mut HashMap<Image, Digest>, image: Image, digest: Digest) {
    if known.len() >= KEPT {
        known.clear();
    }
    known.insert(image, digest);
}

/// A thread that panicked holds no half-made change of it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_file_is_hashed_once_and_again_when_it_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        fs::write(&path, "abc").expect("written");
        let digests = Digests::default();
        let of = || {
            let path = path.clone();
            digests.of(move || File::open(path))
        };
        let (image, digest) = of().await.expect("hashed");
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "FIPS 180-4's own example"
        );
        assert_eq!(digests.known(&image), Some(digest));
        // Another file under the same name.
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "abd").expect("written");
        assert_ne!(of().await.expect("hashed").1, digest);
    }

    #[tokio::test]
    async fn p8_what_is_no_file_is_not_read() {
        let digests = Digests::default();
        assert!(digests.of(|| File::open("/dev/zero")).await.is_none());
        assert!(digests.of(|| File::open("/")).await.is_none());
        assert!(digests.of(|| File::open("/nowhere")).await.is_none());
    }
}
