//! Is the calling process an agent's, and which?

use aya_ebpf::helpers::{bpf_get_current_uid_gid, generated::bpf_get_current_ancestor_cgroup_id};

use crate::maps::{CGROUPS, UIDS};

/// Deepest level of the cgroup tree that is looked at. systemd's own nesting ends at about 8.
const LEVELS: i32 = 16;

/// The agent of the calling process, by its user id or by its cgroup or one above it.
#[inline(always)]
pub fn agent() -> Option<u32> {
    let uid = bpf_get_current_uid_gid() as u32;
    // SAFETY: the value is copied at once; the daemon replaces entries whole.
    if let Some(agent) = unsafe { UIDS.get(&uid) } {
        return Some(*agent);
    }
    // From the root down: the outermost selected group names the agent.
    for level in 0..LEVELS {
        // SAFETY: the helper takes any level and answers 0 for one that does not exist.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            break;
        }
        // SAFETY: as above.
        if let Some(agent) = unsafe { CGROUPS.get(&id) } {
            return Some(*agent);
        }
    }
    None
}
