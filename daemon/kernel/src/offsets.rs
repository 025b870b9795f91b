//! Offsets of kernel fields, from the running kernel's own type information.
//!
//! Rust emits no relocations for them, so they are resolved here and handed to the programs.

use std::path::Path;

use crate::{KernelError, btf::Btf};

/// Offsets in bytes, in `struct task_struct` (include/linux/sched.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Of `group_leader`.
    pub group_leader: u32,
    /// Of `start_boottime`.
    pub start_boottime: u32,
}

impl Offsets {
    /// Reads them from a BTF file.
    ///
    /// # Errors
    /// [`KernelError::NoBtf`] where the file cannot be read, [`KernelError::MissingType`] where it
    /// is no BTF or lacks a field; the message names it.
    pub fn read(path: &Path) -> Result<Self, KernelError> {
        let bytes = std::fs::read(path)
            .map_err(|source| KernelError::NoBtf { path: path.into(), source })?;
        let missing =
            |what: &str| KernelError::MissingType { path: path.into(), missing: what.into() };
        let btf = Btf::parse(&bytes).ok_or_else(|| missing("readable BTF"))?;
        if !btf.has("task_struct") {
            return Err(missing("struct task_struct"));
        }
        let offset = |name: &str| {
            btf.offset("task_struct", name).ok_or_else(|| missing(&format!("task_struct.{name}")))
        };
        Ok(Self {
            group_leader: offset("group_leader")?,
            start_boottime: offset("start_boottime")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernels_offsets_are_found() {
        let offsets = Offsets::read(Path::new("/sys/kernel/btf/vmlinux")).expect("offsets");
        assert_ne!(offsets.group_leader, 0);
        assert_ne!(offsets.start_boottime, 0);
    }

    #[test]
    fn a_missing_btf_is_told_with_its_path_and_what_to_do() {
        let error = Offsets::read(Path::new("/nowhere/vmlinux")).expect_err("missing").to_string();
        assert!(error.contains("/nowhere/vmlinux"), "{error}");
        assert!(error.contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_btf_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&file, [0u8; 64]).expect("written");
        let error = Offsets::read(file.path()).expect_err("no BTF").to_string();
        assert!(error.contains("readable BTF"), "{error}");
    }
}
