//! What this host gives: mounts, type information, security modules. Reads, changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{KernelError, btf::Btf, sys};

/// Where a host's facts are read from.
#[derive(Clone, Debug)]
pub struct Host {
    /// The mount table.
    pub mounts: PathBuf,
    /// The kernel's own type information.
    pub btf: PathBuf,
    /// The list of active security modules.
    pub lsm: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            mounts: "/proc/self/mounts".into(),
            btf: "/sys/kernel/btf/vmlinux".into(),
            lsm: "/sys/kernel/security/lsm".into(),
        }
    }
}

impl Host {
    /// Where the cgroup v2 hierarchy is mounted: `/sys/fs/cgroup` on most hosts,
    /// `/sys/fs/cgroup/unified` on hybrid ones, anywhere on others.
    ///
    /// # Errors
    /// [`KernelError::NoCgroup2`] where the mount table has none.
    pub fn cgroup_root(&self) -> Result<PathBuf, KernelError> {
        self.mounted("cgroup2").ok_or_else(|| KernelError::NoCgroup2(self.mounts.clone()))
    }

    /// Where a BPF file system is mounted.
    pub fn bpffs(&self) -> Option<PathBuf> {
        self.mounted("bpf")
    }

    /// Whether BPF programs can be security modules here; `None` where the kernel does not say:
    /// before 6.8 it does so in securityfs alone, which need not be mounted.
    pub fn bpf_lsm(&self) -> Option<bool> {
        match fs::read_to_string(&self.lsm) {
            Ok(list) => Some(list.trim().split(',').any(|name| name == "bpf")),
            Err(_) => sys::lists_bpf_lsm(),
        }
    }

    /// Whether security modules of ours are taken here: where the kernel has them, one that does
    /// nothing is loaded, because having them does not mean that anybody may.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn takes_modules(&self) -> Result<(), String> {
        match self.bpf_lsm() {
            Some(true) => {}
            Some(false) => {
                return Err("bpf is not among the security modules (boot with lsm=…,bpf)".into());
            }
            None => {
                return Err("securityfs is not mounted, and this kernel says there alone which security modules it has".into());
            }
        }
        let bytes = fs::read(&self.btf).map_err(|error| error.to_string())?;
        let hook = Btf::parse(&bytes).and_then(|btf| btf.function("bpf_lsm_file_receive"));
        let hook = hook.ok_or("the kernel's types have no bpf_lsm_file_receive")?;
        sys::try_module(hook).map_err(|error| {
            format!("bpf is among the security modules, but none may be loaded: {error}")
        })
    }

    fn mounted(&self, kind: &str) -> Option<PathBuf> {
        let table = fs::read_to_string(&self.mounts).ok()?;
        table.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let (_device, place, found) = (fields.next()?, fields.next()?, fields.next()?);
            (found == kind).then(|| Path::new(&unescape(place)).to_path_buf())
        })
    }
}

/// `uname -r`.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The first two numbers of it.
pub fn release_numbers() -> (u32, u32) {
    numbers(&kernel_release())
}

fn numbers(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The mount table writes space, tab, newline and backslash in octal (proc(5)).
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(mounts: &str) -> (tempfile::NamedTempFile, Host) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&file, mounts).expect("written");
        let host = Host { mounts: file.path().into(), ..Host::default() };
        (file, host)
    }

    #[test]
    fn the_cgroup_root_is_found_wherever_it_is_mounted() {
        let (_file, host) = host(
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /mnt/odd\\040place cgroup2 rw 0 0\n",
        );
        assert_eq!(host.cgroup_root().expect("found"), Path::new("/mnt/odd place"));
    }

    #[test]
    fn a_host_without_cgroup_v2_is_told_so() {
        let (file, host) = host("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n");
        let error = host.cgroup_root().expect_err("none").to_string();
        assert!(error.contains("no cgroup v2 is mounted"), "{error}");
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
