//! The daemon's clocks.

use std::time::{Instant, SystemTime};

use chaperone_model::Timestamp;
use chaperone_wire::postgres::Now;

/// Both clocks at once; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Now {
        Now { wall: wall(), monotonic: self.0.elapsed() }
    }
}

pub(crate) fn wall() -> Timestamp {
    SystemTime::now().into()
}
