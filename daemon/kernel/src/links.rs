//! Attaching the programs: links that are pinned, so that they outlive the daemon, and swapped in
//! place when a new daemon starts, so that there is no moment without them.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf,
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, Lsm, Program,
        ProgramError, RawTracePoint, SockOps, links::FdLink,
    },
};

use crate::{KernelError, sys};

/// The programs, each with the name of its link. The order is that of attaching: whatever carries a
/// note on is there before a note can be made, and whose a socket is before it is asked.
const PROGRAMS: [&str; 13] = [
    "chaperone_sockops",
    "chaperone_getpeername4",
    "chaperone_getpeername6",
    "chaperone_socket",
    SETSOCKOPT,
    "chaperone_bind4",
    "chaperone_bind6",
    "chaperone_sendmsg4",
    "chaperone_sendmsg6",
    "chaperone_connect4",
    "chaperone_connect6",
    "chaperone_egress",
    "chaperone_ingress",
];

const SETSOCKOPT: &str = "chaperone_setsockopt";

/// What follows processes and cgroups, each with its tracepoint. These have no place to be attached
/// to but the whole kernel, and look at scope first.
const OBSERVERS: [(&str, &str); 5] = [
    ("chaperone_exit", "sched_process_exit"),
    ("chaperone_exec", "sched_process_exec"),
    ("chaperone_fork", "sched_process_fork"),
    ("chaperone_rmdir", "cgroup_rmdir"),
    ("chaperone_mkdir", "cgroup_mkdir"),
];

/// Security modules, each with its hook, for kernels that have them. They have no place but the whole
/// kernel, either, and never refuse a process out of scope.
const MODULES: [(&str, &str); 6] = [
    ("chaperone_lsm_socket", "socket_create"),
    ("chaperone_lsm_unix_connect", "unix_stream_connect"),
    ("chaperone_lsm_unix_send", "unix_may_send"),
    ("chaperone_lsm_receive", "file_receive"),
    ("chaperone_lsm_send", "socket_sendmsg"),
    ("chaperone_lsm_trace", "ptrace_access_check"),
];

/// Attaches what follows processes and cgroups. A link to a tracepoint cannot be swapped: the new
/// one is there before the old one goes, and both do the same meanwhile.
pub(crate) fn observe(ebpf: &mut Ebpf, folder: &Path) -> Result<(), KernelError> {
    let mut made = Vec::new();
    let result = observe_all(ebpf, folder, &mut made);
    if result.is_err() {
        for pin in made {
            let _ = remove(&pin);
        }
    }
    result
}

fn observe_all(ebpf: &mut Ebpf, folder: &Path, made: &mut Vec<PathBuf>) -> Result<(), KernelError> {
    for (name, tracepoint) in OBSERVERS {
        let program = program(ebpf, name)?;
        load(name, program)?;
        let Program::RawTracePoint(program) = program else { return Err(unexpected(name)) };
        let failed = |error: ProgramError| {
            KernelError::refused(format!("attaching {name} to {tracepoint}"), &error)
        };
        let id = program.attach(tracepoint).map_err(failed)?;
        let link: FdLink = RawTracePoint::take_link(program, id).map_err(failed)?.into();
        pin_anew(folder, name, link, made)?;
    }
    Ok(())
}

/// Puts a link in the place of an earlier start's, which cannot be swapped.
fn pin_anew(
    folder: &Path,
    name: &str,
    link: FdLink,
    made: &mut Vec<PathBuf>,
) -> Result<(), KernelError> {
    let (pin, draft) = (folder.join(name), folder.join(format!("{name}_new")));
    // Left over where an earlier start ended in between.
    let _ = fs::remove_file(&draft);
    let was = pin.exists();
    link.pin(&draft)
        .map_err(|e| KernelError::refused(format!("the pin {}", draft.display()), &e))?;
    fs::rename(&draft, &pin).map_err(|source| {
        let _ = fs::remove_file(&draft);
        KernelError::File { doing: "making", path: pin.clone(), source }
    })?;
    if !was {
        made.push(pin);
    }
    Ok(())
}

/// Attaches the security modules.
fn attach_modules(
    ebpf: &mut Ebpf,
    folder: &Path,
    made: &mut Vec<PathBuf>,
) -> Result<(), KernelError> {
    let btf =
        Btf::from_sys_fs().map_err(|error| KernelError::refused("the kernel's types", &error))?;
    for (name, hook) in MODULES {
        let program = program(ebpf, name)?;
        let Program::Lsm(program) = program else { return Err(unexpected(name)) };
        let failed = |error: ProgramError| {
            KernelError::refused(format!("attaching {name} to the security hook {hook}"), &error)
        };
        program.load(hook, &btf).map_err(failed)?;
        let id = program.attach().map_err(failed)?;
        let link: FdLink = Lsm::take_link(program, id).map_err(failed)?.into();
        pin_anew(folder, name, link, made)?;
    }
    Ok(())
}

/// Takes the observers out, where nothing takes connections.
pub(crate) fn give_up(folder: &Path) {
    if PROGRAMS.iter().any(|name| folder.join(name).exists()) {
        return;
    }
    for (name, _) in OBSERVERS {
        let _ = fs::remove_file(folder.join(name));
    }
}

/// A link that is to stay as it is. Held open, so that it is not gone with its pin.
pub(crate) struct Held {
    name: &'static str,
    link: OwnedFd,
    known: sys::LinkInfo,
}

/// What happened to a link that was to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its pin was removed: it would have gone with the daemon.
    Unpinned,
    /// It was detached.
    Detached,
    /// Its program was replaced.
    Replaced,
}

