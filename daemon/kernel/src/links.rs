//! Attaching the programs: links that are pinned, so that they outlive the daemon, and swapped in
//! place when a new daemon starts, so that there is no moment without them.

use std::{
    fs::{self, File},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSockAddr, Program, ProgramError, SockOps, links::FdLink},
};

use crate::{KernelError, sys};

/// The programs, each with the name of its link. The order is that of attaching: whatever carries a
/// note on is there before a note can be made.
const PROGRAMS: [&str; 5] = [
    "chaperone_sockops",
    "chaperone_getpeername4",
    "chaperone_getpeername6",
    "chaperone_connect4",
    "chaperone_connect6",
];

/// Loads and attaches every program to the cgroup and pins the links in `folder`: all of them, or
/// none that was not there before.
pub(crate) fn attach(ebpf: &mut Ebpf, cgroup: &Path, folder: &Path) -> Result<(), KernelError> {
    let mut made = Vec::new();
    let result = attach_all(ebpf, cgroup, folder, &mut made);
    if result.is_err() {
        for pin in made {
            // A link goes with its pin.
            let _ = remove(&pin);
        }
    }
    result
}

fn attach_all(
    ebpf: &mut Ebpf,
    cgroup: &Path,
    folder: &Path,
    made: &mut Vec<PathBuf>,
) -> Result<(), KernelError> {
    let point = open_cgroup(cgroup)?;
    let wanted = sys::cgroup_id(&point)?;
    for name in PROGRAMS {
        let program = ebpf.program_mut(name).ok_or_else(|| KernelError::Refused {
            what: format!("program {name}"),
            reason: "it is not in the object".into(),
        })?;
        let pin = folder.join(name);
        if let Some(link) = sys::open_link(&pin)? {
            match sys::link_cgroup(link.as_fd())? {
                // Its cgroup is gone and the link with it; only the name is left.
                0 => remove(&pin)?,
                found if found != wanted => {
                    return Err(KernelError::OtherCgroup {
                        pins: folder.into(),
                        path: cgroup.into(),
                    });
                }
                _ => {
                    let loaded = load(name, program)?;
                    sys::update_link(link.as_fd(), loaded).map_err(|source| {
                        KernelError::System { call: "bpf(BPF_LINK_UPDATE)", source }
                    })?;
                    continue;
                }
            }
        }
        let link = attach_one(name, program, &point, cgroup)?;
        link.pin(&pin)
            .map_err(|e| KernelError::refused(format!("the pin {}", pin.display()), &e))?;
        made.push(pin);
    }
    Ok(())
}

fn open_cgroup(path: &Path) -> Result<File, KernelError> {
    let bad = |reason: String| KernelError::AttachPoint { path: path.into(), reason };
    let folder = File::open(path).map_err(|error| bad(error.to_string()))?;
    let kind = nix::sys::statfs::fstatfs(&folder).map_err(|errno| bad(errno.to_string()))?;
    if kind.filesystem_type() != nix::sys::statfs::CGROUP2_SUPER_MAGIC {
        return Err(bad("it is not a cgroup v2 folder".into()));
    }
    Ok(folder)
}

fn load<'a>(name: &'static str, program: &'a mut Program) -> Result<BorrowedFd<'a>, KernelError> {
    let refused = |error: ProgramError| KernelError::refused(format!("program {name}"), &error);
    match program {
        Program::CgroupSockAddr(program) => program.load().map_err(refused)?,
        Program::SockOps(program) => program.load().map_err(refused)?,
        _ => return Err(unexpected(name)),
    }
    program.fd().map(AsFd::as_fd).map_err(refused)
}

fn attach_one(
    name: &'static str,
    program: &mut Program,
    point: &File,
    path: &Path,
) -> Result<FdLink, KernelError> {
    load(name, program)?;
    let failed = |error: ProgramError| {
        let denied = matches!(
            &error,
            ProgramError::SyscallError(call) if call.io_error.kind() == std::io::ErrorKind::PermissionDenied
        );
        if denied {
            KernelError::CgroupTaken { path: path.into(), program: name }
        } else {
            KernelError::refused(format!("attaching {name} to {}", path.display()), &error)
        }
    };
    // Links are always multi-program; asking for it gets EINVAL.
    let mode = CgroupAttachMode::Single;
    let link = match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(point, mode).map_err(failed)?;
            CgroupSockAddr::take_link(program, id).map_err(failed)?.try_into()
        }
        Program::SockOps(program) => {
            let id = program.attach(point, mode).map_err(failed)?;
            SockOps::take_link(program, id).map_err(failed)?.try_into()
        }
        _ => return Err(unexpected(name)),
    };
    link.map_err(|error: aya::programs::links::LinkError| {
        KernelError::refused(format!("a link for {name}"), &error)
    })
}

fn unexpected(name: &str) -> KernelError {
    KernelError::Refused {
        what: format!("program {name}"),
        reason: "it is of an unexpected kind".into(),
    }
}

fn remove(path: &Path) -> Result<(), KernelError> {
    fs::remove_file(path).map_err(|source| KernelError::File {
        doing: "removing",
        path: path.into(),
        source,
    })
}
