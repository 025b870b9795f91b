//! What detectors find in what programs say: masked before it goes on, and counted.
//!
//! A secret can come in two pieces, so what could be the beginning of one waits for more. It does not
//! wait for ever: behind a prompt nothing comes, and programs that speak with each other would wait for
//! each other. So it goes on once nothing has come for a while, which is short where somebody works on a
//! terminal. A secret of which a program says the parts further apart is not found. Does not belong
//! here: what is found (`chaperone_policy::mask`), and files (`chaperone_wire::ssh::Cover`).

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use chaperone_policy::mask::Scanners;
use chaperone_wire::ssh::{Filter, Filters};

use crate::masks::Found;

/// For how long nothing must have come, at least; at most it is twice as long.
pub(super) const OF_TERMINALS: Duration = Duration::from_millis(25);
pub(super) const OF_PROGRAMS: Duration = Duration::from_secs(1);

/// Whether nothing came because nothing was said: while the target is not read, which its reader can
/// bring about, it may have said something long ago.
#[derive(Debug, Default)]
pub(super) struct Silence {
    unread: [bool; 2],
}

impl Silence {
    /// It goes on, and the target is read meanwhile, or not.
    pub(super) fn goes_on(&mut self, is_read: bool) {
        if !is_read {
            self.unread = [true; 2];
        }
    }

    /// Whether it was one, since this was asked last of terminals, or of other programs.
    pub(super) fn counts(&mut self, of_terminals: bool) -> bool {
        !self.unread.get_mut(usize::from(of_terminals)).is_some_and(std::mem::take)
    }
}

/// How much each mask has masked of a command, by its way.
pub(super) type Counts = Rc<RefCell<BTreeMap<u16, u64>>>;

/// The filters of a command, and what they will have counted.
pub(super) fn filters(found: &Found) -> (Filters, Counts) {
    let counts = Counts::default();
    let one = || -> Box<dyn Filter> {
        Box::new(Masking {
            scanners: found.scanners(),
            counts: counts.clone(),
            told: BTreeMap::new(),
        })
    };
    (Filters { out: one(), err: one() }, counts)
}

#[derive(Debug)]
struct Masking {
    scanners: Scanners,
    counts: Counts,
    /// What has been counted already.
    told: BTreeMap<u16, u64>,
}

impl Masking {
    fn count(&mut self) {
        for (way, count) in self.scanners.counts() {
            let told = self.told.entry(way).or_default();
            if count > *told {
                *self.counts.borrow_mut().entry(way).or_default() += count - *told;
                *told = count;
            }
        }
    }
}

impl Filter for Masking {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.scanners.push(bytes, out);
        self.count();
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        self.scanners.flush(out);
        self.count();
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.scanners.finish(out);
        self.count();
    }

    fn waiting(&self) -> usize {
        self.scanners.waiting()
    }
}

#[cfg(test)]
mod tests {
    use super::Silence;

    #[test]
    fn p5_time_in_which_the_target_was_not_read_is_no_silence() {
        let mut silence = Silence::default();
        silence.goes_on(true);
        assert!(silence.counts(false));
        silence.goes_on(false);
        silence.goes_on(true);
        assert!(!silence.counts(false) && !silence.counts(true));
        silence.goes_on(true);
        assert!(silence.counts(false) && silence.counts(true));
    }
}