/// Opens the links that are pinned. Each of those to cgroups has to be attached to this one.
pub(crate) fn hold(folder: &Path, cgroup: &Path) -> Result<Vec<Held>, KernelError> {
    let wanted = sys::cgroup_id(&open_cgroup(cgroup)?)?;
    let not_loaded = || KernelError::NotLoaded { pins: folder.into() };
    let mut held = Vec::new();
    for name in PROGRAMS.into_iter().chain(OBSERVERS.map(|(name, _)| name)) {
        let link = sys::open_link(&folder.join(name))?.ok_or_else(not_loaded)?;
        let known = sys::link_info(link.as_fd())?;
        match known.cgroup {
            Some(0) => return Err(not_loaded()),
            Some(found) if found != wanted => {
                return Err(KernelError::OtherCgroup { pins: folder.into(), path: cgroup.into() });
            }
            _ => held.push(Held { name, link, known }),
        }
    }
    // These are there where the kernel takes them.
    for (name, _) in MODULES {
        if let Some(link) = sys::open_link(&folder.join(name))? {
            let known = sys::link_info(link.as_fd())?;
            held.push(Held { name, link, known });
        }
    }
    Ok(held)
}

/// Looks after links, and pins anew what lost its pin. What was found is told once.
pub(crate) fn look(
    folder: &Path,
    held: &mut [Held],
) -> Result<Vec<(&'static str, Fault)>, KernelError> {
    let mut found = Vec::new();
    for held in held {
        let now = sys::link_info(held.link.as_fd())?;
        if now.cgroup == Some(0) && held.known.cgroup != Some(0) {
            found.push((held.name, Fault::Detached));
        }
        if now.program != held.known.program {
            found.push((held.name, Fault::Replaced));
        }
        held.known = now;
        let pin = folder.join(held.name);
        if sys::open_link(&pin)?.is_none() {
            found.push((held.name, Fault::Unpinned));
            if now.cgroup != Some(0) {
                sys::pin(held.link.as_fd(), &pin).map_err(|source| KernelError::File {
                    doing: "pinning anew",
                    path: pin,
                    source,
                })?;
            }
        }
    }
    Ok(found)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, KernelError> {
    ebpf.program_mut(name).ok_or_else(|| KernelError::Refused {
        what: format!("program {name}"),
        reason: "it is not in the object".into(),
    })
}

/// Loads and attaches every program to the cgroup and pins the links in `folder`: all of them, or
/// none that was not there before. `modules` says whether security modules are among them.
pub(crate) fn attach(
    ebpf: &mut Ebpf,
    cgroup: &Path,
    folder: &Path,
    modules: bool,
) -> Result<(), KernelError> {
    let mut made = Vec::new();
    let result = attach_all(ebpf, cgroup, folder, &mut made)
        .and_then(|()| if modules { attach_modules(ebpf, folder, &mut made) } else { Ok(()) });
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
        let program = program(ebpf, name)?;
        let pin = folder.join(name);
        if let Some(link) = sys::open_link(&pin)? {
            match sys::link_info(link.as_fd())?.cgroup.unwrap_or(0) {
                // Its cgroup is gone and the link with it, or somebody detached it; only the name is
                // left.
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
        attach_one(name, program, &point, cgroup, &pin)?;
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
    // It is loaded once, and may have to be attached again.
    if program.fd().is_ok() {
        return program.fd().map(AsFd::as_fd).map_err(refused);
    }
    match program {
        Program::CgroupSockAddr(program) => program.load().map_err(refused)?,
        Program::CgroupSkb(program) => program.load().map_err(refused)?,
        Program::CgroupSock(program) => program.load().map_err(refused)?,
        Program::CgroupSockopt(program) => program.load().map_err(refused)?,
        Program::SockOps(program) => program.load().map_err(refused)?,
        Program::RawTracePoint(program) => program.load().map_err(refused)?,
        _ => return Err(unexpected(name)),
    }
    program.fd().map(AsFd::as_fd).map_err(refused)
}

fn attach_one(
    name: &'static str,
    program: &mut Program,
    point: &File,
    path: &Path,
    pin: &Path,
) -> Result<(), KernelError> {
    let loaded = load(name, program)?;
    let refused = |kind: io::ErrorKind, error: &dyn std::error::Error| {
        if kind == io::ErrorKind::PermissionDenied {
            KernelError::CgroupTaken { path: path.into(), program: name }
        } else {
            KernelError::refused(format!("attaching {name} to {}", path.display()), error)
        }
    };
    if name == SETSOCKOPT {
        return sys::attach_setsockopt(loaded, point.as_fd(), pin)
            .map_err(|error| refused(error.kind(), &error));
    }
    let failed = |error: ProgramError| {
        let kind = match &error {
            ProgramError::SyscallError(call) => call.io_error.kind(),
            _ => io::ErrorKind::Other,
        };
        refused(kind, &error)
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
        Program::CgroupSkb(program) => {
            let way = if name == "chaperone_egress" {
                CgroupSkbAttachType::Egress
            } else {
                CgroupSkbAttachType::Ingress
            };
            let id = program.attach(point, way, mode).map_err(failed)?;
            CgroupSkb::take_link(program, id).map_err(failed)?.try_into()
        }
        Program::CgroupSock(program) => {
            let id = program.attach(point, mode).map_err(failed)?;
            CgroupSock::take_link(program, id).map_err(failed)?.try_into()
        }
        _ => return Err(unexpected(name)),
    };
    let link: FdLink = link.map_err(|error: aya::programs::links::LinkError| {
        KernelError::refused(format!("a link for {name}"), &error)
    })?;
    link.pin(pin)
        .map(drop)
        .map_err(|e| KernelError::refused(format!("the pin {}", pin.display()), &e))
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
