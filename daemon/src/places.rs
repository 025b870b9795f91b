//! Places for connections: how many there are at a time, of all agents and of each.
//!
//! A place is taken before anything is done for a connection and is free again when all of it is
//! dropped, however it ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chaperone_model::AgentName;

/// All places.
#[derive(Debug)]
pub(crate) struct Places {
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<Whose, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    /// Of one of the agents with this number in the kernel: which one is still to be settled.
    Number(u32),
    Agent(AgentName),
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    whose: Whose,
}

/// Why none is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// All are taken.
    All,
    /// The agent has as many as it may.
    Agent,
}

impl Places {
    /// `all` of them, of which each agent may have `each`, and as many again of which it is not
    /// settled yet whose they are.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { all, each, taken: Mutex::default() }
    }

    /// Takes one, for an agent with this number.
    pub(crate) fn take(self: &Arc<Self>, number: u32) -> Result<Place, Full> {
        let mut taken = self.taken();
        if taken.all >= self.all {
            return Err(Full::All);
        }
        let whose = Whose::Number(number);
        if !taken.up(&whose, self.each) {
            return Err(Full::Agent);
        }
        taken.all += 1;
        Ok(Place { places: self.clone(), whose })
    }

    /// A thread that panicked holds no half-made change of it.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn up(&mut self, whose: &Whose, most: usize) -> bool {
        let count = self.each.entry(whose.clone()).or_default();
        let free = *count < most;
        *count += usize::from(free);
        free
    }

    fn down(&mut self, whose: &Whose) {
        if let Some(count) = self.each.get_mut(whose) {
            *count -= 1;
            if *count == 0 {
                self.each.remove(whose);
            }
        }
    }
}

impl Place {
    /// It is this agent's, unless it has as many as it may.
    pub(crate) fn give(&mut self, agent: &AgentName) -> bool {
        let mut taken = self.places.taken();
        let whose = Whose::Agent(agent.clone());
        let free = taken.up(&whose, self.places.each);
        if free {
            taken.down(&self.whose);
            self.whose = whose;
        }
        free
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        taken.down(&self.whose);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_an_agent_takes_no_more_than_its_part() {
        let places = Arc::new(Places::new(6, 2));
        let (a, b) = (AgentName("a".into()), AgentName("b".into()));
        let mut taken: Vec<_> = (0..2).map(|_| places.take(1).expect("free")).collect();
        assert_eq!(places.take(1).err(), Some(Full::Agent), "a third that is not settled");
        assert!(taken[0].give(&a) && taken[1].give(&a));
        // Which agent it is may not be known before.
        let mut third = places.take(1).expect("free");
        assert!(!third.give(&a), "a third");
        assert!(third.give(&b), "another agent of the same account");
        let others: Vec<_> = (2..5).map(|number| places.take(number).expect("free")).collect();
        assert_eq!(places.take(9).err(), Some(Full::All), "a seventh");
        taken.truncate(1);
        let mut again = places.take(1).expect("free again");
        assert!(again.give(&a));
        drop((taken, third, others, again));
        assert!(places.taken().each.is_empty());
        assert_eq!(places.taken().all, 0);
    }
}
