//! System calls that neither aya nor nix offers.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::libc;

use crate::KernelError;

// enum bpf_cmd (include/uapi/linux/bpf.h).
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;

/// `enum bpf_attach_type` (include/uapi/linux/bpf.h).
const BPF_CGROUP_SETSOCKOPT: u32 = 22;

/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h), since Linux 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the network namespace that this process is in.
///
/// # Errors
/// [`KernelError::System`] where the kernel has no such option.
pub fn own_netns_cookie() -> Result<u64, KernelError> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))
        .map_err(|source| KernelError::System { call: "socket", source })?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(8);
    // SAFETY: the option writes at most `length` bytes, and `cookie` has as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    check("getsockopt(SO_NETNS_COOKIE)", libc::c_long::from(result))?;
    Ok(cookie)
}

/// Whether the wall clock follows another one, and by how many microseconds it may be wrong
/// (adjtimex(2)). `None` where the kernel does not say.
pub fn wall_clock() -> Option<(bool, u64)> {
    // Nothing is changed where `modes` is 0.
    // SAFETY: `timex` consists of whole numbers, for all of which 0 is a value.
    let mut state: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: the kernel fills the structure that it is given, whose layout is libc's.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    let synchronized = state.status & libc::STA_UNSYNC == 0;
    (result >= 0).then(|| (synchronized, u64::try_from(state.maxerror).unwrap_or(u64::MAX)))
}

/// Whether BPF programs can be security modules; `None` where the kernel has no such call (before
/// 6.8).
pub(crate) fn lists_bpf_lsm() -> Option<bool> {
    /// `lsm_list_modules(2)`, the same number on all architectures.
    const LSM_LIST_MODULES: libc::c_long = 461;
    /// `LSM_ID_BPF` (include/uapi/linux/lsm.h).
    const BPF: u64 = 109;
    let mut ids = [0_u64; 64];
    let mut size = u32::try_from(size_of_val(&ids)).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes to `ids`, which has as many.
    let count = unsafe { libc::syscall(LSM_LIST_MODULES, ids.as_mut_ptr(), &raw mut size, 0_u32) };
    let found = ids.get(..usize::try_from(count).ok()?)?;
    Some(found.contains(&BPF))
}

/// Loads a security module that does nothing, for a hook by its type's id. Nothing is attached.
pub(crate) fn try_module(hook: u32) -> io::Result<()> {
    /// `BPF_PROG_TYPE_LSM`, and `BPF_LSM_MAC` as the way that it is attached.
    const LSM: u32 = 29;
    const MAC: u32 = 27;
    /// `r0 = 0` and `exit` (Documentation/bpf/standardization/instruction-set.rst).
    const NOTHING: [u64; 2] = [0xb7, 0x95];
    /// The kernel's, up to what is told here.
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log: [u32; 4],
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u32; 4],
        prog_ifindex: u32,
        expected_attach_type: u32,
        btf: [u32; 9],
        attach_btf_id: u32,
    }
    let license = c"GPL";
    let mut attr = Attr {
        prog_type: LSM,
        insn_cnt: 2,
        insns: NOTHING.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: MAC,
        attach_btf_id: hook,
        ..Attr::default()
    };
    // SAFETY: `attr` is laid out as the kernel's for this command, and what it points to outlives
    // the call.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    drop(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) });
    Ok(())
}

/// How the kernel takes the name of a pin.
#[repr(C)]
#[derive(Default)]
struct Pin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Attaches a program on `setsockopt(2)` to a cgroup and pins the link: aya gives such a link away
/// in no form that could be pinned.
pub(crate) fn attach_setsockopt(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    path: &Path,
) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        prog_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
    }
    let raw = |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX);
    let mut attr = Attr {
        prog_fd: raw(program),
        target_fd: raw(cgroup),
        attach_type: BPF_CGROUP_SETSOCKOPT,
        flags: 0,
    };
    // SAFETY: `attr` is laid out as the kernel's for this command; it reads two descriptors.
    let fd = unsafe { bpf(BPF_LINK_CREATE, &mut attr) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    let link = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) };
    pin(link.as_fd(), path)
}

