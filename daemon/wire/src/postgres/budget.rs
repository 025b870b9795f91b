//! How many bytes a session may keep for one purpose. What is kept gives its share back when it
//! goes, wherever it goes: nothing has to be counted anew.

use std::{cell::Cell, rc::Rc};

/// What is left.
#[derive(Debug)]
pub(crate) struct Budget(Rc<Cell<usize>>);

/// A part of a budget; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share {
    bytes: usize,
    left: Rc<Cell<usize>>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    pub(crate) fn left(&self) -> usize {
        self.0.get()
    }

    /// `None` where so much is not left.
    pub(crate) fn take(&self, bytes: usize) -> Option<Share> {
        self.0.set(self.left().checked_sub(bytes)?);
        Some(Share { bytes, left: self.0.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.left.set(self.left.get() + self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_a_budget_is_not_overdrawn_and_gets_back_what_it_gave() {
        let budget = Budget::new(10);
        let share = budget.take(7).expect("enough");
        assert!(budget.take(4).is_none());
        drop(share);
        assert_eq!(budget.left(), 10);
    }
}
