//! The process that is the disk, and how a test speaks with it.
//!
//! A process cannot serve the file system that it maps files of: to unmap one the kernel waits for
//! its pages to be written while it holds the lock that the server needs to go on.
//!
//! Does not belong here: the disk (`disk.rs`), the file system (`mount.rs`).

use std::{
    env,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use fastrand::Rng;
use nix::mount::{MntFlags, umount2};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    disk::{Disk, Faults},
    mount::{lock, mount},
};

const SOCKET: &str = "POWER_CUT_SOCKET";
const MOUNTED: &str = "mounted";

#[derive(Debug, Deserialize, Serialize)]
enum Ask {
    Faults(Faults),
    CutAfter(u64),
    /// What is left goes to this folder. Answers with whether the power was gone already.
    Leave {
        seed: u64,
        folder: PathBuf,
    },
}

/// A disk that is mounted. Dropped after all that has files of it open.
pub(crate) struct Mounted {
    server: Child,
    socket: BufReader<UnixStream>,
    folder: tempfile::TempDir,
}

impl Mounted {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(MOUNTED)).expect("made");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        let server = Command::new(env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "server::serve"])
            .env(SOCKET, &path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        let (socket, _) = listener.accept().expect("it connects");
        let mut mounted = Self { server, socket: BufReader::new(socket), folder };
        let done: bool = mounted.hear();
        assert!(done, "mounting needs root and /dev/fuse");
        mounted
    }

    /// Where the log is: its folder is made by it.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join(MOUNTED).join("log/log.sqlite")
    }

    pub(crate) fn set(&mut self, faults: Faults) {
        self.ask(&Ask::Faults(faults));
    }

    /// The power goes in the midst of this change from now.
    pub(crate) fn cut_after(&mut self, changes: u64) {
        self.ask(&Ask::CutAfter(changes));
    }

    /// Takes what a disk could hold to another folder. Answers whether the power was gone already.
    pub(crate) fn leave(&mut self, seed: u64, folder: &Path) -> bool {
        self.ask(&Ask::Leave { seed, folder: folder.into() })
    }

    fn ask(&mut self, ask: &Ask) -> bool {
        say(self.socket.get_ref(), ask);
        self.hear()
    }

    fn hear<T: DeserializeOwned>(&mut self) -> T {
        hear(&mut self.socket).expect("an answer")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a test that failed may have files open.
        let _ = umount2(&self.folder.path().join(MOUNTED), MntFlags::MNT_DETACH);
        let _ = self.socket.get_ref().shutdown(std::net::Shutdown::Both);
        let _ = self.server.wait();
    }
}

fn say(mut socket: &UnixStream, what: &impl Serialize) {
    let mut line = serde_json::to_vec(what).expect("it can be said");
    line.push(b'\n');
    socket.write_all(&line).expect("heard");
}

fn hear<T: DeserializeOwned>(socket: &mut BufReader<UnixStream>) -> Option<T> {
    let mut line = String::new();
    socket.read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

#[test]
#[ignore = "the tests start it as a process of its own"]
fn serve() {
    let Ok(path) = env::var(SOCKET) else { return };
    let socket = UnixStream::connect(&path).expect("the test listens");
    let mut asked = BufReader::new(socket.try_clone().expect("cloned"));
    let disk = Arc::new(Mutex::new(Disk::new()));
    let session = mount(disk.clone(), &Path::new(&path).with_file_name(MOUNTED));
    say(&socket, &session.is_ok());
    while let Some(ask) = hear(&mut asked) {
        let mut disk = lock(&disk);
        let was_off = disk.is_off();
        match ask {
            Ask::Faults(faults) => disk.faults = faults,
            Ask::CutAfter(changes) => disk.cut_after(changes),
            Ask::Leave { seed, folder } => {
                disk.cut();
                disk.leave(&mut Rng::with_seed(seed), &folder).expect("written");
            }
        }
        say(&socket, &was_off);
    }
}
