//! The only user of aya and of unsafe code: loads the kernel side, fills its maps, attaches and
//! pins it, takes the notes that it leaves about connections, and what a service manager hands over.
//!
//! Does not belong here: what a note means, which is the daemon's business.

mod btf;
mod error;
mod guard;
mod handed;
mod host;
mod interception;
mod links;
mod notes;
mod offsets;
mod processes;
mod sockets;
mod stops;
mod sys;
mod tables;

pub use chaperone_abi::{
    CGROUP_PATH, Image, Note, Offsets, Process, ProcessKey, UNIT_NAME, UNIX_NAME, kinds,
};
pub use error::KernelError;
pub use guard::{Egress, UnixSockets};
pub use handed::{Handed, HandedError, take_handed};
pub use host::{Host, kernel_release, release_numbers};
pub use interception::{
    CANARY, CANARY_NUMBER, Interception, Plan, Scope, Watch, detach, is_attached,
};
pub use links::Fault;
pub use notes::{Counters, Notes, Taken, is_of, original};
pub use offsets::read_offsets;
pub use processes::{Events, Executed, Happened, ProcessTable};
pub use sockets::{Connection, connections, cookie, destroy, listening};
pub use stops::{Attempt, Reason, Stops};
pub use sys::{own_netns_cookie, wall_clock};
pub use tables::Others;
