//! What can go wrong between the daemon and the kernel, in sentences for ops.

use std::{io, path::PathBuf};

/// An operation on the kernel side failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// There is no cgroup v2 in the mount table.
    #[error(
        "no cgroup v2 is mounted (none in {0}): mount one, or boot without systemd.unified_cgroup_hierarchy=0"
    )]
    NoCgroup2(PathBuf),
    /// The attach point is not a cgroup.
    #[error("cannot attach to {path}: {reason}")]
    AttachPoint {
        /// The path from the configuration.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The kernel does not describe its types.
    #[error(
        "the kernel's type information {path} cannot be read ({source}): chaperone needs a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf {
        /// Where it should be.
        path: PathBuf,
        /// Why it could not be read.
        source: io::Error,
    },
    /// The kernel's types could not be understood, or a field is not there.
    #[error("the kernel's type information {path} has no {missing}: this kernel is not supported")]
    MissingType {
        /// The file.
        path: PathBuf,
        /// `struct.field`.
        missing: String,
    },
    /// Pins go to a bpffs only.
    #[error("{path} is not on a BPF file system: mount one with `mount -t bpf bpf {mount}`")]
    NotBpffs {
        /// The folder from the configuration.
        path: PathBuf,
        /// Where to mount one.
        mount: PathBuf,
    },
    /// A file or folder operation failed.
    #[error("{doing} {path}: {source}")]
    File {
        /// A verb in the -ing form.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a program or map.
    #[error("the kernel refused {what}: {reason}")]
    Refused {
        /// Which step.
        what: String,
        /// What it said.
        reason: String,
    },
    /// Another program holds the cgroup for itself.
    #[error(
        "{path} already has a BPF program that allows no second one (EPERM on {program}): remove it, or set `attach` to another cgroup"
    )]
    CgroupTaken {
        /// The attach point.
        path: PathBuf,
        /// Our program.
        program: &'static str,
    },
    /// Pinned links of an earlier start belong to another cgroup.
    #[error(
        "the programs pinned in {pins} are attached to another cgroup than {path}: run `chaperone daemon --detach` first"
    )]
    OtherCgroup {
        /// Folder of the pins.
        pins: PathBuf,
        /// The configured attach point.
        path: PathBuf,
    },
    /// Something serves without having loaded the programs.
    #[error(
        "the programs are not in force (nothing whole is pinned in {pins}): run `chaperone daemon --load` first"
    )]
    NotLoaded {
        /// Folder of the pins.
        pins: PathBuf,
    },
    /// A system call failed.
    #[error("{call} failed: {source}")]
    System {
        /// Which.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
    /// More entries than a map holds.
    #[error("{what}: {count} entries are more than the {limit} that fit")]
    TooMany {
        /// Which map.
        what: &'static str,
        /// How many were asked for.
        count: usize,
        /// How many fit.
        limit: usize,
    },
}

impl KernelError {
    pub(crate) fn refused(what: impl Into<String>, error: &dyn std::error::Error) -> Self {
        use std::fmt::Write;

        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let _ = write!(reason, ": {error}");
            cause = error.source();
        }
        // The verifier explains itself at great length; its last word is at the end.
        let what = what.into();
        if let Some((first, log)) = reason.split_once("Verifier output:") {
            tracing::debug!(%what, log, "the verifier's log");
            let last = log.lines().rev().find(|line| {
                !["processed", "verification", "stack depth", ":"]
                    .iter()
                    .any(|p| line.starts_with(p))
            });
            reason = format!("{first}{}", last.unwrap_or_default());
        }
        Self::Refused { what, reason }
    }
}
