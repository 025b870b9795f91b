//! Proofs (RFC 6962, sections 2.1.1 and 2.1.2): that a record is in a tree, and that a tree goes on
//! from an earlier one.
//!
//! Does not belong here: their form as files (`note`).

use super::{Frontier, Hash, Subtree, empty_root, node_hash, subtrees};

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf or tree.
    #[error("it speaks of a place that the tree does not have")]
    OutOfRange,
    /// Hashes are missing, or too many.
    #[error("it has {found} hashes where {expected} belong")]
    Length {
        /// How many it has.
        found: usize,
        /// How many it must have.
        expected: usize,
    },
    /// It leads to another root.
    #[error("it leads to another root than the checkpoint's")]
    Root,
}

/// A part of a tree: the leaves from `start` to before `end`.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    fn size(self) -> u64 {
        self.end - self.start
    }

    /// Where RFC 6962 splits it: the largest power of two that is smaller than its size.
    fn split(self) -> (Self, Self) {
        let half = 1 << (self.size() - 1).ilog2();
        let middle = self.start + half;
        (Self { start: self.start, end: middle }, Self { start: middle, end: self.end })
    }

    /// The complete subtrees that it consists of. Every range that splitting gives begins at a
    /// multiple of its own largest subtree.
    fn subtrees(self) -> impl Iterator<Item = Subtree> {
        subtrees(self.size()).into_iter().map(move |subtree| Subtree {
            level: subtree.level,
            number: subtree.number + (self.start >> subtree.level),
        })
    }

    fn hash<E>(self, hash: &mut impl FnMut(Subtree) -> Result<Hash, E>) -> Result<Hash, E> {
        let roots = self.subtrees().map(hash).collect::<Result<Vec<_>, E>>()?;
        let frontier = Frontier { size: self.size(), roots };
        Ok(frontier.root())
    }
}

/// The proof that a leaf is in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The leaf's place, from 0.
    pub index: u64,
    /// From the leaf's sibling to below the root.
    pub hashes: Vec<Hash>,
}

impl Inclusion {
    /// Proves it, with the hashes of complete subtrees. `None` where the tree has no such leaf.
    ///
    /// # Errors
    /// What `hash` says.
    pub fn prove<E>(
        index: u64,
        size: u64,
        mut hash: impl FnMut(Subtree) -> Result<Hash, E>,
    ) -> Result<Option<Self>, E> {
        if index >= size {
            return Ok(None);
        }
        let mut hashes = Vec::new();
        let mut range = Range { start: 0, end: size };
        while range.size() > 1 {
            let (left, right) = range.split();
            let (on, beside) = if index < right.start { (left, right) } else { (right, left) };
            hashes.push(beside.hash(&mut hash)?);
            range = on;
        }
        hashes.reverse();
        Ok(Some(Self { index, hashes }))
    }

    /// Whether a leaf with this hash is in the tree.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, leaf: &Hash, size: u64, root: &Hash) -> Result<(), ProofError> {
        if self.index >= size {
            return Err(ProofError::OutOfRange);
        }
        // From the root down: on which side the leaf's part lies.
        let mut sides = Vec::new();
        let mut range = Range { start: 0, end: size };
        while range.size() > 1 {
            let (left, right) = range.split();
            let is_left = self.index < right.start;
            sides.push(is_left);
            range = if is_left { left } else { right };
        }
        length(&self.hashes, sides.len())?;
        let found = sides.iter().rev().zip(&self.hashes).fold(*leaf, |node, (is_left, beside)| {
            if *is_left { node_hash(&node, beside) } else { node_hash(beside, &node) }
        });
        same(&found, root)
    }
}

/// The proof that a tree goes on from an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// The earlier tree's size.
    pub old: u64,
    /// As RFC 6962 orders them.
    pub hashes: Vec<Hash>,
}

impl Consistency {
    /// Proves it, with the hashes of complete subtrees. `None` where the earlier tree is larger.
    ///
    /// # Errors
    /// What `hash` says.
    pub fn prove<E>(
        old: u64,
        size: u64,
        mut hash: impl FnMut(Subtree) -> Result<Hash, E>,
    ) -> Result<Option<Self>, E> {
        if old > size {
            return Ok(None);
        }
        let mut hashes = Vec::new();
        if 0 < old && old < size {
            let mut range = Range { start: 0, end: size };
            while old < range.end {
                let (left, right) = range.split();
                if old <= left.end {
                    hashes.push(right.hash(&mut hash)?);
                    range = left;
                } else {
                    hashes.push(left.hash(&mut hash)?);
                    range = right;
                }
            }
            // Where it is the earlier tree itself the verifier has it.
            if range.start > 0 {
                hashes.push(range.hash(&mut hash)?);
            }
            hashes.reverse();
        }
        Ok(Some(Self { old, hashes }))
    }

    /// Whether the tree of `size` and `root` goes on from the earlier one with `old_root`.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, old_root: &Hash, size: u64, root: &Hash) -> Result<(), ProofError> {
        if self.old > size {
            return Err(ProofError::OutOfRange);
        }
        if self.old == 0 {
            length(&self.hashes, 0)?;
            return same(old_root, &empty_root());
        }
        if self.old == size {
            length(&self.hashes, 0)?;
            return same(old_root, root);
        }
        // From the root down: whether what lies beside is in the earlier tree.
        let mut beside_is_old = Vec::new();
        let mut range = Range { start: 0, end: size };
        while self.old < range.end {
            let (left, right) = range.split();
            let in_left = self.old <= left.end;
            beside_is_old.push(!in_left);
            range = if in_left { left } else { right };
        }
        let given = usize::from(range.start > 0);
        length(&self.hashes, beside_is_old.len() + given)?;
        let mut hashes = self.hashes.iter();
        let start = if given == 1 { hashes.next() } else { None }.unwrap_or(old_root);
        let (mut old, mut new) = (*start, *start);
        for (is_old, beside) in beside_is_old.iter().rev().zip(hashes) {
            if *is_old {
                old = node_hash(beside, &old);
                new = node_hash(beside, &new);
            } else {
                new = node_hash(&new, beside);
            }
        }
        same(&old, old_root)?;
        same(&new, root)
    }
}

fn length(hashes: &[Hash], expected: usize) -> Result<(), ProofError> {
    let found = hashes.len();
    if found == expected { Ok(()) } else { Err(ProofError::Length { found, expected }) }
}

fn same(found: &Hash, root: &Hash) -> Result<(), ProofError> {
    if found == root { Ok(()) } else { Err(ProofError::Root) }
}
