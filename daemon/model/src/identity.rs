//! Who it was. Every field says whose word it is.

use std::{fmt, sync::Arc};

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

/// The process that opened a connection.
///
/// `uid` to `comm` were taken by the kernel inside `connect(2)`. `executable`, `command_line`,
/// `cgroup` and `run` were read from `/proc` when the connection was accepted, and only where the
/// process with this pid still had the start time that the kernel noted; else they are `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The agent whose selector matched.
    pub agent: AgentName,
    /// The agent's version, from where the configuration says that it stands.
    pub version: Option<String>,
    /// Which of the agent's lifetimes: the unit's invocation, or the topmost of its processes.
    pub run: Option<String>,
    /// Real user id of the connecting thread.
    pub uid: u32,
    /// Real group id of the connecting thread.
    pub gid: u32,
    /// Process id (thread group id), in the initial pid namespace.
    pub pid: u32,
    /// Start of the process, in nanoseconds since boot (`task_struct.start_boottime`).
    pub started_ns: u64,
    /// Id of the process's cgroup v2.
    pub cgroup_id: u64,
    /// The thread's name (`TASK_COMM_LEN`), which the process can choose.
    pub comm: String,
    /// The target of `/proc/PID/exe`.
    pub executable: Option<String>,
    /// `/proc/PID/cmdline`, joined by spaces; the process can change it.
    pub command_line: Option<String>,
    /// The process's cgroup v2 path from `/proc/PID/cgroup`.
    pub cgroup: Option<String>,
}
