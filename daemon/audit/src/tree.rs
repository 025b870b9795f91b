//! The Merkle tree over the log's records (RFC 6962, section 2): hashing, appending, proofs.
//!
//! Does not belong here: what a leaf is made of (`canonical.rs`), where hashes are kept, signing.

use chaperone_model::Seq;
use sha2::{Digest, Sha256};

mod proof;

pub use proof::{Consistency, Inclusion, ProofError};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The hash of a leaf: `SHA-256(0x00 || leaf)`.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new_with_prefix([0]).chain_update(leaf).finalize().into()
}

/// The hash of a node: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the tree without leaves: the hash of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// A tree's right edge: all that is needed of it to append, and to know its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The roots of the complete subtrees that the tree consists of, the largest first.
    roots: Vec<Hash>,
}

impl Frontier {
    /// Of a tree with so many leaves; `roots` are those of the subtrees that [`subtrees`] names.
    /// `None` where their number does not fit.
    pub fn new(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The rows of the log's table `tree` that it can be found by; hashes in them that it does not
    /// have are zero.
    pub(crate) fn rows(&self) -> Vec<(Seq, Vec<u8>)> {
        let rows = subtrees(self.size).into_iter().zip(&self.roots).map(|(subtree, root)| {
            let mut hashes = vec![Hash::default(); subtree.level as usize];
            hashes.push(*root);
            (Seq(subtree.last_leaf() + 1), hashes.concat())
        });
        rows.collect()
    }

    /// Adds a leaf. Gives its hash and those of the complete subtrees that end with it, the smallest
    /// first: all hashes of the tree that are new and will never change.
    pub fn append(&mut self, leaf: Hash, completed: &mut Vec<Hash>) {
        completed.clear();
        completed.push(leaf);
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                node = node_hash(&left, &node);
                completed.push(node);
            }
        }
        self.roots.push(node);
        self.size += 1;
    }

    /// The root.
    pub fn root(&self) -> Hash {
        let smallest_first = self.roots.iter().rev().copied();
        smallest_first.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }
}

/// A complete subtree: the leaves from `number << level` to before `(number + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subtree {
    /// It has `1 << level` leaves.
    pub level: u32,
    /// Its place among those of its level.
    pub number: u64,
}

impl Subtree {
    /// The place of its last leaf, from 0.
    pub fn last_leaf(self) -> u64 {
        ((self.number + 1) << self.level) - 1
    }
}

/// The complete subtrees that a tree consists of, the largest first.
pub fn subtrees(size: u64) -> Vec<Subtree> {
    let mut start = 0;
    let mut found = Vec::new();
    for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
        found.push(Subtree { level, number: start >> level });
        start += 1 << level;
    }
    found
}

#[cfg(test)]
mod tests;
