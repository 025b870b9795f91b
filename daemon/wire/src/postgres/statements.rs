//! What the server holds under a name: prepared statements and portals.
//!
//! A change is known when it is sent and takes effect when the server answers it, or never, where
//! the server passes over it. The server answers in order: under each name the oldest change is the
//! one that is answered next.

use std::{
    cell::OnceCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
};

use chaperone_model::{Reading, Seq};

use super::{
    budget::Share,
    masking::Masks,
    reach::Reach,
    reply::Refusal,
    response::{Columns, Formats},
};

/// The server cuts a name to so many of its own bytes (`NAMEDATALEN`,
/// `src/include/pg_config_manual.h`).
const NAME: usize = 63;

/// Things by name.
#[derive(Debug)]
pub(crate) struct Names<T> {
    /// The unnamed one, which most clients use alone.
    unnamed: Slot<T>,
    named: HashMap<Box<[u8]>, Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    standing: Option<T>,
    changes: VecDeque<Change<T>>,
}

/// A change that was sent.
#[derive(Debug)]
struct Change<T> {
    batch: u64,
    to: Option<T>,
}

/// What a name stands for where a message refers to it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<T> {
    /// This, if the message is looked at by the server at all.
    Sure(T),
    /// It depends on what becomes of this batch, and the message does not.
    Depends(u64),
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { standing: None, changes: VecDeque::new() }
    }
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { unnamed: Slot::default(), named: HashMap::new() }
    }
}

impl<T> Names<T> {
    /// What a message of this batch means by a name. A change of the same batch has taken effect by
    /// then, or the server passes over the message as well.
    pub(crate) fn find(&mut self, name: &[u8], batch: u64) -> Found<Option<&mut T>> {
        match self.slot(name) {
            None => Found::Sure(None),
            Some(slot) => match slot.changes.back_mut() {
                None => Found::Sure(slot.standing.as_mut()),
                Some(change) if change.batch == batch => Found::Sure(change.to.as_mut()),
                Some(change) => Found::Depends(change.batch),
            },
        }
    }

    /// What the server holds, after all that it has answered.
    pub(crate) fn standing(&mut self, name: &[u8]) -> Option<&mut T> {
        self.slot(name)?.standing.as_mut()
    }

    /// A change is sent. Answers what the name meant before.
    pub(crate) fn change(&mut self, name: &[u8], batch: u64, to: Option<T>) -> Option<&mut T> {
        let slot = if name.is_empty() {
            &mut self.unnamed
        } else if self.named.contains_key(name) {
            self.named.get_mut(name)?
        } else {
            self.named.entry(name.into()).or_default()
        };
        slot.changes.push_back(Change { batch, to });
        match slot.changes.len().checked_sub(2) {
            Some(before) => slot.changes.get_mut(before)?.to.as_mut(),
            None => slot.standing.as_mut(),
        }
    }

    /// The server made the oldest change of a name.
    pub(crate) fn made(&mut self, name: &[u8]) {
        if let Some(slot) = self.slot(name)
            && let Some(change) = slot.changes.pop_front()
        {
            slot.standing = change.to;
        }
        self.tidy(name);
    }

    /// The server did not make the oldest change of a name.
    pub(crate) fn not_made(&mut self, name: &[u8]) {
        if let Some(slot) = self.slot(name) {
            slot.changes.pop_front();
        }
        self.tidy(name);
    }

    /// Names in use, but for the unnamed.
    pub(crate) fn len(&self) -> usize {
        self.named.len()
    }

    pub(crate) fn has(&self, name: &[u8]) -> bool {
        name.is_empty() || self.named.contains_key(name)
    }

    /// Of what stands, keeps what is to be kept.
    pub(crate) fn retain_named(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        self.named.retain(|_, slot| {
            if slot.standing.as_mut().is_some_and(|thing| !keep(thing)) {
                slot.standing = None;
            }
            slot.standing.is_some() || !slot.changes.is_empty()
        });
    }

    /// Nothing stands any more.
    pub(crate) fn clear(&mut self) {
        self.unnamed.standing = None;
        if !self.named.is_empty() {
            self.retain_named(|_| false);
        }
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Slot<T>> {
        if name.is_empty() { Some(&mut self.unnamed) } else { self.named.get_mut(name) }
    }

    fn tidy(&mut self, name: &[u8]) {
        if !name.is_empty()
            && self.named.get(name).is_some_and(|s| s.standing.is_none() && s.changes.is_empty())
        {
            self.named.remove(name);
        }
    }
}

/// The description of a statement's rows, for all that refers to it, whenever it comes.
pub(crate) type Description = Rc<OnceCell<(Rc<Columns>, Share)>>;

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Counted within the session, from 1.
    pub(crate) number: u64,
    pub(crate) types: Types,
    pub(crate) description: Description,
    pub(crate) reach: Reach,
    /// What was read out of its text.
    pub(crate) reading: Option<Arc<Reading>>,
    /// Each `Bind` of it must be decided.
    pub(crate) asks: Option<Asking>,
    /// What masks its results.
    pub(crate) masks: Option<Rc<dyn Masks>>,
    /// How many commands that may rename others were sent before it.
    pub(crate) renames: u64,
    /// SQL's `DEALLOCATE` or `DISCARD` ran since: the name may now be free.
    pub(crate) perhaps_gone: bool,
}

