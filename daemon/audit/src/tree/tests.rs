//! The vectors are those of the RFC's reference implementation: leaves, roots of each size, and
//! proofs, as published with Certificate Transparency (`merkletree/merkle_tree_test.cc`).

use proptest::prelude::*;

use super::*;

const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal"))
        .collect()
}

fn hash(hex: &str) -> Hash {
    bytes(hex).try_into().expect("32 bytes")
}

fn leaves() -> Vec<Hash> {
    LEAVES.iter().map(|leaf| leaf_hash(&bytes(leaf))).collect()
}

/// By the definition, from all leaves.
fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let half = 1 << (leaves.len() - 1).ilog2();
            node_hash(&root_of(&leaves[..half]), &root_of(&leaves[half..]))
        }
    }
}

fn subtree_of(leaves: &[Hash]) -> impl FnMut(Subtree) -> Result<Hash, std::convert::Infallible> {
    move |subtree| {
        let last = usize::try_from(subtree.last_leaf()).expect("small");
        Ok(root_of(&leaves[last + 1 - (1 << subtree.level)..=last]))
    }
}

#[test]
fn the_roots_are_those_of_the_reference() {
    assert_eq!(
        empty_root(),
        hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    );
    let mut frontier = Frontier::default();
    for (leaf, root) in leaves().into_iter().zip(ROOTS) {
        frontier.append(leaf, &mut Vec::new());
        assert_eq!(frontier.root(), hash(root), "size {}", frontier.size());
    }
}

#[test]
fn the_inclusion_proofs_are_those_of_the_reference() {
    let leaves = leaves();
    let cases: [(u64, u64, &[&str]); 3] = [
        (0, 1, &[]),
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ];
    for (index, size, expected) in cases {
        let proof = Inclusion::prove(index, size, subtree_of(&leaves)).expect("hashes");
        let proof = proof.expect("a proof");
        assert_eq!(proof.hashes, expected.iter().map(|h| hash(h)).collect::<Vec<_>>());
        let root = hash(ROOTS[usize::try_from(size - 1).expect("small")]);
        let leaf = leaves[usize::try_from(index).expect("small")];
        assert_eq!(proof.verify(&leaf, size, &root), Ok(()));
    }
}

#[test]
fn the_consistency_proofs_are_those_of_the_reference() {
    let leaves = leaves();
    let cases: [(u64, u64, &[&str]); 4] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (old, size, expected) in cases {
        let proof = Consistency::prove(old, size, subtree_of(&leaves)).expect("hashes");
        let proof = proof.expect("a proof");
        assert_eq!(proof.hashes, expected.iter().map(|h| hash(h)).collect::<Vec<_>>());
        let root = |size: u64| hash(ROOTS[usize::try_from(size - 1).expect("small")]);
        assert_eq!(proof.verify(&root(old), size, &root(size)), Ok(()));
    }
}

proptest! {
    /// What is remembered of appending is every complete subtree's root.
    #[test]
    fn what_a_leaf_completes_is_what_the_definition_says(count in 1_u8..80) {
        let leaves: Vec<Hash> = (0..count).map(|n| leaf_hash(&[n])).collect();
        let mut frontier = Frontier::default();
        let mut completed = Vec::new();
        for (place, leaf) in (0_u64..).zip(&leaves) {
            frontier.append(*leaf, &mut completed);
            for (level, hash) in (0_u32..).zip(&completed) {
                let subtree = Subtree { level, number: place >> level };
                prop_assert_eq!(subtree.last_leaf(), place);
                prop_assert_eq!(Ok(*hash), subtree_of(&leaves)(subtree));
            }
            let size = frontier.size();
            prop_assert_eq!(frontier.root(), root_of(&leaves[..=usize::try_from(place).expect("small")]));
            let roots: Result<Vec<_>, _> = subtrees(size).into_iter().map(subtree_of(&leaves)).collect();
            prop_assert_eq!(Frontier::new(size, roots.expect("hashes")), Some(frontier.clone()));
        }
    }

    #[test]
    fn proofs_prove_and_altered_ones_do_not(count in 1_u8..70, a in any::<u8>(), b in any::<u8>(), flip in any::<u16>()) {
        let leaves: Vec<Hash> = (0..count).map(|n| leaf_hash(&[n])).collect();
        let size = u64::from(count);
        let root = root_of(&leaves);
        let index = u64::from(a) % size;
        let leaf = leaves[usize::try_from(index).expect("small")];
        let proof = Inclusion::prove(index, size, subtree_of(&leaves)).expect("hashes").expect("a proof");
        prop_assert_eq!(proof.verify(&leaf, size, &root), Ok(()));
        prop_assert!(proof.verify(&leaf_hash(b"another"), size, &root).is_err());
        let old = u64::from(b) % (size + 1);
        let old_root = root_of(&leaves[..usize::try_from(old).expect("small")]);
        let consistency = Consistency::prove(old, size, subtree_of(&leaves)).expect("hashes").expect("a proof");
        prop_assert_eq!(consistency.verify(&old_root, size, &root), Ok(()));
        prop_assert!(consistency.verify(&leaf_hash(b"another"), size, &root).is_err());
        for hashes in [&proof.hashes, &consistency.hashes] {
            let mut hashes = hashes.clone();
            let Some(count) = hashes.len().checked_sub(1) else { continue };
            hashes[usize::from(flip) % (count + 1)][usize::from(flip) % 32] ^= 1;
            let altered = Inclusion { index, hashes: hashes.clone() };
            prop_assert!(altered.verify(&leaf, size, &root).is_err());
            let altered = Consistency { old, hashes };
            prop_assert!(altered.verify(&old_root, size, &root).is_err());
        }
        let mut short = consistency.clone();
        if short.hashes.pop().is_some() {
            prop_assert!(short.verify(&old_root, size, &root).is_err());
        }
    }
}
