//! The daemon's clocks.

use std::{
    cell::Cell,
    time::{Instant, SystemTime},
};

use chaperone_model::Timestamp;
use chaperone_policy::Moment;
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

thread_local! {
    /// The minute since 1970 of which the rest was found out, and the rest.
    static MINUTE: Cell<(i64, Moment)> =
        const { Cell::new((i64::MIN, Moment { weekday: 1, minute: 0 })) };
}

/// The weekday and the minute of the day, in the host's time zone: rules speak of these.
pub(crate) fn moment() -> Moment {
    let now = wall().0.div_euclid(60_000_000);
    MINUTE.with(|minute| {
        let (known, moment) = minute.get();
        if known == now {
            return moment;
        }
        let moment = moment_of(&jiff::Zoned::now());
        minute.set((now, moment));
        moment
    })
}

/// The same of another time.
pub(crate) fn moment_of(local: &jiff::Zoned) -> Moment {
    Moment {
        weekday: local.weekday().to_monday_one_offset().unsigned_abs(),
        minute: u16::from(local.hour().unsigned_abs()) * 60
            + u16::from(local.minute().unsigned_abs()),
    }
}