/// See [`super::conversation::Asks`]; the text where there was room for it.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) text: Option<Arc<str>>,
    pub(crate) digest: [u8; 32],
    pub(crate) _share: Option<Share>,
}

/// Types of parameters, where there was room for them.
#[derive(Debug, Default)]
pub(crate) struct Types(Option<(Box<[u32]>, Share)>);

impl Types {
    pub(crate) fn new(types: Vec<u32>, share: impl FnOnce(usize) -> Option<Share>) -> Self {
        if types.is_empty() {
            return Self(None);
        }
        let share = share(types.len() * size_of::<u32>());
        Self(share.map(|share| (types.into(), share)))
    }

    pub(crate) fn get(&self) -> &[u32] {
        self.0.as_ref().map_or(&[], |(types, _)| types)
    }
}

/// A portal: a prepared statement with its parameters.
#[derive(Debug)]
pub(crate) struct Portal {
    /// `None` for a statement that SQL's `PREPARE` made, or may have made.
    pub(crate) statement: Option<u64>,
    pub(crate) description: Description,
    pub(crate) results: Formats,
    pub(crate) parameters: Parameters,
    pub(crate) reach: Reach,
    pub(crate) reading: Option<Arc<Reading>>,
    /// The hold whose approval covers what is run of it.
    pub(crate) approval: Option<Seq>,
    /// What masks its results.
    pub(crate) masks: Option<Rc<dyn Masks>>,
    /// As of a [`Prepared`].
    pub(crate) renames: u64,
    /// SQL's `ROLLBACK` ran since, perhaps to a savepoint: the name may now be free.
    pub(crate) perhaps_gone: bool,
    /// Rows were asked for already; asking again fetches more of them.
    pub(crate) executed: bool,
}

/// Bound parameters as JSON.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    pub(crate) text: String,
    pub(crate) cut: bool,
    _share: Option<Share>,
}

impl Parameters {
    pub(crate) fn new(text: String, cut: bool, share: Option<Share>) -> Self {
        Self { text, cut, _share: share }
    }

    /// They are no longer known.
    pub(crate) fn forgotten() -> Self {
        Self::new(String::new(), true, None)
    }
}

/// Why a name cannot be taken, where it cannot: which names are the same is for the server to say,
/// after it has converted them to its own encoding and cut them.
pub(crate) fn objection(name: &[u8]) -> Option<Refusal> {
    (name.len() > NAME || !name.is_ascii()).then(|| {
        Refusal::new(
            "42602",
            "chaperone takes names of statements and portals only in ASCII and of 63 bytes at most",
        )
        .hint("Choose another name for the prepared statement or portal.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sure(names: &mut Names<u8>, name: &[u8], batch: u64) -> Option<u8> {
        match names.find(name, batch) {
            Found::Sure(found) => found.copied(),
            Found::Depends(batch) => panic!("it depends on batch {batch}"),
        }
    }

    #[test]
    fn p1_a_change_counts_at_once_in_its_own_batch_and_elsewhere_when_it_was_made() {
        for name in [&b""[..], b"s"] {
            let mut names = Names::default();
            names.change(name, 0, Some(1));
            assert_eq!(sure(&mut names, name, 0), Some(1));
            assert_eq!(names.find(name, 1), Found::Depends(0));
            names.made(name);
            assert_eq!(sure(&mut names, name, 1), Some(1));
        }
    }

    #[test]
    fn p1_changes_that_were_not_made_leave_what_was() {
        for name in [&b""[..], b"s"] {
            let mut names = Names::default();
            names.change(name, 0, Some(1));
            names.made(name);
            names.change(name, 1, Some(2));
            names.change(name, 1, None);
            names.change(name, 2, Some(3));
            names.not_made(name);
            names.not_made(name);
            assert_eq!(sure(&mut names, name, 2), Some(3), "the later change stands");
            names.not_made(name);
            assert_eq!(sure(&mut names, name, 3), Some(1));
        }
    }

    #[test]
    fn p8_names_that_are_gone_hold_no_memory() {
        let mut names = Names::default();
        for number in 0..100_u8 {
            names.change(&[b'a', number], 0, Some(number));
            names.made(&[b'a', number]);
        }
        names.change(b"b", 1, Some(1));
        names.not_made(b"b");
        assert_eq!(names.len(), 100);
        names.clear();
        assert_eq!(names.len(), 0);
    }

    #[test]
    fn p1_names_that_the_server_may_take_for_others_are_refused() {
        assert!(objection(&[b'a'; 63]).is_none());
        assert!(objection(&[b'a'; 64]).is_some());
        assert!(objection("é".as_bytes()).is_some());
    }
}
