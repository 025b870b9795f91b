//! What the server holds under a name: prepared statements and portals.
//!
//! Changes are applied when they are sent, because what follows in the same batch refers to them,
//! and taken back when the server turns out to have passed over them.

use std::{collections::HashMap, sync::Arc};

use super::response::{Columns, Formats};

/// Names are cut where the server cuts them (`NAMEDATALEN`, `src/include/pg_config_manual.h`).
const NAME: usize = 63;

/// Things by name.
#[derive(Debug)]
pub(crate) struct Names<T>(HashMap<Box<[u8]>, T>);

/// How to take a change back.
#[derive(Debug)]
pub(crate) struct Undo<T> {
    name: Box<[u8]>,
    old: Option<T>,
}

impl<T> Undo<T> {
    /// What was there before.
    pub(crate) fn old_mut(&mut self) -> Option<&mut T> {
        self.old.as_mut()
    }
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Names<T> {
    pub(crate) fn get(&self, name: &[u8]) -> Option<&T> {
        self.0.get(cut(name))
    }

    pub(crate) fn get_mut(&mut self, name: &[u8]) -> Option<&mut T> {
        self.0.get_mut(cut(name))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn set(&mut self, name: &[u8], value: T) -> Undo<T> {
        let name: Box<[u8]> = cut(name).into();
        let old = self.0.insert(name.clone(), value);
        Undo { name, old }
    }

    pub(crate) fn remove(&mut self, name: &[u8]) -> Undo<T> {
        Undo { name: cut(name).into(), old: self.0.remove(cut(name)) }
    }

    /// Takes a change back. `later` is the next change of the same name that still stands, where
    /// there is one: it then goes back to what was before this one.
    pub(crate) fn undo<'a>(
        &mut self,
        undo: Undo<T>,
        later: impl IntoIterator<Item = &'a mut Undo<T>>,
    ) where
        T: 'a,
    {
        if let Some(later) = later.into_iter().find(|later| later.name == undo.name) {
            later.old = undo.old;
        } else if let Some(old) = undo.old {
            self.0.insert(undo.name, old);
        } else {
            self.0.remove(&undo.name);
        }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.values()
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&[u8], &mut T) -> bool) {
        self.0.retain(|name, value| keep(name, value));
    }
}

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Counted within the session, from 1.
    pub(crate) number: u64,
    pub(crate) types: Arc<[u32]>,
    pub(crate) columns: Option<Arc<Columns>>,
    /// SQL's `DEALLOCATE` or `DISCARD` ran since: the name may now be free.
    pub(crate) perhaps_gone: bool,
}

/// A portal: a prepared statement with its parameters.
#[derive(Debug)]
pub(crate) struct Portal {
    /// `None` for a statement that SQL's `PREPARE` made.
    pub(crate) statement: Option<u64>,
    pub(crate) columns: Option<Arc<Columns>>,
    pub(crate) results: Formats,
    pub(crate) parameters: String,
    pub(crate) cut: bool,
    /// Rows were asked for already; asking again fetches more of them.
    pub(crate) executed: bool,
}

pub(crate) fn cut(name: &[u8]) -> &[u8] {
    name.get(..NAME).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_where_the_server_cuts_them() {
        let mut names = Names::default();
        names.set(&[b'a'; 70], 1);
        assert_eq!(names.get(&[b'a'; 63]), Some(&1));
        assert_eq!(names.get(&[b'a'; 62]), None);
    }

    #[test]
    fn changes_are_taken_back_in_any_order() {
        let mut names = Names::default();
        names.set(b"s", 1);
        let first = names.set(b"s", 2);
        let mut second = names.set(b"s", 3);
        names.undo(first, [&mut second]);
        assert_eq!(names.get(b"s"), Some(&3), "the later change stands");
        names.undo(second, []);
        assert_eq!(names.get(b"s"), Some(&1), "and goes back to before both");
        let gone = names.remove(b"s");
        names.undo(gone, []);
        assert_eq!(names.get(b"s"), Some(&1));
    }
}