/// Opens a pinned link; `None` where there is no such pin.
pub(crate) fn open_link(path: &Path) -> Result<Option<OwnedFd>, KernelError> {
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else {
        return Ok(None);
    };
    let mut attr = Pin { pathname: name.as_ptr() as u64, ..Pin::default() };
    // SAFETY: `attr` is laid out as the kernel's for this command and `name` outlives the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attr) };
    if fd < 0 && io::Error::last_os_error().kind() == io::ErrorKind::NotFound {
        return Ok(None);
    }
    let fd = check("bpf(BPF_OBJ_GET)", fd)?;
    let fd = i32::try_from(fd).unwrap_or(-1);
    // SAFETY: the kernel has just given us this descriptor.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Swaps the program of a link in place: there is no moment without one.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        link_fd: u32,
        new_prog_fd: u32,
        flags: u32,
        old_prog_fd: u32,
    }
    let raw = |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX);
    let mut attr = Attr { link_fd: raw(link), new_prog_fd: raw(program), ..Attr::default() };
    // SAFETY: `attr` is laid out as the kernel's for this command; it reads two descriptors.
    let result = unsafe { bpf(BPF_LINK_UPDATE, &mut attr) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// Its own id.
    pub(crate) id: u32,
    /// The id of its program.
    pub(crate) program: u32,
    /// For one of a cgroup: that one's id, 0 where it is gone or the link was detached.
    pub(crate) cgroup: Option<u64>,
}

/// Asks about a link.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> Result<LinkInfo, KernelError> {
    /// `BPF_LINK_TYPE_CGROUP` (include/uapi/linux/bpf.h).
    const CGROUP: u32 = 3;
    /// `struct bpf_link_info` with the cgroup's part of its union, padded to today's size and more.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        pad: u32,
        cgroup_id: u64,
        attach_type: u32,
        rest: [u32; 25],
    }
    #[repr(C)]
    struct Attr {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut info = Info::default();
    let mut attr = Attr {
        bpf_fd: u32::try_from(link.as_raw_fd()).unwrap_or(u32::MAX),
        info_len: u32::try_from(size_of::<Info>()).unwrap_or(0),
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, which has as many.
    let result = unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) };
    check("bpf(BPF_OBJ_GET_INFO_BY_FD)", result)?;
    let cgroup = (info.kind == CGROUP).then_some(info.cgroup_id);
    Ok(LinkInfo { id: info.id, program: info.program, cgroup })
}

/// Pins a link.
pub(crate) fn pin(link: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let bpf_fd = u32::try_from(link.as_raw_fd()).unwrap_or(u32::MAX);
    let mut attr = Pin { pathname: name.as_ptr() as u64, bpf_fd, file_flags: 0 };
    // SAFETY: `attr` is laid out as the kernel's for this command and `name` outlives the call.
    let result = unsafe { bpf(BPF_OBJ_PIN, &mut attr) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The id of a cgroup v2 is its folder's inode number (kernel/cgroup/cgroup.c, `cgroup_id`).
pub(crate) fn cgroup_id(folder: &impl AsFd) -> Result<u64, KernelError> {
    let stat = nix::sys::stat::fstat(folder.as_fd())
        .map_err(|errno| KernelError::System { call: "fstat", source: errno.into() })?;
    Ok(stat.st_ino)
}

/// # Safety
/// `attr` must be laid out as the kernel's `union bpf_attr` for the command, and what it points to
/// must be valid for the call.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> libc::c_long {
    // SAFETY: the caller vouches for `attr`; the size is its own.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), mem::size_of::<T>()) }
}

fn check(call: &'static str, result: libc::c_long) -> Result<libc::c_long, KernelError> {
    if result < 0 {
        Err(KernelError::System { call, source: io::Error::last_os_error() })
    } else {
        Ok(result)
    }
}
