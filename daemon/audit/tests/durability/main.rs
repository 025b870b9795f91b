//! The log when the power, the disk or the process fails: what was promised is there.
//!
//! `disk.rs` is the disk, `mount.rs` the file system that shows it to the kernel, `server.rs`
//! the process that serves it, `work.rs` what is recorded on it and checked, `power.rs` has the
//! tests of power cuts, `failing.rs` those of a disk that fails, `killed.rs` those of a killed
//! process. They need root and `/dev/fuse`.

mod disk;
mod failing;
mod killed;
mod mount;
mod power;
mod server;
mod work;
