//! Offsets of kernel fields, from the running kernel's own type information.
//!
//! Rust emits no relocations for them, so they are resolved here and handed to the programs.

use std::path::Path;

use chaperone_abi::Offsets;

use crate::{KernelError, btf::Btf};

/// Reads the offsets from a BTF file.
///
/// # Errors
/// [`KernelError::NoBtf`] where the file cannot be read, [`KernelError::MissingType`] where it is
/// no BTF or lacks a field; the message names it.
pub fn read_offsets(path: &Path) -> Result<Offsets, KernelError> {
    let bytes =
        std::fs::read(path).map_err(|source| KernelError::NoBtf { path: path.into(), source })?;
    let missing = |what: &str| KernelError::MissingType { path: path.into(), missing: what.into() };
    let btf = Btf::parse(&bytes).ok_or_else(|| missing("readable BTF"))?;
    if !btf.has("task_struct") {
        return Err(missing("struct task_struct"));
    }
    let at = |structure: &str, field: &str| {
        btf.offset(structure, field).ok_or_else(|| missing(&format!("{structure}.{field}")))
    };
    // A time of an inode: two fields since 6.11, a `timespec64` before, which 6.6 renamed for ctime.
    let time = |flat: &str, whole: [&str; 2]| {
        let (seconds, nanoseconds) = (format!("{flat}_sec"), format!("{flat}_nsec"));
        if let (Some(s), Some(ns)) =
            (btf.offset("inode", &seconds), btf.offset("inode", &nanoseconds))
        {
            return Ok((s, ns));
        }
        let start = whole.iter().find_map(|name| btf.offset("inode", name));
        let start = start.ok_or_else(|| missing(&format!("inode.{seconds}")))?;
        Ok((start + at("timespec64", "tv_sec")?, start + at("timespec64", "tv_nsec")?))
    };
    let modified = time("i_mtime", ["__i_mtime", "i_mtime"])?;
    let changed = time("i_ctime", ["__i_ctime", "i_ctime"])?;
    Ok(Offsets {
        group_leader: at("task_struct", "group_leader")?,
        start_boottime: at("task_struct", "start_boottime")?,
        self_exec_id: at("task_struct", "self_exec_id")?,
        pid: at("task_struct", "pid")?,
        tgid: at("task_struct", "tgid")?,
        signal: at("task_struct", "signal")?,
        mm: at("task_struct", "mm")?,
        live: at("signal_struct", "live")?,
        exe_file: at("mm_struct", "exe_file")?,
        arg_start: at("mm_struct", "arg_start")?,
        arg_end: at("mm_struct", "arg_end")?,
        f_inode: at("file", "f_inode")?,
        i_ino: at("inode", "i_ino")?,
        i_sb: at("inode", "i_sb")?,
        i_size: at("inode", "i_size")?,
        mtime_s: modified.0,
        mtime_ns: modified.1,
        ctime_s: changed.0,
        ctime_ns: changed.1,
        s_dev: at("super_block", "s_dev")?,
        s_magic: at("super_block", "s_magic")?,
        s_user_ns: at("super_block", "s_user_ns")?,
        level: at("user_namespace", "level")?,
        filename: at("linux_binprm", "filename")?,
        root: at("cgroup", "root")?,
        hierarchy_id: at("cgroup_root", "hierarchy_id")?,
        kn: at("cgroup", "kn")?,
        kn_id: at("kernfs_node", "id")?,
        kn_name: at("kernfs_node", "name")?,
        css_parent: at("cgroup_subsys_state", "parent")?,
        private_data: at("file", "private_data")?,
        i_mode: at("inode", "i_mode")?,
        sk: at("socket", "sk")?,
        sk_uid: at("sock", "sk_uid")?,
        skc_family: at("sock_common", "skc_family")?,
        skc_daddr: at("sock_common", "skc_daddr")?,
        skc_dport: at("sock_common", "skc_dport")?,
        skc_v6_daddr: at("sock_common", "skc_v6_daddr")?,
        unix_addr: at("unix_sock", "addr")?,
        unix_dentry: at("unix_sock", "path")? + at("path", "dentry")?,
        d_inode: at("dentry", "d_inode")?,
        address_len: at("unix_address", "len")?,
        address_name: at("unix_address", "name")?,
        reserved: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernels_offsets_are_found() {
        let offsets = read_offsets(Path::new("/sys/kernel/btf/vmlinux")).expect("offsets");
        assert_ne!(offsets.group_leader, 0);
        assert_ne!(offsets.start_boottime, 0);
    }

    #[test]
    fn a_missing_btf_is_told_with_its_path_and_what_to_do() {
        let error = read_offsets(Path::new("/nowhere/vmlinux")).expect_err("missing").to_string();
        assert!(error.contains("/nowhere/vmlinux"), "{error}");
        assert!(error.contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_btf_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&file, [0u8; 64]).expect("written");
        let error = read_offsets(file.path()).expect_err("no BTF").to_string();
        assert!(error.contains("readable BTF"), "{error}");
    }
}
