//! How many commands an agent sent to a target in the last minute.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use chaperone_model::{AgentName, TargetName};

/// Seconds that are looked back.
const WINDOW: usize = 60;

pub(crate) struct Rates {
    start: Instant,
    windows: Mutex<HashMap<(AgentName, TargetName), Window>>,
}

/// Counts by second; the oldest give way.
struct Window {
    counts: [u64; WINDOW],
    total: u64,
    /// The second that was counted last, since the start.
    last: u64,
}

impl Rates {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), windows: Mutex::default() }
    }

    /// Counts so many more. Answers how many there were in the last minute, with these.
    pub(crate) fn count(&self, agent: &AgentName, target: &TargetName, times: u64) -> u64 {
        let second = self.start.elapsed().as_secs();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows
            .entry((agent.clone(), target.clone()))
            .or_insert(Window { counts: [0; WINDOW], total: 0, last: second })
            .count(second, times)
    }
}

impl Window {
    fn count(&mut self, second: u64, times: u64) -> u64 {
        let passed = second.saturating_sub(self.last).min(WINDOW as u64);
        for step in 1..=passed {
            let slot = &mut self.counts[slot(second - passed + step)];
            self.total -= std::mem::take(slot);
        }
        self.last = self.last.max(second);
        // What fits in no number is as good as the most that do.
        let times = times.min(u64::MAX - self.total);
        self.counts[slot(self.last)] += times;
        self.total += times;
        self.total
    }
}

fn slot(second: u64) -> usize {
    usize::try_from(second % WINDOW as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_minute_does_not_count() {
        let mut window = Window { counts: [0; WINDOW], total: 0, last: 0 };
        assert_eq!((window.count(0, 1), window.count(0, 1), window.count(59, 1)), (1, 2, 3));
        assert_eq!(window.count(60, 1), 2, "the first second is gone");
        assert_eq!(window.count(1000, 1), 1);
        assert_eq!(window.count(999, 5), 6, "a second that is late counts as the last");
        assert_eq!(window.count(1000, u64::MAX), u64::MAX);
        assert_eq!(window.count(2000, 1), 1);
    }
}
