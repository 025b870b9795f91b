//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz conversation tests/corpus/conversation`
#![no_main]

#[path = "../../../daemon/wire/tests/harness/mod.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| harness::play(input));
