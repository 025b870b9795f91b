//! One rule.

use std::{sync::Arc, time::Duration};

use crate::{Terms, When};

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: Arc<str>,
    /// When it matches.
    pub when: When,
    /// What it says then.
    pub then: Then,
}

/// What a rule says.
#[derive(Clone, Debug)]
pub enum Then {
    /// The command may go on.
    Allow,
    /// It may not, with these words.
    Deny(Option<Arc<str>>),
    /// A person is asked.
    Hold(Arc<Terms>),
    /// There is a limit to it.
    Limit {
        /// Commands a minute.
        statements: Option<u64>,
        /// Rows of a response.
        rows: Option<u64>,
        /// How long a session lasts.
        session: Option<Duration>,
    },
}

/// Limits of a session, each with the rule that sets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a response.
    pub rows: Option<(u64, Arc<str>)>,
    /// How long it lasts.
    pub session: Option<(Duration, Arc<str>)>,
}

impl Rule {
    /// The terms of its hold, where it asks people.
    pub fn terms(&self) -> Option<&Arc<Terms>> {
        match &self.then {
            Then::Hold(terms) => Some(terms),
            _ => None,
        }
    }

    pub(crate) fn needs_rate(&self) -> bool {
        self.when.rate.is_some() || matches!(&self.then, Then::Limit { statements: Some(_), .. })
    }
}
