//! What the fuzzer found worth keeping, once more.

mod harness;

use std::{fs, path::Path};

#[test]
fn p8_the_corpus_of_conversations_passes() {
    replay("conversation", harness::conversation::play);
}

#[test]
fn p4_p8_the_corpus_of_frames_passes() {
    replay("frames", harness::frames::play);
}

#[test]
fn p4_p8_the_corpus_of_first_packets_passes() {
    replay("startup", harness::startup::play);
}

fn replay(target: &str, play: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("a corpus").flatten() {
        play(&fs::read(entry.path()).expect("readable"));
        count += 1;
    }
    assert!(count > 5, "the corpus is gone");
}
