//! What the fuzzer found worth keeping, once more.

mod harness;

use std::{fs, path::Path};

#[test]
fn p8_the_corpus_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/conversation");
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("a corpus").flatten() {
        harness::play(&fs::read(entry.path()).expect("readable"));
        count += 1;
    }
    assert!(count > 5, "the corpus is gone");
}
