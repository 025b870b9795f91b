//! From `tests/fuzz`, by the ordinary compiler and cargo alone; what is new goes to the first folder:
//!
//! `mkdir -p target/corpus/sftp && cargo run --release --bin sftp -- -max_total_time=7200
//! -max_len=2048 target/corpus/sftp`
//!
//! What of it covers more is added to the corpus by the same command with `-set_cover_merge=1
//! -use_counters=0 ../corpus/sftp target/corpus/sftp` in place of all behind `--`.
#![no_main]

#[path = "../../../daemon/wire/tests/harness/sftp.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| harness::play(input));
