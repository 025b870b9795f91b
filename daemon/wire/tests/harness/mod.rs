//! What the fuzzer plays, one file a target: `tests/fuzz`. Its corpus is played by `corpus.rs`.

pub(crate) mod conversation;
pub(crate) mod frames;
pub(crate) mod startup;
