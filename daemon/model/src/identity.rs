//! Who it was. Every field says whose word it is.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The name that the configuration gives an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentName(pub Arc<str>);

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who opened a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The agent whose selector matched.
    pub agent: AgentName,
    /// Its version, where the configuration says how to know it.
    pub version: Option<Version>,
    /// Which of the agent's lifetimes.
    pub run: Run,
    /// The agent's first process, then what came of it, down to the process that connected: each
    /// was forked by the one before it, or is what that one began to run.
    pub lineage: Arc<[Arc<Process>]>,
    /// The connecting thread's name (`TASK_COMM_LEN`), which the process can choose.
    pub comm: String,
    /// What is doubtful.
    pub doubts: Vec<Doubt>,
}

impl Identity {
    /// The process that connected.
    pub fn process(&self) -> Option<&Process> {
        self.lineage.last().map(AsRef::as_ref)
    }

    /// The lineage in a line: `agent.py → bash → psql`.
    pub fn lineage_line(&self) -> String {
        let names: Vec<_> = self.lineage.iter().map(|process| process.name()).collect();
        names.join(STEP)
    }
}

/// What stands between two names of a lineage.
pub const STEP: &str = " → ";

/// An agent's version, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// It.
    pub text: String,
    /// Whose word it is.
    pub source: VersionSource,
}

/// How a version is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VersionSource {
    /// The configuration says it.
    Configuration,
    /// By the SHA-256 of a program.
    Digest,
    /// By the SHA-256 of a script, which is what an interpreter was told.
    Script,
    /// By the digest of the container's image.
    Image,
    /// From a file that the agent cannot have written.
    File,
    /// From the system's package database.
    Package,
    /// From the agent's environment: the agent says so of itself.
    Said,
}

impl VersionSource {
    /// The name that the log uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Digest => "digest",
            Self::Script => "script",
            Self::Image => "image",
            Self::File => "file",
            Self::Package => "package",
            Self::Said => "said",
        }
    }
}

/// One lifetime of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// systemd's invocation id, else process id, start and boot of the agent's first process.
    pub name: Arc<str>,
    /// The systemd unit.
    pub unit: Option<String>,
    /// The container, by the id in its cgroup's path.
    pub container: Option<String>,
    /// The image that the container was started from, as the engine's state on disk has it.
    pub image: Option<Digest>,
}

/// A process and what it runs.
///
/// `pid` to `cgroup_id` are the kernel's. `executable`, `binary`, `folder`, `cgroup` and `login_uid`
/// were read from `/proc` while the process still ran the same program, else they are what was noted
/// at its exec, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id (thread group id), in the initial pid namespace.
    pub pid: u32,
    /// Start of the process, in nanoseconds since boot (`task_struct.start_boottime`).
    pub started_ns: u64,
    /// Counts its execs (`task_struct.self_exec_id`); 0 where it is not known.
    pub exec_id: u64,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Id of its cgroup v2.
    pub cgroup_id: u64,
    /// Its cgroup v2's path.
    pub cgroup: Option<String>,
    /// The program's file.
    pub executable: Option<String>,
    /// The hash of the program's file.
    pub binary: Option<Digest>,
    /// What an interpreter runs.
    pub script: Option<Script>,
    /// The command line, its parts joined by spaces: as it was at the exec, where that was seen,
    /// else as the process shows it, which it can change.
    pub command_line: Option<String>,
    /// The working folder.
    pub folder: Option<String>,
    /// The user who logged in (`/proc/PID/loginuid`), through whatever `su` or `sudo` came after.
    pub login_uid: Option<u32>,
}

impl Process {
    /// A short name: the script's, else the program's. It cannot be taken for several.
    pub fn name(&self) -> String {
        let path = self.script.as_ref().map(|script| script.path.as_str());
        let path = path.or(self.executable.as_deref()).unwrap_or("?");
        let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path);
        name.replace('→', "?")
    }
}

/// A script, as it stands in its file: it can be changed while it runs, so that this is advisory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its path.
    pub path: String,
    /// The hash of its file, when it was looked at.
    pub digest: Option<Digest>,
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = text.get(2 * at..2 * at + 2).ok_or(())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

/// What is doubtful about who it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A program or script of the lineage is not enrolled.
    Unenrolled {
        /// Its file.
        path: String,
        /// Its hash, where it could be had.
        digest: Option<Digest>,
        /// It is a script, and the path the agent's word.
        script: bool,
    },
    /// The image of its container is not enrolled.
    UnenrolledImage(Digest),
    /// The image of its container is not known, and why.
    NoImage(String),
    /// The version is not one of those that the configuration names.
    Version(String),
    /// The version is not known, and why.
    NoVersion(String),
    /// A script's file was changed after it was started.
    ScriptChanged(String),
    /// An interpreter of the lineage runs code that no file holds, or that cannot be told.
    Inline(String),
    /// The process began to run another program while its connection was open.
    Exec(String),
    /// The process shows another program than it began to run.
    Disguised {
        /// What it began to run.
        began: String,
        /// What it shows.
        shown: String,
    },
    /// The lineage is longer than what is kept of it.
    Cut,
    /// No agent of the configuration has these programs, or this image.
    NoAgent,
}

impl Doubt {
    /// The word that the configuration has for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unenrolled { .. } | Self::UnenrolledImage(_) | Self::NoImage(_) => "unenrolled",
            Self::Version(_) | Self::NoVersion(_) => "version",
            Self::ScriptChanged(_) => "script",
            Self::Inline(_) => "inline",
            Self::Exec(_) => "exec",
            Self::Disguised { .. } => "disguise",
            Self::Cut => "cut",
            Self::NoAgent => "no-agent",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unenrolled { path, digest: Some(digest), .. } => {
                write!(f, "{path} is not enrolled (SHA-256 {digest})")
            }
            Self::Unenrolled { path, digest: None, .. } => {
                write!(f, "{path} is not enrolled: its file could not be read")
            }
            Self::UnenrolledImage(digest) => {
                write!(f, "the container's image sha256:{digest} is not enrolled")
            }
            Self::NoImage(why) => write!(f, "the container's image is not enrolled: {why}"),
            Self::Version(version) => write!(f, "version {version} is not allowed"),
            Self::NoVersion(why) => write!(f, "the version is not known: {why}"),
            Self::ScriptChanged(path) => {
                write!(f, "{path} was changed or removed after it was started")
            }
            Self::Inline(program) => {
                write!(f, "{program} runs code that no file holds, or that cannot be told")
            }
            Self::Exec(program) => {
                write!(f, "the process runs {program} since it opened the connection")
            }
            Self::Disguised { began, shown } => {
                write!(f, "the process began to run {began}, and shows {shown} as its program")
            }
            Self::Cut => f.write_str("the lineage is longer than what is kept of it"),
            Self::NoAgent => {
                f.write_str("no agent of the configuration runs these programs, or this image")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back() {
        let digest = Digest(std::array::from_fn(|n| u8::try_from(n * 7).unwrap_or(255)));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for wrong in ["", "abc", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<Digest>(), Err(()), "{wrong}");
        }
    }
}
