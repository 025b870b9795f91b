//! A host for tests and the demo, on the real kernel: a cgroup, a BPF file system, a PostgreSQL
//! server, the daemon, and programs that run as agents. All of it goes when the [`Host`] is dropped.
//!
//! Belongs here: what a test needs to set a scene. Does not belong here: what it asserts.

mod agent;
mod certificates;
mod daemon;
mod host;
mod place;
mod postgres;
mod process;
mod programs;
mod scene;

pub use agent::{Finished, Running};
pub use certificates::{Certificates, Kind};
pub use host::Host;
pub use place::Mount;
pub use postgres::{Postgres, Release};
pub use process::{Process, wait_for, wait_until};
pub use programs::{compile_agent, compile_agent_for_image, sha256};
pub use scene::Scene;
