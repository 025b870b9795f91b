//! Filling what the second net asks: what agents may reach beside the targets, and which Unix sockets
//! are targets'.

use std::{fs, net::Ipv6Addr, os::unix::fs::MetadataExt, path::Path};

use aya::{Pod, maps::lpm_trie::Key};
use chaperone_abi::{EGRESS_DENY, EGRESS_RECORD, REACH_BITS, Reach, SocketFile, UNIX_NAME, limits};

use crate::{
    Interception, KernelError, Watch,
    notes::words,
    tables::{Others, fits, replace, replace_trie},
};

/// What is done where an agent goes to what is not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Egress {
    /// It is recorded.
    Record,
    /// It is refused, and recorded.
    Deny,
}

/// Unix sockets that are targets'. The number is an index into the daemon's list of targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixSockets {
    names: Vec<([u8; UNIX_NAME], u32)>,
    files: Vec<(FilePod, u32)>,
}

impl UnixSockets {
    /// Adds a socket by its path, or by its name in the abstract namespace, which begins with `@`.
    /// A path counts as it is and as it is without links, and so does the file that it names now.
    /// Answers whether the name fits.
    pub fn add(&mut self, name: &str, target: u32) -> bool {
        if let Some(name) = name.strip_prefix('@') {
            return self.add_name(0, name.as_bytes(), target);
        }
        let path = Path::new(name);
        let mut fits = self.add_name(b'/', name.trim_start_matches('/').as_bytes(), target);
        // The server may have bound it by either.
        let real = path.parent().zip(path.file_name()).and_then(|(folder, file)| {
            fs::canonicalize(folder).ok().map(|folder| folder.join(file))
        });
        if let Some(real) = real.as_deref().and_then(Path::to_str) {
            fits &= self.add_name(b'/', real.trim_start_matches('/').as_bytes(), target);
        }
        // The daemon's own view may hide some, such as `/tmp`: process 1 has the host's.
        let hosts = Path::new("/proc/1/root").join(name.trim_start_matches('/'));
        if let Ok(found) = fs::metadata(hosts).or_else(|_| fs::metadata(path)) {
            // As the kernel writes it within itself (include/linux/kdev_t.h, MKDEV).
            let device = found.dev();
            let device = (nix::sys::stat::major(device) << 20) | nix::sys::stat::minor(device);
            let file = SocketFile {
                inode: found.ino(),
                device: u32::try_from(device).unwrap_or(0),
                reserved: 0,
            };
            if !self.files.iter().any(|(known, _)| known.0 == file) {
                self.files.push((FilePod(file), target));
            }
        }
        fits
    }

    fn add_name(&mut self, first: u8, rest: &[u8], target: u32) -> bool {
        let mut name = [0; UNIX_NAME];
        let Some(room) = name.get_mut(1..=rest.len()) else { return false };
        room.copy_from_slice(rest);
        name[0] = first;
        if !self.names.iter().any(|(known, _)| *known == name) {
            self.names.push((name, target));
        }
        true
    }
}

impl Interception {
    /// Records or refuses exactly these agents' connections to what is neither a target nor in
    /// `reach`. Agents go by their numbers.
    ///
    /// # Errors
    /// Where they are more than fit, or the kernel refuses.
    pub fn set_egress(
        &mut self,
        agents: &[(u32, Egress)],
        reach: &[(u32, Watch)],
    ) -> Result<(), KernelError> {
        fits("agents with `egress`", agents.len(), limits::EGRESS)?;
        fits("addresses in `reach`", reach.len(), limits::REACH)?;
        let reach: Vec<_> = reach.iter().map(|(agent, watch)| (key(*agent, watch), 0)).collect();
        // What may be reached is there before the rest is refused.
        replace_trie(&mut self.trie("REACH")?, &reach, Others::Remove)?;
        let agents: Vec<_> = agents
            .iter()
            .map(|(agent, egress)| {
                let mode = match egress {
                    Egress::Record => EGRESS_RECORD,
                    Egress::Deny => EGRESS_DENY,
                };
                (*agent, mode)
            })
            .collect();
        replace(&mut self.hash("EGRESS")?, &agents, |_| false)
    }

    /// Refuses agents exactly these Unix sockets, where the kernel takes security modules.
    ///
    /// # Errors
    /// Where they are more than fit, or the kernel refuses.
    pub fn set_unix_sockets(&mut self, sockets: &UnixSockets) -> Result<(), KernelError> {
        fits("names of `sockets`", sockets.names.len(), limits::UNIX_SOCKETS)?;
        replace(&mut self.hash("UNIX_NAMES")?, &sockets.names, |_| false)?;
        replace(&mut self.hash("UNIX_FILES")?, &sockets.files, |_| false)
    }
}

fn key(agent: u32, watch: &Watch) -> Key<ReachPod> {
    let (address, bits, port) = match *watch {
        Watch::Any { port } => (Ipv6Addr::UNSPECIFIED, 0, port),
        Watch::Net { address: std::net::IpAddr::V4(a), bits, port } => {
            (a.to_ipv6_mapped(), 96 + u32::from(bits), port)
        }
        Watch::Net { address: std::net::IpAddr::V6(a), bits, port } => (a, bits.into(), port),
    };
    let reach =
        Reach { agent, port: port.to_be_bytes(), reserved: [0; 2], address: words(address) };
    Key::new(REACH_BITS + bits, ReachPod(reach))
}

#[repr(transparent)]
#[derive(Clone, Copy, PartialEq)]
struct ReachPod(Reach);

#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FilePod(SocketFile);

// SAFETY: plain structures of integers and bytes without padding (sizes asserted in the ABI crate),
// so that any bytes are a value.
unsafe impl Pod for ReachPod {}
// SAFETY: as above.
unsafe impl Pod for FilePod {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sockets_name_is_padded_and_an_abstract_one_begins_with_nul() {
        let mut sockets = UnixSockets::default();
        assert!(sockets.add("@db", 3));
        assert!(sockets.add("/nowhere/.s.PGSQL.5432", 4));
        assert_eq!(sockets.names[0].0[..4], *b"\0db\0");
        assert_eq!(sockets.names[1].0[..24], *b"/nowhere/.s.PGSQL.5432\0\0");
        assert!(!sockets.add(&format!("/{}", "x".repeat(UNIX_NAME)), 0));
    }

    #[test]
    fn a_socket_counts_by_links_and_by_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::create_dir(&real).expect("made");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        let _server = std::os::unix::net::UnixListener::bind(real.join("s")).expect("bound");
        let mut sockets = UnixSockets::default();
        assert!(sockets.add(&link.join("s").display().to_string(), 0));
        assert_eq!((sockets.names.len(), sockets.files.len()), (2, 1));
        assert!(sockets.add(&real.join("s").display().to_string(), 0));
        assert_eq!((sockets.names.len(), sockets.files.len()), (2, 1));
    }
}
